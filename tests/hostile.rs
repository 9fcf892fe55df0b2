//! What goes wrong when callers, endpoints and policies do their worst, over scripted endpoints in virtual time.

mod support;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use support::routes::{backend, policy_to};
use support::{
    Mesh, Reply, address, addresses, body, ejected, get, ms, ok, plain, s, served, steady, updates,
    with,
};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_stream::StreamExt;
use tower_mesh::breaker::Gate;
use tower_mesh::core::observe::Decision;
use tower_mesh::discover::{Endpoints, Update};
use tower_mesh::policy::{
    Backend, Budget, ClientPolicy, ExponentialBackoff, FailureAccrual, Load, PeakEwma,
    PenaltyPeakEwma, Protocol, Queue, Ratio, Retry, RouteDistribution, Timeouts, Unified,
};
use tower_mesh::{Body, BoxError, Client, Endpoint, Error, ErrorKind, RequestOptions};

// === waiting ===

#[tokio::test(start_paused = true)]
async fn a_pinned_request_fails_fast_while_others_are_served() {
    let mesh = Mesh::new(|_, _| ok());
    let client = mesh.client(plain(), addresses(2));
    let others = tokio::spawn({
        let client = client.clone();
        async move {
            loop {
                client.request(get()).await.unwrap();
                tokio::time::sleep(ms(100)).await;
            }
        }
    });
    let start = Instant::now();
    let pinned = client.request(with(RequestOptions::new().pin(address(9))));
    let error = tokio::time::timeout(s(60), pinned).await.unwrap();
    assert!(matches!(
        error.unwrap_err().kind(),
        ErrorKind::FailFast { .. }
    ));
    assert_eq!((Instant::now() - start).as_millis(), 3000);
    others.abort();
}

#[tokio::test(start_paused = true)]
async fn a_pinned_request_does_not_start_the_clock_of_the_others() {
    let mesh = Mesh::new(|_, _| ok());
    let (send, endpoints) = updates();
    send(Update::Add(vec![Endpoint::new(address(1))]));
    let client = mesh.client(plain(), endpoints);
    client.ready(s(1)).await.unwrap();
    let pinned = client.request(with(RequestOptions::new().pin(address(9))));
    assert!(pinned.await.is_err());
    let start = Instant::now();
    send(Update::Remove(vec![address(1)]));
    tokio::time::sleep(ms(10)).await;
    assert!(client.request(get()).await.is_err());
    assert!(
        Instant::now() - start >= s(3),
        "{:?}",
        Instant::now() - start
    );
}

#[tokio::test(start_paused = true)]
async fn fail_fast_counts_from_when_the_backend_could_no_longer_serve() {
    let mesh = Mesh::new(|_, _| ok());
    let (send, endpoints) = updates();
    let client = mesh.client(plain(), endpoints);
    // Somebody waits for a moment and leaves; then endpoints come, and nobody asks.
    let _ = tokio::time::timeout(ms(100), client.request(get())).await;
    send(Update::Add(vec![Endpoint::new(address(1))]));
    tokio::time::sleep(s(60)).await;
    send(Update::Remove(vec![address(1)]));
    tokio::time::sleep(ms(100)).await;
    let start = Instant::now();
    let waiting = tokio::spawn(client.request(get()));
    tokio::time::sleep(s(1)).await;
    assert!(!waiting.is_finished(), "it could serve a second ago");
    assert!(waiting.await.unwrap().is_err());
    assert_eq!((Instant::now() - start).as_millis(), 3000);
}

#[tokio::test(start_paused = true)]
async fn nobody_fails_fast_while_another_backend_of_the_route_can_serve() {
    let mesh = Mesh::new(|_, _| ok());
    let (sender, receiver) = watch::channel(vec![]);
    let (_silent, silent) = watch::channel(Vec::<Endpoint>::new());
    let two = [backend("v1"), backend("v2")];
    let client = Client::builder(policy_to(RouteDistribution::first_available(two).unwrap()))
        .endpoints_of("v1:80", silent)
        .endpoints_of("v2:80", receiver)
        .build(mesh.connect())
        .unwrap();
    let waiting = tokio::spawn(client.request(get()));
    tokio::time::sleep(s(1)).await;
    sender.send(vec![Endpoint::new(address(2))]).unwrap();
    let response = waiting.await.unwrap().unwrap();
    assert_eq!(served(&response).endpoint, address(2));
}

