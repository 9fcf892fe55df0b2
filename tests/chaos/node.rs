//! A server at one address, in all moods.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::answer::answer;
use super::ledger::{Dice, Ledger};
use super::raw::raw;

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

// Accepts, hears, and says nothing.
async fn listen(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
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
