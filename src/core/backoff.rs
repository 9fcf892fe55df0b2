//! How long the `n`th wait of an [`ExponentialBackoff`] is.

use std::time::Duration;

use crate::policy::{ExponentialBackoff, Ratio};

const ONE: u128 = Ratio::ONE.ppm() as u128;

/// The wait before try `n` (counted from zero), with jitter from a random `word`.
///
/// The base doubles from `min` to `max`. The wait is drawn from `[base, base x (1 + jitter)]`, in whole nanoseconds, and
/// never longer than `max`. Where that interval would be cut off by `max` it is drawn from `[max / (1 + jitter), max]`
/// instead (or from the base, if that is lower), so that clients that reached the longest wait together do not stay
/// together. A `min` of zero tries once at once, and then doubles from 1 ms.
pub fn delay(backoff: &ExponentialBackoff, n: u32, word: u64) -> Duration {
    let max = backoff.max().as_nanos();
    let base = base(backoff, n).as_nanos();
    let stretch = ONE + u128::from(backoff.jitter().ppm());
    // At most 2^94 x 2^27.
    let high = (base * stretch / ONE).min(max);
    // The base, where `max` cuts nothing off.
    let low = base.min(max * ONE / stretch);
    let span = high - low + 1;
    let nanos = low + scale(span, word);
    Duration::from_secs((nanos / 1_000_000_000) as u64)
        + Duration::from_nanos((nanos % 1_000_000_000) as u64)
}

/// The same before jitter: `min x 2^n`, at most `max`.
pub fn base(backoff: &ExponentialBackoff, n: u32) -> Duration {
    let (min, n) = match (backoff.min(), n) {
        (Duration::ZERO, 0) => return Duration::ZERO,
        (Duration::ZERO, n) => (Duration::from_millis(1), n - 1),
        (min, n) => (min, n),
    };
    let factor = 1u32.checked_shl(n).unwrap_or(u32::MAX);
    min.saturating_mul(factor).min(backoff.max())
}

// `span x word / 2^64` for a span of up to 2^96.
fn scale(span: u128, word: u64) -> u128 {
    let (high, low) = (span >> 64, span & u128::from(u64::MAX));
    high * u128::from(word) + ((low * u128::from(word)) >> 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn backoff(min_ms: u64, max_ms: u64, jitter: f64) -> ExponentialBackoff {
        ExponentialBackoff::try_new(
            Duration::from_millis(min_ms),
            Duration::from_millis(max_ms),
            Ratio::try_from_f64("jitter", jitter, 100).unwrap(),
        )
        .unwrap()
    }

    #[test]
    fn doubles_from_min_to_max() {
        let bases =
            |b: ExponentialBackoff| (0..8).map(|n| base(&b, n).as_millis()).collect::<Vec<_>>();
        assert_eq!(
            bases(backoff(1000, 60_000, 0.5)),
            [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]
        );
        assert_eq!(bases(backoff(0, 10, 0.0)), [0, 1, 2, 4, 8, 10, 10, 10]);
    }

    #[test]
    fn jitter_has_full_resolution_on_whole_seconds() {
        // The mesh's own first two waits have no jitter at all.
        let b = backoff(1000, 60_000, 0.5);
        let waits: std::collections::BTreeSet<_> = (0..1000u64)
            .map(|i| delay(&b, 0, i.wrapping_mul(u64::MAX / 1000)))
            .collect();
        assert_eq!(waits.len(), 1000);
        assert!(waits.first().unwrap() >= &Duration::from_millis(1000));
        assert!(waits.last().unwrap() <= &Duration::from_millis(1500));
    }

    #[test]
    fn at_the_cap_clients_do_not_line_up() {
        let b = backoff(1000, 60_000, 0.5);
        assert_eq!(delay(&b, 20, 0), Duration::from_secs(40));
        assert_eq!(delay(&b, 20, u64::MAX), Duration::from_secs(60));
    }

    proptest! {
        #[test]
        fn never_below_half_the_rule_nor_above_max(
            min in 0u64..100_000, extra in 1u64..1_000_000, jitter in 0f64..100.0, n in any::<u32>(), word in any::<u64>(),
        ) {
            let b = backoff(min, min + extra, jitter);
            let wait = delay(&b, n, word);
            prop_assert!(wait <= b.max());
            let floor = base(&b, n).min(Duration::from_secs_f64(b.max().as_secs_f64() / (1.0 + jitter) * 0.999));
            prop_assert!(wait >= floor, "{wait:?} < {floor:?}");
        }

        #[test]
        fn extreme_durations_do_not_overflow(n in any::<u32>(), word in any::<u64>()) {
            let b = ExponentialBackoff::try_new(Duration::MAX, Duration::MAX, Ratio::parts_per_million(100_000_000).unwrap()).unwrap();
            prop_assert!(delay(&b, n, word) <= Duration::MAX);
        }
    }
}
