//! `RetryLayer` around services of any kind.

mod support;

use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use support::frames::{Frames, Part, message};
use support::{Log, ms, s, steady};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_mesh::breaker::BreakerLayer;
use tower_mesh::budget::RetryBudget;
use tower_mesh::policy::{
    Budget, Codes, EarnedBy, FailureAccrual, MethodKind, Retry, RetryBuilder,
};
use tower_mesh::retry::{Cloned, RetryLayer, RetryService, Ruling};
use tower_mesh::verdict::{Sent, TransportError, TransportFailure};
use tower_mesh::{Body, BoxError, RequestOptions};

type Seen = Vec<(Instant, Request<String>)>;
type Head = Vec<(&'static str, &'static str)>;

#[derive(Clone, Debug)]
enum Does {
    Says(u16, Head),
    Fails(TransportFailure, Sent),
    Takes(Duration, u16),
}

/// Does one after the other, the last for ever; remembers what it was asked, and when.
#[derive(Clone)]
struct Server {
    script: Arc<Vec<Does>>,
    seen: Arc<Mutex<Seen>>,
}

impl Server {
    fn new(script: impl IntoIterator<Item = Does>) -> Self {
        Self {
            script: Arc::new(script.into_iter().collect()),
            seen: Arc::default(),
        }
    }

    fn times(&self, start: Instant) -> Vec<Duration> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|(at, _)| *at - start).collect()
    }

    fn requests(&self) -> Vec<Request<String>> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|(_, request)| request.clone()).collect()
    }

    fn service(
        &self,
    ) -> impl Service<
        Request<String>,
        Response = Response<String>,
        Error = TransportError,
        Future: Send,
    > + Clone
    + use<> {
        let server = self.clone();
        tower::service_fn(move |request| {
            let does = {
                let mut seen = server.seen.lock().unwrap();
                seen.push((Instant::now(), request));
                let last = server.script.len() - 1;
                server.script[(seen.len() - 1).min(last)].clone()
            };
            async move {
                let (status, head) = match does {
                    Does::Says(status, head) => (status, head),
                    Does::Takes(time, status) => {
                        tokio::time::sleep(time).await;
                        (status, Vec::new())
                    }
                    Does::Fails(failure, sent) => {
                        return Err(TransportError::new(failure, sent, "scripted"));
                    }
                };
                let mut response = Response::builder().status(status);
                for (name, value) in head {
                    response = response.header(name, value);
                }
                Ok(response.body(format!("answer of {status}")).unwrap())
            }
        })
    }
}

fn says(status: u16) -> Does {
    Does::Says(status, Vec::new())
}

fn request(method: &str) -> Request<String> {
    Request::builder()
        .method(method)
        .uri("http://web.shop/a?b")
        .header("x-kept", "1")
        .extension(42u8)
        .body("body".to_owned())
        .unwrap()
}

async fn ask(
    policy: RetryBuilder,
    server: &Server,
    request: Request<String>,
) -> Result<Response<String>, BoxError> {
    let layer = RetryLayer::new(policy).seed(1);
    layer.layer(server.service()).oneshot(request).await
}

