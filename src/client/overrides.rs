//! The `l5d-*` headers by which a request may override its route's timeouts and retries, where the policy allows it.
//!
//! The mesh's grammar, and its leniency: a duration that cannot be read is as if it were not there; in a list, what is
//! unknown is left out, so that a list of nothing known retries nothing. They are taken away before the request is sent.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use super::plan::RetryPlan;
use crate::budget::RetryBudget;
use crate::policy::{Codes, Retry, RetryBuilder, StatusRanges, Timeouts};

/// What a request's headers say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Overrides {
    request: Option<Duration>,
    response: Option<Duration>,
    limit: Option<u16>,
    try_timeout: Option<Duration>,
    statuses: Option<StatusRanges>,
    codes: Option<Codes>,
}

// === impl Overrides ===

impl Overrides {
    /// Reads them, and takes them away.
    pub(super) fn take(headers: &mut HeaderMap) -> Self {
        let mut take = |name: &str| headers.remove(name);
        let timeout = take("l5d-timeout");
        let request = take("l5d-request-timeout").as_ref().and_then(duration);
        Self {
            request: request.or(timeout.as_ref().and_then(duration)),
            response: take("l5d-response-timeout").as_ref().and_then(duration),
            limit: take("l5d-retry-limit").as_ref().and_then(limit),
            try_timeout: take("l5d-retry-timeout").as_ref().and_then(duration),
            statuses: take("l5d-retry-http").as_ref().and_then(statuses),
            codes: take("l5d-retry-grpc").as_ref().and_then(codes),
        }
    }

    pub(super) fn timeouts(&self, policy: Timeouts) -> Timeouts {
        Timeouts {
            request: self.request.or(policy.request),
            response: self.response.or(policy.response),
            idle: policy.idle,
        }
    }

    /// The route's retries as the headers change them. On a route without any, one such header asks for one retry.
    pub(super) fn retry(
        &self,
        policy: Option<Arc<RetryPlan>>,
        default_budget: Option<&RetryBudget>,
    ) -> Option<Arc<RetryPlan>> {
        let asked = self.limit.is_some()
            || self.try_timeout.is_some()
            || self.statuses.is_some()
            || self.codes.is_some();
        if !asked {
            return policy;
        }
        let (mut retry, budget) = match &policy {
            Some(plan) => (RetryBuilder::from(plan.retry.clone()), plan.budget.clone()),
            None => (Retry::never_on_status(), default_budget.cloned()),
        };
        if let Some(limit) = self.limit {
            retry = retry.limit(limit);
        }
        if let Some(timeout) = self.try_timeout {
            retry = retry.timeout(timeout);
        }
        if let Some(statuses) = &self.statuses {
            retry = retry.statuses(statuses);
        }
        if let Some(codes) = self.codes {
            retry = retry.codes(codes);
        }
        match retry.build() {
            Ok(retry) => Some(Arc::new(RetryPlan { retry, budget })),
            // Every part was valid by itself.
            Err(_) => policy,
        }
    }
}

/// What must hold of any headers; see [`fuzz`](crate::fuzz).
#[cfg(any(test, fuzzing))]
pub(crate) fn drive(mut headers: HeaderMap) {
    if let Some(value) = headers.get("grpc-timeout")
        && let Some(time) = crate::deadline::grpc_timeout::parse(value)
    {
        // What remains of it fits into a header again, and is not longer.
        let again = crate::deadline::grpc_timeout::format(time);
        let again = crate::deadline::grpc_timeout::parse(&again);
        assert!(again.is_some_and(|again| again <= time), "{value:?}");
    }
    let overrides = Overrides::take(&mut headers);
    for name in [
        "l5d-timeout",
        "l5d-request-timeout",
        "l5d-response-timeout",
        "l5d-retry-limit",
        "l5d-retry-timeout",
        "l5d-retry-http",
        "l5d-retry-grpc",
    ] {
        assert!(!headers.contains_key(name), "{name} is still there");
    }
    let idle = Some(Duration::from_secs(7));
    let timeouts = overrides.timeouts(Timeouts {
        idle,
        ..Timeouts::default()
    });
    assert_eq!(timeouts.idle, idle, "no header is for that");
    assert_eq!(timeouts.request, overrides.request);
    // The instant that it comes to does not overflow.
    let now = tokio::time::Instant::now();
    for limit in [timeouts.request, timeouts.response].into_iter().flatten() {
        assert!(crate::core::time::after(now, limit) >= now);
    }
    let retry = overrides.retry(None, None);
    let asked = overrides
        != Overrides {
            request: overrides.request,
            response: overrides.response,
            ..Overrides::default()
        };
    assert_eq!(retry.is_some(), asked);
    if let Some(plan) = retry {
        assert_eq!(plan.retry.max_retries(), overrides.limit.unwrap_or(1));
        for range in plan.retry.status_ranges().iter() {
            assert!(*range.start() >= 100 && range.end() <= &599);
        }
    }
}