#[tokio::test(start_paused = true)]
async fn a_pinned_request_waits_where_its_endpoint_is() {
    let mesh = Mesh::fails_first(500);
    let two = [backend("v1"), backend("v2")];
    let client = Client::builder(policy_to(RouteDistribution::first_available(two).unwrap()))
        .endpoints_of("v1:80", [address(1)])
        .endpoints_of("v2:80", [address(2)])
        .build(mesh.connect())
        .unwrap();
    let pinned = || with(RequestOptions::new().pin(address(2)));
    assert_eq!(client.request(pinned()).await.unwrap().status(), 500);
    // Its probe is due in a second or so.
    assert_eq!(client.request(pinned()).await.unwrap().status(), 200);
}

// Counts how often a request is polled.
async fn polls<F: Future>(future: F) -> (F::Output, usize) {
    let mut future = std::pin::pin!(future);
    let mut count = 0;
    let output = std::future::poll_fn(|cx| {
        count += 1;
        future.as_mut().poll(cx)
    })
    .await;
    (output, count)
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_not_polled_for_nothing() {
    let mesh = Mesh::new(|_, _| Reply::Status(500, ms(1)));
    let policy = ClientPolicy::http()
        .failure_accrual(FailureAccrual::consecutive(1).backoff(steady(s(100))))
        .queue(Queue {
            capacity: 10,
            failfast_timeout: s(50),
        })
        .build()
        .unwrap();
    let client = mesh.client(policy, addresses(1));
    client.request(get()).await.unwrap();
    let (result, count) = polls(client.request(get())).await;
    assert!(result.is_err());
    assert!(count <= 3, "{count}");
    // The same where there is nothing at all.
    let (_sender, receiver) = watch::channel(Vec::<Endpoint>::new());
    let client = mesh.client(plain(), receiver);
    let (result, count) = polls(client.request(get())).await;
    assert!(result.is_err());
    assert!(count <= 4, "{count}");
}

#[tokio::test(start_paused = true)]
async fn ready_hears_of_a_policy_that_needs_nothing_more() {
    let mesh = Mesh::new(|_, _| ok());
    let named = |name: &str| ClientPolicy::http().named(name).build().unwrap();
    let (sender, receiver) = watch::channel(named("silent"));
    let (_silent, silent) = watch::channel(Vec::<Endpoint>::new());
    let client = Client::builder(receiver)
        .endpoints_of("silent", silent)
        .endpoints_of("web", addresses(1))
        .build(mesh.connect())
        .unwrap();
    let start = Instant::now();
    let ready = tokio::spawn({
        let client = client.clone();
        async move { client.ready(s(100)).await }
    });
    tokio::time::sleep(s(1)).await;
    sender.send(named("web")).unwrap();
    ready.await.unwrap().unwrap();
    assert!(
        Instant::now() - start < s(2),
        "{:?}",
        Instant::now() - start
    );
}

// === who pays ===

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_tried_again_pays_nothing_in() {
    let mesh = Mesh::new(|_, _| Reply::Status(429, ms(1)));
    let budget = Budget::percent(50).min_per_sec(0);
    let retry = Retry::on(429..=429).no_backoff().limit(3).budget(budget);
    let policy = ClientPolicy::http().retry(retry).build().unwrap();
    let client = mesh.client(policy, addresses(3));
    for _ in 0..100 {
        client.request(get()).await.unwrap();
    }
    assert_eq!(
        mesh.seen().len(),
        110,
        "ten to begin with, and nothing earned"
    );
}

// === blame ===

fn latency(client: &Client) -> Duration {
    client
        .snapshot()
        .endpoints()
        .map(|e| e.latency)
        .max()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_keeps_a_response_does_not_make_its_endpoint_slow() {
    let mesh = Mesh::new(|_, _| ok());
    let client = mesh.client(plain(), addresses(1));
    let response = client.request(get()).await.unwrap();
    tokio::time::sleep(s(60)).await;
    drop(response);
    assert!(latency(&client) <= ms(10), "{:?}", latency(&client));
}

#[tokio::test(start_paused = true)]
async fn our_own_backoff_does_not_make_an_endpoint_slow() {
    let mesh = Mesh::new(|_, _| Reply::Status(429, ms(10)));
    let retry = Retry::on(429..=429).backoff(steady(s(10))).limit(1);
    let policy = ClientPolicy::http().retry(retry).build().unwrap();
    let client = mesh.client(policy, addresses(1));
    let response = client.request(get()).await.unwrap();
    body(response).await;
    assert!(latency(&client) <= ms(11), "{:?}", latency(&client));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_takes_its_time_is_not_an_idle_endpoint() {
    let leaf = |_: &Endpoint| {
        tower::service_fn(|_: Request<Body>| async {
            let frames = tokio_stream::iter(0..4).then(|_| async {
                tokio::time::sleep(ms(50)).await;
                Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"x")))
            });
            Ok::<_, BoxError>(Response::new(Body::new(StreamBody::new(Box::pin(frames)))))
        })
    };
    let timeouts = Timeouts {
        idle: Some(ms(100)),
        ..Timeouts::default()
    };
    let policy = ClientPolicy::http()
        .timeouts(timeouts)
        .failure_accrual(FailureAccrual::consecutive(1))
        .build()
        .unwrap();
    let client = Client::builder(policy)
        .endpoints(addresses(1))
        .build(leaf)
        .unwrap();
    let mut body = client.request(get()).await.unwrap().into_body();
    for _ in 0..4 {
        // Nothing is asked of the endpoint meanwhile.
        tokio::time::sleep(s(1)).await;
        body.frame().await.unwrap().unwrap();
    }
    assert!(body.frame().await.is_none());
    assert_eq!(ejected(&client), 0);
}

