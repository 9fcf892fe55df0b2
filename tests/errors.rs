//! Every error that there is, and the responses that say the same.

mod support;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::error::Error as _;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use support::{Mesh, Reply, address, addresses, body, ms, ok, plain, s};
use tower::{Layer, Service};
use tower_mesh::breaker::BreakerLayer;
use tower_mesh::client::{AnswerErrors, AnswerErrorsLayer};
use tower_mesh::error::Fault;
use tower_mesh::policy::{
    ClientPolicy, ClientPolicyBuilder, FailureAccrual, Filter, GrpcFilter, InjectFailure,
    InjectGrpcFailure, ModifyPath, Protocol, Queue, Ratio, RedirectRequest, Retry,
    RouteDistribution, Timeouts,
};
use tower_mesh::verdict::{Sent, TransportFailure};
use tower_mesh::{Body, BoxError, Client, Endpoint, Error, ErrorKind};

fn request(grpc: bool) -> Request<Body> {
    // One that may be repeated: another is not cut short by the timeout of a try.
    let request = Request::put("http://web.shop/a");
    let request = if grpc {
        request.header("content-type", "application/grpc+proto")
    } else {
        request
    };
    request.body(Body::empty()).unwrap()
}

fn build(policy: ClientPolicy, mesh: &Mesh) -> Client {
    mesh.client(policy, addresses(1))
}

fn with_filter(filter: Filter) -> ClientPolicy {
    let mut policy = plain();
    let Protocol::Detect { http1, .. } = &mut policy.protocol else {
        panic!()
    };
    http1.routes[0].rules[0].policy.filters.push(filter);
    policy
}

fn replying(reply: Reply) -> Mesh {
    Mesh::new(move |_, _| reply.clone())
}

fn failing(failure: TransportFailure, sent: Sent) -> Mesh {
    replying(Reply::Fail(failure, sent, ms(1)))
}

fn http() -> ClientPolicyBuilder {
    ClientPolicy::http()
}

