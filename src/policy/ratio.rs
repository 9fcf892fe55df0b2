use std::fmt;

use super::InvalidPolicy;

/// A ratio, kept as whole parts per million so that policies can be compared and sums are exact.
///
/// The mesh's wire format carries ratios as floats; they are rounded to the nearest millionth.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ratio {
    ppm: u32,
}

// === impl Ratio ===

impl Ratio {
    /// Nothing.
    pub const ZERO: Self = Self { ppm: 0 };
    /// One: everything.
    pub const ONE: Self = Self { ppm: 1_000_000 };

    /// So many hundredths. `percent(150)` is one and a half.
    pub const fn percent(percent: u8) -> Self {
        Self {
            ppm: percent as u32 * 10_000,
        }
    }

    /// So many millionths, at most 1000 (the largest ratio any rule of the mesh allows).
    ///
    /// # Errors
    /// Beyond 1 000 000 000 millionths.
    pub fn parts_per_million(ppm: u32) -> Result<Self, InvalidPolicy> {
        if ppm > 1_000_000_000 {
            return Err(InvalidPolicy::new(
                "ratio",
                format!("{ppm} ppm"),
                "a ratio from 0 to 1000",
            ));
        }
        Ok(Self { ppm })
    }

    /// From a float, rounded to the nearest millionth.
    ///
    /// # Errors
    /// Not a number, negative, infinite or beyond `max`; `field` is what the error names.
    pub fn try_from_f64(field: &'static str, value: f64, max: u16) -> Result<Self, InvalidPolicy> {
        let max = max.min(1_000);
        if !value.is_finite() || value < 0.0 || value > f64::from(max) {
            return Err(InvalidPolicy::new(
                field,
                value,
                format!("a number from 0 to {max}"),
            ));
        }
        Ok(Self {
            // In range, checked above.
            ppm: (value * 1e6).round() as u32,
        })
    }

    /// In millionths.
    pub const fn ppm(self) -> u32 {
        self.ppm
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, parts) = (self.ppm / 1_000_000, self.ppm % 1_000_000);
        if parts == 0 {
            return write!(f, "{whole}");
        }
        let digits = format!("{parts:06}");
        write!(f, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

impl fmt::Debug for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ratio({self})")
    }
}
