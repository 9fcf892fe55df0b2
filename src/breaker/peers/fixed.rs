//! Logarithms in whole numbers.

/// One, as a probability.
pub(super) const ONE: u64 = 1 << 24;
/// One, as a logarithm.
pub(super) const NAT: i64 = 1 << 20;

/// The natural logarithm of a whole number, to about one part in 10^6 of a nat; of zero, that of one.
pub(super) fn ln(x: u64) -> i64 {
    const BITS: u32 = 24;
    const LN_2: i64 = 11_629_080; // ln 2 x 2^24
    let whole = x.max(1).ilog2();
    // From one to two, in 2.30 fixed point.
    let mut mantissa = (u128::from(x.max(1)) << 30 >> whole) as u64;
    let mut log2 = i64::from(whole);
    for _ in 0..BITS {
        // Squaring doubles the logarithm: what it carries over two is the next digit.
        mantissa = (mantissa * mantissa) >> 30;
        let digit = mantissa >> 31;
        mantissa >>= digit;
        log2 = log2 << 1 | digit as i64;
    }
    // At most 2^30 x 2^24.
    (log2 * LN_2) >> (BITS + 24 - NAT.ilog2())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        #[allow(clippy::disallowed_methods, reason = "the model")]
        fn agrees_with_floating_point(x in 1u64..) {
            let ours = ln(x) as f64 / NAT as f64;
            prop_assert!((ours - (x as f64).ln()).abs() < 8e-6, "{ours}");
        }
    }

    #[test]
    fn of_one_and_of_zero_is_zero() {
        assert_eq!((ln(0), ln(1)), (0, 0));
        assert_eq!(ln(4) - ln(2) * 2, 1, "the last digit");
    }
}
