//! What a leaf says about each way that a connection can fail, pinned against servers made of raw bytes.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tower_mesh::connect::{
    Connections, Dialed, HttpBody, HttpConnector, HttpLeaf, Settings, Version,
};
use tower_mesh::verdict::{Sent, TransportError, TransportFailure as Failure};
use tower_mesh::{Body, BoxError, Connect, Endpoint};
use tower_service::Service;

type Answer = Result<Response<HttpBody>, TransportError>;

/// Long enough for anything that happens here; a test that waits for it has failed.
const STUCK: Duration = Duration::from_secs(20);

// === the table ===

#[derive(Clone, Copy, Debug)]
enum Server {
    /// HTTP/1.1: reads a request head, writes this, closes.
    Http1(&'static [u8]),
    /// HTTP/1.1: reads a request head, resets the TCP connection.
    Http1Reset,
    /// Accepts, writes this, closes without having read.
    Says(&'static [u8]),
    /// HTTP/2: waits for a stream's HEADERS, writes these frames, then closes.
    Http2(&'static [Sends]),
    /// HTTP/2: waits for a stream's HEADERS, writes these frames, stays open.
    Http2Open(&'static [Sends]),
    /// HTTP/2: waits for a stream's HEADERS, resets the TCP connection.
    Http2Reset,
}

#[derive(Clone, Copy, Debug)]
enum Sends {
    Reset(u32),
    GoAway { last: u32, reason: u32 },
    Raw(&'static [u8]),
}

#[derive(Clone, Copy, Debug)]
enum Asks {
    Get,
    BodyBreaks,
    Endless,
    ConnectWithoutTarget,
}

const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;
const HTTP_1_1_REQUIRED: u32 = 13;
const MAX_STREAM: u32 = 0x7fff_ffff;

#[rustfmt::skip]
const TABLE: &[(&str, Server, Asks, Failure, Sent)] = {
    use Asks::*;
    use Sends::*;
    use Server::*;
    &[
        ("h1: closed without an answer", Http1(b""), Get, Failure::Broken, Sent::Unknown),
        ("h1: half a head, then closed", Http1(b"HTTP/1.1 200 O"), Get, Failure::Broken, Sent::Unknown),
        ("h1: a head without its end", Http1(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n"), Get, Failure::Broken, Sent::Unknown),
        ("h1: not HTTP", Http1(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), Get, Failure::Broken, Sent::Unknown),
        ("h1: TCP reset", Http1Reset, Get, Failure::Broken, Sent::Unknown),
        ("h1: TCP reset while the body is sent", Http1Reset, Endless, Failure::Broken, Sent::Unknown),
        ("h1: the caller's body breaks", Http1(b""), BodyBreaks, Failure::RequestBody, Sent::Unknown),
        ("h1: CONNECT without a target", Http1(b""), ConnectWithoutTarget, Failure::Request, Sent::NotSent),

        ("h2: the peer speaks HTTP/1.1", Says(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n"), Get, Failure::Connect, Sent::NotSent),
        ("h2: closed before SETTINGS", Says(b""), Get, Failure::Connect, Sent::NotSent),
        ("h2: closed within SETTINGS", Says(b"\0\0\0\x04"), Get, Failure::Connect, Sent::NotSent),
        ("h2: REFUSED_STREAM", Http2Open(&[Reset(REFUSED_STREAM)]), Get, Failure::Refused, Sent::Unprocessed),
        ("h2: REFUSED_STREAM while the body is sent", Http2Open(&[Reset(REFUSED_STREAM)]), Endless, Failure::Refused, Sent::Unprocessed),
        ("h2: INTERNAL_ERROR", Http2Open(&[Reset(INTERNAL_ERROR)]), Get, Failure::Broken, Sent::Unknown),
        ("h2: CANCEL", Http2Open(&[Reset(CANCEL)]), Get, Failure::Broken, Sent::Unknown),
        ("h2: NO_ERROR without an answer", Http2Open(&[Reset(NO_ERROR)]), Get, Failure::Broken, Sent::Unknown),
        ("h2: HTTP_1_1_REQUIRED", Http2Open(&[Reset(HTTP_1_1_REQUIRED)]), Get, Failure::Broken, Sent::Unknown),
        ("h2: GOAWAY below the stream", Http2Open(&[GoAway { last: 0, reason: NO_ERROR }]), Get, Failure::Refused, Sent::Unprocessed),
        ("h2: GOAWAY below the stream, calm", Http2(&[GoAway { last: 0, reason: ENHANCE_YOUR_CALM }]), Get, Failure::Refused, Sent::Unprocessed),
        ("h2: GOAWAY that covers it, then closed", Http2(&[GoAway { last: 1, reason: NO_ERROR }]), Get, Failure::Broken, Sent::Unknown),
        ("h2: GOAWAY with an error that covers it, then closed", Http2(&[GoAway { last: 1, reason: INTERNAL_ERROR }]), Get, Failure::Broken, Sent::Unknown),
        ("h2: a graceful GOAWAY, then one below it", Http2Open(&[GoAway { last: MAX_STREAM, reason: NO_ERROR }, GoAway { last: 0, reason: NO_ERROR }]), Get, Failure::Refused, Sent::Unprocessed),
        ("h2: a graceful GOAWAY, then closed", Http2(&[GoAway { last: MAX_STREAM, reason: NO_ERROR }]), Get, Failure::Broken, Sent::Unknown),
        ("h2: closed without an answer", Http2(&[]), Get, Failure::Broken, Sent::Unknown),
        ("h2: TCP reset", Http2Reset, Get, Failure::Broken, Sent::Unknown),
        ("h2: not HTTP/2 any more", Http2Open(&[Raw(b"HTTP/1.1 500 Internal Server Error\r\n\r\n")]), Get, Failure::Broken, Sent::Unknown),
        ("h2: no answer to a ping", Http2Open(&[]), Get, Failure::Broken, Sent::Unknown),
        ("h2: the caller's body breaks", Http2Open(&[]), BodyBreaks, Failure::RequestBody, Sent::Unknown),
        ("h2: CONNECT without a target", Http2Open(&[]), ConnectWithoutTarget, Failure::Request, Sent::NotSent),
    ]
};

#[tokio::test]
async fn each_failure_is_sorted_and_nothing_is_sent_twice() {
    for (name, server, asks, failure, sent) in TABLE {
        let (leaf, seen) = leaf_to(*server).await;
        let answer = timeout(STUCK, call(&leaf, asks.request())).await;
        let error = answer.expect(name).expect_err(name);
        assert_eq!(
            (error.failure(), error.sent()),
            (*failure, *sent),
            "{name}: {error:?}"
        );
        assert_eq!(seen.load(Ordering::SeqCst), 1, "{name}: connections");
        assert!(std::error::Error::source(&error).is_some(), "{name}");
        quiet(&leaf, name).await;
    }
}

// === rows that need more than one connection, or none ===

#[tokio::test]
async fn refused_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for version in [Version::Http1, Version::Http2, Version::Auto] {
        let leaf = connector(version).connect(&address.into());
        let error = call(&leaf, Asks::Get.request()).await.unwrap_err();
        assert_eq!(
            (error.failure(), error.sent()),
            (Failure::Connect, Sent::NotSent)
        );
        let io: &io::Error = source(&error).unwrap();
        assert_eq!(io.kind(), io::ErrorKind::ConnectionRefused);
    }
}

#[tokio::test(start_paused = true)]
async fn connect_timeout_is_tokios_time() {
    let never = HttpConnector::new()
        .with_dialer(|_: Endpoint| pending::<Result<Dialed<TokioIo<TcpStream>>, Infallible>>());
    let leaf = never.connect(&address().into());
    let before = tokio::time::Instant::now();
    let error = call(&leaf, Asks::Get.request()).await.unwrap_err();
    assert_eq!(
        (error.failure(), error.sent()),
        (Failure::ConnectTimeout, Sent::NotSent)
    );
    assert_eq!(tokio::time::Instant::now() - before, Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn an_http2_peer_that_says_nothing_is_a_connect_timeout() {
    let silent = HttpConnector::new().with_version(Version::Http2);
    let (ends, dial) = pipes();
    let leaf = silent.with_dialer(dial).connect(&address().into());
    let error = call(&leaf, Asks::Get.request()).await.unwrap_err();
    assert_eq!(
        (error.failure(), error.sent()),
        (Failure::ConnectTimeout, Sent::NotSent)
    );
    gone(&leaf, "silent").await;
    drop(ends);
}

#[tokio::test]
async fn the_operating_systems_timeout_is_one_too() {
    let dialer = |_: Endpoint| async {
        Err::<Dialed<TokioIo<TcpStream>>, _>(io::Error::from(io::ErrorKind::TimedOut))
    };
    let leaf = HttpConnector::new()
        .with_dialer(dialer)
        .connect(&address().into());
    let error = call(&leaf, Asks::Get.request()).await.unwrap_err();
    assert_eq!(
        (error.failure(), error.sent()),
        (Failure::ConnectTimeout, Sent::NotSent)
    );
}

#[tokio::test]
async fn a_stale_connection_costs_the_request_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let leaf = HttpConnector::new().connect(&listener.local_addr().unwrap().into());
    let server = tokio::spawn(async move {
        for _ in 0..2 {
            let mut stream = listener.accept().await.unwrap().0;
            read_head(&mut stream).await;
            stream.write_all(OK).await.unwrap();
        }
        listener
    });
    ok(call(&leaf, Asks::Get.request()).await).await;
    gone(&leaf, "stale").await;
    ok(call(&leaf, Asks::Get.request()).await).await;
    // And if there is no other, it was at least not sent.
    drop(server.await.unwrap());
    gone(&leaf, "closed").await;
    let error = call(&leaf, Asks::Get.request()).await.unwrap_err();
    assert_eq!(
        (error.failure(), error.sent()),
        (Failure::Connect, Sent::NotSent)
    );
}

/// Over pipes, where nothing stands between the server's close and the request: the connection's task has not seen it.
#[tokio::test]
async fn what_a_pooled_connection_hands_back_goes_to_a_new_one() {
    let (mut ends, dial) = pipes();
    let leaf = HttpConnector::new()
        .with_dialer(dial)
        .connect(&address().into());
    let first = tokio::spawn({
        let leaf = leaf.clone();
        async move { ok(call(&leaf, Asks::Get.request()).await).await }
    });
    let mut end = ends.recv().await.unwrap();
    read_head(&mut end).await;
    end.write_all(OK).await.unwrap();
    first.await.unwrap();
    assert_eq!((leaf.connections().idle, leaf.connections().active), (1, 0));
    drop(end);
    // Polled here and now, before the connection's task is.
    let second = call(&leaf, Asks::Get.request());
    let serve = async {
        let mut end = ends.recv().await.unwrap();
        read_head(&mut end).await;
        end.write_all(OK).await.unwrap();
        end
    };
    let (answer, _end) = tokio::join!(biased; second, serve);
    ok(answer).await;
}

#[tokio::test]
async fn what_a_new_connection_hands_back_was_not_sent() {
    let (mut ends, dial) = pipes();
    let leaf = HttpConnector::new()
        .with_dialer(dial)
        .connect(&address().into());
    let close = async {
        drop(ends.recv().await);
        ends
    };
    let (answer, mut ends) = tokio::join!(call(&leaf, Asks::Get.request()), close);
    let error = answer.unwrap_err();
    assert_eq!(
        (error.failure(), error.sent()),
        (Failure::Broken, Sent::NotSent)
    );
    assert!(ends.try_recv().is_err(), "dialed once");
}

#[tokio::test]
async fn a_connection_that_went_away_is_replaced() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let leaf = connector(Version::Http2).connect(&listener.local_addr().unwrap().into());
    let server = tokio::spawn(async move {
        let mut open = Vec::new();
        for _ in 0..3 {
            let mut stream = listener.accept().await.unwrap().0;
            read_stream(&mut stream).await;
            // The answer, and "no more after this one".
            let mut bytes = frame(1, 5, 1, &[0x88]);
            bytes.extend(frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]));
            stream.write_all(&bytes).await.unwrap();
            open.push(stream);
        }
        open
    });
    for _ in 0..3 {
        ok(call(&leaf, Asks::Get.request()).await).await;
    }
    server.await.unwrap();
    gone(&leaf, "went away").await;
}

#[tokio::test]
async fn what_breaks_after_the_head_is_an_error_of_the_body() {
    let http1 = Server::Http1(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
    let http2 = Server::Http2(&[
        Sends::Raw(&[0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88]),
        Sends::Raw(&[0, 0, 4, 0, 0, 0, 0, 0, 1, b'h', b'a', b'l', b'f']),
        Sends::Reset(INTERNAL_ERROR),
    ]);
    for server in [http1, http2] {
        let (leaf, _) = leaf_to(server).await;
        let response = call(&leaf, Asks::Get.request()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let broken = timeout(STUCK, response.into_body().collect())
            .await
            .unwrap();
        assert!(broken.is_err(), "{server:?}");
        gone(&leaf, "body").await;
    }
}

#[test]
fn outside_a_runtime_it_is_an_error_not_a_panic() {
    let leaf = HttpConnector::new().connect(&address().into());
    let mut call = Box::pin(call(&leaf, Asks::Get.request()));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let Poll::Ready(Err(error)) = call.as_mut().poll(&mut cx) else {
        panic!("it must fail at once");
    };
    assert_eq!(
        (error.failure(), error.sent()),
        (Failure::Connect, Sent::NotSent)
    );
}

#[test]
fn connections_of_a_dead_runtime_are_replaced() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let servers = runtime();
    let listener = servers.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let leaf = HttpConnector::new().connect(&listener.local_addr().unwrap().into());
    std::thread::spawn(move || {
        servers.block_on(async {
            loop {
                let mut stream = listener.accept().await.unwrap().0;
                tokio::spawn(async move {
                    read_head(&mut stream).await;
                    stream.write_all(OK).await.unwrap();
                    pending::<()>().await;
                });
            }
        });
    });
    for _ in 0..3 {
        runtime().block_on(async {
            ok(call(&leaf, Asks::Get.request()).await).await;
            assert_eq!(leaf.connections().idle, 1);
        });
    }
}

// === servers ===

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn leaf_to(server: Server) -> (HttpLeaf, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::new(listener.local_addr().unwrap());
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(server.serve(stream));
        }
    });
    let version = match server {
        Server::Http1(_) | Server::Http1Reset => Version::Http1,
        _ => Version::Http2,
    };
    (connector(version).connect(&endpoint), seen)
}

impl Server {
    async fn serve(self, mut stream: TcpStream) {
        match self {
            Self::Http1(bytes) => {
                read_head(&mut stream).await;
                let _ = stream.write_all(bytes).await;
            }
            Self::Http1Reset => {
                read_head(&mut stream).await;
                stream.set_zero_linger().unwrap();
            }
            Self::Says(bytes) => {
                // Read first, for unread bytes would turn the close into a reset.
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(bytes).await;
            }
            Self::Http2(sends) => {
                read_stream(&mut stream).await;
                let _ = stream.write_all(&bytes(sends)).await;
            }
            Self::Http2Open(sends) => {
                read_stream(&mut stream).await;
                let _ = stream.write_all(&bytes(sends)).await;
                while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
            }
            Self::Http2Reset => {
                read_stream(&mut stream).await;
                stream.set_zero_linger().unwrap();
            }
        }
    }
}

fn bytes(sends: &[Sends]) -> Vec<u8> {
    let frames = sends.iter().map(|send| match send {
        Sends::Reset(reason) => frame(3, 0, 1, &reason.to_be_bytes()),
        Sends::GoAway { last, reason } => frame(
            7,
            0,
            0,
            &[last.to_be_bytes(), reason.to_be_bytes()].concat(),
        ),
        Sends::Raw(bytes) => bytes.to_vec(),
    });
    frames.flatten().collect()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

async fn read_head(stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
}

/// Greets, and reads until a stream has been opened.
async fn read_stream(stream: &mut TcpStream) {
    stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    if stream.read_exact(&mut [0; 24]).await.is_err() {
        return;
    }
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        if stream.read_exact(&mut vec![0; len as usize]).await.is_err() || head[3] == 1 {
            return;
        }
    }
}

type Pipe = Dialed<TokioIo<DuplexStream>>;

/// A dialer of in-memory pipes, and the servers' ends of them.
fn pipes() -> (
    tokio::sync::mpsc::UnboundedReceiver<DuplexStream>,
    impl Fn(Endpoint) -> std::future::Ready<Result<Pipe, BoxError>> + Send + Sync + 'static,
) {
    let (send, ends) = tokio::sync::mpsc::unbounded_channel();
    let dial = move |_: Endpoint| {
        let (ours, theirs) = tokio::io::duplex(1024);
        let sent = send.send(theirs).map_err(BoxError::from);
        std::future::ready(sent.map(|()| Dialed::plain(TokioIo::new(ours))))
    };
    (ends, dial)
}

// === requests ===

struct Breaks(bool);
struct Endless;

impl Asks {
    fn request(self) -> Request<Body> {
        let request = Request::post("http://payments.shop:8080/quote");
        match self {
            Self::Get => Request::get("http://payments.shop:8080/quote").body(Body::empty()),
            Self::BodyBreaks => request.body(Body::new(Breaks(false))),
            Self::Endless => request.body(Body::new(Endless)),
            Self::ConnectWithoutTarget => Request::builder()
                .method("CONNECT")
                .uri("/")
                .body(Body::empty()),
        }
        .unwrap()
    }
}

impl http_body::Body for Breaks {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(Some(if std::mem::replace(&mut self.0, true) {
            Err("the disk is on fire".into())
        } else {
            Ok(Frame::data(Bytes::from_static(b"so far so good")))
        }))
    }
}

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[7; 1024])))))
    }
}

