use std::collections::BTreeMap;

/// How often which time was seen, to so many significant bits: what it takes does not grow with how much is recorded.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    bits: u32,
    // By bucket; sparse, for most are empty.
    counts: BTreeMap<u32, u64>,
    total: u64,
    max: u64,
}

// === impl Histogram ===

impl Histogram {
    /// Times to one part in `2^bits`.
    pub(crate) fn new(bits: u32) -> Self {
        Self {
            bits,
            counts: BTreeMap::new(),
            total: 0,
            max: 0,
        }
    }

    pub(crate) fn add(&mut self, value: u64) {
        *self.counts.entry(self.bucket(value)).or_default() += 1;
        self.total += 1;
        self.max = self.max.max(value);
    }

    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// The least time that this part of all does not exceed; zero if there are none.
    pub(crate) fn quantile(&self, part: f64) -> u64 {
        let rank = (part * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in &self.counts {
            seen += count;
            if seen >= rank {
                return self.middle(*bucket).min(self.max);
            }
        }
        self.max
    }

    // Below 2^bits one bucket for each value; above, 2^bits for each power of two.
    fn bucket(&self, value: u64) -> u32 {
        let exponent = 63 - (value | 1).leading_zeros();
        match exponent.checked_sub(self.bits) {
            None => value as u32,
            Some(shift) => (shift << self.bits) + (value >> shift) as u32,
        }
    }

    fn middle(&self, bucket: u32) -> u64 {
        let shift = (bucket >> self.bits).saturating_sub(1);
        let least = u64::from(bucket - (shift << self.bits)) << shift;
        least + ((1 << shift) >> 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_the_precision_asked_for() {
        for bits in [7, 11] {
            let mut histogram = Histogram::new(bits);
            for n in 1..=10_000_u64 {
                histogram.add(n * 12_345);
            }
            for part in [0.01, 0.5, 0.9, 0.99, 0.9999] {
                let exact = (part * 10_000.0_f64).ceil() * 12_345.0;
                let found = histogram.quantile(part) as f64;
                let error = (found / exact - 1.0).abs();
                assert!(
                    error <= 1.0 / f64::from(1 << bits),
                    "{bits} {part}: {error}"
                );
            }
            assert_eq!(histogram.quantile(1.0), histogram.max());
        }
        assert_eq!(Histogram::new(7).quantile(0.5), 0);
    }

    #[test]
    fn the_smallest_and_the_largest_fit() {
        let mut histogram = Histogram::new(11);
        for value in [0, 1, 2047, 2048, u64::MAX] {
            histogram.add(value);
        }
        assert_eq!(histogram.quantile(0.1), 0);
        assert_eq!(histogram.quantile(0.6), 2047);
        assert!(histogram.quantile(1.0) > 1 << 63);
    }
}
