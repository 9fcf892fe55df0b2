//! Hedges of the client: races, budgets, and what they do in the simulator.
#![cfg(feature = "sim")]

mod support;

use support::{Log, Mesh, Reply, address, addresses, get, ms, s};
use tokio::time::Instant;
use tower_mesh::policy::{Budget, ClientPolicy, FailureAccrual, Fidelity, Hedge, Retry};
use tower_mesh::sim::{Report, World, healthy, per_second};
use tower_mesh::verdict::{Sent, TransportFailure};
use tower_mesh::{Body, Client, RequestOptions, Served};

fn one_percent() -> Hedge {
    let budget = Budget::percent(1).min_per_sec(0).bank(s(10));
    Hedge::after(ms(200)).budget(budget)
}

/// A client of two endpoints; the first request goes to the one that does `first`.
fn client(first: Reply, second: Reply, retry: Option<Retry>) -> (Client, Mesh, Log) {
    let log = Log::default();
    let started = std::sync::atomic::AtomicBool::new(false);
    let mesh = Mesh::new(move |_, _| {
        let again = started.swap(true, std::sync::atomic::Ordering::Relaxed);
        if again { second.clone() } else { first.clone() }
    });
    let mut policy = ClientPolicy::http().hedge(Hedge::after(ms(100)));
    if let Some(retry) = retry {
        policy = policy.retry(retry);
    }
    let client = Client::builder(policy.build().unwrap())
        .endpoints(addresses(2))
        .seed(1)
        .observer(log.observer())
        .build(mesh.connect())
        .unwrap();
    (client, mesh, log)
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_wins() {
    let says = |status, after| Reply::Status(status, ms(after));
    let broken = |after| Reply::Fail(TransportFailure::Broken, Sent::Unknown, ms(after));
    for (first, second, status, took, attempts) in [
        (says(200, 50), says(200, 0), 200, 50, 1),
        (Reply::Hang, says(200, 30), 200, 130, 2),
        (says(200, 120), says(200, 300), 200, 120, 2),
        // What fails does not win.
        (says(200, 900), says(503, 30), 200, 900, 2),
        (says(200, 900), broken(30), 200, 900, 2),
        (says(503, 120), says(200, 100), 200, 200, 2),
        (broken(120), says(200, 100), 200, 200, 2),
        (says(503, 120), says(502, 100), 502, 200, 2),
        // A hedge is no retry: before its time there is none.
        (says(503, 50), says(200, 0), 503, 50, 1),
    ] {
        let row = format!("{first:?} {second:?}");
        let (client, mesh, log) = client(first, second, None);
        let start = Instant::now();
        let response = client.request(get()).await.unwrap();
        let served = response.extensions().get::<Served>().unwrap().clone();
        assert_eq!(response.status(), status, "{row}");
        assert_eq!(
            ((Instant::now() - start), served.attempts),
            (ms(took), attempts),
            "{row}"
        );
        let seen = mesh.seen();
        assert_eq!(seen.len() as u32, attempts, "{row}");
        if attempts == 2 {
            assert_ne!(
                seen[0].endpoint, seen[1].endpoint,
                "another endpoint: {row}"
            );
        }
        assert_eq!(log.count("hedged") as u32, attempts - 1, "{row}");
        drop(response);
        let snapshot = client.snapshot();
        assert!(
            snapshot.endpoints().all(|endpoint| endpoint.pending == 0),
            "{row}"
        );
        assert_eq!(
            snapshot.budgets[0].withdrawals as u32,
            attempts - 1,
            "{row}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_is_safe() {
    let post = || {
        http::Request::post("http://web/")
            .body(Body::from("text"))
            .unwrap()
    };
    let with = |mut request: http::Request<Body>, options| {
        request.extensions_mut().insert::<RequestOptions>(options);
        request
    };
    let slow = || Reply::Status(200, ms(500));
    for (request, attempts) in [
        (get(), 2),
        (post(), 1),
        (with(post(), RequestOptions::new().safe_to_repeat()), 2),
        (with(get(), RequestOptions::new().no_retries()), 1),
        (with(get(), RequestOptions::new().pin(address(1))), 1),
    ] {
        let (client, mesh, _) = client(slow(), slow(), None);
        client.request(request).await.unwrap();
        assert_eq!(mesh.seen().len(), attempts);
    }
    // And never in the mesh.
    let mesh = Mesh::new(|_, _| Reply::Status(200, ms(500)));
    let policy = ClientPolicy::http()
        .hedge(Hedge::after(ms(100)))
        .fidelity(Fidelity::Mesh);
    let client = mesh.client(policy.build().unwrap(), addresses(2));
    client.request(get()).await.unwrap();
    assert_eq!(mesh.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_swap_of_policies_forgets_no_percentile() {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let mesh = Mesh::new(move |_, _| {
        let n = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Reply::Status(200, if n < 30 { ms(20) } else { s(10) })
    });
    let policy = |percent, retries| {
        let policy = ClientPolicy::http().hedge(Hedge::after_percentile(percent));
        let retry = Retry::on(503..=503).limit(retries);
        policy.retry(retry).build().unwrap()
    };
    let (sender, receiver) = tokio::sync::watch::channel(Some(policy(90, 1)));
    let client = mesh.client(receiver, addresses(2));
    for _ in 0..30 {
        client.request(get()).await.unwrap();
    }
    // The same percentile of the same rule goes on; another begins anew and says nothing yet.
    for (percent, attempts) in [(90, 2), (95, 1)] {
        sender.send(Some(policy(percent, 2))).unwrap();
        tokio::time::sleep(ms(1)).await;
        let before = mesh.seen().len();
        client.request(get()).await.unwrap();
        assert_eq!(mesh.seen().len() - before, attempts, "{percent}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hedged_request_is_retried_all_the_same() {
    let retry = Retry::on(503..=503).no_backoff().build().unwrap();
    let failing = || Reply::Status(503, ms(150));
    let (client, mesh, log) = client(failing(), failing(), Some(retry));
    let response = client.request(get()).await.unwrap();
    assert_eq!(response.status(), 503);
    // The first, its hedge, and one retry of both.
    assert_eq!(mesh.seen().len(), 3);
    assert_eq!((log.count("hedged"), log.count("retried")), (1, 1));
    assert_eq!(client.snapshot().budgets[0].withdrawals, 2, "one budget");
}

#[tokio::test(start_paused = true)]
async fn dropped_at_any_time_both_attempts_are_gone() {
    for until in (0..500).step_by(5) {
        let (client, mesh, _) = client(
            Reply::Status(503, ms(150)),
            Reply::Status(200, ms(300)),
            None,
        );
        let _ = tokio::time::timeout(ms(until), client.request(get())).await;
        let snapshot = client.snapshot();
        assert_eq!(snapshot.in_flight, 0, "{until}");
        assert!(
            snapshot.endpoints().all(|endpoint| endpoint.pending == 0),
            "{until}"
        );
        let extra = mesh.seen().len().saturating_sub(1) as u64;
        assert_eq!(snapshot.budgets[0].withdrawals, extra, "{until}");
    }
}

fn world(seed: u64, hung: bool, hedge: Option<Hedge>) -> Report {
    let mut policy = ClientPolicy::http().failure_accrual(FailureAccrual::consecutive(7));
    if let Some(hedge) = hedge {
        policy = policy.hedge(hedge);
    }
    let mut world = World::seeded(seed).policy(policy.build().unwrap());
    for n in 0..10 {
        let server = match (hung, n) {
            (true, 0) => healthy(ms(20)).hangs().between(s(10), s(40)),
            (true, _) => healthy(ms(20)),
            // All of them are slow.
            (false, _) => healthy(ms(500)),
        };
        world = world.endpoint(format!("e{n}"), server);
    }
    world.load(per_second(200).give_up(s(5))).run_for(s(50))
}

#[test]
fn one_of_ten_hangs_and_everybody_is_answered() {
    for seed in 1..=3 {
        let report = world(seed, true, Some(one_percent()));
        let worst = report.slowest();
        let extra = report.attempts as f64 / report.requests as f64 - 1.0;
        println!(
            "seed {seed}: at worst {worst:?}, {:.3} % more load",
            extra * 100.0
        );
        assert_eq!(report.error_rate(), 0.0, "{report}");
        assert!(worst <= ms(400), "{report}");
        assert!(extra <= 0.004, "{report}");
    }
    // What the test would see otherwise.
    let none = world(1, true, None);
    assert!(none.error_rate() > 0.0 || none.slowest() > s(1), "{none}");
}

#[test]
fn all_are_slow_and_the_budget_holds() {
    let report = world(1, false, Some(one_percent()));
    let extra = report.attempts - report.requests;
    println!("all slow: {extra} more of {}", report.requests);
    // One per cent, and a bank of ten seconds of it.
    assert!(extra <= report.requests / 100 + 20, "{report}");
    assert!(extra >= report.requests / 100 - 20, "{report}");
}
