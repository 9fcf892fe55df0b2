//! The right to use a connection for one request. Whatever happens to it, what it holds is given back once.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;

use super::handle::{Http1, Http2};
use super::outgoing::Outgoing;
use super::pool::Pool;

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
