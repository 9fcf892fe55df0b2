//! What is sent again, byte for byte; what is held back for its trailers, and how long; what a failed attempt leaves behind.
//! Scripted endpoints in virtual time.

mod support;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use support::{Log, address, addresses, ms, s};
use tokio::time::Instant;
use tokio_stream::StreamExt as _;
use tower_mesh::policy::{
    Budget, ClientPolicy, ClientPolicyBuilder, Codes, ExponentialBackoff, FailureAccrual, Fidelity,
    MethodKind, Ratio, Retry, RetryBuilder, Timeouts, Trailers,
};
use tower_mesh::verdict::{Sent, TransportError, TransportFailure};
use tower_mesh::{Body, Client, Endpoint, Error, ErrorKind, RequestOptions, Served};

// === scripted endpoints ===

type Answer = Result<Response<Body>, TransportError>;
type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What reached an endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
struct Arrived {
    bytes: Vec<u8>,
    trailers: bool,
    ended: bool,
}

/// The attempts, in the order in which they were sent.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<Arrived>>>);

impl Sink {
    fn begin(&self) -> usize {
        let mut all = self.0.lock().unwrap();
        all.push(Arrived::default());
        all.len() - 1
    }

    /// Reads so many frames.
    async fn read(&self, n: usize, body: &mut Body, frames: usize) {
        for _ in 0..frames {
            let frame = body.frame().await;
            let mut all = self.0.lock().unwrap();
            match frame {
                Some(Ok(frame)) if frame.is_data() => {
                    all[n].bytes.extend(frame.into_data().unwrap());
                }
                Some(Ok(_)) => assert!(!std::mem::replace(&mut all[n].trailers, true)),
                Some(Err(_)) => return,
                None => {
                    all[n].ended = true;
                    return;
                }
            }
        }
    }

    fn all(&self) -> Vec<Arrived> {
        self.0.lock().unwrap().clone()
    }
}

/// A client whose endpoints do this: address, how many requests there were before at any of them, the request.
fn client(
    policy: ClientPolicyBuilder,
    endpoints: u8,
    script: impl Fn(SocketAddr, usize, Request<Body>) -> Answering + Clone + Send + Sync + 'static,
) -> Client {
    observed(policy, endpoints, &Log::default(), script)
}

fn observed(
    policy: ClientPolicyBuilder,
    endpoints: u8,
    log: &Log,
    script: impl Fn(SocketAddr, usize, Request<Body>) -> Answering + Clone + Send + Sync + 'static,
) -> Client {
    let count = Arc::new(Mutex::new(0));
    Client::builder(policy.build().unwrap())
        .endpoints(addresses(endpoints))
        .seed(7)
        .observer(log.observer())
        .return_grpc_errors()
        .build(move |endpoint: &Endpoint| {
            let (script, count, address) = (script.clone(), Arc::clone(&count), endpoint.address());
            tower::service_fn(move |request: Request<Body>| {
                let mut count = count.lock().unwrap();
                *count += 1;
                script(address, *count - 1, request)
            })
        })
        .unwrap()
}

fn retrying(retry: RetryBuilder) -> ClientPolicyBuilder {
    ClientPolicy::http().retry(retry)
}

fn wait(wait: Duration) -> ExponentialBackoff {
    ExponentialBackoff::try_new(wait, wait, Ratio::ZERO).unwrap()
}

fn attempts(response: &Response<Body>) -> u32 {
    response.extensions().get::<Served>().unwrap().attempts
}

// === bodies ===

fn trailers(name: &'static str, value: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(name, HeaderValue::from_static(value));
    trailers
}

/// Frames, each after its time. It knows whether it is still there.
#[derive(Clone)]
struct Frames {
    frames: Vec<(Duration, Option<Part>)>,
    // The inner one is held by the bodies.
    alive: Arc<Arc<()>>,
}

#[derive(Clone)]
enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
    Error,
}

impl Frames {
    fn new() -> Self {
        Self {
            frames: Vec::new(),
            alive: Arc::default(),
        }
    }

    fn with(mut self, after: Duration, frame: Part) -> Self {
        self.frames.push((after, Some(frame)));
        self
    }

    fn data(self, after: Duration, bytes: impl Into<Bytes>) -> Self {
        self.with(after, Part::Data(bytes.into()))
    }

    fn status(self, after: Duration, code: &'static str) -> Self {
        self.with(after, Part::Trailers(trailers("grpc-status", code)))
    }

    fn end(mut self, after: Duration) -> Self {
        self.frames.push((after, None));
        self
    }

