//! What every Service and every body of the crate must keep to. What is not in the lists here is not there yet.
//!
//! Services: a call to an inner service that was not polled ready panics, fresh clones are never ready, and both become
//! ready only after a while; a call that is dropped after any number of polls leaves nothing behind; clones made at any
//! point serve and share their state. Bodies: frames, trailers, size hints and end of stream come through untouched.

mod support;

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use support::{addresses, get, ms, s, steady};
use tower::Layer;
use tower::Service;
use tower_mesh::balance::Balance;
use tower_mesh::body::Replay;
use tower_mesh::breaker::{
    AtEnd, BreakerHandle, BreakerLayer, BreakerService, Breakers, BreakersService, ByHost, Gate,
    HttpOrGrpc, ServerErrors, Wait,
};
use tower_mesh::budget::RetryBudget;
use tower_mesh::client::AnswerErrors;
use tower_mesh::connect::{Dialed, HttpConnector, HttpLeaf, TonicConnector, TonicLeaf};
use tower_mesh::policy::{
    ClientPolicy, Codes, FailureAccrual, Fidelity, Hedge, MethodKind, Queue, Retry,
};
use tower_mesh::retry::{
    ByMethod, ByPolicy, HedgeLayer, HedgeService, ReplayingService, RetryLayer, RetryService,
    TrailersService,
};
use tower_mesh::{Body, BoxError, Client, Connect, Endpoint};

// === the inner service ===

/// Ready only after two polls, and only for one call; clones start anew. Answers after two polls more, by a script of
/// how many calls there were before, with a body that takes a poll for each frame and ends with trailers.
struct Strict {
    script: fn(usize) -> StatusCode,
    calls: Arc<AtomicUsize>,
    // The same, and nobody sets it back.
    total: Arc<AtomicUsize>,
    // Calls and bodies that exist.
    alive: Arc<()>,
    unready_polls: u8,
}

impl Strict {
    fn new(script: fn(usize) -> StatusCode) -> Self {
        Self {
            script,
            calls: Arc::default(),
            total: Arc::default(),
            alive: Arc::default(),
            unready_polls: 2,
        }
    }
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self {
            script: self.script,
            calls: Arc::clone(&self.calls),
            total: Arc::clone(&self.total),
            alive: Arc::clone(&self.alive),
            unready_polls: 2,
        }
    }
}

impl Service<Request<Body>> for Strict {
    type Response = Response<Slow>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Slow>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.unready_polls > 0 {
            self.unready_polls -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        assert_eq!(self.unready_polls, 0, "called before it was ready");
        self.unready_polls = 2;
        self.total.fetch_add(1, Ordering::Relaxed);
        let status = (self.script)(self.calls.fetch_add(1, Ordering::Relaxed));
        let alive = Arc::clone(&self.alive);
        Box::pin(async move {
            tokio::task::yield_now().await;
            tokio::time::sleep(ms(5)).await;
            let mut response = Response::new(Slow::new(alive));
            *response.status_mut() = status;
            Ok(response)
        })
    }
}

/// Two data frames and trailers, a poll in vain before each.
struct Slow {
    _alive: Arc<()>,
    step: u8,
}

impl Slow {
    fn new(alive: Arc<()>) -> Self {
        Self {
            _alive: alive,
            step: 0,
        }
    }
}

impl http_body::Body for Slow {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.step += 1;
        Poll::Ready(match self.step {
            2 => Some(Ok(Frame::data(Bytes::from_static(b"he")))),
            4 => Some(Ok(Frame::data(Bytes::from_static(b"llo")))),
            6 => {
                let mut trailers = HeaderMap::new();
                trailers.insert("x-end", "1".parse().unwrap());
                // UNKNOWN, to whom it concerns: gRPC, which is told of a status that is missing.
                trailers.insert("grpc-status", "2".parse().unwrap());
                Some(Ok(Frame::trailers(trailers)))
            }
            step if step > 6 => None,
            _ => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.step >= 6
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        hint.set_lower(1);
        hint.set_upper(9);
        hint
    }
}

// === the list of services ===

/// A service under test. What it leaves behind is told in words; nothing is the empty list.
trait Subject {
    fn name(&self) -> &'static str;
    fn call(&mut self) -> Exchange;
    fn duplicate(&self) -> Box<dyn Subject>;
    fn leftovers(&self) -> Vec<String>;

