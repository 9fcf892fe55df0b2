//! A server at one address, in all moods.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tower_mesh::BoxError;

use super::ledger::{Dice, Ledger, Left, bytes, framed};

/// How the servers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Bad,
    /// They answer whatever comes from now on.
    Well,
    Gone,
}

/// What all nodes of a round share.
#[derive(Clone)]
pub struct Town {
    pub seed: u64,
    pub http2: bool,
    pub ledger: Arc<Ledger>,
    /// What they may say of how many streams they take at once.
    pub streams: &'static [Option<u32>],
    pub phase: watch::Receiver<Phase>,
    pub connections: Arc<AtomicU64>,
}

/// Opens the first listener, so that the address is known, and lives until all are [`Phase::Gone`].
pub async fn node(town: Town, n: u64) -> (SocketAddr, impl Future<Output = ()> + Send) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let dice = Dice::new(town.seed, 1 << 40 | n);
    (address, live(town, listener, address, dice))
}

async fn live(mut town: Town, first: TcpListener, address: SocketAddr, mut dice: Dice) {
    let mut open = Some(first);
    let mut connections = JoinSet::new();
    loop {
        let phase = *town.phase.borrow_and_update();
        if phase == Phase::Gone {
            return;
        }
        let listener = match open.take() {
            Some(listener) => listener,
            // Somebody's outgoing connection may have the port for a moment.
            None => match TcpListener::bind(address).await {
                Ok(listener) => listener,
                Err(_) => {
                    sleep(Duration::from_millis(1)).await;
                    continue;
                }
            },
        };
        let mute = phase == Phase::Bad && dice.percent(8);
        let mood = match phase {
            Phase::Bad => Duration::from_millis(20 + dice.below(400)),
            _ => Duration::MAX,
        };
        let end = {
            let accept = async {
                loop {
                    let Ok((stream, _)) = listener.accept().await else {
                        continue;
                    };
                    let number = town.connections.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(connection(town.clone(), stream, number, mute));
                    while connections.try_join_next().is_some() {}
                }
            };
            let mut phases = town.phase.clone();
            tokio::select! {
                () = accept => {}
                _ = sleep(mood) => {}
                _ = phases.changed() => {}
            }
            dice.below(100)
        };
        if *town.phase.borrow() != phase {
            open = Some(listener);
            continue;
        }
        match end {
            0..45 => open = Some(listener),
            // Crashes, and is gone for a while.
            45..65 => {
                drop(listener);
                connections.shutdown().await;
                sleep(Duration::from_millis(dice.below(150))).await;
            }
            // Refuses new connections.
            65..85 => {
                drop(listener);
                sleep(Duration::from_millis(dice.below(150))).await;
            }
            _ => {
                connections.shutdown().await;
                open = Some(listener);
            }
        }
    }
}

async fn connection(town: Town, stream: TcpStream, number: u64, mute: bool) {
    let mut dice = Dice::new(town.seed, 1 << 41 | number);
    let bad = *town.phase.borrow() == Phase::Bad;
    let _ = stream.set_nodelay(true);
    if dice.percent(30) {
        // Its end is a reset.
        let _ = stream.set_zero_linger();
    }
    if mute {
        return listen(stream).await;
    }
    if bad && !town.http2 && dice.percent(10) {
        let _ = raw(&town, stream, &mut dice).await;
        return;
    }
    let killed = Arc::new(Notify::new());
    let service = {
        let (town, killed) = (town.clone(), Arc::clone(&killed));
        let requests = Arc::new(AtomicU64::new(0));
        service_fn(move |request| {
            let nth = requests.fetch_add(1, Ordering::Relaxed);
            let dice = Dice::new(town.seed, 1 << 62 | number << 20 | nth);
            answer(town.clone(), request, dice, Arc::clone(&killed))
        })
    };
    let leaves = match bad && dice.percent(40) {
        true => Duration::from_millis(dice.below(300)),
        false => Duration::MAX,
    };
    let frozen = bad && dice.percent(10);
    let io = TokioIo::new(stream);
    // One macro for two types of connections.
    macro_rules! serve {
        ($serving:expr) => {{
            let mut serving = pin!($serving);
            if frozen {
                // Serves for a moment, and then neither reads nor writes for a while.
                let moment = Duration::from_millis(dice.below(30));
                if timeout(moment, serving.as_mut()).await.is_ok() {
                    return;
                }
                sleep(Duration::from_millis(dice.below(1000))).await;
            }
            let ended = tokio::select! {
                _ = serving.as_mut() => true,
                () = killed.notified() => true,
                () = sleep(leaves) => false,
            };
            if !ended {
                serving.as_mut().graceful_shutdown();
                tokio::select! {
                    _ = serving => {}
                    () = killed.notified() => {}
                }
            }
        }};
    }
    if town.http2 {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new());
        if bad {
            let window = dice.one_of(&[None, None, Some(100), Some(3000)]);
            builder.initial_stream_window_size(window);
            builder.max_concurrent_streams(dice.one_of(town.streams));
        }
        serve!(builder.serve_connection(io, service));
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new());
        serve!(builder.serve_connection(io, service));
    }
}

