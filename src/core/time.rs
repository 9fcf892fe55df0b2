//! Time that cannot overflow. `Instant + Duration` can panic; nothing here does.

use std::time::Duration;

use tokio::time::Instant;

/// As good as never: about thirty years.
pub const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// The moment `wait` after `now`, or a moment so far away that it never comes.
pub fn after(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait.min(FAR)).unwrap_or(now)
}

/// The time after something that was at `since`. For loom, which replays what happens, none passes.
#[inline]
pub(crate) fn now_after(since: Instant) -> Instant {
    if cfg!(tower_mesh_loom) {
        since
    } else {
        Instant::now()
    }
}

/// Whole nanoseconds, at most some 584 years of them.
#[inline]
pub fn nanos(duration: Duration) -> u64 {
    let seconds = duration.as_secs().checked_mul(1_000_000_000);
    let nanos = u64::from(duration.subsec_nanos());
    seconds.map_or(u64::MAX, |seconds| seconds.saturating_add(nanos))
}

/// A moment that others are counted from, so that they fit in an atomic word.
#[derive(Clone, Copy, Debug)]
pub struct Epoch(Instant);

// === impl Epoch ===

impl Epoch {
    /// Counts from `start`.
    pub fn new(start: Instant) -> Self {
        Self(start)
    }

    /// Nanoseconds from the start to `at`; zero before it.
    #[inline]
    pub fn nanos(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.0))
    }

    /// The moment so many nanoseconds after the start.
    pub fn instant(&self, nanos: u64) -> Instant {
        let at = self.0.checked_add(Duration::from_nanos(nanos));
        at.unwrap_or_else(|| after(self.0, FAR))
    }
}
