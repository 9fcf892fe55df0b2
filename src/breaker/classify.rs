//! What a call's result says about the service.

use http::Response;

use crate::verdict::{Outcome, judge_head};

/// Judges the result of a call, of any type.
///
/// Implemented by closures over `&Result<T, E>` that return a [`Verdict`](crate::Verdict) or an [`Outcome`], and by
/// [`ServerErrors`]. A breaker clones its classifier for each call: what is expensive to clone belongs in an `Arc`.
pub trait ClassifyResult<T, E> {
    /// What `result` says.
    fn classify_result(&self, result: &Result<T, E>) -> Outcome;
}

/// The mesh's judgement of HTTP: 500 to 599 and errors are failures; 429 is a rate limit.
///
/// By the head alone: the body is not wrapped, so that the response keeps its type, and a body that breaks counts as what
/// its head said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerErrors;

// === impl ClassifyResult ===

impl<T, E, F, V> ClassifyResult<T, E> for F
where
    F: Fn(&Result<T, E>) -> V,
    V: Into<Outcome>,
{
    fn classify_result(&self, result: &Result<T, E>) -> Outcome {
        self(result).into()
    }
}

impl<B, E> ClassifyResult<Response<B>, E> for ServerErrors {
    fn classify_result(&self, result: &Result<Response<B>, E>) -> Outcome {
        match result {
            Ok(response) => judge_head(
                response.status().is_server_error(),
                response.status(),
                response.headers(),
            ),
            Err(_) => Outcome::FAILURE,
        }
    }
}
