use std::cmp::Ordering;

use super::Rules;

/// What is known of an endpoint when it is compared with another.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    /// The latency estimate in nanoseconds.
    pub latency: u64,
    /// Whether there was no answer yet: the estimate is assumed.
    pub unknown: bool,
    /// For how long it has owed an answer, in nanoseconds; zero if it owes none.
    pub silence: u64,
    /// What its failures and its own hints weigh at least, in nanoseconds.
    pub penalty: u64,
    /// Requests in flight.
    pub pending: u32,
    /// The fraction of its recent requests that failed, in 2^-16ths.
    pub failing: u32,
    /// Its share of the traffic, in 2^-16ths of an ordinary endpoint's.
    pub weight: u32,
}

/// The cost by which endpoints are compared: a fraction, so that nothing is divided to compare two.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    // At most 2^73.
    above: u128,
    // At most 2^54, and not zero.
    below: u64,
    // The part of it that its failures leave.
    favour: u64,
}

// 78 hours; nothing takes longer.
const LONGEST: u64 = 1 << 48;
const MOST_PENDING: u32 = (1 << 24) - 1;
/// The highest weight, in 2^-16ths: 64 ordinary endpoints.
pub(crate) const MOST_WEIGHT: u32 = 64 << 16;
// Above whatever a known endpoint costs.
const UNKNOWN: u128 = 1 << 72;
// By least pending, silence up to this long is nothing special.
const PATIENCE: u64 = 1_000_000_000;

// === impl Reading ===

impl Reading {
    /// Of an endpoint of which nothing is known, and with nothing in flight.
    pub const NONE: Self = Self {
        latency: 0,
        unknown: false,
        silence: 0,
        penalty: 0,
        pending: 0,
        failing: 0,
        weight: 1 << 16,
    };
}

// === impl Cost ===

impl Cost {
    /// What one more request would cost there. A fraction of failures up to `tolerance`, in 2^-16ths, counts as none.
    #[inline(always)]
    pub fn of(reading: &Reading, rules: &Rules, tolerance: u32) -> Self {
        let time = if rules.counts_latency() {
            reading.latency.max(reading.penalty).max(reading.silence)
        } else {
            reading.silence.max(PATIENCE)
        };
        let pending = reading.pending.min(MOST_PENDING);
        // Never zero, or the requests in flight would not count.
        let time = u128::from(time.clamp(1, LONGEST));
        let mut above = time * u128::from(pending + 1);
        if reading.unknown && rules.one_at_first {
            let untried = reading.failing == 0 && reading.silence == 0;
            above = match pending {
                // Nothing is known, so it is asked: what is assumed of it may be slower than the others are.
                0 if untried => 1,
                0 => above,
                // Its first answer is waited for.
                _ => UNKNOWN + u128::from(pending),
            };
        }
        let favour = favour(reading.failing.saturating_sub(tolerance));
        let weight = u64::from(reading.weight.clamp(1, MOST_WEIGHT));
        Self {
            above,
            below: (favour * (weight >> 4).max(1)).max(1),
            favour,
        }
    }

    /// Whether this one's record of failures is about as good as the other's, or better.
    #[inline]
    pub fn is_as_reliable_as(&self, other: &Self) -> bool {
        self.favour >= other.favour / 2
    }
}

/// The cost of one more request where nothing but these is to be said of the endpoint: a [`Cost`] without its fraction, for
/// two that have the same.
#[inline]
pub(crate) fn plain_cost(latency: u64, silence: u64, pending: u32) -> u128 {
    let time = latency.max(silence).clamp(1, LONGEST);
    u128::from(time) * u128::from(pending.min(MOST_PENDING) + 1)
}

// The fraction that succeeds to the eighth power, in 2^-32ths. Never zero, or the worst endpoint could not be tried again:
// where hardly one in fifteen succeeds, it makes no difference how many.
#[inline]
fn favour(failing: u32) -> u64 {
    const ONE: u64 = 1 << 16;
    if failing == 0 {
        return 1 << 32;
    }
    // In 2^-31ths, so that a square fits.
    let square = |x: u64| (x * x) >> 31;
    let success = ONE.saturating_sub(failing.into());
    (square(square(square(success << 15))) << 1).max(1)
}

/// How much of a failing fraction a pick overlooks, from a random word: evenly up to a sixteenth. Small differences are as
/// often noise as not; so they move shares by a little, where a hard comparison would leave nothing to the worse one.
#[inline]
pub fn tolerance(word: u64) -> u32 {
    const PART: u64 = (1 << 16) / 16;
    (((word & 0xffff) * PART) >> 16) as u32
}

