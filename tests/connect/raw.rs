//! Servers made of raw bytes, requests that break, and what a leaf answers.

use std::convert::Infallible;
use std::future::Future;
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
use tower_mesh::verdict::TransportError;
use tower_mesh::{Body, BoxError, Connect, Endpoint};
use tower_service::Service;

pub type Answer = Result<Response<HttpBody>, TransportError>;

/// Long enough for anything that happens here; a test that waits for it has failed.
pub const STUCK: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug)]
pub enum Server {
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
pub enum Sends {
    Reset(u32),
    GoAway { last: u32, reason: u32 },
    Raw(&'static [u8]),
}

#[derive(Clone, Copy, Debug)]
pub enum Asks {
    Get,
    BodyBreaks,
    BodyIsShort,
    Endless,
    ConnectWithoutTarget,
}

// === servers ===

pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

pub async fn leaf_to(server: Server) -> (HttpLeaf, Arc<AtomicUsize>) {
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

pub fn bytes(sends: &[Sends]) -> Vec<u8> {
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

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

pub async fn read_head(stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
}

/// Greets, and reads until a stream has been opened.
pub async fn read_stream(stream: &mut TcpStream) {
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

pub type Pipe = Dialed<TokioIo<DuplexStream>>;

/// A dialer of in-memory pipes, and the servers' ends of them.
pub fn pipes() -> (
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

pub struct Breaks(bool);
pub struct Short(Option<Bytes>);
pub struct Endless;

impl Asks {
    pub fn request(self) -> Request<Body> {
        let request = Request::post("http://payments.shop:8080/quote");
        match self {
            Self::Get => Request::get("http://payments.shop:8080/quote").body(Body::empty()),
            Self::BodyBreaks => request.body(Body::new(Breaks(false))),
            Self::BodyIsShort => {
                let four = Short(Some(Bytes::from_static(b"four")));
                request.header("content-length", 40).body(Body::new(four))
            }
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

impl http_body::Body for Short {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
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

pub fn connector(version: Version) -> HttpConnector {
    let ping = Duration::from_millis(100);
    HttpConnector::new()
        .with_version(version)
        .with_settings(Settings::new().with_keep_alive(Some((ping, ping))))
}

pub fn call(leaf: &HttpLeaf, request: Request<Body>) -> impl Future<Output = Answer> + use<> {
    leaf.clone().call(request)
}

pub async fn ok(answer: Answer) {
    let response = answer.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response.into_body().collect().await.unwrap();
}

/// Waits until no connection has a request, none is dialed and nobody waits for one.
pub async fn quiet(leaf: &HttpLeaf, name: &str) {
    until(leaf, name, |now| {
        now.active + now.dialing + now.waiting == 0
    })
    .await;
}

/// Waits until there is no connection, either.
pub async fn gone(leaf: &HttpLeaf, name: &str) {
    until(leaf, name, |now| now == Connections::default()).await;
}

pub async fn until(leaf: &HttpLeaf, name: &str, reached: impl Fn(Connections) -> bool) {
    let wait = async {
        while !reached(leaf.connections()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    if timeout(STUCK, wait).await.is_err() {
        panic!("{name}: {:?}", leaf.connections());
    }
}

pub fn address() -> SocketAddr {
    ([127, 0, 0, 1], 1).into()
}

pub fn source<E: std::error::Error + 'static>(error: &TransportError) -> Option<&E> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
