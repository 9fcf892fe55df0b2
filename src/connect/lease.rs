//! The right to use a connection for one request. Whatever happens to it, what it holds is given back once.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::task::Waker;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::body::Outgoing;
use super::pool::Pool;
use crate::core::sync::{AtomicUsize, Mutex, Ordering, lock};

/// What is known of a connection from its start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Card {
    pub(super) number: u64,
    pub(super) retire_at: Option<Instant>,
    pub(super) encrypted: bool,
}

pub(super) struct Http1 {
    pub(super) sender: http1::SendRequest<Outgoing>,
    pub(super) parking: Arc<Parking>,
    pub(super) card: Card,
}

#[derive(Clone)]
pub(super) struct Http2 {
    pub(super) sender: http2::SendRequest<Outgoing>,
    pub(super) handles: Arc<Handles>,
    pub(super) card: Card,
}

/// What all handles on an HTTP/2 connection share.
pub(super) struct Handles {
    // How many streams the peer allows.
    pub(super) peer_limit: Arc<AtomicUsize>,
    // Dropped with the last handle, which tells the connection's task.
    pub(super) _any: oneshot::Sender<Infallible>,
}

/// Where an HTTP/1.1 connection's handle waits until the response body has ended, watched by the connection's task.
#[derive(Default)]
pub(super) struct Parking(Mutex<Parked>);

#[derive(Default)]
struct Parked {
    sender: Option<http1::SendRequest<Outgoing>>,
    task: Option<Waker>,
}

pub(super) enum Lease {
    Http1(Http1Lease),
    Http2(Http2Lease),
}

/// A whole HTTP/1.1 connection. Dropped unused it is given back; dropped with a request on it, it closes.
pub(super) struct Http1Lease {
    pool: Arc<Pool>,
    http1: Option<Http1>,
    used: bool,
    pub(super) fresh: bool,
}

/// A place on an HTTP/2 connection.
pub(super) struct Http2Lease {
    pub(super) http2: Http2,
    pub(super) stream: Stream,
    pub(super) fresh: bool,
}

/// Counted as a stream of its connection until it is dropped.
pub(super) struct Stream {
    pool: Option<Arc<Pool>>,
    number: u64,
}

// === impl Http1Lease ===

impl Http1Lease {
    pub(super) fn new(pool: Arc<Pool>, http1: Http1, fresh: bool) -> Self {
        Self {
            pool,
            http1: Some(http1),
            used: false,
            fresh,
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.http1.as_ref().map_or(0, |http1| http1.card.number)
    }

    /// Hands the request over. `None` never is: a lease has its connection until it is consumed.
    pub(super) fn send(
        &mut self,
        request: Request<Outgoing>,
    ) -> Option<
        impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Outgoing>>>> + use<>,
    > {
        let http1 = self.http1.as_mut()?;
        self.used = true;
        Some(http1.sender.try_send_request(request))
    }

    /// The response's head is there: the connection is free once its body has ended.
    pub(super) fn answered(mut self) {
        let Some(http1) = self.http1.take() else {
            return;
        };
        if http1.sender.is_ready() {
            self.pool.give(http1, false);
        } else {
            http1.parking.park(http1.sender);
        }
    }

    pub(super) fn unused(mut self) -> Option<Http1> {
        self.http1.take()
    }
}

impl Drop for Http1Lease {
    fn drop(&mut self) {
        if let Some(http1) = self.http1.take()
            && !self.used
        {
            self.pool.give(http1, self.fresh);
        }
    }
}

// === impl Http2 ===

impl Http2 {
    /// How many streams the peer allows.
    pub(super) fn peer_limit(&self) -> usize {
        self.handles.peer_limit.load(Ordering::Relaxed)
    }
}

// === impl Parking ===

impl Parking {
    fn park(&self, sender: http1::SendRequest<Outgoing>) {
        let task = {
            let mut parked = lock(&self.0);
            parked.sender = Some(sender);
            parked.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }

    /// What was parked; the task is woken if something is, later.
    pub(super) fn take(&self, task: &Waker) -> Option<http1::SendRequest<Outgoing>> {
        let mut parked = lock(&self.0);
        let sender = parked.sender.take();
        if sender.is_none() && !parked.task.as_ref().is_some_and(|old| old.will_wake(task)) {
            parked.task = Some(task.clone());
        }
        sender
    }
}

// === impl Stream ===

impl Stream {
    pub(super) fn new(pool: Arc<Pool>, number: u64) -> Self {
        Self {
            pool: Some(pool),
            number,
        }
    }

    /// Ends it without a word to the pool.
    pub(super) fn forget(mut self) {
        self.pool = None;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.release(self.number);
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stream").field(&self.number).finish()
    }
}
