//! Endpoints that are async functions, and bodies whose frames each take their time.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio_stream::StreamExt as _;
use tower_mesh::policy::{
    ClientPolicy, ClientPolicyBuilder, Codes, ExponentialBackoff, MethodKind, Ratio, Retry,
    RetryBuilder,
};
use tower_mesh::verdict::TransportError;
use tower_mesh::{Body, Client, Endpoint, RequestOptions, Served};

use super::{Log, addresses, ms};

// === scripted endpoints ===

pub type Answer = Result<Response<Body>, TransportError>;
pub type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What reached an endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arrived {
    pub bytes: Vec<u8>,
    pub trailers: bool,
    pub ended: bool,
}

/// The attempts, in the order in which they were sent.
#[derive(Clone, Default)]
pub struct Sink(pub Arc<Mutex<Vec<Arrived>>>);

impl Sink {
    pub fn begin(&self) -> usize {
        let mut all = self.0.lock().unwrap();
        all.push(Arrived::default());
        all.len() - 1
    }

    /// Reads so many frames.
    pub async fn read(&self, n: usize, body: &mut Body, frames: usize) {
        for _ in 0..frames {
            let frame = body.frame().await;
            let mut all = self.0.lock().unwrap();
            match frame {
                Some(Ok(frame)) if frame.is_data() => {
                    all[n].bytes.extend(frame.into_data().unwrap());
                }
                Some(Ok(_)) => assert!(!std::mem::replace(&mut all[n].trailers, true)),
                Some(Err(_)) => return,
                None => {
                    all[n].ended = true;
                    return;
                }
            }
        }
    }

    pub fn all(&self) -> Vec<Arrived> {
        self.0.lock().unwrap().clone()
    }
}

/// A client whose endpoints do this: address, how many requests there were before at any of them, the request.
pub fn client(
    policy: ClientPolicyBuilder,
    endpoints: u8,
    script: impl Fn(SocketAddr, usize, Request<Body>) -> Answering + Clone + Send + Sync + 'static,
) -> Client {
    observed(policy, endpoints, &Log::default(), script)
}

pub fn observed(
    policy: ClientPolicyBuilder,
    endpoints: u8,
    log: &Log,
    script: impl Fn(SocketAddr, usize, Request<Body>) -> Answering + Clone + Send + Sync + 'static,
) -> Client {
    let count = Arc::new(Mutex::new(0));
    Client::builder(policy.build().unwrap())
        .endpoints(addresses(endpoints))
        .seed(7)
        .observer(log.observer())
        .return_grpc_errors()
        .build(move |endpoint: &Endpoint| {
            let (script, count, address) = (script.clone(), Arc::clone(&count), endpoint.address());
            tower::service_fn(move |request: Request<Body>| {
                let mut count = count.lock().unwrap();
                *count += 1;
                script(address, *count - 1, request)
            })
        })
        .unwrap()
}

pub fn retrying(retry: RetryBuilder) -> ClientPolicyBuilder {
    ClientPolicy::http().retry(retry)
}

pub fn wait(wait: Duration) -> ExponentialBackoff {
    ExponentialBackoff::try_new(wait, wait, Ratio::ZERO).unwrap()
}

pub fn attempts(response: &Response<Body>) -> u32 {
    response.extensions().get::<Served>().unwrap().attempts
}

// === bodies ===

pub fn trailers(name: &'static str, value: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(name, HeaderValue::from_static(value));
    trailers
}

/// Frames, each after its time. It knows whether it is still there.
#[derive(Clone)]
pub struct Frames {
    pub frames: Vec<(Duration, Option<Part>)>,
    alive: Arc<Alive>,
}

#[derive(Default)]
struct Alive(Arc<()>);

#[derive(Clone)]
pub enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
    Error,
}

impl Frames {
    pub fn new() -> Self {
        Self {
            frames: Vec::new(),
            alive: Arc::default(),
        }
    }

    pub fn with(mut self, after: Duration, frame: Part) -> Self {
        self.frames.push((after, Some(frame)));
        self
    }

    pub fn data(self, after: Duration, bytes: impl Into<Bytes>) -> Self {
        self.with(after, Part::Data(bytes.into()))
    }

    pub fn status(self, after: Duration, code: &'static str) -> Self {
        self.with(after, Part::Trailers(trailers("grpc-status", code)))
    }

    pub fn end(mut self, after: Duration) -> Self {
        self.frames.push((after, None));
        self
    }

    pub fn body(&self) -> Body {
        let alive = Arc::clone(&self.alive.0);
        let frames = tokio_stream::iter(self.frames.clone()).then(move |(after, frame)| {
            let _alive = Arc::clone(&alive);
            async move {
                if !after.is_zero() {
                    tokio::time::sleep(after).await;
                }
                frame.map(|frame| match frame {
                    Part::Data(bytes) => Ok(Frame::data(bytes)),
                    Part::Trailers(trailers) => Ok(Frame::trailers(trailers)),
                    Part::Error => Err(std::io::Error::other("reset")),
                })
            }
        });
        Body::new(StreamBody::new(frames.filter_map(|frame| frame)))
    }

    pub fn alive(&self) -> usize {
        Arc::strong_count(&self.alive.0) - 1
    }
}

pub fn upload(frames: &[&'static str], trailers_: bool) -> Frames {
    let mut body = Frames::new();
    for frame in frames {
        body = body.data(ms(1), *frame);
    }
    if trailers_ {
        body = body.with(ms(1), Part::Trailers(trailers("x-sum", "7")));
    }
    body.end(ms(1))
}

pub fn post(body: Body) -> Request<Body> {
    Request::post("http://web.shop/").body(body).unwrap()
}

pub fn message(len: usize) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend((len as u32).to_be_bytes());
    bytes.extend(std::iter::repeat_n(7, len));
    bytes.into()
}

pub fn grpc(method: Option<MethodKind>) -> Request<Body> {
    let mut request = post(Body::from(message(3)));
    let grpc = HeaderValue::from_static("application/grpc");
    request.headers_mut().insert("content-type", grpc);
    if let Some(method) = method {
        let options = RequestOptions::new().method(method);
        request.extensions_mut().insert(options);
    }
    request
}

/// The first answer is this one; the others are fine at once.
pub fn grpc_answers(
    first: Frames,
) -> impl Fn(SocketAddr, usize, Request<Body>) -> Answering + Clone + Send + Sync {
    move |_, n, _| {
        let first = first.clone();
        Box::pin(async move {
            let body = match n {
                0 => first.body(),
                _ => Frames::new()
                    .data(ms(0), message(1))
                    .status(ms(0), "0")
                    .body(),
            };
            let response = Response::builder().header("content-type", "application/grpc");
            Ok(response.body(body).unwrap())
        })
    }
}

pub fn on_unavailable() -> RetryBuilder {
    let codes = Codes::of([Codes::UNAVAILABLE]).unwrap();
    Retry::never_on_status().codes(codes).no_backoff()
}