/// A client in a state, and a request, that come to each kind of error.
async fn producing(kind: &str) -> Client {
    let all_well = Mesh::new(|_, _| ok());
    let hang = replying(Reply::Hang);
    match kind {
        "no_policy" => {
            let (sender, receiver) = tokio::sync::watch::channel(None);
            std::mem::forget(sender);
            all_well.client(receiver, addresses(1))
        }
        "no_route" => {
            let mut policy = http().build().unwrap();
            policy.protocol = Protocol::Http1(Default::default());
            build(policy, &all_well)
        }
        "redirect" => {
            let redirect = RedirectRequest::new().with_host("elsewhere").unwrap();
            build(with_filter(Filter::Redirect(redirect)), &all_well)
        }
        "failure_injected" => {
            let teapot = InjectFailure::new(StatusCode::TOO_MANY_REQUESTS, "no", Ratio::ONE);
            build(
                with_filter(Filter::InjectFailure(teapot.unwrap())),
                &all_well,
            )
        }
        "status_injected" => {
            let mut policy = ClientPolicy::grpc().build().unwrap();
            let Protocol::Grpc(grpc) = &mut policy.protocol else {
                panic!()
            };
            let slow = InjectGrpcFailure::new(8, "not so fast", Ratio::ONE).unwrap();
            let filter = GrpcFilter::InjectFailure(slow);
            grpc.routes[0].rules[0].policy.filters.push(filter);
            build(policy, &all_well)
        }
        "not_carried" => {
            let opaque = ClientPolicy {
                protocol: Protocol::Opaque(Default::default()),
                ..http().build().unwrap()
            };
            // Given at once, it is refused at once.
            let refused = Client::builder(opaque.clone()).build(all_well.connect());
            let error = refused.unwrap_err().to_string();
            assert!(error.contains("speaks opaque TCP"), "{error}");
            let (sender, receiver) = tokio::sync::watch::channel(None);
            let client = all_well.client(receiver, addresses(1));
            sender.send(Some(opaque)).unwrap();
            std::mem::forget(sender);
            client
        }
        "invalid_filter" => {
            let mut redirect = RedirectRequest::new();
            redirect.path = Some(ModifyPath::ReplacePrefixMatch("/b".into()));
            let mut policy = with_filter(Filter::Redirect(redirect));
            let Protocol::Detect { http1, .. } = &mut policy.protocol else {
                panic!()
            };
            let path = tower_mesh::policy::MatchPath::exact("/a").unwrap();
            http1.routes[0].rules[0].matches = vec![tower_mesh::policy::MatchRequest {
                path: Some(path),
                ..Default::default()
            }];
            build(policy, &all_well)
        }
        "no_backend" => {
            let mut policy = http().build().unwrap();
            let Protocol::Detect { http1, http2, .. } = &mut policy.protocol else {
                panic!()
            };
            for http in [http1, http2] {
                http.routes[0].rules[0].policy.distribution = RouteDistribution::empty();
            }
            build(policy, &all_well)
        }
        "fail_fast" => {
            let policy = http()
                .failure_accrual(FailureAccrual::consecutive(1))
                .queue(Queue {
                    capacity: 1,
                    failfast_timeout: ms(10),
                });
            let client = build(
                policy.build().unwrap(),
                &replying(Reply::Status(500, ms(1))),
            );
            client.request(request(false)).await.unwrap();
            client
        }
        "queue_full" => {
            let policy = http()
                .failure_accrual(FailureAccrual::consecutive(1))
                .queue(Queue {
                    capacity: 0,
                    failfast_timeout: s(1),
                });
            let client = build(
                policy.build().unwrap(),
                &replying(Reply::Status(500, ms(1))),
            );
            client.request(request(false)).await.unwrap();
            client
        }
        "breaker_open" => {
            let layer = BreakerLayer::new(FailureAccrual::consecutive(1));
            layer.handle().force_open();
            let connect = all_well.connect();
            Client::builder(http().build().unwrap())
                .endpoints(addresses(1))
                .build(move |endpoint: &Endpoint| layer.layer(connect(endpoint)))
                .unwrap()
        }
        "closed" => {
            let client = build(http().build().unwrap(), &all_well);
            client.close().await;
            client
        }
        "request_timeout" => {
            let policy = http().timeouts(Timeouts::request(ms(10)));
            build(policy.build().unwrap(), &hang)
        }
        "response_timeout" | "idle_timeout" => {
            let limit = |is: &str| (is == kind).then_some(ms(10));
            let timeouts = Timeouts {
                response: limit("response_timeout"),
                idle: limit("idle_timeout"),
                request: None,
            };
            build(http().timeouts(timeouts).build().unwrap(), &hang)
        }
        "headers_timeout" => {
            let budget = tower_mesh::policy::Budget::percent(0).min_per_sec(0);
            let retry = Retry::never_on_status().timeout(ms(10)).budget(budget);
            build(http().retry(retry).build().unwrap(), &hang)
        }
        "leaf_timeout" => build(
            http().build().unwrap(),
            &failing(TransportFailure::Timeout, Sent::Unknown),
        ),
        "not_grpc" => build(
            http().build().unwrap(),
            &replying(Reply::Status(403, ms(1))),
        ),
        "connect" => build(
            http().build().unwrap(),
            &failing(TransportFailure::Connect, Sent::NotSent),
        ),
        "connect_timeout" => build(
            http().build().unwrap(),
            &failing(TransportFailure::ConnectTimeout, Sent::NotSent),
        ),
        "refused" => build(
            http().build().unwrap(),
            &failing(TransportFailure::Refused, Sent::Unprocessed),
        ),
        "broken" => build(
            http().build().unwrap(),
            &failing(TransportFailure::Broken, Sent::Unknown),
        ),
        "request_body" => build(
            http().build().unwrap(),
            &failing(TransportFailure::RequestBody, Sent::Unknown),
        ),
        "invalid_request" => build(
            http().build().unwrap(),
            &failing(TransportFailure::Request, Sent::NotSent),
        ),
        other => panic!("{other}"),
    }
}

// Kind; whose fault; HTTP status; gRPC code.
const TABLE: [(&str, Fault, u16, u16); 24] = [
    ("no_policy", Fault::Policy, 503, 14),
    ("no_route", Fault::Policy, 404, 5),
    ("redirect", Fault::Policy, 301, 5),
    ("failure_injected", Fault::Policy, 429, 14),
    ("status_injected", Fault::Policy, 429, 8),
    ("not_carried", Fault::Policy, 501, 12),
    ("invalid_filter", Fault::Policy, 500, 13),
    ("no_backend", Fault::Policy, 503, 14),
    ("fail_fast", Fault::Endpoint, 503, 14),
    ("queue_full", Fault::Load, 503, 8),
    ("breaker_open", Fault::Endpoint, 503, 14),
    ("closed", Fault::Caller, 503, 14),
    ("request_timeout", Fault::Endpoint, 504, 4),
    ("response_timeout", Fault::Endpoint, 504, 4),
    ("headers_timeout", Fault::Endpoint, 504, 4),
    ("idle_timeout", Fault::Endpoint, 504, 4),
    ("leaf_timeout", Fault::Endpoint, 504, 4),
    ("not_grpc", Fault::Endpoint, 502, 7),
    ("connect", Fault::Endpoint, 502, 14),
    ("connect_timeout", Fault::Endpoint, 504, 14),
    ("refused", Fault::Endpoint, 503, 14),
    ("broken", Fault::Endpoint, 502, 14),
    ("request_body", Fault::Caller, 400, 1),
    ("invalid_request", Fault::Caller, 400, 13),
];

