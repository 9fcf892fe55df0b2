//! Exponential decay in integers: the same on every platform, which `f64::exp` is not.

/// `value x e^(-elapsed / tau)`, to about one part in 10^8, rounded down. No decay at all if `tau` is zero.
pub fn decay(value: u64, elapsed: u64, tau: u64) -> u64 {
    if tau == 0 || elapsed == 0 {
        return value;
    }
    // The exponent to base 2 in 32.32 fixed point: elapsed / tau x log2(e).
    const LOG2_E: u128 = 6_196_328_019;
    let exponent = (u128::from(elapsed) << 32) / u128::from(tau);
    if exponent > 64 << 32 {
        return 0;
    }
    let exponent = (exponent * LOG2_E) >> 32;
    let (whole, part) = ((exponent >> 32) as u32, exponent as u32);
    let scaled = (u128::from(value) * u128::from(half_to_the(part))) >> 32;
    // At most 92 doublings, and `scaled` fits in 64 bits.
    (scaled >> whole) as u64
}

// 2^-x for 0 <= x < 1 in 0.32 fixed point, as 33 bits: the alternating series of e^(-x ln 2), inside out.
fn half_to_the(x: u32) -> u64 {
    const ONE: u64 = 1 << 32;
    const LN_2: u64 = 2_977_044_472;
    let t = (u64::from(x) * LN_2) >> 32;
    let mut sum = ONE;
    for n in (1..=10).rev() {
        // t < 0.7 and sum <= 1, so this stays between zero and one.
        sum = ONE - ((t * sum) >> 32) / n;
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

    proptest! {
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
