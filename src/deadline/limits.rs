use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::earlier;
use crate::core::sync::{AtomicBool, AtomicU64, Mutex, Ordering, lock};
use crate::core::time::{Epoch, after};
use crate::error::ErrorKind;

/// Every limit in time of one attempt, from its dispatch to the end of its response's body.
///
/// The mesh's rules: *request* is one absolute deadline for everything; *response* counts from the end of the request's
/// body to the end of the response's; the limit of one *try* counts to the response head, *idle* between two frames of
/// either body, while somebody waits for the next. Beyond the mesh, idle also covers the wait for the response head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    request: Option<Instant>,
    attempt: Option<Instant>,
    response: Option<Duration>,
    idle: Option<Duration>,
    // When the request was sent, if it is in memory.
    sent: Option<Instant>,
    // The last that was seen of the response, or the dispatch; since when the next frame is waited for.
    active: Option<Instant>,
    // How far the request's body is, if it is a stream.
    progress: Option<Arc<Progress>>,
    // Whether the request's deadline may change once a stream has begun.
    moves: bool,
}

/// Which limit has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timeout {
    Request,
    Response,
    Headers,
    Idle,
}

/// The limits of a response's body, small enough to be carried by every response.
#[derive(Debug)]
pub(crate) enum BodyLimit {
    None,
    /// One moment that does not move.
    Fixed(Instant, Timeout),
    /// Idle time, or a request that is still being sent.
    Moving(Box<Limits>),
}

/// How far a request's body has been sent.
#[derive(Debug)]
pub(crate) struct Progress {
    epoch: Epoch,
    // In nanoseconds from the epoch.
    active: AtomicU64,
    // The same; the maximum until the body has ended.
    flushed: AtomicU64,
    // Whether the answer may come before all of the request.
    duplex: bool,
    // Whether the caller was asked for the next frame and has none yet.
    asked: AtomicBool,
    waiting: Mutex<Option<Waker>>,
}

const NOT_YET: u64 = u64::MAX;

// === impl Limits ===

impl Limits {
    pub(crate) fn new(
        now: Instant,
        request: Option<Instant>,
        attempt: Option<Instant>,
        response: Option<Duration>,
        idle: Option<Duration>,
    ) -> Self {
        Self {
            request,
            attempt,
            response,
            idle,
            sent: Some(now),
            active: Some(now),
            progress: None,
            moves: false,
        }
    }

    /// Whether it matters for a limit how far a streaming request's body is.
    pub(crate) fn follow_request(&self) -> bool {
        self.response.is_some() || self.idle.is_some()
    }

    /// The request's body is a stream, which tells how far it is.
    pub(crate) fn with_progress(mut self, progress: Arc<Progress>) -> Self {
        self.sent = None;
        self.progress = Some(progress);
        self
    }

    /// Whether this is one try, whose time is limited.
    pub(crate) fn is_try(&self) -> bool {
        self.attempt.is_some()
    }

    /// There is no other try: this one takes what time it needs.
    pub(crate) fn only_try(&mut self) {
        self.attempt = None;
    }

    /// The response head is here.
    pub(crate) fn head(&mut self, now: Instant, idle: Option<Duration>) {
        self.attempt = None;
        self.idle = idle;
        self.active = Some(now);
    }

    /// A frame of the response is waited for.
    pub(crate) fn awaited(&mut self) {
        if self.idle.is_some() {
            self.active = Some(Instant::now());
        }
    }

    /// Another deadline of the request.
    pub(crate) fn set_request(&mut self, deadline: Option<Instant>) {
        self.request = deadline;
    }

    /// The request's deadline may still change.
    pub(crate) fn let_request_move(&mut self) {
        self.moves = true;
    }

    /// What remains of them once the response head is here.
    pub(crate) fn for_body(self) -> BodyLimit {
        let sending = self.response.is_some() && self.response_until().is_none();
        let both = self.moves && self.request.is_some() && self.response.is_some();
        if self.idle.is_some() || sending || both {
            return BodyLimit::Moving(Box::new(self));
        }
        match (self.request, self.response_until()) {
            (Some(request), Some(response)) if response < request => {
                BodyLimit::Fixed(response, Timeout::Response)
            }
            (Some(request), _) => BodyLimit::Fixed(request, Timeout::Request),
            (None, Some(response)) => BodyLimit::Fixed(response, Timeout::Response),
            (None, None) => BodyLimit::None,
        }
    }

    /// Which has passed at `now`, if one has.
    pub(crate) fn passed(&self, now: Instant) -> Option<Timeout> {
        let passed = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        if passed(self.request) {
            Some(Timeout::Request)
        } else if passed(self.response_until()) {
            Some(Timeout::Response)
        } else if passed(self.attempt) {
            Some(Timeout::Headers)
        } else if passed(self.idle_until()) {
            Some(Timeout::Idle)
        } else {
            None
        }
    }

