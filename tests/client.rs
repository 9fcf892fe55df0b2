//! What a client does, over scripted endpoints in virtual time.

mod support;

use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::BodyExt;
use support::routes::{backend_with, policy_of, policy_to, rule};
use support::{
    Log, Mesh, Reply, address, addresses, body, ejected, get, ms, ok, plain, s, served, steady,
    updates, with,
};
use tokio::sync::watch;
use tokio::time::Instant;
use tower_mesh::breaker::Gate;
use tower_mesh::client::BuildError;
use tower_mesh::discover::{Endpoints, Update};
use tower_mesh::policy::{
    Backend, BackendDispatcher, Budget, ClientPolicy, ExponentialBackoff, FailureAccrual, Fidelity,
    Filter, InjectFailure, Load, MatchPath, MatchRequest, Meta, ModifyHeader, Queue, Ratio, Retry,
    RetryBuilder, RouteBackend, RouteDistribution, Timeouts,
};
use tower_mesh::verdict::{Sent, TransportFailure};
use tower_mesh::{Body, Client, Endpoint, ErrorKind, RequestOptions};

fn retry() -> RetryBuilder {
    Retry::on(500..=599).no_backoff()
}

#[tokio::test(start_paused = true)]
async fn a_response_says_who_served_it_and_its_body_is_whole() {
    let mesh = Mesh::new(|_, _| ok());
    let policy = ClientPolicy::http().named("web").build().unwrap();
    let client = mesh.client(policy, [address(1)]);
    let response = client.request(get()).await.unwrap();
    let served = served(&response).clone();
    assert_eq!((served.endpoint, served.attempts), (address(1), 1));
    assert_eq!(&*served.backend, "default.web");
    assert_eq!(served.waited, Duration::ZERO);
    assert_eq!(client.snapshot().in_flight, 1, "until the body has ended");
    assert_eq!(body(response).await, "body");
    assert_eq!(client.snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_answer_is_retried_elsewhere() {
    let mesh = Mesh::with_failing(1, 503);
    let policy = ClientPolicy::http().retry(retry()).build().unwrap();
    for seed in 0..50 {
        let client = Client::builder(policy.clone())
            .endpoints(addresses(2))
            .seed(seed)
            .build(mesh.connect())
            .unwrap();
        let response = client.request(get()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(served(&response).endpoint, address(2));
    }
    // Both were chosen first now and then.
    assert!(
        (10..40).contains(&mesh.count(address(1))),
        "{}",
        mesh.count(address(1))
    );
}

#[tokio::test(start_paused = true)]
async fn the_last_answer_stands_when_retries_end() {
    let mesh = Mesh::new(|_, _| Reply::Status(503, ms(1)));
    let log = Log::default();
    let policy = ClientPolicy::http()
        .retry(retry().limit(2))
        .build()
        .unwrap();
    let client = Client::builder(policy)
        .endpoints(addresses(3))
        .observer(log.observer())
        .build(mesh.connect())
        .unwrap();
    let response = client.request(get()).await.unwrap();
    assert_eq!(
        (response.status(), served(&response).attempts),
        (StatusCode::SERVICE_UNAVAILABLE, 3)
    );
    assert_eq!(body(response).await, "body");
    let seen = mesh.seen();
    let mut tried: Vec<_> = seen.iter().map(|seen| seen.endpoint).collect();
    tried.sort();
    assert_eq!(tried, addresses(3), "each once");
    assert_eq!(log.count("not_retried"), 1);
}

#[tokio::test(start_paused = true)]
async fn backoff_is_the_policys() {
    let backoff = ExponentialBackoff::try_new(ms(100), ms(400), Ratio::ZERO).unwrap();
    let mesh = Mesh::new(|_, _| Reply::Status(503, ms(0)));
    let policy = ClientPolicy::http()
        .retry(retry().limit(4).backoff(backoff))
        .build()
        .unwrap();
    let client = mesh.client(policy, addresses(1));
    let start = Instant::now();
    client.request(get()).await.unwrap();
    let at: Vec<_> = mesh
        .seen()
        .iter()
        .map(|seen| (seen.at - start).as_millis())
        .collect();
    // Tokio's timers have a grain of a millisecond.
    let expected = [0, 100, 300, 700, 1100];
    for (at, expected) in at.iter().zip(expected) {
        assert!((expected..expected + 5).contains(at), "{at} {expected}");
    }
    assert_eq!(at.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_backoff_that_would_outlast_the_deadline_is_not_begun() {
    let mesh = Mesh::new(|_, _| Reply::Status(503, ms(1)));
    let policy = ClientPolicy::http()
        .timeouts(Timeouts::request(s(1)))
        .retry(retry().backoff(steady(s(2))))
        .build()
        .unwrap();
    let client = mesh.client(policy, addresses(1));
    let start = Instant::now();
    assert_eq!(client.request(get()).await.unwrap().status(), 503);
    assert!(Instant::now() - start < ms(10));
}

#[tokio::test(start_paused = true)]
async fn the_budget_bounds_retries_of_all_clones() {
    let mesh = Mesh::new(|_, _| Reply::Status(503, ms(1)));
    let budget = Budget::percent(20).min_per_sec(0);
    let policy = ClientPolicy::http()
        .retry(retry().limit(3).budget(budget))
        .build()
        .unwrap();
    let client = mesh.client(policy, addresses(3));
    for _ in 0..100 {
        client.clone().request(get()).await.unwrap();
    }
    assert_eq!(
        mesh.seen().len(),
        110,
        "ten to begin with, and nothing earned"
    );
}

#[tokio::test(start_paused = true)]
async fn a_policy_without_a_budget_gets_one_and_the_mesh_gives_none() {
    for (fidelity, attempts) in [(Fidelity::Extended, 110), (Fidelity::Mesh, 400)] {
        let mesh = Mesh::new(|_, _| Reply::Status(503, ms(0)));
        let policy = ClientPolicy::http()
            .retry(retry().limit(3))
            .fidelity(fidelity)
            .build()
            .unwrap();
        let client = mesh.client(policy, addresses(3));
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..100 {
            calls.spawn(client.request(get()));
        }
        while calls.join_next().await.is_some() {}
        // No virtual time passed to speak of, so the floor gave nothing.
        assert!(
            (attempts..attempts + 3).contains(&mesh.seen().len()),
            "{fidelity:?} {}",
            mesh.seen().len()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_up_to_the_limit_are_sent_again() {
    let policy = ClientPolicy::http()
        .retry(retry().max_request_bytes(4))
        .build()
        .unwrap();
    let stream = || {
        let frame = http_body::Frame::data(bytes::Bytes::from_static(b"1234"));
        Body::new(http_body_util::StreamBody::new(tokio_stream::once(Ok::<
            _,
            std::io::Error,
        >(
            frame
        ))))
    };
    let cases = [
        (Body::from("1234"), 2),
        (Body::from("12345"), 1),
        (stream(), 2),
        (Body::empty(), 2),
    ];
    for (body, attempts) in cases {
        let mesh = Mesh::fails_first(503);
        let client = mesh.client(policy.clone(), addresses(1));
        let request = Request::post("http://web.shop/").body(body).unwrap();
        let response = client.request(request).await.unwrap();
        assert_eq!(served(&response).attempts, attempts);
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_processed_is_repeated_only_if_that_is_safe() {
    let broken = |sent| Reply::Fail(TransportFailure::Broken, sent, ms(1));
    let connect = Reply::Fail(TransportFailure::Connect, Sent::NotSent, ms(1));
    let get = |method: &str| {
        Request::builder()
            .method(method)
            .uri("http://web.shop/")
            .body(Body::empty())
            .unwrap()
    };
    let safe = |mut request: Request<Body>| {
        request
            .extensions_mut()
            .insert(RequestOptions::new().safe_to_repeat());
        request
    };
    for (reply, request, again) in [
        (broken(Sent::Unknown), get("GET"), true),
        (broken(Sent::Unknown), get("POST"), false),
        (broken(Sent::Unknown), safe(get("POST")), true),
        (broken(Sent::NotSent), get("POST"), true),
        (connect, get("POST"), true),
    ] {
        let mesh = Mesh::new(move |_, n| if n == 0 { reply.clone() } else { ok() });
        let policy = ClientPolicy::http().retry(retry()).build().unwrap();
        let client = mesh.client(policy, addresses(1));
        let result = client.request(request).await;
        assert_eq!(result.is_ok(), again, "{result:?}");
        if let Err(error) = result {
            assert_eq!(error.kind(), &ErrorKind::Broken);
            assert_eq!((error.endpoint(), error.attempts()), (Some(address(1)), 1));
            assert!(!error.is_local() && std::error::Error::source(&error).is_some());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_try_that_takes_too_long_is_given_up_unless_it_is_the_last() {
    let mesh = Mesh::new(|_, n| Reply::Status(200, if n == 0 { s(10) } else { ms(300) }));
    let policy = ClientPolicy::http()
        .retry(retry().timeout(ms(100)))
        .build()
        .unwrap();
    let client = mesh.client(policy, addresses(1));
    let start = Instant::now();
    let response = client.request(get()).await.unwrap();
    assert_eq!(served(&response).attempts, 2);
    let took = (Instant::now() - start).as_millis();
    assert!((400..405).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_counts_everything_and_is_evidence_after_dispatch() {
    let mesh = Mesh::new(|_, _| Reply::Hang);
    let policy = ClientPolicy::http()
        .timeouts(Timeouts::request(ms(250)))
        .failure_accrual(FailureAccrual::consecutive(2))
        .build()
        .unwrap();
    let client = mesh.client(policy, addresses(1));
    for _ in 0..2 {
        let start = Instant::now();
        let error = client.request(get()).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::RequestTimeout);
        assert!(error.is_deadline() && !error.is_local());
        assert_eq!(error.attempts(), 1);
        assert!((250..253).contains(&(Instant::now() - start).as_millis()));
    }
    assert!(matches!(
        client.snapshot().endpoints().next().unwrap().gate,
        Gate::Open { .. }
    ));
    // Now no probe is due in time: refused at once, with the time when it makes sense to come back.
    let start = Instant::now();
    let error = client.request(get()).await.unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::FailFast { .. }),
        "{error}"
    );
    assert_eq!((error.attempts(), Instant::now()), (0, start));
    let retry_at = error.retry_at().unwrap() - start;
    assert!((ms(700)..=ms(1500)).contains(&retry_at), "{retry_at:?}");
    // A deadline already spent is refused before anything is sent, and blamed on nobody.
    let late = with(RequestOptions::new().deadline(start));
    assert_eq!(
        client.request(late).await.unwrap_err().kind(),
        &ErrorKind::RequestTimeout
    );
    assert_eq!(mesh.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_outlasts_its_deadline_fails_typed() {
    use tokio_stream::StreamExt as _;
    let connect = |_: &Endpoint| {
        tower::service_fn(|_: Request<Body>| async {
            let frames = tokio_stream::iter([1, 2, 3]).then(|_| async {
                tokio::time::sleep(ms(100)).await;
                Ok::<_, std::io::Error>(http_body::Frame::data(bytes::Bytes::from_static(b"x")))
            });
            Ok::<_, tower_mesh::BoxError>(http::Response::new(http_body_util::StreamBody::new(
                frames,
            )))
        })
    };
    for (timeouts, kind, frames) in [
        (Timeouts::request(ms(250)), ErrorKind::RequestTimeout, 2),
        (
            Timeouts {
                response: Some(ms(150)),
                ..Timeouts::default()
            },
            ErrorKind::ResponseTimeout,
            1,
        ),
        (
            Timeouts {
                request: Some(ms(250)),
                response: Some(ms(150)),
                idle: None,
            },
            ErrorKind::ResponseTimeout,
            1,
        ),
    ] {
        let policy = ClientPolicy::http()
            .timeouts(timeouts)
            .failure_accrual(FailureAccrual::consecutive(1))
            .build()
            .unwrap();
        let client = Client::builder(policy)
            .endpoints(addresses(1))
            .build(connect)
            .unwrap();
        let mut body = client.request(get()).await.unwrap().into_body();
        let mut got = 0;
        let error = loop {
            match body.frame().await.unwrap() {
                Ok(_) => got += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(
            error.downcast_ref::<tower_mesh::Error>().unwrap().kind(),
            &kind
        );
        assert_eq!(got, frames);
        assert!(body.frame().await.is_none(), "and then it has ended");
        // The endpoint did not keep up: that opens its breaker.
        assert!(matches!(
            client.snapshot().endpoints().next().unwrap().gate,
            Gate::Open { .. }
        ));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_endpoint_is_ejected_and_comes_back() {
    let start = Instant::now();
    let mesh = Mesh::new(move |at, _| {
        let sick = at == address(1) && Instant::now() - start < s(10);
        if sick {
            Reply::Status(500, ms(1))
        } else {
            ok()
        }
    });
    let log = Log::default();
    // One that sees failures would leave the breaker little to do.
    let mut load = Load::default();
    load.extensions_mut().failures = false;
    let policy = ClientPolicy::http()
        .failure_accrual(FailureAccrual::consecutive(3))
        .load(load)
        .build()
        .unwrap();
    let client = Client::builder(policy)
        .endpoints(addresses(3))
        .seed(1)
        .observer(log.observer())
        .build(mesh.connect())
        .unwrap();
    let mut failed = 0;
    for _ in 0..3000 {
        let response = client.request(get()).await.unwrap();
        failed += u32::from(response.status() == 500);
        tokio::time::sleep(ms(10)).await;
    }
    // Three to open it, and one for each probe: after 1, 2, 4 and 8 s, with jitter.
    assert!((3..=8).contains(&failed), "{failed}");
    assert!(log.count("opened") >= 2);
    assert_eq!(log.count("closed"), 1);
    assert_eq!(ejected(&client), 0);
    assert!(mesh.count(address(1)) > 100, "it is used again");
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_in_vain_fail_fast() {
    // Both fail, and the probes hang.
    let mesh = Mesh::new(|_, n| {
        if n == 0 {
            Reply::Status(500, ms(1))
        } else {
            Reply::Hang
        }
    });
    let backoff = ExponentialBackoff::try_new(s(1), s(10), Ratio::ZERO).unwrap();
    let policy = ClientPolicy::http()
        .failure_accrual(FailureAccrual::consecutive(1).backoff(backoff))
        .queue(Queue {
            capacity: 2,
            failfast_timeout: s(3),
        })
        .build()
        .unwrap();
    let client = mesh.client(policy, addresses(2));
    client.request(get()).await.unwrap();
    client.request(get()).await.unwrap();
    // In turn: one a second.
    let mut probes = Vec::new();
    for _ in 0..2 {
        tokio::time::sleep(ms(1001)).await;
        probes.push(tokio::spawn(client.request(get())));
    }
    tokio::time::sleep(ms(1)).await;
    assert_eq!(mesh.seen().len(), 4);
    let start = Instant::now();
    let waiting: Vec<_> = (0..2)
        .map(|_| tokio::spawn(client.request(get())))
        .collect();
    tokio::time::sleep(ms(1)).await;
    let full = client.request(get()).await.unwrap_err();
    assert!(
        matches!(full.kind(), ErrorKind::QueueFull { capacity: 2, .. }),
        "{full}"
    );
    assert_eq!(client.snapshot().backends[0].waiting, 2);
    for waiting in waiting {
        let error = waiting.await.unwrap().unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::FailFast { .. }),
            "{error}"
        );
        assert!(error.is_local());
    }
    // A hang is no verdict, so the clock has run since the backend was last able to take a request.
    let waited = (Instant::now() - start).as_millis();
    assert!((2990..3005).contains(&waited), "{waited}");
    // From now on at once.
    let before = Instant::now();
    let error = client.request(get()).await.unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::FailFast { .. }),
        "{error}"
    );
    assert_eq!(Instant::now(), before);
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_helped_in_time_is_refused_at_once() {
    // The next probe; the request's own time; whether it waits, in each fidelity.
    for (next, timeout, ours, mesh) in [
        (10, None, false, true),
        (2, None, true, true),
        (2, Some(1), false, true),
        (2, Some(3), true, true),
    ] {
        for (fidelity, waits) in [(Fidelity::Extended, ours), (Fidelity::Mesh, mesh)] {
            let all_bad = Mesh::new(|_, _| Reply::Status(500, ms(0)));
            let accrual = FailureAccrual::consecutive(1).backoff(steady(s(next)));
            let policy = ClientPolicy::http()
                .failure_accrual(accrual)
                .fidelity(fidelity);
            let client = all_bad.client(policy.build().unwrap(), addresses(2));
            client.request(get()).await.unwrap();
            client.request(get()).await.unwrap();
            let start = Instant::now();
            let request = match timeout {
                Some(timeout) => with(RequestOptions::new().timeout(s(timeout))),
                None => get(),
            };
            let result = client.request(request).await;
            assert_eq!(
                Instant::now() > start,
                waits,
                "{next} {timeout:?} {fidelity:?}"
            );
            if !waits {
                let retry_at = result.unwrap_err().retry_at().unwrap() - start;
                assert_eq!(retry_at.as_secs_f64().round() as u64, next);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_everything_is_one_event() {
    // Three endpoints are down for 20 s at 200 requests a second.
    let (from, to) = (s(5), s(25));
    for seed in 0..5 {
        let start = Instant::now();
        let down = move || (from..to).contains(&(Instant::now() - start));
        let mesh = Mesh::new(move |_, _| {
            if down() {
                Reply::Status(503, ms(1))
            } else {
                ok()
            }
        });
        let policy = ClientPolicy::http().failure_accrual(FailureAccrual::consecutive(7));
        let client = Client::builder(policy.build().unwrap())
            .endpoints(addresses(3))
            .seed(seed)
            .build(mesh.connect())
            .unwrap();
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..200 * 40 {
            let client = client.clone();
            calls.spawn(async move {
                let begun = Instant::now();
                let result = client.request(get()).await;
                let ok = result.is_ok_and(|response| response.status() == 200);
                (begun - start, Instant::now() - begun, ok)
            });
            tokio::time::sleep(ms(5)).await;
        }
        let mut calls = calls.join_all().await;
        calls.sort();
        let first = calls
            .iter()
            .filter(|(at, took, ok)| *ok && *at + *took > to);
        let first = first.map(|(at, took, _)| *at + *took - to).min().unwrap();
        assert!(first <= ms(1500), "the first success after {first:?}");
        let longest = calls.iter().map(|(_, took, _)| *took).max().unwrap();
        assert!(longest <= ms(3010), "{longest:?}");
        // Everybody is back from three seconds after the return, and nobody carries it alone.
        let settled: Vec<_> = mesh
            .seen()
            .into_iter()
            .filter(|seen| seen.at - start > to + s(3))
            .collect();
        for endpoint in addresses(3) {
            let share = settled
                .iter()
                .filter(|seen| seen.endpoint == endpoint)
                .count();
            let fair = settled.len() / 3;
            assert!(
                (fair / 2..fair * 2).contains(&share),
                "{endpoint}: {share} of {fair}"
            );
        }
        assert!(
            calls
                .iter()
                .filter(|(at, ..)| *at > to + s(3))
                .all(|(.., ok)| *ok)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_served_when_a_probe_succeeds() {
    let mesh = Mesh::fails_first(500);
    let policy = ClientPolicy::http()
        .failure_accrual(FailureAccrual::consecutive(1).backoff(steady(s(1))))
        .build()
        .unwrap();
    let client = mesh.client(policy, addresses(1));
    client.request(get()).await.unwrap();
    let start = Instant::now();
    let waiting: Vec<_> = (0..20)
        .map(|_| tokio::spawn(client.request(get())))
        .collect();
    for waiting in waiting {
        let response = waiting.await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        assert!(served(&response).waited >= ms(990));
    }
    // One probe of 10 ms, then the others at once.
    assert!(
        (1010..1030).contains(&(Instant::now() - start).as_millis()),
        "{:?}",
        Instant::now() - start
    );
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_caller_leaves_frees_its_place() {
    let mesh = Mesh::new(|_, n| match n {
        0 => Reply::Status(500, ms(1)),
        1 => Reply::Hang,
        _ => ok(),
    });
    let policy = ClientPolicy::http()
        .failure_accrual(FailureAccrual::consecutive(1))
        .build()
        .unwrap();
    let client = mesh.client(policy, addresses(1));
    client.request(get()).await.unwrap();
    tokio::time::sleep(s(2)).await;
    tokio::time::timeout(ms(100), client.request(get()))
        .await
        .unwrap_err();
    assert_eq!(client.request(get()).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn slow_endpoints_get_little() {
    let mesh =
        Mesh::new(|at, _| Reply::Status(200, if at == address(1) { ms(200) } else { ms(20) }));
    let client = Client::builder(plain())
        .endpoints(addresses(4))
        .seed(3)
        .build(mesh.connect())
        .unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..2000 {
        let client = client.clone();
        calls.spawn(async move { body(client.request(get()).await.unwrap()).await });
        tokio::time::sleep(ms(5)).await;
    }
    while calls.join_next().await.is_some() {}
    assert!(mesh.count(address(1)) < 40, "{}", mesh.count(address(1)));
    for n in 2..=4 {
        assert!(mesh.count(address(n)) > 400, "{}", mesh.count(address(n)));
    }
}

#[tokio::test(start_paused = true)]
async fn options_win_over_the_policy() {
    let mesh = Mesh::new(|at, _| {
        if at == address(1) {
            ok()
        } else {
            Reply::Status(503, ms(1))
        }
    });
    let policy = ClientPolicy::http()
        .retry(retry().limit(5))
        .timeouts(Timeouts::request(s(1)))
        .build()
        .unwrap();
    let client = mesh.client(policy, addresses(3));
    let call = |options| client.request(with(options));
    let response = call(RequestOptions::new().pin(address(2)).no_retries())
        .await
        .unwrap();
    assert_eq!(
        (
            response.status().as_u16(),
            served(&response).endpoint,
            served(&response).attempts
        ),
        (503, address(2), 1)
    );
    let response = call(RequestOptions::new().pin(address(2)).max_retries(2))
        .await
        .unwrap();
    assert_eq!(served(&response).attempts, 3);
    for _ in 0..20 {
        let response = call(RequestOptions::new().avoid(address(2)).avoid(address(3)))
            .await
            .unwrap();
        assert_eq!(served(&response).endpoint, address(1));
    }
    // To avoid all is to avoid none.
    let all = addresses(3)
        .into_iter()
        .fold(RequestOptions::new(), RequestOptions::avoid);
    assert!(call(all).await.is_ok());
    let error = call(RequestOptions::new().pin(address(9)).timeout(s(10)))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("10.0.0.9:80, which is none of its endpoints"),
        "{error}"
    );
}

// Nobody waits for it for long.
fn backend(name: &str) -> RouteBackend {
    let queue = Queue {
        capacity: 10,
        failfast_timeout: ms(100),
    };
    backend_with(name, queue)
}

#[tokio::test(start_paused = true)]
async fn backends_by_weight_and_those_that_can_serve() {
    let mesh = Mesh::with_failing(3, 500);
    let (v1, v2, v3) = (backend("v1"), backend("v2"), backend("v3"));
    let policy =
        policy_to(RouteDistribution::random_available([(v1, 3), (v2, 1), (v3, 1)]).unwrap());
    let client = Client::builder(policy)
        .endpoints_of("v1:80", [address(1)])
        .endpoints_of("v2.shop:80", [address(2)])
        .endpoints_of("v3", [address(3)])
        .seed(1)
        .build(mesh.connect())
        .unwrap();
    for _ in 0..800 {
        client.request(get()).await.unwrap();
    }
    assert!(
        mesh.count(address(3)) < 10,
        "ejected: {}",
        mesh.count(address(3))
    );
    let (v1, v2) = (mesh.count(address(1)), mesh.count(address(2)));
    assert!((540..660).contains(&v1) && v1 + v2 > 785, "{v1} {v2}");
}

#[tokio::test(start_paused = true)]
async fn a_backend_with_nobody_behind_it_keeps_its_share() {
    let mesh = Mesh::new(|_, _| ok());
    let failing = |message: &str| Backend {
        meta: Meta::service("shop", "gone", std::num::NonZeroU16::new(80))
            .unwrap()
            .into(),
        queue: Queue::default(),
        dispatcher: BackendDispatcher::Fail {
            message: message.to_owned(),
        },
    };
    let gone: RouteBackend = std::sync::Arc::new(failing("Service not found gone")).into();
    let policy =
        policy_to(RouteDistribution::random_available([(backend("v1"), 3), (gone, 1)]).unwrap());
    // Nobody is asked for its endpoints, and nobody waits for them.
    let client = Client::builder(policy)
        .endpoints_of("v1:80", [address(1)])
        .seed(1)
        .build(mesh.connect())
        .unwrap();
    client.ready(ms(1)).await.unwrap();
    let mut failed = 0;
    for _ in 0..400 {
        if let Err(error) = client.request(get()).await {
            failed += 1;
            let said = error.to_string();
            assert!(
                said.contains("Service not found gone") && said.contains("500"),
                "{said}"
            );
        }
    }
    assert!((70..130).contains(&failed), "{failed}");
    assert_eq!(mesh.count(address(1)), 400 - failed);
}

#[tokio::test(start_paused = true)]
async fn the_first_backend_that_can_serve() {
    let mesh = Mesh::with_failing(1, 500);
    let policy =
        policy_to(RouteDistribution::first_available([backend("v1"), backend("v2")]).unwrap());
    let client = Client::builder(policy)
        .endpoints_of("v1:80", [address(1)])
        .endpoints_of("v2:80", [address(2)])
        .build(mesh.connect())
        .unwrap();
    let status = async || client.request(get()).await.unwrap().status().as_u16();
    assert_eq!(
        (status().await, status().await, status().await),
        (500, 200, 200)
    );
}

#[tokio::test(start_paused = true)]
async fn routes_and_filters() {
    let mesh = Mesh::new(|_, _| ok());
    let modify = |name: &'static str| ModifyHeader {
        set: vec![(
            http::HeaderName::from_static(name),
            http::HeaderValue::from_static("1"),
        )],
        ..ModifyHeader::default()
    };
    let mut used = backend("v1");
    used.filters = vec![
        Filter::RequestHeaders(modify("x-backend")),
        Filter::ResponseHeaders(modify("y-backend")),
    ];
    let mut tagged = rule(RouteDistribution::first_available([used]).unwrap());
    tagged.matches = vec![MatchRequest {
        path: Some(MatchPath::prefix("/tagged").unwrap()),
        ..MatchRequest::default()
    }];
    tagged.policy.filters = vec![
        Filter::RequestHeaders(modify("x-rule")),
        Filter::ResponseHeaders(modify("y-rule")),
    ];
    let mut failing = rule(RouteDistribution::empty());
    failing.matches = vec![MatchRequest {
        path: Some(MatchPath::exact("/fail").unwrap()),
        ..MatchRequest::default()
    }];
    failing.policy.filters = vec![Filter::InjectFailure(
        InjectFailure::new(StatusCode::IM_A_TEAPOT, "tea", Ratio::ONE).unwrap(),
    )];
    let mut nowhere = rule(RouteDistribution::empty());
    nowhere.matches = vec![MatchRequest {
        path: Some(MatchPath::exact("/nowhere").unwrap()),
        ..MatchRequest::default()
    }];
    let client = mesh.client(policy_of(vec![tagged, failing, nowhere]), [address(1)]);
    let call = |path: &str| {
        client.request(
            Request::get(format!("http://web.shop{path}"))
                .body(Body::empty())
                .unwrap(),
        )
    };
    let response = call("/tagged/x").await.unwrap();
    assert!(
        response.headers().contains_key("y-rule") && response.headers().contains_key("y-backend")
    );
    let seen = &mesh.seen()[0];
    assert!(seen.headers.contains_key("x-rule") && seen.headers.contains_key("x-backend"));
    assert_eq!(seen.uri, "http://web.shop/tagged/x");
    let injected = ErrorKind::FailureInjected {
        status: StatusCode::IM_A_TEAPOT,
        message: "tea".into(),
    };
    assert_eq!(call("/fail").await.unwrap_err().kind(), &injected);
    assert_eq!(
        call("/nowhere").await.unwrap_err().kind(),
        &ErrorKind::NoBackend
    );
    assert_eq!(call("/").await.unwrap_err().kind(), &ErrorKind::NoRoute);
    assert_eq!(mesh.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_floor_keeps_endpoints_in_service_and_the_mesh_ignores_it() {
    for (fidelity, out) in [(Fidelity::Extended, 1), (Fidelity::Mesh, 3)] {
        let mesh = Mesh::new(|_, _| Reply::Status(500, ms(1)));
        let accrual = FailureAccrual::consecutive(1).min_ready_endpoints(2);
        let policy = ClientPolicy::http()
            .failure_accrual(accrual)
            .fidelity(fidelity)
            .queue(Queue {
                capacity: 10,
                failfast_timeout: ms(1),
            })
            .build()
            .unwrap();
        let client = mesh.client(policy, addresses(3));
        for _ in 0..50 {
            let _ = client.request(get()).await;
        }
        assert_eq!(ejected(&client), out, "{fidelity:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn policies_swap_without_forgetting_what_was_learned() {
    let mesh = Mesh::new(|at, _| {
        if at == address(1) {
            Reply::Status(500, ms(50))
        } else {
            Reply::Status(200, ms(50))
        }
    });
    let policy = |max| {
        ClientPolicy::http()
            .failure_accrual(FailureAccrual::consecutive(max))
            .build()
            .unwrap()
    };
    let (sender, receiver) = watch::channel(None);
    let log = Log::default();
    let client = Client::builder(receiver)
        .endpoints(addresses(2))
        .observer(log.observer())
        .build(mesh.connect())
        .unwrap();
    let early = tokio::spawn(client.request(get()));
    tokio::time::sleep(ms(10)).await;
    assert!(
        client
            .ready(ms(1))
            .await
            .unwrap_err()
            .missing()
            .contains(&"a policy".to_owned())
    );
    sender.send(Some(policy(1))).unwrap();
    client.ready(s(1)).await.unwrap();
    early.await.unwrap().unwrap();
    for _ in 0..10 {
        client.request(get()).await.unwrap();
    }
    assert_eq!(ejected(&client), 1);
    let flying = tokio::spawn(client.request(get()));
    tokio::time::sleep(ms(10)).await;
    sender.send(Some(policy(5))).unwrap();
    tokio::time::sleep(ms(10)).await;
    assert_eq!(log.count("swapped"), 1);
    assert_eq!(ejected(&client), 1, "still");
    assert_eq!(flying.await.unwrap().unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn no_policy_is_an_error_after_three_seconds() {
    let (_sender, receiver) = watch::channel(None);
    let client = Mesh::new(|_, _| ok()).client(receiver, addresses(2));
    let start = Instant::now();
    assert_eq!(
        client.request(get()).await.unwrap_err().kind(),
        &ErrorKind::NoPolicy
    );
    assert_eq!((Instant::now() - start).as_millis(), 3000);
}

#[tokio::test(start_paused = true)]
async fn endpoints_come_and_go() {
    let mesh = Mesh::new(|_, _| ok());
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let updates = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
    let policy = ClientPolicy::http().named("web").build().unwrap();
    let client = mesh.client(policy, Endpoints::stream(updates));
    let error = client.ready(ms(50)).await.unwrap_err();
    assert_eq!(error.missing(), ["endpoints of default.web"]);
    let waiting = tokio::spawn(client.request(get()));
    tokio::time::sleep(ms(100)).await;
    let endpoint = |n| Endpoint::new(address(n));
    let send = async |update: Result<Update, &'static str>| {
        sender.send(update).unwrap();
        // What comes within a few milliseconds is published together.
        tokio::time::sleep(ms(10)).await;
        client
            .snapshot()
            .endpoints()
            .map(|e| e.endpoint.address())
            .collect::<Vec<_>>()
    };
    assert_eq!(send(Ok(Update::Add(vec![endpoint(1)]))).await, [address(1)]);
    let response = waiting.await.unwrap().unwrap();
    assert_eq!(served(&response).waited.as_millis(), 100);
    assert_eq!(
        send(Ok(Update::Add(vec![endpoint(2), endpoint(1)]))).await,
        addresses(2)
    );
    assert_eq!(
        send(Err("the source is unwell")).await,
        addresses(2),
        "what is known stays"
    );
    assert_eq!(
        send(Ok(Update::Remove(vec![address(1)]))).await,
        [address(2)]
    );
    assert_eq!(
        send(Ok(Update::Reset(vec![endpoint(3)]))).await,
        [address(3)]
    );
    drop(sender);
    assert_eq!(
        served(&client.request(get()).await.unwrap()).endpoint,
        address(3),
        "and when it ends"
    );
}

#[tokio::test(start_paused = true)]
async fn a_backend_without_weight_gets_nothing_and_one_alone_gets_all() {
    let mesh = Mesh::new(|_, _| ok());
    let refused = RouteDistribution::random_available([(backend("v1"), 0), (backend("v2"), 0)]);
    assert!(refused.is_err() && RouteDistribution::<Filter>::random_available([]).is_err());
    let client = |backends: Vec<(RouteBackend<_>, u32)>, first: Endpoints| {
        let spread = RouteDistribution::random_available(backends).unwrap();
        Client::builder(policy_to(spread))
            .endpoints_of("v1:80", first)
            .endpoints([address(2)])
            .build(mesh.connect())
            .unwrap()
    };
    let both = || vec![(backend("v1"), 7), (backend("v2"), 0)];
    let weighed = client(both(), [address(1)].into());
    let alone = client(vec![(backend("v1"), 7)], [address(1)].into());
    for _ in 0..100 {
        for client in [&weighed, &alone] {
            let response = client.request(get()).await.unwrap();
            assert_eq!(served(&response).endpoint, address(1));
        }
    }
    // Weight zero is out of the question, even where the other cannot serve; it is not even waited for.
    let none = client(both(), Vec::<Endpoint>::new().into());
    let error = none.request(get()).await.unwrap_err();
    assert_eq!(error.kind().name(), "no_endpoints");
    // One that has nobody is passed over, and does not speak for one that has.
    let passed = client(
        vec![(backend("v1"), 7), (backend("v2"), 1)],
        Vec::<Endpoint>::new().into(),
    );
    for _ in 0..100 {
        let response = passed.request(get()).await.unwrap();
        assert_eq!(served(&response).endpoint, address(2));
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_what_does_not_exist() {
    let mesh = Mesh::new(|_, _| ok());
    let policy = |fidelity| ClientPolicy::http().fidelity(fidelity).named("web").build();
    let (say, endpoints) = updates();
    let client = mesh.client(policy(Fidelity::Extended).unwrap(), endpoints);
    let waiting = tokio::spawn(client.request(get()));
    tokio::time::sleep(ms(100)).await;
    let send = async |update: Update| {
        say(update);
        tokio::time::sleep(ms(10)).await;
        let begun = Instant::now();
        let result = client.request(get()).await;
        (result.err(), Instant::now() - begun)
    };
    let endpoint = || vec![Endpoint::new(address(1))];
    let (error, waited) = send(Update::DoesNotExist).await;
    let error = error.unwrap();
    assert_eq!(error.kind().name(), "no_endpoints");
    assert!(error.to_string().contains("does not exist"), "{error}");
    assert!(error.is_local() && error.attempts() == 0);
    assert_eq!(waited, Duration::ZERO);
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.kind().name(), "no_endpoints", "and who waited hears");
    // It comes into being, and is scaled to zero.
    assert!(send(Update::Add(endpoint())).await.0.is_none());
    let (error, waited) = send(Update::Reset(Vec::new())).await;
    assert!(error.unwrap().to_string().contains("scaled to zero"));
    assert_eq!(waited, Duration::ZERO);
    // The last of them leaves: others may be about to come.
    assert!(send(Update::Reset(endpoint())).await.0.is_none());
    let (error, waited) = send(Update::Remove(vec![address(1)])).await;
    assert_eq!(error.unwrap().kind().name(), "fail_fast");
    assert!(waited > ms(500), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn an_empty_list_is_a_word_and_an_empty_watch_is_none_yet() {
    let mesh = Mesh::new(|_, _| ok());
    let refused = async |endpoints: Endpoints, fidelity| {
        let policy = ClientPolicy::http().fidelity(fidelity).named("web").build();
        let client = mesh.client(policy.unwrap(), endpoints);
        let begun = Instant::now();
        let error = client.request(get()).await.unwrap_err();
        (error.kind().name(), Instant::now() > begun)
    };
    let none = || Endpoints::from(Vec::<Endpoint>::new());
    let (sender, receiver) = watch::channel(Vec::new());
    let at_once = ("no_endpoints", false);
    let late = ("fail_fast", true);
    assert_eq!(refused(none(), Fidelity::Extended).await, at_once);
    assert_eq!(refused(none(), Fidelity::Mesh).await, late);
    assert_eq!(
        refused(receiver.clone().into(), Fidelity::Extended).await,
        late
    );
    // Said while somebody waits, it is.
    let waiting = refused(receiver.into(), Fidelity::Extended);
    let says = async {
        tokio::time::sleep(ms(100)).await;
        sender.send(Vec::new()).unwrap();
    };
    assert_eq!(tokio::join!(waiting, says).0, ("no_endpoints", true));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_returns_is_remembered() {
    let mesh = Mesh::new(|_, _| Reply::Status(500, ms(1)));
    let (sender, receiver) = watch::channel(vec![Endpoint::new(address(1))]);
    let policy = ClientPolicy::http()
        .failure_accrual(FailureAccrual::consecutive(1))
        .build()
        .unwrap();
    let client = mesh.client(policy, receiver);
    client.request(get()).await.unwrap();
    let known = || (client.snapshot().endpoints().count(), ejected(&client));
    assert_eq!(known(), (1, 1));
    sender.send(vec![]).unwrap();
    tokio::time::sleep(ms(1)).await;
    assert_eq!(known(), (0, 0));
    sender
        .send(vec![Endpoint::new(address(1)).with_label("zone", "b")])
        .unwrap();
    tokio::time::sleep(ms(1)).await;
    assert_eq!(known(), (1, 1));
    // After ten minutes it is a new one.
    sender.send(vec![]).unwrap();
    tokio::time::sleep(s(601)).await;
    sender.send(vec![Endpoint::new(address(2))]).unwrap();
    tokio::time::sleep(ms(1)).await;
    sender.send(vec![Endpoint::new(address(1))]).unwrap();
    tokio::time::sleep(ms(1)).await;
    assert_eq!(known(), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn close_waits_for_the_last_body_and_refuses_the_rest() {
    let client = Mesh::new(|_, _| ok()).client(plain(), addresses(1));
    let response = client.request(get()).await.unwrap();
    let closing = tokio::spawn({
        let client = client.clone();
        async move { client.close().await }
    });
    tokio::time::sleep(s(1)).await;
    assert!(!closing.is_finished());
    assert_eq!(
        client.request(get()).await.unwrap_err().kind(),
        &ErrorKind::Closed
    );
    drop(response);
    closing.await.unwrap();
}

#[test]
fn a_client_outlives_the_runtimes_it_is_called_in() {
    let mesh = Mesh::new(|_, _| ok());
    let (sender, receiver) = watch::channel(vec![Endpoint::new(address(1))]);
    // Built outside any runtime.
    let client = mesh.client(plain(), receiver);
    for n in 1..=3 {
        sender.send_replace(vec![Endpoint::new(address(n))]);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            client.ready(s(1)).await.unwrap();
            tokio::time::sleep(ms(1)).await;
            assert_eq!(
                served(&client.request(get()).await.unwrap()).endpoint,
                address(n)
            );
        });
    }
    drop(client);
    assert!(sender.is_closed(), "the last clone ends its driver");
}

#[test]
fn builders_say_what_is_wrong() {
    let mesh = Mesh::new(|_, _| ok());
    let policy = || ClientPolicy::http().named("web").build().unwrap();
    let error = Client::builder(policy())
        .endpoints(["10.0.0.1"])
        .build(mesh.connect())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"10.0.0.1\" is no endpoint: expected a port, too, such as 10.0.0.7:8080 or [fd00::7]:8080"
    );
    let error = Client::builder(policy()).build(mesh.connect()).unwrap_err();
    assert!(
        matches!(error, BuildError::NoEndpoints { .. })
            && error.to_string().contains(".endpoints_of(\"web\", [..])"),
        "{error}"
    );
    let error = Client::builder(policy())
        .endpoints(addresses(1))
        .endpoints_of("wbe", addresses(1))
        .build(mesh.connect())
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("\"wbe\", which is no backend of the policy; its backends are default.web"),
        "{error}"
    );
    let two =
        policy_to(RouteDistribution::first_available([backend("v1"), backend("v2")]).unwrap());
    let stream = Endpoints::stream(tokio_stream::empty::<Result<Update, std::io::Error>>());
    assert_eq!(
        Client::builder(two)
            .endpoints(stream)
            .build(mesh.connect())
            .unwrap_err(),
        BuildError::OneStream
    );
}

#[tokio::test(start_paused = true)]
async fn mesh_retries_may_hit_the_same_endpoint_and_ours_do_not() {
    for (fidelity, same) in [(Fidelity::Extended, false), (Fidelity::Mesh, true)] {
        let mesh = Mesh::new(|_, _| Reply::Status(503, ms(1)));
        let policy = ClientPolicy::http()
            .retry(retry())
            .fidelity(fidelity)
            .build()
            .unwrap();
        let mut repeated = false;
        for seed in 0..50 {
            let client = Client::builder(policy.clone())
                .endpoints(addresses(3))
                .seed(seed)
                .build(mesh.connect())
                .unwrap();
            let before = mesh.seen().len();
            client.request(get()).await.unwrap();
            let seen = &mesh.seen()[before..];
            repeated |= seen[0].endpoint == seen[1].endpoint;
        }
        assert_eq!(repeated, same, "{fidelity:?}");
    }
}

/// Those who wait go first, in the order in which they came; one that asks for an endpoint of its own holds up nobody.
#[tokio::test(start_paused = true)]
async fn who_waits_goes_first() {
    let mesh = Mesh::new(|_, _| ok());
    let (sender, receiver) = watch::channel(Vec::<Endpoint>::new());
    let queue = Queue {
        capacity: 100,
        failfast_timeout: s(5),
    };
    // Two backends: whoever waits takes an endpoint of either.
    let both = ["one", "two"].map(|name| (backend_with(name, queue), 1));
    let policy = policy_to(RouteDistribution::random_available(both).unwrap());
    let client = Client::builder(policy)
        .seed(1)
        .endpoints_of("one:80", receiver.clone())
        .endpoints_of("two:80", receiver)
        .build(mesh.connect())
        .unwrap();
    let mut calls = tokio::task::JoinSet::new();
    let mut ask = |n: usize, options: RequestOptions| {
        let request = Request::get(format!("http://web.shop/{n}"))
            .extension(options)
            .body(Body::empty());
        calls.spawn(client.request(request.unwrap()));
    };
    // It asks for one that never comes.
    let elsewhere = RequestOptions::default().pin(address(99));
    ask(1000, elsewhere);
    for n in 0..30 {
        ask(n, RequestOptions::default());
        tokio::time::sleep(ms(1)).await;
    }
    sender.send(vec![]).ok();
    sender.send(vec![address(1).into()]).unwrap();
    for n in 30..40 {
        ask(n, RequestOptions::default());
    }
    let results = calls.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_err()).count(), 1);
    let seen = mesh.seen();
    let order: Vec<_> = seen.iter().map(|seen| seen.uri.path().to_owned()).collect();
    let waited: Vec<_> = order
        .iter()
        .filter(|path| path.len() <= 3)
        .cloned()
        .collect();
    let expected: Vec<_> = (0..40).map(|n| format!("/{n}")).collect();
    assert_eq!(waited, expected);
}

/// Each breaker backs off by itself; while all are ejected the pool's turn counts, and is what the snapshot must say.
#[tokio::test(start_paused = true)]
async fn the_snapshot_of_an_outage_says_when_the_next_probe_really_is() {
    let mesh = Mesh::new(|_, _| Reply::Status(500, ms(1)));
    let policy = ClientPolicy::http()
        .failure_accrual(FailureAccrual::consecutive(1))
        .build()
        .unwrap();
    let client = mesh.client(policy, [address(1)]);
    assert_eq!(client.snapshot().backends[0].next_in_turn, None);
    let mut refused = 0;
    for _ in 0..20 {
        let Err(error) = client.request(get()).await else {
            continue;
        };
        refused += 1;
        let snapshot = client.snapshot();
        let next = snapshot.backends[0].next_in_turn;
        assert_eq!(next, error.retry_at(), "{error}");
        let text = snapshot.to_string();
        assert!(
            text.contains(", all ejected: the next probe in 1."),
            "{text}"
        );
        tokio::time::sleep_until(next.unwrap()).await;
        let text = client.snapshot().to_string();
        assert!(text.contains(", all ejected: a probe is due"), "{text}");
        let before = mesh.seen().len();
        client.request(get()).await.unwrap();
        assert_eq!(mesh.seen().len(), before + 1);
    }
    assert!(refused > 5, "{refused}");
}
