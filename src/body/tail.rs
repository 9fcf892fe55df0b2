use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use tokio::time::{Instant, Sleep};

use crate::budget::RetryBudget;
use crate::core::BoxError;
use crate::core::error::{Error, ErrorKind};
use crate::core::in_flight::InFlightGuard;
use crate::deadline::Limits;
use crate::verdict::{Outcome, Settle, Ticket, Verdict};

/// What hears how a response body ends, and how long that may take.
///
/// Dropped, it settles what the response head said.
pub(crate) struct Tail {
    ticket: Ticket,
    limits: Limits,
    // What a success pays into, where only the end tells.
    budget: Option<RetryBudget>,
    // Whether a limit ends the body with gRPC trailers, instead of an error.
    grpc: bool,
    // Made when the body is first waited for.
    alarm: Option<(Instant, Pin<Box<Sleep>>)>,
    // Held so that closing a client waits for the bodies, too.
    _in_flight: Option<InFlightGuard>,
}

// === impl Tail ===

impl Tail {
    pub(crate) fn new(ticket: Ticket, limits: Limits, in_flight: Option<InFlightGuard>) -> Self {
        Self {
            ticket,
            limits,
            budget: None,
            grpc: false,
            alarm: None,
            _in_flight: in_flight,
        }
    }

    /// Pays a success into this budget when the body has ended.
    pub(crate) fn with_budget(mut self, budget: Option<RetryBudget>) -> Self {
        self.budget = budget;
        self
    }

    /// Ends a body that takes too long with DEADLINE_EXCEEDED trailers.
    pub(crate) fn with_grpc(mut self, grpc: bool) -> Self {
        self.grpc = grpc;
        self
    }

    pub(super) fn is_grpc(&self) -> bool {
        self.grpc
    }

    pub(super) fn frame(&mut self, frame: &Frame<Bytes>) {
        self.limits.frame();
        self.ticket.frame(frame.is_data());
    }

    /// The body ended, with this frame if it has trailers.
    pub(super) fn ended(self, last: Option<&Frame<Bytes>>) {
        let outcome = self.ticket.end(last.and_then(Frame::trailers_ref));
        if let (Verdict::Success, Some(budget)) = (outcome.verdict, &self.budget) {
            budget.deposit();
        }
    }

    /// The body broke: whatever the head said, the endpoint failed.
    pub(super) fn broke(self, error: &BoxError) {
        self.ticket.broke(error);
    }

    /// The body took too long.
    pub(super) fn expired(self) {
        self.ticket.settle(&Outcome::FAILURE);
    }

    /// Ready once a limit has passed.
    pub(super) fn poll_limit(&mut self, cx: &mut Context<'_>) -> Poll<ErrorKind> {
        if !self.limits.is_limited() {
            return Poll::Pending;
        }
        self.limits.wake_when_sent(cx.waker());
        loop {
            // Frames move the limit; the alarm is only moved when it has rung too early.
            let Some(next) = self.limits.next() else {
                return Poll::Pending;
            };
            let (at, alarm) = self
                .alarm
                .get_or_insert_with(|| (next, Box::pin(tokio::time::sleep_until(next))));
            if next < *at {
                *at = next;
                alarm.as_mut().reset(next);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if let Some(kind) = self.limits.passed(Instant::now()) {
                return Poll::Ready(kind);
            }
            *at = next;
            alarm.as_mut().reset(next);
        }
    }

    pub(super) fn error(kind: ErrorKind) -> BoxError {
        Error::new(kind).into()
    }
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tail")
            .field("ticket", &self.ticket)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
