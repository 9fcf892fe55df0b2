use crate::core::decay::{Fade, decay};
use crate::core::time::nanos;
use crate::policy;

/// A latency estimate in nanoseconds that jumps to a slower sample and falls slowly.
///
/// The mesh's rule: a sample above the estimate replaces it; one below moves it by `1 - e^(-t / decay)` of the
/// difference, `t` being the time since the last sample; and between samples the estimate fades, so that an endpoint
/// that was slow once is tried again. Beyond the mesh: a failure or a cancellation can raise it, never lower it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    value: u64,
    // When `value` was true, in nanoseconds; none if it never was, and nothing fades.
    stamp: Option<u64>,
    // Whether there was no sample yet.
    assumed: bool,
}

// What marks an assumed value in the word of its time: 2^63 ns are 292 years.
const ASSUMED: u64 = 1 << 63;

// === impl Estimate ===

impl Estimate {
    /// `default_rtt` until the first sample.
    pub fn new(load: policy::PeakEwma) -> Self {
        Self {
            value: nanos(load.default_rtt()),
            stamp: None,
            assumed: true,
        }
    }

    /// `default_rtt` at `now`, in nanoseconds, fading until the first sample: or else nobody would ever try what is
    /// assumed to be slower than the others are.
    pub fn since(load: policy::PeakEwma, now: u64) -> Self {
        Self {
            stamp: Some(now.min(ASSUMED - 2)),
            ..Self::new(load)
        }
    }

    /// From the two words that [`words`](Self::words) gave.
    #[inline]
    pub fn from_words((value, stamp): (u64, u64)) -> Self {
        Self {
            value,
            stamp: (stamp != u64::MAX).then_some(stamp & !ASSUMED),
            assumed: stamp & ASSUMED != 0,
        }
    }

    /// Whether there was no sample yet.
    #[inline]
    pub fn is_assumed(&self) -> bool {
        self.assumed
    }

    /// As two words.
    #[inline]
    pub fn words(&self) -> (u64, u64) {
        let mark = if self.assumed { ASSUMED } else { 0 };
        let stamp = self.stamp.map_or(u64::MAX, |stamp| stamp | mark);
        (self.value, stamp)
    }

    /// The estimate at `now`, which fades with time constant `tau`; all in nanoseconds.
    #[inline]
    pub fn get(&self, now: u64, tau: u64) -> u64 {
        match self.stamp {
            Some(stamp) => decay(self.value, now.saturating_sub(stamp), tau),
            None => self.value,
        }
    }

    /// An answer that took `sample` nanoseconds.
    #[inline(always)]
    pub fn observe(&mut self, now: u64, sample: u64, tau: u64) {
        self.value = match self.stamp {
            // The first sample is all there is to know.
            _ if self.assumed => sample,
            None => sample,
            // Slower than it was, and so than it is.
            _ if sample >= self.value => sample,
            Some(stamp) => {
                let fade = Fade::over(now.saturating_sub(stamp), tau);
                let faded = fade.of(self.value);
                if sample >= faded {
                    sample
                } else {
                    // The old one fades by as much as the new one counts.
                    faded.saturating_add(sample - fade.of(sample))
                }
            }
        };
        self.stamped(now);
    }

    /// Something that says only that an answer would have taken at least `sample` nanoseconds.
    pub fn raise(&mut self, now: u64, sample: u64, tau: u64) {
        if sample > self.get(now, tau) {
            self.value = sample;
            self.stamped(now);
        }
    }

    #[inline]
    fn stamped(&mut self, now: u64) {
        self.stamp = Some(self.stamp.unwrap_or(0).max(now).min(ASSUMED - 1));
        self.assumed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;
    const S: u64 = 1000 * MS;
    const TAU: u64 = 10 * S;

    #[test]
    fn starts_with_the_default_and_then_knows_better() {
        let mut e = Estimate::new(policy::PeakEwma::DEFAULT);
        assert_eq!(e.get(100 * S, TAU), 30 * MS);
        e.observe(0, 5 * MS, TAU);
        assert_eq!(e.get(0, TAU), 5 * MS);
        // What is only assumed fades, too, and gives way to the first sample, be it the faster one.
        for sample in [5 * MS, 500 * MS] {
            let mut e = Estimate::since(policy::PeakEwma::DEFAULT, S);
            assert_eq!(e.get(S, TAU), 30 * MS);
            assert_eq!(Estimate::from_words(e.words()), e);
            assert!(e.get(60 * S, TAU) < MS);
            e.observe(2 * S, sample, TAU);
            assert_eq!(e.get(2 * S, TAU), sample);
            assert_eq!(Estimate::from_words(e.words()), e);
        }
    }

    #[test]
    fn jumps_up_and_falls_slowly() {
        let mut e = Estimate::new(policy::PeakEwma::DEFAULT);
        e.observe(0, 10 * MS, TAU);
        e.observe(S, 500 * MS, TAU);
        assert_eq!(e.get(S, TAU), 500 * MS);
        e.observe(2 * S, 10 * MS, TAU);
        let expected =
            (500.0 * (-0.1f64).exp2_model() + 10.0 * (1.0 - (-0.1f64).exp2_model())) * 1e6;
        assert!((e.get(2 * S, TAU) as f64 - expected).abs() < 1000.0);
        assert!(e.get(60 * S, TAU) < 2 * MS, "fades");
    }

    trait Model {
        fn exp2_model(self) -> f64;
    }
    impl Model for f64 {
        #[allow(clippy::disallowed_methods, reason = "the model")]
        fn exp2_model(self) -> f64 {
            self.exp()
        }
    }

    proptest! {
        #[test]
        fn raising_never_lowers(
            value in 0u64..1 << 40, raise in 0u64..1 << 40, at in 0u64..1 << 40, later in 0u64..1 << 40,
        ) {
            let mut e = Estimate::from_words((value, at));
            let before = e.get(at + later, TAU);
            e.raise(at + later, raise, TAU);
            prop_assert_eq!(e.get(at + later, TAU), before.max(raise));
            prop_assert_eq!(Estimate::from_words(e.words()), e);
        }

        #[test]
        fn stays_between_the_extremes(samples in proptest::collection::vec((0u64..1 << 32, 0u64..1 << 36), 1..50)) {
            let mut e = Estimate::new(policy::PeakEwma::DEFAULT);
            let mut now = 0;
            let highest = samples.iter().map(|(_, sample)| *sample).max().unwrap_or(0);
            for (wait, sample) in samples {
                now += wait;
                e.observe(now, sample, TAU);
                prop_assert!(e.get(now, TAU) <= highest + 1);
                prop_assert!(e.get(now, TAU) >= sample.min(e.get(now, TAU)));
            }
        }
    }
}