#[tokio::test(start_paused = true)]
async fn every_kind_is_produced_and_answered() {
    let mut kinds = BTreeSet::new();
    for (kind, fault, status, code) in TABLE {
        kinds.insert(kind);
        // As a gRPC client sees it.
        let client = producing(kind).await;
        let response = client.request(request(true)).await.unwrap();
        let headers = response.headers().clone();
        assert_eq!(response.status(), 200, "{kind}");
        assert_eq!(headers["content-type"], "application/grpc", "{kind}");
        assert_eq!(headers["grpc-status"], code.to_string(), "{kind}");
        let error = Arc::clone(response.extensions().get::<Arc<Error>>().unwrap());
        assert_eq!(error.kind().name(), kind);
        assert_eq!(error.kind().fault(), fault, "{kind}");
        let text = error.kind().to_string();
        // What happened, and what to do about it; what a filter of the policy does is its own explanation.
        let filtered = [
            "redirect",
            "failure_injected",
            "status_injected",
            "invalid_filter",
        ]
        .contains(&kind);
        assert!(
            filtered || text.contains(": "),
            "{kind} has no remedy: {text}"
        );
        let message = headers["grpc-message"].to_str().unwrap();
        match message.strip_prefix(&error.to_string()) {
            Some("") => assert!(error.is_local() || error.source().is_none(), "{kind}"),
            // What a leaf's own error says goes with it.
            Some(root) => assert!(root.starts_with(": ") && !error.is_local(), "{message}"),
            None => panic!("{kind}: {message}"),
        }
        assert_eq!(
            headers.contains_key("grpc-retry-pushback-ms"),
            kind == "fail_fast"
        );
        assert!(body(response).await.is_empty());

        // As a plain HTTP client sees it: an error, or through the layer a response.
        if kind == "not_grpc" {
            continue;
        }
        let client = producing(kind).await;
        let result = AnswerErrors::new(client.clone()).call(request(false)).await;
        let Ok(response) = result;
        assert_eq!(response.status().as_u16(), status, "{kind}");
        let error = response.extensions().get::<Arc<Error>>().unwrap();
        assert_eq!(error.kind().name(), kind);
        assert_eq!(
            response.headers().contains_key("retry-after"),
            kind == "fail_fast"
        );
        assert_eq!(
            response.headers().contains_key("location"),
            kind == "redirect"
        );
        let text = error.to_string();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, text.as_bytes());
        let client = producing(kind).await;
        let error = client.request(request(false)).await.unwrap_err();
        assert_eq!(error.kind().name(), kind);
        assert_eq!(error.kind().status().as_u16(), status);
    }
    assert_eq!(
        kinds.len(),
        // But for `truncated`, which only a body says: `body::tests::ends`.
        24,
        "a kind without a row here is not there yet"
    );
}

#[tokio::test(start_paused = true)]
async fn errors_can_be_returned_to_grpc_callers_too() {
    let client = Client::builder(http().build().unwrap())
        .endpoints(addresses(1))
        .return_grpc_errors()
        .build(failing(TransportFailure::Refused, Sent::Unprocessed).connect())
        .unwrap();
    let error = client.request(request(true)).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Refused);
}