    /// Whether it is a client, which has scripts to go through. A leaf has none, and its connections are tasks that
    /// need a moment to end.
    fn is_client(&self) -> bool {
        true
    }

    /// Whether a call waits while nothing can serve it, instead of being refused.
    fn waits(&self) -> bool {
        true
    }

    /// Whether it learns who fails, and refuses then.
    fn ejects(&self) -> bool {
        self.is_client()
    }
}

/// A whole exchange: readiness, call, body.
type Exchange = Pin<Box<dyn Future<Output = Answer>>>;

/// Status and body, or the error in words.
type Answer = Result<(StatusCode, Bytes), String>;

type Make = fn(Script, &Strict) -> Box<dyn Subject>;

const SUBJECTS: &[Make] = &[
    client,
    borrowed_client,
    answering_client,
    http_leaf,
    tonic_leaf,
    breaker,
    waiting_breaker,
    breakers_by_host,
    hedged_client,
    retrying,
    retrying_by_trailers,
    replaying,
    hedging,
    settling_breaker,
    settling_breakers,
    balance,
];

/// What the inner services do, so that calls take every path.
#[derive(Clone, Copy, Debug)]
enum Script {
    /// All is well.
    Healthy,
    /// The first answer is a failure that is retried.
    Retried,
    /// The only endpoint is ejected: the call waits in line, and is the probe.
    Ejected,
    /// It is ejected and the line is long: fails fast.
    Hopeless,
    /// gRPC, whose response is held back for its trailers, which never say a code.
    Held(MethodKind),
}

const SCRIPTS: [Script; 6] = [
    Script::Healthy,
    Script::Retried,
    Script::Ejected,
    Script::Hopeless,
    Script::Held(MethodKind::Auto),
    Script::Held(MethodKind::Unary),
];

fn statuses(script: Script) -> fn(usize) -> StatusCode {
    match script {
        Script::Healthy | Script::Held(_) => |_| StatusCode::OK,
        Script::Retried | Script::Ejected => |n| match n {
            0 => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::OK,
        },
        Script::Hopeless => |_| StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn grpc() -> Request<Body> {
    let mut request = get();
    let grpc = http::HeaderValue::from_static("application/grpc");
    request.headers_mut().insert("content-type", grpc);
    request
}

fn asks(script: Script) -> fn() -> Request<Body> {
    match script {
        Script::Held(_) => grpc,
        _ => get,
    }
}

fn make_client(script: Script, inner: &Strict) -> Client {
    make_client_with(script, inner, None)
}

fn make_client_with(script: Script, inner: &Strict, hedge: Option<Hedge>) -> Client {
    let inner = inner.clone();
    let wait = steady(ms(20));
    let long = steady(s(60));
    let policy = ClientPolicy::http().queue(Queue {
        capacity: 3,
        failfast_timeout: ms(100),
    });
    let (policy, endpoints) = match script {
        Script::Healthy => (policy.failure_accrual(FailureAccrual::consecutive(1)), 1),
        Script::Retried => (policy.retry(Retry::on(503..=503).backoff(wait)), 2),
        Script::Ejected => {
            let accrual = FailureAccrual::consecutive(1).backoff(wait);
            (policy.failure_accrual(accrual), 1)
        }
        Script::Held(method) => {
            let codes = Codes::of([Codes::UNKNOWN]).unwrap();
            let retry = Retry::never_on_status().codes(codes);
            (policy.kind(method).retry(retry.backoff(wait)), 2)
        }
        Script::Hopeless => {
            // In the mesh they wait, however long it is until the next probe.
            let accrual = FailureAccrual::consecutive(1).backoff(long);
            let policy = policy.fidelity(Fidelity::Mesh);
            (policy.failure_accrual(accrual), 1)
        }
    };
    let (policy, endpoints) = match (hedge, script) {
        (Some(hedge), Script::Healthy | Script::Retried) => (policy.hedge(hedge), 2),
        _ => (policy, endpoints),
    };
    Client::builder(policy.build().unwrap())
        .endpoints(addresses(endpoints))
        .seed(1)
        .build(move |_: &Endpoint| inner.clone())
        .unwrap()
}

struct ClientSubject {
    client: Client,
    inner: Strict,
    name: &'static str,
    through: Through,
    request: fn() -> Request<Body>,
}

#[derive(Clone, Copy)]
enum Through {
    Client,
    Borrowed,
    Answering,
}

fn called(
    through: Through,
    name: &'static str,
    script: Script,
    inner: &Strict,
) -> Box<dyn Subject> {
    Box::new(ClientSubject {
        client: make_client(script, inner),
        inner: inner.clone(),
        name,
        through,
        request: asks(script),
    })
}

fn client(script: Script, inner: &Strict) -> Box<dyn Subject> {
    called(Through::Client, "Client", script, inner)
}

fn borrowed_client(script: Script, inner: &Strict) -> Box<dyn Subject> {
    called(Through::Borrowed, "&Client", script, inner)
}

fn answering_client(script: Script, inner: &Strict) -> Box<dyn Subject> {
    called(Through::Answering, "AnswerErrors<Client>", script, inner)
}

fn hedged_client(script: Script, inner: &Strict) -> Box<dyn Subject> {
    Box::new(ClientSubject {
        client: make_client_with(script, inner, Some(Hedge::after(ms(2)))),
        inner: inner.clone(),
        name: "Client, hedging",
        through: Through::Client,
        request: asks(script),
    })
}

impl Subject for ClientSubject {
    fn name(&self) -> &'static str {
        self.name
    }

    fn call(&mut self) -> Exchange {
        let client = self.client.clone();
        let (through, request) = (self.through, (self.request)());
        Box::pin(async move {
            match through {
                Through::Client => exchange(client, request).await,
                Through::Borrowed => exchange(&client, request).await,
                Through::Answering => {
                    let answered = exchange(AnswerErrors::new(client), request).await;
                    answered.and_then(|(status, body)| match status {
                        // What it says in the body is what the others return.
                        StatusCode::SERVICE_UNAVAILABLE if body != "hello" => {
                            Err(String::from_utf8_lossy(&body).into_owned())
                        }
                        _ => Ok((status, body)),
                    })
                }
            }
        })
    }

    fn duplicate(&self) -> Box<dyn Subject> {
        Box::new(Self {
            client: self.client.clone(),
            inner: self.inner.clone(),
            ..*self
        })
    }

    fn leftovers(&self) -> Vec<String> {
        let snapshot = self.client.snapshot();
        let mut left = Vec::new();
        if snapshot.in_flight > 0 {
            left.push(format!("{} in flight", snapshot.in_flight));
        }
        for backend in &snapshot.backends {
            if backend.waiting > 0 {
                left.push(format!("{} places in line", backend.waiting));
            }
            for endpoint in &backend.endpoints {
                if endpoint.pending > 0 {
                    left.push(format!(
                        "{} pending at {}",
                        endpoint.pending, endpoint.endpoint
                    ));
                }
                if matches!(endpoint.gate, Gate::HalfOpen { .. }) {
                    left.push(format!("a probe of {}", endpoint.endpoint));
                }
            }
        }
        left
    }
}

/// The inner service, behind a connection.
fn serving(
    inner: Strict,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response<Slow>,
    Error = BoxError,
    Future: Send + 'static,
> {
    hyper::service::service_fn(move |_| {
        let mut inner = inner.clone();
        async move {
            std::future::poll_fn(|cx| inner.poll_ready(cx)).await?;
            inner.call(get()).await
        }
    })
}

/// An HTTP/1.1 leaf whose connections end in the inner service.
struct LeafSubject(HttpLeaf);

fn http_leaf(_: Script, inner: &Strict) -> Box<dyn Subject> {
    let inner = inner.clone();
    let dial = move |_: Endpoint| {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let serve = serving(inner.clone());
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(theirs), serve),
        );
        std::future::ready(std::io::Result::Ok(Dialed::plain(TokioIo::new(ours))))
    };
    let connector = HttpConnector::new().with_dialer(dial);
    Box::new(LeafSubject(
        connector.connect(&Endpoint::new(support::address(1))),
    ))
}

impl Subject for LeafSubject {
    fn name(&self) -> &'static str {
        "HttpLeaf"
    }

