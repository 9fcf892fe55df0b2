use crate::breaker::EPOCHS;

/// What stands at a cell's gate, in a word for those who ask without the lock.
///
/// Closed: the breaker's epoch in the lower part, and in the upper until when it need not hear of successes, in units of
/// 2^20 ns, for four years. Else when a probe is due, or the next while one is out, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

const SHUT: u64 = 1 << 63;
const HALF_OPEN: u64 = 1 << 62;
// Shut, but only in a dry run.
const WATCHED: u64 = 1 << 61;
const PAYLOAD: u64 = WATCHED - 1;
// When a probe is due that never is: it is held open by hand.
const NEVER: u64 = PAYLOAD;
const CALM_UNIT: u32 = 20;
const CALM_FROM: u32 = EPOCHS.trailing_ones();

// === impl Word ===

impl Word {
    /// Closed, and calm until then, in nanoseconds.
    pub(super) fn closed(epoch: u64, calm_until: u64) -> Self {
        let calm_until = (calm_until >> CALM_UNIT) << CALM_FROM;
        Self((calm_until & PAYLOAD) | epoch)
    }

    /// Shut until then; without an end until somebody lets it.
    pub(super) fn open(due: Option<u64>) -> Self {
        Self(due.map_or(NEVER, |due| due.min(NEVER - 1)) | SHUT)
    }

    /// Shut for all but a probe that is out, which counts as lost then.
    pub(super) fn half_open(lost: u64) -> Self {
        Self(Self::open(Some(lost)).0 | HALF_OPEN)
    }

    /// The same in a dry run.
    pub(super) fn watched(self) -> Self {
        Self(self.0 | WATCHED)
    }

    #[inline]
    pub(super) fn is_shut(self) -> bool {
        self.0 & SHUT != 0
    }

    /// Whether it is shut for show only.
    pub(super) fn is_watched(self) -> bool {
        self.0 & WATCHED != 0
    }

    pub(super) fn is_half_open(self) -> bool {
        self.0 & HALF_OPEN != 0
    }

    /// Of one that is not shut.
    #[inline]
    pub(super) fn epoch(self) -> u64 {
        self.0 & EPOCHS
    }

    /// Whether successes of this epoch are of no matter now, except how many there were.
    #[inline]
    pub(super) fn is_calm(self, epoch: u64, now: u64) -> bool {
        let calm_until = (self.0 & PAYLOAD) >> CALM_FROM;
        !self.is_shut() && self.epoch() == epoch && now >> CALM_UNIT < calm_until
    }

    /// Of one that is shut: when a probe is due, if ever.
    pub(super) fn due(self) -> Option<u64> {
        let due = self.0 & PAYLOAD;
        (due != NEVER).then_some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UNIT: u64 = 1 << CALM_UNIT;

    #[test]
    fn held_by_hand_is_due_never() {
        assert_eq!(Word::open(None).due(), None);
        assert!(Word::open(Some(u64::MAX)).due().is_some());
        assert!(!Word::closed(0, 0).is_calm(0, 0));
    }

    proptest! {
        #[test]
        fn says_what_it_was_told(epoch in 0..=EPOCHS, other in 0..=EPOCHS, until in 0u64..1 << 56, now in 0u64..1 << 56) {
            let closed = Word::closed(epoch, until);
            prop_assert!(!closed.is_shut());
            prop_assert_eq!(closed.epoch(), epoch);
            // Never for longer than it is calm, and nearly for as long.
            let calm = closed.is_calm(epoch, now);
            prop_assert!(!calm || now < until);
            prop_assert!(calm || now + UNIT >= until);
            prop_assert!(other == epoch || !closed.is_calm(other, now));
            for word in [Word::open(Some(until)), Word::half_open(until), Word::open(Some(until)).watched()] {
                prop_assert!(word.is_shut() && !word.is_calm(epoch, now));
                prop_assert_eq!(word.due(), Some(until));
            }
            prop_assert!(Word::half_open(until).is_half_open() && !Word::open(Some(until)).is_half_open());
            prop_assert!(Word::open(None).watched().is_watched() && !closed.is_watched());
        }
    }
}