#[tokio::test(start_paused = true)]
async fn pages_that_are_not_grpc_are_replaced_and_grpc_is_left_alone() {
    let answer = |status: u16, headers: &[(&'static str, &'static str)]| {
        let mut response = Response::new(Bytes::from_static(b"<html>"));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in headers {
            response.headers_mut().insert(*name, value.parse().unwrap());
        }
        Reply::Full(Arc::new(response), ms(1))
    };
    for (reply, code, replaced) in [
        (answer(503, &[("content-type", "text/html")]), "14", true),
        (answer(401, &[]), "16", true),
        (answer(200, &[("content-type", "text/html")]), "2", true),
        (
            answer(200, &[("content-type", "application/grpc-web")]),
            "2",
            true,
        ),
        (
            answer(
                200,
                &[("content-type", "application/grpc"), ("grpc-status", "5")],
            ),
            "5",
            false,
        ),
        (answer(503, &[("grpc-status", "8")]), "8", false),
    ] {
        let client = build(http().build().unwrap(), &replying(reply.clone()));
        let response = client.request(request(true)).await.unwrap();
        assert_eq!(response.headers()["grpc-status"], code, "{reply:?}");
        let error = response.extensions().get::<Arc<Error>>();
        assert_eq!(error.is_some(), replaced, "{reply:?}");
        if let Some(error) = error {
            assert_eq!((error.endpoint(), error.attempts()), (Some(address(1)), 1));
        }
    }
    // Plain HTTP is nobody's business.
    let client = build(
        http().build().unwrap(),
        &replying(answer(200, &[("content-type", "text/html")])),
    );
    assert_eq!(client.request(request(false)).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn messages_are_percent_encoded() {
    let message = "nö: 100%\n";
    let failure = InjectFailure::new(StatusCode::BAD_REQUEST, message, Ratio::ONE).unwrap();
    let client = build(
        with_filter(Filter::InjectFailure(failure)),
        &Mesh::new(|_, _| ok()),
    );
    let response = client.request(request(true)).await.unwrap();
    let written = response.headers()["grpc-message"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        written.contains("n%C3%B6: 100%25%0A (400 Bad Request)"),
        "{written}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_within_a_client_is_not_judged_twice() {
    // The inner client has nothing to call; the outer one has the inner one for a leaf.
    let inner = |policy: ClientPolicyBuilder, mesh: Mesh| build(policy.build().unwrap(), &mesh);
    let outer = |inner: Client| {
        let policy = http()
            .failure_accrual(FailureAccrual::consecutive(1))
            .retry(Retry::on(500..=599).no_backoff());
        Client::builder(policy.build().unwrap())
            .endpoints(addresses(1))
            .build(move |_: &Endpoint| inner.clone())
            .unwrap()
    };
    let is_ejected = |client: &Client| {
        let snapshot = client.snapshot();
        let gate = snapshot.endpoints().next().unwrap().gate;
        gate != tower_mesh::breaker::Gate::Closed
    };
    for grpc in [false, true] {
        let refusing = inner(http(), Mesh::new(|_, _| ok()));
        refusing.close().await;
        let client = outer(refusing);
        let name = match client.request(request(grpc)).await {
            Err(error) => {
                assert!(error.is_local());
                error.kind().name()
            }
            Ok(response) => response
                .extensions()
                .get::<Arc<Error>>()
                .unwrap()
                .kind()
                .name(),
        };
        assert_eq!(name, "closed");
        assert!(
            !is_ejected(&client),
            "a refusal made here is no endpoint's failure"
        );
    }
    // What the inner one judged stands: it counts 404 as a failure, and the outer one would not.
    let mut failures = tower_mesh::policy::Failures::by(Default::default());
    failures.statuses = tower_mesh::policy::StatusRanges::try_new([404..=404]).unwrap();
    let client = outer(inner(
        http().failures(failures),
        replying(Reply::Status(404, ms(1))),
    ));
    assert_eq!(client.request(request(false)).await.unwrap().status(), 404);
    assert!(is_ejected(&client));
}

#[tokio::test]
async fn the_layer_answers_unreadiness_and_foreign_errors() {
    #[derive(Clone)]
    struct Unready;
    impl Service<Request<()>> for Unready {
        type Response = Response<String>;
        type Error = BoxError;
        type Future = std::future::Ready<Result<Response<String>, BoxError>>;
        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), BoxError>> {
            std::task::Poll::Ready(Err("no".into()))
        }
        fn call(&mut self, _: Request<()>) -> Self::Future {
            panic!("called before it was ready")
        }
    }
    fn infallible<S: Service<Request<()>, Error = Infallible>>(service: S) -> S {
        service
    }
    let mut service = infallible(AnswerErrorsLayer::new().layer(Unready));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    for _ in 0..2 {
        assert!(service.poll_ready(&mut cx).is_ready());
    }
    // A clone knows nothing of it.
    let mut clone = service.clone();
    assert!(clone.poll_ready(&mut cx).is_ready());
    for mut service in [service, clone] {
        let Ok(response) = service.call(Request::new(())).await;
        assert_eq!(response.status(), 502);
        let text = response.body();
        assert!(
            text.starts_with("the connection to the endpoint broke"),
            "{text}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_403_page_is_a_verdict_by_its_code() {
    // PERMISSION_DENIED: a failure in the mesh where a status says it, none here; the page itself says it only here.
    use tower_mesh::policy::Fidelity;
    for (fidelity, status_fails, page_fails) in [
        (Fidelity::Extended, false, false),
        (Fidelity::Mesh, true, false),
    ] {
        for (headers, status, fails) in [(Some("7"), 200, status_fails), (None, 403, page_fails)] {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            if let Some(code) = headers {
                response
                    .headers_mut()
                    .insert("grpc-status", code.parse().unwrap());
            }
            let policy = http()
                .failure_accrual(FailureAccrual::consecutive(1))
                .fidelity(fidelity);
            let client = build(
                policy.build().unwrap(),
                &replying(Reply::Full(Arc::new(response), ms(1))),
            );
            drop(client.request(request(true)).await);
            let gate = client.snapshot().endpoints().next().unwrap().gate;
            assert_eq!(
                gate != tower_mesh::breaker::Gate::Closed,
                fails,
                "{fidelity:?} {status}"
            );
        }
    }
}