    fn call(&mut self) -> Exchange {
        Box::pin(exchange(self.0.clone(), get()))
    }

    fn duplicate(&self) -> Box<dyn Subject> {
        Box::new(Self(self.0.clone()))
    }

    fn leftovers(&self) -> Vec<String> {
        let now = self.0.connections();
        let busy = [
            (now.active, "active"),
            (now.dialing, "dialing"),
            (now.waiting, "waiting"),
        ];
        let busy = busy.into_iter().filter(|(count, _)| *count > 0);
        busy.map(|(count, what)| format!("{count} {what}"))
            .collect()
    }

    fn is_client(&self) -> bool {
        false
    }
}

/// A leaf over one of tonic's channels, whose connections end in the inner service.
#[derive(Clone)]
struct ChannelSubject(TonicLeaf);

fn tonic_leaf(_: Script, inner: &Strict) -> Box<dyn Subject> {
    let inner = inner.clone();
    let dial = move |_: http::Uri| {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let serve = serving(inner.clone());
        tokio::spawn(
            hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
                .serve_connection(TokioIo::new(theirs), serve),
        );
        std::future::ready(std::io::Result::Ok(TokioIo::new(ours)))
    };
    let connector = TonicConnector::new().with_channel(move |transport| {
        transport.connect_with_connector_lazy(tower::service_fn(dial.clone()))
    });
    let endpoint = Endpoint::new(support::address(1));
    Box::new(ChannelSubject(connector.connect(&endpoint)))
}

