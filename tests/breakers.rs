//! The breakers within a client: limits, panic, probes, dry run, and a hand on them.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Request;
use support::{Log, Mesh, Reply, address, addresses, ejected, get, ms, ok, s, steady, with};
use tokio::time::Instant;
use tower_mesh::breaker::Forced;
use tower_mesh::policy::{ClientPolicy, FailureAccrual, Ratio, Retry};
use tower_mesh::{Body, Client, RequestOptions};

fn client(mesh: &Mesh, count: u8, accrual: FailureAccrual) -> Client {
    let policy = ClientPolicy::http().failure_accrual(accrual);
    Client::builder(policy.build().unwrap())
        .endpoints(addresses(count))
        .seed(1)
        .build(mesh.connect())
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_share_is_ejected_and_one_always_may() {
    for (count, percent, most) in [(10, 30, 3), (10, 35, 3), (3, 10, 1), (3, 0, 1), (3, 67, 2)] {
        let mesh = Mesh::new(|_, _| Reply::Status(503, ms(1)));
        let accrual = FailureAccrual::consecutive(1).max_ejected(Ratio::percent(percent));
        let client = client(&mesh, count, accrual);
        for _ in 0..100 {
            let _ = client.request(get()).await;
        }
        assert_eq!(ejected(&client), most, "{percent} % of {count}");
        let snapshot = client.snapshot();
        assert!(snapshot.backends[0].ejections_refused > 50);
        assert!(
            snapshot.to_string().contains(" ejections refused"),
            "{snapshot}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_panics_asks_the_ejected() {
    let down = Arc::new(AtomicBool::new(true));
    let bad = Arc::clone(&down);
    let mesh = Mesh::new(move |_, _| {
        if bad.load(Ordering::Relaxed) {
            Reply::Status(503, ms(1))
        } else {
            ok()
        }
    });
    let accrual = FailureAccrual::consecutive(1).backoff(steady(s(10)));
    let careful = client(&mesh, 3, accrual.clone());
    let panicking = client(&mesh, 3, accrual.panic_after(4));
    for client in [&careful, &panicking] {
        for _ in 0..3 {
            let _ = client.request(get()).await;
        }
        assert_eq!(ejected(client), 3);
    }
    down.store(false, Ordering::Relaxed);
    let start = Instant::now();
    assert!(careful.request(get()).await.is_err());
    for _ in 0..30 {
        assert_eq!(panicking.request(get()).await.unwrap().status(), 200);
    }
    assert!(Instant::now() - start < s(5));
    assert_eq!(ejected(&panicking), 3, "panic decides nothing");
    tokio::time::sleep(s(10)).await;
    for _ in 0..10 {
        assert_eq!(panicking.request(get()).await.unwrap().status(), 200);
    }
    assert_eq!(ejected(&panicking), 0, "probes do");
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_a_request_that_may_be_repeated_elsewhere() {
    let mesh = Mesh::with_failing(1, 503);
    let log = Log::default();
    let policy = ClientPolicy::http()
        .retry(Retry::on(500..=599).no_backoff())
        .failure_accrual(FailureAccrual::consecutive(1).backoff(steady(s(1))))
        .build()
        .unwrap();
    let client = Client::builder(policy)
        .endpoints(addresses(3))
        .observer(log.observer())
        .seed(1)
        .build(mesh.connect())
        .unwrap();
    let post = || {
        let request = Request::post("http://web.shop/");
        request.body(Body::empty()).unwrap()
    };
    // Of ten requests one may be repeated: all probes are made by those.
    let (mut probes, mut posts) = (0, 0);
    for n in 0..2000 {
        let before = log.count("probing");
        let request = if n % 10 == 0 { get() } else { post() };
        let status = client.request(request).await.unwrap().status();
        let probed = log.count("probing") - before;
        if n >= 100 {
            probes += probed;
            posts += if n % 10 == 0 { 0 } else { probed };
            assert_eq!(status, 200);
        }
        tokio::time::sleep(ms(20)).await;
    }
    assert!(probes > 20, "{probes}");
    // But for one that those who may did not meet for a whole wait.
    assert!(posts * 20 <= probes, "{posts} of {probes}");
    // None comes any more: others do it, one wait later at most.
    let before = log.count("probing");
    for _ in 0..500 {
        let _ = client.request(post()).await;
        tokio::time::sleep(ms(20)).await;
    }
    assert!(log.count("probing") - before >= 4);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_judges_and_refuses_nothing() {
    let mesh = Mesh::with_failing(1, 503);
    let client = client(&mesh, 1, FailureAccrual::consecutive(3).dry_run());
    for _ in 0..20 {
        assert_eq!(client.request(get()).await.unwrap().status(), 503);
    }
    let state = client.breakers().of(address(1))[0].state();
    assert!(state.dry_run && state.is_open());
    assert_eq!(state.refused, 17);
    let shown = state.to_string();
    assert!(shown.starts_with("dry run: opened 0."), "{shown}");
    assert!(shown.contains("3 failures in a row"), "{shown}");
    tokio::time::sleep(s(100)).await;
    for _ in 0..3 {
        assert_eq!(client.request(get()).await.unwrap().status(), 503);
    }
    assert_eq!(client.breakers().of(address(1))[0].state().failed_probes, 1);
}

#[tokio::test(start_paused = true)]
async fn breakers_can_be_taken_in_hand() {
    let mesh = Mesh::new(|_, _| ok());
    let client = client(&mesh, 2, FailureAccrual::consecutive(3));
    let mut events = client.breakers().subscribe();
    assert_eq!(client.breakers().all().len(), 2);
    let first = client.breakers().of(address(1)).remove(0);
    first.force_open();
    for _ in 0..50 {
        client.request(get()).await.unwrap();
    }
    assert!(mesh.seen().iter().all(|seen| seen.endpoint == address(2)));
    assert_eq!(first.state().forced, Some(Forced::Open));
    assert!(client.snapshot().to_string().contains("held open"));
    // Nobody is left: that is refused, and no outage with probes.
    let second = client.breakers().of(address(2)).remove(0);
    second.force_open();
    let error = client.request(get()).await.unwrap_err();
    assert!(error.is_local(), "{error}");
    assert_eq!(mesh.seen().len(), 50);
    first.reset();
    second.force_closed();
    for _ in 0..50 {
        client.request(get()).await.unwrap();
    }
    assert_eq!(mesh.seen().len(), 100);
    let mut names = Vec::new();
    for _ in 0..4 {
        names.push(events.next().await.unwrap().decision.name());
    }
    assert_eq!(names, ["by_hand"; 4]);
    assert_eq!(first.state().to_string(), "closed");
}

#[tokio::test(start_paused = true)]
async fn forced_closed_it_stays_whatever_it_answers() {
    let mesh = Mesh::new(|_, _| Reply::Status(503, ms(1)));
    let client = client(&mesh, 1, FailureAccrual::consecutive(3));
    let breaker = client.breakers().all().remove(0);
    breaker.force_closed();
    for _ in 0..20 {
        assert_eq!(client.request(get()).await.unwrap().status(), 503);
    }
    breaker.reset();
    let mut events = client.breakers().subscribe();
    for _ in 0..3 {
        assert_eq!(client.request(get()).await.unwrap().status(), 503);
    }
    assert_eq!(events.next().await.unwrap().decision.name(), "opened");
    assert!(
        breaker
            .state()
            .to_string()
            .contains("3 failures in a row; next probe in 1.")
    );
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_worse_than_its_peers_is_ejected_and_named_as_such() {
    // Every third fails: no row of seven, and a success rate that is not looked at.
    let mesh = Mesh::new(|at, n| {
        if at == address(1) && n % 3 == 0 {
            Reply::Status(503, ms(10))
        } else {
            ok()
        }
    });
    let client = client(&mesh, 3, FailureAccrual::consecutive(7).worse_than_peers());
    let mut events = client.breakers().subscribe();
    // Each gets as much, whatever the balancer thinks of it.
    for n in 0..600u32 {
        let at = address((n % 3) as u8 + 1);
        let request = with(RequestOptions::new().pin(at));
        let _ = tokio::time::timeout(ms(100), client.request(request)).await;
    }
    let opened = tokio::time::timeout(s(1), events.next()).await.unwrap();
    let opened = format!("{:?}", opened.unwrap().decision);
    assert!(opened.contains("worse than its peers: "), "{opened}");
    assert!(opened.contains("10.0.0.1:"), "{opened}");
    assert!(!client.breakers().of(address(2))[0].state().is_open());
}
