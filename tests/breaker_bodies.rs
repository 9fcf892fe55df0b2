//! A breaker that judges at the end of the body: what each way to end says, for HTTP, for gRPC, and for a probe.
//!
//! # Where each trap of a breaker has its test
//!
//! | trap | the state machine, the layer | in a client |
//! |---|---|---|
//! | a cancelled probe | `breaker/tests.rs` one_probe_at_a_time..; `breaker_layer.rs` a_probe_that_is_dropped_or_panics.. | `client/outages.rs` a_probe_whose_caller_leaves.. |
//! | a probe dropped before headers, after headers, in mid-body | here: probes_by_where_they_are_dropped | `breaker_traps.rs` |
//! | a probe's 200 whose body is dropped unread closes, its 503 re-opens | here: the same | `breaker_traps.rs` |
//! | a probe that is a server stream closes at its first message | here: a_probe_that_is_a_stream.. | `breaker_traps.rs` |
//! | straggler success, straggler failure | `breaker/tests.rs` stragglers_from_before_the_trip..; `breaker_layer.rs` | model in `breaker/model_tests.rs` |
//! | backoffs of 0, of 1, at the cap | `breaker/tests.rs` backoffs_of_nothing.. | |
//! | a clock that jumps a year | `breaker/tests.rs` a_clock_that_jumps_a_year | |
//! | a window of one bucket | `breaker/tests.rs` a_window_whose_buckets.. | |
//! | a million results without drift | `breaker/tests.rs` a_million_results.. | |
//! | policy changed while open | `breaker/tests.rs` another_policy_while_it_is_open.. | `client/changes.rs` policies_swap.. |
//! | endpoint removed while probing | | `breaker_traps.rs` |
//! | an outage of everything is one event | | `client/outages.rs` an_outage_of_everything.. |
//! | a thousand that trip together | `breaker/tests.rs` a_thousand_that_trip.. | `breaker_scenarios.rs` a_thousand_clients.. |
//! | panic mode is as likely as it says | `balance/tests.rs` panic_is_as_likely.. | `breakers.rs` whoever_panics.. |
//! | gray failure, flapping | `breaker/peers/simulated.rs` | `breaker_scenarios.rs` |
//! | a hang whose callers leave | `breaker/tests.rs` a_hang_whose_callers_leave..; `breaker_layer.rs` slow_calls_and_callers.. | `breaker_traps.rs` |

mod support;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use support::{get, ms, s};
use tower::{Layer, Service, ServiceExt};
use tower_mesh::breaker::{
    AtEnd, BreakerHandle, BreakerLayer, BreakerService, Breakers, Gate, HttpOrGrpc, SettlingBody,
};
use tower_mesh::policy::{ExponentialBackoff, FailureAccrual, Ratio};
use tower_mesh::verdict::Outcome;
use tower_mesh::{Body, BoxError, Verdict};

/// What a body does, frame by frame.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Data,
    /// Trailers with this `grpc-status`.
    Status(&'static str),
    Breaks,
    /// Breaks by a fault of the caller's.
    BreaksByCaller,
    Hangs,
}

#[derive(Debug)]
struct Scripted(VecDeque<Step>);