impl Subject for ChannelSubject {
    fn name(&self) -> &'static str {
        "TonicLeaf"
    }

    fn call(&mut self) -> Exchange {
        Box::pin(exchange(self.0.clone(), get()))
    }

    fn duplicate(&self) -> Box<dyn Subject> {
        Box::new(self.clone())
    }

    fn leftovers(&self) -> Vec<String> {
        Vec::new()
    }

    fn is_client(&self) -> bool {
        false
    }
}

/// A breaker around the inner service, alone or one of a registry's.
#[derive(Clone)]
struct BreakerSubject {
    name: &'static str,
    service: Guarded,
}

#[derive(Clone)]
enum Guarded {
    One(BreakerService<Strict>, BreakerHandle),
    Many(BreakersService<Strict>, Breakers),
    OneAtEnd(BreakerService<Strict, HttpOrGrpc, AtEnd>, BreakerHandle),
    ManyAtEnd(
        BreakersService<Strict, ByHost, HttpOrGrpc, AtEnd>,
        Breakers<ByHost, HttpOrGrpc, AtEnd>,
    ),
}

fn accrual(script: Script) -> FailureAccrual {
    let wait = match script {
        Script::Ejected => ms(20),
        _ => s(60),
    };
    let failures = if matches!(script, Script::Retried) {
        2
    } else {
        1
    };
    FailureAccrual::consecutive(failures).backoff(steady(wait))
}

fn guarded(name: &'static str, layer: BreakerLayer, inner: &Strict) -> Box<dyn Subject> {
    let service = Guarded::One(layer.layer(inner.clone()), layer.handle());
    Box::new(BreakerSubject { name, service })
}

fn breaker(script: Script, inner: &Strict) -> Box<dyn Subject> {
    guarded("BreakerService", BreakerLayer::new(accrual(script)), inner)
}

fn waiting_breaker(script: Script, inner: &Strict) -> Box<dyn Subject> {
    let layer = BreakerLayer::new(accrual(script));
    // Who waits for a breaker that stays open waits for ever.
    match script {
        Script::Ejected => guarded(
            "BreakerService, waiting",
            layer.wait(Wait::at_most(s(10))),
            inner,
        ),
        _ => guarded("BreakerService", layer, inner),
    }
}

fn breakers_by_host(script: Script, inner: &Strict) -> Box<dyn Subject> {
    let breakers = Breakers::by_host(accrual(script));
    Box::new(BreakerSubject {
        name: "BreakersService",
        service: Guarded::Many(breakers.layer(inner.clone()), breakers),
    })
}

fn settling_breaker(script: Script, inner: &Strict) -> Box<dyn Subject> {
    let layer = BreakerLayer::new(accrual(script)).settling_bodies();
    Box::new(BreakerSubject {
        name: "BreakerService, judging at the end",
        service: Guarded::OneAtEnd(layer.layer(inner.clone()), layer.handle()),
    })
}

fn settling_breakers(script: Script, inner: &Strict) -> Box<dyn Subject> {
    let breakers = Breakers::by_host(accrual(script)).settling_bodies();
    Box::new(BreakerSubject {
        name: "BreakersService, judging at the end",
        service: Guarded::ManyAtEnd(breakers.layer(inner.clone()), breakers),
    })
}

