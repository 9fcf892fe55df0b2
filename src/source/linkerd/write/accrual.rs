use linkerd2_proxy_api::outbound as api;

use super::super::problem::{At, Effect, Problems};
use super::{lost, time};
use crate::policy::{AccrualExtensions, Ejection, ExponentialBackoff, FailureAccrual, Ratio};

pub(super) fn accrual(
    problems: &mut Problems,
    at: &At<'_>,
    accrual: Option<&FailureAccrual>,
) -> Option<api::FailureAccrual> {
    use api::failure_accrual::{ConsecutiveFailures, Kind, Unified};
    let accrual = accrual?;
    let at = &at.field("failure_accrual");
    let extensions = accrual.extensions();
    let ejection = beyond(problems, at, extensions);
    let hint = extensions.respect_retry_after;
    let kind = match accrual {
        FailureAccrual::Consecutive(consecutive) => {
            let at = &at.field("consecutive_failures");
            let at = &at.field("backoff");
            Kind::ConsecutiveFailures(ConsecutiveFailures {
                max_failures: consecutive.max_failures,
                backoff: Some(backoff(problems, at, consecutive.backoff, hint)),
            })
        }
        FailureAccrual::Unified(unified) => {
            let at = &at.field("unified");
            Kind::Unified(Unified {
                success_rate_threshold: f64::from(unified.threshold().ppm()) / 1e6,
                decay: time(problems, &at.field("decay"), unified.window()),
                min_requests: unified.min_requests(),
                max_consecutive_failures: unified.max_consecutive_failures(),
                backoff: Some(backoff(
                    problems,
                    &at.field("backoff"),
                    unified.backoff(),
                    hint,
                )),
            })
        }
    };
    Some(api::FailureAccrual {
        ejection,
        kind: Some(kind),
    })
}

/// What is beyond the mesh; of that the message has a field for one thing.
fn beyond(
    problems: &mut Problems,
    at: &At<'_>,
    extensions: &AccrualExtensions,
) -> Option<api::EjectionConfig> {
    // By its fields, so that a new one is not forgotten.
    let AccrualExtensions {
        ejection,
        worse_than_peers,
        slow_call,
        probes,
        respect_retry_after: _,
        memory,
        dry_run,
    } = extensions;
    if worse_than_peers.is_some() {
        lost(
            problems,
            &at.field("worse_than_peers"),
            "comparing endpoints",
        );
    }
    if slow_call.is_some() {
        lost(problems, &at.field("slow_call"), "slow calls");
    }
    if *probes != AccrualExtensions::NONE.probes {
        lost(problems, &at.field("probes"), "the number of probes");
    }
    if memory.is_some() {
        lost(problems, &at.field("memory"), "remembering ejections");
    }
    if *dry_run {
        lost(problems, &at.field("dry_run"), "a dry run");
    }
    let Ejection {
        min_ready_endpoints,
        max_ejected,
        panic_after,
    } = (*ejection)?;
    let at = &at.field("ejection");
    if max_ejected != Ratio::ONE {
        lost(problems, &at.field("max_ejected"), "a share of endpoints");
    }
    if panic_after.is_some() {
        lost(problems, &at.field("panic_after"), "panic");
    }
    Some(api::EjectionConfig {
        min_ready_endpoints,
    })
}

pub(super) fn backoff(
    problems: &mut Problems,
    at: &At<'_>,
    backoff: ExponentialBackoff,
    hint: bool,
) -> api::ExponentialBackoff {
    let jitter = f64::from(backoff.jitter().ppm()) / 1e6;
    // The message has 24 bits for it.
    let jitter_ratio = jitter as f32;
    if Ratio::try_from_f64("", f64::from(jitter_ratio), 100) != Ok(backoff.jitter()) {
        let message = format!("found {jitter}, of which {jitter_ratio} can be written");
        problems.add(&at.field("jitter_ratio"), Effect::Default, message);
    }
    api::ExponentialBackoff {
        min_backoff: time(problems, &at.field("min_backoff"), backoff.min()),
        max_backoff: time(problems, &at.field("max_backoff"), backoff.max()),
        jitter_ratio,
        respect_retry_after_hint: hint,
    }
}
