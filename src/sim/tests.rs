use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use http::{Request, Response};
use tokio::time::Instant;
use tower_service::Service;

use super::*;
use crate::body::Body;
use crate::policy::{Budget, ClientPolicy, FailureAccrual, Load, Retry, Timeouts};

fn plain() -> ClientPolicy {
    ClientPolicy::http().build().unwrap()
}

fn careful() -> ClientPolicy {
    ClientPolicy::http()
        .timeouts(Timeouts::request(s(2)))
        .retry(Retry::on(500..=599).limit(2).budget(Budget::percent(20)))
        .failure_accrual(FailureAccrual::consecutive(3))
        .load(blind())
        .build()
        .unwrap()
}

// A load that does not see failures: the breaker gets its evidence.
fn blind() -> Load {
    let mut load = Load::default();
    load.extensions_mut().failures = false;
    load
}

/// Three endpoints, one of which goes through all that can happen to it.
fn eventful(seed: u64) -> World {
    let bad = healthy(Latency::lognormal(ms(20), ms(200)))
        .workers(4)
        .fails(0.5)
        .taking(ms(1))
        .between(s(2), s(5))
        .slow(10.0)
        .between(s(5), s(7))
        .hangs()
        .between(s(7), s(8))
        .down()
        .between(s(8), s(9))
        .resets(0.5)
        .between(s(9), s(10))
        .pauses()
        .between(s(10), s(11))
        .truncates(0.5)
        .between(s(11), s(12));
    World::seeded(seed)
        .policy(careful())
        .clients(2)
        .endpoint("good", healthy(Latency::uniform(ms(20), ms(50))))
        .endpoint("other", healthy(Latency::exponential(ms(20))).leaves(s(9)))
        .endpoint("bad", bad)
        .endpoint("late", healthy(ms(20)).joins(s(6)))
        .load(per_second(100).give_up(s(1)))
}

#[test]
fn a_worker_of_3_333333_ms_serves_300_requests_a_second() {
    let report = World::seeded(1)
        .policy(plain())
        .endpoint("one", healthy(Duration::from_nanos(3_333_333)).workers(1))
        .load(at_once(20))
        .run_for(s(10));
    let served: u64 = report.timeline.iter().map(|second| second.requests).sum();
    // Twenty callers that never wait: what was asked for is what was served, but for the last twenty.
    assert_eq!(served - 20, 3000, "{report}");
    for second in &report.timeline[1..] {
        assert_eq!(second.requests, 300);
    }
    let each = report.latency(0.5).as_secs_f64() * 1e3;
    assert!((each - 66.666_66).abs() < 0.04, "twenty in line: {each} ms");
}

/// Writes down when it was called, and answers at once.
#[derive(Clone)]
struct Notes(Arc<Mutex<Vec<Instant>>>);

impl Service<Request<Body>> for Notes {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        self.0.lock().unwrap().push(Instant::now());
        std::future::ready(Ok(Response::new(Body::empty())))
    }
}

#[test]
fn events_100_ns_apart_happen_in_order_and_at_their_time() {
    let notes = Notes(Arc::default());
    let seen = notes.clone();
    let report = World::seeded(1)
        .endpoint("unused", healthy(ms(1)))
        .stack(move |_: &Site| notes.clone())
        .load(per_second(10_000_000).evenly())
        .run_for(ms(3));
    let seen = seen.0.lock().unwrap();
    assert_eq!(report.requests, 30_000);
    for pair in seen.windows(2) {
        assert_eq!(pair[1] - pair[0], Duration::from_nanos(100));
    }
}

#[test]
fn tokios_timers_fire_at_their_millisecond_between_events() {
    /// Sleeps, and writes down when it woke.
    #[derive(Clone)]
    struct Sleeper(Arc<Mutex<Vec<(Duration, Duration)>>>, Instant);
    impl Service<Request<Body>> for Sleeper {
        type Response = Response<Body>;
        type Error = std::convert::Infallible;
        type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, Self::Error>>>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, _: Request<Body>) -> Self::Future {
            let Self(notes, start) = self.clone();
            Box::pin(async move {
                let asked = Instant::now() - start;
                tokio::time::sleep(Duration::from_micros(3_330)).await;
                notes.lock().unwrap().push((asked, Instant::now() - start));
                Ok(Response::new(Body::empty()))
            })
        }
    }
    for rate in [1.0, 300.0, 5_000.0] {
        let notes = Arc::default();
        let stack = Arc::clone(&notes);
        World::seeded(1)
            .endpoint("unused", healthy(ms(1)))
            .stack(move |_: &Site| Sleeper(Arc::clone(&stack), Instant::now()))
            .load(per_second(rate))
            .run_for(s(5));
        let notes = notes.lock().unwrap();
        assert!(!notes.is_empty());
        for (asked, woke) in &*notes {
            let due = (*asked + Duration::from_micros(3_330)).as_nanos() as u64;
            let tick = due.div_ceil(1_000_000) * 1_000_000;
            assert_eq!(
                woke.as_nanos() as u64,
                tick,
                "asked at {asked:?}, {rate} a second"
            );
        }
    }
}

#[test]
fn whoever_yields_goes_on_before_time_does() {
    let report = World::seeded(1)
        .endpoint("unused", healthy(ms(1)))
        .stack(|_: &Site| {
            tower::service_fn(|_: Request<Body>| async {
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                    // A task of the stack's own, too.
                    let _ = tokio::spawn(tokio::task::yield_now()).await;
                }
                Ok::<_, crate::BoxError>(Response::new(Body::empty()))
            })
        })
        .load(per_second(1000))
        .run_for(s(2));
    assert!(report.requests > 1_800);
    assert_eq!(report.slowest(), Duration::ZERO, "{report}");
}