impl Subject for BreakerSubject {
    fn name(&self) -> &'static str {
        self.name
    }

    fn call(&mut self) -> Exchange {
        let service = self.service.clone();
        Box::pin(async move {
            match service {
                Guarded::One(service, _) => exchange(service, get()).await,
                Guarded::Many(service, _) => exchange(service, get()).await,
                Guarded::OneAtEnd(service, _) => exchange(service, get()).await,
                Guarded::ManyAtEnd(service, _) => exchange(service, get()).await,
            }
        })
    }

    fn duplicate(&self) -> Box<dyn Subject> {
        Box::new(self.clone())
    }

    fn leftovers(&self) -> Vec<String> {
        let states = match &self.service {
            Guarded::One(_, handle) | Guarded::OneAtEnd(_, handle) => vec![handle.state()],
            Guarded::Many(_, breakers) => breakers.states(),
            Guarded::ManyAtEnd(_, breakers) => breakers.states(),
        };
        let probing = states
            .iter()
            .filter(|state| matches!(state.gate, Gate::HalfOpen { .. }));
        probing.map(|state| format!("a probe: {state}")).collect()
    }

    fn waits(&self) -> bool {
        self.name == "BreakerService, waiting"
    }
}

/// A balance over leaves of the inner service: one, or two where another is to be tried.
struct BalanceSubject {
    balance: Balance<Strict, ServerErrors>,
    waits: bool,
}

fn balance(script: Script, inner: &Strict) -> Box<dyn Subject> {
    let inner = inner.clone();
    let endpoints = if matches!(script, Script::Retried) {
        2
    } else {
        1
    };
    let balance = Balance::builder()
        .failure_accrual(accrual(script))
        .classify(ServerErrors)
        .queue(Queue {
            capacity: 3,
            failfast_timeout: s(1),
        })
        .endpoints(addresses(endpoints))
        .seed(1)
        .build(move |_: &Endpoint| inner.clone());
    Box::new(BalanceSubject {
        balance: balance.unwrap(),
        waits: matches!(script, Script::Ejected),
    })
}

impl Subject for BalanceSubject {
    fn name(&self) -> &'static str {
        "Balance"
    }

    fn call(&mut self) -> Exchange {
        Box::pin(exchange(self.balance.clone(), get()))
    }

    fn duplicate(&self) -> Box<dyn Subject> {
        Box::new(Self {
            balance: self.balance.clone(),
            waits: self.waits,
        })
    }

    fn leftovers(&self) -> Vec<String> {
        let counts = [
            (self.balance.pending(), "pending"),
            (self.balance.waiting(), "waiting"),
        ];
        let counts = counts.into_iter().filter(|(count, _)| *count > 0);
        counts
            .map(|(count, what)| format!("{count} {what}"))
            .collect()
    }

    fn waits(&self) -> bool {
        self.waits
    }
}

type CopyRequest = fn(&Request<Body>) -> Option<Request<Body>>;

/// Retries or hedges around the inner service.
#[derive(Clone)]
enum Again {
    Retry(RetryService<Strict, ByPolicy, CopyRequest>),
    Replay(ReplayingService<Strict>),
    Hedge(HedgeService<Strict, ByMethod, CopyRequest>),
    Trailers(RetryService<TrailersService<Strict>, ByPolicy, CopyRequest>),
}

#[derive(Clone)]
struct AgainSubject {
    name: &'static str,
    service: Again,
    budget: RetryBudget,
    inner: Strict,
}

fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let body = request.body().try_clone()?;
    let mut copy = Request::new(body);
    *copy.uri_mut() = request.uri().clone();
    Some(copy)
}

fn retry_policy() -> RetryLayer {
    let wait = steady(ms(20));
    RetryLayer::new(Retry::on(503..=503).backoff(wait).timeout(s(1)))
}

fn again(name: &'static str, service: Again, inner: &Strict) -> Box<dyn Subject> {
    let budget = match &service {
        Again::Retry(service) => service.budget().unwrap(),
        Again::Trailers(service) => service.budget().unwrap(),
        Again::Replay(service) => service.budget().unwrap(),
        Again::Hedge(service) => service.budget(),
    };
    Box::new(AgainSubject {
        name,
        budget: budget.clone(),
        service,
        inner: inner.clone(),
    })
}

fn retrying(_: Script, inner: &Strict) -> Box<dyn Subject> {
    let layer = retry_policy().clone_request(copy as fn(&Request<Body>) -> _);
    again(
        "RetryService",
        Again::Retry(layer.layer(inner.clone())),
        inner,
    )
}