    fn body(&self) -> Body {
        let alive = Arc::clone(&*self.alive);
        let frames = tokio_stream::iter(self.frames.clone()).then(move |(after, frame)| {
            let _alive = Arc::clone(&alive);
            async move {
                if !after.is_zero() {
                    tokio::time::sleep(after).await;
                }
                frame.map(|frame| match frame {
                    Part::Data(bytes) => Ok(Frame::data(bytes)),
                    Part::Trailers(trailers) => Ok(Frame::trailers(trailers)),
                    Part::Error => Err(std::io::Error::other("reset")),
                })
            }
        });
        Body::new(StreamBody::new(frames.filter_map(|frame| frame)))
    }

    fn alive(&self) -> usize {
        Arc::strong_count(&*self.alive) - 1
    }
}

fn upload(frames: &[&'static str], trailers_: bool) -> Frames {
    let mut body = Frames::new();
    for frame in frames {
        body = body.data(ms(1), *frame);
    }
    if trailers_ {
        body = body.with(ms(1), Part::Trailers(trailers("x-sum", "7")));
    }
    body.end(ms(1))
}

fn post(body: Body) -> Request<Body> {
    Request::post("http://web.shop/").body(body).unwrap()
}

// === what is sent again ===

#[tokio::test(start_paused = true)]
async fn a_retry_sends_every_byte_once_wherever_the_first_try_left_off() {
    // Frames read before it fails: none, some, all, all and the trailers, the end.
    for (has_trailers, failing_with) in [(false, 503), (true, 503), (true, 0)] {
        for read in 0..7 {
            let sink = Sink::default();
            let body = upload(&["ab", "c", "", "def"], has_trailers);
            let to = sink.clone();
            let retry = Retry::on(503..=503).limit(2).max_request_bytes(6);
            let client = client(retrying(retry), 3, move |_, _, request| {
                let sink = to.clone();
                Box::pin(async move {
                    let n = sink.begin();
                    let mut body = request.into_body();
                    sink.read(n, &mut body, if n < 2 { read } else { 100 })
                        .await;
                    let (broken, unknown) = (TransportFailure::Broken, Sent::Unknown);
                    match n {
                        2 => Ok(Response::new(Body::from("thanks"))),
                        _ if failing_with == 0 => Err(TransportError::new(broken, unknown, "x")),
                        _ => Ok(Response::builder().status(503).body(Body::empty()).unwrap()),
                    }
                })
            });
            let mut request = post(body.body());
            let options = RequestOptions::new().safe_to_repeat();
            request.extensions_mut().insert(options);
            let response = client.request(request).await.unwrap();
            assert_eq!((response.status().as_u16(), attempts(&response)), (200, 3));
            let all = sink.all();
            assert!(
                all[..2]
                    .iter()
                    .all(|one| b"abcdef".starts_with(&one.bytes[..])),
                "{all:?}"
            );
            let whole = Arrived {
                bytes: b"abcdef".into(),
                trailers: has_trailers,
                ended: true,
            };
            assert_eq!(all[2], whole, "after {read} frames");
            drop(response);
            assert_eq!(body.alive(), 0);
            assert_eq!(client.snapshot().bodies_too_large, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_over_the_limit_is_sent_once_and_counted() {
    for (limit, bodies_too_large, expected) in [(6, 0, 200), (5, 1, 503), (0, 1, 503)] {
        let sink = Sink::default();
        let (to, log) = (sink.clone(), Log::default());
        let policy = retrying(Retry::on(503..=503).max_request_bytes(limit));
        let client = observed(policy, 2, &log, move |_, n, request| {
            let sink = to.clone();
            Box::pin(async move {
                let at = sink.begin();
                sink.read(at, &mut request.into_body(), 100).await;
                let status = if n == 0 { 503 } else { 200 };
                Ok(Response::builder()
                    .status(status)
                    .body(Body::from("why"))
                    .unwrap())
            })
        });
        let body = upload(&["ab", "c", "def"], true);
        let response = client.request(post(body.body())).await.unwrap();
        assert_eq!(response.status(), expected);
        // The answer that stands is whole.
        let answer = response.into_body().collect().await.unwrap();
        assert_eq!(answer.to_bytes(), "why");
        for arrived in sink.all() {
            assert_eq!(arrived.bytes, b"abcdef");
        }
        let snapshot = client.snapshot();
        assert_eq!(snapshot.bodies_too_large, bodies_too_large);
        assert_eq!(
            snapshot.to_string().contains("too large"),
            bodies_too_large > 0
        );
        assert_eq!(log.count("not_retried"), bodies_too_large as usize);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_becomes_unretryable_has_no_time_limit_of_a_try() {
    let policy = retrying(Retry::on(503..=503).max_request_bytes(3).timeout(ms(50)));
    let slow = |_, _, request: Request<Body>| -> Answering {
        Box::pin(async move {
            request.into_body().collect().await.unwrap();
            tokio::time::sleep(ms(200)).await;
            Ok(Response::new(Body::empty()))
        })
    };
    let client = client(policy, 2, slow);
    for (body, fails) in [
        (upload(&["abcd"], false), false),
        (upload(&["abc"], false), true),
    ] {
        let mut request = post(body.body());
        request
            .extensions_mut()
            .insert(RequestOptions::new().safe_to_repeat());
        let result = client.request(request).await;
        // The second try of the smaller one has all the time it wants, being the last.
        let response = result.unwrap();
        assert_eq!(attempts(&response), if fails { 2 } else { 1 });
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_try_reads_on_after_its_answer_has_begun() {
    // The answer comes before the request has ended; what is left of it goes on, and nothing is kept for it.
    let sink = Sink::default();
    let to = sink.clone();
    let client = client(retrying(Retry::on(503..=503)), 2, move |_, _, request| {
        let sink = to.clone();
        Box::pin(async move {
            let n = sink.begin();
            let mut body = request.into_body();
            sink.read(n, &mut body, 1).await;
            tokio::spawn(async move { sink.read(n, &mut body, 100).await });
            Ok(Response::new(Body::empty()))
        })
    });
    let body = upload(&["ab", "cd", "ef"], true);
    let response = client.request(post(body.body())).await.unwrap();
    assert_eq!(response.status(), 200);
    tokio::time::sleep(s(1)).await;
    let whole = Arrived {
        bytes: b"abcdef".into(),
        trailers: true,
        ended: true,
    };
    assert_eq!(sink.all(), [whole]);
    assert_eq!(body.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_try_that_was_given_up_reads_nothing_more() {
    // As a connection does that has not noticed yet that its response is over.
    let sink = Sink::default();
    let to = sink.clone();
    let client = client(
        retrying(Retry::on(503..=503).no_backoff()),
        2,
        move |_, first, request| {
            let sink = to.clone();
            Box::pin(async move {
                let n = sink.begin();
                let mut body = request.into_body();
                sink.read(n, &mut body, 1).await;
                let reads_on = async move { sink.read(n, &mut body, 100).await };
                if first == 0 {
                    tokio::spawn(reads_on);
                    return Ok(Response::builder().status(503).body(Body::empty()).unwrap());
                }
                reads_on.await;
                Ok(Response::new(Body::empty()))
            })
        },
    );
    let body = upload(&["ab", "cd", "ef"], false);
    let response = client.request(post(body.body())).await.unwrap();
    assert_eq!(attempts(&response), 2);
    tokio::time::sleep(s(1)).await;
    let all = sink.all();
    assert_eq!((&all[0].bytes[..], all[0].ended), (&b"ab"[..], false));
    assert_eq!((&all[1].bytes[..], all[1].ended), (&b"abcdef"[..], true));
    assert_eq!(body.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn extensions_survive_to_every_attempt() {
    #[derive(Clone, Debug, PartialEq)]
    struct Mine(u32);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&seen);
    let client = client(
        retrying(Retry::on(503..=503).limit(2)),
        3,
        move |_, n, request| {
            to.lock()
                .unwrap()
                .push(request.extensions().get::<Mine>().cloned());
            let status = if n < 2 { 503 } else { 200 };
            Box::pin(async move {
                Ok(Response::builder()
                    .status(status)
                    .body(Body::empty())
                    .unwrap())
            })
        },
    );
    let mut request = post(upload(&["ab"], false).body());
    request.extensions_mut().insert(Mine(7));
    client.request(request).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), vec![Some(Mine(7)); 3]);
}

// === what a failed attempt leaves behind ===

fn failing_first(
    status: u16,
    page: Frames,
) -> impl Fn(SocketAddr, usize, Request<Body>) -> Answering + Clone + Send + Sync {
    move |_, n, _| {
        let page = page.clone();
        Box::pin(async move {
            tokio::time::sleep(ms(20)).await;
            Ok(match n {
                0 => Response::builder()
                    .status(status)
                    .body(page.body())
                    .unwrap(),
                _ => Response::new(Body::from("fine")),
            })
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_attempt_is_settled_and_released_before_the_backoff() {
    // 404 is retried here and no failure of the endpoint: nothing but the retry settles it.
    for status in [404, 503] {
        let pages = [
            (
                "here at once",
                Frames::new().data(ms(0), "a page").end(ms(0)),
                ms(0),
            ),
            (
                "here soon",
                Frames::new().data(ms(5), "a page").end(ms(0)),
                ms(5),
            ),
            (
                "never whole",
                Frames::new().data(ms(0), "a pa").end(s(1000)),
                ms(10),
            ),
            (
                "endless",
                (0..99)
                    .fold(Frames::new(), |body, _| body.data(ms(0), vec![7; 1024]))
                    .end(s(9)),
                ms(0),
            ),
        ];
        for (name, page, released) in pages {
            let retry = Retry::on(status..=status).backoff(wait(s(1)));
            let client = client(retrying(retry), 1, failing_first(status, page.clone()));
            let mut call = std::pin::pin!(client.request(post(Body::empty())));
            let step = ms(1);
            // To the head of the first answer, and a moment on.
            let passed = tokio::time::timeout(ms(20) + released + step, call.as_mut()).await;
            assert!(passed.is_err(), "{name}");
            assert_eq!(page.alive(), 0, "{name}: its body is gone");
            let snapshot = client.snapshot();
            let endpoint = snapshot.endpoints().next().unwrap();
            assert_eq!(endpoint.pending, 0, "{name}");
            tokio::time::sleep(s(1) - ms(50)).await;
            // The wait is nobody's latency.
            let latency = client.snapshot().endpoints().next().unwrap().latency;
            assert!(latency <= ms(30), "{name}: {latency:?}");
            let response = call.await.unwrap();
            assert_eq!(attempts(&response), 2, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_another_try_the_last_answer_stands_whole() {
    // The only endpoint is ejected by its answer, so that after the backoff there is none.
    let long = wait(s(60));
    let policy = |retry: RetryBuilder| {
        retrying(retry).failure_accrual(FailureAccrual::consecutive(1).backoff(long))
    };
    let retry = || Retry::on(503..=503).backoff(wait(ms(100)));
    let page = Frames::new()
        .data(ms(0), "it ")
        .data(ms(3), "is down")
        .with(ms(3), Part::Trailers(trailers("x", "1")));
    let client_ = client(policy(retry()), 1, failing_first(503, page.clone()));
    let response = client_.request(post(Body::empty())).await.unwrap();
    assert_eq!((response.status().as_u16(), attempts(&response)), (503, 1));
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["x"], "1");
    assert_eq!(body.to_bytes(), "it is down");
    // One that does not come is let go; then it is known to be cut off.
    let page = Frames::new().data(ms(0), "it ").data(s(5), "is down");
    let client_ = client(policy(retry()), 1, failing_first(503, page.clone()));
    let response = client_.request(post(Body::empty())).await.unwrap();
    assert_eq!(response.status(), 503);
    let mut body = response.into_body();
    assert_eq!(
        body.frame().await.unwrap().unwrap().into_data().unwrap(),
        "it "
    );
    let error = body.frame().await.unwrap().unwrap_err();
    assert!(
        error.to_string().contains("let go for another try"),
        "{error}"
    );
    assert!(body.frame().await.is_none());
    assert_eq!(client_.snapshot().in_flight, 0);
    // Where it is known before the wait, it stands as it came, however slow.
    for (name, retry, options) in [
        ("limit", retry(), RequestOptions::new().no_retries()),
        ("deadline", retry(), RequestOptions::new().timeout(ms(100))),
        (
            "budget",
            retry().budget(Budget::percent(0).min_per_sec(0)),
            RequestOptions::new(),
        ),
    ] {
        let page = Frames::new().data(ms(0), "it ").data(ms(30), "is down");
        let client = client(policy(retry), 1, failing_first(503, page));
        let mut request = post(Body::empty());
        request.extensions_mut().insert(options);
        let response = client.request(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "it is down", "{name}");
    }
}

// === trailers ===

fn message(len: usize) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend((len as u32).to_be_bytes());
    bytes.extend(std::iter::repeat_n(7, len));
    bytes.into()
}

fn grpc(method: Option<MethodKind>) -> Request<Body> {
    let mut request = post(Body::from(message(3)));
    let grpc = HeaderValue::from_static("application/grpc");
    request.headers_mut().insert("content-type", grpc);
    if let Some(method) = method {
        let options = RequestOptions::new().method(method);
        request.extensions_mut().insert(options);
    }
    request
}

/// The first answer is this one; the others are fine at once.
fn grpc_answers(
    first: Frames,
) -> impl Fn(SocketAddr, usize, Request<Body>) -> Answering + Clone + Send + Sync {
    move |_, n, _| {
        let first = first.clone();
        Box::pin(async move {
            let body = match n {
                0 => first.body(),
                _ => Frames::new()
                    .data(ms(0), message(1))
                    .status(ms(0), "0")
                    .body(),
            };
            let response = Response::builder().header("content-type", "application/grpc");
            Ok(response.body(body).unwrap())
        })
    }
}

fn on_unavailable() -> RetryBuilder {
    let codes = Codes::of([Codes::UNAVAILABLE]).unwrap();
    Retry::never_on_status().codes(codes).no_backoff()
}

#[tokio::test(start_paused = true)]
async fn the_table_of_held_responses() {
    use MethodKind::{Auto, Streaming, Unary};
    let m = || message(4);
    // What the endpoint does first; as which method; attempts, when the head was handed over, and codes too late.
    let rows: Vec<(&str, Frames, MethodKind, u32, Duration, u64)> = vec![
        (
            "trailers alone",
            Frames::new().status(ms(0), "14"),
            Auto,
            2,
            ms(0),
            0,
        ),
        (
            "trailers in time",
            Frames::new().status(ms(9), "14"),
            Auto,
            2,
            ms(9),
            0,
        ),
        (
            "trailers late",
            Frames::new().status(ms(11), "14"),
            Auto,
            1,
            ms(10),
            1,
        ),
        (
            "message and trailers",
            Frames::new().data(ms(9), m()).status(ms(9), "14"),
            Auto,
            2,
            ms(18),
            0,
        ),
        (
            "message, trailers late",
            Frames::new().data(ms(9), m()).status(ms(11), "14"),
            Auto,
            1,
            ms(19),
            1,
        ),
        (
            "another code",
            Frames::new().data(ms(9), m()).status(ms(9), "5"),
            Auto,
            1,
            ms(18),
            0,
        ),
        (
            "another code late",
            Frames::new().status(ms(11), "5"),
            Auto,
            1,
            ms(10),
            0,
        ),
        (
            "two messages",
            Frames::new()
                .data(ms(1), m())
                .data(ms(1), m())
                .status(ms(0), "14"),
            Auto,
            1,
            ms(2),
            1,
        ),
        (
            "two at once",
            Frames::new()
                .data(ms(1), [m(), m()].concat())
                .status(ms(0), "14"),
            Auto,
            1,
            ms(1),
            1,
        ),
        (
            "in parts",
            Frames::new()
                .data(ms(5), m().slice(..3))
                .data(ms(9), m().slice(3..))
                .status(ms(9), "14"),
            Auto,
            2,
            ms(23),
            0,
        ),
        (
            "in parts that drip",
            Frames::new()
                .data(ms(5), m().slice(..3))
                .data(ms(9), m().slice(3..4))
                .data(ms(9), m().slice(4..))
                .status(ms(0), "14"),
            Auto,
            1,
            ms(15),
            1,
        ),
        (
            "reset",
            Frames::new().data(ms(5), m()).with(ms(3), Part::Error),
            Auto,
            2,
            ms(8),
            0,
        ),
        (
            "no trailers",
            Frames::new().data(ms(5), m()).end(ms(3)),
            Auto,
            1,
            ms(8),
            0,
        ),
        (
            "unary",
            Frames::new().data(ms(500), m()).status(ms(500), "14"),
            Unary,
            2,
            ms(1000),
            0,
        ),
        (
            "unary and fine",
            Frames::new().data(ms(500), m()).status(ms(500), "0"),
            Unary,
            1,
            ms(1000),
            0,
        ),
        (
            "unary over the limit",
            Frames::new()
                .data(ms(500), message(96))
                .status(ms(500), "14"),
            Unary,
            1,
            ms(500),
            1,
        ),
        (
            "unary at the limit",
            Frames::new()
                .data(ms(500), message(95))
                .status(ms(500), "14"),
            Unary,
            2,
            ms(1000),
            0,
        ),
        (
            "streaming",
            Frames::new().status(ms(0), "14"),
            Streaming,
            1,
            ms(0),
            0,
        ),
    ];
    for (name, first, method, expected, head_at, late) in rows {
        for by_route in [true, false] {
            let retry = on_unavailable().max_request_bytes(100);
            let retry = if by_route {
                retry.trailers(method)
            } else {
                retry
            };
            let policy = retrying(retry);
            let client = client(policy, 2, grpc_answers(first.clone()));
            let start = Instant::now();
            let response = client
                .request(grpc((!by_route).then_some(method)))
                .await
                .unwrap();
            assert_eq!(
                (attempts(&response), start.elapsed()),
                (expected, head_at),
                "{name}"
            );
            let body = response.into_body().collect().await;
            if expected == 1 {
                // Nothing of what was held is lost, twice, or out of order.
                let sent: Vec<u8> = first
                    .frames
                    .iter()
                    .filter_map(|(_, frame)| match frame {
                        Some(Part::Data(bytes)) => Some(bytes.to_vec()),
                        _ => None,
                    })
                    .flatten()
                    .collect();
                assert_eq!(body.unwrap().to_bytes(), sent, "{name}");
            } else {
                assert_eq!(
                    body.unwrap().trailers().unwrap()["grpc-status"],
                    "0",
                    "{name}"
                );
            }
            let snapshot = client.snapshot();
            assert_eq!(
                (snapshot.trailers_too_late, snapshot.in_flight),
                (late, 0),
                "{name}"
            );
            assert!(
                snapshot.endpoints().all(|endpoint| endpoint.pending == 0),
                "{name}"
            );
            assert_eq!(first.alive(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_waits_are_settings() {
    let trailers = Trailers::default().first_frame(ms(100)).next_frame(ms(50));
    let first = Frames::new().data(ms(90), message(1)).status(ms(40), "14");
    let client = client(
        retrying(on_unavailable().trailers(trailers)),
        2,
        grpc_answers(first),
    );
    let response = client.request(grpc(None)).await.unwrap();
    assert_eq!(attempts(&response), 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_else_is_held() {
    let slow = || Frames::new().data(ms(5), message(1)).status(ms(3), "14");
    let plain = || post(Body::empty());
    let no_retries = || {
        let mut request = grpc(None);
        request
            .extensions_mut()
            .insert(RequestOptions::new().no_retries());
        request
    };
    let unknown = || {
        let mut request = grpc(None);
        *request.body_mut() = Body::from(vec![7; 200]);
        request
    };
    let cases = [
        ("no codes", retrying(Retry::on(503..=503)), grpc(None)),
        ("no retries", ClientPolicy::http(), grpc(None)),
        ("not gRPC", retrying(on_unavailable()), plain()),
        (
            "this request is not retried",
            retrying(on_unavailable()),
            no_retries(),
        ),
        (
            "its body is too large",
            retrying(on_unavailable().max_request_bytes(100)),
            unknown(),
        ),
    ];
    for (name, policy, request) in cases {
        let client = client(policy, 2, grpc_answers(slow()));
        let start = Instant::now();
        let response = client.request(request).await.unwrap();
        assert_eq!((attempts(&response), start.elapsed()), (1, ms(0)), "{name}");
    }
    // Nor the head of the last try.
    let always = |_, _, _| -> Answering {
        let body = Frames::new()
            .data(ms(5), message(1))
            .status(ms(3), "14")
            .body();
        Box::pin(async move { Ok(Response::new(body)) })
    };
    let client = client(retrying(on_unavailable()), 2, always);
    let start = Instant::now();
    let response = client.request(grpc(None)).await.unwrap();
    assert_eq!((attempts(&response), start.elapsed()), (2, ms(8)));
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "14");
}

#[tokio::test(start_paused = true)]
async fn the_mesh_waits_for_the_first_frame_and_looks_once_more() {
    let rows = [
        (Frames::new().status(s(5), "14"), 2, s(5)),
        (
            Frames::new().data(s(5), message(1)).status(ms(0), "14"),
            2,
            s(5),
        ),
        (
            Frames::new().data(s(5), message(1)).status(ms(1), "14"),
            1,
            s(5),
        ),
    ];
    for (first, expected, head_at) in rows {
        let policy = retrying(on_unavailable()).fidelity(Fidelity::Mesh);
        let client = client(policy, 2, grpc_answers(first));
        let start = Instant::now();
        // As whatever the mesh does not ask for.
        let response = client
            .request(grpc(Some(MethodKind::Streaming)))
            .await
            .unwrap();
        assert_eq!((attempts(&response), start.elapsed()), (expected, head_at));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_held_back_has_its_limits_in_time() {
    let stalls = Frames::new().data(ms(0), message(1)).status(s(60), "0");
    let policy =
        |timeouts| retrying(on_unavailable().trailers(MethodKind::Unary)).timeouts(timeouts);
    let idle = Timeouts {
        idle: Some(ms(300)),
        ..Timeouts::default()
    };
    let response = Timeouts {
        response: Some(ms(400)),
        ..Timeouts::default()
    };
    for (timeouts, kind, after) in [
        (
            Timeouts::request(ms(500)),
            ErrorKind::RequestTimeout,
            ms(500),
        ),
        (idle, ErrorKind::IdleTimeout, ms(300)),
        (response, ErrorKind::ResponseTimeout, ms(400)),
    ] {
        let client = client(policy(timeouts), 2, grpc_answers(stalls.clone()));
        let start = Instant::now();
        let error: Error = client.request(grpc(None)).await.unwrap_err();
        assert_eq!((error.kind(), start.elapsed()), (&kind, after));
        assert_eq!(error.endpoint().is_some(), true);
        let snapshot = client.snapshot();
        assert_eq!(snapshot.in_flight, 0);
        assert!(snapshot.endpoints().all(|endpoint| endpoint.pending == 0));
        assert_eq!(stalls.alive(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_code_in_trailers_is_judged_once_and_pays_as_it_should() {
    // A success that was held pays into the budget once; a code that is retried pays nothing, held or not.
    let now = |client: &Client| {
        let budget = &client.snapshot().budgets[0];
        (budget.deposits, budget.withdrawals)
    };
    let fails = || Frames::new().data(ms(1), message(1)).status(ms(30), "8");
    // RESOURCE_EXHAUSTED is retried here, and no failure of the endpoint's.
    let codes = Codes::of([Codes::RESOURCE_EXHAUSTED]).unwrap();
    let retry = Retry::never_on_status().codes(codes).no_backoff();
    for (method, after_head, after_end) in [
        (MethodKind::Unary, (0, 1), (1, 1)),
        (MethodKind::Auto, (0, 0), (0, 0)),
    ] {
        let client = client(retrying(retry.clone()), 2, grpc_answers(fails()));
        let response = client.request(grpc(Some(method))).await.unwrap();
        assert_eq!(now(&client), after_head, "{method:?}");
        response.into_body().collect().await.unwrap();
        assert_eq!(now(&client), after_end, "{method:?}");
        // One that succeeds: paid when its trailers are here, once.
        let response = client.request(grpc(Some(method))).await.unwrap();
        assert_eq!(now(&client), (after_end.0 + 1, after_end.1), "{method:?}");
        response.into_body().collect().await.unwrap();
        assert_eq!(now(&client), (after_end.0 + 1, after_end.1), "{method:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_held_trailers_trips_the_breaker() {
    let policy =
        retrying(on_unavailable().limit(1)).failure_accrual(FailureAccrual::consecutive(1));
    let log = Log::default();
    let fails = Frames::new().data(ms(1), message(1)).status(ms(1), "14");
    let client = observed(policy, 2, &log, grpc_answers(fails));
    client.request(grpc(None)).await.unwrap();
    assert_eq!(log.count("opened"), 1);
    let late = Frames::new().status(ms(50), "14");
    let log = Log::default();
    let client = observed(retrying(on_unavailable()), 2, &log, grpc_answers(late));
    client.request(grpc(None)).await.unwrap();
    assert_eq!(log.count("handed_over"), 1);
}

// === dropped at any point ===

#[derive(Clone, Copy, Debug)]
enum Way {
    /// A stream that is sent again after a wait.
    Again,
    /// A stream that is over the limit half-way.
    TooLarge,
    /// A held head: handed over, or retried.
    Held,
    HeldAndAgain,
}

#[tokio::test(start_paused = true)]
async fn dropped_after_any_poll_everything_comes_back() {
    for way in [Way::Again, Way::TooLarge, Way::Held, Way::HeldAndAgain] {
        let mut done = false;
        for polls in 0..200 {
            let body = upload(&["ab", "cd"], true);
            let code = if matches!(way, Way::Held) { "0" } else { "14" };
            let page = match way {
                Way::Again | Way::TooLarge => Frames::new().data(ms(2), "a page").end(ms(1)),
                _ => Frames::new().data(ms(2), message(1)).status(ms(2), code),
            };
            let given = page.clone();
            let is_grpc = matches!(way, Way::Held | Way::HeldAndAgain);
            let retry = match way {
                Way::TooLarge => Retry::on(503..=503).max_request_bytes(3),
                _ if is_grpc => on_unavailable(),
                _ => Retry::on(503..=503),
            };
            let retry = retry
                .backoff(wait(ms(20)))
                .budget(Budget::percent(1).min_per_sec(0));
            let sent = Arc::new(Mutex::new(0));
            let count = Arc::clone(&sent);
            let client = client(retrying(retry), 2, move |_, n, request| {
                *count.lock().unwrap() += 1;
                let (status, page) = (if n == 0 && !is_grpc { 503 } else { 200 }, given.clone());
                Box::pin(async move {
                    let mut body = request.into_body();
                    while let Some(Ok(_)) = body.frame().await {}
                    let body = if n == 0 { page.body() } else { Body::empty() };
                    Ok(Response::builder().status(status).body(body).unwrap())
                })
            });
            let mut request = post(body.body());
            if is_grpc {
                let grpc = HeaderValue::from_static("application/grpc");
                request.headers_mut().insert("content-type", grpc);
            }
            let mut call = Some(Box::pin(client.request(request)));
            let mut polled = 0;
            std::future::poll_fn(|cx| {
                if polled == polls {
                    call = None;
                    return Poll::Ready(());
                }
                polled += 1;
                let Some(running) = &mut call else {
                    return Poll::Ready(());
                };
                if running.as_mut().poll(cx).is_ready() {
                    done = true;
                    call = None;
                    return Poll::Ready(());
                }
                if polled == polls {
                    call = None;
                    return Poll::Ready(());
                }
                Poll::Pending
            })
            .await;
            let what = format!("{way:?} after {polls} polls");
            assert_eq!(
                (body.alive(), page.alive()),
                (0, 0),
                "{what}: bodies and what was kept of them"
            );
            let snapshot = client.snapshot();
            assert_eq!(snapshot.in_flight, 0, "{what}");
            for endpoint in snapshot.endpoints() {
                assert_eq!(endpoint.pending, 0, "{what}");
            }
            // A token is spent by the attempt that was sent with it, and by nothing else.
            let sent = *sent.lock().unwrap();
            if let Some(budget) = snapshot.budgets.first() {
                let milli = budget.balance_milli;
                let expected = 10_000 - 1_000 * (u64::max(sent, 1) - 1);
                // One success pays a hundredth, and a bank leaks a little.
                assert!(
                    (expected - 200..=expected + 10).contains(&milli),
                    "{what}: {sent} sent, {milli}"
                );
            }
            if done {
                assert!(polls > 3, "{what}");
                break;
            }
        }
        assert!(done, "{way:?}");
    }
}

// === the must-show ===

/// One of three endpoints answers 500, with a body, for 20 s at 200 requests a second.
#[tokio::test(start_paused = true)]
async fn an_endpoint_that_fails_for_20_s_costs_nothing_and_is_back_soon() {
    let down = (s(5), s(25));
    for seed in 1..=8 {
        let start = Instant::now();
        let bad = address(3);
        let served: Arc<Mutex<Vec<(SocketAddr, Duration)>>> = Arc::default();
        let to = Arc::clone(&served);
        let policy = retrying(Retry::on(500..=599)).failure_accrual(FailureAccrual::consecutive(7));
        let log = Log::default();
        let client = Client::builder(policy.build().unwrap())
            .endpoints(addresses(3))
            .seed(seed)
            .observer(log.observer())
            .build(move |endpoint: &Endpoint| {
                let (address, served) = (endpoint.address(), Arc::clone(&to));
                tower::service_fn(move |_: Request<Body>| {
                    let at = start.elapsed();
                    let fails = address == bad && (down.0..down.1).contains(&at);
                    served.lock().unwrap().push((address, at));
                    async move {
                        tokio::time::sleep(ms(if fails { 2 } else { 20 })).await;
                        let page = Frames::new()
                            .data(ms(0), "it is ")
                            .data(ms(1), "down")
                            .end(ms(0));
                        Ok::<_, Infallible>(match fails {
                            true => Response::builder().status(500).body(page.body()).unwrap(),
                            false => Response::new(Body::from("fine")),
                        })
                    }
                })
            })
            .unwrap();
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..200 * 60 {
            tokio::time::sleep_until(start + ms(5) * n).await;
            let client = client.clone();
            calls.spawn(async move {
                let response = client.request(support::get()).await.unwrap();
                let ok = response.status() == 200;
                response.into_body().collect().await.unwrap();
                ok
            });
            while calls.try_join_next().is_some_and(|ok| {
                assert!(ok.unwrap(), "seed {seed}: a caller saw an error");
                true
            }) {}
        }
        while let Some(ok) = calls.join_next().await {
            assert!(ok.unwrap(), "seed {seed}: a caller saw an error");
        }
        // The backoff that it is in when it recovers: from the last opening before.
        let lines = log.0.lock().unwrap();
        let until = lines.iter().filter_map(|(at, decision)| match decision {
            tower_mesh::core::observe::Decision::Opened { until, .. } if *at < start + down.1 => {
                Some(*until - start)
            }
            _ => None,
        });
        let until = until.last().expect("the breaker trips");
        let back = served.lock().unwrap();
        // Traffic again: not the probe alone, but ten requests within a second.
        let times: Vec<_> = back
            .iter()
            .filter(|(at, when)| *at == bad && *when >= down.1)
            .map(|(_, when)| *when)
            .collect();
        let again = times
            .windows(10)
            .find(|ten| ten[9] - ten[0] < s(1))
            .expect("traffic")[9];
        let latest = until.max(down.1) + s(6);
        println!(
            "seed {seed}: recovered at 25 s, backoff until {until:?}, traffic again at {again:?}"
        );
        assert!(
            again <= latest,
            "seed {seed}: traffic again at {again:?}, backoff until {until:?}"
        );
    }
}
