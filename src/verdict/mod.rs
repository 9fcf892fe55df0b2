//! How an exchange ended, and who is told.
//!
//! A [`Verdict`] is *success*, *failure* or *neutral*; an [`Outcome`] is a verdict with what mechanisms need beside it.
//! Whatever is owed a verdict is a [`Ticket`]: it settles once, whatever happens to the exchange.
//!
//! You meet it in two places. Who judges responses, for a breaker of its own, uses a classifier of this room or writes a
//! closure. Who writes a leaf returns a [`TransportError`], so that retries know what may be sent again:
//!
//! ```
//! use http::{HeaderMap, StatusCode};
//! use tower_mesh::verdict::{HttpClassifier, Sent, TransportError, TransportFailure, Verdict};
//!
//! // 500 to 599 are failures, as in the mesh.
//! let outcome = HttpClassifier::default().judge(StatusCode::BAD_GATEWAY, &HeaderMap::new());
//! assert_eq!(outcome.verdict, Verdict::Failure);
//!
//! let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
//! let error = TransportError::new(TransportFailure::Connect, Sent::NotSent, refused);
//! assert_eq!(error.sent(), Sent::NotSent); // safe to repeat, whatever the request is
//! ```

mod classify;
pub mod grpc;
mod http;
mod ticket;
mod transport;

pub use self::classify::{Classified, ClassifyEos, ClassifyResponse};
pub use self::grpc::GrpcClassifier;
pub use self::http::HttpClassifier;
pub(crate) use self::http::{judge_head, retry_after};
pub use self::ticket::{Issuer, Note, Settle, Ticket};
pub use self::transport::{Sent, TransportError, TransportFailure};

use std::time::Duration;

/// How an exchange ended, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The endpoint did its work.
    Success,
    /// The endpoint failed.
    Failure,
    /// It says nothing about the endpoint: the caller left, its body broke, its deadline was already spent.
    Neutral,
}

/// A verdict, with what mechanisms need beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// The endpoint said that it is asked too often (429, RESOURCE_EXHAUSTED).
    pub rate_limited: bool,
    /// How long the endpoint asked to be left alone.
    pub retry_after: Option<Duration>,
    /// How long the response head took.
    pub took: Option<Duration>,
    /// How long its caller waited for a response head before it left.
    pub waited: Option<Duration>,
    /// How far the request got, where it got no response.
    pub sent: Option<Sent>,
}

// === impl Outcome ===

impl Outcome {
    /// Success, nothing more.
    pub const SUCCESS: Self = Self::new(Verdict::Success);
    /// Failure, nothing more.
    pub const FAILURE: Self = Self::new(Verdict::Failure);
    /// Neutral, nothing more.
    pub const NEUTRAL: Self = Self::new(Verdict::Neutral);

    /// A verdict, nothing more.
    pub const fn new(verdict: Verdict) -> Self {
        Self {
            verdict,
            rate_limited: false,
            retry_after: None,
            took: None,
            waited: None,
            sent: None,
        }
    }

    // A success, and nothing else that anybody counts.
    #[inline]
    pub(crate) fn is_plain_success(&self) -> bool {
        self.verdict == Verdict::Success && !self.rate_limited
    }

    /// Whether this is a failure.
    pub fn is_failure(&self) -> bool {
        self.verdict == Verdict::Failure
    }
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        Self::new(verdict)
    }
}
