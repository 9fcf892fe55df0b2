//! How long an endpoint asks to be left alone.

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;

use super::grpc::GRPC_RETRY_PUSHBACK_MS;

/// `Retry-After`, in the form in seconds. A date would have to be compared with the wall clock, which nothing here
/// reads.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| value.parse().ok().map(Duration::from_secs))?
}

/// `grpc-retry-pushback-ms`. Negative or unreadable is no hint how long to wait; what it means for retries is theirs.
pub(crate) fn pushback(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(GRPC_RETRY_PUSHBACK_MS)?.to_str().ok()?.trim();
    let millis: i32 = value.parse().ok()?;
    u64::try_from(millis).ok().map(Duration::from_millis)
}
