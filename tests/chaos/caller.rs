//! One call: what is asked, how long it is waited for, and what becomes of the answer.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep, timeout};
use tower_mesh::policy::MethodKind;
use tower_mesh::{Body, Client, Error, ErrorKind, RequestOptions};

use super::ledger::{Allows, Dice, Ledger, Living, bytes, framed};
use super::upload::{Upload, UploadEnds};

/// By when whatever has a deadline is over for certain: tells a hang from a slow machine.
const STUCK: Duration = Duration::from_secs(60);

/// What all callers of a round share.
pub struct Callers {
    pub client: Client,
    pub seed: u64,
    pub grpc: bool,
    pub ledger: Arc<Ledger>,
    /// Request bodies.
    pub bodies: Living,
    pub nodes: Vec<SocketAddr>,
    /// The longest that any policy of the round gives a request.
    pub patience: Duration,
    /// Retries and hedges that any policy of the round makes.
    pub extra: usize,
    /// Responses that are kept and not read.
    pub shelf: Mutex<Vec<Response<Body>>>,
}

// === the call ===

// Dropped after so many polls.
struct Polls<F>(Pin<Box<F>>, u64);

impl<F: Future> Future for Polls<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        if self.1 == 0 {
            return Poll::Ready(None);
        }
        self.1 -= 1;
        self.0.as_mut().poll(cx).map(Some)
    }
}

/// How a call went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Went {
    Well,
    Otherwise,
    /// The client is closed.
    Closed,
}

impl Callers {
    /// A call as chance has it. Every one has an end: a deadline, or a caller who leaves.
    pub async fn any(&self, number: u64) -> Went {
        let mut dice = Dice::new(self.seed, 1 << 42 | number);
        let own = dice
            .percent(30)
            .then(|| Duration::from_millis(dice.below(400)));
        let (request, id) = self.request(&mut dice, own);
        let deadline = own.unwrap_or(self.patience);
        let asked = Instant::now();
        let call = self.client.request(request);
        let answered = match dice.below(100) {
            // Never polled.
            0 => return Went::Otherwise,
            1..12 => Polls(Box::pin(call), 1 + dice.below(8)).await,
            12..24 => {
                let micros = match dice.percent(50) {
                    true => dice.below(800),
                    false => dice.below(60_000),
                };
                timeout(Duration::from_micros(micros), call).await.ok()
            }
            _ => match timeout(deadline + STUCK, call).await {
                Ok(answered) => Some(answered),
                Err(_) => {
                    self.ledger
                        .wrong(format!("request {id} hangs: {}", self.client.snapshot()));
                    None
                }
            },
        };
        self.ledger.count(match &answered {
            None => "call: left".to_owned(),
            Some(Ok(response)) => format!("call: {}", response.status()),
            Some(Err(error)) => format!("call: {}", error.kind().name()),
        });
        match answered {
            None => Went::Otherwise,
            Some(Err(error)) => self.refused(&error),
            Some(Ok(response)) => {
                let local = response.extensions().get::<Arc<Error>>();
                if let Some(error) = local.filter(|_| !response.headers().contains_key("x-salt")) {
                    self.ledger
                        .count(format!("call: answered {}", error.kind().name()));
                    return self.refused(error);
                }
                // gRPC streams may outlive what the policy says.
                let bounded = !self.grpc || own.is_some();
                self.use_up(id, response, &mut dice, bounded.then_some(deadline), asked)
                    .await
            }
        }
    }

    /// One that must be served by servers that are well.
    pub async fn plain(&self) -> Went {
        let id = self.ledger.open(Allows {
            repeats: true,
            times: usize::MAX,
        });
        let request = self.builder(id, &Method::POST).header("x-body", 0);
        let request = request.body(Body::empty()).unwrap();
        match self.client.request(request).await {
            Ok(response) if response.headers().contains_key("x-salt") => {
                let status = response.status();
                let good = match self.check(id, response, None).await {
                    Some(code) => code == Some(0) || !self.grpc,
                    None => false,
                };
                match status.is_success() && good {
                    true => Went::Well,
                    false => Went::Otherwise,
                }
            }
            _ => Went::Otherwise,
        }
    }

    fn builder(&self, id: u64, method: &Method) -> http::request::Builder {
        let builder = Request::builder()
            .method(method)
            .uri("http://chaos.shop:8080/chaos.Svc/Call")
            .header("x-id", id);
        match self.grpc {
            true => builder
                .header("content-type", "application/grpc")
                .header("te", "trailers"),
            false => builder,
        }
    }