    /// When the next may pass.
    pub(crate) fn next(&self) -> Option<Instant> {
        let fixed = earlier(self.request, self.attempt);
        earlier(fixed, earlier(self.response_until(), self.idle_until()))
    }

    /// Wakes `waker` when the request's body has ended, from which the response's time counts.
    pub(crate) fn wake_when_sent(&self, waker: &Waker) {
        if let (Some(progress), Some(_)) = (&self.progress, self.response) {
            progress.wake_when_sent(waker);
        }
    }

    fn response_until(&self) -> Option<Instant> {
        let limit = self.response?;
        let sent = match &self.progress {
            Some(progress) => progress.flushed(),
            None => self.sent,
        };
        Some(after(sent?, limit))
    }

    fn idle_until(&self) -> Option<Instant> {
        let limit = self.idle?;
        let request = self.progress.as_ref().map(|progress| progress.active());
        Some(after(self.active.max(request)?, limit))
    }
}

// === impl Timeout ===

impl From<Timeout> for ErrorKind {
    fn from(timeout: Timeout) -> Self {
        match timeout {
            Timeout::Request => Self::RequestTimeout,
            Timeout::Response => Self::ResponseTimeout,
            Timeout::Headers => Self::HeadersTimeout,
            Timeout::Idle => Self::IdleTimeout,
        }
    }
}

// === impl BodyLimit ===

impl BodyLimit {
    pub(crate) fn is_some(&self) -> bool {
        !matches!(self, Self::None)
    }

    pub(crate) fn awaited(&mut self) {
        if let Self::Moving(limits) = self {
            limits.awaited();
        }
    }

    /// A stream has begun, which has this deadline.
    pub(crate) fn begun(&mut self, deadline: Option<Instant>) {
        match self {
            Self::None | Self::Fixed(_, Timeout::Response | Timeout::Headers | Timeout::Idle) => {}
            Self::Fixed(_, Timeout::Request) => {
                *self = deadline.map_or(Self::None, |at| Self::Fixed(at, Timeout::Request));
            }
            Self::Moving(limits) => limits.request = deadline,
        }
    }

    pub(crate) fn passed(&self, now: Instant) -> Option<Timeout> {
        match self {
            Self::None => None,
            Self::Fixed(at, kind) => (now >= *at).then_some(*kind),
            Self::Moving(limits) => limits.passed(now),
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        match self {
            Self::None => None,
            Self::Fixed(at, _) => Some(*at),
            Self::Moving(limits) => limits.next(),
        }
    }

    pub(crate) fn wake_when_sent(&self, waker: &Waker) {
        if let Self::Moving(limits) = self {
            limits.wake_when_sent(waker);
        }
    }
}

// === impl Progress ===

impl Progress {
    pub(crate) fn new(now: Instant, duplex: bool) -> Self {
        Self {
            epoch: Epoch::new(now),
            duplex,
            active: AtomicU64::new(0),
            flushed: AtomicU64::new(NOT_YET),
            asked: AtomicBool::new(false),
            waiting: Mutex::new(None),
        }
    }

    /// The caller has no frame yet.
    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    pub(crate) fn asked(&self) -> bool {
        !self.duplex && self.asked.load(Ordering::Relaxed)
    }

    /// A frame was taken.
    pub(crate) fn frame(&self) {
        self.asked.store(false, Ordering::Relaxed);
        let now = self.epoch.nanos(Instant::now());
        self.active.store(now, Ordering::Release);
    }

    /// The body has ended, or was dropped. Only the first time counts.
    pub(crate) fn flush(&self) {
        self.asked.store(false, Ordering::Relaxed);
        let now = self.epoch.nanos(Instant::now());
        let first = self
            .flushed
            .compare_exchange(NOT_YET, now, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if first {
            self.active.store(now, Ordering::Release);
            let waiting = lock(&self.waiting).take();
            if let Some(waiting) = waiting {
                waiting.wake();
            }
        }
    }

    fn active(&self) -> Instant {
        self.epoch.instant(self.active.load(Ordering::Acquire))
    }

    fn flushed(&self) -> Option<Instant> {
        let flushed = self.flushed.load(Ordering::Acquire);
        (flushed != NOT_YET).then(|| self.epoch.instant(flushed))
    }

    fn wake_when_sent(&self, waker: &Waker) {
        let mut waiting = lock(&self.waiting);
        // Looked at under the lock: whoever flushes takes the waker after that.
        if self.flushed().is_none() && !waiting.as_ref().is_some_and(|old| old.will_wake(waker)) {
            *waiting = Some(waker.clone());
        }
    }
}
