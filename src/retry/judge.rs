//! Whether an answer is worth another try: pure, told what came and what the policy says.

use std::time::Duration;

use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::hint::Hint;
use crate::error::ErrorKind;
use crate::policy::{Codes, Fidelity, Retry};
use crate::verdict::Sent;
use crate::verdict::grpc::{code_of_status, grpc_status};

/// What a request says of itself that decides whether it may be sent again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) retry: &'a Retry,
    pub(crate) fidelity: Fidelity,
    /// It may be processed twice: by its method, its `Idempotency-Key`, its protocol, or because its caller said so.
    pub(crate) repeatable: bool,
    pub(crate) grpc: bool,
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Attempted<'a> {
    /// A response, by its head. Of a gRPC response without a code there, this is not the last word if the policy retries
    /// codes: its trailers are.
    Head(StatusCode, &'a HeaderMap),
    /// The trailers of a gRPC response whose head had no code. None: it ended without any.
    Trailers(Option<&'a HeaderMap>),
    /// No response.
    Failed(&'a ErrorKind, Sent),
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It stands.
    Final,
    /// Try again, if something pays for it.
    Retry(Again),
    /// It would be tried again, were it safe.
    Unsafe,
    /// It would be tried again, but the endpoint asks not to.
    Stop,
}

/// How another try is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Again {
    /// The request provably reached nobody. Once, such a try does not count.
    pub(crate) untouched: bool,
    pub(crate) wait: Wait,
}

/// How long it waits first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The policy's backoff.
    Backoff,
    /// That, and at least as long as the endpoint asks to be left alone (`Retry-After`).
    AtLeast(Duration),
    /// As the endpoint says, neither more nor less (`grpc-retry-pushback-ms`).
    Exactly(Duration),
}

/// Judges by the policy.
///
/// | what came | mesh | extended |
/// |---|---|---|
/// | a status that the policy lists | again | again |
/// | a gRPC code that the policy lists, or an HTTP status that stands for one | by the code alone | again |
/// | `grpc-retry-pushback-ms` with either: negative or unreadable | again | stop |
/// | `Retry-After` of more than a minute with either | again | stop |
/// | refused unprocessed (`REFUSED_STREAM`, GOAWAY) | again | again |
/// | never sent (refused connection, closed before) | as the 502 or 504 it becomes | again |
/// | refused by fail-fast or a breaker within the leaf | again | again |
/// | no response head within a try's timeout | again | again if repeatable, else unsafe |
/// | broken before the response head | as the 502 it becomes | again if repeatable, else unsafe |
/// | anything else | final | final |
pub(crate) fn judge(rules: &Rules<'_>, attempted: Attempted<'_>) -> Judgement {
    let mesh = rules.fidelity == Fidelity::Mesh;
    let on = |status| rules.retry.status_ranges().contains(status);
    match attempted {
        Attempted::Head(status, headers) => {
            let code = rules.code_of_head(status, headers);
            let listed = on(status) || code.is_some_and(|code| rules.lists(code));
            rules.listed(listed, headers)
        }
        Attempted::Trailers(trailers) => {
            let empty = HeaderMap::new();
            let trailers = trailers.unwrap_or(&empty);
            let code = match grpc_status(trailers) {
                Some(Some(code)) => Some(code),
                // Difference::GrpcMissingStatus.
                Some(None) | None => (!mesh).then_some(Codes::UNKNOWN),
            };
            rules.listed(code.is_some_and(|code| rules.lists(code)), trailers)
        }
        Attempted::Failed(kind, sent) => match (kind, sent) {
            (ErrorKind::Refused, _) => UNTOUCHED,
            (
                ErrorKind::FailFast { .. }
                | ErrorKind::NoEndpoints { .. }
                | ErrorKind::BreakerOpen { .. },
                _,
            ) => AGAIN,
            // In the mesh a failed connection becomes a 502 or 504, and is retried as that.
            (ErrorKind::Connect, _) if mesh => by(on(StatusCode::BAD_GATEWAY)),
            (ErrorKind::ConnectTimeout, _) if mesh => by(on(StatusCode::GATEWAY_TIMEOUT)),
            (ErrorKind::Connect | ErrorKind::ConnectTimeout, _) => UNTOUCHED,
            (ErrorKind::Broken, _) if mesh => by(on(StatusCode::BAD_GATEWAY)),
            (ErrorKind::Broken, Sent::NotSent | Sent::Unprocessed) => UNTOUCHED,
            (ErrorKind::HeadersTimeout, _) if mesh => AGAIN,
            (ErrorKind::HeadersTimeout | ErrorKind::Broken, _) if rules.repeatable => AGAIN,
            (ErrorKind::HeadersTimeout | ErrorKind::Broken, _) => Judgement::Unsafe,
            _ => Judgement::Final,
        },
    }
}

const AGAIN: Judgement = Judgement::Retry(Again {
    untouched: false,
    wait: Wait::Backoff,
});

const UNTOUCHED: Judgement = Judgement::Retry(Again {
    untouched: true,
    wait: Wait::Backoff,
});

/// `Idempotency-Key`: its server sees to it that it is processed once.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Whether doing it twice is as good as once: by the method's definition (RFC 9110, section 9.2.2), or by its key.
pub(crate) fn is_idempotent(method: &Method, headers: &HeaderMap) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    ) || headers.contains_key(IDEMPOTENCY_KEY)
}

fn by(retryable: bool) -> Judgement {
    if retryable { AGAIN } else { Judgement::Final }
}

// === impl Rules ===

impl Rules<'_> {
    fn lists(&self, code: u16) -> bool {
        self.retry.codes().contains(code)
    }

    // The code of a gRPC response, if its head has one.
    fn code_of_head(&self, status: StatusCode, headers: &HeaderMap) -> Option<u16> {
        if !self.grpc {
            return None;
        }
        match grpc_status(headers) {
            Some(Some(code)) => Some(code),
            // Difference::GrpcMissingStatus.
            _ if self.fidelity == Fidelity::Mesh => None,
            Some(None) => Some(Codes::UNKNOWN),
            None if status != StatusCode::OK => Some(code_of_status(status)),
            None => None,
        }
    }

    // What the policy lists is retried for every method, unless the endpoint asks not to.
    fn listed(&self, listed: bool, headers: &HeaderMap) -> Judgement {
        // Difference::RetryHints.
        if !listed || self.fidelity == Fidelity::Mesh {
            return by(listed);
        }
        let wait = match Hint::read(headers, self.grpc) {
            Hint::Never => return Judgement::Stop,
            Hint::None => Wait::Backoff,
            Hint::AtLeast(wait) => Wait::AtLeast(wait),
            Hint::Exactly(wait) => Wait::Exactly(wait),
        };
        Judgement::Retry(Again {
            untouched: false,
            wait,
        })
    }
}