// `^\d+(ms|s|m|h|d)$`, or a bare zero.
fn duration(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let count: u64 = count.parse().ok()?;
    count.checked_mul(millis).map(Duration::from_millis)
}

// The mesh has no ceiling; 65535 is one in name only.
fn limit(value: &HeaderValue) -> Option<u16> {
    let limit: u64 = value.to_str().ok()?.parse().ok()?;
    Some(u16::try_from(limit).unwrap_or(u16::MAX))
}

fn statuses(value: &HeaderValue) -> Option<StatusRanges> {
    let ranges = value.to_str().ok()?.split(',').filter_map(|part| {
        let (start, end) = match part {
            "5xx" => (500, 599),
            "gateway-error" => (502, 504),
            _ => match part.split_once('-') {
                Some((start, end)) => (start.parse().ok()?, end.parse().ok()?),
                None => {
                    let status = part.parse().ok()?;
                    (status, status)
                }
            },
        };
        (100 <= start && start <= end && end <= 599).then_some(start..=end)
    });
    StatusRanges::try_new(ranges).ok()
}

// Those that the mesh knows.
fn codes(value: &HeaderValue) -> Option<Codes> {
    let codes = value
        .to_str()
        .ok()?
        .split(',')
        .filter_map(|part| match part {
            "cancelled" => Some(Codes::CANCELLED),
            "deadline-exceeded" => Some(Codes::DEADLINE_EXCEEDED),
            "internal" => Some(Codes::INTERNAL),
            "resource-exhausted" => Some(Codes::RESOURCE_EXHAUSTED),
            "unavailable" => Some(Codes::UNAVAILABLE),
            _ => None,
        });
    Codes::of(codes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(headers: &[(&'static str, &'static str)]) -> (Overrides, HeaderMap) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_static(value));
        }
        (Overrides::take(&mut map), map)
    }

    #[test]
    fn they_are_read_and_taken_away() {
        let (overrides, rest) = take(&[
            ("l5d-timeout", "1s"),
            ("l5d-request-timeout", "250ms"),
            ("l5d-response-timeout", "0"),
            ("l5d-retry-limit", "99999"),
            ("l5d-retry-timeout", "1d"),
            ("l5d-retry-http", "gateway-error,nonsense,429, 500,599-500"),
            (
                "l5d-retry-grpc",
                "unavailable,not-found, internal,cancelled",
            ),
            ("x-other", "1"),
        ]);
        assert_eq!(overrides.request, Some(Duration::from_millis(250)));
        assert_eq!(overrides.response, Some(Duration::ZERO));
        assert_eq!(overrides.limit, Some(u16::MAX));
        assert_eq!(overrides.try_timeout, Some(Duration::from_secs(86_400)));
        let ranges: Vec<_> = overrides.statuses.unwrap().iter().collect();
        assert_eq!(
            ranges,
            [502..=504, 429..=429],
            "not trimmed, unknown skipped"
        );
        let codes = overrides.codes.unwrap().to_string();
        assert_eq!(codes, "CANCELLED, UNAVAILABLE", "not trimmed either");
        assert_eq!(rest.len(), 1);
    }

    #[test]
    fn what_cannot_be_read_is_not_there() {
        for bad in [
            "",
            "s",
            "1",
            "1.5s",
            "-1s",
            "1h30m",
            "1 s",
            "99999999999999999999s",
        ] {
            let (overrides, rest) = take(&[("l5d-timeout", bad), ("l5d-retry-limit", bad)]);
            assert_eq!(overrides.request, None, "{bad}");
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn retries_on_a_route_without_any() {
        let (overrides, _) = take(&[("l5d-retry-http", "garbage")]);
        let plan = overrides.retry(None, None).unwrap();
        assert_eq!(plan.retry.max_retries(), 1);
        assert!(plan.retry.status_ranges().is_empty());
        let (overrides, _) = take(&[("l5d-retry-grpc", "garbage")]);
        let plan = overrides.retry(None, None).unwrap();
        assert!(plan.retry.codes().is_empty());
        assert!(Overrides::default().retry(None, None).is_none());
        let policy = Arc::new(RetryPlan {
            retry: Retry::on(500..=500).limit(3).build().unwrap(),
            budget: None,
        });
        let (overrides, _) = take(&[("l5d-retry-timeout", "1s")]);
        let plan = overrides.retry(Some(policy), None).unwrap();
        assert_eq!(plan.retry.max_retries(), 3);
        assert_eq!(plan.retry.timeout(), Some(Duration::from_secs(1)));
        assert!(!plan.retry.status_ranges().is_empty());
    }
}
