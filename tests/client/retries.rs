//! Retries: when, where, how often, and what they may send.

use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tower_mesh::breaker::Gate;
use tower_mesh::policy::{
    Budget, ClientPolicy, ExponentialBackoff, FailureAccrual, Fidelity, Ratio, Timeouts,
};
use tower_mesh::verdict::{Sent, TransportFailure};
use tower_mesh::{Body, Client, Endpoint, ErrorKind, RequestOptions};

use crate::retry;
use crate::support::{
    Log, Mesh, Reply, address, addresses, body, get, ms, ok, s, served, steady, with,
};

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
