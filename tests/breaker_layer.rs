//! The breaker as a layer of its own: around anything, by host, in an operator's hand.

mod support;

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use http::{Request, Response};
use support::{Log, get, ms, s};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_mesh::breaker::{
    BreakerError, BreakerHandle, BreakerLayer, BreakerService, Breakers, BreakersService, Forced,
    Gate, Refusal, Wait,
};
use tower_mesh::client::AnswerErrorsLayer;
use tower_mesh::core::observe::Decision;
use tower_mesh::policy::{ClientPolicy, ExponentialBackoff, FailureAccrual, Ratio};
use tower_mesh::verdict::{Sent, TransportError, TransportFailure};
use tower_mesh::{Body, BoxError, Client, Endpoint, Verdict};

type Rows = Vec<u64>;

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
enum DbError {
    #[error("the database is away")]
    Away,
    #[error("no such table")]
    Syntax,
}

impl DbError {
    fn is_transient(&self) -> bool {
        *self == Self::Away
    }
}

fn accrual(max_failures: u32) -> FailureAccrual {
    let backoff = ExponentialBackoff::try_new(s(1), s(60), Ratio::ZERO).unwrap();
    FailureAccrual::consecutive(max_failures).backoff(backoff)
}

/// What the database does next, and how often it was asked.
#[derive(Clone, Default)]
struct Database {
    answers: Arc<Mutex<Vec<Answer>>>,
    asked: Arc<AtomicUsize>,
    unready: Arc<AtomicBool>,
    wakers: Arc<Mutex<Vec<Waker>>>,
}

#[derive(Clone, Debug)]
enum Answer {
    Rows,
    Fails(DbError),
    Hangs,
    Panics,
    After(std::time::Duration),
}

impl Database {
    fn will(&self, answers: impl IntoIterator<Item = Answer>) {
        self.answers.lock().unwrap().extend(answers);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn set_ready(&self, ready: bool) {
        self.unready.store(!ready, Ordering::Relaxed);
        for waker in self.wakers.lock().unwrap().drain(..) {
            waker.wake();
        }
    }
}

impl Service<&'static str> for Database {
    type Response = Rows;
    type Error = DbError;
    type Future = Pin<Box<dyn Future<Output = Result<Rows, DbError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DbError>> {
        if self.unready.load(Ordering::Relaxed) {
            self.wakers.lock().unwrap().push(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: &'static str) -> Self::Future {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.is_empty() {
            Answer::Rows
        } else {
            answers.remove(0)
        };
        Box::pin(async move {
            match answer {
                Answer::Rows => Ok(vec![1]),
                Answer::Fails(error) => Err(error),
                Answer::Hangs => pending().await,
                Answer::Panics => panic!("scripted"),
                Answer::After(time) => {
                    tokio::time::sleep(time).await;
                    Ok(vec![2])
                }
            }
        })
    }
}

type Judge = fn(&Result<Rows, DbError>) -> Verdict;

struct Bench {
    database: Database,
    service: BreakerService<Database, Judge>,
    handle: BreakerHandle,
}

fn judge(result: &Result<Rows, DbError>) -> Verdict {
    match result {
        Err(error) if error.is_transient() => Verdict::Failure,
        _ => Verdict::Success,
    }
}

fn bench(layer: BreakerLayer) -> Bench {
    let database = Database::default();
    let layer = layer.classify(judge as Judge);
    Bench {
        service: layer.layer(database.clone()),
        handle: layer.handle(),
        database,
    }
}

impl Bench {
    fn call(&self) -> impl Future<Output = Result<Rows, BreakerError>> + Send + 'static + use<> {
        self.service.clone().oneshot("SELECT 1")
    }

    fn is_probing(&self) -> bool {
        matches!(self.handle.state().gate, Gate::HalfOpen { .. })
    }

    async fn trip(&self, failures: usize) {
        self.database
            .will(vec![Answer::Fails(DbError::Away); failures]);
        for _ in 0..failures {
            self.call().await.unwrap_err();
        }
        assert!(self.handle.state().is_open());
    }
}

fn is_open<T: std::fmt::Debug>(result: Result<T, BreakerError>) -> bool {
    matches!(result, Err(BreakerError::Open(_)))
}

