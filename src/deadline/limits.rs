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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn progress(now: Instant, duplex: bool) -> Arc<Progress> {
        Arc::new(Progress::new(now, duplex))
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_head_idle_time_counts_from_there_and_a_try_has_its_time() {
        let now = Instant::now();
        let mut limits = Limits::new(now, None, Some(now + 5 * S), None, None);
        assert!(limits.is_try());
        assert_eq!(limits.next(), Some(now + 5 * S));
        assert_eq!(limits.passed(now + 5 * S), Some(Timeout::Headers));
        limits.head(now + 4 * S, Some(3 * S));
        assert_eq!(limits.passed(now + 7 * S - S / 2), None);
        assert_eq!(limits.next(), Some(now + 7 * S));
        assert_eq!(limits.passed(now + 7 * S), Some(Timeout::Idle));
        // And from when the next frame is asked for.
        tokio::time::advance(6 * S).await;
        limits.awaited();
        assert_eq!(limits.next(), Some(now + 9 * S));
    }

    #[tokio::test(start_paused = true)]
    async fn only_limits_that_move_are_looked_at_again() {
        let now = Instant::now();
        let body = |request: Option<u32>, response: Option<u32>| {
            let request = request.map(|n| now + n * S);
            Limits::new(now, request, None, response.map(|n| n * S), None)
        };
        for (request, response, at, kind) in [
            (Some(2), None, 2, Timeout::Request),
            (Some(2), Some(3), 2, Timeout::Request),
            (Some(3), Some(2), 2, Timeout::Response),
            (Some(2), Some(2), 2, Timeout::Request),
            (None, Some(2), 2, Timeout::Response),
        ] {
            let limit = body(request, response).for_body();
            assert!(matches!(limit, BodyLimit::Fixed(..)), "{limit:?}");
            assert_eq!(limit.next(), Some(now + at * S));
            assert_eq!(limit.passed(now + at * S), Some(kind));
            assert_eq!(limit.passed(now + at * S - S / 2), None);
        }
        assert!(!body(None, None).for_body().is_some());
        // A request that is still sent, idle time, and a deadline that may change beside another limit.
        let sent = body(None, Some(2)).with_progress(progress(now, false));
        let idle = Limits::new(now, None, None, None, Some(S));
        let mut moving = body(Some(2), Some(2));
        moving.let_request_move();
        for limits in [sent, idle, moving] {
            assert!(matches!(limits.for_body(), BodyLimit::Moving(_)));
        }
        for mut limits in [body(Some(2), None), body(None, Some(2))] {
            limits.let_request_move();
            let limit = limits.for_body();
            assert!(matches!(limit, BodyLimit::Fixed(..)), "{limit:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_the_response_hears_when_the_request_is_sent() {
        for (response, expected) in [(Some(2 * S), 1), (None, 0)] {
            let now = Instant::now();
            let progress = progress(now, false);
            let limits = Limits::new(now, None, None, response, Some(100 * S));
            let limit = limits.with_progress(Arc::clone(&progress)).for_body();
            let (first, woken) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
            limit.wake_when_sent(&Arc::clone(&first).into());
            // It may have moved to another task.
            let waker = Arc::clone(&woken).into();
            limit.wake_when_sent(&waker);
            limit.wake_when_sent(&waker);
            tokio::time::advance(S).await;
            assert_eq!(limit.passed(Instant::now() + 50 * S), None);
            progress.flush();
            progress.flush();
            assert_eq!(first.0.load(Ordering::Relaxed), 0);
            assert_eq!(woken.0.load(Ordering::Relaxed), expected);
            // Its time begins there.
            let end = response.map_or(101 * S, |response| S + response);
            assert_eq!(limit.next(), Some(now + end));
            // Too late to be told again.
            limit.wake_when_sent(&waker);
            assert_eq!(Arc::strong_count(&woken), 2, "the one here and its waker");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_was_asked_for_a_frame_is_waited_for_until_it_has_one() {
        let now = Instant::now();
        let one_way = progress(now, false);
        assert!(!one_way.asked());
        one_way.ask();
        assert!(one_way.asked());
        one_way.frame();
        assert!(!one_way.asked());
        one_way.ask();
        one_way.flush();
        assert!(!one_way.asked());
        // Where answers come meanwhile, it is not the caller that is waited for.
        let duplex = progress(now, true);
        duplex.ask();
        assert!(!duplex.asked());
    }
}
