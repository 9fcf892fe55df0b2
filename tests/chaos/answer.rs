//! What a server makes of one request.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};
use tower_mesh::BoxError;

use super::ledger::{Dice, Left, bytes, framed};
use super::node::{Phase, Town};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Whole,
    Breaks(h2::Reason),
    Stalls,
    Kills,
    /// gRPC: without trailers.
    Bare,
}

pub async fn answer(
    town: Town,
    request: Request<Incoming>,
    mut dice: Dice,
    kill: Arc<Notify>,
) -> Result<Response<Chunks>, BoxError> {
    let ledger = &town.ledger;
    let number = |name: &str| -> Option<u64> {
        let value = request.headers().get(name)?;
        value.to_str().ok()?.parse().ok()
    };
    let Some(id) = number("x-id") else {
        ledger.wrong(format!("a request without a number: {request:?}"));
        return Err("no number".into());
    };
    let body = number("x-body");
    let receipt = ledger.received(id);
    let bad = *town.phase.borrow() == Phase::Bad;
    let grpc = request.headers().contains_key("te");
    let what = if bad { dice.below(100) } else { 0 };
    let early = bad && dice.percent(15);
    let mut incoming = request.into_body();
    if !early
        && (what < 75 || dice.percent(50))
        && let Some(wrong) = read(&mut incoming, id, body).await
    {
        ledger.wrong(wrong);
    }
    if bad && dice.percent(30) {
        sleep(Duration::from_millis(dice.below(120))).await;
    }
    let mut status = 200;
    let mut ends = Ends::Whole;
    let mut code = Some(0);
    match what {
        0..55 => {}
        55..65 if grpc => code = Some(dice.one_of(&[14, 14, 13, 5, 8])),
        55..60 => status = 500,
        60..65 => status = 503,
        65..68 => {
            ledger.count("server: kills before the head");
            kill.notify_one();
            return std::future::pending().await;
        }
        68..73 if town.http2 => {
            let reason = dice.one_of(&[
                h2::Reason::REFUSED_STREAM,
                h2::Reason::REFUSED_STREAM,
                h2::Reason::INTERNAL_ERROR,
                h2::Reason::CANCEL,
                h2::Reason::ENHANCE_YOUR_CALM,
                h2::Reason::NO_ERROR,
            ]);
            if reason == h2::Reason::REFUSED_STREAM {
                ledger.left(id, receipt, Left::Refused);
            }
            ledger.count("server: resets");
            return Err(h2::Error::from(reason).into());
        }
        68..73 => {
            ledger.count("server: closes before the head");
            return Err("closes".into());
        }
        73..77 => {
            ends = Ends::Breaks(dice.one_of(&[
                h2::Reason::INTERNAL_ERROR,
                h2::Reason::CANCEL,
                h2::Reason::REFUSED_STREAM,
                h2::Reason::NO_ERROR,
            ]));
        }
        77..81 => ends = Ends::Stalls,
        81..85 => ends = Ends::Kills,
        85..88 if grpc => ends = Ends::Bare,
        88..90 if grpc => {
            status = 503;
            code = None;
        }
        90..94 => {
            ledger.count("server: never answers");
            sleep(Duration::from_millis(dice.below(600))).await;
            let _ = read(&mut incoming, id, body).await;
            return std::future::pending().await;
        }
        _ => {}
    }
    let len = match dice.below(10) {
        0 => 0,
        1..7 => dice.below(2000) as usize,
        _ => dice.below(150_000) as usize,
    };
    let page = grpc && code.is_none();
    let period = if grpc && !page {
        1 + dice.below(3000) as usize
    } else {
        0
    };
    let len = match period {
        0 => len,
        _ => len / (period + 5) * (period + 5),
    };
    let salt = id << 8 | receipt as u64 & 0xff;
    // h2 drops a head that has not been sent when the stream is reset.
    let refuses = ends == Ends::Breaks(h2::Reason::REFUSED_STREAM);
    let left = if refuses {
        Left::Refused
    } else {
        Left::Status(status)
    };
    ledger.left(id, receipt, left);
    let mut response = Response::builder()
        .status(status)
        .header("x-salt", salt)
        .header("x-len", len)
        .header("x-period", period);
    let mut trailers = None;
    if page {
        response = response.header("content-type", "text/html");
    } else if grpc {
        response = response.header("content-type", "application/grpc");
        let code = code.unwrap_or(0);
        if len == 0 && ends == Ends::Whole && dice.percent(50) {
            response = response.header("grpc-status", code);
        } else if ends != Ends::Bare {
            trailers = Some(code);
        }
    }
    if status != 200 && dice.percent(20) {
        response = response.header("retry-after", 0);
    }
    let unread = dice.below(600);
    let kept = ends == Ends::Stalls || dice.percent(50);
    let sized = !grpc && dice.percent(50);
    if sized {
        response = response.header("content-length", len);
    }
    let stop = match ends {
        Ends::Whole | Ends::Bare => len,
        _ => dice.below(len as u64 + 1) as usize,
    };
    ledger.count(format!("server: {status} {ends:?}"));
    Ok(response
        .body(Chunks {
            salt,
            period,
            at: 0,
            stop,
            ends,
            trailers,
            kill,
            pause: None,
            dice,
            slow: bad && len < 20_000,
            // Where it is not read, it is read sooner or later: hyper learns only then that the client has left.
            request: kept.then_some(incoming),
            unread: Box::pin(sleep(Duration::from_millis(unread))),
        })
        .unwrap())
}

