//! Retries over real connections: every protocol x failure x request body that exists, to hyper's own servers on loopback; what
//! reached each server, byte for byte, and what the caller got. `--nocapture` shows the list, and the reason for each
//! combination that is left out.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_stream::StreamExt as _;
use tower_mesh::connect::{HttpConnector, Version};
use tower_mesh::policy::{ClientPolicy, Codes, MethodKind, Retry, Timeouts};
use tower_mesh::{Body, BoxError, Client, ErrorKind, RequestOptions, Served};

/// The most that the policy keeps of a request's body.
const LIMIT: usize = 1024;

/// How long a try may take: far longer than anything but a hang.
const TRY: Duration = Duration::from_millis(700);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Protocol {
    Http1,
    Http2,
    GrpcUnary,
    GrpcStreams,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Failure {
    Status,
    ResetBeforeHeaders,
    ResetAfterHeaders,
    TrailersOnly,
    Trailers,
    Hang,
    RefusedConnection,
    GoAway,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Sends {
    NoBody,
    Small,
    AtLimit,
    OverLimit,
    Streaming,
    WithTrailers,
}

use Failure::*;
use Protocol::*;
use Sends::*;

const PROTOCOLS: [Protocol; 4] = [Http1, Http2, GrpcUnary, GrpcStreams];
const FAILURES: [Failure; 8] = [
    Status,
    ResetBeforeHeaders,
    ResetAfterHeaders,
    TrailersOnly,
    Trailers,
    Hang,
    RefusedConnection,
    GoAway,
];
const BODIES: [Sends; 6] = [NoBody, Small, AtLimit, OverLimit, Streaming, WithTrailers];

#[derive(Clone, Copy, Debug)]
struct Case {
    protocol: Protocol,
    failure: Failure,
    sends: Sends,
}

/// What the caller got in the end.
#[derive(Debug, PartialEq)]
enum Got {
    /// The second server's answer.
    Fine,
    /// The first one's 503, with its page.
    Status,
    /// The first one's head, and a body that breaks.
    Broken,
    /// The first one's whole answer, with this code or sum at its end.
    Ended(&'static str),
    Error(ErrorKind),
}

/// What reached a server in one request.
#[derive(Clone, Debug, Default, PartialEq)]
struct Arrived {
    bytes: Vec<u8>,
    trailers: bool,
    ended: bool,
    previous: Option<String>,
    // How its length was announced.
    framing: String,
}

// === which there are, and what should come of them ===

impl Case {
    fn is_grpc(self) -> bool {
        matches!(self.protocol, GrpcUnary | GrpcStreams)
    }

    fn left_out(self) -> Option<&'static str> {
        match self {
            Case {
                protocol: Http1,
                failure: GoAway,
                ..
            } => Some("HTTP/1.1 has no GOAWAY"),
            Case {
                protocol: Http1 | Http2,
                failure: TrailersOnly,
                ..
            } => Some("only gRPC writes what belongs into trailers into the head"),
            Case {
                sends: WithTrailers,
                ..
            } if self.is_grpc() => Some("a gRPC request has no trailers"),
            Case {
                protocol: GrpcUnary,
                sends: NoBody,
                ..
            } => Some("a unary call sends exactly one message"),
            Case {
                protocol: GrpcUnary,
                sends: Streaming,
                ..
            } => Some("a unary call's one message is not a stream"),
            _ => None,
        }
    }

    // All of them are safe to repeat: PUT and GET, or gRPC.
    fn expected(self) -> Got {
        // It is a stream of unknown length: too large only once it was read. Where nothing was read, all of it is there.
        let too_large = self.sends == OverLimit && self.failure != RefusedConnection;
        match (self.failure, self.protocol) {
            // Never tried again: the caller has the head, or nothing went wrong.
            (ResetAfterHeaders, Http1 | Http2 | GrpcStreams) => Got::Broken,
            (Trailers, Http1 | Http2) => Got::Ended("7"),
            (Trailers, GrpcStreams) => Got::Ended("14"),
            _ if !too_large => Got::Fine,
            // A page that is not gRPC is told in gRPC's own words.
            (Status, _) if self.is_grpc() => Got::Error(ErrorKind::NotGrpc {
                status: http::StatusCode::SERVICE_UNAVAILABLE,
            }),
            (Status, _) => Got::Status,
            (ResetBeforeHeaders, _) => Got::Error(ErrorKind::Broken),
            (ResetAfterHeaders, _) => Got::Broken,
            (TrailersOnly | Trailers, _) => Got::Ended("14"),
            // No try, but the only one: it has the time that the request has.
            (Hang, _) => Got::Error(ErrorKind::RequestTimeout),
            (GoAway, _) => Got::Error(ErrorKind::Refused),
            (RefusedConnection, _) => Got::Fine,
        }
    }

    /// The bytes of its body.
    fn bytes(self) -> Vec<u8> {
        let len = match self.sends {
            NoBody => 0,
            Small => 100,
            AtLimit | Streaming => LIMIT,
            OverLimit => LIMIT + 1,
            WithTrailers => 300,
        };
        let mut bytes: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
        if self.is_grpc() && len > 0 {
            // One message.
            bytes[0] = 0;
            bytes[1..5].copy_from_slice(&(len as u32 - 5).to_be_bytes());
        }
        bytes
    }

    /// What a failing server reads before it fails: all, or as much of a stream as there is before that.
    fn read_at_first(self) -> usize {
        match self.sends {
            Streaming => LIMIT / 4,
            _ => self.bytes().len(),
        }
    }

    fn body(self, world: &World) -> Body {
        let bytes = Bytes::from(self.bytes());
        let quarter = bytes.len() / 4;
        let frames: Vec<Bytes> = match self.sends {
            NoBody => return Body::empty(),
            Small => return Body::from(bytes),
            _ => {
                let cuts = [0, quarter, 2 * quarter, 3 * quarter, bytes.len()];
                cuts.windows(2)
                    .map(|cut| bytes.slice(cut[0]..cut[1]))
                    .collect()
            }
        };
        let trailers = (self.sends == WithTrailers).then(|| Frame::trailers(sum("x-sum", "7")));
        let frames = frames.into_iter().map(Frame::data).chain(trailers);
        // A stream goes on only when a server has had its beginning.
        let waits = (self.sends == Streaming).then(|| world.begun.subscribe());
        let mut first = true;
        let frames = tokio_stream::iter(frames).then(move |frame| {
            let waits = waits.clone().filter(|_| !std::mem::take(&mut first));
            async move {
                if let Some(mut begun) = waits {
                    begun.wait_for(|begun| *begun).await.unwrap();
                }
                Ok::<_, Infallible>(frame)
            }
        });
        Body::new(StreamBody::new(frames))
    }

    fn request(self, world: &World) -> Request<Body> {
        let method = match self.sends {
            _ if self.is_grpc() => "POST",
            NoBody => "GET",
            _ => "PUT",
        };
        let mut request = Request::builder()
            .method(method)
            .uri("http://web.shop/")
            .body(self.body(world))
            .unwrap();
        let headers = request.headers_mut();
        let value = HeaderValue::from_static;
        if self.is_grpc() {
            headers.insert("content-type", value("application/grpc"));
        }
        headers.insert("te", value("trailers"));
        if self.sends == WithTrailers {
            // hyper sends over HTTP/1.1 only what was announced.
            headers.insert("trailer", value("x-sum"));
        }
        let method = match self.protocol {
            GrpcUnary => MethodKind::Unary,
            _ => MethodKind::Auto,
        };
        let options = RequestOptions::new().method(method);
        request.extensions_mut().insert(options);
        request
    }

    fn client(self, endpoints: [SocketAddr; 2], seed: u64) -> Client {
        let retry = Retry::on(503..=503)
            .and_on_codes([Codes::UNAVAILABLE])
            .max_request_bytes(LIMIT)
            .timeout(TRY);
        let policy = ClientPolicy::http()
            .retry(retry)
            .timeouts(Timeouts::request(3 * TRY));
        let version = match self.protocol {
            Http1 => Version::Http1,
            _ => Version::Http2,
        };
        Client::builder(policy.build().unwrap())
            .endpoints(endpoints)
            .seed(seed)
            .return_grpc_errors()
            .build(HttpConnector::new().with_version(version))
            .unwrap()
    }
}

fn sum(name: &'static str, value: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(name, HeaderValue::from_static(value));
    trailers
}

// === the servers ===

/// Two servers; the first request that either of them gets fails.
#[derive(Clone)]
struct World {
    case: Case,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    begun: Arc<watch::Sender<bool>>,
    connections: Arc<AtomicUsize>,
}

impl World {
    fn new(case: Case) -> Self {
        Self {
            case,
            arrived: Arc::default(),
            begun: Arc::new(watch::Sender::new(false)),
            connections: Arc::default(),
        }
    }

    async fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let world = self.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                world.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(world.clone().connection(stream));
            }
        });
        address
    }

    async fn connection(self, stream: TcpStream) {
        if self.case.failure == GoAway && self.arrived.lock().unwrap().is_empty() {
            return self.go_away(stream).await;
        }
        let http1 = self.case.protocol == Http1;
        let service = service_fn(move |request| self.clone().answer(request));
        let io = TokioIo::new(stream);
        if http1 {
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(io, service).await;
        } else {
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(io, service).await;
        }
    }

    fn begin(&self, headers: &HeaderMap) -> usize {
        let previous = headers.get("grpc-previous-rpc-attempts");
        let framing = ["content-length", "transfer-encoding"].map(|name| headers.get(name));
        let mut arrived = self.arrived.lock().unwrap();
        arrived.push(Arrived {
            framing: format!("{framing:?}"),
            previous: previous.map(|value| value.to_str().unwrap().to_owned()),
            ..Arrived::default()
        });
        arrived.len() - 1
    }

    fn has_read(&self, n: usize, data: &[u8]) -> usize {
        let mut arrived = self.arrived.lock().unwrap();
        arrived[n].bytes.extend(data);
        self.begun.send_replace(true);
        arrived[n].bytes.len()
    }

    async fn read(&self, n: usize, body: &mut Incoming, most: usize) {
        let mut len = 0;
        while let Some(Ok(frame)) = body.frame().await {
            if frame.is_trailers() {
                self.arrived.lock().unwrap()[n].trailers = true;
            } else {
                len = self.has_read(n, &frame.into_data().unwrap());
            }
            if self.case.sends == Streaming && len >= most {
                return;
            }
        }
        self.arrived.lock().unwrap()[n].ended = true;
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
        let case = self.case;
        let n = self.begin(request.headers());
        let mut body = request.into_body();
        let fails = n == 0 && case.failure != RefusedConnection;
        let most = if fails {
            case.read_at_first()
        } else {
            usize::MAX
        };
        self.read(n, &mut body, most).await;
        if !fails {
            return Ok(case.fine());
        }
        match case.failure {
            Status => {
                let response = Response::builder().status(503);
                Ok(response.body(Body::from("it is down")).unwrap())
            }
            ResetBeforeHeaders => Err("reset".into()),
            Hang => {
                let _body = body;
                std::future::pending().await
            }
            TrailersOnly => {
                let mut response = case.head(Body::empty());
                response.headers_mut().extend(sum("grpc-status", "14"));
                Ok(response)
            }
            ResetAfterHeaders => Ok(case.head(case.answer_with(None))),
            Trailers if case.is_grpc() => {
                Ok(case.head(case.answer_with(Some(sum("grpc-status", "14")))))
            }
            Trailers => {
                let mut response = case.head(case.answer_with(Some(sum("x-sum", "7"))));
                let headers = response.headers_mut();
                headers.insert("trailer", HeaderValue::from_static("x-sum"));
                Ok(response)
            }
            RefusedConnection | GoAway => Ok(case.fine()),
        }
    }

    /// Reads the request, and says that it has not looked at it. hyper's servers never say so of one that they have read.
    async fn go_away(self, mut stream: TcpStream) {
        let n = self.begin(&HeaderMap::new());
        let frame = |kind: u8, flags: u8, payload: &[u8]| {
            let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
            bytes.extend([kind, flags, 0, 0, 0, 0]);
            bytes.extend(payload);
            bytes
        };
        stream.write_all(&frame(4, 0, &[])).await.unwrap();
        stream.read_exact(&mut [0; 24]).await.unwrap();
        let mut head = [0; 9];
        let mut opened = false;
        while stream.read_exact(&mut head).await.is_ok() {
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; len as usize];
            stream.read_exact(&mut payload).await.unwrap();
            let (kind, flags) = (head[3], head[4]);
            let mut len = 0;
            if kind == 0 {
                len = self.has_read(n, &payload);
            }
            let mut ended = matches!(kind, 0 | 1) && flags & 1 == 1;
            // The second HEADERS are trailers.
            if kind == 1 && std::mem::replace(&mut opened, true) {
                self.arrived.lock().unwrap()[n].trailers = true;
            }
            self.arrived.lock().unwrap()[n].ended |= ended;
            ended |= self.case.sends == Streaming && len >= self.case.read_at_first();
            if ended {
                break;
            }
        }
        let _ = stream.write_all(&frame(7, 0, &[0; 8])).await;
        // Until the client hangs up, so that unread bytes do not turn the close into a reset.
        while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
    }
}

