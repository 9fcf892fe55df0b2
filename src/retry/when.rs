//! What a standalone retry layer asks about requests and results.

use std::error::Error as StdError;
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use tokio::time::Instant;

use super::judge::{Again, Attempted, Judgement, Rules, Wait, is_idempotent, judge};
use super::trailers::HeldEnd;
use crate::core::BoxError;
use crate::core::time::after;
use crate::deadline::earlier;
use crate::error::ErrorKind;
use crate::options::RequestOptions;
use crate::policy::{Fidelity, Retry};
use crate::verdict::grpc::{GRPC_PREVIOUS_RPC_ATTEMPTS, grpc_status, is_grpc};
use crate::verdict::{Sent, TransportError};

/// Which results are tried again, and what a layer needs to know of a request for that.
///
/// Implemented by [`ByPolicy`] for HTTP, and by closures over `&Result<T, E>` that return a `bool` or a [`Ruling`].
pub trait RetryWhen<Req, Res, E> {
    /// What the service fails with, in the end.
    type Error;

    /// Judges a result, and hands it on. `request` is what was kept for another try.
    fn judge(
        &self,
        retry: &Retry,
        request: &Req,
        result: Result<Res, E>,
    ) -> (Ruling, Result<Res, Self::Error>);

    /// Whether a result plainly is final, without a look at the request.
    fn stands(&self, _retry: &Retry, _result: &Result<Res, E>) -> bool {
        false
    }

    /// A result after which nothing can be tried again anyway: whether it was a success.
    fn last(&self, result: Result<Res, E>) -> (Ruling, Result<Res, Self::Error>);

    /// What one request, which is about to be sent, wants otherwise.
    fn asks(&self, _retry: &Retry, _request: &Req) -> Asks {
        Asks::default()
    }

    /// Is told the request before it is sent again, and how often it was sent.
    fn resend(&self, _request: &mut Req, _sent: u32) {}
}

/// What one request wants otherwise.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Asks {
    /// The most attempts after the first, instead of the policy's.
    pub max_retries: Option<u16>,
    /// When it is too late to try again.
    pub deadline: Option<Instant>,
    /// It must not be cut short by the timeout of a try: it cannot be repeated when nobody knows what became of it.
    pub no_repeat: bool,
}

/// What to do about a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruling {
    pub(super) judgement: Judgement,
    // If it is final: whether it earns, should it be `Ok`.
    pub(super) earns: bool,
}

/// HTTP by the [`Retry`] policy: its statuses and gRPC codes in response heads, and what leaves of this crate say of their
/// errors ([`TransportError`], [`Error`](crate::Error), [`BreakerError`](crate::breaker::BreakerError)). Any other error
/// is a broken connection, which is tried again if the request may be repeated.
///
/// As `Client` does, it heeds `Retry-After` and `grpc-retry-pushback-ms`, [`RequestOptions`] among a request's extensions
/// (limit, deadline, [`safe_to_repeat`](RequestOptions::safe_to_repeat)), and sends `grpc-previous-rpc-attempts`. The
/// response keeps its body, so codes in trailers come too late for it, unless [`TrailersLayer`](super::TrailersLayer) holds
/// the response back for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByPolicy;

// === impl Ruling ===

impl Ruling {
    /// It stands, and if it is `Ok`, it is a success.
    pub const FINAL: Self = Self {
        judgement: Judgement::Final,
        earns: true,
    };
    /// It stands, and is no success.
    pub const FAILED: Self = Self {
        judgement: Judgement::Final,
        earns: false,
    };
    /// Try again, after the policy's backoff.
    pub const AGAIN: Self = Self::again(Wait::Backoff);

    /// Try again, not before the policy's backoff nor before this.
    pub const fn again_after(wait: Duration) -> Self {
        Self::again(Wait::AtLeast(wait))
    }

    const fn again(wait: Wait) -> Self {
        Self {
            judgement: Judgement::Retry(Again {
                untouched: false,
                wait,
            }),
            earns: false,
        }
    }
}

impl From<bool> for Ruling {
    /// Whether to try again.
    fn from(again: bool) -> Self {
        if again { Self::AGAIN } else { Self::FINAL }
    }
}

// === impl RetryWhen ===

impl<Req, Res, E, F, V> RetryWhen<Req, Res, E> for F
where
    F: Fn(&Result<Res, E>) -> V,
    V: Into<Ruling>,
{
    type Error = E;

    fn judge(&self, _: &Retry, _: &Req, result: Result<Res, E>) -> (Ruling, Result<Res, E>) {
        (self(&result).into(), result)
    }

    fn last(&self, result: Result<Res, E>) -> (Ruling, Result<Res, E>) {
        (self(&result).into(), result)
    }
}