// Holds what it is answered, as a gRPC call of one message.
fn retrying_by_trailers(_: Script, inner: &Strict) -> Box<dyn Subject> {
    let wait = steady(ms(20));
    let policy = Retry::on(503..=503).and_on_codes([14]).backoff(wait);
    let layer = RetryLayer::new(policy).clone_request(copy as fn(&Request<Body>) -> _);
    let service = layer.layer(layer.trailers().layer(inner.clone()));
    again("TrailersService", Again::Trailers(service), inner)
}

fn replaying(_: Script, inner: &Strict) -> Box<dyn Subject> {
    let service = retry_policy().replaying(100).layer(inner.clone());
    again("ReplayingService", Again::Replay(service), inner)
}

fn hedging(_: Script, inner: &Strict) -> Box<dyn Subject> {
    // While the first is on its way.
    let layer = HedgeLayer::new(Hedge::after(ms(2)));
    let layer = layer.clone_request(copy as fn(&Request<Body>) -> _);
    again(
        "HedgeService",
        Again::Hedge(layer.layer(inner.clone())),
        inner,
    )
}

impl Subject for AgainSubject {
    fn name(&self) -> &'static str {
        self.name
    }

    fn call(&mut self) -> Exchange {
        let service = self.service.clone();
        Box::pin(async move {
            match service {
                Again::Retry(service) => exchange(service, get()).await,
                Again::Trailers(service) => exchange(service, grpc()).await,
                Again::Replay(service) => exchange(service, get()).await,
                Again::Hedge(service) => exchange(service, get()).await,
            }
        })
    }

    fn duplicate(&self) -> Box<dyn Subject> {
        Box::new(self.clone())
    }

    fn leftovers(&self) -> Vec<String> {
        // What was drawn and not returned has been sent.
        let (drawn, calls) = (
            self.budget.withdrawals(),
            self.inner.total.load(Ordering::Relaxed),
        );
        let tokens = (drawn > calls as u64).then(|| format!("{drawn} tokens for {calls} calls"));
        tokens.into_iter().collect()
    }

    fn ejects(&self) -> bool {
        false
    }
}

async fn exchange<S, R>(mut service: S, request: Request<Body>) -> Answer
where
    S: Service<Request<Body>, Response = Response<R>, Error: Into<BoxError>>,
    R: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    use http_body_util::BodyExt;
    fn in_words(error: impl Into<BoxError>) -> String {
        error.into().to_string()
    }
    std::future::poll_fn(|cx| service.poll_ready(cx))
        .await
        .map_err(in_words)?;
    let response = service.call(request).await.map_err(in_words)?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(in_words)?;
    Ok((status, body.to_bytes()))
}

// === the checks ===

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test);
}

/// Polls `inner` so many times and then drops it. None if it was dropped before it was ready.
async fn poll_times<F: Future + Unpin>(inner: F, times: usize) -> Option<F::Output> {
    let mut inner = Some(inner);
    let polls = Cell::new(0);
    std::future::poll_fn(move |cx| {
        if polls.get() == times {
            inner = None;
            return Poll::Ready(None);
        }
        polls.set(polls.get() + 1);
        match inner.as_mut().map(|inner| Pin::new(inner).poll(cx)) {
            Some(Poll::Pending) => {
                if polls.get() == times {
                    inner = None;
                    return Poll::Ready(None);
                }
                Poll::Pending
            }
            Some(Poll::Ready(output)) => Poll::Ready(Some(output)),
            None => Poll::Ready(None),
        }
    })
    .await
}

fn assert_nothing_left(subject: &dyn Subject, inner: &Strict, owners: usize, after: &str) {
    let name = subject.name();
    assert_eq!(subject.leftovers(), Vec::<String>::new(), "{name} {after}");
    if !subject.is_client() {
        return;
    }
    let alive = Arc::strong_count(&inner.alive);
    assert_eq!(
        alive, owners,
        "{name} {after}: calls or bodies of the inner service"
    );
}

#[test]
fn inner_services_are_called_only_when_ready() {
    for make in SUBJECTS {
        for script in SCRIPTS {
            run(async {
                let inner = Strict::new(statuses(script));
                let mut subject = make(script, &inner);
                // Strict panics where the contract is broken.
                for _ in 0..5 {
                    let _ = subject.call().await;
                }
                assert!(
                    inner.calls.load(Ordering::Relaxed) > 0,
                    "{}",
                    subject.name()
                );
            });
        }
    }
}