const MESSAGE: &[u8] = b"\0\0\0\0\x04part";

impl Case {
    fn head(self, body: Body) -> Response<Body> {
        let mut response = Response::new(body);
        if self.is_grpc() {
            let grpc = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert("content-type", grpc);
        }
        response
    }

    /// One message, two if it streams; then trailers, or a reset once the rest is on its way.
    fn answer_with(self, trailers: Option<HeaderMap>) -> Body {
        let count = if self.protocol == GrpcStreams { 2 } else { 1 };
        let messages = (0..count).map(|_| Ok(Frame::data(Bytes::from_static(MESSAGE))));
        let last = trailers.map(Frame::trailers).ok_or("reset");
        let frames = tokio_stream::iter(messages.chain([last])).then(|frame| async move {
            if frame.is_err() {
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            frame.map_err(BoxError::from)
        });
        Body::new(StreamBody::new(frames))
    }

    fn fine(self) -> Response<Body> {
        if !self.is_grpc() {
            return self.head(Body::from("fine"));
        }
        let frames = [
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"\0\0\0\0\x04fine"))),
            Ok(Frame::trailers(sum("grpc-status", "0"))),
        ];
        self.head(Body::new(StreamBody::new(tokio_stream::iter(frames))))
    }
}

// === the callers ===

