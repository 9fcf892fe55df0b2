//! Every limit in time, at every place a request can be: the right error at the right millisecond, and nothing sent
//! after it.

mod support;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use support::{Log, Mesh, Reply, addresses, get, ms, ok, plain, s, steady, with};
use tokio::time::Instant;
use tokio_stream::StreamExt as _;
use tower_mesh::discover::Endpoints;
use tower_mesh::policy::{ClientPolicy, ClientPolicyBuilder, Fidelity, Retry, Timeouts};
use tower_mesh::{Body, BoxError, Client, Endpoint, Error, ErrorKind, RequestOptions};
use tower_service::Service;

/// How long a future takes, in virtual milliseconds.
async fn timed<T>(future: impl Future<Output = T>) -> (T, u128) {
    let start = Instant::now();
    let value = future.await;
    (value, (Instant::now() - start).as_millis())
}

fn within(limit: u64) -> ClientPolicyBuilder {
    ClientPolicy::http().timeouts(Timeouts::request(ms(limit)))
}

fn timed_out<T>(result: Result<T, Error>) -> (ErrorKind, u32) {
    let error = result.err().unwrap();
    assert!(error.is_deadline() && !error.is_local(), "{error}");
    (error.kind().clone(), error.attempts())
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_policy() {
    let (_sender, receiver) = tokio::sync::watch::channel(None);
    let mesh = Mesh::new(|_, _| ok());
    let client = mesh.client(receiver, addresses(1));
    let request = with(RequestOptions::new().timeout(ms(120)));
    let (result, took) = timed(client.request(request)).await;
    assert_eq!(timed_out(result), (ErrorKind::RequestTimeout, 0));
    assert_eq!(took, 120);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_endpoints() {
    let mesh = Mesh::new(|_, _| ok());
    let silent = tokio_stream::pending::<Result<_, BoxError>>();
    let client = mesh.client(within(120).build().unwrap(), Endpoints::stream(silent));
    let (result, took) = timed(client.request(get())).await;
    assert_eq!(timed_out(result), (ErrorKind::RequestTimeout, 0));
    assert_eq!(took, 120);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_leaf_that_is_not_ready() {
    #[derive(Clone)]
    struct Never;
    impl Service<Request<Body>> for Never {
        type Response = Response<Empty<Bytes>>;
        type Error = BoxError;
        type Future = std::future::Pending<Result<Self::Response, BoxError>>;
        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), BoxError>> {
            std::task::Poll::Pending
        }
        fn call(&mut self, _: Request<Body>) -> Self::Future {
            panic!("called before it was ready")
        }
    }
    let client = Client::builder(within(120).build().unwrap())
        .endpoints(addresses(3))
        .build(|_: &Endpoint| Never)
        .unwrap();
    let (result, took) = timed(client.request(get())).await;
    assert_eq!(timed_out(result), (ErrorKind::RequestTimeout, 0));
    assert_eq!(took, 120);
    // Without a deadline it is the queue's fail-fast timeout that ends it.
    let client = Client::builder(plain())
        .endpoints(addresses(3))
        .build(|_: &Endpoint| Never)
        .unwrap();
    let (result, took) = timed(client.request(get())).await;
    let error = result.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::FailFast { .. }) && error.is_local());
    assert_eq!(took, 3000);
    assert!(client.snapshot().endpoints().all(|e| e.pending == 0));
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_response_head() {
    let mesh = Mesh::new(|_, _| Reply::Hang);
    for (timeouts, kind) in [
        (Timeouts::request(ms(120)), ErrorKind::RequestTimeout),
        (
            Timeouts {
                response: Some(ms(120)),
                ..Timeouts::default()
            },
            ErrorKind::ResponseTimeout,
        ),
        (
            Timeouts {
                idle: Some(ms(120)),
                ..Timeouts::default()
            },
            ErrorKind::IdleTimeout,
        ),
    ] {
        let policy = ClientPolicy::http().timeouts(timeouts).build().unwrap();
        let client = mesh.client(policy, addresses(1));
        let (result, took) = timed(client.request(get())).await;
        assert_eq!(timed_out(result), (kind, 1));
        assert_eq!(took, 120);
    }
    // In the mesh a request without a stream is never idle before its response.
    let timeouts = Timeouts {
        idle: Some(ms(120)),
        request: Some(s(1)),
        response: None,
    };
    let policy = ClientPolicy::http()
        .timeouts(timeouts)
        .fidelity(Fidelity::Mesh);
    let client = mesh.client(policy.build().unwrap(), addresses(1));
    let (result, took) = timed(client.request(get())).await;
    assert_eq!(
        (timed_out(result), took),
        ((ErrorKind::RequestTimeout, 1), 1000)
    );
}

#[tokio::test(start_paused = true)]
async fn in_the_second_attempt_and_in_the_backoff() {
    let mesh = Mesh::new(|_, n| match n {
        0 => Reply::Status(503, ms(50)),
        _ => Reply::Hang,
    });
    let policy = within(200).retry(Retry::on(503..=503).no_backoff());
    let client = mesh.client(policy.build().unwrap(), addresses(1));
    let (result, took) = timed(client.request(get())).await;
    assert_eq!(timed_out(result), (ErrorKind::RequestTimeout, 2));
    assert_eq!(took, 200);
    // A wait that would outlast it is not begun: the first answer stands, and nothing is sent after it.
    let mesh = Mesh::new(|_, _| Reply::Status(503, ms(50)));
    let log = Log::default();
    let policy = within(200).retry(Retry::on(503..=503).backoff(steady(ms(150))));
    let client = Client::builder(policy.build().unwrap())
        .endpoints(addresses(1))
        .observer(log.observer())
        .build(mesh.connect())
        .unwrap();
    let (result, took) = timed(client.request(get())).await;
    assert_eq!((result.unwrap().status().as_u16(), took), (503, 50));
    tokio::time::sleep(s(1)).await;
    assert_eq!((mesh.seen().len(), log.count("not_retried")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_budget_token_is_not_spent_on_a_try_that_never_was() {
    let mesh = Mesh::new(|_, _| Reply::Status(503, ms(1)));
    let policy = ClientPolicy::http().retry(Retry::on(503..=503).backoff(steady(ms(100))));
    let client = mesh.client(policy.build().unwrap(), addresses(1));
    for _ in 0..30 {
        // Leaves in the middle of the backoff.
        let call = tokio::time::timeout(ms(50), client.request(get()));
        call.await.unwrap_err();
    }
    let budget = client.snapshot().budgets[0];
    assert_eq!(budget.withdrawals, 0);
    assert!(budget.balance_milli >= 10_000, "{budget}");
}

// === bodies ===

/// Takes the whole request, and then does nothing or answers with a slow body.
fn uploads(answers: bool) -> impl Fn(&Endpoint) -> UploadLeaf + Send + Sync + 'static {
    move |_| UploadLeaf { answers }
}

#[derive(Clone)]
struct UploadLeaf {
    answers: bool,
}

impl Service<Request<Body>> for UploadLeaf {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), BoxError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answers = self.answers;
        Box::pin(async move {
            request.into_body().collect().await?;
            if !answers {
                std::future::pending::<()>().await;
            }
            Ok(Response::new(Body::new(StreamBody::new(frames(
                4,
                ms(100),
            )))))
        })
    }
}

fn frames(
    count: u32,
    apart: Duration,
) -> impl tokio_stream::Stream<Item = Result<Frame<Bytes>, BoxError>> + Send {
    tokio_stream::iter(0..count).then(move |_| async move {
        tokio::time::sleep(apart).await;
        Ok(Frame::data(Bytes::from_static(b"x")))
    })
}

fn upload(count: u32, apart: Duration) -> Request<Body> {
    let body = Body::new(StreamBody::new(Box::pin(frames(count, apart))));
    Request::post("http://web.shop/").body(body).unwrap()
}

fn client(timeouts: Timeouts, answers: bool) -> Client {
    Client::builder(ClientPolicy::http().timeouts(timeouts).build().unwrap())
        .endpoints(addresses(1))
        .build(uploads(answers))
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_response_timeout_counts_from_the_end_of_the_upload() {
    let timeouts = Timeouts {
        response: Some(ms(150)),
        ..Timeouts::default()
    };
    // 300 ms of upload, then 150 ms of nothing.
    let (result, took) = timed(client(timeouts, false).request(upload(3, ms(100)))).await;
    assert_eq!(timed_out(result), (ErrorKind::ResponseTimeout, 1));
    assert_eq!(took, 450);
    // The same for a response whose body takes too long, counted from the upload.
    let (response, took) = timed(client(timeouts, true).request(upload(3, ms(100)))).await;
    assert_eq!(took, 300);
    let (body, took) = timed(response.unwrap().into_body().collect()).await;
    let error = body.unwrap_err().downcast::<Error>().unwrap();
    assert_eq!((error.kind(), took), (&ErrorKind::ResponseTimeout, 150));
}

#[tokio::test(start_paused = true)]
async fn idle_counts_from_the_last_frame_of_either_body() {
    let timeouts = Timeouts {
        idle: Some(ms(150)),
        ..Timeouts::default()
    };
    // Nothing of it is idle for longer than 100 ms.
    let response = client(timeouts, true).request(upload(10, ms(100))).await;
    let body = response.unwrap().into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes().len(), 4);
    // Silence after the upload.
    let (result, took) = timed(client(timeouts, false).request(upload(3, ms(100)))).await;
    assert_eq!(timed_out(result), (ErrorKind::IdleTimeout, 1));
    assert_eq!(took, 450);
    // Silence in the upload.
    let (result, took) = timed(client(timeouts, true).request(upload(3, ms(200)))).await;
    assert_eq!(timed_out(result), (ErrorKind::IdleTimeout, 1));
    assert_eq!(took, 150);
    // Silence in the response's body.
    let timeouts = Timeouts {
        idle: Some(ms(60)),
        ..Timeouts::default()
    };
    let response = client(timeouts, true).request(get()).await.unwrap();
    let (body, took) = timed(response.into_body().collect()).await;
    let error = body.unwrap_err().downcast::<Error>().unwrap();
    assert_eq!((error.kind(), took), (&ErrorKind::IdleTimeout, 60));
}

// === grpc-timeout and l5d headers ===

fn grpc(timeout: &'static str) -> Request<Body> {
    Request::post("http://web.shop/pkg.Service/Method")
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("grpc-timeout", timeout)
        .body(Body::empty())
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_smaller_of_grpc_timeout_and_policy_wins_and_what_remains_is_written() {
    let client = |policy: ClientPolicyBuilder, mesh: &Mesh| {
        Client::builder(policy.build().unwrap())
            .endpoints(addresses(1))
            .return_grpc_errors()
            .build(mesh.connect())
            .unwrap()
    };
    let hang = || Mesh::new(|_, _| Reply::Hang);
    for (policy, header, took_ms) in [(500, "200m", 200), (200, "500m", 200), (200, "bad", 200)] {
        let (result, took) = timed(client(within(policy), &hang()).request(grpc(header))).await;
        assert_eq!(timed_out(result), (ErrorKind::RequestTimeout, 1));
        assert_eq!(took, took_ms, "{policy} {header}");
    }
    let retry = || Retry::on(503..=503).no_backoff();
    let mesh = Mesh::new(|_, n| match n {
        0 => Reply::Status(503, ms(50)),
        _ => ok(),
    });
    let policy = ClientPolicy::http().retry(retry());
    client(policy, &mesh).request(grpc("90m")).await.unwrap();
    let written: Vec<_> = mesh
        .seen()
        .iter()
        .map(|seen| seen.headers["grpc-timeout"].clone())
        .collect();
    assert_eq!(written, ["90000000n", "40000000n"]);
    // The mesh passes it on.
    let policy = within(500).fidelity(Fidelity::Mesh);
    let mesh = Mesh::new(|_, _| Reply::Hang);
    let (_, took) = timed(client(policy, &mesh).request(grpc("90m"))).await;
    assert_eq!(took, 500);
    assert_eq!(mesh.seen()[0].headers["grpc-timeout"], "90m");
}

#[tokio::test(start_paused = true)]
async fn headers_override_where_the_policy_allows_it() {
    for (allowed, took_ms, headers) in [(true, 120, 0), (false, 1000, 1)] {
        let mut policy = within(1000).build().unwrap();
        let tower_mesh::policy::Protocol::Detect { http1, .. } = &mut policy.protocol else {
            panic!()
        };
        let params = &mut http1.routes[0].rules[0].policy.params;
        params.allow_l5d_request_headers = allowed;
        let mesh = Mesh::new(|_, _| Reply::Hang);
        let client = mesh.client(policy, addresses(1));
        let mut request = get();
        let value = http::HeaderValue::from_static("120ms");
        request.headers_mut().insert("l5d-request-timeout", value);
        let (result, took) = timed(client.request(request)).await;
        assert_eq!(timed_out(result), (ErrorKind::RequestTimeout, 1));
        assert_eq!(took, took_ms);
        assert_eq!(mesh.seen()[0].headers.len(), headers);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_has_to_be_waited_for_ends_all_the_same() {
    // Its caller takes a millisecond for each frame, and the next one is always there.
    let endless = |_: &Endpoint| {
        tower::service_fn(|_: Request<Body>| async {
            let frames = std::iter::repeat_with(|| Ok::<_, BoxError>(Frame::data("x".into())));
            let body = StreamBody::new(tokio_stream::iter(frames));
            Ok::<_, BoxError>(Response::new(body))
        })
    };
    for (timeouts, kind, least) in [
        (
            Timeouts::request(ms(100)),
            Some(ErrorKind::RequestTimeout),
            100,
        ),
        (
            Timeouts {
                response: Some(ms(200)),
                ..Timeouts::default()
            },
            Some(ErrorKind::ResponseTimeout),
            200,
        ),
        // It is not idle, and nothing else limits it.
        (
            Timeouts {
                idle: Some(ms(50)),
                ..Timeouts::default()
            },
            None,
            1000,
        ),
    ] {
        let policy = ClientPolicy::http().timeouts(timeouts);
        let client = Client::builder(policy.build().unwrap())
            .endpoints(addresses(1))
            .build(endless)
            .unwrap();
        let mut body = client.request(get()).await.unwrap().into_body();
        let mut ended = None;
        let (frames, _) = timed(async {
            for frame in 0..1000 {
                match body.frame().await {
                    Some(Ok(_)) => tokio::time::sleep(ms(1)).await,
                    Some(Err(error)) => {
                        ended = Error::find(&*error).map(|error| error.kind().clone());
                        return frame;
                    }
                    None => return frame,
                }
            }
            1000
        })
        .await;
        assert_eq!(ended, kind);
        assert!((least..least + 32).contains(&frames), "{frames}");
        assert!(kind.is_none() || body.frame().await.is_none());
    }
}
