use std::convert::Infallible;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

use super::{Classified, ClassifyEos, ClassifyResponse, Outcome, Verdict};
use crate::core::BoxError;
use crate::policy::StatusRanges;

/// Judges HTTP responses by their status.
///
/// The verdict stands at the response head; an error in the body can still turn it into a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpClassifier {
    failures: StatusRanges,
}

// === impl HttpClassifier ===

impl HttpClassifier {
    /// Failures are these statuses.
    pub fn new(failures: StatusRanges) -> Self {
        Self { failures }
    }

    /// What a response head says.
    pub fn judge(&self, status: StatusCode, headers: &HeaderMap) -> Outcome {
        judge_head(self.failures.contains(status), status, headers)
    }
}

/// What a response head says beside its being a failure or not.
pub(crate) fn judge_head(failed: bool, status: StatusCode, headers: &HeaderMap) -> Outcome {
    let mut outcome = Outcome::new(if failed {
        Verdict::Failure
    } else {
        Verdict::Success
    });
    outcome.rate_limited = status == StatusCode::TOO_MANY_REQUESTS;
    if outcome.rate_limited || status == StatusCode::SERVICE_UNAVAILABLE {
        outcome.retry_after = retry_after(headers);
    }
    outcome
}

/// How long `Retry-After` asks to leave the endpoint alone, in its form in seconds. A date would have to be compared with
/// the wall clock, which nothing here reads.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| value.parse().ok().map(Duration::from_secs))?
}

impl Default for HttpClassifier {
    /// 500 to 599, the mesh's.
    fn default() -> Self {
        Self::new(StatusRanges::server_errors())
    }
}

impl ClassifyResponse for HttpClassifier {
    type Eos = Infallible;

    fn classify_response(self, status: StatusCode, headers: &HeaderMap) -> Classified<Infallible> {
        Classified::Ready(self.judge(status, headers))
    }

    fn classify_error(self, _: &BoxError) -> Outcome {
        Outcome::FAILURE
    }
}

impl ClassifyEos for Infallible {
    fn classify_eos(self, _: Option<&HeaderMap>) -> Outcome {
        match self {}
    }

    fn classify_error(self, _: &BoxError) -> Outcome {
        match self {}
    }

    fn classify_drop(self) -> Outcome {
        match self {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn judge(status: u16) -> Outcome {
        let headers = [(http::header::RETRY_AFTER, "7".parse().unwrap())];
        let status = StatusCode::from_u16(status).unwrap();
        HttpClassifier::default().judge(status, &headers.into_iter().collect())
    }

    #[test]
    fn too_many_requests_is_rate_limited_and_no_failure() {
        for status in [200, 404, 428, 429, 430, 500, 502, 503, 504] {
            let outcome = judge(status);
            assert_eq!(outcome.is_failure(), status >= 500, "{status}");
            assert_eq!(outcome.rate_limited, status == 429, "{status}");
        }
    }

    #[test]
    fn when_to_come_back_is_heard_from_those_that_mean_it() {
        for status in [200, 301, 404, 429, 500, 502, 503, 504] {
            let hint = [429, 503]
                .contains(&status)
                .then_some(Duration::from_secs(7));
            assert_eq!(judge(status).retry_after, hint, "{status}");
        }
    }
}