/// Writes HTTP/1.1 by hand, and not always well.
async fn raw(town: &Town, mut stream: TcpStream, dice: &mut Dice) -> std::io::Result<()> {
    let ledger = &town.ledger;
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let number = |name: &str| -> Option<u64> {
            let line = head.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse().ok()
        };
        let Some(id) = number("x-id:") else {
            ledger.wrong(format!("not a request: {head}"));
            return Ok(());
        };
        let receipt = ledger.received(id);
        let salt = id << 8 | receipt as u64 & 0xff;
        let len = dice.below(3000) as usize;
        let body = bytes(salt, 0, len);
        let facts = format!("x-salt: {salt}\r\nx-len: {len}\r\nx-period: 0\r\n");
        let mut answer =
            format!("HTTP/1.1 200 OK\r\n{facts}content-length: {len}\r\n\r\n").into_bytes();
        let end_of_head = answer.len();
        answer.extend(&body);
        let trick = dice.below(8);
        match trick {
            // It ends somewhere.
            0 => answer.truncate(dice.below(answer.len() as u64) as usize),
            // More than one answer to one request. hyper does not see the end of a connection behind bytes that it has not
            // asked for, so a streaming upload would keep it for as long as it lasts.
            1 if head.contains("content-length:") => answer.extend_from_within(..),
            2 => {
                let mut with_hints =
                    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n".to_vec();
                with_hints.extend(answer);
                answer = with_hints;
            }
            // Chunks, of which the last one is missing, or is none.
            3 | 4 => {
                answer = format!("HTTP/1.1 200 OK\r\n{facts}transfer-encoding: chunked\r\n\r\n")
                    .into_bytes();
                answer.extend(format!("{len:x}\r\n").bytes());
                answer.extend(&body);
                answer.extend(if trick == 3 {
                    &b"\r\n"[..]
                } else {
                    b"\r\nzz\r\n"
                });
            }
            5 => answer = b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
            6 => answer[end_of_head - 3] = b'\n',
            _ => {}
        }
        ledger.count(format!("server: raw {trick}"));
        // A piece now, and the rest later.
        let (now, later) = answer.split_at(dice.below(answer.len() as u64 + 1) as usize);
        stream.write_all(now).await?;
        sleep(Duration::from_millis(dice.below(20))).await;
        stream.write_all(later).await?;
        let kept = trick == 7 && head.starts_with("GET") && head.contains("content-length: 0\r\n");
        if !kept {
            // Neither reads what it was still to be sent, nor closes at once.
            stream.shutdown().await?;
            sleep(Duration::from_millis(dice.below(50))).await;
            return Ok(());
        }
    }
}

// Accepts, hears, and says nothing.
async fn listen(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Whole,
    Breaks(h2::Reason),
    Stalls,
    Kills,
    /// gRPC: without trailers.
    Bare,
}

async fn answer(
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

/// Whether all that is counted comes to nothing in good time. The wall clock tells a hang from a slow machine, and no more.
pub async fn settles(within: Duration, done: impl Fn() -> bool) -> bool {
    let settled = timeout(within, async {
        while !done() {
            sleep(Duration::from_millis(2)).await;
        }
    });
    settled.await.is_ok()
}