async fn ask(client: &Client, request: Request<Body>) -> (Got, u32) {
    let response = match client.request(request).await {
        Ok(response) => response,
        Err(error) => return (Got::Error(error.kind().clone()), error.attempts()),
    };
    let attempts = response.extensions().get::<Served>().unwrap().attempts;
    let status = response.status();
    let in_head = response.headers().contains_key("grpc-status");
    let mut body = response.into_body();
    let (mut bytes, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => bytes.extend(data),
            Ok(Err(frame)) => trailers = frame.into_trailers().unwrap(),
            Err(_) => {
                assert!(
                    bytes.starts_with(b"part") || bytes.starts_with(MESSAGE),
                    "{bytes:?}"
                );
                return (Got::Broken, attempts);
            }
        }
    }
    let got = match status.as_u16() {
        503 => {
            assert_eq!(bytes, b"it is down");
            Got::Status
        }
        _ if bytes.ends_with(b"fine") => Got::Fine,
        _ if in_head => Got::Ended("14"),
        _ if trailers.contains_key("x-sum") => Got::Ended("7"),
        _ => {
            assert_eq!(trailers["grpc-status"], "14");
            assert!(bytes.ends_with(b"part"));
            Got::Ended("14")
        }
    };
    (got, attempts)
}

async fn try_out(case: Case) -> String {
    let world = World::new(case);
    let mut endpoints = [world.serve().await, world.serve().await];
    if case.failure == RefusedConnection {
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
        endpoints[0] = nobody.local_addr().unwrap();
    }
    let mut seed = 0;
    let (got, attempts, client) = loop {
        let client = case.client(endpoints, seed);
        let (got, attempts) = ask(&client, case.request(&world)).await;
        // Which endpoint is asked first is chance: until it is the one where nobody is.
        if case.failure != RefusedConnection || attempts == 2 {
            break (got, attempts, client);
        }
        assert_eq!(got, Got::Fine);
        world.arrived.lock().unwrap().clear();
        seed += 1;
    };
    let expected = case.expected();
    let arrived = world.arrived.lock().unwrap().clone();
    let what = format!("{case:?}: {attempts} attempts, {arrived:#?}");
    assert_eq!(got, expected, "{what}");

    // What reached them.
    let whole = case.bytes();
    let trailers = case.sends == WithTrailers;
    let reached = if case.failure == RefusedConnection {
        1
    } else {
        attempts
    };
    assert_eq!(arrived.len(), reached as usize, "{what}");
    assert_eq!(
        attempts,
        if expected == Got::Fine { 2 } else { 1 },
        "{what}"
    );
    let mut line = String::new();
    for (n, one) in arrived.iter().enumerate() {
        assert!(whole.starts_with(&one.bytes), "{what}");
        if expected == Got::Fine && n + 1 == arrived.len() {
            let all = (one.bytes == whole, one.ended, one.trailers);
            assert_eq!(all, (true, true, trailers), "{what}");
        } else {
            assert!(one.bytes.len() >= case.read_at_first(), "{what}");
        }
        let previous = (case.is_grpc() && n > 0).then(|| n.to_string());
        if case.failure != RefusedConnection {
            assert_eq!(one.previous, previous, "{what}");
        }
        // Raw frames have no headers that could be read.
        if case.failure != GoAway {
            assert_eq!(one.framing, arrived[0].framing, "{what}");
        }
        let end = match (one.ended, one.trailers) {
            (true, true) => " with trailers",
            (true, false) => "",
            (false, _) => " so far",
        };
        write!(line, "{} B{end}, ", one.bytes.len()).unwrap();
    }

    // What is left of it.
    let snapshot = client.snapshot();
    assert_eq!(snapshot.in_flight, 0, "{what}");
    let too_large = case.sends == OverLimit;
    assert_eq!(snapshot.bodies_too_large, u64::from(too_large), "{what}");
    let late = matches!((case.failure, case.protocol), (Trailers, GrpcStreams)) && !too_large;
    assert_eq!(snapshot.trailers_too_late, u64::from(late), "{what}");
    format!("arrived {line}the caller got {got:?}")
}

