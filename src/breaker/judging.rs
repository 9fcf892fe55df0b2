//! When a response is judged: at its head, or at the end of its body.

use http::Response;

use super::classify::ClassifyResult;
use super::error::{BreakerError, is_neutral};
use super::passage::Passage;
use super::settling::SettlingBody;
use crate::core::BoxError;
use crate::verdict::{ClassifyResponse, Outcome};

/// When a breaker judges what comes back: [`AtHead`] or [`AtEnd`]. It says what the response becomes on the way.
pub trait Judging<C, T, E>: sealed::Sealed {
    /// What the caller gets.
    type Response;

    #[doc(hidden)]
    fn settle(
        result: Result<T, E>,
        passage: &mut Passage,
        classify: &C,
    ) -> Result<Self::Response, BreakerError>;
}

/// As soon as the response is there, which is passed on as it is. For any type of response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtHead {}

/// At the end of an HTTP response's body, which is [wrapped](SettlingBody) for that. See
/// [`BreakerLayer::settling_bodies`](super::BreakerLayer::settling_bodies).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEnd {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::AtHead {}
    impl Sealed for super::AtEnd {}
}

// === impl Judging ===

impl<C, T, E> Judging<C, T, E> for AtHead
where
    C: ClassifyResult<T, E>,
    E: Into<BoxError>,
{
    type Response = T;

    fn settle(
        result: Result<T, E>,
        passage: &mut Passage,
        classify: &C,
    ) -> Result<T, BreakerError> {
        let outcome = classify.classify_result(&result);
        match result {
            Ok(response) => {
                passage.settle(outcome);
                Ok(response)
            }
            Err(error) => Err(settle_error(error.into(), passage, |_| outcome)),
        }
    }
}

impl<C, B, E> Judging<C, Response<B>, E> for AtEnd
where
    C: ClassifyResponse + Clone,
    B: http_body::Body,
    E: Into<BoxError>,
{
    type Response = Response<SettlingBody<B, C::Eos>>;

    fn settle(
        result: Result<Response<B>, E>,
        passage: &mut Passage,
        classify: &C,
    ) -> Result<Self::Response, BreakerError> {
        let classify = classify.clone();
        match result {
            Ok(response) => {
                let (head, body) = response.into_parts();
                let said = classify.classify_response(head.status, &head.headers);
                let passage = std::mem::replace(passage, Passage::new(None));
                let body = SettlingBody::new(body, passage, said);
                Ok(Response::from_parts(head, body))
            }
            Err(error) => {
                let judge = |error: &BoxError| classify.classify_error(error);
                Err(settle_error(error.into(), passage, judge))
            }
        }
    }
}

fn settle_error(
    error: BoxError,
    passage: &mut Passage,
    judge: impl FnOnce(&BoxError) -> Outcome,
) -> BreakerError {
    if is_neutral(&*error) {
        passage.settle(Outcome::NEUTRAL);
    } else {
        passage.settle(judge(&error));
    }
    BreakerError::Inner(error)
}
