//! Scripted endpoints for tests: no sockets, virtual time.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod frames;
pub mod routes;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use tokio::time::Instant;
use tower_mesh::breaker::Gate;
use tower_mesh::client::PolicySource;
use tower_mesh::core::observe::Decision;
use tower_mesh::discover::{Endpoints, Update};
use tower_mesh::policy::{ClientPolicy, ExponentialBackoff, Ratio};
use tower_mesh::verdict::{Sent, TransportError, TransportFailure};
use tower_mesh::{Body, BoxError, Client, Endpoint, RequestOptions, Served};
use tower_service::Service;

pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// `10.0.0.n:80`.
pub fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 80))
}

pub fn addresses(count: u8) -> Vec<SocketAddr> {
    (1..=count).map(address).collect()
}

pub fn get() -> Request<Body> {
    Request::get("http://web.shop/")
        .body(Body::empty())
        .unwrap()
}

pub fn with(options: RequestOptions) -> Request<Body> {
    let mut request = get();
    request.extensions_mut().insert(options);
    request
}

pub fn served(response: &Response<Body>) -> &Served {
    response.extensions().get().unwrap()
}

/// The whole body.
pub async fn body(response: Response<Body>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

/// A policy of defaults.
pub fn plain() -> ClientPolicy {
    ClientPolicy::http().build().unwrap()
}

/// So long each time, without jitter.
pub fn steady(wait: Duration) -> ExponentialBackoff {
    ExponentialBackoff::try_new(wait, wait, Ratio::ZERO).unwrap()
}

/// A source that says who comes and who goes, and never by itself that there is nobody.
pub fn updates() -> (impl Fn(Update), Endpoints) {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let updates = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
    let send = move |update| sender.send(Ok::<_, BoxError>(update)).unwrap();
    (send, Endpoints::stream(updates))
}

/// How many endpoints are ejected or on probation.
pub fn ejected(client: &Client) -> usize {
    let snapshot = client.snapshot();
    let out = snapshot.endpoints().filter(|at| at.gate != Gate::Closed);
    out.count()
}

/// What an endpoint does with one request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Answers with this status after this time.
    Status(u16, Duration),
    /// Answers with this response after this time.
    Full(Arc<Response<Bytes>>, Duration),
    /// Fails like this after this time.
    Fail(TransportFailure, Sent, Duration),
    /// Never answers.
    Hang,
}

pub fn ok() -> Reply {
    Reply::Status(200, ms(10))
}

/// A request as an endpoint saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at: Instant,
    pub endpoint: SocketAddr,
    pub uri: http::Uri,
    pub headers: http::HeaderMap,
}

type Script = dyn Fn(SocketAddr, usize) -> Reply + Send + Sync;

/// Scripted endpoints: `script(address, how many requests it had before)`.
#[derive(Clone)]
pub struct Mesh {
    script: Arc<Script>,
    pub seen: Arc<Mutex<Vec<Seen>>>,
}

impl Mesh {
    pub fn new(script: impl Fn(SocketAddr, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self {
            script: Arc::new(script),
            seen: Arc::default(),
        }
    }

    /// Each endpoint answers its first request with this status, and all others well.
    pub fn fails_first(status: u16) -> Self {
        Self::new(move |_, n| {
            if n == 0 {
                Reply::Status(status, ms(1))
            } else {
                ok()
            }
        })
    }

    /// Endpoint `n` always answers with this status, all others answer well.
    pub fn with_failing(n: u8, status: u16) -> Self {
        Self::new(move |at, _| {
            if at == address(n) {
                Reply::Status(status, ms(1))
            } else {
                ok()
            }
        })
    }

    /// A client of these endpoints; all else is by default.
    pub fn client(
        &self,
        policy: impl Into<PolicySource>,
        endpoints: impl Into<Endpoints>,
    ) -> Client {
        Client::builder(policy)
            .endpoints(endpoints)
            .build(self.connect())
            .unwrap()
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn count(&self, endpoint: SocketAddr) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|seen| seen.endpoint == endpoint).count()
    }

    /// Makes leaves.
    pub fn connect(&self) -> impl Fn(&Endpoint) -> MockLeaf + Send + Sync + 'static + use<> {
        let mesh = self.clone();
        move |endpoint| MockLeaf {
            mesh: mesh.clone(),
            endpoint: endpoint.address(),
            is_ready: false,
        }
    }
}

/// A leaf that panics when it is called before it is ready, and whose clones are not ready.
pub struct MockLeaf {
    mesh: Mesh,
    endpoint: SocketAddr,
    is_ready: bool,
}

impl Clone for MockLeaf {
    fn clone(&self) -> Self {
        Self {
            mesh: self.mesh.clone(),
            endpoint: self.endpoint,
            is_ready: false,
        }
    }
}

impl Service<Request<Body>> for MockLeaf {
    type Response = Response<Full<Bytes>>;
    type Error = TransportError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, TransportError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        assert!(
            std::mem::take(&mut self.is_ready),
            "called before it was ready"
        );
        let n = self.mesh.count(self.endpoint);
        self.mesh.seen.lock().unwrap().push(Seen {
            at: Instant::now(),
            endpoint: self.endpoint,
            uri: request.uri().clone(),
            headers: request.headers().clone(),
        });
        let reply = (self.mesh.script)(self.endpoint, n);
        Box::pin(async move {
            // The request is the endpoint's for as long as it works on it.
            let _request = request;
            match reply {
                Reply::Status(status, after) => {
                    tokio::time::sleep(after).await;
                    Ok(Response::builder()
                        .status(status)
                        .body(Full::from("body"))
                        .unwrap())
                }
                Reply::Full(response, after) => {
                    tokio::time::sleep(after).await;
                    let (parts, body) = (*response).clone().into_parts();
                    Ok(Response::from_parts(parts, Full::from(body)))
                }
                Reply::Fail(failure, sent, after) => {
                    tokio::time::sleep(after).await;
                    Err(TransportError::new(failure, sent, "scripted"))
                }
                Reply::Hang => std::future::pending().await,
            }
        })
    }
}

/// Every decision with its time.
#[derive(Clone, Default)]
pub struct Log(pub Arc<Mutex<Vec<(Instant, Decision)>>>);

impl Log {
    pub fn observer(&self) -> impl Fn(Instant, &Decision) + Send + Sync + 'static + use<> {
        let log = Arc::clone(&self.0);
        move |at, decision| log.lock().unwrap().push((at, decision.clone()))
    }

    pub fn names(&self) -> Vec<&'static str> {
        let log = self.0.lock().unwrap();
        log.iter().map(|(_, decision)| decision.name()).collect()
    }

    pub fn count(&self, name: &str) -> usize {
        self.names().iter().filter(|n| **n == name).count()
    }

    /// One line for each, times counted from `start`.
    pub fn lines(&self, start: Instant) -> Vec<String> {
        let log = self.0.lock().unwrap();
        log.iter()
            .map(|(at, decision)| {
                let mut text = format!("{:?} {decision:?}", *at - start);
                // An instant within a decision is counted from the start, too.
                if let Decision::Opened {
                    endpoint,
                    why,
                    until,
                } = decision
                {
                    text = format!(
                        "{:?} Opened {endpoint} {why} {:?}",
                        *at - start,
                        *until - start
                    );
                }
                text
            })
            .collect()
    }
}