#[tokio::test(start_paused = true)]
async fn a_penalty_that_fades_in_no_time_is_none() {
    let mesh = Mesh::new(|at, n| {
        if at == address(1) && n == 0 {
            Reply::Status(500, ms(1))
        } else {
            Reply::Status(200, ms(if at == address(1) { 1 } else { 50 }))
        }
    });
    let mut penalty = PenaltyPeakEwma::new(PeakEwma::DEFAULT);
    penalty.penalty_decay = Duration::ZERO;
    let policy = ClientPolicy::http()
        .load(Load::PenaltyPeakEwma(penalty))
        .build()
        .unwrap();
    let client = mesh.client(policy, addresses(2));
    for _ in 0..100 {
        let response = client.request(get()).await.unwrap();
        body(response).await;
        tokio::time::sleep(s(1)).await;
    }
    assert!(mesh.count(address(1)) > 50, "{}", mesh.count(address(1)));
}

// === what survives ===

#[tokio::test(start_paused = true)]
async fn a_policy_update_does_not_forget_the_success_rate() {
    let mesh = Mesh::new(|_, n| Reply::Status(if n % 2 == 0 { 500 } else { 200 }, ms(1)));
    let policy = |capacity| {
        let unified = Unified::try_new(
            Ratio::percent(90),
            s(60),
            20,
            0,
            ExponentialBackoff::ACCRUAL,
        )
        .unwrap();
        ClientPolicy::http()
            .failure_accrual(unified)
            .queue(Queue {
                capacity,
                ..Queue::default()
            })
            .build()
            .unwrap()
    };
    let (sender, receiver) = watch::channel(policy(1));
    let client = mesh.client(receiver, addresses(1));
    for n in 0..20 {
        client.request(get()).await.unwrap();
        sender.send(policy(2 + n)).unwrap();
        tokio::time::sleep(ms(1)).await;
    }
    let gates: Vec<_> = client.snapshot().endpoints().map(|e| e.gate).collect();
    assert!(matches!(gates[..], [Gate::Open { .. }]), "{gates:?}");
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_leaves_no_probe_behind() {
    let mesh = Mesh::fails_first(500);
    let policy = ClientPolicy::http()
        .failure_accrual(FailureAccrual::consecutive(1))
        .build()
        .unwrap();
    let panics = AtomicUsize::new(0);
    let client = Client::builder(policy)
        .endpoints(addresses(1))
        .observer(move |_, decision: &Decision| {
            if matches!(decision, Decision::Probing { .. }) {
                assert!(panics.fetch_add(1, Ordering::Relaxed) > 0, "once");
            }
        })
        .build(mesh.connect())
        .unwrap();
    client.request(get()).await.unwrap();
    assert!(tokio::spawn(client.request(get())).await.is_err(), "panics");
    assert_eq!(
        client
            .snapshot()
            .endpoints()
            .map(|e| e.pending)
            .sum::<usize>(),
        0
    );
    assert_eq!(client.request(get()).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_leaf_that_panics_leaves_nothing_behind() {
    let calls = Arc::new(AtomicUsize::new(0));
    let leaf = move |_: &Endpoint| {
        let calls = Arc::clone(&calls);
        tower::service_fn(move |_: Request<Body>| {
            let n = calls.fetch_add(1, Ordering::Relaxed);
            async move {
                tokio::time::sleep(ms(1)).await;
                assert_ne!(n, 1, "as scripted");
                let status = if n == 0 { 500 } else { 200 };
                let response = Response::builder().status(status);
                Ok::<_, BoxError>(response.body(Full::new(Bytes::new())).unwrap())
            }
        })
    };
    let policy = ClientPolicy::http()
        .failure_accrual(FailureAccrual::consecutive(1))
        .build()
        .unwrap();
    let client = Client::builder(policy)
        .endpoints(addresses(1))
        .build(leaf)
        .unwrap();
    client.request(get()).await.unwrap();
    // The probe panics.
    assert!(tokio::spawn(client.request(get())).await.is_err());
    let snapshot = client.snapshot();
    assert_eq!(snapshot.in_flight, 0);
    assert!(
        snapshot
            .endpoints()
            .all(|e| e.pending == 0 && !matches!(e.gate, Gate::HalfOpen { .. }))
    );
    assert_eq!(client.request(get()).await.unwrap().status(), 200);
}

// === leaks ===

#[tokio::test(start_paused = true)]
async fn the_last_client_takes_everything_with_it() {
    #[derive(Clone)]
    struct Alive(Arc<()>);
    let alive = Arc::new(());
    let leaf = {
        let alive = Alive(Arc::clone(&alive));
        move |_: &Endpoint| {
            let alive = alive.clone();
            tower::service_fn(move |_: Request<Body>| {
                let alive = alive.clone();
                async move {
                    let _alive = alive.0;
                    tokio::time::sleep(ms(1)).await;
                    Ok::<_, BoxError>(Response::new(Full::new(Bytes::from_static(b"x"))))
                }
            })
        }
    };
    let (policies, policy) = watch::channel(plain());
    let (endpoints, list) = watch::channel(vec![Endpoint::new(address(1))]);
    let client = Client::builder(policy).endpoints(list).build(leaf).unwrap();
    client.ready(s(1)).await.unwrap();
    let response = client.request(get()).await.unwrap();
    let policy = ClientPolicy::http()
        .failure_accrual(FailureAccrual::consecutive(1))
        .build();
    policies.send(policy.unwrap()).unwrap();
    endpoints.send(vec![Endpoint::new(address(2))]).unwrap();
    tokio::time::sleep(ms(1)).await;
    client.request(get()).await.unwrap();
    drop(client);
    tokio::time::sleep(ms(1)).await;
    assert!(policies.is_closed() && endpoints.is_closed(), "drivers end");
    assert_eq!(body(response).await, "x");
    assert_eq!(Arc::strong_count(&alive), 1);
}

// === inputs ===

#[tokio::test(start_paused = true)]
async fn durations_without_end_and_none_at_all() {
    for long in [
        Duration::MAX,
        Duration::from_nanos(u64::MAX),
        Duration::ZERO,
    ] {
        let max = long.max(Duration::from_nanos(1));
        let backoff = ExponentialBackoff::try_new(long, max, Ratio::percent(100)).unwrap();
        let ewma = PeakEwma::try_new(max, long).unwrap();
        let mut penalty = PenaltyPeakEwma::new(ewma);
        penalty.penalty = long;
        penalty.penalty_decay = long;
        penalty.max_retry_after = long;
        let unified = Unified::try_new(
            Ratio::ONE,
            long.max(Unified::MIN_WINDOW),
            0,
            u32::MAX,
            backoff,
        )
        .unwrap();
        let accruals = [
            FailureAccrual::consecutive(1)
                .backoff(backoff)
                .slow_call(long),
            FailureAccrual::from(unified)
                .slow_call(long)
                .min_ready_endpoints(1),
            FailureAccrual::consecutive(0).min_ready_endpoints(u32::MAX),
            FailureAccrual::consecutive(u32::MAX),
        ];
        for accrual in accruals {
            for load in [Load::PeakEwma(ewma), Load::PenaltyPeakEwma(penalty)] {
                for failfast_timeout in [Duration::MAX, s(1), Duration::ZERO] {
                    let timeouts = Timeouts {
                        request: Some(long),
                        response: Some(long),
                        idle: Some(long),
                    };
                    let retry = Retry::on(500..=599)
                        .limit(3)
                        .backoff(backoff)
                        .timeout(max)
                        .budget(Budget::percent(100).min_per_sec(u32::MAX));
                    let policy = ClientPolicy::http()
                        .failure_accrual(accrual.clone())
                        .load(load)
                        .timeouts(timeouts)
                        .retry(retry)
                        .queue(Queue {
                            capacity: usize::MAX,
                            failfast_timeout,
                        })
                        .build()
                        .unwrap();
                    let mesh = Mesh::new(|_, n| match n % 4 {
                        0 => Reply::Status(500, ms(1)),
                        1 => Reply::Status(429, Duration::ZERO),
                        2 => Reply::Status(503, s(1000)),
                        _ => ok(),
                    });
                    let client = mesh.client(policy, addresses(2));
                    for _ in 0..12 {
                        let call = client.request(with(RequestOptions::new().timeout(long)));
                        let _ = tokio::time::timeout(s(2000), call).await;
                        let _ = tokio::time::timeout(s(2000), client.request(get())).await;
                    }
                    let _ = client.ready(long).await;
                    let snapshot = client.snapshot();
                    let _ = snapshot.to_string();
                    assert_eq!(snapshot.in_flight, 0);
                    assert!(snapshot.endpoints().all(|e| e.pending == 0));
                    assert!(snapshot.backends.iter().all(|b| b.waiting == 0));
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn endpoint_lists_of_all_sizes_with_and_without_duplicates() {
    let mesh = Mesh::new(|_, _| Reply::Status(200, ms(1)));
    let many: Vec<Endpoint> = (0..10_000u32)
        .map(|n| Endpoint::new((std::net::Ipv4Addr::from(0x0a00_0000 + n), 80).into()))
        .collect();
    let twice: Vec<Endpoint> = [1, 1, 2, 1].map(address).map(Endpoint::new).to_vec();
    let zero = vec![Endpoint::new("10.0.0.1:0".parse().unwrap())];
    let (send, endpoints) = updates();
    let client = mesh.client(plain(), endpoints);
    let _ = client.ready(ms(1)).await;
    let addresses = |list: &[Endpoint]| list.iter().map(Endpoint::address).collect::<Vec<_>>();
    for (update, count) in [
        (Update::Reset(twice.clone()), 2),
        (Update::Add(twice.clone()), 2),
        (Update::Remove(addresses(&twice)), 0),
        (Update::Reset(zero), 1),
        (Update::Reset(many.clone()), 10_000),
        (Update::Remove(addresses(&many)), 0),
        (Update::Add(many.clone()), 10_000),
        (Update::Reset(twice), 2),
    ] {
        send(update);
        // What comes within a few milliseconds is published together.
        tokio::time::sleep(ms(10)).await;
        assert_eq!(client.snapshot().endpoints().count(), count);
        let call = tokio::time::timeout(ms(100), client.request(get())).await;
        assert_eq!(call.is_ok(), count > 0);
    }
}

// === shares ===

// How many requests each of `count` endpoints gets, one after the other, while `down` of them are ejected.
async fn shares(count: u8, down: &[u8], seed: u64) -> Vec<usize> {
    let out = down.to_vec();
    let mesh = Mesh::new(move |at, _| {
        let down = out.iter().any(|n| at == address(*n));
        Reply::Status(if down { 500 } else { 200 }, ms(10))
    });
    let week = s(7 * 24 * 3600);
    let policy = ClientPolicy::http()
        .failure_accrual(FailureAccrual::consecutive(1).backoff(steady(week)))
        .build()
        .unwrap();
    let client = Client::builder(policy)
        .endpoints(addresses(count))
        .seed(seed)
        .build(mesh.connect())
        .unwrap();
    for n in down {
        let pinned = with(RequestOptions::new().pin(address(*n)));
        client.request(pinned).await.unwrap();
    }
    mesh.seen.lock().unwrap().clear();
    // All at once, so that all cost the same when they are chosen: what remains is the choice itself.
    for _ in 0..9000 {
        drop(tokio::time::timeout(Duration::ZERO, client.request(get())).await);
    }
    (1..=count)
        .filter(|n| !down.contains(n))
        .map(|n| mesh.count(address(n)))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn equals_get_equal_shares_whoever_is_ejected() {
    for (count, down) in [
        (2, vec![]),
        (10, vec![]),
        (10, vec![4]),
        (10, vec![1, 2, 3, 4, 5]),
        (20, (1..=15).collect()),
        (20, (1..=17).collect()),
        (40, (1..=37).collect()),
        (40, (2..=39).collect()),
    ] {
        let shares = shares(count, &down, 3).await;
        let expected = 9000.0 / shares.len() as f64;
        let chi: f64 = shares
            .iter()
            .map(|share| (*share as f64 - expected) * (*share as f64 - expected) / expected)
            .sum();
        // The 99.99th percentile for nine degrees of freedom is 33.7.
        assert!(chi < 34.0, "{count} {down:?} {shares:?} {chi}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_nobody_has_tried_yet_is_tried() {
    for count in [2, 10] {
        let mesh = Mesh::new(|_, _| Reply::Status(200, ms(1)));
        let (sender, receiver) = watch::channel(vec![Endpoint::new(address(1))]);
        let client = Client::builder(plain())
            .endpoints(receiver)
            .seed(1)
            .build(mesh.connect())
            .unwrap();
        let minute = async || {
            for _ in 0..600 {
                let response = client.request(get()).await.unwrap();
                body(response).await;
                tokio::time::sleep(ms(100)).await;
            }
        };
        minute().await;
        let all = addresses(count).into_iter().map(Endpoint::new);
        sender.send(all.collect()).unwrap();
        // What is not known yet is taken for 30 ms, which fade over 10 s.
        minute().await;
        mesh.seen.lock().unwrap().clear();
        minute().await;
        for n in 1..=count {
            let share = mesh.count(address(n)) * usize::from(count);
            assert!((150..2400).contains(&share), "{n} of {count}: {share}");
        }
    }
}

// Requests whose body stalls in the middle, or that the endpoint does not read.
fn stalled(started: bool) -> Request<Body> {
    let frame = Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"x")));
    let frames = tokio_stream::iter(started.then_some(frame));
    let frames = frames.chain(tokio_stream::pending());
    Request::post("http://web.shop/")
        .body(Body::new(StreamBody::new(Box::pin(frames))))
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_stalls_its_own_upload_is_no_failure_of_the_endpoint() {
    let reads = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let leaf = {
        let reads = Arc::clone(&reads);
        move |_: &Endpoint| {
            let reads = Arc::clone(&reads);
            tower::service_fn(move |request: Request<Body>| {
                let reads = reads.load(Ordering::Relaxed);
                async move {
                    if !reads {
                        std::future::pending::<()>().await;
                    }
                    request.into_body().collect().await?;
                    Ok::<_, BoxError>(Response::new(Body::empty()))
                }
            })
        }
    };
    let all = [
        Timeouts::request(s(1)),
        Timeouts {
            idle: Some(s(1)),
            ..Timeouts::default()
        },
    ];
    for timeouts in all {
        let policy = ClientPolicy::http()
            .timeouts(timeouts)
            .failure_accrual(FailureAccrual::consecutive(1).slow_call(ms(100)))
            .build()
            .unwrap();
        let client = Client::builder(policy)
            .endpoints(addresses(1))
            .build(leaf.clone())
            .unwrap();
        reads.store(true, Ordering::Relaxed);
        for started in [false, true] {
            assert!(
                client
                    .request(stalled(started))
                    .await
                    .unwrap_err()
                    .is_deadline()
            );
            // Its caller may leave before, too.
            let left = tokio::time::timeout(ms(500), client.request(stalled(started)));
            assert!(left.await.is_err());
        }
        assert_eq!(ejected(&client), 0, "{timeouts:?}");
        assert!(latency(&client) <= ms(30), "{:?}", latency(&client));
        // Whereas an endpoint that does not read is to blame.
        reads.store(false, Ordering::Relaxed);
        assert!(client.request(stalled(true)).await.is_err());
        assert_eq!(ejected(&client), 1, "{timeouts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn backends_that_no_policy_names_any_more_are_forgotten() {
    let mesh = Mesh::new(|_, n| Reply::Status(if n == 0 { 500 } else { 200 }, ms(1)));
    let named = |name: &str| {
        let accrual = FailureAccrual::consecutive(1).backoff(steady(s(3600)));
        let policy = ClientPolicy::http().named(name).failure_accrual(accrual);
        policy.build().unwrap()
    };
    let (policies, receiver) = watch::channel(named("web"));
    let (lists, list) = watch::channel(vec![Endpoint::new(address(1))]);
    let client = Client::builder(receiver)
        .resolver(move |_: &Backend| Some(Endpoints::from(list.clone())))
        .build(mesh.connect())
        .unwrap();
    client.ready(s(1)).await.unwrap();
    client.request(get()).await.unwrap();
    let use_policy = async |name: &str| {
        policies.send(named(name)).unwrap();
        tokio::time::sleep(ms(1)).await;
        client.ready(s(1)).await.unwrap();
        ejected(&client)
    };
    // What it is away for is what it may come back from.
    assert_eq!(use_policy("other").await, 0);
    tokio::time::sleep(s(500)).await;
    assert_eq!(use_policy("web").await, 1, "remembered");
    for n in 0..20 {
        tokio::time::sleep(s(500)).await;
        use_policy(&format!("web-{n}")).await;
    }
    assert!(lists.receiver_count() < 10, "{}", lists.receiver_count());
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_comes_back_after_the_deadline_blames_nobody_else() {
    let leaf = |_: &Endpoint| {
        tower::service_fn(|_: Request<Body>| async {
            let frame = Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"x")));
            let frames = tokio_stream::once(frame).chain(tokio_stream::pending());
            Ok::<_, BoxError>(Response::new(Body::new(StreamBody::new(Box::pin(frames)))))
        })
    };
    for (pause, out) in [(s(3), 0), (s(1), 1)] {
        let policy = ClientPolicy::http()
            .timeouts(Timeouts::request(s(2)))
            .failure_accrual(FailureAccrual::consecutive(1))
            .build()
            .unwrap();
        let client = Client::builder(policy)
            .endpoints(addresses(1))
            .build(leaf)
            .unwrap();
        let mut body = client.request(get()).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        tokio::time::sleep(pause).await;
        let error = body.frame().await.unwrap().unwrap_err();
        assert!(Error::find(&*error).unwrap().is_deadline());
        assert_eq!(client.snapshot().in_flight, 0);
        assert_eq!(ejected(&client), out, "{pause:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_with_two_settings_does_not_forget_at_every_update() {
    let mesh = Mesh::new(|_, _| Reply::Status(500, ms(1)));
    let policy = |timeout| {
        let mut policy = ClientPolicy::http()
            .timeouts(Timeouts::request(timeout))
            .failure_accrual(FailureAccrual::consecutive(1))
            .build()
            .unwrap();
        // For HTTP/1 requests nothing is ejected; the endpoints are the same ones.
        if let Protocol::Detect { http1, .. } = &mut policy.protocol {
            http1.failure_accrual = None;
        }
        policy
    };
    let (sender, receiver) = watch::channel(policy(s(1)));
    let client = mesh.client(receiver, addresses(1));
    client.request(get()).await.unwrap();
    assert_eq!(ejected(&client), 1);
    sender.send(policy(s(2))).unwrap();
    tokio::time::sleep(ms(1)).await;
    assert_eq!(ejected(&client), 1);
}
