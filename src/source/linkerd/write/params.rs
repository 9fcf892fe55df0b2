use linkerd2_proxy_api::{http_route, outbound as api};

use super::super::family::{Params, Requests, Tries};
use super::super::problem::{At, Effect, Problems};
use super::{accrual, lost, time};
use crate::policy::{Codes, MethodKind, Retry, RouteParams, Timeouts, Trailers};

/// What a rule says of timeouts and retries.
pub(super) fn params<K: Requests>(
    problems: &mut Problems,
    at: &At<'_>,
    params: &RouteParams,
) -> Params<K::Conditions> {
    Params {
        request_timeout: None,
        timeouts: timeouts(problems, at, params),
        retry: retry::<K>(problems, at, params),
        allow_l5d_request_headers: params.allow_l5d_request_headers,
    }
}

fn timeouts(
    problems: &mut Problems,
    at: &At<'_>,
    params: &RouteParams,
) -> Option<http_route::Timeouts> {
    if let Some(hedge) = params.hedge {
        lost(problems, &at.field("hedge"), hedge);
    }
    if params.kind != MethodKind::Auto {
        lost(problems, &at.field("kind"), "the kind of gRPC methods");
    }
    if !params.classes.is_empty() {
        let what = format_args!("response classes ({})", params.classes);
        lost(problems, &at.field("classes"), what);
    }
    if params.timeouts == Timeouts::default() {
        return None;
    }
    let at = &at.field("timeouts");
    let mut limit = |field, limit: Option<_>| time(problems, &at.field(field), limit?);
    Some(http_route::Timeouts {
        response: limit("response", params.timeouts.response),
        request: limit("request", params.timeouts.request),
        idle: limit("idle", params.timeouts.idle),
    })
}

fn retry<K: Requests>(
    problems: &mut Problems,
    at: &At<'_>,
    params: &RouteParams,
) -> Option<Tries<K::Conditions>> {
    let retry = params.retry.as_ref()?;
    let at = &at.field("retry");
    if let Some(budget) = retry.budget() {
        lost(
            problems,
            &at.field("budget"),
            format_args!("a budget ({budget})"),
        );
    } else if retry.is_unlimited() {
        lost(problems, &at.field("budget"), "retries without a budget");
    }
    if retry.trailers() != Trailers::default() {
        lost(
            problems,
            &at.field("trailers"),
            "the time that trailers are waited for",
        );
    }
    let bytes = u32::try_from(retry.max_request_bytes());
    if bytes.is_err() {
        let message = format!(
            "found {}, expected at most {}, which is used",
            retry.max_request_bytes(),
            u32::MAX
        );
        problems.add(&at.field("max_request_bytes"), Effect::LeftOut, message);
    }
    Some(Tries {
        max_retries: retry.max_retries().into(),
        max_request_bytes: bytes.unwrap_or(u32::MAX),
        conditions: Some(K::write_conditions(problems, at, retry)),
        timeout: retry
            .timeout()
            .and_then(|limit| time(problems, &at.field("timeout"), limit)),
        backoff: retry
            .backoff()
            .map(|backoff| accrual::backoff(problems, &at.field("backoff"), backoff, false)),
    })
}

pub(in super::super) fn http_conditions(
    problems: &mut Problems,
    at: &At<'_>,
    retry: &Retry,
) -> api::http_route::retry::Conditions {
    use api::http_route::retry::conditions::StatusRange;
    if !retry.codes().is_empty() {
        let codes = retry.codes();
        lost(
            problems,
            &at.field("codes"),
            format_args!("gRPC codes on a route of HTTP ({codes})"),
        );
    }
    let range = |range: std::ops::RangeInclusive<u16>| StatusRange {
        start: (*range.start()).into(),
        end: (*range.end()).into(),
    };
    api::http_route::retry::Conditions {
        status_ranges: retry.status_ranges().iter().map(range).collect(),
    }
}

pub(in super::super) fn grpc_conditions(
    problems: &mut Problems,
    at: &At<'_>,
    retry: &Retry,
) -> api::grpc_route::retry::Conditions {
    const CARRIED: [u16; 5] = [
        Codes::CANCELLED,
        Codes::DEADLINE_EXCEEDED,
        Codes::RESOURCE_EXHAUSTED,
        Codes::INTERNAL,
        Codes::UNAVAILABLE,
    ];
    let statuses = retry.status_ranges();
    if !statuses.is_empty() {
        let what = format_args!("statuses on a route of gRPC ({statuses})");
        lost(problems, &at.field("status_ranges"), what);
    }
    let codes = retry.codes();
    for code in codes.iter().filter(|code| !CARRIED.contains(code)) {
        lost(problems, &at.field("codes"), Codes::name(code));
    }
    api::grpc_route::retry::Conditions {
        cancelled: codes.contains(Codes::CANCELLED),
        deadine_exceeded: codes.contains(Codes::DEADLINE_EXCEEDED),
        resource_exhausted: codes.contains(Codes::RESOURCE_EXHAUSTED),
        internal: codes.contains(Codes::INTERNAL),
        unavailable: codes.contains(Codes::UNAVAILABLE),
    }
}