    fn request(&self, dice: &mut Dice, own: Option<Duration>) -> (Request<Body>, u64) {
        let method = match self.grpc {
            true => Method::POST,
            false => dice
                .one_of(&[Method::GET, Method::POST, Method::POST, Method::PUT].each_ref())
                .clone(),
        };
        let keyed = dice.percent(10);
        let safe = dice.percent(20);
        let mut options = RequestOptions::new();
        let mut times = self.extra + 1;
        if let Some(own) = own {
            options = match dice.percent(50) {
                true => options.timeout(own),
                false => options.deadline(Instant::now() + own),
            };
        }
        if safe {
            options = options.safe_to_repeat();
        }
        match dice.below(10) {
            0 => {
                options = options.no_retries();
                // What is hedged is sent twice nevertheless.
                times = if safe || method == Method::GET { 2 } else { 1 };
            }
            1 => options = options.pin(dice.one_of(&self.nodes)),
            2 => options = options.avoid(dice.one_of(&self.nodes)),
            _ => {}
        }
        if self.grpc && dice.percent(50) {
            options = options.method(dice.one_of(&[
                MethodKind::Unary,
                MethodKind::Streaming,
                MethodKind::Auto,
            ]));
        }
        let repeats = self.grpc || safe || keyed || method.is_idempotent();
        let id = self.ledger.open(Allows { repeats, times });
        let mut builder = self.builder(id, &method).extension(options);
        if keyed {
            builder = builder.header("idempotency-key", id);
        }
        let len = match dice.below(10) {
            0 => 0,
            1..8 => dice.below(3000) as usize,
            _ => dice.below(40_000) as usize,
        };
        builder = builder.header("x-body", len);
        let body = match dice.below(10) {
            0..3 => Body::from(bytes(id, 0, len)),
            _ => {
                let ends = match dice.below(20) {
                    0 => UploadEnds::Trailers,
                    1 => UploadEnds::Breaks,
                    2 => UploadEnds::Stalls(dice.below(200)),
                    3 => UploadEnds::StallsForEver,
                    4 => {
                        // Shorter than it says.
                        builder = builder.header("content-length", len + 1);
                        UploadEnds::Whole
                    }
                    _ => UploadEnds::Whole,
                };
                Body::new(Upload {
                    id,
                    at: 0,
                    len,
                    ends,
                    pause: None,
                    slow: len < 5000 && dice.percent(50),
                    dice: Dice::new(self.seed, 1 << 43 | id),
                    _alive: self.bodies.one(),
                })
            }
        };
        (builder.body(body).unwrap(), id)
    }

    fn refused(&self, error: &Error) -> Went {
        match error.kind() {
            ErrorKind::Closed => Went::Closed,
            _ => Went::Otherwise,
        }
    }

    async fn use_up(
        &self,
        id: u64,
        response: Response<Body>,
        dice: &mut Dice,
        deadline: Option<Duration>,
        asked: Instant,
    ) -> Went {
        match dice.below(100) {
            0..8 => return Went::Otherwise,
            8..12 => {
                sleep(Duration::from_millis(dice.below(50))).await;
                return Went::Otherwise;
            }
            12..14 => {
                self.shelf.lock().unwrap().push(response);
                return Went::Otherwise;
            }
            14..22 => {
                let frames = dice.below(4);
                let some = self.check(id, response, Some(frames));
                let _ = timeout(Duration::from_millis(dice.below(100)), some).await;
                return Went::Otherwise;
            }
            22..30 => sleep(Duration::from_millis(dice.below(100))).await,
            _ => {}
        }
        let reading = self.check(id, response, None);
        let most = match deadline {
            Some(deadline) => deadline + STUCK,
            None => Duration::from_millis(300),
        };
        match timeout(most, reading).await {
            Ok(Some(_)) => {
                self.ledger.count("body: whole");
                Went::Well
            }
            Ok(None) => {
                self.ledger.count("body: broken");
                Went::Otherwise
            }
            Err(_) if deadline.is_none() => Went::Otherwise,
            Err(_) => {
                let after = Instant::now() - asked;
                self.ledger.wrong(format!(
                    "the response to {id} has not ended after {after:?}"
                ));
                Went::Otherwise
            }
        }
    }

    // Reads at most so many frames. A body that ended well, with its gRPC code.
    async fn check(
        &self,
        id: u64,
        response: Response<Body>,
        frames: Option<u64>,
    ) -> Option<Option<u16>> {
        let number = |headers: &HeaderMap, name| -> Option<usize> {
            headers.get(name)?.to_str().ok()?.parse().ok()
        };
        let headers = response.headers();
        let (Some(salt), Some(len), Some(period)) = (
            number(headers, "x-salt"),
            number(headers, "x-len"),
            number(headers, "x-period"),
        ) else {
            self.ledger
                .wrong(format!("{id}: an answer of nobody's: {response:?}"));
            return None;
        };
        if salt >> 8 != id as usize {
            self.ledger
                .wrong(format!("{id} has the answer of {}", salt >> 8));
        }
        let mut code = number(headers, "grpc-status");
        let status = response.status();
        let served = response.extensions().get::<tower_mesh::Served>().cloned();
        let mut body = pin!(response.into_body());
        let mut read = 0;
        let mut left = frames;
        loop {
            if left == Some(0) {
                return None;
            }
            left = left.map(|left| left - 1);
            let hint = body.size_hint();
            match body.frame().await {
                None => break,
                Some(Err(_)) => return None,
                Some(Ok(frame)) => {
                    if let Some(trailers) = frame.trailers_ref() {
                        code = number(trailers, "grpc-status");
                    }
                    let Some(data) = frame.data_ref() else {
                        continue;
                    };
                    if **data != *framed(salt as u64, period, read, data.len()) {
                        self.ledger
                            .wrong(format!("{id}: other bytes from {read} on"));
                        return None;
                    }
                    if hint.upper().is_some_and(|most| most < data.len() as u64) {
                        self.ledger.wrong(format!("{id}: more than its size hint"));
                    }
                    read += data.len();
                }
            }
        }
        // A broken gRPC stream ends well, and its trailers say how it is.
        let failed = self.grpc && code != Some(0);
        if self.grpc && code.is_none() && status == 200 {
            self.ledger
                .wrong(format!("{id}: no status after {read} of {len}, {served:?}"));
        }
        if read != len && !failed {
            self.ledger
                .wrong(format!("{id}: a clean end after {read} of {len}, {status}"));
        }
        Some(code.map(|code| code as u16))
    }
}
