use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep};

use crate::budget::RetryBudget;
use crate::core::BoxError;
use crate::core::in_flight::InFlightGuard;
use crate::core::sync::{AtomicU64, Ordering};
use crate::deadline::{BodyLimit, Limits, Timeout};
use crate::error::{Error, ErrorKind};
use crate::policy::Codes;
use crate::verdict::{Outcome, Ticket, Verdict, grpc};

/// What hears how a response body ends, and how long that may take.
///
/// Dropped, it settles what the response head said.
pub(crate) struct Tail {
    ticket: Ticket,
    limit: BodyLimit,
    // What a success pays into, where only the end tells: the budgets of retries and of hedges, if those have their own.
    budgets: [Option<RetryBudget>; 2],
    // How its end is told to a gRPC client; none to others.
    grpc: Option<GrpcEnd>,
    // Which codes come too late to be retried, and who counts them.
    late_codes: Option<(Codes, Arc<AtomicU64>)>,
    // Whether the caller waits for a frame.
    awaited: bool,
    // Whether it began to when a limit had passed already: its own time, not the endpoint's.
    late: bool,
    // How many frames there were since the time was looked at.
    unwatched: u8,
    // Made when the body is first waited for.
    alarm: Option<Pin<Box<Sleep>>>,
    // Held so that closing a client waits for the bodies, too.
    _in_flight: Option<InFlightGuard>,
}

/// How a gRPC response's end is told, if it is no good end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GrpcEnd {
    /// In trailers, or else by an error.
    pub(crate) in_trailers: bool,
    /// Whether a status is still owed: an end without one is told, too.
    pub(crate) status_due: bool,
    /// The request's deadline from the first message on, if it is another: a stream that has begun is not cut short by the
    /// policy's.
    pub(crate) once_begun: Option<Option<Instant>>,
    pub(crate) endpoint: SocketAddr,
    pub(crate) attempts: u32,
}

/// In so many frames that are there at once the time is looked at.
const WATCHED: u8 = 32;

/// The last frame of a response that came to no good end.
pub(super) type Last = Result<Frame<Bytes>, BoxError>;

// === impl Tail ===

impl Tail {
    pub(crate) fn new(ticket: Ticket, limits: Limits, in_flight: Option<InFlightGuard>) -> Self {
        Self {
            ticket,
            limit: limits.for_body(),
            budgets: [None, None],
            grpc: None,
            late_codes: None,
            awaited: false,
            late: false,
            unwatched: 0,
            alarm: None,
            _in_flight: in_flight,
        }
    }

    /// Pays a success into these budgets when the body has ended.
    pub(crate) fn with_budgets(mut self, budgets: [Option<RetryBudget>; 2]) -> Self {
        self.budgets = budgets;
        self
    }

    /// Counts these codes, where the policy would have tried again had it known.
    pub(crate) fn with_late_codes(mut self, codes: Codes, count: Arc<AtomicU64>) -> Self {
        self.late_codes = Some((codes, count));
        self
    }

    /// The body is gRPC's.
    pub(crate) fn with_grpc(mut self, grpc: Option<GrpcEnd>) -> Self {
        self.grpc = grpc;
        self
    }

    pub(super) fn frame(&mut self, frame: &Frame<Bytes>) {
        self.awaited = false;
        self.ticket.frame(frame.is_data());
        if let Some(deadline) = self.grpc.as_mut().and_then(|grpc| grpc.once_begun.take()) {
            self.limit.begun(deadline);
        }
    }

    /// Whether a limit has passed of a body whose next frame is always there, so that it is never waited for. Looked at once
    /// in so many frames.
    pub(super) fn overdue(&mut self) -> Option<ErrorKind> {
        self.unwatched += 1;
        if self.unwatched < WATCHED {
            return None;
        }
        self.unwatched = 0;
        if !self.limit.is_some() {
            return None;
        }
        // It is not idle.
        let passed = self.limit.passed(Instant::now());
        let passed = passed.filter(|passed| *passed != Timeout::Idle)?;
        // The endpoint has sent what it was asked for.
        self.late = true;
        Some(passed.into())
    }

    /// The body ended, with this frame if it has trailers.
    pub(super) fn ended(&mut self, last: Option<&Frame<Bytes>>) {
        let trailers = last.and_then(Frame::trailers_ref);
        let outcome = self.ticket.end_in_place(trailers);
        if let (Some((codes, count)), Some(trailers)) = (&self.late_codes, trailers)
            && let Some(Some(code)) = grpc::grpc_status(trailers)
            && codes.contains(code)
        {
            count.fetch_add(1, Ordering::Relaxed);
            // What the policy would try again has not succeeded.
            return;
        }
        if outcome.verdict == Verdict::Success {
            let mut budgets = self.budgets.iter().flatten().peekable();
            if budgets.peek().is_some() {
                let now = Instant::now();
                budgets.for_each(|budget| budget.success(now));
            }
        }
    }

    /// The body broke: whatever the head said, the endpoint failed.
    pub(super) fn broke(&mut self, error: &BoxError) {
        self.ticket.broke_in_place(error);
    }

    /// The body took too long, or its caller did; then the head's word stands, as if it had been dropped.
    pub(super) fn expired(&mut self) {
        if !self.late {
            self.ticket.settle_in_place(&Outcome::FAILURE);
        }
    }

    /// Ready once a limit has passed.
    pub(super) fn poll_limit(&mut self, cx: &mut Context<'_>) -> Poll<ErrorKind> {
        if !std::mem::replace(&mut self.awaited, true) {
            // Between two frames it is the caller that takes its time: idle is who is asked for more.
            self.limit.awaited();
            self.late = self.limit.is_some() && self.limit.passed(Instant::now()).is_some();
        }
        self.limit.wake_when_sent(cx.waker());
        loop {
            let Some(next) = self.limit.next() else {
                return Poll::Pending;
            };
            if self.alarm.is_none() && Handle::try_current().is_err() {
                // Read outside a runtime: there are no timers, and no reason to panic.
                return Poll::Pending;
            }
            let alarm = self
                .alarm
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next)));
            // Frames move the limit on; the alarm follows when it rings too early, or when it would ring too late.
            if next < alarm.deadline() {
                alarm.as_mut().reset(next);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if let Some(kind) = self.limit.passed(Instant::now()) {
                return Poll::Ready(kind.into());
            }
            alarm.as_mut().reset(next);
        }
    }

    pub(super) fn is_grpc(&self) -> bool {
        self.grpc.is_some()
    }

    /// What the caller is told of an error: in gRPC's words, or as it is.
    pub(super) fn told(&self, error: Error) -> Last {
        let Some(grpc) = &self.grpc else {
            return Err(error.into());
        };
        let error = error
            .with_endpoint(grpc.endpoint)
            .with_attempts(grpc.attempts);
        if grpc.in_trailers {
            return Ok(Frame::trailers(grpc::status_headers(
                error.grpc_code(),
                &error.grpc_message(),
            )));
        }
        #[cfg(feature = "tonic")]
        let error = error.with_status(Instant::now());
        Err(error.into())
    }

    /// What the caller is told of an error of the body's own: by HTTP the error itself.
    pub(super) fn told_of(&self, error: BoxError) -> Last {
        match self.grpc {
            Some(_) => self.told(Error::from_leaf(error)),
            None => Err(error),
        }
    }

    /// What the caller is told where a status is missing.
    pub(super) fn truncated(&self) -> Option<Last> {
        let due = self.grpc.is_some_and(|grpc| grpc.status_due);
        due.then(|| self.told(Error::new(ErrorKind::Truncated)))
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