/// Polls once.
fn poll_now<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test(start_paused = true)]
async fn it_opens_for_what_the_closure_calls_a_failure_and_says_why() {
    let b = bench(BreakerLayer::new(accrual(2)).named("orders"));
    b.database.will(vec![Answer::Fails(DbError::Syntax); 9]);
    for _ in 0..9 {
        let error = b.call().await.unwrap_err();
        assert!(!error.is_local());
        assert_eq!(error.inner(), Some(&DbError::Syntax));
        assert_eq!(error.downcast::<DbError>().unwrap(), DbError::Syntax);
    }
    b.trip(2).await;
    let asked = b.database.asked();
    tokio::time::advance(ms(200)).await;
    let error = b.call().await.unwrap_err();
    assert_eq!(b.database.asked(), asked);
    assert!(error.is_local());
    assert_eq!(error.retry_at(), Some(Instant::now() + ms(800)));
    assert_eq!(
        error.to_string(),
        "the breaker `orders` is open (2 failures in a row) and the call was not made: come back in 0.8 s"
    );
    let BreakerError::Open(refusal) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(
        (refusal.breaker(), &*refusal.why()),
        ("orders", "2 failures in a row")
    );
    // The error is found behind others, and is no DbError.
    let boxed: BoxError = error.into();
    assert!(BreakerError::find(&*boxed).unwrap().is_local());
    // And it closes.
    tokio::time::advance(ms(800)).await;
    assert_eq!(b.call().await.unwrap(), [1]);
    assert_eq!(b.handle.state().gate, Gate::Closed);
}