#[test]
fn a_call_dropped_after_any_poll_leaves_nothing_behind() {
    for make in SUBJECTS {
        for script in SCRIPTS {
            let mut finished = false;
            let mut drops = 0;
            let mut waits = true;
            for polls in 0..200 {
                run(async {
                    let inner = Strict::new(statuses(script));
                    let mut subject = make(script, &inner);
                    if matches!(script, Script::Ejected | Script::Hopeless) {
                        // The one that ejects it.
                        subject.call().await.unwrap();
                        if !subject.waits() {
                            tokio::time::sleep(ms(20)).await;
                        }
                        waits = subject.waits();
                    } else {
                        // Makes the leaves, so that their owners can be counted.
                        let _ = subject.call().await;
                        inner.calls.store(0, Ordering::Relaxed);
                    }
                    let owners = Arc::strong_count(&inner.alive);
                    match poll_times(subject.call(), polls).await {
                        Some(_) => finished = true,
                        None => drops += 1,
                    }
                    if !subject.is_client() {
                        tokio::time::sleep(ms(50)).await;
                    }
                    let after = format!("{script:?}, dropped after {polls} polls");
                    // A leaf of a second endpoint may have been made meanwhile.
                    let made = Arc::strong_count(&inner.alive).saturating_sub(owners);
                    assert!(
                        made <= 1 || !subject.is_client(),
                        "{after}: {made} calls or bodies left"
                    );
                    assert_nothing_left(&*subject, &inner, owners + made, &after);
                    // And it serves on.
                    tokio::time::sleep(s(61)).await;
                    let _ = subject.call().await;
                    assert_nothing_left(&*subject, &inner, owners + made, &after);
                });
                if finished {
                    break;
                }
            }
            assert!(finished, "200 polls are not enough for {script:?}");
            // There is no place within a refusal.
            let refused = matches!(script, Script::Hopeless) && !waits;
            assert!(
                drops >= 2 || refused,
                "{script:?}: only {drops} places to drop it at"
            );
        }
    }
}

#[test]
fn clones_made_at_any_point_serve_and_share_their_state() {
    for make in SUBJECTS {
        run(async {
            // Healthy but for the first answer, which ejects: a clone that shared nothing would not know.
            let inner = Strict::new(statuses(Script::Hopeless));
            let mut original = make(Script::Hopeless, &inner);
            if !original.ejects() {
                return;
            }
            let mut before = original.duplicate();
            original.call().await.unwrap();
            let mut after = original.duplicate();
            for clone in [&mut before, &mut after, &mut original] {
                let error = clone.call().await.unwrap_err();
                let refused = error.contains("ejected") || error.contains("is open");
                assert!(refused, "{error}");
            }
            assert_eq!(inner.calls.load(Ordering::Relaxed), 1);
        });
        run(async {
            let inner = Strict::new(statuses(Script::Healthy));
            let mut original = make(Script::Healthy, &inner);
            let mut clones = Vec::new();
            // Clones made before, during and after a call.
            clones.push(original.duplicate());
            let mut call = original.call();
            let mut done = None;
            while done.is_none() {
                // One poll, and a clone made after it.
                done = poll_times(&mut call, 1).await;
                clones.push(original.duplicate());
                tokio::time::sleep(ms(1)).await;
            }
            assert!(clones.len() > 3);
            assert_eq!(done.unwrap().unwrap().0, StatusCode::OK);
            let calls: Vec<_> = clones.iter_mut().map(|clone| clone.call()).collect();
            for call in calls {
                assert_eq!(call.await.unwrap(), (StatusCode::OK, Bytes::from("hello")));
            }
        });
    }
}

// === the list of bodies ===

/// A body of ours around `Slow`, as it is given to a caller.
type Wrap = fn() -> Pin<Box<dyn Future<Output = Body>>>;

