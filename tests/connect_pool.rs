//! How connections are shared, opened, kept, closed and given back, against hyper's own servers.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version as Wire};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tower_mesh::connect::{
    Connections, Dialed, HttpBody, HttpConnector, HttpLeaf, Settings, Tcp, Version,
};
use tower_mesh::{Body, Connect, Endpoint};
use tower_service::Service;

/// Long enough for anything that happens here; a test that waits for it has failed.
const STUCK: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(60);

/// A server that answers each request with how it was asked, once it has leave to.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    leave: Arc<Semaphore>,
    max_streams: Option<u32>,
}

// === keeping and sharing ===

#[tokio::test]
async fn one_http1_connection_serves_one_after_the_other() {
    let server = Server::start(Version::Http1).await;
    let leaf = server.leaf(Version::Http1, Settings::new());
    for _ in 0..10 {
        assert_eq!(get(&leaf).await, "HTTP/1.1 payments.shop:8080 /quote?id=7");
    }
    assert_eq!(server.connections(), 1);
    assert_eq!(counts(&leaf), (1, 0, 0, 0));
}

#[tokio::test]
async fn http1_opens_a_connection_for_each_concurrent_request_and_keeps_so_many() {
    let server = Server::start(Version::Http1).await.holding();
    let leaf = server.leaf(Version::Http1, Settings::new().with_max_idle(3));
    let calls = server.pending(&leaf, 5).await;
    assert_eq!(counts(&leaf), (0, 5, 0, 0));
    server.leave.add_permits(5);
    for call in calls {
        call.await.unwrap();
    }
    until(&leaf, |now| now.active == 0).await;
    assert_eq!(counts(&leaf), (3, 0, 0, 0));
    assert_eq!(server.connections(), 5);
}

#[tokio::test]
async fn an_http1_connection_is_free_when_the_response_body_has_ended() {
    let server = Server::start(Version::Http1).await;
    let leaf = server.leaf(Version::Http1, Settings::new());
    // Too long to be on its way as a whole.
    let response = send(&leaf, "/long").await;
    get(&leaf).await;
    assert_eq!(server.connections(), 2);
    assert_eq!(
        response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .len(),
        LONG
    );
    until(&leaf, |now| now.idle == 2).await;
    // Dropped half-way, it costs the connection.
    drop(send(&leaf, "/long").await);
    until(&leaf, |now| (now.idle, now.active) == (1, 0)).await;
}

