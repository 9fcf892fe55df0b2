//! A percentile that is tracked in two words.

use crate::core::sync::{AtomicU64, Ordering};
use crate::policy::Ratio;

/// Before so many samples there is no estimate.
const FEW: u64 = 20;

/// An estimate of the time within which a given part of the samples falls.
///
/// Each sample above it moves it up by a sixteenth of that part, each below it moves it down by a sixteenth of the rest: it
/// stands still where the samples fall as they should. It follows a change within a few dozen samples upwards, and some
/// hundreds downwards. All in integers: the same everywhere.
#[derive(Debug)]
pub(crate) struct Percentile {
    part: u64,
    // In nanoseconds.
    estimate: AtomicU64,
    samples: AtomicU64,
}

const ALL: u64 = 1_000_000;

// === impl Percentile ===

impl Percentile {
    pub(crate) fn new(part: Ratio) -> Self {
        Self {
            part: u64::from(part.ppm()).min(ALL),
            estimate: AtomicU64::new(0),
            samples: AtomicU64::new(0),
        }
    }

    /// In nanoseconds, once there were a few samples.
    pub(crate) fn get(&self) -> Option<u64> {
        let enough = self.samples.load(Ordering::Relaxed) >= FEW;
        enough.then(|| self.estimate.load(Ordering::Relaxed))
    }

    /// A request took so many nanoseconds, or at least that.
    pub(crate) fn record(&self, nanos: u64) {
        let nanos = nanos.max(1);
        if self.samples.load(Ordering::Relaxed) < FEW {
            // The highest of the few is a good place to begin: none is hedged too early.
            self.samples.fetch_add(1, Ordering::Relaxed);
            self.estimate.fetch_max(nanos, Ordering::Relaxed);
            return;
        }
        let estimate = self.estimate.load(Ordering::Relaxed);
        let moved = if nanos > estimate {
            let up = step(estimate, self.part);
            estimate.saturating_add(up)
        } else {
            let down = step(estimate, ALL - self.part);
            estimate.saturating_sub(down).max(1)
        };
        // Of two at once one is lost, which shifts nothing.
        self.estimate.store(moved, Ordering::Relaxed);
    }
}

fn step(estimate: u64, part: u64) -> u64 {
    let step = u128::from(estimate) * u128::from(part) / u128::from(16 * ALL);
    u64::try_from(step).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::draw::{Purpose, below, draw};

    #[test]
    fn a_part_of_the_samples_falls_below_it() {
        for percent in [50u8, 90, 95, 99] {
            let percentile = Percentile::new(Ratio::percent(percent));
            let mut below_it = 0;
            for n in 0..40_000u64 {
                // From 10 ms to 110 ms, evenly.
                let word = draw(1, n, Purpose::Simulate, 0);
                let sample = 10_000_000 + below(word, 100_000_000);
                if n >= 20_000 {
                    below_it += u64::from(sample <= percentile.get().unwrap());
                }
                percentile.record(sample);
            }
            let found = below_it as f64 / 200.0;
            assert!(
                (found - f64::from(percent)).abs() < 1.5,
                "{percent}: {found}"
            );
        }
    }

    #[test]
    fn it_follows_and_says_nothing_too_early() {
        let percentile = Percentile::new(Ratio::percent(95));
        for n in 0..FEW {
            assert_eq!(percentile.get(), None, "{n}");
            percentile.record(10_000_000);
        }
        assert_eq!(percentile.get(), Some(10_000_000));
        for _ in 0..60 {
            percentile.record(100_000_000);
        }
        assert!(percentile.get() > Some(90_000_000));
        for _ in 0..2000 {
            percentile.record(10_000_000);
        }
        assert!(percentile.get() < Some(12_000_000));
        for extreme in [0, u64::MAX, 1] {
            for _ in 0..5000 {
                percentile.record(extreme);
            }
            assert!(percentile.get() > Some(0));
        }
    }
}
