//! What a breaker costs a call that succeeds, and one that it refuses: ours beside others, in one run.
//!
//! `cargo bench --manifest-path benches-peers/Cargo.toml --bench breaker`
//!
//! The state machine alone is told the time. Ours and tower-resilience's are whole services around one that is ready at
//! once; failsafe and recloser have no tower service and are called around a closure.
//!
//! What cannot be had for less is in the table, too. The future of a tower service owns what it needs, so that each call
//! clones and drops an `Arc`. A success with a window has its time, as have failures, or nobody knew when it leaves the
//! window: nothing tells the time but the clock, and what a batch of successes without one would be worth is a guess. A
//! refusal has to look whether a probe is due; it is counted, and the error names the breaker and what it opened for, by
//! the `Arc`. recloser's rejection is a word without any of that. So the goals for both, 1.5 times failsafe and recloser's
//! own time, lie below what the clock and the `Arc` take together, and ours are compared with their floors.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use benches_peers::{keep, medians};
use failsafe::CircuitBreaker as _;
use recloser::Recloser;
use tower_layer::Layer;
use tower_mesh::Verdict;
use tower_mesh::breaker::{Breaker, BreakerLayer, Breakers};
use tower_mesh::policy::{ExponentialBackoff, FailureAccrual, Ratio, Unified};
use tower_mesh::verdict::Outcome;
use tower_resilience_circuitbreaker::CircuitBreakerLayer;
use tower_service::Service;

#[derive(Clone)]
struct Leaf;

impl Service<u64> for Leaf {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        ready(Ok(request))
    }
}

fn call<S: Service<u64>>(service: &mut S) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    keep(service.poll_ready(&mut cx).is_ready());
    let mut future = std::pin::pin!(service.call(keep(1)));
    loop {
        // Pending where it waits for a lock.
        if let Poll::Ready(result) = future.as_mut().poll(&mut cx) {
            return keep(result.is_ok());
        }
        std::thread::yield_now();
    }
}

fn admit_and_record(breaker: &mut Breaker, now: tokio::time::Instant) {
    let now = keep(now);
    if let Some(admitted) = breaker.admit(now) {
        let outcome = keep(Outcome::SUCCESS);
        keep(breaker.record(now, admitted, &outcome, || 0, || true));
    }
}

/// Median nanoseconds of one call with so many threads that each have a clone.
fn threads<T: Clone + Send>(count: usize, shared: &T, call: impl Fn(&mut T) + Sync) -> f64 {
    const CALLS: u32 = 1_000_000;
    let mut times: Vec<f64> = (0..11)
        .map(|_| {
            let barrier = Barrier::new(count);
            let slowest = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..count)
                    .map(|_| {
                        let (mut mine, barrier, call) = (shared.clone(), &barrier, &call);
                        scope.spawn(move || {
                            barrier.wait();
                            let start = Instant::now();
                            for _ in 0..CALLS {
                                call(&mut mine);
                            }
                            start.elapsed()
                        })
                    })
                    .collect();
                let times = threads.into_iter().map(|thread| thread.join().unwrap());
                times.max().unwrap_or_default()
            });
            slowest.as_secs_f64() * 1e9 / f64::from(CALLS)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn judge(result: &Result<u64, Infallible>) -> Verdict {
    match result {
        Ok(_) => Verdict::Success,
        Err(_) => Verdict::Failure,
    }
}

