//! The line for requests that find no endpoint.

mod turns;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;

pub(crate) use self::turns::PlaceKind;
use self::turns::{Turns, Woken};
use crate::core::sync::{AtomicU64, AtomicUsize, Mutex, Ordering, Swap, lock};
use crate::core::time::{Epoch, after};
use crate::endpoint::Waiters;
use crate::policy::Queue;

/// The bounded line of requests that wait for an endpoint, in the order in which they came, and the clock of fail-fast.
///
/// Nobody takes its lock but those who wait, and what changes while they do.
#[derive(Debug)]
pub(crate) struct Line {
    queue: Swap<Queue>,
    turns: Mutex<Turns<Waker>>,
    // What the turns say, for those who do not want the lock.
    waiting: AtomicUsize,
    crowd: AtomicUsize,
    // Since when the backend has been unable to serve, in nanoseconds; the maximum while it is able.
    unready: AtomicU64,
}

/// A place in the line. Given back when dropped; if it is its turn, that is passed on.
#[derive(Debug)]
pub(crate) struct Place {
    line: Arc<Line>,
    number: u64,
}

const READY: u64 = u64::MAX;

// === impl Line ===

impl Line {
    pub(crate) fn new(queue: Queue) -> Self {
        Self {
            queue: Swap::from_pointee(queue),
            turns: Mutex::new(Turns::new()),
            waiting: AtomicUsize::new(0),
            crowd: AtomicUsize::new(0),
            unready: AtomicU64::new(READY),
        }
    }

    pub(crate) fn configure(&self, queue: Queue) {
        self.queue.store(Arc::new(queue));
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether somebody waits for any endpoint: whoever comes now was not the first.
    pub(crate) fn is_crowded(&self) -> bool {
        self.crowd.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn capacity(&self) -> usize {
        self.queue.load().capacity
    }

    pub(crate) fn failfast_timeout(&self) -> Duration {
        self.queue.load().failfast_timeout
    }

    /// A place, unless as many wait as may.
    pub(crate) fn enter(self: &Arc<Self>, kind: PlaceKind, now: Instant) -> Option<Place> {
        let capacity = self.capacity();
        let mut turns = lock(&self.turns);
        if kind.counted && turns.counted() >= capacity {
            return None;
        }
        let (number, woken) = turns.enter(kind, now);
        self.publish(&turns);
        drop(turns);
        wake(woken);
        Some(Place {
            line: Arc::clone(self),
            number,
        })
    }

    /// Something that concerns everybody who waits, as that there will be no endpoint.
    pub(crate) fn wake_all(&self, now: Instant) {
        self.with(|turns, woken| turns.wake_all(now, woken));
    }

    fn with<T>(&self, act: impl FnOnce(&mut Turns<Waker>, &mut Woken<Waker>) -> T) -> T {
        // Allocates only if somebody is woken.
        let mut woken = Woken(Vec::new());
        let mut turns = lock(&self.turns);
        let result = act(&mut turns, &mut woken);
        self.publish(&turns);
        drop(turns);
        wake(woken);
        result
    }

    fn publish(&self, turns: &Turns<Waker>) {
        self.waiting.store(turns.counted(), Ordering::Relaxed);
        self.crowd.store(turns.unrestricted(), Ordering::Relaxed);
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

impl Waiters for Line {
    fn changed(&self) {
        let now = Instant::now();
        self.with(|turns, woken| turns.change(now, woken));
    }
}

// Without the lock: whoever is woken may be polled, and whoever is dropped may hold a place of its own.
fn wake(woken: Woken<Waker>) {
    woken.0.into_iter().for_each(Waker::wake);
}

// === impl Place ===

impl Place {
    /// Whether it is its turn to look for an endpoint; if not, its task is woken when it is.
    pub(crate) fn may_look(&self, cx: &Context<'_>, now: Instant) -> bool {
        let waker = cx.waker().clone();
        let (mine, old) = self
            .line
            .with(|turns, woken| turns.may_look(self.number, waker, now, woken));
        drop(old);
        mine
    }

    /// It has looked in vain. Others may find something if `more`.
    pub(crate) fn looked(&self, more: bool, now: Instant) {
        self.line
            .with(|turns, woken| turns.looked(self.number, more, now, woken));
    }

    /// Whether it is the first that can be asked, which keeps the time for all.
    pub(crate) fn is_first(&self) -> bool {
        lock(&self.line.turns).is_first(self.number)
    }

    /// It goes on waiting, at most until it is `too_late`.
    pub(crate) fn wait_until(&self, too_late: Instant) {
        lock(&self.line.turns).wait_until(self.number, too_late);
    }

    /// The same of the first in line, which has to look again when something is `due`, if it still is the first.
    pub(crate) fn keep_time(&self, due: Option<Instant>, too_late: Instant) -> bool {
        self.line
            .with(|turns, _| turns.keep_time(self.number, due, too_late))
    }

    /// Nothing can be had before `until`: those for whom that is too late are told.
    pub(crate) fn hopeless(&self, until: Instant) {
        self.line.with(|turns, woken| turns.hopeless(until, woken));
    }

    /// It leaves. Others may find something if `more`.
    pub(crate) fn leave(self, more: bool) {
        self.gone(more);
    }

    // A second time it does nothing.
    fn gone(&self, more: bool) {
        let now = Instant::now();
        let old = self
            .line
            .with(|turns, woken| turns.leave(self.number, more, now, woken));
        drop(old);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gone(true);
    }
}