// What is wrong with it.
async fn read(body: &mut Incoming, id: u64, whole: Option<u64>) -> Option<String> {
    let mut read = 0;
    loop {
        match body.frame().await {
            None => break,
            Some(Err(_)) => return None,
            Some(Ok(frame)) => {
                let Some(data) = frame.data_ref() else {
                    continue;
                };
                if **data != *bytes(id, read, data.len()) {
                    return Some(format!("request {id}: other bytes from {read} on"));
                }
                read += data.len();
            }
        }
    }
    match whole {
        Some(whole) if whole == read as u64 => None,
        whole => Some(format!(
            "request {id}: a clean end after {read} of {whole:?}"
        )),
    }
}

/// A response's body.
pub struct Chunks {
    salt: u64,
    period: usize,
    at: usize,
    stop: usize,
    ends: Ends,
    trailers: Option<u16>,
    kill: Arc<Notify>,
    pause: Option<Pin<Box<Sleep>>>,
    dice: Dice,
    slow: bool,
    request: Option<Incoming>,
    unread: Pin<Box<Sleep>>,
}

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some(request) = &mut this.request
            && this.unread.as_mut().poll(cx).is_ready()
        {
            while let Poll::Ready(frame) = Pin::new(&mut *request).poll_frame(cx) {
                if !matches!(frame, Some(Ok(_))) {
                    this.request = None;
                    break;
                }
            }
        }
        if let Some(pause) = &mut this.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            this.pause = None;
        } else if this.slow && this.dice.percent(20) {
            let pause = Duration::from_millis(this.dice.below(15));
            this.pause = Some(Box::pin(sleep(pause)));
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.at < this.stop {
            let most = this.dice.one_of(&[10, 1000, 30_000]);
            let len = (this.stop - this.at).min(most);
            let data = framed(this.salt, this.period, this.at, len);
            this.at += len;
            return Poll::Ready(Some(Ok(Frame::data(data.into()))));
        }
        match this.ends {
            Ends::Whole => Poll::Ready(this.trailers.take().map(|code| {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", code.into());
                Ok(Frame::trailers(trailers))
            })),
            Ends::Bare => Poll::Ready(None),
            Ends::Breaks(reason) => Poll::Ready(Some(Err(h2::Error::from(reason).into()))),
            Ends::Stalls => Poll::Pending,
            Ends::Kills => {
                this.kill.notify_one();
                Poll::Pending
            }
        }
    }
}
