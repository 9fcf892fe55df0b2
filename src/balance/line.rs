use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use crate::core::sync::{AtomicU64, AtomicUsize, Ordering};
use crate::core::time::{Epoch, after};
use crate::policy::Queue;

/// The bounded line of requests that wait for an endpoint, and the clock of fail-fast.
#[derive(Debug)]
pub(crate) struct Line {
    queue: ArcSwap<Queue>,
    waiting: AtomicUsize,
    // Since when the backend has been unable to serve, in nanoseconds; the maximum while it is able.
    unready: AtomicU64,
}

/// A place in the line. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Line>);

const READY: u64 = u64::MAX;

// === impl Line ===

impl Line {
    pub(crate) fn new(queue: Queue) -> Self {
        Self {
            queue: ArcSwap::from_pointee(queue),
            waiting: AtomicUsize::new(0),
            unready: AtomicU64::new(READY),
        }
    }

    pub(crate) fn configure(&self, queue: Queue) {
        self.queue.store(Arc::new(queue));
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn capacity(&self) -> usize {
        self.queue.load().capacity
    }

    pub(crate) fn failfast_timeout(&self) -> Duration {
        self.queue.load().failfast_timeout
    }

    /// A place, unless as many wait as may.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Place> {
        let capacity = self.capacity();
        self.waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |waiting| {
                (waiting < capacity).then(|| waiting + 1)
            })
            .ok()
            .map(|_| Place(Arc::clone(self)))
    }

    /// An endpoint was found.
    pub(crate) fn ready(&self) {
        // Read first, so that healthy picks do not write to a word that all of them share.
        if self.unready.load(Ordering::Relaxed) != READY {
            self.unready.store(READY, Ordering::Relaxed);
        }
    }

    /// None was found. Returns when waiting ends, which is counted from the first request that found none.
    pub(crate) fn unready(&self, epoch: &Epoch, now: Instant) -> Instant {
        let at = epoch.nanos(now);
        let since = self
            .unready
            .compare_exchange(READY, at, Ordering::AcqRel, Ordering::Acquire)
            .map_or_else(|since| since, |_| at);
        after(epoch.instant(since), self.failfast_timeout())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}
