//! hyper's servers, and calls to them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep};
use tower_mesh::connect::{Connections, HttpBody, HttpConnector, HttpLeaf, Settings, Version};
use tower_mesh::{Body, Connect, Endpoint};
use tower_service::Service;

/// Long enough for anything that happens here; a test that waits for it has failed.
pub const STUCK: Duration = Duration::from_secs(20);
pub const SHORT: Duration = Duration::from_millis(60);

/// A server that answers each request with how it was asked, once it has leave to.
#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    pub requests: Arc<AtomicUsize>,
    pub leave: Arc<Semaphore>,
    pub max_streams: Option<u32>,
}

// === the server ===

pub const LONG: usize = 8 << 20;

impl Server {
    pub async fn start(version: Version) -> Self {
        Self::start_watched(version).await.0
    }

    pub async fn start_watched(version: Version) -> (Self, mpsc::UnboundedReceiver<()>) {
        Self::listen(version, None).await
    }

    pub async fn restart(self, version: Version) -> Self {
        Self::listen(version, self.max_streams).await.0
    }

    pub async fn listen(
        version: Version,
        max_streams: Option<u32>,
    ) -> (Self, mpsc::UnboundedReceiver<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (close, closed) = mpsc::unbounded_channel();
        let server = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            requests: Arc::default(),
            leave: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS / 2)),
            max_streams,
        };
        let accepting = server.clone();
        tokio::spawn(async move {
            loop {
                let io = TokioIo::new(listener.accept().await.unwrap().0);
                accepting.connections.fetch_add(1, Ordering::SeqCst);
                let (server, close) = (accepting.clone(), close.clone());
                tokio::spawn(async move {
                    let max_streams = server.max_streams;
                    let service = service_fn(move |request| server.clone().answer(request));
                    let _ = if version == Version::Http2 {
                        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                            .max_concurrent_streams(max_streams)
                            .serve_connection(io, service)
                            .await
                    } else {
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(io, service)
                            .await
                    };
                    let _ = close.send(());
                });
            }
        });
        (server, closed)
    }

    pub async fn answer(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        self.leave.acquire().await.unwrap().forget();
        let uri = request.uri();
        let host = request
            .headers()
            .get("host")
            .map(|host| host.to_str().unwrap());
        let host = host.or(uri.authority().map(|a| a.as_str())).unwrap();
        let body = match uri.path() {
            "/long" => Bytes::from(vec![7; LONG]),
            "/scheme" => uri.scheme_str().unwrap_or("none").to_owned().into(),
            _ => {
                let path = uri.path_and_query().unwrap();
                format!("{:?} {host} {path}", request.version()).into()
            }
        };
        Ok(Response::new(Full::new(body)))
    }

    /// It answers nobody before `leave` is given.
    pub fn holding(self) -> Self {
        self.leave.forget_permits(usize::MAX);
        self
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.address)
    }

    pub fn leaf(&self, version: Version, settings: Settings) -> HttpLeaf {
        HttpConnector::new()
            .with_version(version)
            .with_settings(settings)
            .connect(&self.endpoint())
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// So many calls, once all of them have arrived.
    pub async fn pending(&self, leaf: &HttpLeaf, n: usize) -> Vec<tokio::task::JoinHandle<String>> {
        let arrived = self.requests.load(Ordering::SeqCst) + n;
        let calls = (0..n).map(|_| {
            let leaf = leaf.clone();
            tokio::spawn(async move { get(&leaf).await })
        });
        let calls = calls.collect();
        wait(|| self.requests.load(Ordering::SeqCst) == arrived).await;
        calls
    }
}

// === calls ===

pub fn request(path: &str) -> Request<Body> {
    let uri = format!("http://payments.shop:8080{path}");
    Request::get(uri).body(Body::empty()).unwrap()
}

pub async fn send(leaf: &HttpLeaf, path: &str) -> Response<HttpBody> {
    leaf.clone().call(request(path)).await.unwrap()
}

pub async fn get(leaf: &HttpLeaf) -> String {
    let response = send(leaf, "/quote?id=7").await;
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

pub fn counts(leaf: &HttpLeaf) -> (usize, usize, usize, usize) {
    let now = leaf.connections();
    (now.idle, now.active, now.dialing, now.waiting)
}

pub async fn until(leaf: &HttpLeaf, reached: impl Fn(Connections) -> bool) {
    wait(|| reached(leaf.connections())).await;
}

pub async fn wait(reached: impl Fn() -> bool) {
    let end = Instant::now() + STUCK;
    while !reached() {
        assert!(Instant::now() < end, "stuck");
        sleep(Duration::from_millis(1)).await;
    }
}

pub async fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}
