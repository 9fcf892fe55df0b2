//! A connection's life, in the one task that it has: dialed, handed to the pool, driven until it is closed.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use hyper::client::conn::{http1, http2};
use hyper::rt::{Executor, Read, Write};
use hyper_util::rt::TokioTimer;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use super::Version;
use super::dial::Dial;
use super::handle::{Card, Handles, Http1, Http2, Parking};
use super::outgoing::Outgoing;
use super::pool::{Dialing, Pool};
use super::settings::Settings;
use super::sort::{DialError, NoConnection};
use super::wire::{Socket, Wire};
use crate::core::BoxError;
use crate::core::sync::{AtomicUsize, Ordering};
use crate::core::time::{FAR, after};

/// Runs hyper's futures in boxes: those of HTTP/2 have room for a whole connection, and a task's is moved several times.
#[derive(Clone, Copy, Debug)]
struct Boxing;

enum Established<I: Read + Write + Send + Unpin + 'static> {
    Http1(
        http1::SendRequest<Outgoing>,
        Box<http1::Connection<Wire<I>, Outgoing>>,
    ),
    Http2(
        http2::SendRequest<Outgoing>,
        Box<http2::Connection<Wire<I>, Outgoing, Boxing>>,
    ),
}

pub(super) async fn run<D: Dial>(dialing: Dialing, dialer: Arc<D>, version: Version, number: u64) {
    let settings = dialing.settings().clone();
    let socket = Socket::new(dialing.open());
    let deadline = after(Instant::now(), settings.connect_timeout);
    let made = timeout_at(
        deadline,
        establish(&*dialer, &dialing, version, socket.clone()),
    );
    let (established, encrypted) = match made.await.unwrap_or(Err(NoConnection::Timeout.into())) {
        Ok(established) => established,
        Err(error) => {
            let error = DialError::new(dialing.endpoint().address(), error);
            return dialing.fail(error);
        }
    };
    let card = Card {
        number,
        retire_at: settings.retire_at(number, Instant::now()),
        encrypted,
    };
    socket.land();
    drop(socket);
    match established {
        Established::Http1(sender, connection) => {
            let parking = Arc::<Parking>::default();
            let pool = dialing.land_http1(Http1 {
                sender,
                parking: parking.clone(),
                card,
            });
            drive_http1(*connection, &pool, &parking, card).await;
            forget(&pool, number);
        }
        Established::Http2(sender, connection) => {
            let peer_limit = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
            let (any, unused) = oneshot::channel();
            let handles = Handles {
                peer_limit: peer_limit.clone(),
                _any: any,
            };
            let pool = dialing.land_http2(Http2 {
                sender,
                handles: Arc::new(handles),
                card,
            });
            drive_http2(*connection, &pool, &peer_limit, unused, card).await;
            forget(&pool, number);
        }
    }
}

async fn establish<D: Dial>(
    dialer: &D,
    dialing: &Dialing,
    version: Version,
    socket: Arc<Socket>,
) -> Result<(Established<D::Io>, bool), BoxError> {
    let dialed = dialer.dial(dialing.endpoint().clone()).await?;
    let mut wire = Wire::new(dialed.io, socket);
    if !dialed.http2.unwrap_or(version == Version::Http2) {
        let (sender, connection) = http1::handshake(wire).await?;
        let established = Established::Http1(sender, Box::new(connection));
        return Ok((established, dialed.encrypted));
    }
    let greeting = wire.greeting();
    let (sender, connection) = http2_builder(dialing.settings()).handshake(wire).await?;
    match greeting.await {
        Ok(true) => {
            let established = Established::Http2(sender, Box::new(connection));
            Ok((established, dialed.encrypted))
        }
        Ok(false) => Err(NoConnection::NotHttp2.into()),
        Err(_) => Err(NoConnection::Closed.into()),
    }
}

fn http2_builder(settings: &Settings) -> http2::Builder<Boxing> {
    let mut builder = http2::Builder::new(Boxing);
    builder.timer(TokioTimer::new());
    if let Some((interval, timeout)) = settings.keep_alive {
        builder
            .keep_alive_interval(interval)
            .keep_alive_timeout(timeout);
    }
    builder
}

// === impl Boxing ===

impl<F> Executor<F> for Boxing
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        tokio::spawn(Box::pin(future));
    }
}

async fn drive_http1<I: Read + Write + Send + Unpin + 'static>(
    connection: http1::Connection<Wire<I>, Outgoing>,
    pool: &Weak<Pool>,
    parking: &Arc<Parking>,
    card: Card,
) {
    let mut connection = pin!(connection.with_upgrades());
    let mut alarm = pin!(sleep_until(look(pool, card)));
    let mut busy = None;
    poll_fn(|cx| {
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            log(card.number, ended);
            return Poll::Ready(());
        }
        // Until this task is woken by what is parked next or by the one that is not ready yet.
        while let Some(mut sender) = busy.take().or_else(|| parking.take(cx.waker())) {
            match sender.poll_ready(cx) {
                Poll::Ready(Ok(())) => {
                    if let Some(pool) = pool.upgrade() {
                        let parking = parking.clone();
                        let http1 = Http1 {
                            sender,
                            parking,
                            card,
                        };
                        pool.give(http1, false);
                    }
                }
                // Closed, as the connection will be in a moment.
                Poll::Ready(Err(_)) => {}
                Poll::Pending => {
                    busy = Some(sender);
                    break;
                }
            }
        }
        poll_alarm(alarm.as_mut(), pool, card, cx);
        Poll::Pending
    })
    .await;
}

async fn drive_http2<I: Read + Write + Send + Unpin + 'static>(
    connection: http2::Connection<Wire<I>, Outgoing, Boxing>,
    pool: &Weak<Pool>,
    peer_limit: &AtomicUsize,
    unused: oneshot::Receiver<Infallible>,
    card: Card,
) {
    let mut connection = pin!(connection);
    let mut unused = pin!(unused);
    let mut alarm = pin!(sleep_until(look(pool, card)));
    poll_fn(|cx| {
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            log(card.number, ended);
            return Poll::Ready(());
        }
        // hyper sees that only when the peer has let it open the last stream it was asked for, which may be never. Streams
        // that have their response do without it, and the connection ends with the last of them.
        if unused.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        // Polled for each request, so no older than that.
        peer_limit.store(connection.current_max_send_streams(), Ordering::Relaxed);
        poll_alarm(alarm.as_mut(), pool, card, cx);
        Poll::Pending
    })
    .await;
}

/// Closes the connection when nobody has used it for long enough. Without a pool nobody can: it ends by itself.
fn poll_alarm(
    mut alarm: std::pin::Pin<&mut Sleep>,
    pool: &Weak<Pool>,
    card: Card,
    cx: &mut Context<'_>,
) {
    while alarm.as_mut().poll(cx).is_ready() {
        alarm.as_mut().reset(look(pool, card));
    }
}

fn look(pool: &Weak<Pool>, card: Card) -> Instant {
    let now = Instant::now();
    pool.upgrade()
        .map_or_else(|| after(now, FAR), |pool| pool.look(card, now))
}

fn forget(pool: &Weak<Pool>, number: u64) {
    if let Some(pool) = pool.upgrade() {
        pool.forget(number);
    }
}

fn log(number: u64, ended: hyper::Result<()>) {
    match ended {
        Ok(()) => tracing::trace!(number, "connection closed"),
        Err(error) => tracing::debug!(number, %error, "connection closed"),
    }
}