#[tokio::test(start_paused = true)]
async fn http_is_judged_by_its_status_and_errors_of_any_type_fit() {
    struct Api<S> {
        client: BreakerService<S>,
    }
    let statuses = Arc::new(Mutex::new(vec![500, 599, 404, 200, 503]));
    let client = service_fn(move |_: Request<Body>| {
        let status = statuses.lock().unwrap().pop().unwrap();
        let response = Response::builder().status(status).body(()).unwrap();
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let mut api = Api {
        client: ServiceBuilder::new()
            .layer(BreakerLayer::new(accrual(2)))
            .service(client),
    };
    for (status, failures) in [(503, 1), (200, 0), (404, 0), (599, 1), (500, 0)] {
        let response = api.client.call(get()).await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(api.client.handle().state().failures, failures, "{status}");
    }
    assert!(is_open(api.client.call(get()).await));

    // A boxed error, as tower's own layers have it.
    let failing =
        service_fn(|_: Request<Body>| async { Err::<Response<()>, _>(BoxError::from("no")) });
    let mut service = BreakerLayer::new(accrual(1)).layer(failing);
    let error = service.call(get()).await.unwrap_err();
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "no");
    assert!(is_open(service.call(get()).await));
}

#[tokio::test(start_paused = true)]
async fn services_of_one_layer_share_a_breaker_and_other_layers_do_not() {
    let layer = BreakerLayer::new(accrual(1)).classify(judge);
    let database = Database::default();
    database.will([Answer::Fails(DbError::Away)]);
    let one = layer.layer(database.clone());
    let two = layer.clone().layer(database.clone());
    one.oneshot("").await.unwrap_err();
    assert!(is_open(two.oneshot("").await));
    let other = BreakerLayer::new(accrual(1))
        .classify(judge)
        .layer(database);
    other.oneshot("").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_refuses_although_the_service_is_not_ready() {
    let b = bench(BreakerLayer::new(accrual(1)));
    b.trip(1).await;
    b.database.set_ready(false);
    assert!(is_open(b.call().await));
    // Also those who were let through before it opened, when they are looked at again.
    b.handle.reset();
    let mut early = pin!(b.call());
    assert!(poll_now(early.as_mut()).is_pending());
    b.handle.force_open();
    assert!(is_open(early.await));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_or_panics_frees_its_place() {
    let b = bench(BreakerLayer::new(accrual(1)));
    b.trip(1).await;
    tokio::time::advance(s(1)).await;
    b.database.will([Answer::Hangs]);
    let probe = b.call();
    {
        let mut probe = pin!(probe);
        assert!(poll_now(probe.as_mut()).is_pending());
        assert!(b.is_probing());
        let error = b.call().await.unwrap_err();
        assert!(error.is_local());
        assert_eq!(
            error.retry_at(),
            None,
            "nobody knows how the probe will end"
        );
    }
    // While the service is not ready, too.
    b.database.set_ready(false);
    {
        let mut probe = pin!(b.call());
        assert!(poll_now(probe.as_mut()).is_pending());
        assert!(b.is_probing());
    }
    b.database.set_ready(true);
    b.database.will([Answer::Panics]);
    let panicked = tokio::spawn(b.call()).await;
    assert!(panicked.unwrap_err().is_panic());
    assert!(b.call().await.is_ok());
    assert_eq!(b.handle.state().gate, Gate::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_straggler_from_before_the_trip_decides_no_probe() {
    let b = bench(BreakerLayer::new(accrual(1)));
    b.database.will([Answer::After(ms(1500))]);
    let straggler = tokio::spawn(b.call());
    tokio::task::yield_now().await;
    b.trip(1).await;
    tokio::time::advance(s(1)).await;
    b.database.will([Answer::Hangs]);
    let mut probe = Box::pin(b.call());
    assert!(poll_now(probe.as_mut()).is_pending());
    assert!(straggler.await.unwrap().is_ok());
    assert!(b.is_probing());
}

#[tokio::test(start_paused = true)]
async fn slow_calls_and_callers_that_left_count_if_the_policy_says_so() {
    let b = bench(BreakerLayer::new(accrual(2).slow_call(ms(100))));
    b.database
        .will([Answer::After(ms(50)), Answer::After(ms(101)), Answer::Hangs]);
    b.call().await.unwrap();
    b.call().await.unwrap();
    assert_eq!(b.handle.state().failures, 1);
    tokio::time::timeout(ms(150), b.call()).await.unwrap_err();
    assert!(b.handle.state().is_open());
}

#[tokio::test(start_paused = true)]
async fn refusals_further_in_and_the_callers_own_faults_are_neutral() {
    // A breaker within a breaker: the outer one counts what the service did, not what the inner one refused.
    let inner = BreakerLayer::new(accrual(1));
    let outer = BreakerLayer::new(accrual(3));
    let (inner_handle, outer_handle) = (inner.handle(), outer.handle());
    let service = service_fn(|kind: u8| async move {
        let failure = match kind {
            0 => TransportFailure::Broken,
            1 => TransportFailure::RequestBody,
            _ => TransportFailure::Request,
        };
        Err::<Response<()>, _>(TransportError::new(failure, Sent::Unknown, "scripted"))
    });
    let stack = ServiceBuilder::new()
        .layer(outer)
        .map_err(BoxError::from)
        .layer(inner)
        .service(service);
    for kind in [1, 2, 1, 2] {
        stack.clone().oneshot(kind).await.unwrap_err();
    }
    assert_eq!(inner_handle.state().failures, 0);
    for _ in 0..9 {
        let error = stack.clone().oneshot(0).await.unwrap_err();
        assert!(!error.is_local());
    }
    let error: BoxError = stack.clone().oneshot(0).await.unwrap_err().into();
    assert_eq!(Refusal::find(&*error).unwrap().breaker(), "breaker");
    assert!(inner_handle.state().is_open());
    assert_eq!(outer_handle.state().failures, 1);
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_woken_by_the_probes_due_time_and_by_its_end() {
    let b = bench(BreakerLayer::new(accrual(1)).wait(Wait::at_most(s(3600))));
    let start = Instant::now();
    b.trip(1).await;
    b.database.will([Answer::After(ms(500))]);
    let calls: Vec<_> = (0..5).map(|_| tokio::spawn(b.call())).collect();
    let mut ends = Vec::new();
    for call in calls {
        call.await.unwrap().unwrap();
        ends.push((Instant::now() - start).as_millis());
    }
    // One probe after a second; the others when it has come back.
    assert_eq!(ends, [1500; 5].map(|ms: u128| ms));
    assert_eq!(b.database.asked(), 6);
    assert_eq!(b.handle.state().refused, 0);

    // A waiter takes over from a probe that is dropped, and one who is dropped leaves nothing behind.
    b.trip(1).await;
    b.database.will([Answer::Hangs]);
    tokio::time::advance(s(1)).await;
    let mut probe = Box::pin(b.call());
    assert!(poll_now(probe.as_mut()).is_pending());
    let waiter = tokio::spawn(b.call());
    let mut gone = Box::pin(b.call());
    assert!(poll_now(gone.as_mut()).is_pending());
    drop(gone);
    tokio::time::sleep(s(5)).await;
    drop(probe);
    waiter.await.unwrap().unwrap();

    // A probe that never ends counts as lost after the longest wait.
    b.handle.reset();
    b.trip(1).await;
    tokio::time::advance(s(1)).await;
    b.database.will([Answer::Hangs]);
    let mut probe = Box::pin(b.call());
    assert!(poll_now(probe.as_mut()).is_pending());
    let lost = Instant::now() + s(60);
    b.call().await.unwrap();
    assert_eq!(Instant::now(), lost);
    drop(probe);
    assert!(!b.handle.state().is_open());

    // Opened by hand, there is no time to wait for.
    b.handle.force_open();
    let waiter = tokio::spawn(b.call());
    tokio::time::sleep(s(1000)).await;
    assert!(!waiter.is_finished());
    b.handle.reset();
    waiter.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_refused_in_time_and_behind_so_many() {
    let b = bench(BreakerLayer::new(accrual(1)).wait(Wait::at_most(s(2)).callers(3)));
    // Helped in time.
    b.trip(1).await;
    let start = Instant::now();
    b.call().await.unwrap();
    assert_eq!(Instant::now() - start, s(1));

    // The next probe is due after its time: refused at once, and told when to come back.
    b.trip(1).await;
    tokio::time::advance(s(1)).await;
    b.trip(1).await;
    tokio::time::advance(s(2)).await;
    b.trip(1).await;
    let error = b.call().await.unwrap_err();
    assert_eq!(error.retry_at(), Some(Instant::now() + s(4)));
    assert!(error.to_string().ends_with("come back in 4.0 s"), "{error}");

    // It is worth waiting for, and then comes to nothing.
    tokio::time::advance(s(3)).await;
    b.database.will([Answer::Hangs]);
    let probe = tokio::spawn(b.call());
    tokio::time::sleep(ms(1001)).await;
    assert!(b.is_probing());
    let start = Instant::now();
    let waiters: Vec<_> = (0..3).map(|_| tokio::spawn(b.call())).collect();
    tokio::task::yield_now().await;
    assert_eq!(b.handle.state().waiting, 3);
    assert!(b.handle.state().to_string().ends_with("; 3 waiting"));
    // One too many.
    let error = b.call().await.unwrap_err();
    assert_eq!(Instant::now(), start);
    assert!(
        error
            .to_string()
            .ends_with("come back later; 3 callers wait already"),
        "{error}"
    );
    for waiter in waiters {
        let error = waiter.await.unwrap().unwrap_err();
        assert!(
            error.to_string().ends_with("; it waited for 2.0 s"),
            "{error}"
        );
        assert_eq!(Instant::now() - start, s(2));
    }
    // Their places are free again; so are those of who leaves.
    let mut gone = Box::pin(b.call());
    assert!(poll_now(gone.as_mut()).is_pending());
    assert_eq!(b.handle.state().waiting, 1);
    drop(gone);
    assert_eq!(b.handle.state().waiting, 0);
    assert_eq!(b.handle.state().refused, 5);
    probe.abort();

    // Nobody waits for no time, or where there is no place.
    for wait in [Wait::at_most(s(0)), Wait::at_most(s(9)).callers(0)] {
        let b = bench(BreakerLayer::new(accrual(1)).wait(wait));
        b.trip(1).await;
        let start = Instant::now();
        assert!(is_open(b.call().await));
        assert_eq!(Instant::now(), start);
    }
    // By hand, there is no time to wait for but their own.
    let b = bench(BreakerLayer::new(accrual(1)).wait(Wait::at_most(s(7))));
    b.handle.force_open();
    let start = Instant::now();
    assert!(is_open(b.call().await));
    assert_eq!(Instant::now() - start, s(7));
}

#[tokio::test(start_paused = true)]
async fn events_for_who_subscribes() {
    let b = bench(BreakerLayer::new(accrual(1).probes(2)).named("db"));
    b.trip(1).await;
    let mut events = b.handle.subscribe();
    let mut other = b.service.handle().subscribe();
    tokio::time::advance(s(1)).await;
    // A probe that passes, one that is dropped, and one that closes it.
    b.call().await.unwrap();
    b.database.will([Answer::Hangs]);
    tokio::time::timeout(ms(500), b.call()).await.unwrap_err();
    b.call().await.unwrap();
    assert!(!b.handle.state().is_open());
    let names = [
        "breaker_probing",
        "breaker_probe_passed",
        "breaker_probing",
        "breaker_probe_returned",
        "breaker_probing",
        "breaker_closed",
    ];
    for name in names {
        let event = events.next().await.unwrap();
        assert_eq!((event.decision.name(), event.missed), (name, 0));
        assert_eq!(other.next().await.unwrap(), event);
    }
    // Who waits is woken.
    let next = tokio::spawn(async move {
        let event = events.next().await;
        (event, events)
    });
    tokio::task::yield_now().await;
    b.handle.force_open();
    let (event, mut events) = next.await.unwrap();
    let event = event.unwrap();
    assert_eq!(event.at, Instant::now());
    let opened = Decision::BreakerOpened {
        breaker: "db".into(),
        why: "opened by hand".into(),
        until: None,
    };
    assert_eq!(event.decision, opened);
    // Refusals are none; who does not read loses the oldest.
    drop(other);
    for n in 0..300 {
        assert!(is_open(b.call().await));
        if n % 2 == 0 {
            b.handle.reset();
        }
        b.handle.force_open();
    }
    let first = events.next().await.unwrap();
    // Each `force_open` is one, and each second time there is a `reset` before.
    assert_eq!(first.missed, 300 + 150 - 256);
    for _ in 1..256 {
        assert_eq!(events.next().await.unwrap().missed, 0);
    }
    assert!(poll_now(pin!(events.next())).is_pending());
    // It ends with the breaker.
    drop(b);
    assert_eq!(events.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn waiting_does_not_spin() {
    let b = bench(BreakerLayer::new(accrual(1)).wait(Wait::at_most(s(3600))));
    b.trip(1).await;
    let polls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&polls);
    let mut call = Box::pin(b.call());
    poll_fn(move |cx| {
        counted.fetch_add(1, Ordering::Relaxed);
        call.as_mut().poll(cx)
    })
    .await
    .unwrap();
    assert_eq!(polls.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn the_handle_reads_and_forces_it() {
    let b = bench(BreakerLayer::new(accrual(3)));
    assert_eq!(b.handle.state().to_string(), "closed");
    b.database.will(vec![Answer::Fails(DbError::Away); 2]);
    b.call().await.unwrap_err();
    b.call().await.unwrap_err();
    assert_eq!(b.handle.state().to_string(), "closed, 2 failures in a row");
    b.database.will([Answer::Fails(DbError::Away)]);
    b.call().await.unwrap_err();
    tokio::time::advance(ms(200)).await;
    assert!(is_open(b.call().await));
    assert_eq!(
        b.handle.state().to_string(),
        "opened 0.2 s ago: 3 failures in a row; next probe in 0.8 s; 1 refused"
    );
    tokio::time::advance(ms(800)).await;
    assert_eq!(
        b.handle.state().to_string(),
        "opened 1.0 s ago: 3 failures in a row; a probe is due; 1 refused"
    );
    b.trip(1).await;
    assert_eq!(
        b.handle.state().to_string(),
        "opened 1.0 s ago: 3 failures in a row; 1 probe failed; next probe in 2.0 s; 1 refused"
    );

    // By hand: whatever comes back, until it is let go.
    b.handle.force_closed();
    b.database.will(vec![Answer::Fails(DbError::Away); 10]);
    for _ in 0..10 {
        assert!(!is_open(b.call().await));
    }
    assert_eq!(b.handle.state().forced, Some(Forced::Closed));
    b.handle.force_open();
    tokio::time::advance(s(3600)).await;
    let error = b.call().await.unwrap_err();
    assert!(error.is_local() && error.retry_at().is_none());
    assert!(error.to_string().contains("opened by hand"), "{error}");
    assert_eq!(
        b.handle.state().to_string(),
        "opened by hand 3600.0 s ago; 2 refused"
    );
    b.handle.reset();
    assert_eq!(b.handle.state().to_string(), "closed; 2 refused");
    // As if nothing had been learned: three again, and the first wait again.
    b.trip(3).await;
    assert_eq!(
        b.call().await.unwrap_err().retry_at(),
        Some(Instant::now() + s(1))
    );

    // What was in flight when it was forced decides nothing.
    b.handle.reset();
    b.database.will(vec![Answer::After(s(1)); 3]);
    let calls: Vec<_> = (0..3).map(|_| tokio::spawn(b.call())).collect();
    tokio::task::yield_now().await;
    b.handle.force_open();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert!(b.handle.state().is_open());
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_judges_and_refuses_nothing() {
    let log = Log::default();
    let layer = BreakerLayer::new(accrual(2))
        .dry_run()
        .observer(log.observer());
    let b = bench(layer);
    b.database.will(vec![Answer::Fails(DbError::Away); 5]);
    for _ in 0..5 {
        assert!(!is_open(b.call().await));
    }
    assert_eq!(
        b.handle.state().to_string(),
        "dry run: opened 0.0 s ago: 2 failures in a row; next probe in 1.0 s; 3 would have been refused"
    );
    // A success among those it would have refused closes nothing; the probe does.
    b.call().await.unwrap();
    assert!(b.handle.state().is_open());
    tokio::time::advance(s(1)).await;
    b.call().await.unwrap();
    assert!(!b.handle.state().is_open());
    b.handle.force_open();
    b.call().await.unwrap();
    let refused = "breaker_refused";
    assert_eq!(
        log.names(),
        [
            "breaker_opened",
            refused,
            refused,
            refused,
            refused,
            "breaker_probing",
            "breaker_closed",
            "breaker_opened",
            refused
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn decisions_are_told_with_the_breakers_name() {
    let log = Log::default();
    let layer = BreakerLayer::new(accrual(1))
        .named("db")
        .observer(log.observer());
    let b = bench(layer);
    b.trip(1).await;
    let until = Instant::now() + s(1);
    assert!(is_open(b.call().await));
    let name: Arc<str> = "db".into();
    let told: Vec<_> = log
        .0
        .lock()
        .unwrap()
        .iter()
        .map(|(_, d)| d.clone())
        .collect();
    assert_eq!(
        told,
        [
            Decision::BreakerOpened {
                breaker: name.clone(),
                why: "1 failure in a row".into(),
                until: Some(until)
            },
            Decision::BreakerRefused {
                breaker: name,
                retry_at: Some(until),
                dry_run: false
            },
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_load_shedder_outside_never_sheds() {
    let b = bench(BreakerLayer::new(accrual(1)));
    let stack = ServiceBuilder::new().load_shed().service(b.service.clone());
    b.database.set_ready(false);
    let calls: Vec<_> = (0..100)
        .map(|_| tokio::spawn(stack.clone().oneshot("")))
        .collect();
    tokio::task::yield_now().await;
    b.database.set_ready(true);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    b.trip(1).await;
    let error = stack.oneshot("").await.unwrap_err();
    assert!(BreakerError::find(&*error).is_some_and(BreakerError::is_local));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_known_as_one_in_a_client_and_as_a_response() {
    let layer = BreakerLayer::new(accrual(1)).named("leaf");
    layer.handle().force_open();
    let leaf = move |_: &Endpoint| layer.layer(service_fn(ok));
    let policy = ClientPolicy::http().failure_accrual(FailureAccrual::consecutive(1));
    let client = Client::builder(policy.build().unwrap())
        .endpoints(support::addresses(1))
        .build(leaf)
        .unwrap();
    for _ in 0..3 {
        let error = client.request(get()).await.unwrap_err();
        assert!(error.is_local());
        assert_eq!(error.kind().name(), "breaker_open");
    }
    // Its own breaker has heard of no failure.
    let snapshot = client.snapshot();
    assert_eq!(snapshot.endpoints().next().unwrap().gate, Gate::Closed);

    let layer = BreakerLayer::new(accrual(1)).classify(fails);
    let mut stack = ServiceBuilder::new()
        .layer(AnswerErrorsLayer::new())
        .layer(layer)
        .service_fn(ok);
    assert_eq!(stack.call(get()).await.unwrap().status(), 200);
    let Ok(response) = stack.call(get()).await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
}

async fn ok(_: Request<Body>) -> Result<Response<Body>, BoxError> {
    Ok(Response::new(Body::empty()))
}

fn fails(_: &Result<Response<Body>, BoxError>) -> Verdict {
    Verdict::Failure
}

// === many targets ===

fn to(host: &str) -> Request<Body> {
    Request::get(format!("http://{host}/"))
        .body(Body::empty())
        .unwrap()
}

/// Hosts whose name says what they do.
async fn internet(request: Request<Body>) -> Result<Response<()>, BoxError> {
    let host = request.uri().host().unwrap_or_default().to_owned();
    if host.starts_with("slow") {
        tokio::time::sleep(s(10)).await;
    }
    let status = if host.starts_with("bad") { 500 } else { 200 };
    Ok(Response::builder().status(status).body(())?)
}

#[tokio::test(start_paused = true)]
async fn each_host_has_its_own_breaker() {
    struct Crawler<S> {
        client: BreakersService<S>,
    }
    let breakers = Breakers::by_host(accrual(2));
    let mut crawler = Crawler {
        client: breakers.layer(service_fn(internet)),
    };
    for _ in 0..2 {
        crawler.client.call(to("bad.example")).await.unwrap();
        crawler.client.call(to("good.example")).await.unwrap();
    }
    let error = crawler.client.call(to("BAD.example:80")).await.unwrap_err();
    assert!(error.to_string().contains("`bad.example:80`"), "{error}");
    crawler.client.call(to("good.example")).await.unwrap();
    crawler.client.call(to("bad.example:81")).await.unwrap();
    let names: Vec<_> = breakers
        .states()
        .iter()
        .map(|state| state.name.to_string())
        .collect();
    assert_eq!(
        names,
        ["bad.example:80", "bad.example:81", "good.example:80"]
    );
    assert!(breakers.handle("bad.example:80").unwrap().state().is_open());
    assert!(breakers.handle("other").is_none());
    assert_eq!(breakers.unguarded(), 0);
    // No host, no breaker.
    let nowhere = Request::get("/path").body(Body::empty()).unwrap();
    crawler.client.call(nowhere).await.unwrap();
    assert_eq!((breakers.unguarded(), breakers.len()), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn the_least_recently_used_that_is_idle_and_closed_makes_room() {
    let breakers = Breakers::by_host(accrual(1)).capacity(3);
    let mut client = breakers.layer(service_fn(internet));
    let hosts = |breakers: &Breakers| {
        let states = breakers.states();
        states
            .iter()
            .map(|state| state.name.to_string())
            .collect::<Vec<_>>()
    };
    for host in ["a", "b", "c", "a", "d"] {
        client.call(to(host)).await.unwrap();
    }
    assert_eq!(hosts(&breakers), ["a:80", "c:80", "d:80"]);
    // An open one stays, however long ago it was used, and one with a request in flight, and one that is held.
    client.call(to("bad")).await.unwrap();
    assert_eq!(hosts(&breakers), ["a:80", "bad:80", "d:80"]);
    let slow = tokio::spawn(client.call(to("slow")));
    tokio::task::yield_now().await;
    assert_eq!(hosts(&breakers), ["bad:80", "d:80", "slow:80"]);
    let held = breakers.handle("d:80").unwrap();
    client.call(to("e")).await.unwrap();
    assert_eq!(hosts(&breakers), ["bad:80", "d:80", "slow:80"]);
    assert_eq!((breakers.unguarded(), breakers.evicted()), (1, 3));
    drop(held);
    client.call(to("e")).await.unwrap();
    assert_eq!(hosts(&breakers), ["bad:80", "e:80", "slow:80"]);
    slow.await.unwrap().unwrap();
    client.call(to("f")).await.unwrap();
    client.call(to("g")).await.unwrap();
    assert_eq!(hosts(&breakers), ["bad:80", "f:80", "g:80"]);
    // Its probe has been due for nine seconds. When nobody has come for it for the longest backoff, it may go, too.
    tokio::time::advance(s(50)).await;
    client.call(to("h")).await.unwrap();
    assert_eq!(hosts(&breakers), ["bad:80", "g:80", "h:80"]);
    tokio::time::advance(s(2)).await;
    for host in ["i", "j", "k"] {
        client.call(to(host)).await.unwrap();
    }
    assert_eq!(hosts(&breakers), ["i:80", "j:80", "k:80"]);
}

#[tokio::test(start_paused = true)]
async fn each_of_many_is_forced_and_heard() {
    let breakers = Breakers::by_host(accrual(1)).capacity(2);
    let mut client = breakers.layer(service_fn(internet));
    let mut all = breakers.subscribe();
    client.call(to("good")).await.unwrap();
    let good = breakers.handle("good:80").unwrap();
    let mut of_good = good.subscribe();
    // Before anybody has asked for it.
    assert!(breakers.handle("later:80").is_none());
    let later = breakers.handle_or_new("later:80").unwrap();
    assert!(breakers.handle_or_new("third:80").is_none(), "no room");
    later.force_open();
    assert!(is_open(client.call(to("later")).await));
    client.call(to("good")).await.unwrap();
    good.force_open();
    assert!(is_open(client.call(to("good")).await));
    good.reset();
    client.call(to("good")).await.unwrap();
    later.reset();
    client.call(to("later")).await.unwrap();
    let mut heard = Vec::new();
    for _ in 0..4 {
        heard.push(match all.next().await.unwrap().decision {
            Decision::BreakerOpened { breaker, .. } => format!("{breaker} opened"),
            Decision::BreakerClosed { breaker } => format!("{breaker} closed"),
            other => panic!("{other:?}"),
        });
    }
    let expected = [
        "later:80 opened",
        "good:80 opened",
        "good:80 closed",
        "later:80 closed",
    ];
    assert_eq!(heard, expected);
    let names = [of_good.next().await, of_good.next().await];
    let names = names.map(|event| event.unwrap().decision.name());
    assert_eq!(names, ["breaker_opened", "breaker_closed"]);
    assert!(poll_now(pin!(of_good.next())).is_pending());
}

#[tokio::test(start_paused = true)]
async fn never_more_than_its_capacity() {
    for capacity in [0, 1, 2, 100] {
        let breakers = Breakers::by_host(accrual(1)).capacity(capacity).seed(1);
        let mut client = breakers.layer(service_fn(internet));
        for round in 0..3 {
            for n in 0..150 {
                let bad = if n % 10 == round { "bad" } else { "" };
                let _ = client.call(to(&format!("{bad}{n}.example"))).await;
                assert!(breakers.len() <= capacity);
            }
        }
        if capacity == 0 {
            assert_eq!(breakers.unguarded(), 450);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_of_ones_own_over_any_request() {
    struct Query {
        tenant: u32,
    }
    let breakers = Breakers::by(accrual(1), |query: &Query| {
        format!("tenant {}", query.tenant)
    })
    .classify(|result: &Result<Rows, DbError>| match result {
        Ok(_) => Verdict::Success,
        Err(_) => Verdict::Failure,
    });
    let service = service_fn(|query: Query| async move {
        match query.tenant {
            1 => Err(DbError::Away),
            _ => Ok(Rows::new()),
        }
    });
    let mut service = breakers.layer(service);
    assert!(!is_open(service.call(Query { tenant: 1 }).await));
    assert!(is_open(service.call(Query { tenant: 1 }).await));
    service.call(Query { tenant: 2 }).await.unwrap();
    assert_eq!(breakers.states()[0].name.as_ref(), "tenant 1");
}