#[test]
fn the_same_seed_makes_the_same_run_and_another_does_not() {
    let first = eventful(1).run_for(s(14));
    assert!(first.requests > 2_500, "{first}");
    for name in [
        "picked",
        "retried",
        "opened",
        "probing",
        "closed",
        "endpoints",
    ] {
        assert!(first.decisions.contains_key(name), "no {name}: {first}");
    }
    let again = eventful(1).run_for(s(14));
    assert_eq!(first.to_json(), again.to_json());
    assert_ne!(first.digest, eventful(2).run_for(s(14)).digest);
}

#[test]
fn another_client_changes_nothing_for_those_that_are_there() {
    let run = |clients| {
        World::seeded(3)
            .policy(careful())
            .clients(clients)
            .endpoint("a", healthy(Latency::exponential(ms(20))))
            .endpoint("b", healthy(Latency::exponential(ms(20))).fails(0.5))
            .endpoint("c", healthy(Latency::exponential(ms(20))))
            .load(per_second(50))
            .run_for(s(20))
    };
    let of_the_first = |report: Report| -> Vec<_> {
        let mut events = report.events;
        events.retain(|event| event.client == 0);
        events
    };
    let alone = of_the_first(run(1));
    assert!(alone.len() > 4, "{alone:?}");
    assert_eq!(alone, of_the_first(run(3)));
}

#[tokio::test]
async fn inside_a_runtime_it_says_what_to_do() {
    let error = eventful(1).try_run_for(s(1)).unwrap_err();
    assert!(matches!(error, SimError::InsideRuntime));
    assert!(error.to_string().contains("`#[test]`"), "{error}");
    let elsewhere = std::thread::spawn(|| eventful(1).run_for(s(1)).requests);
    assert!(elsewhere.join().unwrap() > 0);
}

#[test]
fn what_cannot_run_is_an_error_that_says_why() {
    let world = || {
        World::seeded(1)
            .policy(plain())
            .endpoint("a", healthy(ms(1)))
    };
    let error = |world: World| world.try_run_for(s(1)).unwrap_err().to_string();
    let cases = [
        (error(World::seeded(1).policy(plain())), ".endpoint("),
        (
            error(World::seeded(1).endpoint("a", healthy(ms(1)))),
            ".policy(",
        ),
        (error(world().policy("a: [")), "not YAML"),
        (error(world().clients(0)), "clients"),
        (error(world().warmup(s(1))), "warmup"),
        (error(world().load(at_once(0))), "load"),
        (
            error(world().load(per_second(1).path("no path"))),
            "no path",
        ),
        (
            error(world().endpoint("b", healthy(ms(1)).fails(2.0))),
            "endpoint b",
        ),
        (
            error(world().endpoint("b", healthy(ms(1)).of("nobody:80"))),
            "nobody:80",
        ),
        (
            world().try_run_for(s(0)).unwrap_err().to_string(),
            "duration",
        ),
    ];
    for (error, part) in cases {
        assert!(error.contains(part), "{error:?} does not name {part}");
    }
}

#[test]
fn lines_are_first_in_first_out_and_abandoned_work_is_done_or_not() {
    // Forty a second for a worker that can do fifty, but stood still for ten seconds. Callers wait one.
    let run = |server: Server| {
        World::seeded(1)
            .policy(plain())
            .endpoint("one", server.workers(1).pauses().between(s(0), s(10)))
            .load(per_second(40).evenly().give_up(s(1)))
            .run_for(s(60))
    };
    let stubborn = run(healthy(ms(20)));
    let considerate = run(healthy(ms(20)).drops_abandoned());
    // 400 are in line, and it makes up for 10 a second.
    assert_eq!(stubborn.error_rate_in(s(10)..s(40)), 1.0, "{stubborn}");
    assert_eq!(stubborn.error_rate_in(s(50)..s(60)), 0.0, "{stubborn}");
    assert_eq!(
        considerate.error_rate_in(s(11)..s(60)),
        0.0,
        "{considerate}"
    );
}

#[test]
fn grpc_failures_and_truncated_answers_are_errors_to_their_callers() {
    let run = |server: Server| {
        World::seeded(1)
            .endpoint("one", server)
            .stack(|site: &Site| site.leaf(&site.endpoints().borrow()[0]))
            .load(per_second(100).grpc().body_bytes(3))
            .run_for(s(2))
    };
    assert_eq!(run(healthy(ms(1))).error_rate(), 0.0);
    let failing = run(healthy(ms(1)).fails(1.0).grpc_status(13));
    assert_eq!(
        failing.errors.keys().collect::<Vec<_>>(),
        ["grpc status 13"]
    );
    let broken = run(healthy(ms(1)).truncates(1.0));
    assert_eq!(broken.errors.keys().collect::<Vec<_>>(), ["no trailers"]);
}

#[test]
fn what_is_not_answered_by_the_end_is_an_error_and_warmup_does_not_count() {
    let report = World::seeded(1)
        .policy(plain())
        .endpoint("one", healthy(ms(1)).hangs().between(s(5), s(6)))
        .load(per_second(10).evenly())
        .warmup(s(2))
        .run_for(s(10));
    assert_eq!(report.requests, 80);
    assert_eq!(report.errors.get("not answered"), Some(&10), "{report}");
    assert_eq!(report.timeline.len(), 8);
    assert_eq!(report.timeline.iter().map(|s| s.requests).sum::<u64>(), 80);
    assert_eq!(report.attempts, 80);
}
