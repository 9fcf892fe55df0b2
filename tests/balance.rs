//! The balancer on its own, over services that are not HTTP.

mod support;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use support::{addresses, ms, s};
use tokio::time::Instant;
use tower::{Service, ServiceExt};
use tower_mesh::balance::{Balance, BalanceError};
use tower_mesh::discover::{Endpoints, Update};
use tower_mesh::policy::{FailureAccrual, Load, Queue};
use tower_mesh::{BoxError, Endpoint, Verdict};

/// Answers its own address, after a while, unless it is told otherwise.
#[derive(Clone)]
struct Db {
    address: std::net::SocketAddr,
    script: Arc<Script>,
}

#[derive(Default)]
struct Script {
    calls: AtomicUsize,
    failing: AtomicU32,
    unready: AtomicU32,
    alive: Arc<()>,
    silent: AtomicBool,
}

#[derive(Debug, thiserror::Error)]
#[error("no rows for {0}")]
struct DbError(String);

impl Service<String> for Db {
    type Response = std::net::SocketAddr;
    type Error = DbError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DbError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DbError>> {
        // One bit for each endpoint.
        let bit = bit(self.address);
        match self.script.unready.load(Ordering::Relaxed) & bit {
            0 => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    }

    fn call(&mut self, request: String) -> Self::Future {
        self.script.calls.fetch_add(1, Ordering::Relaxed);
        let failing = self.script.failing.load(Ordering::Relaxed) & bit(self.address) != 0;
        let silent = self.script.silent.load(Ordering::Relaxed);
        let (address, alive) = (self.address, Arc::clone(&self.script.alive));
        Box::pin(async move {
            let _alive = alive;
            tokio::time::sleep(ms(10)).await;
            if silent {
                std::future::pending::<()>().await;
            }
            if failing {
                return Err(DbError(request));
            }
            Ok(address)
        })
    }
}

fn bit(address: std::net::SocketAddr) -> u32 {
    addresses(30)
        .iter()
        .position(|a| *a == address)
        .map_or(0, |place| 1 << place)
}

fn balance(script: &Arc<Script>, count: usize) -> Balance<Db> {
    let script = Arc::clone(script);
    Balance::builder()
        .named("orders")
        .seed(1)
        .failure_accrual(FailureAccrual::consecutive(2))
        .queue(Queue {
            capacity: 3,
            failfast_timeout: s(1),
        })
        .endpoints(addresses(count as u8))
        .build(move |endpoint: &Endpoint| Db {
            address: endpoint.address(),
            script: Arc::clone(&script),
        })
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn spreads_calls_and_avoids_what_fails() {
    let script = Arc::new(Script::default());
    let balance = balance(&script, 4);
    script.failing.store(1, Ordering::Relaxed);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..400 {
        let balance = balance.clone();
        calls.spawn(balance.oneshot("SELECT 1".to_owned()));
        tokio::time::sleep(ms(5)).await;
    }
    let mut counts = [0; 4];
    let mut failed = 0;
    for result in calls.join_all().await {
        match result {
            Ok(address) => counts[bit(address).trailing_zeros() as usize] += 1,
            Err(error) => {
                assert_eq!(error.inner::<DbError>().unwrap().0, "SELECT 1");
                assert_eq!(error.endpoint().unwrap().address(), addresses(1)[0]);
                assert!(!error.is_local());
                assert!(error.downcast::<DbError>().is_ok());
                failed += 1;
            }
        }
    }
    assert!(failed <= 4, "{failed}");
    assert!(counts[1..].iter().all(|count| *count > 80), "{counts:?}");
    assert_eq!(balance.pending(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_ready_does_not_block_the_others() {
    let script = Arc::new(Script::default());
    script.unready.store(0b011, Ordering::Relaxed);
    let mut balance = balance(&script, 3);
    for _ in 0..30 {
        let begun = Instant::now();
        // One pair in three is of the two that are not ready: those wait, and are told so.
        match balance.call(String::new()).await {
            Ok(address) => {
                assert_eq!(address, addresses(3)[2]);
                assert_eq!(Instant::now() - begun, ms(10));
            }
            Err(error) => {
                assert!(error.is_local(), "{error}");
                assert!(error.to_string().contains("no room"), "{error}");
            }
        }
    }
    assert_eq!(balance.pending(), 0);
}

#[tokio::test(start_paused = true)]
async fn waits_for_endpoints_and_not_for_ever() {
    let script = Arc::new(Script::default());
    let balance = balance(&script, 0);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..4 {
        calls.spawn(balance.clone().oneshot(String::new()));
    }
    tokio::time::sleep(ms(500)).await;
    // Three may wait, and the fourth was told at once.
    let error = calls.try_join_next().unwrap().unwrap().unwrap_err();
    assert!(matches!(error, BalanceError::QueueFull { capacity: 3, .. }));
    assert_eq!(balance.waiting(), 3);
    balance.update(Update::Add(vec![addresses(1)[0].into()]));
    for result in calls.join_all().await {
        assert_eq!(result.unwrap(), addresses(1)[0]);
    }
    assert_eq!(balance.waiting(), 0);
    // The last one has left: whoever calls now is refused after a second, for others may come.
    balance.update(Update::Remove(vec![addresses(1)[0]]));
    let begun = Instant::now();
    let error = balance.clone().oneshot(String::new()).await.unwrap_err();
    assert_eq!(Instant::now() - begun, s(1));
    assert!(error.is_local() && error.retry_at().is_none());
    assert!(error.to_string().contains("orders"), "{error}");
    // There are none, and whoever knows says so: no use in waiting, for those who do already, too.
    balance.update(Update::Add(vec![addresses(1)[0].into()]));
    balance.update(Update::Remove(vec![addresses(1)[0]]));
    let waiting = tokio::spawn(balance.clone().oneshot(String::new()));
    tokio::time::sleep(ms(100)).await;
    balance.update(Update::DoesNotExist);
    let begun = Instant::now();
    for call in [
        waiting,
        tokio::spawn(balance.clone().oneshot(String::new())),
    ] {
        let error = call.await.unwrap().unwrap_err();
        assert!(error.to_string().contains("does not exist"), "{error}");
    }
    assert_eq!(Instant::now(), begun);
}

#[tokio::test(start_paused = true)]
async fn everything_ejected_is_refused_with_a_time_and_probed() {
    let script = Arc::new(Script::default());
    script.failing.store(0b11, Ordering::Relaxed);
    let mut balance = balance(&script, 2);
    let mut calls = 0;
    let error = loop {
        let error = balance.call(String::new()).await.unwrap_err();
        if error.is_local() {
            break error;
        }
        calls += 1;
        assert!(calls < 20);
    };
    let retry_at = error.retry_at().unwrap();
    assert!(retry_at > Instant::now());
    script.failing.store(0, Ordering::Relaxed);
    tokio::time::sleep_until(retry_at).await;
    assert!(balance.call(String::new()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_leaves_nothing_behind_but_a_silence() {
    let script = Arc::new(Script::default());
    let balance = balance(&script, 2);
    // Both have answered.
    for _ in 0..10 {
        balance.clone().oneshot(String::new()).await.unwrap();
    }
    script.silent.store(true, Ordering::Relaxed);
    let waited = tokio::time::timeout(ms(200), balance.clone().oneshot(String::new())).await;
    assert!(waited.is_err());
    assert_eq!(balance.pending(), 0);
    assert_eq!(Arc::strong_count(&script.alive), 1);
    script.silent.store(false, Ordering::Relaxed);
    // The one that was silent is left alone, until its turn comes after five seconds.
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..10 {
        seen.insert(balance.clone().oneshot(String::new()).await.unwrap());
    }
    assert_eq!(seen.len(), 1);
    tokio::time::sleep(s(5)).await;
    for _ in 0..10 {
        seen.insert(balance.clone().oneshot(String::new()).await.unwrap());
    }
    assert_eq!(seen.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn over_services_without_addresses_and_with_a_judge() {
    let service = |n: u32| {
        tower::service_fn(move |_: ()| async move {
            // An error of the caller's is no fault of the service.
            if n == 9 {
                Err::<u32, BoxError>("bad question".into())
            } else {
                Ok(n)
            }
        })
    };
    let balance = Balance::builder()
        .seed(1)
        .load(Load::weighted_round_robin())
        .failure_accrual(FailureAccrual::consecutive(1))
        .classify(|_: &Result<u32, BoxError>| Verdict::Success)
        .over([service(0), service(1), service(9)]);
    let mut counts = [0; 3];
    for _ in 0..30 {
        match (&balance).call(()).await {
            Ok(n) => counts[n as usize] += 1,
            Err(error) => {
                assert!(error.to_string().contains("failed"), "{error}");
                counts[2] += 1;
            }
        }
    }
    assert_eq!(counts, [10, 10, 10]);
}

#[tokio::test(start_paused = true)]
async fn joins_are_published_together_and_the_first_at_once() {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<Result<Update, BoxError>>();
    let stream = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
    let script = Arc::new(Script::default());
    let published = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&published);
    let balance = Balance::builder()
        .endpoints(Endpoints::stream(stream))
        .observer(
            move |_: Instant, decision: &tower_mesh::core::observe::Decision| {
                count.fetch_add(
                    usize::from(decision.name() == "endpoints"),
                    Ordering::Relaxed,
                );
            },
        )
        .build(move |endpoint: &Endpoint| Db {
            address: endpoint.address(),
            script: Arc::clone(&script),
        })
        .unwrap();
    // The first call starts the driver.
    let first = tokio::spawn(balance.clone().oneshot(String::new()));
    let add = |n: u8| sender.send(Ok(Update::Add(vec![addresses(30)[n as usize].into()])));
    add(0).unwrap();
    tokio::time::sleep(ms(1)).await;
    assert_eq!(balance.endpoints(), 1);
    for n in 1..20 {
        add(n).unwrap();
    }
    tokio::time::sleep(ms(1)).await;
    assert_eq!(balance.endpoints(), 1, "they are gathered");
    tokio::time::sleep(ms(5)).await;
    assert_eq!(balance.endpoints(), 20);
    assert_eq!(published.load(Ordering::Relaxed), 2);
    // A reset does not wait, and what was gathered before it is no longer true.
    add(25).unwrap();
    let reset = addresses(3).into_iter().map(Into::into).collect();
    sender.send(Ok(Update::Reset(reset))).unwrap();
    tokio::time::sleep(ms(1)).await;
    assert_eq!(balance.endpoints(), 3);
    // An error changes nothing, nor does the end.
    sender.send(Err("gone".into())).unwrap();
    add(7).unwrap();
    drop(sender);
    tokio::time::sleep(ms(10)).await;
    assert_eq!(balance.endpoints(), 4);
    first.await.unwrap().unwrap();
}

#[test]
fn no_count_is_lost_under_churn() {
    soak(100_000);
}

#[test]
#[ignore = "seconds in a release build: `cargo test --release --test balance -- --include-ignored soak`"]
fn soak_of_ten_million_calls() {
    soak(5_000_000);
}

/// So many calls on each of two threads, while endpoints come, go and are ejected: then every count is zero.
fn soak(calls: u32) {
    let balance = Balance::builder()
        .seed(1)
        .failure_accrual(FailureAccrual::consecutive(3))
        .endpoints(addresses(20))
        .build(|_: &Endpoint| {
            tower::service_fn(|n: u32| async move {
                if n.is_multiple_of(7) {
                    Err::<u32, BoxError>("seven".into())
                } else {
                    Ok(n)
                }
            })
        })
        .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|thread| {
                let mut balance = balance.clone();
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_time()
                        .build();
                    runtime.unwrap().block_on(async {
                        for n in 0..calls {
                            let mut call = std::pin::pin!(balance.call(n));
                            if (n + thread) % 11 == 0 {
                                // Dropped without a poll, or after one.
                                let mut cx = Context::from_waker(std::task::Waker::noop());
                                if n % 2 == 0 {
                                    let _ = call.as_mut().poll(&mut cx);
                                }
                                continue;
                            }
                            let _ = call.await;
                        }
                    });
                })
            })
            .collect();
        let churn = scope.spawn(|| {
            let mut n = 0u8;
            while !stop.load(Ordering::Relaxed) {
                n = n.wrapping_add(7);
                let one = addresses(20)[(n % 20) as usize];
                balance.update(Update::Remove(vec![one]));
                std::thread::yield_now();
                balance.update(Update::Add(vec![one.into()]));
                std::thread::yield_now();
            }
        });
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        stop.store(true, Ordering::Relaxed);
        churn.join().unwrap();
    });
    assert_eq!(balance.endpoints(), 20);
    assert_eq!(balance.pending(), 0);
    assert_eq!(balance.waiting(), 0);
}

/// Those who wait are served in the order in which they came, and so is whoever comes while they are.
#[tokio::test(start_paused = true)]
async fn who_waits_goes_first() {
    let served = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&served);
    let balance = Balance::builder()
        .seed(1)
        .queue(Queue {
            capacity: 100,
            failfast_timeout: s(3),
        })
        .build(move |_: &Endpoint| {
            let log = Arc::clone(&log);
            tower::service_fn(move |n: u32| {
                log.lock().unwrap().push(n);
                std::future::ready(Ok::<u32, BoxError>(n))
            })
        })
        .unwrap();
    let mut calls = tokio::task::JoinSet::new();
    let mut polls = Vec::new();
    for n in 0..60 {
        let (mut own, count) = (balance.clone(), Arc::new(AtomicUsize::new(0)));
        polls.push(Arc::clone(&count));
        calls.spawn(async move {
            let mut call = std::pin::pin!(own.call(n));
            std::future::poll_fn(|cx| {
                count.fetch_add(1, Ordering::Relaxed);
                call.as_mut().poll(cx)
            })
            .await
        });
        if n % 3 == 0 {
            tokio::time::sleep(ms(1)).await;
        }
        // An empty update is none.
        balance.update(Update::Add(vec![]));
    }
    tokio::time::sleep(ms(1)).await;
    assert_eq!(balance.waiting(), 60);
    balance.update(Update::Add(vec![addresses(1)[0].into()]));
    // Before anybody was polled again.
    let late = balance.clone().oneshot(1000);
    calls.spawn(late);
    for result in calls.join_all().await {
        result.unwrap();
    }
    let served = served.lock().unwrap().clone();
    assert_eq!(served, (0..60).chain([1000]).collect::<Vec<_>>());
    // Once when they came and once when it was their turn; the first one keeps the time as well.
    let polls: Vec<_> = polls.iter().map(|n| n.load(Ordering::Relaxed)).collect();
    assert!(polls.iter().all(|polls| *polls <= 2), "{polls:?}");
}

/// Everything is out: one probe, and then the rest.
#[tokio::test(start_paused = true)]
async fn one_probe_and_then_the_rest() {
    let script = Arc::new(Script::default());
    script.failing.store(1, Ordering::Relaxed);
    let make = Arc::clone(&script);
    let balance = Balance::builder()
        .seed(1)
        .failure_accrual(FailureAccrual::consecutive(1))
        .queue(Queue {
            capacity: 100,
            failfast_timeout: s(10),
        })
        .endpoints(addresses(1))
        .build(move |endpoint: &Endpoint| Db {
            address: endpoint.address(),
            script: Arc::clone(&make),
        })
        .unwrap();
    balance.clone().oneshot(String::new()).await.unwrap_err();
    let polls = Arc::new(AtomicUsize::new(0));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (mut balance, polls) = (balance.clone(), Arc::clone(&polls));
        calls.spawn(async move {
            let mut call = std::pin::pin!(balance.call(String::new()));
            std::future::poll_fn(|cx| {
                polls.fetch_add(1, Ordering::Relaxed);
                call.as_mut().poll(cx)
            })
            .await
        });
    }
    // The first probe fails, and nobody else asks.
    let before = script.calls.load(Ordering::Relaxed);
    while script.calls.load(Ordering::Relaxed) == before {
        tokio::time::sleep(ms(1)).await;
    }
    tokio::time::sleep(ms(15)).await;
    assert_eq!(script.calls.load(Ordering::Relaxed), before + 1);
    assert_eq!(balance.waiting(), 49);
    // They came, and of those that did not probe one or two were woken since.
    let polls_so_far = polls.load(Ordering::Relaxed);
    assert!(polls_so_far <= 50 + 6, "{polls_so_far}");
    script.failing.store(0, Ordering::Relaxed);
    let results = calls.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_err()).count(), 1);
    assert_eq!(script.calls.load(Ordering::Relaxed), 1 + 50);
    let polls = polls.load(Ordering::Relaxed);
    // Each has come, was woken once by its predecessor, and once by its answer.
    assert!(polls <= 50 * 4, "{polls}");
    assert_eq!(balance.waiting(), 0);
}

/// Cancelled in any place, the others go on.
#[tokio::test(start_paused = true)]
async fn whoever_leaves_the_line_passes_its_turn_on() {
    let script = Arc::new(Script::default());
    let balance = balance(&script, 0);
    for left in 0..3 {
        let mut calls: Vec<_> = (0..3)
            .map(|_| Some(Box::pin(balance.clone().oneshot(String::new()))))
            .collect();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for call in calls.iter_mut().flatten() {
            assert!(call.as_mut().poll(&mut cx).is_pending());
        }
        balance.update(Update::Add(vec![addresses(1)[0].into()]));
        // Its turn may have come, and it goes before it looks.
        calls[left] = None;
        for call in calls.into_iter().flatten() {
            assert_eq!(call.await.unwrap(), addresses(1)[0]);
        }
        assert_eq!(balance.waiting(), 0);
        balance.update(Update::Remove(vec![addresses(1)[0]]));
    }
}