fn connector(version: Version) -> HttpConnector {
    let ping = Duration::from_millis(100);
    HttpConnector::new()
        .with_version(version)
        .with_settings(Settings::new().with_keep_alive(Some((ping, ping))))
}

fn call(leaf: &HttpLeaf, request: Request<Body>) -> impl Future<Output = Answer> + use<> {
    leaf.clone().call(request)
}

async fn ok(answer: Answer) {
    let response = answer.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response.into_body().collect().await.unwrap();
}

/// Waits until no connection has a request, none is dialed and nobody waits for one.
async fn quiet(leaf: &HttpLeaf, name: &str) {
    until(leaf, name, |now| {
        now.active + now.dialing + now.waiting == 0
    })
    .await;
}

/// Waits until there is no connection, either.
async fn gone(leaf: &HttpLeaf, name: &str) {
    until(leaf, name, |now| now == Connections::default()).await;
}

async fn until(leaf: &HttpLeaf, name: &str, reached: impl Fn(Connections) -> bool) {
    let wait = async {
        while !reached(leaf.connections()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    if timeout(STUCK, wait).await.is_err() {
        panic!("{name}: {:?}", leaf.connections());
    }
}

fn address() -> SocketAddr {
    ([127, 0, 0, 1], 1).into()
}

fn source<'a, E: std::error::Error + 'static>(error: &'a TransportError) -> Option<&'a E> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
