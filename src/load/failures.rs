use super::{coarse, coarse_between};
use crate::core::decay::Fade;

/// The recent failure fraction of an endpoint, as one that is slow to judge and slow to forget, and one that is neither.
///
/// The slow one is `failures / (results + 5)`, both fading over ten seconds: five assumed successes keep the first failure
/// of an endpoint from being all that is known of it. The fast one moves by three eighths of the way with each failure and
/// five thirty-seconds with each success, and fades over ten seconds, too: it sees a black hole after a few requests, however
/// many were answered before, and a single failure is made up for by some ten successes. The worse of the two counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    // In 2^-16ths.
    failed: u32,
    total: u32,
    // From zero to ONE.
    fast: u32,
    // When these were true, on the coarse clock.
    stamp: u32,
}

const ONE: u32 = 1 << 16;
const PRIOR: u64 = 5 * ONE as u64;
// More than this many results say nothing new, and would take long to forget.
const MOST: u32 = 4000 * ONE;
const FADES_NS: u64 = 10_000_000_000;

// === impl Failures ===

impl Failures {
    /// From the two words that [`words`](Self::words) gave.
    #[inline]
    pub fn from_words((counts, mark): (u64, u64)) -> Self {
        let halves = |word: u64| ((word >> 32) as u32, word as u32);
        let ((failed, total), (fast, stamp)) = (halves(counts), halves(mark));
        Self {
            failed,
            total,
            fast,
            stamp,
        }
    }

    /// As two words. The upper half of the first is zero where nothing has failed of late.
    #[inline]
    pub fn words(&self) -> (u64, u64) {
        let word = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        (word(self.failed, self.total), word(self.fast, self.stamp))
    }

    /// Whether the first of its [`words`](Self::words) says that nothing has failed of late.
    #[inline]
    pub fn is_none(counts: u64) -> bool {
        counts >> 32 == 0
    }

    /// A result at `now`, in nanoseconds.
    #[inline]
    pub fn record(&mut self, now: u64, failed: bool) {
        self.fade(now);
        self.total += ONE;
        if failed {
            self.failed += ONE;
            self.fast += (ONE - self.fast) * 3 / 8;
        } else {
            self.fast -= self.fast * 5 / 32;
        }
        if self.total > MOST {
            self.total -= self.total / 4;
            self.failed -= self.failed / 4;
        }
    }

    /// So many successes that were gathered while nothing failed, as if they had all been now.
    pub fn credit(&mut self, now: u64, successes: u32) {
        self.fade(now);
        self.total += successes.min(MOST / ONE) * ONE;
        self.total = self.total.min(MOST);
    }

    #[inline]
    fn fade(&mut self, now: u64) {
        let now = coarse(now);
        let elapsed = coarse_between(self.stamp, now);
        if elapsed == 0 {
            return;
        }
        self.stamp = now;
        let fade = Fade::over(elapsed, FADES_NS);
        let fade = |value: u32| fade.of(value.into()) as u32;
        self.total = fade(self.total);
        if self.failed > 0 {
            self.failed = fade(self.failed).min(self.total);
            self.fast = fade(self.fast);
        }
        if self.failed == 0 {
            self.fast = 0;
        }
    }

    /// The fraction that fails, as far as it is known, in 2^-16ths: at most 2^16.
    pub fn fraction(mut self, now: u64) -> u32 {
        self.fade(now);
        let slow = (u64::from(self.failed) << 16) / (u64::from(self.total) + PRIOR);
        self.fast.max(slow as u32).min(ONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;
    const S: u64 = 1000 * MS;

    fn fraction(failures: Failures, now: u64) -> f64 {
        f64::from(failures.fraction(now)) / f64::from(ONE)
    }

    // A result every ten milliseconds from `start`.
    fn fed(start: u64, count: u64, fails: impl Fn(u64) -> bool) -> (Failures, u64) {
        let mut failures = Failures::default();
        let mut now = start;
        for n in 0..count {
            now += 10 * MS;
            failures.record(now, fails(n));
        }
        (failures, now)
    }

    #[test]
    fn a_black_hole_is_seen_within_a_few_requests() {
        let (mut failures, mut now) = fed(0, 3000, |_| false);
        assert_eq!(failures.fraction(now), 0);
        for _ in 0..4 {
            now += MS;
            failures.record(now, true);
        }
        assert!(fraction(failures, now) > 0.65);
    }

    #[test]
    fn one_failure_in_a_hundred_costs_little_and_is_forgotten_soon() {
        let (mut failures, now) = fed(0, 3000, |n| n % 100 == 99);
        assert!(
            (0.35..0.45).contains(&fraction(failures, now)),
            "just failed"
        );
        let slow = fraction(failures, now + 40 * S);
        assert!((0.005..0.02).contains(&slow), "{slow}");
        for n in 1..30 {
            failures.record(now + n * 10 * MS, false);
        }
        assert!(fraction(failures, now + 300 * MS) < 0.025);
    }

    #[test]
    fn half_of_all_is_known_for_long_and_not_for_ever() {
        let (failures, now) = fed(0, 3000, |n| n % 2 == 0);
        let now_on = |seconds| fraction(failures, now + seconds * S);
        assert!((0.45..0.90).contains(&now_on(0)));
        assert!(now_on(20) > 0.4, "{}", now_on(20));
        assert!(now_on(120) < 0.01, "{}", now_on(120));
    }

    #[test]
    fn the_first_failure_of_an_endpoint_is_not_all_that_is_known_of_it() {
        let mut failures = Failures::default();
        failures.record(0, true);
        assert!(fraction(failures, 0) < 0.4);
        assert!(!Failures::is_none(failures.words().0));
    }

    #[test]
    fn however_many_successes_there_were_failures_are_seen_as_soon() {
        let after = |credits: u32| {
            let mut failures = Failures::default();
            for _ in 0..credits {
                failures.credit(0, u32::MAX);
            }
            assert_eq!(failures.total, MOST);
            // The slow estimate alone.
            for _ in 0..100 {
                failures.record(0, true);
            }
            failures.failed
        };
        assert_eq!(after(1), after(30));
    }

    proptest! {
        #[test]
        fn stays_within_its_bounds(results in proptest::collection::vec((0u64..1 << 33, any::<bool>()), 1..200)) {
            let mut failures = Failures::default();
            let mut now = 0;
            for (wait, failed) in results {
                now += wait;
                failures.record(now, failed);
                prop_assert_eq!(Failures::from_words(failures.words()), failures);
                let fraction = failures.fraction(now);
                prop_assert!(fraction <= ONE);
                prop_assert!(failures.failed <= failures.total && failures.fast <= ONE);
                prop_assert!(failures.fraction(now + wait) <= fraction + 1, "time heals");
            }
        }
    }
}
