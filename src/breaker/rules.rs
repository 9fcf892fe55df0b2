use std::time::Duration;

use crate::core::time::{Epoch, nanos};
use crate::policy::{Ejection, ExponentialBackoff, FailureAccrual, Ratio, Unified};

use super::window::BUCKETS;
use crate::verdict::{Outcome, Verdict};

/// A policy as breakers obey it; those of one pool share it.
#[derive(Debug)]
pub(crate) struct Rules {
    /// What their times are counted from.
    pub(super) origin: Epoch,
    pub(super) max_failures: u32,
    pub(super) rate: Option<Rate>,
    /// In nanoseconds.
    pub(super) slow_call: Option<u64>,
    /// A rate-limited probe has failed.
    pub(super) strict: bool,
    pub(super) respect_retry_after: bool,
    /// At least one.
    pub(super) probes: u32,
    /// In nanoseconds; never zero.
    pub(super) memory: Option<u64>,
    pub(super) backoff: ExponentialBackoff,
    // What those of a pool obey besides.
    pub(crate) limits: Ejection,
    pub(crate) worse_than_peers: Option<Ratio>,
    pub(crate) dry_run: bool,
}

/// Below which success rate an endpoint is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) threshold: Ratio,
    /// At least one.
    pub(super) min_requests: u32,
    /// Of one bucket, in nanoseconds; never zero.
    pub(super) width: u64,
}

// === impl Rules ===

impl Rules {
    /// For breakers whose times are counted from `origin`.
    pub(crate) fn new(accrual: &FailureAccrual, origin: Epoch) -> Self {
        let unified = match accrual {
            FailureAccrual::Unified(unified) => Some(unified),
            FailureAccrual::Consecutive(_) => None,
        };
        let extensions = accrual.extensions();
        Self {
            origin,
            max_failures: accrual.max_consecutive_failures(),
            rate: unified.and_then(Rate::new),
            slow_call: extensions.slow_call.map(nanos),
            strict: unified.is_some(),
            respect_retry_after: extensions.respect_retry_after,
            probes: extensions.probes.max(1),
            memory: extensions.memory.map(|memory| nanos(memory).max(1)),
            backoff: accrual.probe_backoff(),
            limits: extensions.ejection.unwrap_or_default(),
            worse_than_peers: extensions.worse_than_peers,
            dry_run: extensions.dry_run,
        }
    }

    /// The verdict, with slow calls as failures: an answer that took too long, and a caller that left after that long.
    #[inline]
    pub(super) fn verdict(&self, outcome: &Outcome) -> Verdict {
        let Some(slow) = self.slow_call else {
            return outcome.verdict;
        };
        let time = match outcome.verdict {
            Verdict::Success => outcome.took,
            Verdict::Neutral => outcome.waited,
            Verdict::Failure => None,
        };
        match time {
            Some(time) if nanos(time) > slow => Verdict::Failure,
            _ => outcome.verdict,
        }
    }
}

// === impl Rate ===

impl Rate {
    // None if the threshold is zero, which turns it off.
    fn new(policy: &Unified) -> Option<Self> {
        (policy.threshold() > Ratio::ZERO).then(|| Self {
            threshold: policy.threshold(),
            min_requests: policy.min_requests().max(1),
            width: (nanos(policy.window().max(Unified::MIN_WINDOW)) / BUCKETS).max(1),
        })
    }

    /// Whether so many bad results of so many are too many.
    pub(super) fn is_low(&self, total: u64, bad: u64) -> bool {
        // good / total < threshold, in whole numbers.
        total >= u64::from(self.min_requests)
            && (total - bad) * u64::from(Ratio::ONE.ppm()) < total * u64::from(self.threshold.ppm())
    }

    /// Whether further successes decide nothing: the rate is not too low, and there are enough results, or only good ones.
    pub(super) fn is_calm(&self, total: u64, bad: u64) -> bool {
        let enough = total >= self.min_requests.into();
        bad == 0 || (enough && !self.is_low(total, bad))
    }

    /// The evidence, in words: `success rate 0.61 of 143 in 10 s, threshold 0.80`.
    pub(super) fn words(&self, total: u64, bad: u64) -> String {
        // Rounded down, so that it never reads as if it were the threshold.
        let rate = (total - bad) * 100 / total.max(1);
        let (rate, parts) = (rate / 100, rate % 100);
        let window = Duration::from_nanos(self.width.saturating_mul(BUCKETS));
        let window = match (window.as_secs(), window.subsec_nanos()) {
            (seconds, 0) => format!("{seconds} s"),
            _ => format!("{window:?}"),
        };
        let threshold = match self.threshold.ppm() {
            ppm if ppm % 10_000 == 0 => {
                format!("{}.{:02}", ppm / 1_000_000, ppm % 1_000_000 / 10_000)
            }
            _ => self.threshold.to_string(),
        };
        format!("success rate {rate}.{parts:02} of {total} in {window}, threshold {threshold}")
    }
}