#[tokio::test(start_paused = true)]
async fn the_same_request_is_sent_again_after_the_backoff() {
    let server = Server::new([says(503), says(500), says(200)]);
    let start = Instant::now();
    let policy = Retry::on(500..=599).limit(2).backoff(steady(ms(30)));
    let response = ask(policy, &server, request("GET")).await.unwrap();
    assert_eq!(response.body(), "answer of 200");
    assert_eq!(server.times(start), [ms(0), ms(30), ms(60)]);
    for seen in server.requests() {
        assert_eq!(seen.uri(), "http://web.shop/a?b");
        assert_eq!(seen.headers()["x-kept"], "1");
        assert_eq!(seen.body(), "body");
        assert_eq!(
            seen.extensions().get::<u8>(),
            Some(&42),
            "extensions survive"
        );
        assert!(!seen.headers().contains_key("grpc-previous-rpc-attempts"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_answer_is_returned_as_it_is() {
    let policy = || Retry::on(500..=599).backoff(steady(ms(10)));
    let server = Server::new([says(503), says(502)]);
    let response = ask(policy(), &server, request("POST")).await.unwrap();
    assert_eq!(response.body(), "answer of 502", "the limit");

    let nothing = Budget::percent(0).min_per_sec(0);
    let server = Server::new([says(503), says(200)]);
    let response = ask(policy().budget(nothing), &server, request("GET"))
        .await
        .unwrap();
    assert_eq!(response.body(), "answer of 503", "the budget");

    let server = Server::new([says(503), says(200)]);
    let mut hurried = request("GET");
    let options = RequestOptions::new().timeout(ms(10));
    hurried.extensions_mut().insert(options);
    let response = ask(policy(), &server, hurried).await.unwrap();
    assert_eq!(response.body(), "answer of 503", "the deadline");

    let server = Server::new([Does::Fails(TransportFailure::Broken, Sent::Unknown)]);
    let error = ask(policy(), &server, request("POST")).await.unwrap_err();
    let error = error.downcast::<TransportError>().unwrap();
    assert_eq!(
        error.failure(),
        TransportFailure::Broken,
        "the service's own"
    );
}

#[tokio::test(start_paused = true)]
async fn what_nobody_knows_the_outcome_of() {
    let broken = || {
        Server::new([
            Does::Fails(TransportFailure::Broken, Sent::Unknown),
            says(200),
        ])
    };
    let mut keyed = request("POST");
    keyed
        .headers_mut()
        .insert("idempotency-key", "k".parse().unwrap());
    let mut marked = request("POST");
    let options = RequestOptions::new().safe_to_repeat();
    marked.extensions_mut().insert(options);
    let mut grpc = request("POST");
    let kind = "application/grpc".parse().unwrap();
    grpc.headers_mut().insert("content-type", kind);
    for (asked, attempts) in [
        (request("GET"), 2),
        (request("PUT"), 2),
        (request("POST"), 1),
        (request("PATCH"), 1),
        (keyed, 2),
        (marked, 2),
        (grpc, 2),
    ] {
        let server = broken();
        let method = asked.method().clone();
        let answer = ask(Retry::never_on_status(), &server, asked).await;
        assert_eq!(answer.is_ok(), attempts == 2, "{method}");
        assert_eq!(server.requests().len(), attempts, "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_reached_nobody_is_free_once_but_not_for_nothing() {
    let refused = || Does::Fails(TransportFailure::Connect, Sent::NotSent);
    let server = Server::new([refused(), says(503), says(200)]);
    let policy = Retry::on(503..=503).limit(1);
    let response = ask(policy, &server, request("POST")).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), server.requests().len()),
        (200, 3)
    );

    let nothing = Budget::percent(0).min_per_sec(0);
    let server = Server::new([refused(), says(200)]);
    let policy = Retry::on(503..=503).budget(nothing);
    assert!(ask(policy, &server, request("GET")).await.is_err());

    let server = Server::new([refused(), says(200)]);
    let mut once = request("GET");
    once.extensions_mut()
        .insert(RequestOptions::new().no_retries());
    assert!(ask(Retry::on(503..=503), &server, once).await.is_err());
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn endpoints_say_when() {
    let policy = || Retry::on(503..=503).backoff(steady(ms(10)));
    for (name, value, after) in [
        ("retry-after", "2", Some(s(2))),
        ("retry-after", "0", Some(ms(10))),
        ("retry-after", "3600", None),
    ] {
        let server = Server::new([Does::Says(503, vec![(name, value)]), says(200)]);
        let start = Instant::now();
        ask(policy(), &server, request("GET")).await.unwrap();
        assert_eq!(
            server.times(start).get(1).copied(),
            after,
            "{name}: {value}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn grpc_by_its_codes() {
    let grpc = || {
        let mut request = request("POST");
        let kind = "application/grpc+proto".parse().unwrap();
        request.headers_mut().insert("content-type", kind);
        request
    };
    let policy = || {
        let codes = [Codes::UNAVAILABLE, Codes::INTERNAL];
        Retry::never_on_status()
            .and_on_codes(codes)
            .limit(2)
            .backoff(steady(ms(10)))
    };
    let status = |code, pushback| {
        let mut head = vec![("content-type", "application/grpc"), ("grpc-status", code)];
        if let Some(pushback) = pushback {
            head.push(("grpc-retry-pushback-ms", pushback));
        }
        Does::Says(200, head)
    };
    for (script, times) in [
        (
            vec![status("14", None), status("13", None), status("0", None)],
            vec![0, 10, 20],
        ),
        (vec![status("5", None)], vec![0]),
        (
            vec![status("14", Some("250")), status("0", None)],
            vec![0, 250],
        ),
        (vec![status("14", Some("-1")), status("0", None)], vec![0]),
        (
            vec![status("14", Some("later")), status("0", None)],
            vec![0],
        ),
        // A proxy's page stands for a code.
        (vec![says(503), status("0", None)], vec![0, 10]),
    ] {
        let server = Server::new(script.clone());
        let start = Instant::now();
        ask(policy(), &server, grpc()).await.unwrap();
        let times: Vec<_> = times.into_iter().map(ms).collect();
        assert_eq!(server.times(start), times, "{script:?}");
        for (n, request) in server.requests().iter().enumerate() {
            let previous = request.headers().get("grpc-previous-rpc-attempts");
            let previous = previous.map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(previous, (n > 0).then(|| n.to_string()));
        }
    }
    // The same answer to a request that is not gRPC is no failure.
    let server = Server::new([status("14", None)]);
    ask(policy(), &server, request("POST")).await.unwrap();
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_try_is_cut_short_only_for_another() {
    let slow = || Server::new([Does::Takes(s(5), 200)]);
    let policy = || {
        Retry::never_on_status()
            .timeout(s(1))
            .backoff(steady(ms(10)))
    };
    let start = Instant::now();
    let server = Server::new([Does::Takes(s(5), 500), says(200)]);
    let response = ask(policy(), &server, request("GET")).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), (Instant::now() - start)),
        (200, ms(1010))
    );

    // The last has all the time it wants.
    let start = Instant::now();
    let server = slow();
    ask(policy(), &server, request("GET")).await.unwrap();
    assert_eq!(
        (server.times(start), (Instant::now() - start)),
        (vec![ms(0), ms(1010)], ms(6010))
    );

    // So has one that nothing pays another for, and one that must not be repeated.
    let nothing = Budget::percent(0).min_per_sec(0);
    for (policy, method) in [(policy().budget(nothing), "GET"), (policy(), "POST")] {
        let start = Instant::now();
        let server = slow();
        ask(policy, &server, request(method)).await.unwrap();
        assert_eq!(
            (server.requests().len(), (Instant::now() - start)),
            (1, s(5)),
            "{method}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn any_error_by_a_condition_of_ones_own() {
    #[derive(Debug, PartialEq)]
    enum DbError {
        Transient,
        Final,
    }
    let calls = Arc::new(AtomicU32::new(0));
    let script = [
        Err(DbError::Transient),
        Ok("rows"),
        Err(DbError::Final),
        Err(DbError::Transient),
    ];
    let script = Arc::new(Mutex::new(Vec::from(script)));
    let counted = Arc::clone(&calls);
    let database = tower::service_fn(move |_: &'static str| {
        counted.fetch_add(1, Ordering::Relaxed);
        let mut script = script.lock().unwrap();
        let answer = if script.is_empty() {
            Err(DbError::Transient)
        } else {
            script.remove(0)
        };
        async move { answer }
    });
    let layer = RetryLayer::new(Retry::never_on_status().backoff(steady(ms(10))))
        .when(|result: &Result<&'static str, DbError>| *result == Err(DbError::Transient));
    let mut database = layer.layer(database);
    assert_eq!(database.call("a").await, Ok("rows"));
    assert_eq!(database.call("b").await, Err(DbError::Final));
    assert_eq!(database.call("c").await, Err(DbError::Transient));
    assert_eq!(calls.load(Ordering::Relaxed), 5);
    let budget = database.budget().unwrap();
    assert_eq!((budget.deposits(), budget.withdrawals()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_condition_may_say_how_long() {
    let server = Server::new([says(429), says(200)]);
    let start = Instant::now();
    let layer = RetryLayer::new(Retry::never_on_status().backoff(steady(ms(10)))).when(
        |result: &Result<Response<String>, TransportError>| match result {
            Ok(response) if response.status() == 429 => Ruling::again_after(ms(700)),
            Ok(_) => Ruling::FINAL,
            Err(_) => Ruling::FAILED,
        },
    );
    let response = layer
        .layer(server.service())
        .oneshot(request("GET"))
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(server.times(start), [ms(0), ms(700)]);
}

/// Not `Clone`.
struct Job(u32);

#[tokio::test(start_paused = true)]
async fn requests_may_be_copied_by_hand() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let work = tower::service_fn(move |job: Job| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move { Err::<u32, u32>(job.0) }
    });
    let layer = RetryLayer::new(Retry::never_on_status())
        .when(Result::<u32, u32>::is_err)
        .clone_request(|job: &Job| (job.0 > 0).then_some(Job(job.0)));
    let service = layer.layer(work);
    assert_eq!(service.clone().oneshot(Job(7)).await, Err(7));
    assert_eq!(calls.swap(0, Ordering::Relaxed), 2);
    assert_eq!(service.oneshot(Job(0)).await, Err(0));
    assert_eq!(
        calls.load(Ordering::Relaxed),
        1,
        "what cannot be kept is sent once"
    );
}

#[tokio::test(start_paused = true)]
async fn one_budget_for_all_that_share_it() {
    let budget = RetryBudget::new(Budget::percent(10).min_per_sec(0), Instant::now());
    let server = Server::new([says(503)]);
    let policy = || Retry::on(503..=503).backoff(steady(ms(1)));
    let (a, b) = (
        RetryLayer::new(policy()).within(&budget),
        RetryLayer::new(policy()).within(&budget),
    );
    for _ in 0..10 {
        for layer in [&a, &a.clone(), &b] {
            let service = layer.layer(server.service());
            service.oneshot(request("GET")).await.unwrap();
        }
    }
    assert_eq!(server.requests().len(), 30 + 10);
    assert!(a.budget().unwrap().is_same(&budget));
    assert_eq!((budget.withdrawals(), budget.refusals()), (10, 20));
}

#[tokio::test(start_paused = true)]
async fn budgets_by_policy() {
    let budget = |policy: RetryBuilder| {
        let layer = RetryLayer::new(policy);
        layer.budget().map(|budget| budget.policy())
    };
    assert_eq!(budget(Retry::on(500..=599)), Some(Budget::default()));
    let own = Budget::percent(7);
    assert_eq!(budget(Retry::on(500..=599).budget(own)), Some(own));
    assert_eq!(budget(Retry::on(500..=599).unlimited()), None);

    // Requests earn, where they are asked to; the failing ones, too.
    let server = Server::new([says(503)]);
    let requests = Budget::percent(50)
        .min_per_sec(0)
        .earned_by(EarnedBy::Requests);
    let layer = RetryLayer::new(Retry::on(503..=503).budget(requests));
    for _ in 0..100 {
        layer
            .layer(server.service())
            .oneshot(request("GET"))
            .await
            .unwrap();
    }
    assert_eq!(layer.budget().unwrap().withdrawals(), 10 + 50);
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_in_the_backoff_costs_nothing() {
    let server = Server::new([says(503), says(200)]);
    let layer = RetryLayer::new(Retry::on(503..=503).backoff(steady(ms(100))));
    let call = layer.layer(server.service()).oneshot(request("GET"));
    tokio::time::timeout(ms(50), call).await.unwrap_err();
    let budget = layer.budget().unwrap();
    assert_eq!((budget.withdrawals(), server.requests().len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn jitter_differs_from_request_to_request_and_not_from_run_to_run() {
    let run = || async {
        let server = Server::new([says(503)]);
        let layer = RetryLayer::new(Retry::on(503..=503)).seed(7);
        let mut waits = Vec::new();
        for _ in 0..5 {
            let start = Instant::now();
            let service = layer.layer(server.service());
            service.oneshot(request("GET")).await.unwrap();
            waits.push(Instant::now() - start);
        }
        waits
    };
    let waits = run().await;
    assert_eq!(waits, run().await);
    assert!(waits.windows(2).any(|pair| pair[0] != pair[1]), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn decisions_are_told() {
    let log = Log::default();
    let server = Server::new([says(503)]);
    let layer = RetryLayer::new(Retry::on(503..=503)).observer(log.observer());
    layer
        .layer(server.service())
        .oneshot(request("GET"))
        .await
        .unwrap();
    assert_eq!(log.names(), ["retried", "not_retried"]);
}

#[tokio::test(start_paused = true)]
async fn it_takes_what_services_are_around_it() {
    // A breaker and tower's own, with a method that is not idempotent.
    let server = Server::new([says(503), says(200)]);
    let stack = ServiceBuilder::new()
        .layer(RetryLayer::new(Retry::on(503..=503)))
        .layer(BreakerLayer::new(FailureAccrual::consecutive(5)))
        .timeout(s(1))
        .service(server.service());
    let answers = (0..3).map(|_| stack.clone().oneshot(request(Method::POST.as_str())));
    for answer in answers.collect::<Vec<_>>() {
        assert_eq!(answer.await.unwrap().status(), 200);
    }
    // A type that can be written down.
    struct Api {
        _client:
            RetryService<tower::util::BoxCloneService<Request<String>, Response<String>, BoxError>>,
    }
    let boxed = tower::util::BoxCloneService::new(server.service().map_err(BoxError::from));
    let _api = Api {
        _client: RetryLayer::new(Retry::on(500..=599).limit(1)).layer(boxed),
    };
    type Condition = fn(&Result<u8, Infallible>) -> bool;
    let _: RetryService<_, Condition, Cloned> = RetryLayer::new(Retry::never_on_status())
        .when(Result::is_err as fn(&Result<u8, Infallible>) -> bool)
        .layer(());
}

// === replaying ===

/// Reads the bodies of requests whole, and answers by the script; what it read is remembered.
#[derive(Clone)]
struct Upload {
    statuses: Arc<Vec<u16>>,
    read: Arc<Mutex<Vec<Result<Bytes, String>>>>,
    reads: bool,
}

impl Upload {
    fn new(statuses: &[u16]) -> Self {
        Self {
            statuses: Arc::new(statuses.to_vec()),
            read: Arc::default(),
            reads: true,
        }
    }

    fn service(
        &self,
    ) -> impl Service<Request<Body>, Response = Response<String>, Error = Infallible> + Clone + use<>
    {
        let upload = self.clone();
        let calls = Arc::new(AtomicU32::new(0));
        tower::service_fn(move |request: Request<Body>| {
            let upload = upload.clone();
            let n = calls.fetch_add(1, Ordering::Relaxed) as usize;
            async move {
                if upload.reads || n > 0 {
                    let body = request.into_body().collect().await;
                    let body = body.map(|body| body.to_bytes());
                    let body = body.map_err(|error| error.to_string());
                    upload.read.lock().unwrap().push(body);
                }
                let last = upload.statuses.len() - 1;
                let response = Response::builder().status(upload.statuses[n.min(last)]);
                Ok(response.body(format!("answer {n}")).unwrap())
            }
        })
    }
}

fn stream(
    parts: &'static [&'static str],
) -> impl http_body::Body<Data = Bytes, Error = Infallible> {
    let frames = parts
        .iter()
        .map(|part| Ok(http_body::Frame::data(Bytes::from_static(part.as_bytes()))));
    http_body_util::StreamBody::new(tokio_stream::iter(frames))
}

#[tokio::test(start_paused = true)]
async fn streams_are_replayed_up_to_the_limit() {
    for (limit, reads, status, expected) in [
        // Whole, twice.
        (6, true, 200, vec!["abcdef", "abcdef"]),
        // Before the first frame was read.
        (6, false, 200, vec!["abcdef"]),
        // Larger than the limit: sent once, and the answer stands.
        (5, true, 503, vec!["abcdef"]),
        (0, true, 503, vec!["abcdef"]),
    ] {
        let upload = Upload {
            reads,
            ..Upload::new(&[503, 200])
        };
        let layer = RetryLayer::new(Retry::on(500..=599)).replaying(limit);
        let service = layer.layer(upload.service());
        let request = Request::post("http://web/").body(stream(&["ab", "cd", "ef"]));
        let response = service.oneshot(request.unwrap()).await.unwrap();
        assert_eq!(response.status(), status, "{limit}");
        let read = upload.read.lock().unwrap().clone();
        let expected: Vec<_> = expected
            .into_iter()
            .map(|text| Ok(Bytes::from(text)))
            .collect();
        assert_eq!(read, expected, "{limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_of_other_types_are_replayed_too() {
    let upload = Upload::new(&[503, 503, 200]);
    let layer = RetryLayer::new(Retry::on(500..=599).limit(2))
        .when(|result: &Result<Response<String>, Infallible>| {
            result
                .as_ref()
                .is_ok_and(|response| response.status() == 503)
        })
        .replaying(1024);
    let service = layer.layer(upload.service());
    let request = Request::post("http://web/")
        .body("text".to_owned())
        .unwrap();
    let Ok(response) = service.clone().oneshot(request).await;
    assert_eq!(response.status(), 200);
    assert_eq!(upload.read.lock().unwrap().len(), 3);
    let empty = Request::get("http://web/").body(http_body_util::Empty::<Bytes>::new());
    let Ok(response) = service.oneshot(empty.unwrap()).await;
    assert_eq!(response.body(), "answer 3");
    assert!(layer.budget().unwrap().withdrawals() == 2);
}

// === codes in trailers ===

fn call(method: Option<MethodKind>) -> Request<String> {
    let mut request = request("POST");
    let grpc = http::HeaderValue::from_static("application/grpc");
    request.headers_mut().insert("content-type", grpc);
    if let Some(method) = method {
        let options = RequestOptions::new().method(method);
        request.extensions_mut().insert(options);
    }
    request
}

/// Answers with these frames, one after the other, the last for ever.
#[allow(clippy::type_complexity, reason = "a closure's service")]
fn grpc_server<B: Send + 'static>(
    script: Vec<Frames>,
) -> (
    impl Service<
        Request<B>,
        Response = Response<Body>,
        Error = BoxError,
        Future = impl Future<Output = Result<Response<Body>, BoxError>> + Send,
    > + Clone,
    Arc<AtomicU32>,
) {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let service = tower::service_fn(move |_: Request<B>| {
        let n = count.fetch_add(1, Ordering::Relaxed) as usize;
        let body = script[n.min(script.len() - 1)].body();
        let response = Response::builder().header("content-type", "application/grpc");
        let response = response.body(body);
        async move { Ok(response?) }
    });
    (service, asked)
}

#[tokio::test(start_paused = true)]
async fn codes_in_trailers_are_seen_where_they_are_held() {
    let fails = |wait| Frames::new().data(ms(1), message(1)).status(wait, "14");
    let fine = || Frames::new().data(ms(1), message(2)).status(ms(1), "0");
    let breaks = || {
        let begun = Frames::new().data(ms(1), message(1));
        begun.with(ms(1), Part::Error)
    };
    let retry = || Retry::on_codes([Codes::UNAVAILABLE]).no_backoff();
    for (script, method, attempts, code, after) in [
        (vec![fails(ms(1)), fine()], None, 2, "0", ms(4)),
        (vec![fails(ms(1))], None, 2, "14", ms(4)),
        (vec![breaks(), fine()], None, 2, "0", ms(4)),
        (
            vec![Frames::new().end(ms(1)), fine()],
            None,
            1,
            "none",
            ms(1),
        ),
        // Too late for `auto`, and soon enough for `unary`.
        (vec![fails(ms(50)), fine()], None, 1, "14", ms(11)),
        (
            vec![fails(ms(50)), fine()],
            Some(MethodKind::Unary),
            2,
            "0",
            ms(53),
        ),
        // A stream is never held.
        (
            vec![fails(ms(1)), fine()],
            Some(MethodKind::Streaming),
            1,
            "14",
            ms(0),
        ),
        (vec![fine()], None, 1, "0", ms(2)),
    ] {
        for replaying in [false, true] {
            let start = Instant::now();
            let layer = RetryLayer::new(retry());
            let budget = layer.budget().unwrap().clone();
            let trailers = layer.trailers();
            let (response, asked) = if replaying {
                let (server, asked) = grpc_server::<Body>(script.clone());
                let service = layer.replaying(64).layer(trailers.layer(server));
                (service.oneshot(call(method)).await.unwrap(), asked)
            } else {
                let (server, asked) = grpc_server::<String>(script.clone());
                let service = layer.layer(trailers.layer(server));
                (service.oneshot(call(method)).await.unwrap(), asked)
            };
            let row = format!("{method:?} {attempts} {code} {replaying}");
            assert_eq!(Instant::now() - start, after, "{row}");
            assert_eq!(asked.load(Ordering::Relaxed), attempts, "{row}");
            assert_eq!(budget.withdrawals(), u64::from(attempts - 1), "{row}");
            // As it came: nothing is lost, and what failed has not earned, but where nobody waited for its end.
            let body = response.into_body().collect().await.unwrap();
            let trailers = body.trailers().cloned().unwrap_or_default();
            let found = trailers
                .get("grpc-status")
                .map_or("none", |code| code.to_str().unwrap());
            assert_eq!(found, code, "{row}");
            let sent = match code {
                "0" => message(2),
                "14" => message(1),
                _ => Bytes::new(),
            };
            assert_eq!(body.to_bytes(), sent, "{row}");
            let unseen = after == ms(11) || after == ms(0);
            assert_eq!(budget.deposits(), u64::from(code == "0" || unseen), "{row}");
        }
    }
    // Without it, or of another protocol, nothing is held.
    let plain = || {
        let mut request = call(None);
        request.headers_mut().remove("content-type");
        request
    };
    for (held, request) in [(false, call(None)), (true, plain())] {
        let (server, asked) = grpc_server::<String>(vec![fails(ms(1)), fine()]);
        let layer = RetryLayer::new(retry());
        let trailers = layer.trailers();
        let start = Instant::now();
        match held {
            true => layer.layer(trailers.layer(server)).oneshot(request).await,
            false => layer.layer(server).oneshot(request).await,
        }
        .unwrap();
        assert_eq!(
            (asked.load(Ordering::Relaxed), Instant::now() - start),
            (1, ms(0))
        );
    }
}
