use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};

use crate::core::error::{Error, ErrorKind};
use crate::core::in_flight::InFlightGuard;
use crate::verdict::{Outcome, Settle, Ticket};

/// What hears how a response body ends, and how long that may take.
///
/// Dropped, it settles what the response head said.
pub(crate) struct Tail {
    ticket: Ticket,
    limit: Option<Limit>,
    // Made when the body is first waited for.
    alarm: Option<Pin<Box<Sleep>>>,
    // Held so that closing a client waits for the bodies, too.
    _in_flight: InFlightGuard,
}

/// A moment by which a body must have ended, and what it is called otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) at: Instant,
    pub(crate) kind: BodyLimit,
}

/// Which timeout a body ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyLimit {
    Request,
    Response,
}

// === impl Tail ===

impl Tail {
    pub(crate) fn new(ticket: Ticket, limit: Option<Limit>, in_flight: InFlightGuard) -> Self {
        Self {
            ticket,
            limit,
            alarm: None,
            _in_flight: in_flight,
        }
    }

    pub(super) fn frame(&mut self) {
        self.ticket.first_frame();
    }

    /// The body ended: the head's verdict stands.
    pub(super) fn ended(mut self) {
        self.ticket.first_frame();
        self.ticket.end();
    }

    /// The body broke: whatever the head said, the endpoint failed.
    pub(super) fn failed(self) {
        self.ticket.settle(&Outcome::FAILURE);
    }

    /// Ready with an error once the limit has passed.
    pub(super) fn poll_limit(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let Some(limit) = self.limit else {
            return Poll::Pending;
        };
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(limit.at)));
        alarm.as_mut().poll(cx).map(|()| {
            Error::new(match limit.kind {
                BodyLimit::Request => ErrorKind::RequestTimeout,
                BodyLimit::Response => ErrorKind::ResponseTimeout,
            })
        })
    }
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tail")
            .field("ticket", &self.ticket)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
