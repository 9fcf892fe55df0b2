use linkerd2_proxy_api::outbound as api;

use super::super::problem::{At, Effect, Problems};
use super::{required, time};
use crate::policy::{Ejection, ExponentialBackoff, FailureAccrual, Ratio, Unified};

/// When endpoints are ejected. What is not valid ejects nobody.
pub(super) fn accrual(
    problems: &mut Problems,
    at: &At<'_>,
    wire: Option<api::FailureAccrual>,
) -> Option<FailureAccrual> {
    use api::failure_accrual::Kind;
    let wire = wire?;
    let at = &at.field("failure_accrual");
    let (mut accrual, hint) = match wire.kind {
        Some(Kind::ConsecutiveFailures(wire)) => {
            let at = &at.field("consecutive_failures");
            let (backoff, hint) = probes(problems, at, wire.backoff);
            let accrual = FailureAccrual::consecutive(wire.max_failures);
            (accrual.backoff(backoff), hint)
        }
        Some(Kind::Unified(wire)) => {
            let at = &at.field("unified");
            let (backoff, hint) = probes(problems, at, wire.backoff);
            let unified = unified(problems, at, &wire, backoff);
            (unified.into(), hint)
        }
        None => {
            problems.missing(&at.field("kind"), Effect::LeftOut);
            return None;
        }
    };
    let extensions = accrual.extensions_mut();
    extensions.respect_retry_after = hint;
    extensions.ejection = wire.ejection.map(|wire| Ejection {
        min_ready_endpoints: wire.min_ready_endpoints,
        ..Ejection::NONE
    });
    Some(accrual)
}

fn unified(
    problems: &mut Problems,
    at: &At<'_>,
    wire: &api::failure_accrual::Unified,
    backoff: ExponentialBackoff,
) -> Unified {
    let default = Unified::default();
    let threshold = Ratio::try_from_f64("", wire.success_rate_threshold, 1);
    let window = match wire.decay {
        None => Some(default.window()),
        Some(_) => time(problems, &at.field("decay"), wire.decay, Effect::Default),
    };
    let mut window = window.unwrap_or(default.window());
    let mut min_requests = wire.min_requests;
    // Failures in a row stay, whatever is the matter with the success rate.
    let mut threshold = threshold.unwrap_or_else(|error| {
        let at = &at.field("success_rate_threshold");
        problems.invalid(at, Effect::LeftOut, &error);
        Ratio::ZERO
    });
    let on = threshold > Ratio::ZERO;
    let effect = if on { Effect::LeftOut } else { Effect::Default };
    if on && window < Unified::MIN_WINDOW {
        let message = format!("found {window:?}, expected at least 10ms; without a success rate");
        problems.add(&at.field("decay"), effect, message);
        window = default.window();
        threshold = Ratio::ZERO;
    }
    if min_requests > Unified::MAX_MIN_REQUESTS {
        // The mesh's control plane sends it where the success rate is off, and its proxy does not accept it.
        let rest = if on { "; without a success rate" } else { "" };
        let message = format!("found {min_requests}, expected at most 1000000{rest}");
        problems.add(&at.field("min_requests"), effect, message);
        min_requests = default.min_requests();
        threshold = Ratio::ZERO;
    }
    let max = wire.max_consecutive_failures;
    Unified::try_new(threshold, window, min_requests, max, backoff).unwrap_or(default)
}

/// The waits before probes, and whether the endpoint's own hints count.
fn probes(
    problems: &mut Problems,
    at: &At<'_>,
    wire: Option<api::ExponentialBackoff>,
) -> (ExponentialBackoff, bool) {
    let at = &at.field("backoff");
    let or = ExponentialBackoff::ACCRUAL;
    match wire {
        Some(wire) => {
            let hint = wire.respect_retry_after_hint;
            (backoff(problems, at, wire, or), hint)
        }
        None => {
            problems.missing(at, Effect::Default);
            (or, false)
        }
    }
}

/// Waits. In the place of limits that are not valid, and of a jitter that is not, stand those of `or`.
pub(super) fn backoff(
    problems: &mut Problems,
    at: &At<'_>,
    wire: api::ExponentialBackoff,
    or: ExponentialBackoff,
) -> ExponentialBackoff {
    let jitter = Ratio::try_from_f64("", f64::from(wire.jitter_ratio), 100);
    let jitter = jitter.unwrap_or_else(|error| {
        problems.invalid(&at.field("jitter_ratio"), Effect::Default, &error);
        or.jitter()
    });
    let min = required(problems, &at.field("min_backoff"), wire.min_backoff);
    let max = required(problems, &at.field("max_backoff"), wire.max_backoff);
    if let (Some(min), Some(max)) = (min, max) {
        match ExponentialBackoff::try_new(min, max, jitter) {
            Ok(backoff) => return backoff,
            Err(error) => {
                problems.invalid(&at.field("max_backoff"), Effect::Default, &error);
            }
        }
    }
    ExponentialBackoff::try_new(or.min(), or.max(), jitter).unwrap_or(or)
}
