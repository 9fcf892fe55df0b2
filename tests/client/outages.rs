//! Endpoints that fail: ejection, those who wait meanwhile, probes.

use http::Request;
use tokio::sync::watch;
use tokio::time::Instant;
use tower_mesh::policy::{
    ClientPolicy, ExponentialBackoff, FailureAccrual, Fidelity, Load, Queue, Ratio,
    RouteDistribution,
};
use tower_mesh::{Body, Client, Endpoint, ErrorKind, RequestOptions};

use crate::support::routes::{backend_with, policy_to};
use crate::support::{
    Log, Mesh, Reply, address, addresses, body, ejected, get, ms, ok, plain, s, served, steady,
    with,
};

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
