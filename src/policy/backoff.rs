use std::time::Duration;

use super::{InvalidPolicy, Ratio};

/// Waits that double from `min` to `max`, each stretched at random by up to `jitter` of itself.
///
/// The rules are the mesh's: `max` at least `min` and not zero, `jitter` from 0 to 100.
/// How long each wait is, exactly: [`core::backoff`](crate::core::backoff).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExponentialBackoff {
    min: Duration,
    max: Duration,
    jitter: Ratio,
}

// === impl ExponentialBackoff ===

impl ExponentialBackoff {
    /// How an ejected endpoint waits for its probe unless told otherwise: 1 s to 60 s, jitter one half.
    pub const ACCRUAL: Self = Self {
        min: Duration::from_secs(1),
        max: Duration::from_secs(60),
        jitter: Ratio::percent(50),
    };

    /// How a retry waits unless told otherwise: 25 ms to 250 ms, jitter one. The mesh's fixed values.
    pub const RETRY: Self = Self {
        min: Duration::from_millis(25),
        max: Duration::from_millis(250),
        jitter: Ratio::ONE,
    };

    /// # Errors
    /// `max` is zero or below `min`, or `jitter` is beyond 100.
    pub fn try_new(min: Duration, max: Duration, jitter: Ratio) -> Result<Self, InvalidPolicy> {
        if max.is_zero() {
            return Err(InvalidPolicy::new(
                "backoff.max",
                "0s",
                "a duration above zero",
            ));
        }
        if max < min {
            return Err(InvalidPolicy::new(
                "backoff.max",
                format!("{max:?}"),
                format!("at least backoff.min, {min:?}"),
            ));
        }
        if jitter.ppm() > 100 * Ratio::ONE.ppm() {
            return Err(InvalidPolicy::new(
                "backoff.jitter",
                jitter,
                "a ratio from 0 to 100",
            ));
        }
        Ok(Self { min, max, jitter })
    }

    /// The first wait, before jitter.
    pub const fn min(&self) -> Duration {
        self.min
    }

    /// The longest wait, jitter included.
    pub const fn max(&self) -> Duration {
        self.max
    }

    /// The largest stretch, as a share of the wait.
    pub const fn jitter(&self) -> Ratio {
        self.jitter
    }
}
