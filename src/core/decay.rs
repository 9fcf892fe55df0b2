//! Exponential decay in integers: the same on every platform, which `f64::exp` is not.

/// How much is left of anything after a time: `e^(-elapsed / tau)`, to about one part in 10^8.
#[derive(Clone, Copy, Debug)]
pub struct Fade {
    // In 2^-32ths, to be halved so many times.
    part: u64,
    halvings: u32,
}

const ONE: u64 = 1 << 32;
// log2(e) in 32.32 fixed point.
const LOG2_E: u128 = 6_196_328_019;
// So little of a time constant (a hundredth, nearly) that three terms are enough.
const SOON: u64 = 1 << 25;

/// `value x e^(-elapsed / tau)`, to about one part in 10^8, rounded down. No decay at all if `tau` is zero.
#[inline]
pub fn decay(value: u64, elapsed: u64, tau: u64) -> u64 {
    Fade::over(elapsed, tau).of(value)
}

// === impl Fade ===

impl Fade {
    /// None if `tau` is zero.
    #[inline]
    pub fn over(elapsed: u64, tau: u64) -> Self {
        if tau == 0 || elapsed == 0 {
            return Self {
                part: ONE,
                halvings: 0,
            };
        }
        // The exponent to base 2 in 32.32 fixed point: elapsed / tau x log2(e).
        // Within four seconds, which is the rule, one word is enough.
        if elapsed < ONE {
            let exponent = (elapsed << 32) / tau;
            if exponent < SOON {
                return Self {
                    part: soon(exponent),
                    halvings: 0,
                };
            }
            return Self::of_exponent(exponent.into());
        }
        Self::of_exponent((u128::from(elapsed) << 32) / u128::from(tau))
    }

    #[inline(never)]
    fn of_exponent(exponent: u128) -> Self {
        if exponent > 64 << 32 {
            return Self {
                part: 0,
                halvings: 0,
            };
        }
        let exponent = (exponent * LOG2_E) >> 32;
        Self {
            part: half_to_the(exponent as u32),
            // At most 92.
            halvings: (exponent >> 32) as u32,
        }
    }

    /// What is left of `value`, rounded down.
    #[inline]
    pub fn of(self, value: u64) -> u64 {
        let scaled = (u128::from(value) * u128::from(self.part)) >> 32;
        // Whatever is left of a word fits in one, and most often nothing is to be halved.
        let scaled = scaled as u64;
        if self.halvings == 0 {
            return scaled;
        }
        scaled.checked_shr(self.halvings).unwrap_or(0)
    }
}

// e^-x for x < SOON, in 0.32 fixed point. The fourth term is less than the last bit.
#[inline]
fn soon(x: u64) -> u64 {
    let square = (x * x) >> 32;
    ONE - x + square / 2 - ((square * x) >> 32) / 6
}

// 2^-(n/64), as below.
const TABLE: [u64; 64] = {
    let mut table = [0; 64];
    let mut n = 0;
    while n < 64 {
        table[n as usize] = series(n << 26, 12);
        n += 1;
    }
    table
};

// 2^-x for 0 <= x < 1 in 0.32 fixed point, as 33 bits: the next lower 64th from the table, and a short series for the rest.
#[inline]
fn half_to_the(x: u32) -> u64 {
    let rest = series(x & ((1 << 26) - 1), 4);
    // Both can be one, whose square does not fit in a word.
    ((u128::from(TABLE[(x >> 26) as usize]) * u128::from(rest)) >> 32) as u64
}

// The alternating series of e^(-x ln 2), inside out.
const fn series(x: u32, terms: u64) -> u64 {
    const LN_2: u64 = 2_977_044_472;
    let t = (x as u64 * LN_2) >> 32;
    let mut sum = ONE;
    let mut n = terms;
    while n > 0 {
        // t < 0.7 and sum <= 1, so this stays between zero and one.
        sum = ONE - ((t * sum) >> 32) / n;
        n -= 1;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_time_constant_leaves_37_percent() {
        assert_eq!(decay(1_000_000, 10, 10) / 10, 36_787);
        assert_eq!(decay(1_000_000, 0, 10), 1_000_000);
        assert_eq!(decay(1_000_000, 10, 0), 1_000_000);
        assert_eq!(decay(u64::MAX, u64::MAX, 1), 0);
    }

    #[test]
    fn next_to_no_time_leaves_nearly_all() {
        for tau in [1u64, 10_000_000_000, u64::MAX].map(|tau| tau.max(1 << 20)) {
            for elapsed in (0..40)
                .map(|bits| 1u64 << bits)
                .filter(|it| it * 1000 < tau)
            {
                let left = decay(1 << 40, elapsed, tau);
                assert!(left > (1 << 40) / 1000 * 998, "{elapsed} of {tau}: {left}");
            }
        }
    }

    proptest! {
        #[test]
        fn soon_is_the_same_by_the_shorter_way(exponent in 0..SOON) {
            let short = Fade::over(exponent, ONE);
            let long = Fade::of_exponent(exponent.into());
            prop_assert!(short.part.abs_diff(long.part) <= 4, "{} {}", short.part, long.part);
            prop_assert_eq!(short.halvings, long.halvings);
        }

        #[test]
        #[allow(clippy::disallowed_methods, reason = "the model")]
        fn agrees_with_floating_point(value in 0u64..1 << 50, elapsed in 0u64..1 << 40, tau in 1u64..1 << 40) {
            let model = value as f64 * (-(elapsed as f64) / tau as f64).exp();
            let ours = decay(value, elapsed, tau) as f64;
            prop_assert!((ours - model).abs() <= model * 4e-8 + 2.0, "{ours} {model}");
        }

        #[test]
        fn falls_with_time(value in any::<u64>(), elapsed in 0u64..1 << 40, more in 0u64..1 << 40, tau in 1u64..1 << 40) {
            let (early, late) = (decay(value, elapsed, tau), decay(value, elapsed + more, tau));
            // To the accuracy of the series.
            prop_assert!(late <= early.saturating_add(early >> 24).saturating_add(1));
        }
    }
}