fn main() {
    let consecutive = FailureAccrual::consecutive(5);
    let window = FailureAccrual::from(Unified::default());
    let layer = BreakerLayer::new(consecutive.clone()).classify(judge);
    let ours = layer.layer(Leaf);
    let ours_window = BreakerLayer::new(window).classify(judge).layer(Leaf);
    let hour = Duration::from_secs(3600);
    let long = ExponentialBackoff::try_new(hour, hour, Ratio::ZERO).unwrap();
    let mut ours_open = BreakerLayer::new(FailureAccrual::consecutive(1).backoff(long))
        .classify(|_: &Result<u64, Infallible>| Verdict::Failure)
        .layer(Leaf);
    call(&mut ours_open);
    let registry = Breakers::by(consecutive, |n: &u64| if *n == 0 { "zero" } else { "one" })
        .classify(judge)
        .layer(Leaf);

    let theirs = |open: bool| {
        let (layer, handle) = CircuitBreakerLayer::builder()
            .consecutive_failures(5)
            .wait_duration_in_open(Duration::from_secs(3600))
            .build_with_handle()
            .unwrap();
        if open {
            let runtime = tokio::runtime::Builder::new_current_thread();
            runtime_block_on(runtime, handle.force_open());
        }
        layer.layer(Leaf)
    };
    let (tower_resilience, tower_resilience_open) = (theirs(false), theirs(true));

    let failsafe = || {
        let backoff = failsafe::backoff::constant(Duration::from_secs(3600));
        let policy = failsafe::failure_policy::consecutive_failures(5, backoff);
        failsafe::Config::new().failure_policy(policy).build()
    };
    let failsafe_open = failsafe();
    for _ in 0..5 {
        let _ = failsafe_open.call(|| Err::<(), _>(()));
    }
    let failsafe = failsafe();
    let recloser = |open: bool| {
        let recloser = Recloser::custom()
            .closed_len(10)
            .open_wait(Duration::from_secs(3600))
            .build();
        for _ in 0..if open { 20 } else { 0 } {
            let _ = recloser.call(|| Err::<(), _>(()));
        }
        Arc::new(recloser)
    };
    let (recloser, recloser_open) = (recloser(false), recloser(true));

    // Each does what it says.
    assert!(call(&mut ours.clone()) && call(&mut ours_window.clone()));
    assert!(!call(&mut ours_open.clone()) && !call(&mut tower_resilience_open.clone()));
    assert!(failsafe_open.call(|| Ok::<_, ()>(1)).is_err());
    assert!(recloser_open.call(|| Ok::<_, ()>(1)).is_err());

    let now = tokio::time::Instant::now();
    let pure = |policy: FailureAccrual| Breaker::new(Some(&policy), now);
    let mut pure = (
        pure(FailureAccrual::consecutive(5)),
        pure(Unified::default().into()),
    );
    let mut ours_mut = (ours.clone(), ours_window.clone(), ours_open, registry);
    let mut theirs_mut = (tower_resilience.clone(), tower_resilience_open);
    let (mut leaf, mut owned, mut timed) = (Leaf, Leaf, Leaf);
    let (state, count) = (Arc::new(()), AtomicU64::new(0));
    let clock = tokio::time::Instant::now;
    let times = medians(
        20_000,
        101,
        [
            &mut || admit_and_record(&mut pure.0, now),
            &mut || admit_and_record(&mut pure.1, now),
            &mut || {
                call(&mut leaf);
            },
            &mut || {
                keep(clock());
            },
            &mut || {
                let _state = keep(Arc::clone(&state));
                call(&mut owned);
            },
            &mut || {
                let _state = keep(Arc::clone(&state));
                call(&mut timed);
                keep(clock());
                count.fetch_add(1, Ordering::Relaxed);
            },
            &mut || {
                call(&mut ours_mut.0);
            },
            &mut || {
                call(&mut ours_mut.1);
            },
            &mut || {
                call(&mut ours_mut.3);
            },
            &mut || {
                let _ = keep(failsafe.call(|| Ok::<_, ()>(keep(1))));
            },
            &mut || {
                let _ = keep(recloser.call(|| Ok::<_, ()>(keep(1))));
            },
            &mut || {
                call(&mut theirs_mut.0);
            },
            &mut || {
                call(&mut ours_mut.2);
            },
            &mut || {
                let _ = keep(failsafe_open.call(|| Ok::<_, ()>(keep(1))));
            },
            &mut || {
                let _ = keep(recloser_open.call(|| Ok::<_, ()>(keep(1))));
            },
            &mut || {
                call(&mut theirs_mut.1);
            },
        ],
    );
    let names = [
        "success: our state machine, consecutive",
        "success: our state machine, a window",
        "the service alone",
        "the clock",
        "floor: the service, an Arc",
        "floor: the service, an Arc, the clock, a count",
        "success: ours, consecutive",
        "success: ours, consecutive or a window",
        "success: ours, one of a registry's",
        "success: failsafe, consecutive",
        "success: recloser",
        "success: tower-resilience, consecutive",
        "refusal: ours",
        "refusal: failsafe",
        "refusal: recloser",
        "refusal: tower-resilience",
    ];
    for (name, time) in names.iter().zip(times) {
        println!("{name:<48} {time:7.1} ns");
    }
    println!();
    let time = |name: &str| times[names.iter().position(|it| *it == name).unwrap()];
    let failsafe_time = time("success: failsafe, consecutive");
    let floor = time("floor: the service, an Arc, the clock, a count");
    let window = time("success: ours, consecutive or a window");
    let refusal = time("refusal: ours");
    for (what, ours, theirs, goal) in [
        (
            "consecutive: of failsafe's",
            time("success: ours, consecutive"),
            failsafe_time,
            "1",
        ),
        (
            "consecutive, less the service alone",
            time("success: ours, consecutive") - time("the service alone"),
            failsafe_time,
            "1",
        ),
        (
            "a window: of failsafe's",
            window,
            failsafe_time,
            "1.5; the floor's is next",
        ),
        ("its floor: of failsafe's", floor, failsafe_time, "none"),
        ("a window: of its floor", window, floor, "1.5"),
        (
            "refusal: of recloser's",
            refusal,
            time("refusal: recloser"),
            "1; the floor's is next",
        ),
        (
            "its floor: of recloser's",
            floor,
            time("refusal: recloser"),
            "none",
        ),
        ("refusal: of its floor", refusal, floor, "1.5"),
    ] {
        println!("{what:<48} x{:6.2} (goal: {goal})", ours / theirs);
    }
    println!();
    let line = |name: &str, one: f64, two: f64| {
        println!(
            "{name:<28} one thread {one:7.1} ns, two {two:7.1} ns: x{:.1}",
            two / one
        );
    };
    let one = threads(1, &ours, |service| {
        call(service);
    });
    let two = threads(2, &ours, |service| {
        call(service);
    });
    line("ours, consecutive", one, two);
    let one = threads(1, &ours_window, |service| {
        call(service);
    });
    let two = threads(2, &ours_window, |service| {
        call(service);
    });
    line("ours, window", one, two);
    let one = threads(1, &tower_resilience, |service| {
        call(service);
    });
    let two = threads(2, &tower_resilience, |service| {
        call(service);
    });
    line("tower-resilience", one, two);
    let run = |breaker: &mut &_| {
        let breaker: &Recloser = breaker;
        {
            let _ = keep(breaker.call(|| Ok::<_, ()>(keep(1))));
        };
    };
    let shared: &Recloser = &recloser;
    line(
        "recloser",
        threads(1, &shared, run),
        threads(2, &shared, run),
    );
    let one = threads(1, &failsafe, |it| {
        let _ = keep(it.call(|| Ok::<_, ()>(1)));
    });
    let two = threads(2, &failsafe, |it| {
        let _ = keep(it.call(|| Ok::<_, ()>(1)));
    });
    line("failsafe, consecutive", one, two);
}

fn runtime_block_on<T>(mut runtime: tokio::runtime::Builder, future: impl Future<Output = T>) -> T {
    match runtime.build() {
        Ok(runtime) => runtime.block_on(future),
        Err(error) => panic!("{error}"),
    }
}
