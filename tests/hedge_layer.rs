//! `HedgeLayer` around services of any kind.

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use support::ms;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};
use tower_mesh::RequestOptions;
use tower_mesh::policy::{Budget, Hedge, Retry};
use tower_mesh::retry::{HedgeLayer, HedgeWhen, RetryLayer};

/// Answers the nth call after that time and with that status; counts calls and those that are under way.
#[derive(Clone)]
struct Server {
    script: Arc<Vec<(u64, u16)>>,
    calls: Arc<AtomicU32>,
    alive: Arc<()>,
    at: Arc<Mutex<Vec<Instant>>>,
}

impl Server {
    fn new(script: &[(u64, u16)]) -> Self {
        Self {
            script: Arc::new(script.to_vec()),
            calls: Arc::default(),
            alive: Arc::default(),
            at: Arc::default(),
        }
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    fn under_way(&self) -> usize {
        Arc::strong_count(&self.alive) - 1
    }

    fn service(
        &self,
    ) -> impl Service<Request<String>, Response = Response<String>, Error = String> + Clone + use<>
    {
        let Self {
            script,
            calls,
            alive,
            at,
        } = self.clone();
        let alive = Arc::downgrade(&alive);
        tower::service_fn(move |_: Request<String>| {
            let n = calls.fetch_add(1, Ordering::Relaxed) as usize;
            let (wait, status) = script[n.min(script.len() - 1)];
            let alive = alive.upgrade();
            at.lock().unwrap().push(Instant::now());
            async move {
                let _alive = alive;
                tokio::time::sleep(ms(wait)).await;
                match status {
                    0 => Err("broken".to_owned()),
                    status => Ok(Response::builder()
                        .status(status)
                        .body(format!("{n}"))
                        .unwrap()),
                }
            }
        })
    }
}

fn request(method: &str) -> Request<String> {
    let request = Request::builder().method(method).uri("http://web/");
    request.body(String::new()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_wins_and_the_loser_is_dropped() {
    // What the two attempts do; who answers, when, after how many calls.
    for (script, winner, status, took, calls) in [
        ([(50, 200), (0, 200)], "0", 200, 50, 1),
        ([(900, 200), (30, 200)], "1", 200, 130, 2),
        ([(120, 200), (300, 200)], "0", 200, 120, 2),
        // One that fails does not win.
        ([(900, 200), (30, 503)], "0", 200, 900, 2),
        ([(900, 200), (30, 0)], "0", 200, 900, 2),
        ([(120, 503), (100, 200)], "1", 200, 200, 2),
        ([(120, 503), (100, 502)], "1", 502, 200, 2),
        // And before its time there is no other.
        ([(50, 503), (0, 200)], "0", 503, 50, 1),
    ] {
        let server = Server::new(&script);
        let layer = HedgeLayer::new(Hedge::after(ms(100)));
        let start = Instant::now();
        let response = layer.layer(server.service()).oneshot(request("GET")).await;
        let response = response.unwrap();
        assert_eq!(
            (response.status().as_u16(), &**response.body()),
            (status, winner),
            "{script:?}"
        );
        assert_eq!(
            ((Instant::now() - start), server.calls()),
            (ms(took), calls),
            "{script:?}"
        );
        assert_eq!(server.under_way(), 0, "{script:?}");
        assert_eq!(layer.budget().withdrawals(), u64::from(calls) - 1);
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_is_safe_and_paid_for() {
    let hedge = Hedge::after(ms(100));
    let mut marked = request("POST");
    let options = RequestOptions::new().safe_to_repeat();
    marked.extensions_mut().insert(options);
    let mut refused = request("GET");
    refused
        .extensions_mut()
        .insert(RequestOptions::new().no_retries());
    for (asked, calls) in [
        (request("GET"), 2),
        (request("HEAD"), 2),
        (request("POST"), 1),
        (request("PUT"), 1),
        (marked, 2),
        (refused, 1),
    ] {
        let server = Server::new(&[(500, 200)]);
        let method = asked.method().clone();
        let service = HedgeLayer::new(hedge).layer(server.service());
        service.oneshot(asked).await.unwrap();
        assert_eq!(server.calls(), calls, "{method}");
    }
    let server = Server::new(&[(500, 200)]);
    let one_percent = Budget::percent(1)
        .min_per_sec(0)
        .bank(Duration::from_secs(10));
    let layer = HedgeLayer::new(hedge.budget(one_percent));
    for _ in 0..1000 {
        layer
            .layer(server.service())
            .oneshot(request("GET"))
            .await
            .unwrap();
    }
    // All of them are slow: one per cent, and what was in the bank.
    assert_eq!(server.calls(), 1000 + 10 + 9);
    assert_eq!(layer.budget().refusals(), 1000 - 19);
}

#[tokio::test(start_paused = true)]
async fn a_percentile_is_tracked() {
    // One of fifty takes a second, the others ten milliseconds.
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let service = tower::service_fn(move |first: bool| {
        counted.fetch_add(1, Ordering::Relaxed);
        let wait = if first { ms(1000) } else { ms(10) };
        async move {
            tokio::time::sleep(wait).await;
            Ok::<_, ()>(())
        }
    });
    /// Slow ones are fast the second time.
    #[derive(Clone)]
    struct Always;
    impl HedgeWhen<bool, (), ()> for Always {
        fn is_safe(&self, _: &bool) -> bool {
            true
        }
        fn wins(&self, result: &Result<(), ()>) -> bool {
            result.is_ok()
        }
    }
    let layer = HedgeLayer::new(Hedge::after_percentile(95))
        .when(Always)
        .clone_request(|_: &bool| Some(false));
    let mut service = layer.layer(service);
    let mut slow = Vec::new();
    for n in 0..2000u32 {
        let start = Instant::now();
        let answer = service.call(n % 50 == 49).await;
        assert_eq!(answer, Ok(()));
        if n >= 1000 {
            slow.push(Instant::now() - start);
        }
    }
    let worst = slow.iter().max().unwrap();
    assert!(*worst < ms(150), "{worst:?}");
    let extra = calls.load(Ordering::Relaxed) - 2000;
    assert!((20..=140).contains(&extra), "{extra}");
}

#[tokio::test(start_paused = true)]
async fn retries_and_hedges_draw_from_one_budget() {
    let nothing_more = Budget::percent(0).min_per_sec(1).bank(Duration::ZERO);
    let retry = RetryLayer::new(Retry::on(503..=503).no_backoff().budget(nothing_more)).when(
        |result: &Result<Response<String>, String>| {
            result
                .as_ref()
                .is_ok_and(|response| response.status() == 503)
        },
    );
    let budget = retry.budget().unwrap().clone();
    let hedge = HedgeLayer::new(Hedge::after(ms(100))).within(&budget);
    let server = Server::new(&[(110, 503)]);
    let service = retry.layer(hedge.layer(server.service()));
    for _ in 0..20 {
        service.clone().oneshot(request("GET")).await.unwrap();
    }
    let extra = u64::from(server.calls()) - 20;
    assert_eq!(extra, budget.withdrawals());
    assert!((10..=14).contains(&extra), "{extra}");
}

#[tokio::test(start_paused = true)]
async fn dropped_at_any_time_it_leaves_nothing() {
    for until in (0..=250).step_by(10) {
        let server = Server::new(&[(150, 503), (400, 200)]);
        let layer = HedgeLayer::new(Hedge::after(ms(100)));
        let call = layer.layer(server.service()).oneshot(request("GET"));
        let _ = tokio::time::timeout(ms(until), call).await;
        assert_eq!(server.under_way(), 0, "{until}");
        let extra = server.calls().saturating_sub(1);
        assert_eq!(layer.budget().withdrawals(), u64::from(extra), "{until}");
    }
}