impl<B, R, E> RetryWhen<Request<B>, Response<R>, E> for ByPolicy
where
    E: Into<BoxError>,
{
    type Error = BoxError;

    fn judge(
        &self,
        retry: &Retry,
        request: &Request<B>,
        result: Result<Response<R>, E>,
    ) -> (Ruling, Result<Response<R>, BoxError>) {
        let result = result.map_err(Into::into);
        let rules = Rules {
            retry,
            fidelity: Fidelity::Extended,
            repeatable: repeatable(request),
            grpc: is_grpc(request.headers()),
        };
        let judgement = match &result {
            Ok(response) => judge(&rules, attempted(response)),
            Err(error) => {
                let (kind, sent) = sort(&**error);
                judge(&rules, Attempted::Failed(&kind, sent))
            }
        };
        let earns = result.as_ref().is_ok_and(succeeded);
        (Ruling { judgement, earns }, result)
    }

    fn stands(&self, retry: &Retry, result: &Result<Response<R>, E>) -> bool {
        let plain = |response: &Response<R>| {
            let status = response.status();
            status.is_success() && !retry.status_ranges().contains(status)
        };
        retry.codes().is_empty() && result.as_ref().is_ok_and(plain)
    }

    fn last(&self, result: Result<Response<R>, E>) -> (Ruling, Result<Response<R>, BoxError>) {
        let result = result.map_err(Into::into);
        let earns = result.as_ref().is_ok_and(succeeded);
        let judgement = Judgement::Final;
        (Ruling { judgement, earns }, result)
    }

    fn asks(&self, retry: &Retry, request: &Request<B>) -> Asks {
        let mut asks = Asks {
            no_repeat: retry.timeout().is_some() && !repeatable(request),
            ..Asks::default()
        };
        if let Some(options) = request.extensions().get::<RequestOptions>() {
            let timeout = options.timeout;
            let timeout = timeout.map(|timeout| after(Instant::now(), timeout));
            asks.deadline = earlier(options.deadline, timeout);
            asks.max_retries = options.max_retries;
        }
        asks
    }

    fn resend(&self, request: &mut Request<B>, sent: u32) {
        if is_grpc(request.headers()) {
            let headers = request.headers_mut();
            headers.insert(GRPC_PREVIOUS_RPC_ATTEMPTS, HeaderValue::from(sent));
        }
    }
}

fn repeatable<B>(request: &Request<B>) -> bool {
    let options = request.extensions().get::<RequestOptions>();
    is_idempotent(request.method(), request.headers())
        || options.is_some_and(|options| options.safe_to_repeat)
        || is_grpc(request.headers())
}

// By its head, or by its end, if it was held until then.
fn attempted<R>(response: &Response<R>) -> Attempted<'_> {
    match response.extensions().get::<HeldEnd>() {
        None => Attempted::Head(response.status(), response.headers()),
        Some(HeldEnd::Trailers(trailers)) => Attempted::Trailers(trailers.as_ref()),
        Some(HeldEnd::Broke) => Attempted::Failed(&ErrorKind::Broken, Sent::Unknown),
    }
}

fn succeeded<R>(response: &Response<R>) -> bool {
    match response.extensions().get::<HeldEnd>() {
        None => {}
        Some(HeldEnd::Trailers(Some(trailers))) => return grpc_status(trailers) == Some(Some(0)),
        Some(HeldEnd::Trailers(None) | HeldEnd::Broke) => return false,
    }
    !response.status().is_server_error()
        && matches!(grpc_status(response.headers()), None | Some(Some(0)))
}

// What an error says of itself, in the client's words.
fn sort(error: &(dyn StdError + 'static)) -> (ErrorKind, Sent) {
    let transport = TransportError::find(error);
    let sent = transport.map_or(Sent::Unknown, TransportError::sent);
    (ErrorKind::of(error), sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, grpc: Option<&str>) -> Response<()> {
        let response = Response::builder().status(status);
        let response = match grpc {
            Some(code) => response.header("grpc-status", code),
            None => response,
        };
        response.body(()).unwrap()
    }

    #[test]
    fn what_earns_is_no_error_of_the_server_in_either_language() {
        for (status, grpc, earns) in [
            (200, None, true),
            (404, None, true),
            (500, None, false),
            (200, Some("0"), true),
            (200, Some("14"), false),
            (200, Some("nonsense"), false),
            (500, Some("0"), false),
        ] {
            assert_eq!(
                succeeded(&response(status, grpc)),
                earns,
                "{status} {grpc:?}"
            );
        }
        // Where the end was waited for, it decides.
        let trailers = |code| response(200, Some(code)).headers().clone();
        for (end, earns) in [
            (HeldEnd::Trailers(Some(trailers("0"))), true),
            (HeldEnd::Trailers(Some(trailers("14"))), false),
            (HeldEnd::Trailers(None), false),
            (HeldEnd::Broke, false),
        ] {
            let mut held = response(200, None);
            held.extensions_mut().insert(end.clone());
            assert_eq!(succeeded(&held), earns, "{end:?}");
        }
    }

    #[test]
    fn what_plainly_stands_is_a_success_that_no_rule_could_mean() {
        let stands = |retry: &Retry, result: Result<Response<()>, BoxError>| {
            RetryWhen::<Request<()>, _, _>::stands(&ByPolicy, retry, &result)
        };
        let server_errors = Retry::on(500..=599).build().unwrap();
        let too_early = Retry::on(202..=202).build().unwrap();
        let codes = Retry::on_codes([14]).build().unwrap();
        for (retry, status, expected) in [
            (&server_errors, 200, true),
            (&server_errors, 204, true),
            (&server_errors, 404, false),
            (&server_errors, 503, false),
            (&too_early, 200, true),
            (&too_early, 202, false),
            (&codes, 200, false),
        ] {
            assert_eq!(
                stands(retry, Ok(response(status, None))),
                expected,
                "{status}"
            );
        }
        assert!(!stands(&server_errors, Err("gone".into())));
    }
}
