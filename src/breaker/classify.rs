//! What a call's result says about the service.

use http::{HeaderMap, Response, StatusCode};

use crate::core::BoxError;
use crate::policy::{Codes, Fidelity};
use crate::verdict::grpc::{GrpcEos, is_grpc};
use crate::verdict::{Classified, ClassifyResponse, GrpcClassifier, Outcome, judge_head};

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
/// its head said. See [`settling_bodies`](super::BreakerLayer::settling_bodies) for more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerErrors;

/// Judges HTTP responses like [`ServerErrors`], and gRPC's, known by their content type, by their status, wherever it is:
/// in the head or in the trailers. See the table of [`GrpcClassifier`], column *extended*.
///
/// A body that breaks is a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpOrGrpc;

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

// === impl HttpOrGrpc ===

impl ClassifyResponse for HttpOrGrpc {
    type Eos = GrpcEos;

    fn classify_response(self, status: StatusCode, headers: &HeaderMap) -> Classified<GrpcEos> {
        if is_grpc(headers) {
            let grpc = GrpcClassifier::new(Codes::EXTENDED, Fidelity::Extended);
            return grpc.classify_response(status, headers);
        }
        Classified::Ready(judge_head(status.is_server_error(), status, headers))
    }

    fn classify_error(self, _: &BoxError) -> Outcome {
        Outcome::FAILURE
    }
}