const BODIES: &[(&str, Wrap)] = &[
    ("erased", || {
        Box::pin(async { Body::new(Slow::new(Arc::default())) })
    }),
    ("erased twice", || {
        Box::pin(async { Body::new(Body::new(Slow::new(Arc::default()))) })
    }),
    ("replayed, the first time", || {
        Box::pin(async {
            let body = Body::new(Slow::new(Arc::default()));
            let mut replay = Replay::new(body, 5);
            replay.attempt().unwrap()
        })
    }),
    ("replayed, after an attempt that read nothing", || {
        Box::pin(async {
            let mut replay = Replay::new(Body::new(Slow::new(Arc::default())), 5);
            drop(replay.attempt());
            replay.last().unwrap()
        })
    }),
    ("replayed, over the limit", || {
        Box::pin(async {
            let mut replay = Replay::new(Body::new(Slow::new(Arc::default())), 1);
            let body = replay.attempt().unwrap();
            // Kept, so that it is the limit that ends it.
            std::mem::forget(replay);
            body
        })
    }),
    ("held, and handed over before its first frame", || {
        Box::pin(async {
            let inner = Strict::new(|_| StatusCode::OK);
            let client = make_client(Script::Held(MethodKind::Streaming), &inner);
            client.request(grpc()).await.unwrap().into_body()
        })
    }),
    ("settling a breaker alone", || {
        Box::pin(async {
            let layer = BreakerLayer::new(FailureAccrual::consecutive(1)).settling_bodies();
            let mut service = layer.layer(Strict::new(|_| StatusCode::OK));
            std::future::poll_fn(|cx| service.poll_ready(cx))
                .await
                .unwrap();
            // Not boxed: what is watched is the body itself, behind an erased one that has no opinion.
            Body::new(service.call(get()).await.unwrap().into_body())
        })
    }),
    ("settling", || {
        Box::pin(async {
            let client = make_client(Script::Healthy, &Strict::new(|_| StatusCode::OK));
            client.request(get()).await.unwrap().into_body()
        })
    }),
    ("settling a failure", || {
        Box::pin(async {
            let client = make_client(Script::Healthy, &Strict::new(|_| StatusCode::BAD_GATEWAY));
            client.request(get()).await.unwrap().into_body()
        })
    }),
];

#[derive(Debug, PartialEq)]
enum Seen {
    Pending,
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

/// Everything that can be seen of a body, poll by poll.
fn watch<B>(mut body: Pin<&mut B>) -> Vec<(Seen, bool, Option<u64>, u64)>
where
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut all = Vec::new();
    loop {
        let hint = body.size_hint();
        let end = body.is_end_stream();
        let seen = match body.as_mut().poll_frame(&mut cx) {
            Poll::Pending => Seen::Pending,
            Poll::Ready(None) => Seen::End,
            Poll::Ready(Some(Err(error))) => panic!("{error:?}"),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => Seen::Data(data),
                Err(frame) => Seen::Trailers(frame.into_trailers().unwrap_or_default()),
            },
        };
        let done = seen == Seen::End;
        all.push((seen, end, hint.upper(), hint.lower()));
        if done {
            return all;
        }
    }
}

#[test]
fn bodies_come_through_untouched() {
    let bare = watch(std::pin::pin!(Slow::new(Arc::default())));
    assert_eq!(bare.len(), 7);
    for (name, wrap) in BODIES {
        run(async {
            let body = wrap().await;
            let mut seen = watch(std::pin::pin!(body));
            // What a body that is over says of its length is nobody's concern.
            let ((last, ended, ..), (end, is_over, ..)) =
                (seen.pop().unwrap(), bare.last().unwrap());
            assert_eq!((&last, ended), (end, *is_over), "{name}");
            assert_eq!(seen, bare[..bare.len() - 1], "{name}");
        });
    }
}

#[test]
fn bodies_dropped_at_any_frame_leave_nothing_behind() {
    for frames in 0..=6 {
        run(async {
            let inner = Strict::new(|_| StatusCode::OK);
            let client = make_client(Script::Healthy, &inner);
            let mut body = client.request(get()).await.unwrap().into_body();
            let mut cx = Context::from_waker(std::task::Waker::noop());
            for _ in 0..frames {
                let _ = Pin::new(&mut body).poll_frame(&mut cx);
            }
            drop(body);
            let subject = ClientSubject {
                client,
                inner: inner.clone(),
                name: "body",
                through: Through::Client,
                request: get,
            };
            assert_eq!(
                subject.leftovers(),
                Vec::<String>::new(),
                "after {frames} polls"
            );
            // A 200 whose body nobody reads is a success.
            assert_eq!(
                subject.client.snapshot().endpoints().next().unwrap().gate,
                Gate::Closed
            );
        });
    }
}
