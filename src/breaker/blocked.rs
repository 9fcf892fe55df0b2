//! Who is not admitted, and why: a gate as one word of memory.

use tokio::time::Instant;

use super::gate::Gate;
use super::snapshot::Forced;
use crate::core::sync::{AtomicU64, Ordering};
use crate::core::time::Epoch;

/// A gate as one word: closed, or when a probe is due, or when the one that is out counts as lost, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(u64);

/// Who is not admitted, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocked {
    pub(super) gate: Word,
    /// In nanoseconds.
    pub(super) at: u64,
}

/// What became of waiting.
#[derive(Clone, Copy, Debug)]
pub(super) enum Line {
    /// Nobody waits here, or not for so long.
    None,
    /// It waited so long, in vain: in milliseconds.
    InVain(u32),
    /// So many waited already.
    Full(u32),
}

// === impl Word ===

impl Word {
    pub(super) const CLOSED: Self = Self(0);
    // A probe is out.
    const OUT: u64 = 1 << 63;
    // By hand: there is no moment to wait for.
    const HELD: Self = Self(u64::MAX);

    pub(super) fn new(forced: Option<Forced>, gate: Gate, origin: Epoch) -> Self {
        let due = |until| origin.nanos(until).clamp(1, Self::OUT - 1);
        match (forced, gate) {
            (Some(Forced::Open), _) => Self::HELD,
            (Some(Forced::Closed), _) | (None, Gate::Closed) => Self::CLOSED,
            (None, Gate::Open { until }) => Self(due(until)),
            (None, Gate::HalfOpen { until }) => Self(due(until) | Self::OUT),
        }
    }

    #[inline]
    pub(super) fn load(word: &AtomicU64) -> Self {
        Self(word.load(Ordering::Acquire))
    }

    pub(super) fn store(self, word: &AtomicU64) {
        word.store(self.0, Ordering::Release);
    }

    /// When it lets somebody through; of one that is held, never.
    #[inline]
    pub(super) fn due(self) -> u64 {
        self.0 & !Self::OUT
    }

    /// When a probe is due, where that is known.
    pub(super) fn probe_due(self, origin: Epoch) -> Option<Instant> {
        (self.0 & Self::OUT == 0).then(|| origin.instant(self.0))
    }

    /// When who waits should look again, if nothing happens before.
    pub(super) fn look_again_at(self, origin: Epoch) -> Option<Instant> {
        (self != Self::HELD).then(|| origin.instant(self.due()))
    }
}
