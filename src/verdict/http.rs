use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

use super::{Outcome, Verdict};
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
        let verdict = if self.failures.contains(status) {
            Verdict::Failure
        } else {
            Verdict::Success
        };
        let rate_limited = status == StatusCode::TOO_MANY_REQUESTS;
        let hinted = rate_limited || status == StatusCode::SERVICE_UNAVAILABLE;
        Outcome {
            verdict,
            rate_limited,
            retry_after: hinted.then(|| retry_after(headers)).flatten(),
        }
    }
}

impl Default for HttpClassifier {
    /// 500 to 599, the mesh's.
    fn default() -> Self {
        Self::new(StatusRanges::server_errors())
    }
}

// Only the form in seconds: a date would have to be compared with the wall clock, which nothing here reads.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_by_status() {
        let judge = |status: u16, retry_after: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = retry_after {
                headers.insert(RETRY_AFTER, value.parse().unwrap());
            }
            let outcome =
                HttpClassifier::default().judge(StatusCode::from_u16(status).unwrap(), &headers);
            (outcome.verdict, outcome.rate_limited, outcome.retry_after)
        };
        let seconds = |s| Some(Duration::from_secs(s));
        assert_eq!(judge(200, None), (Verdict::Success, false, None));
        assert_eq!(judge(404, None), (Verdict::Success, false, None));
        assert_eq!(judge(500, Some("3")), (Verdict::Failure, false, None));
        assert_eq!(judge(599, None), (Verdict::Failure, false, None));
        assert_eq!(
            judge(429, Some(" 3 ")),
            (Verdict::Success, true, seconds(3))
        );
        assert_eq!(judge(503, Some("0")), (Verdict::Failure, false, seconds(0)));
        assert_eq!(judge(503, Some("-1")), (Verdict::Failure, false, None));
        assert_eq!(judge(503, Some("soon")), (Verdict::Failure, false, None));
    }
}