impl http_body::Body for Scripted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        use tower_mesh::verdict::{Sent, TransportError, TransportFailure};
        Poll::Ready(match self.0.pop_front() {
            None => None,
            Some(Step::Data) => Some(Ok(Frame::data(Bytes::from_static(b"data")))),
            Some(Step::Status(status)) => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", status.parse().unwrap());
                Some(Ok(Frame::trailers(trailers)))
            }
            Some(Step::Breaks) => Some(Err("reset".into())),
            Some(Step::BreaksByCaller) => {
                let fault = TransportFailure::RequestBody;
                Some(Err(
                    TransportError::new(fault, Sent::Unknown, "upload").into()
                ))
            }
            Some(Step::Hangs) => {
                self.0.push_front(Step::Hangs);
                return Poll::Pending;
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

/// Answers with the heads and bodies it is told, one after the other.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<VecDeque<Answer>>>);

#[derive(Clone, Copy)]
struct Answer {
    head: (u16, Option<&'static str>),
    body: &'static [Step],
    after: u64,
}

impl Server {
    fn will(&self, head: (u16, Option<&'static str>), body: &'static [Step]) {
        let after = 0;
        self.0
            .lock()
            .unwrap()
            .push_back(Answer { head, body, after });
    }

    fn will_after(&self, after: u64, head: (u16, Option<&'static str>), body: &'static [Step]) {
        self.0
            .lock()
            .unwrap()
            .push_back(Answer { head, body, after });
    }
}

impl Service<Request<Body>> for Server {
    type Response = Response<Scripted>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Scripted>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        let answer = self.0.lock().unwrap().pop_front();
        let answer = answer.unwrap_or(Answer {
            head: HTTP,
            body: &[],
            after: 0,
        });
        Box::pin(async move {
            tokio::time::sleep(ms(answer.after)).await;
            let mut response = Response::builder().status(answer.head.0);
            if let Some(content) = answer.head.1 {
                response = response.header("content-type", content);
            }
            Ok(response
                .body(Scripted(answer.body.iter().copied().collect()))
                .unwrap())
        })
    }
}

const HTTP: (u16, Option<&str>) = (200, None);
const ERROR: (u16, Option<&str>) = (503, None);
const GRPC: (u16, Option<&str>) = (200, Some("application/grpc+proto"));

struct Bench {
    server: Server,
    service: BreakerService<Server, HttpOrGrpc, AtEnd>,
    handle: BreakerHandle,
}

fn accrual(max_failures: u32) -> FailureAccrual {
    let backoff = ExponentialBackoff::try_new(s(1), s(60), Ratio::ZERO).unwrap();
    FailureAccrual::consecutive(max_failures).backoff(backoff)
}

fn bench(accrual: FailureAccrual) -> Bench {
    let layer = BreakerLayer::new(accrual).settling_bodies();
    let server = Server::default();
    Bench {
        service: layer.layer(server.clone()),
        handle: layer.handle(),
        server,
    }
}

type Answered = Response<SettlingBody<Scripted, tower_mesh::verdict::grpc::GrpcEos>>;

impl Bench {
    async fn call(&self) -> Answered {
        self.service.clone().oneshot(get()).await.unwrap()
    }

    fn failures(&self) -> u32 {
        self.handle.state().failures
    }

    /// Opens it, and waits until a probe is due.
    async fn probation(&self) {
        self.server.will(ERROR, &[]);
        self.call().await;
        assert!(self.handle.state().is_open());
        tokio::time::advance(s(1)).await;
    }
}

/// Reads so many frames, and drops the rest.
async fn read(response: Answered, frames: usize) {
    let mut body = response.into_body();
    for _ in 0..frames {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        if frame.is_none_or(|frame| frame.is_err()) {
            break;
        }
    }
}

const ALL: usize = usize::MAX;

#[tokio::test(start_paused = true)]
async fn each_end_says_what_it_says() {
    use Step::{Breaks, BreaksByCaller, Data, Status};
    use Verdict::{Failure, Neutral, Success};
    type Row = ((u16, Option<&'static str>), &'static [Step], usize, Verdict);
    let rows: &[Row] = &[
        (HTTP, &[], ALL, Success),
        (HTTP, &[Data, Data], ALL, Success),
        (HTTP, &[Data, Data], 1, Success),
        (HTTP, &[Data, Data], 0, Success),
        // What the head said is not the last word.
        (HTTP, &[Data, Breaks], ALL, Failure),
        (HTTP, &[Data, BreaksByCaller], ALL, Neutral),
        (ERROR, &[], ALL, Failure),
        (ERROR, &[Data], 0, Failure),
        (ERROR, &[BreaksByCaller], ALL, Failure),
        // gRPC's status is in the trailers.
        (GRPC, &[Data, Status("0")], ALL, Success),
        (GRPC, &[Data, Status("14")], ALL, Failure),
        (GRPC, &[Status("5")], ALL, Success),
        (GRPC, &[Data], ALL, Failure),
        (GRPC, &[Data, Data, Status("14")], 1, Neutral),
        (GRPC, &[Data, Breaks], ALL, Failure),
        ((503, GRPC.1), &[], ALL, Failure),
        // Whoever is not gRPC is judged by the HTTP status.
        (HTTP, &[Data, Status("14")], ALL, Success),
    ];
    for (head, body, frames, verdict) in rows {
        let b = bench(accrual(2));
        // A failure before it: ended by a success, left alone by a neutral result.
        b.server.will(ERROR, &[]);
        b.call().await;
        assert_eq!(b.failures(), 1);
        b.server.will(*head, body);
        let response = b.call().await;
        let early = head.0 == 503 || body.is_empty();
        if !early {
            assert_eq!(b.failures(), 1, "{head:?} {body:?}: not before the end");
        }
        read(response, *frames).await;
        let heard = match (b.handle.state().is_open(), b.failures()) {
            (true, _) => Failure,
            (false, 0) => Success,
            (false, _) => Neutral,
        };
        assert_eq!(heard, *verdict, "{head:?} {body:?} {frames}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_body_comes_through_untouched() {
    let b = bench(accrual(1));
    b.server
        .will(GRPC, &[Step::Data, Step::Data, Step::Status("0")]);
    let body = b.call().await.into_body();
    assert!(!body.is_end_stream());
    let whole = body.collect().await.unwrap();
    assert_eq!(whole.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(whole.to_bytes(), "datadata");
    b.server.will(HTTP, &[]);
    assert!(b.call().await.into_body().is_end_stream());
}

#[tokio::test(start_paused = true)]
async fn probes_by_where_they_are_dropped() {
    use Step::{Data, Hangs, Status};
    // Before the head: it was nothing, and makes room.
    let b = bench(accrual(1));
    b.probation().await;
    b.server.will_after(5_000, HTTP, &[]);
    tokio::time::timeout(ms(100), b.call()).await.unwrap_err();
    assert!(matches!(b.handle.state().gate, Gate::Open { .. }));
    // A 200 whose body is dropped unread closes: as soon as its head is there.
    b.server.will(HTTP, &[Data, Hangs]);
    let response = b.call().await;
    assert_eq!(b.handle.state().gate, Gate::Closed);
    drop(response);
    assert_eq!(b.handle.state().gate, Gate::Closed);
    // In mid-body, too.
    b.probation().await;
    b.server.will(HTTP, &[Data, Hangs]);
    read(b.call().await, 1).await;
    assert_eq!(b.handle.state().gate, Gate::Closed);
    // A 503 whose body is dropped unread opens it again.
    b.probation().await;
    b.server.will(ERROR, &[Data, Hangs]);
    drop(b.call().await);
    let state = b.handle.state();
    assert!(matches!(state.gate, Gate::Open { .. }));
    assert_eq!(state.failed_probes, 1);
    // gRPC, after the head and before a message: nothing, and makes room.
    tokio::time::advance(s(2)).await;
    b.server.will(GRPC, &[Data, Status("0")]);
    let response = b.call().await;
    assert!(matches!(b.handle.state().gate, Gate::HalfOpen { .. }));
    drop(response);
    assert!(matches!(b.handle.state().gate, Gate::Open { .. }));
    assert_eq!(b.handle.state().failed_probes, 1);
    // A status without a message.
    b.server.will(GRPC, &[Status("14")]);
    read(b.call().await, ALL).await;
    assert_eq!(b.handle.state().failed_probes, 2);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_a_stream_closes_it_at_its_first_message() {
    let b = bench(accrual(1));
    b.probation().await;
    b.server.will(GRPC, &[Step::Data, Step::Data, Step::Breaks]);
    let mut body = b.call().await.into_body();
    assert!(matches!(b.handle.state().gate, Gate::HalfOpen { .. }));
    body.frame().await.unwrap().unwrap();
    assert_eq!(b.handle.state().gate, Gate::Closed);
    // What comes of it later is not told twice.
    body.frame().await.unwrap().unwrap();
    body.frame().await.unwrap().unwrap_err();
    assert_eq!(b.failures(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_straggling_body_decides_no_probe() {
    let b = bench(accrual(1));
    b.server.will(GRPC, &[Step::Data, Step::Status("0")]);
    b.server.will(GRPC, &[Step::Data, Step::Status("14")]);
    let (good, bad) = (b.call().await, b.call().await);
    b.probation().await;
    b.server.will(GRPC, &[Step::Data, Step::Status("0")]);
    let probe = b.call().await;
    read(good, ALL).await;
    read(bad, ALL).await;
    assert!(matches!(b.handle.state().gate, Gate::HalfOpen { .. }));
    read(probe, ALL).await;
    assert_eq!(b.handle.state().gate, Gate::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_is_a_slow_call_and_a_slow_body_is_not() {
    let b = bench(accrual(1).slow_call(ms(100)));
    b.server.will_after(50, HTTP, &[Step::Data]);
    let response = b.call().await;
    tokio::time::advance(s(60)).await;
    read(response, ALL).await;
    assert_eq!(b.failures(), 0);
    b.server.will(HTTP, &[Step::Data, Step::Hangs]);
    let response = b.call().await;
    tokio::time::advance(s(60)).await;
    drop(response);
    assert!(!b.handle.state().is_open());
    b.server.will_after(101, HTTP, &[Step::Data]);
    drop(b.call().await);
    assert!(b.handle.state().is_open());
}

#[tokio::test(start_paused = true)]
async fn judged_by_a_classifier_of_ones_own() {
    let teapots = |status: StatusCode, _: &HeaderMap| {
        Outcome::new(if status == StatusCode::IM_A_TEAPOT {
            Verdict::Failure
        } else {
            Verdict::Success
        })
    };
    let layer = BreakerLayer::new(accrual(1))
        .settling_bodies()
        .classify_responses(teapots);
    let server = Server::default();
    let service = layer.layer(server.clone());
    server.will(ERROR, &[Step::Data]);
    service.clone().oneshot(get()).await.unwrap();
    assert!(!layer.handle().state().is_open());
    server.will((418, None), &[]);
    service.clone().oneshot(get()).await.unwrap();
    assert!(layer.handle().state().is_open());
}

#[tokio::test(start_paused = true)]
async fn a_registrys_breakers_judge_at_the_end_as_well() {
    let breakers = Breakers::by_host(accrual(1)).settling_bodies();
    let server = Server::default();
    let service = breakers.layer(server.clone());
    server.will(GRPC, &[Step::Data, Step::Status("14")]);
    let response = service.clone().oneshot(get()).await.unwrap();
    assert!(!breakers.states()[0].is_open());
    response.into_body().collect().await.unwrap();
    assert!(breakers.states()[0].is_open());
    // Without a key it passes unjudged.
    let nowhere = Request::get("/path").body(Body::empty()).unwrap();
    server.will(GRPC, &[Step::Data, Step::Status("14")]);
    let response = service.oneshot(nowhere).await.unwrap();
    response.into_body().collect().await.unwrap();
    assert_eq!(breakers.len(), 1);
}
