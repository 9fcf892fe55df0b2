//! Logarithm and exponential from `+ - * /` alone, which IEEE 754 rounds alike everywhere. Those of the platform's
//! library differ between platforms in the last digit, and a run would with them.

const LN_2: f64 = std::f64::consts::LN_2;

/// `-ln(u)` for a `u` between 0 and 1 that a random word stands for: exponentially distributed, with mean one.
pub(crate) fn minus_ln(word: u64) -> f64 {
    // Half a step above, so that it is never zero; 53 bits, so that the division is exact.
    -ln(((word >> 12) as f64 + 0.5) / (1_u64 << 52) as f64)
}

/// The natural logarithm of a positive, finite number; of anything else, zero.
pub(crate) fn ln(x: f64) -> f64 {
    if !(x > 0.0 && x.is_finite()) {
        return 0.0;
    }
    // x = m * 2^k with m between 3/4 and 3/2.
    let (mut m, mut k) = (x, 0.0);
    while m >= 1.5 {
        m /= 2.0;
        k += 1.0;
    }
    while m < 0.75 {
        m *= 2.0;
        k -= 1.0;
    }
    // ln m = 2 artanh((m - 1) / (m + 1)), whose argument is at most 1/5.
    let z = (m - 1.0) / (m + 1.0);
    let square = z * z;
    let mut sum = 0.0;
    for n in (0..14).rev() {
        sum = sum * square + 1.0 / f64::from(2 * n + 1);
    }
    2.0 * z * sum + k * LN_2
}

/// `e^x`, for what is not beyond what a float holds; at the ends, zero or the largest.
pub(super) fn exp(x: f64) -> f64 {
    if x.is_nan() {
        return 0.0;
    }
    let x = x.clamp(-700.0, 700.0);
    // x = k ln 2 + r with |r| at most half of ln 2.
    let k = (x / LN_2).round();
    let r = x - k * LN_2;
    let mut sum = 1.0;
    for n in (1..=18).rev() {
        sum = 1.0 + sum * r / f64::from(n);
    }
    let (factor, times) = if k < 0.0 { (0.5, -k) } else { (2.0, k) };
    for _ in 0..times as u32 {
        sum *= factor;
    }
    sum
}

/// A number of the standard normal distribution (mean 0, variance 1), from as many words as it takes.
///
/// A random point in the unit disc: its angle and its distance are independent.
pub(super) fn normal(mut word: impl FnMut(u64) -> u64) -> f64 {
    let side = |word: u64| (word >> 11) as f64 / (1_u64 << 52) as f64 - 1.0;
    // A point of the square is outside of the disc one time in five; ten thousand times in a row it never is.
    for n in 0..10_000 {
        let (x, y) = (side(word(2 * n)), side(word(2 * n + 1)));
        let square = x * x + y * y;
        if square > 0.0 && square < 1.0 {
            return x * (-2.0 * ln(square) / square).sqrt();
        }
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::chance::{Dice, Part};

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the model")]
    fn agree_with_the_platform_to_twelve_digits() {
        let mut x = 1e-12;
        while x < 1e12 {
            assert!(
                (ln(x) - f64::ln(x)).abs() < 1e-12 * f64::ln(x).abs().max(1.0),
                "ln {x}"
            );
            x *= 1.37;
        }
        for n in -1000..1000 {
            let x = f64::from(n) / 40.0;
            assert!((exp(x) / f64::exp(x) - 1.0).abs() < 1e-12, "exp {x}");
        }
        assert_eq!([ln(0.0), ln(-1.0), ln(f64::NAN), exp(f64::NAN)], [0.0; 4]);
        assert!(exp(1e9).is_finite());
        assert!(minus_ln(0).is_finite() && minus_ln(u64::MAX) >= 0.0);
    }

    #[test]
    fn the_normal_distribution_has_its_mean_variance_and_tail() {
        let dice = Dice::new(1, Part::Fate, 0);
        let draws: Vec<f64> = (0..100_000)
            .map(|n| normal(|k| dice.event(n).word(k)))
            .collect();
        let count = draws.len() as f64;
        let mean = draws.iter().sum::<f64>() / count;
        let variance = draws.iter().map(|x| x * x).sum::<f64>() / count;
        let beyond = draws.iter().filter(|x| **x > 2.326_348).count();
        assert!(
            mean.abs() < 0.015 && (variance - 1.0).abs() < 0.025,
            "{mean} {variance}"
        );
        assert!(
            (900..1100).contains(&beyond),
            "{beyond} above the 99th percentile"
        );
    }
}