impl PartialEq for Cost {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Cost {}

impl PartialOrd for Cost {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Cost {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        // Two that are alike but for their load: the rule.
        if self.below == other.below {
            return self.above.cmp(&other.above);
        }
        // At most 2^73 x 2^54.
        (self.above * u128::from(other.below)).cmp(&(other.above * u128::from(self.below)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Load;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn rules() -> Rules {
        Rules::of(&Load::default())
    }

    fn cost(change: impl FnOnce(&mut Reading)) -> Cost {
        let mut reading = Reading {
            latency: 10 * MS,
            ..Reading::NONE
        };
        change(&mut reading);
        Cost::of(&reading, &rules(), 0)
    }

    #[test]
    fn requests_in_flight_count_even_when_answers_take_no_time() {
        assert!(cost(|r| (r.latency, r.pending) = (0, 1)) > cost(|r| r.latency = 0));
    }

    #[test]
    fn the_worst_of_latency_penalty_and_silence_counts() {
        let slow = cost(|r| r.latency = 50 * MS);
        assert_eq!(cost(|r| r.penalty = 50 * MS), slow);
        assert_eq!(cost(|r| r.silence = 50 * MS), slow);
        assert!(cost(|r| r.silence = 5 * MS) < slow);
        assert_eq!(cost(|r| r.pending = 4), slow);
    }

    #[test]
    fn who_fails_half_costs_as_much_as_who_is_hundreds_of_times_as_slow() {
        let half = cost(|r| r.failing = 1 << 15);
        assert!(half > cost(|r| r.latency = 2550 * MS));
        assert!(half < cost(|r| r.latency = 2570 * MS));
    }

    #[test]
    fn an_unknown_endpoint_gets_one_request_at_first_and_more_only_where_all_are_unknown() {
        let first = cost(|r| r.unknown = true);
        let second = cost(|r| (r.unknown, r.pending) = (true, 1));
        let third = cost(|r| (r.unknown, r.pending) = (true, 2));
        let busy = cost(|r| (r.latency, r.pending) = (u64::MAX, u32::MAX));
        assert!(first < busy && busy < second && second < third);
    }

    #[test]
    fn weights_divide() {
        let heavy = cost(|r| (r.weight, r.pending) = (2 << 16, 3));
        assert_eq!(heavy, cost(|r| r.pending = 1));
    }

    #[test]
    fn what_is_tolerated_is_a_sixteenth_at_most() {
        assert_eq!((tolerance(0), tolerance(u64::MAX)), (0, 4095));
        let reading = Reading {
            latency: MS,
            failing: 4000,
            ..Reading::NONE
        };
        let tolerated = Cost::of(&reading, &rules(), tolerance(u64::MAX));
        assert!(tolerated < Cost::of(&reading, &rules(), 0));
        assert_eq!(
            tolerated,
            Cost::of(
                &Reading {
                    failing: 0,
                    ..reading
                },
                &rules(),
                0
            )
        );
    }

    #[test]
    fn where_hardly_any_succeed_it_makes_no_difference_how_many() {
        const ONE: u32 = 1 << 16;
        let succeeding = |parts| cost(|r| r.failing = ONE - parts);
        assert_eq!(succeeding(0), succeeding(ONE / 16));
        assert!(succeeding(ONE / 14) < succeeding(ONE / 16));
        // It can still be tried: where the other one is busy enough, or is not known at all.
        let busy = cost(|r| (r.latency, r.pending) = (u64::MAX, u32::MAX));
        assert!(succeeding(0) < busy);
    }

    proptest! {
        #[test]
        fn plain_costs_compare_as_costs_do(
            a in any::<(u64, u64, u32)>(), b in any::<(u64, u64, u32)>(), shift in (0u32..64, 0u32..32),
        ) {
            let of = |(latency, silence, pending): (u64, u64, u32)| {
                let (latency, silence, pending) = (latency >> shift.0, silence >> shift.0, pending >> shift.1);
                let whole = cost(|r| (r.latency, r.silence, r.pending) = (latency, silence, pending));
                (plain_cost(latency, silence, pending), whole)
            };
            let (a, b) = (of(a), of(b));
            prop_assert_eq!(a.0.cmp(&b.0), a.1.cmp(&b.1));
        }

        #[test]
        fn never_overflows(
            a in any::<(u64, bool, u64, u32, u32, u32)>(), b in any::<(u64, bool, u64, u32, u32, u32)>(),
        ) {
            let of = |(latency, unknown, silence, pending, failing, weight)| {
                let reading = Reading { latency, unknown, silence, penalty: 0, pending, failing, weight };
                Cost::of(&reading, &rules(), 0)
            };
            let (a, b) = (of(a), of(b));
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
        }
    }
}