#[tokio::test]
async fn every_combination_that_exists() {
    let mut list = Vec::new();
    let mut hangs = tokio::task::JoinSet::new();
    let (mut tried, mut left_out) = (0, 0);
    for protocol in PROTOCOLS {
        for failure in FAILURES {
            for sends in BODIES {
                let case = Case {
                    protocol,
                    failure,
                    sends,
                };
                let name = format!("{protocol:?} x {failure:?} x {sends:?}");
                if let Some(reason) = case.left_out() {
                    left_out += 1;
                    list.push(format!("{name}: left out, {reason}"));
                    continue;
                }
                tried += 1;
                let tried = async move { format!("{name}: {}", try_out(case).await) };
                if failure == Hang {
                    // They take their time, and may do so together.
                    hangs.spawn(tried);
                } else {
                    list.push(tried.await);
                }
            }
        }
    }
    while let Some(line) = hangs.join_next().await {
        list.push(line.unwrap());
    }
    for line in &list {
        println!("{line}");
    }
    println!("{tried} tried, {left_out} left out");
    assert_eq!(tried + left_out, 4 * 8 * 6);
}

/// The page of a failed attempt is read before it is let go, so that its connection carries the next one.
#[tokio::test]
async fn a_page_that_is_retried_costs_no_connection() {
    for protocol in [Http1, Http2] {
        let (failure, sends) = (Status, Small);
        let case = Case {
            protocol,
            failure,
            sends,
        };
        let world = World::new(case);
        let server = world.serve().await;
        let client = case.client([server, server], 1);
        let (got, attempts) = ask(&client, case.request(&world)).await;
        assert_eq!((got, attempts), (Got::Fine, 2));
        assert_eq!(world.connections.load(Ordering::Relaxed), 1, "{protocol:?}");
    }
}
