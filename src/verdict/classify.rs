use http::{HeaderMap, StatusCode};

use super::Outcome;
use crate::core::BoxError;

/// Judges a response by its head, if that is enough. Consumed, so that nothing is judged twice.
///
/// Implemented for HTTP statuses ([`HttpClassifier`](super::HttpClassifier)), gRPC ([`GrpcClassifier`](super::GrpcClassifier)), and closures
/// `FnOnce(StatusCode, &HeaderMap) -> Outcome`.
pub trait ClassifyResponse: Sized {
    /// The rest of the judgement.
    type Eos: ClassifyEos;

    /// What the head says.
    fn classify_response(self, status: StatusCode, headers: &HeaderMap) -> Classified<Self::Eos>;

    /// There is no response, but this.
    fn classify_error(self, error: &BoxError) -> Outcome;
}

/// Judges a response by its end.
pub trait ClassifyEos: Sized {
    /// The body ended, with or without trailers.
    fn classify_eos(self, trailers: Option<&HeaderMap>) -> Outcome;

    /// The body broke.
    fn classify_error(self, error: &BoxError) -> Outcome;

    /// The caller dropped the body before its end.
    fn classify_drop(self) -> Outcome;
}

/// How far a response head is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classified<E> {
    /// It is. An error of the body can still turn it into a failure.
    Ready(Outcome),
    /// The end will tell.
    AtEnd(E),
}

// === impl ClassifyResponse ===

impl<F> ClassifyResponse for F
where
    F: FnOnce(StatusCode, &HeaderMap) -> Outcome,
{
    type Eos = std::convert::Infallible;

    fn classify_response(self, status: StatusCode, headers: &HeaderMap) -> Classified<Self::Eos> {
        Classified::Ready(self(status, headers))
    }

    fn classify_error(self, _: &BoxError) -> Outcome {
        Outcome::FAILURE
    }
}
