use linkerd2_proxy_api::outbound as api;

use super::super::family::{Params, Requests, Tries};
use super::super::problem::{At, Effect, Problems};
use super::{accrual, time};
use crate::policy::{Codes, Retry, RetryBuilder, RouteParams, StatusRanges, Timeouts};

pub(super) fn params<K: Requests>(
    problems: &mut Problems,
    at: &At<'_>,
    wire: Params<K::Conditions>,
) -> RouteParams {
    let wired = wire.timeouts.unwrap_or_default();
    let mut timeouts = {
        let at = &at.field("timeouts");
        let mut limit = |field, wire| time(problems, &at.field(field), wire, Effect::LeftOut);
        Timeouts {
            request: limit("request", wired.request),
            response: limit("response", wired.response),
            idle: limit("idle", wired.idle),
        }
    };
    if wired.request.is_none() {
        let at = &at.field("request_timeout");
        timeouts.request = time(problems, at, wire.request_timeout, Effect::LeftOut);
    }
    let retry = wire
        .retry
        .and_then(|wire| retry::<K>(problems, &at.field("retry"), wire));
    RouteParams {
        timeouts,
        retry,
        allow_l5d_request_headers: wire.allow_l5d_request_headers,
        ..RouteParams::default()
    }
}

fn retry<K: Requests>(
    problems: &mut Problems,
    at: &At<'_>,
    wire: Tries<K::Conditions>,
) -> Option<Retry> {
    let limit = u16::try_from(wire.max_retries).ok();
    if limit.is_none() {
        let found = wire.max_retries;
        let message = format!("found {found} max_retries, expected at most 65535");
        problems.add(at, Effect::LeftOut, message);
    }
    let bytes = usize::try_from(wire.max_request_bytes).unwrap_or(usize::MAX);
    let mut retry = Retry::never_on_status()
        .max_request_bytes(bytes)
        .no_backoff();
    match wire.conditions {
        Some(conditions) => {
            retry = K::read_conditions(problems, &at.field("conditions"), conditions, retry);
        }
        None => problems.missing(&at.field("conditions"), Effect::LeftOut),
    }
    if let Some(limit) = time(
        problems,
        &at.field("timeout"),
        wire.timeout,
        Effect::LeftOut,
    ) {
        retry = retry.timeout(limit);
    }
    if let Some(wire) = wire.backoff {
        let at = &at.field("backoff");
        if wire.respect_retry_after_hint {
            let message = "what a response asks for is heeded by every retry, but for the mesh's";
            problems.add(
                &at.field("respect_retry_after_hint"),
                Effect::Ignored,
                message,
            );
        }
        let or = crate::policy::ExponentialBackoff::RETRY;
        retry = retry.backoff(accrual::backoff(problems, at, wire, or));
    }
    retry.limit(limit?).build().ok()
}

/// Ranges of statuses, without those that are none.
pub(in super::super) fn http_conditions(
    problems: &mut Problems,
    at: &At<'_>,
    wire: api::http_route::retry::Conditions,
    mut retry: RetryBuilder,
) -> RetryBuilder {
    for (n, range) in wire.status_ranges.into_iter().enumerate() {
        let status = |status| u16::try_from(status).unwrap_or(u16::MAX);
        let read = status(range.start)..=status(range.end);
        match StatusRanges::try_new([read.clone()]) {
            Ok(_) => retry = retry.and_on(read),
            Err(error) => {
                problems.invalid(&at.item("status_ranges", n), Effect::LeftOut, &error);
            }
        }
    }
    retry
}

pub(in super::super) fn grpc_conditions(
    wire: api::grpc_route::retry::Conditions,
    retry: RetryBuilder,
) -> RetryBuilder {
    let codes = [
        (wire.cancelled, Codes::CANCELLED),
        (wire.deadine_exceeded, Codes::DEADLINE_EXCEEDED),
        (wire.resource_exhausted, Codes::RESOURCE_EXHAUSTED),
        (wire.internal, Codes::INTERNAL),
        (wire.unavailable, Codes::UNAVAILABLE),
    ];
    let codes = codes.into_iter().filter(|(set, _)| *set);
    retry.and_on_codes(codes.map(|(_, code)| code))
}
