//! Which endpoints requests go to, the breaker's part and the load's: `balancer.linkerd.io/` and `balancer.alpha.linkerd.io/`.

use std::time::Duration;

use super::reader::{Invalid, Reader};
use crate::policy::{
    AccrualExtensions, ConsecutiveFailures, ExponentialBackoff, FailureAccrual, Load, PeakEwma,
    PenaltyPeakEwma, Ratio, Unified,
};
use crate::source::kubernetes::diagnostic::Severity;
use crate::source::kubernetes::grammar::{self, expected};
use crate::source::kubernetes::keys;

// === impl Reader ===

impl Reader<'_> {
    pub(super) fn accrual(&mut self) -> Result<Option<FailureAccrual>, Invalid> {
        const CONSECUTIVE: [&str; 4] = [
            keys::MAX_FAILURES,
            keys::MIN_PENALTY,
            keys::MAX_PENALTY,
            keys::JITTER,
        ];
        const RATE: [&str; 3] = [keys::THRESHOLD, keys::WINDOW, keys::MIN_REQUESTS];
        let mode = self.read(keys::ACCRUAL, |text| match text {
            "consecutive" => Ok(false),
            "unified" => Ok(true),
            _ => {
                let mistake = expected("consecutive or unified, in lower case and without spaces");
                Err(match text.trim().to_ascii_lowercase().as_str() {
                    "consecutive" => mistake.remedy("write \"consecutive\""),
                    "unified" => mistake.remedy("write \"unified\""),
                    _ => mistake,
                })
            }
        })?;
        let Some(unified) = mode else {
            let remedy = format!("add {}: consecutive", keys::ACCRUAL);
            self.without_effect(&CONSECUTIVE, &remedy);
            let remedy = format!("add {}: unified", keys::ACCRUAL);
            self.without_effect(&RATE, &remedy);
            return Ok(None);
        };
        let max_failures = self.read(keys::MAX_FAILURES, grammar::count);
        let backoff = self.backoff();
        if unified {
            return self.unified(max_failures, backoff).map(Some);
        }
        let remedy = format!("write {}: unified", keys::ACCRUAL);
        self.without_effect(&RATE, &remedy);
        let max_failures = max_failures?.unwrap_or(7);
        if let (0, Some(found)) = (max_failures, self.find(keys::MAX_FAILURES)) {
            self.say(
                Severity::Warning,
                found,
                "0 turns the breaker off: no endpoint is ever ejected",
                "write 1 or more",
            );
        }
        Ok(Some(FailureAccrual::from(ConsecutiveFailures {
            max_failures,
            backoff: backoff?,
            extensions: AccrualExtensions::default(),
        })))
    }

    fn backoff(&mut self) -> Result<ExponentialBackoff, Invalid> {
        let default = ExponentialBackoff::ACCRUAL;
        let min = self.read(keys::MIN_PENALTY, grammar::duration);
        let max = self.read(keys::MAX_PENALTY, |text| match grammar::duration(text)? {
            Duration::ZERO => Err(expected("a duration above zero")),
            max => Ok(max),
        });
        let jitter = self.read(keys::JITTER, |text| {
            let jitter = grammar::single(text, 100.0)?;
            Ratio::try_from_f64("jitter", jitter, 100).map_err(|e| expected(e.expected()))
        });
        let min = min?.unwrap_or_else(|| default.min());
        let max = max?.unwrap_or_else(|| default.max());
        let jitter = jitter?.unwrap_or_else(|| default.jitter());
        if min > max {
            let (found, mistake) = match self.find(keys::MAX_PENALTY) {
                Some(found) => (
                    Some(found),
                    expected(format!("at least {} ({min:?})", keys::MIN_PENALTY)),
                ),
                None => (
                    self.find(keys::MIN_PENALTY),
                    expected(format!(
                        "at most {} ({max:?} by default)",
                        keys::MAX_PENALTY
                    )),
                ),
            };
            return Err(found.map_or(Invalid, |found| self.mistake(found, mistake)));
        }
        // Cannot fail any more; if the rules of the policy became stricter, the key that names the family is to blame.
        ExponentialBackoff::try_new(min, max, jitter).map_err(|e| self.blame(keys::ACCRUAL, &e))
    }

    fn unified(
        &mut self,
        max_failures: Result<Option<u32>, Invalid>,
        backoff: Result<ExponentialBackoff, Invalid>,
    ) -> Result<FailureAccrual, Invalid> {
        let default = Unified::default();
        let threshold = self.read(keys::THRESHOLD, |text| {
            let share = grammar::share(text)?;
            let threshold =
                Ratio::try_from_f64("threshold", share, 1).map_err(|e| expected(e.expected()))?;
            // Ratios are whole millionths here. What is not zero must not become "off".
            if share > 0.0 && threshold == Ratio::ZERO {
                return Err(expected("0, or a number from 0.000001 to 1"));
            }
            Ok(threshold)
        });
        // Which windows are long enough depends on the threshold; where that is wrong, on its default.
        let on = !matches!(threshold, Ok(Some(Ratio::ZERO)));
        let window = self.read(keys::WINDOW, |text| {
            let window = grammar::duration(text)?;
            if on && window < Unified::MIN_WINDOW {
                return Err(expected("at least 10ms"));
            }
            if window.is_zero() {
                return Err(expected("a duration above zero"));
            }
            Ok(window)
        });
        // With the threshold at zero the policy controller lets more through, and the proxy then refuses the policy.
        let min_requests = self.read(keys::MIN_REQUESTS, |text| match grammar::count(text)? {
            n if n > Unified::MAX_MIN_REQUESTS => Err(expected("at most 1000000")),
            n => Ok(n),
        });
        let max_failures = max_failures?.unwrap_or_else(|| default.max_consecutive_failures());
        let threshold = threshold?.unwrap_or_else(|| default.threshold());
        if let (0, Ratio::ZERO, Some(found)) = (max_failures, threshold, self.find(keys::ACCRUAL)) {
            self.say(
                Severity::Warning,
                found,
                "failures in a row and the success rate are both turned off: no endpoint is ever ejected",
                &format!("take away {} or {}", keys::MAX_FAILURES, keys::THRESHOLD),
            );
        }
        Unified::try_new(
            threshold,
            window?.unwrap_or_else(|| default.window()),
            min_requests?.unwrap_or_else(|| default.min_requests()),
            max_failures,
            backoff?,
        )
        .map(FailureAccrual::from)
        .map_err(|e| self.blame(keys::ACCRUAL, &e))
    }

    /// Whether `Retry-After` is a floor under the penalty. The mesh takes it along with a success rate only (and then
    /// ignores it: `Difference::ProbeHint`).
    pub(super) fn retry_after(&mut self, accrual: &mut Result<Option<FailureAccrual>, Invalid>) {
        let honor = self.read(keys::HONOR_RETRY_AFTER, grammar::boolean);
        match (honor, accrual) {
            (Ok(Some(honor)), Ok(Some(FailureAccrual::Unified(unified)))) => {
                unified.extensions_mut().respect_retry_after = honor;
            }
            (Ok(Some(true)), Ok(other)) => {
                let verb = if other.is_some() { "write" } else { "add" };
                let remedy = format!("{verb} {}: unified", keys::ACCRUAL);
                self.without_effect(&[keys::HONOR_RETRY_AFTER], &remedy);
            }
            _ => {}
        }
    }

    /// What an endpoint weighs, and whether its failures weigh, too.
    pub(super) fn load(&mut self) -> Result<Load, Invalid> {
        let ewma = PeakEwma::DEFAULT;
        if !self
            .read(keys::PENALIZE, grammar::boolean)?
            .unwrap_or(false)
        {
            let remedy = format!("add {}: \"true\"", keys::PENALIZE);
            self.without_effect(&[keys::PENALTY, keys::MAX_RETRY_AFTER], &remedy);
            return Ok(Load::PeakEwma(ewma));
        }
        let mut load = PenaltyPeakEwma::new(ewma);
        let penalty = self.read(keys::PENALTY, |text| {
            let penalty = grammar::duration(text)?;
            if penalty > Duration::from_millis(u32::MAX.into()) {
                return Err(expected("at most 4294967295ms (49 days)"));
            }
            Ok(penalty)
        });
        let max_retry_after = self.read(keys::MAX_RETRY_AFTER, grammar::duration);
        load.penalty = penalty?.unwrap_or(load.penalty);
        load.max_retry_after = max_retry_after?.unwrap_or(load.max_retry_after);
        Ok(Load::PenaltyPeakEwma(load))
    }
}
