use std::time::Duration;

use tokio::time::Instant;

use crate::core::time::after;

/// However often something changes: after so many times the quiet.
const PATIENCE: u32 = 10;

/// Changes that are taken for one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gathering {
    quiet: Duration,
    first: Instant,
    last: Instant,
}

impl Gathering {
    /// Something has changed.
    pub(super) fn begin(quiet: Duration, now: Instant) -> Self {
        Self {
            quiet,
            first: now,
            last: now,
        }
    }

    /// Something else has.
    pub(super) fn another(&mut self, now: Instant) {
        self.last = now;
    }

    /// When they are read.
    pub(super) fn due(&self) -> Instant {
        let patience = self.quiet.saturating_mul(PATIENCE);
        after(self.last, self.quiet).min(after(self.first, patience))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_read_after_the_quiet_and_never_late(
            gaps in prop::collection::vec(0..400_u64, 0..40),
            quiet in 1..200_u64,
        ) {
            let (begin, quiet) = (Instant::now(), Duration::from_millis(quiet));
            let mut gathering = Gathering::begin(quiet, begin);
            let mut now = begin;
            for gap in gaps {
                let due = gathering.due();
                now += Duration::from_millis(gap);
                if now >= due {
                    // It was read, by the model: the first silence that is long enough, or the end of patience.
                    prop_assert!(due <= begin + quiet * PATIENCE);
                    return Ok(());
                }
                gathering.another(now);
                prop_assert!(gathering.due() > now || gathering.due() == begin + quiet * PATIENCE);
            }
            prop_assert_eq!(gathering.due(), (now + quiet).min(begin + quiet * PATIENCE));
        }
    }
}