#[tokio::test]
async fn http2_shares_a_connection_until_it_is_full() {
    let server = Server::start(Version::Http2).await.holding();
    let settings = Settings::new().with_streams_per_connection(10);
    let leaf = server.leaf(Version::Http2, settings);
    let first = server.pending(&leaf, 10).await;
    assert_eq!((server.connections(), counts(&leaf)), (1, (0, 1, 0, 0)));
    let second = server.pending(&leaf, 11).await;
    assert_eq!((server.connections(), counts(&leaf)), (3, (0, 3, 0, 0)));
    server.leave.add_permits(21);
    for call in first.into_iter().chain(second) {
        assert_eq!(
            call.await.unwrap(),
            "HTTP/2.0 payments.shop:8080 /quote?id=7"
        );
    }
    until(&leaf, |now| now.active == 0).await;
    server.leave.add_permits(1);
    get(&leaf).await;
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn http2_does_not_open_more_streams_than_the_peer_allows() {
    let mut server = Server::start(Version::Http1).await;
    server.max_streams = Some(2);
    let server = server.restart(Version::Http2).await.holding();
    let leaf = server.leaf(Version::Http2, Settings::new());
    let calls = server.pending(&leaf, 5).await;
    assert_eq!(server.connections(), 3);
    server.leave.add_permits(5);
    for call in calls {
        call.await.unwrap();
    }
}

#[tokio::test]
async fn an_http2_stream_is_free_when_the_response_body_has_ended() {
    let server = Server::start(Version::Http2).await;
    let settings = Settings::new().with_streams_per_connection(1);
    let leaf = server.leaf(Version::Http2, settings);
    let response = send(&leaf, "/long").await;
    get(&leaf).await;
    assert_eq!((server.connections(), counts(&leaf)), (2, (1, 1, 0, 0)));
    let body = Body::new(response.into_body()).collect().await.unwrap();
    assert_eq!(body.to_bytes().len(), LONG);
    assert_eq!(counts(&leaf), (2, 0, 0, 0));
    // Dropped half-way, it costs the stream only.
    drop(send(&leaf, "/long").await);
    assert_eq!(counts(&leaf), (2, 0, 0, 0));
    get(&leaf).await;
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn those_in_line_take_what_becomes_free_before_a_dial_ends() {
    let server = Server::start(Version::Http1).await;
    // The second dial never ends.
    let dials = Arc::new(AtomicUsize::new(0));
    let dialer = move |endpoint: Endpoint| {
        let dial = dials.fetch_add(1, Ordering::SeqCst);
        async move {
            if dial > 0 {
                std::future::pending::<()>().await;
            }
            let tcp = Tcp::new().connect(endpoint.address()).await?;
            std::io::Result::Ok(Dialed::plain(TokioIo::new(tcp)))
        }
    };
    let leaf = HttpConnector::new()
        .with_dialer(dialer)
        .with_settings(Settings::new().with_connect_timeout(STUCK * 10))
        .connect(&server.endpoint());
    let response = send(&leaf, "/long").await;
    let mut second = tokio::spawn({
        let leaf = leaf.clone();
        async move { get(&leaf).await }
    });
    until(&leaf, |now| now.waiting == 1).await;
    assert!(timeout(SHORT, &mut second).await.is_err());
    response.into_body().collect().await.unwrap();
    timeout(STUCK, second).await.unwrap().unwrap();
    assert_eq!(counts(&leaf), (1, 0, 1, 0));
}

// === what ALPN chose ===

#[tokio::test]
async fn what_was_agreed_on_while_dialing_wins() {
    for (alpn, version, want) in [
        (Some(&b"h2"[..]), Version::Auto, Wire::HTTP_2),
        (Some(b"http/1.1"), Version::Auto, Wire::HTTP_11),
        (Some(b"h2"), Version::Http1, Wire::HTTP_2),
        (Some(b"http/1.1"), Version::Http2, Wire::HTTP_11),
        (None, Version::Auto, Wire::HTTP_11),
        (None, Version::Http2, Wire::HTTP_2),
    ] {
        let http2 = want == Wire::HTTP_2;
        let speaks = if http2 {
            Version::Http2
        } else {
            Version::Http1
        };
        let server = Server::start(speaks).await.holding();
        let dialer = move |endpoint: Endpoint| async move {
            let tcp = Tcp::new().connect(endpoint.address()).await?;
            std::io::Result::Ok(Dialed::tls(TokioIo::new(tcp), alpn))
        };
        let leaf = HttpConnector::new()
            .with_version(version)
            .with_dialer(dialer)
            .connect(&server.endpoint());
        let calls = server.pending(&leaf, 3).await;
        // Who expects HTTP/1.1 dials for each.
        let shared = http2 && version != Version::Http1;
        wait(|| server.connections() == if shared { 1 } else { 3 }).await;
        server.leave.add_permits(3);
        for call in calls {
            assert!(call.await.unwrap().starts_with(&format!("{want:?}")));
        }
        // An encrypted connection is `https` unless the request says otherwise.
        server.leave.add_permits(1);
        let relative = Request::get("/scheme").body(Body::empty()).unwrap();
        let response = leaf.clone().call(relative).await.unwrap();
        let scheme = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(scheme, if http2 { "https" } else { "none" });
    }
}

// === growing old ===

#[tokio::test]
async fn idle_connections_close_themselves() {
    for version in [Version::Http1, Version::Http2] {
        let server = Server::start(version).await;
        let leaf = server.leaf(version, Settings::new().with_idle_timeout(SHORT));
        get(&leaf).await;
        until(&leaf, |now| now == Connections::default()).await;
        get(&leaf).await;
        assert_eq!(server.connections(), 2, "{version:?}");
    }
}

#[tokio::test]
async fn a_connection_in_use_is_not_idle() {
    for version in [Version::Http1, Version::Http2] {
        let server = Server::start(version).await.holding();
        let leaf = server.leaf(version, Settings::new().with_idle_timeout(SHORT));
        let mut calls = server.pending(&leaf, 1).await;
        sleep(SHORT * 3).await;
        server.leave.add_permits(1);
        calls.remove(0).await.unwrap();
        assert_eq!(server.connections(), 1, "{version:?}");
    }
}

#[tokio::test]
async fn without_an_idle_timeout_each_request_has_its_own() {
    for version in [Version::Http1, Version::Http2] {
        let server = Server::start(version).await;
        let leaf = server.leaf(version, Settings::new().with_idle_timeout(Duration::ZERO));
        for _ in 0..3 {
            get(&leaf).await;
        }
        assert_eq!(server.connections(), 3, "{version:?}");
        until(&leaf, |now| now == Connections::default()).await;
    }
}

#[tokio::test]
async fn an_old_connection_takes_no_more_requests() {
    for version in [Version::Http1, Version::Http2] {
        let server = Server::start(version).await.holding();
        let leaf = server.leaf(version, Settings::new().with_max_age(Some(SHORT)));
        let mut calls = server.pending(&leaf, 1).await;
        sleep(SHORT * 2).await;
        // What is on it finishes.
        server.leave.add_permits(2);
        get(&leaf).await;
        calls.remove(0).await.unwrap();
        assert_eq!(server.connections(), 2, "{version:?}");
        // Unused, it closes by itself.
        until(&leaf, |now| now == Connections::default()).await;
    }
}

#[tokio::test]
async fn an_age_of_nothing_serves_one_request_each() {
    for version in [Version::Http1, Version::Http2] {
        let server = Server::start(version).await;
        let leaf = server.leaf(version, Settings::new().with_max_age(Some(Duration::ZERO)));
        for _ in 0..3 {
            get(&leaf).await;
        }
        assert_eq!(server.connections(), 3, "{version:?}");
    }
}

#[tokio::test]
async fn the_last_handle_closes_the_connections() {
    for version in [Version::Http1, Version::Http2] {
        let (server, mut closed) = Server::start_watched(version).await;
        let leaf = server.leaf(version, Settings::new());
        get(&leaf).await;
        drop(leaf);
        timeout(STUCK, closed.recv()).await.expect("closed");
    }
}

// === dropping calls ===

/// Drops a call after each number of polls that it can be pending for.
#[tokio::test]
async fn a_call_dropped_at_any_poll_leaves_nothing_behind() {
    for version in [Version::Http1, Version::Http2] {
        let server = Server::start(version).await;
        let leaf = server.leaf(version, Settings::new());
        for polls in 0.. {
            let mut call = pin!(send(&leaf, "/quote?id=7"));
            let mut left = polls;
            let done = std::future::poll_fn(|cx| {
                if left == 0 {
                    return std::task::Poll::Ready(None);
                }
                left -= 1;
                call.as_mut().poll(cx).map(Some)
            });
            let done = done.await.is_some();
            if done {
                break;
            }
            // A connection that was made goes on.
            call.set(send(&leaf, "/quote?id=7"));
            until(&leaf, |now| now.waiting + now.dialing == 0).await;
        }
        until(&leaf, |now| now.active == 0).await;
    }
}

#[tokio::test]
async fn a_dropped_call_frees_its_connection_or_stream() {
    for version in [Version::Http1, Version::Http2] {
        let server = Server::start(version).await.holding();
        let leaf = server.leaf(version, Settings::new());
        let calls = server.pending(&leaf, 4).await;
        for call in calls {
            call.abort();
            assert!(call.await.unwrap_err().is_cancelled());
        }
        until(&leaf, |now| now.active == 0).await;
        // HTTP/1.1 has no other way to say so than to close; HTTP/2 resets the streams.
        let kept = usize::from(version == Version::Http2);
        assert_eq!(counts(&leaf), (kept, 0, 0, 0), "{version:?}");
        server.leave.add_permits(5);
        get(&leaf).await;
    }
}

#[tokio::test]
async fn a_dial_whose_request_left_serves_the_next() {
    for version in [Version::Http1, Version::Http2] {
        let server = Server::start(version).await;
        let (go, gate) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let dialer = {
            let (go, gate) = (go.clone(), gate.clone());
            move |endpoint: Endpoint| {
                let (go, gate) = (go.clone(), gate.clone());
                async move {
                    gate.fetch_add(1, Ordering::SeqCst);
                    let _go = go.acquire().await;
                    let tcp = Tcp::new().connect(endpoint.address()).await?;
                    std::io::Result::Ok(Dialed::plain(TokioIo::new(tcp)))
                }
            }
        };
        let leaf = HttpConnector::new()
            .with_version(version)
            .with_dialer(dialer)
            .with_settings(Settings::new().with_connect_timeout(STUCK))
            .connect(&server.endpoint());
        let first = tokio::spawn({
            let leaf = leaf.clone();
            async move { get(&leaf).await }
        });
        until(&leaf, |now| now.waiting == 1).await;
        first.abort();
        until(&leaf, |now| now.waiting == 0).await;
        assert_eq!(leaf.connections().dialing, 1);
        let second = tokio::spawn({
            let leaf = leaf.clone();
            async move { get(&leaf).await }
        });
        until(&leaf, |now| now.waiting == 1).await;
        go.add_permits(1);
        second.await.unwrap();
        assert_eq!((gate.load(Ordering::SeqCst), server.connections()), (1, 1));
    }
}

#[tokio::test]
async fn a_refused_dial_fails_all_that_waited_for_it() {
    let leaf = HttpConnector::new()
        .with_version(Version::Http2)
        .connect(&Endpoint::new(closed_port().await));
    let calls: Vec<_> = (0..5).map(|_| leaf.clone().call(request("/"))).collect();
    for call in calls {
        assert!(timeout(STUCK, call).await.unwrap().is_err());
    }
    assert_eq!(counts(&leaf), (0, 0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_with_some_that_leave() {
    for version in [Version::Http1, Version::Http2] {
        let server = Server::start(version).await;
        let settings = Settings::new().with_streams_per_connection(3);
        let leaf = server.leaf(version, settings);
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..400u64 {
            let leaf = leaf.clone();
            calls.spawn(async move {
                // A few are gone before they have begun, others in the middle.
                let patience = if n % 3 == 0 { n % 7 } else { 20_000 };
                let answer = timeout(Duration::from_millis(patience), get(&leaf)).await;
                assert!(n % 3 == 0 || answer.is_ok());
            });
        }
        while let Some(call) = calls.join_next().await {
            call.unwrap();
        }
        until(&leaf, |now| now.active + now.waiting + now.dialing == 0).await;
    }
}

// === the server ===

const LONG: usize = 8 << 20;

impl Server {
    async fn start(version: Version) -> Self {
        Self::start_watched(version).await.0
    }

    async fn start_watched(version: Version) -> (Self, mpsc::UnboundedReceiver<()>) {
        Self::listen(version, None).await
    }

    async fn restart(self, version: Version) -> Self {
        Self::listen(version, self.max_streams).await.0
    }

    async fn listen(
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

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
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
    fn holding(self) -> Self {
        self.leave.forget_permits(usize::MAX);
        self
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.address)
    }

    fn leaf(&self, version: Version, settings: Settings) -> HttpLeaf {
        HttpConnector::new()
            .with_version(version)
            .with_settings(settings)
            .connect(&self.endpoint())
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// So many calls, once all of them have arrived.
    async fn pending(&self, leaf: &HttpLeaf, n: usize) -> Vec<tokio::task::JoinHandle<String>> {
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

fn request(path: &str) -> Request<Body> {
    let uri = format!("http://payments.shop:8080{path}");
    Request::get(uri).body(Body::empty()).unwrap()
}

async fn send(leaf: &HttpLeaf, path: &str) -> Response<HttpBody> {
    leaf.clone().call(request(path)).await.unwrap()
}

async fn get(leaf: &HttpLeaf) -> String {
    let response = send(leaf, "/quote?id=7").await;
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

fn counts(leaf: &HttpLeaf) -> (usize, usize, usize, usize) {
    let now = leaf.connections();
    (now.idle, now.active, now.dialing, now.waiting)
}

async fn until(leaf: &HttpLeaf, reached: impl Fn(Connections) -> bool) {
    wait(|| reached(leaf.connections())).await;
}

async fn wait(reached: impl Fn() -> bool) {
    let end = Instant::now() + STUCK;
    while !reached() {
        assert!(Instant::now() < end, "stuck");
        sleep(Duration::from_millis(1)).await;
    }
}

async fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}
