use http::{Method, Request, Response};

use crate::options::RequestOptions;

/// Which requests may be sent twice at once, and which answers end the race.
///
/// Implemented by [`ByMethod`] for HTTP. For anything else implement it for a type of your own.
pub trait HedgeWhen<Req, Res, E> {
    /// Whether a second attempt of this request does no harm.
    fn is_safe(&self, request: &Req) -> bool;

    /// Whether this is an answer, so that nobody needs to wait for the other attempt.
    fn wins(&self, result: &Result<Res, E>) -> bool;
}

/// HTTP: GET, HEAD, OPTIONS and TRACE are safe, and requests whose [`RequestOptions`] say that they are
/// [safe to repeat](RequestOptions::safe_to_repeat). Errors and statuses of 500 and above do not win.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByMethod;

/// Whether the method has no effect (RFC 9110, section 9.2.1).
pub(crate) fn is_safe(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
    )
}

// === impl ByMethod ===

impl<B, R, E> HedgeWhen<Request<B>, Response<R>, E> for ByMethod {
    fn is_safe(&self, request: &Request<B>) -> bool {
        let options = request.extensions().get::<RequestOptions>();
        let refuses = options.is_some_and(|options| options.max_retries == Some(0));
        let says_so = options.is_some_and(|options| options.safe_to_repeat);
        !refuses && (says_so || is_safe(request.method()))
    }

    fn wins(&self, result: &Result<Response<R>, E>) -> bool {
        matches!(result, Ok(response) if response.status().as_u16() < 500)
    }
}
