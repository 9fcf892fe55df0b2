use std::error::Error as StdError;

use http::{StatusCode, Uri};

use super::Error;
use crate::breaker::Refusal;
use crate::policy::Codes;
use crate::verdict::grpc::{code_of_status, status_of_code};
use crate::verdict::{TransportError, TransportFailure};

/// What happened. The text of each says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No policy has arrived yet.
    #[error("no policy has arrived yet: wait with `Client::ready`, or look at the policy's source")]
    NoPolicy,
    /// No policy has arrived, and none will: its source has ended.
    #[error(
        "no policy has arrived, and none will: its source has ended; keep the sender of the watch for as long as the client"
    )]
    PolicyEnded,
    /// No route of the policy matches.
    #[error("no route of the policy matches the request: add one, or one that matches everything")]
    NoRoute,
    /// A filter of the policy answers with a redirect.
    #[error("the policy redirects the request to {location} ({status})")]
    Redirect {
        /// The status.
        status: StatusCode,
        /// Where to.
        location: Uri,
    },
    /// A filter of the policy answers with a failure.
    #[error("the policy fails the request on purpose: {message} ({status})")]
    FailureInjected {
        /// The status.
        status: StatusCode,
        /// Why.
        message: String,
    },
    /// A filter of the policy answers with a gRPC status.
    #[error("the policy fails the request on purpose: {message} ({})", Codes::name(*code))]
    StatusInjected {
        /// The code.
        code: u16,
        /// Why.
        message: String,
    },
    /// The policy's target is not spoken to in requests and responses.
    #[error(
        "the policy says that the target speaks {protocol}, which this client does not carry: connect to it yourself, or give \
         its port an appProtocol"
    )]
    NotCarried {
        /// What it speaks.
        protocol: &'static str,
    },
    /// A filter of the policy cannot be applied.
    #[error("a filter of the policy cannot be applied to the request: {0}")]
    InvalidFilter(String),
    /// The route has no backend.
    #[error("the route has no backend: give its rule one")]
    NoBackend,
    /// The backend has been unable to serve for longer than its fail-fast timeout, or will be before the request's time is
    /// up.
    #[error("no endpoint of backend {backend} can serve: {why}")]
    FailFast {
        /// The backend.
        backend: String,
        /// What its endpoints are doing.
        why: String,
    },
    /// Whoever knows the backend's endpoints says that there are none.
    #[error("backend {backend} has no endpoints: {why}")]
    NoEndpoints {
        /// The backend.
        backend: String,
        /// What its endpoint source says: that there are none, or that the backend does not exist.
        why: &'static str,
    },
    /// As many requests wait as the backend's queue holds.
    #[error(
        "the line of backend {backend} is full ({capacity} wait): send less, or raise its queue's capacity"
    )]
    QueueFull {
        /// The backend.
        backend: String,
        /// The queue's capacity.
        capacity: usize,
    },
    /// A breaker of the leaf's own, [`BreakerService`](crate::breaker::BreakerService), is open.
    #[error(
        "the breaker `{breaker}` is open ({why}) and the call was not made: come back at `retry_at`, or force it closed"
    )]
    BreakerOpen {
        /// The breaker's name.
        breaker: String,
        /// What it opened for.
        why: String,
    },
    /// The client is closed.
    #[error("the client is closed: `Client::close` was called")]
    Closed,
    /// The request's deadline passed, wherever the request was.
    #[error("the request's deadline passed: look at what it waited for, or give it more time")]
    RequestTimeout,
    /// The response did not end in time after the request was sent.
    #[error(
        "the response did not end within the policy's response timeout: look at the endpoint, or raise the timeout"
    )]
    ResponseTimeout,
    /// The response did not begin within the time of one try.
    #[error(
        "the response did not begin within the policy's timeout for one try: look at the endpoint, or raise the timeout"
    )]
    HeadersTimeout,
    /// A limit in time of the leaf's own passed before the response began.
    #[error(
        "the response did not begin within the leaf's own limit in time: look at the endpoint, or leave limits to the policy"
    )]
    LeafTimeout,
    /// Nothing moved in either direction for as long as the policy allows.
    #[error(
        "nothing was sent or received for the policy's idle timeout: look at who was silent, or raise the timeout"
    )]
    IdleTimeout,
    /// The endpoint's answer to a gRPC request is not gRPC.
    #[error(
        "the endpoint answered a gRPC request with something else (HTTP {status}): is it a proxy's page?"
    )]
    NotGrpc {
        /// The status of the answer.
        status: StatusCode,
    },
    /// The endpoint's answer to a gRPC request ended without a status.
    #[error(
        "the endpoint ended its answer without a gRPC status: it was cut short, or its trailers were lost on the way; look at \
         what lies between"
    )]
    Truncated,
    /// No connection could be made.
    #[error(
        "could not connect to the endpoint: check that it runs and that its address is right; the source says more"
    )]
    Connect,
    /// No connection was made in time.
    #[error(
        "connecting to the endpoint took too long: check that its address can be reached, or raise the connect timeout"
    )]
    ConnectTimeout,
    /// The endpoint refused the request without looking at it.
    #[error(
        "the endpoint refused the request unprocessed: it is shutting down or has too much to do; trying again is safe"
    )]
    Refused,
    /// The connection broke; the request may have been processed.
    #[error(
        "the connection to the endpoint broke: the request may have been processed; the source says more"
    )]
    Broken,
    /// The request's own body failed.
    #[error(
        "the request's own body failed: no fault of the endpoint's; look at where the body comes from"
    )]
    RequestBody,
    /// The request cannot be sent as it is.
    #[error(
        "the request cannot be sent as it is: its URI, version or headers do not fit; the source says more"
    )]
    InvalidRequest,
}

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The caller's: its request, its body, its use of the client.
    Caller,
    /// The policy's, or of who should have supplied it: it says to refuse, or says nothing.
    Policy,
    /// Nobody's: there is more to do than can be done.
    Load,
    /// The endpoints', or of what lies between.
    Endpoint,
}

// === impl ErrorKind ===

impl ErrorKind {
    /// What a leaf's error is.
    pub(crate) fn of(source: &(dyn StdError + 'static)) -> Self {
        if let Some(refusal) = Error::find(source).filter(|error| error.is_local()) {
            return refusal.kind().clone();
        }
        if let Some(refusal) = Refusal::find(source) {
            return Self::BreakerOpen {
                breaker: refusal.breaker().into(),
                why: refusal.why().into(),
            };
        }
        let failure =
            TransportError::find(source).map_or(TransportFailure::Broken, TransportError::failure);
        match failure {
            TransportFailure::Connect => Self::Connect,
            TransportFailure::ConnectTimeout => Self::ConnectTimeout,
            TransportFailure::Refused => Self::Refused,
            TransportFailure::Broken => Self::Broken,
            TransportFailure::Timeout => Self::LeafTimeout,
            TransportFailure::RequestBody => Self::RequestBody,
            TransportFailure::Request => Self::InvalidRequest,
        }
    }

    /// Whether a client refuses a request with this, and no endpoint has anything to do with it.
    pub fn is_local(&self) -> bool {
        matches!(
            self,
            Self::NoPolicy
                | Self::PolicyEnded
                | Self::NoRoute
                | Self::Redirect { .. }
                | Self::FailureInjected { .. }
                | Self::StatusInjected { .. }
                | Self::NotCarried { .. }
                | Self::InvalidFilter(_)
                | Self::NoBackend
                | Self::FailFast { .. }
                | Self::NoEndpoints { .. }
                | Self::QueueFull { .. }
                | Self::BreakerOpen { .. }
                | Self::Closed
        )
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::NoPolicy
            | Self::PolicyEnded
            | Self::NoRoute
            | Self::Redirect { .. }
            | Self::FailureInjected { .. }
            | Self::StatusInjected { .. }
            | Self::NotCarried { .. }
            | Self::InvalidFilter(_)
            | Self::NoBackend => Fault::Policy,
            Self::RequestBody | Self::InvalidRequest | Self::Closed => Fault::Caller,
            Self::QueueFull { .. } => Fault::Load,
            Self::FailFast { .. }
            | Self::NoEndpoints { .. }
            | Self::BreakerOpen { .. }
            | Self::RequestTimeout
            | Self::ResponseTimeout
            | Self::HeadersTimeout
            | Self::IdleTimeout
            | Self::LeafTimeout
            | Self::NotGrpc { .. }
            | Self::Truncated
            | Self::Connect
            | Self::ConnectTimeout
            | Self::Refused
            | Self::Broken => Fault::Endpoint,
        }
    }

    /// The HTTP status that says this to those who can only be told by a response.
    ///
    /// | kind | HTTP | gRPC |
    /// |---|---|---|
    /// | `NoPolicy`, `PolicyEnded`, `NoBackend`, `FailFast`, `NoEndpoints`, `BreakerOpen`, `Closed`, `Refused` | 503 | UNAVAILABLE |
    /// | `QueueFull` | 503 | RESOURCE_EXHAUSTED |
    /// | `NoRoute` | 404 | NOT_FOUND |
    /// | `Redirect` | as configured, with `location` | NOT_FOUND |
    /// | `FailureInjected` | as configured | by the HTTP status, as the gRPC specification maps it, but INTERNAL for its UNKNOWN |
    /// | `StatusInjected` | by the code: 499 for 1; 400 for 3, 9, 11; 504 for 4; 404 for 5; 409 for 6, 10; 403 for 7; 429 for 8; 501 for 12; 503 for 14; 401 for 16; else 500 | as configured |
    /// | `NotCarried` | 501 | UNIMPLEMENTED |
    /// | `InvalidFilter` | 500 | INTERNAL |
    /// | `RequestTimeout`, `ResponseTimeout`, `HeadersTimeout`, `IdleTimeout`, `LeafTimeout` | 504 | DEADLINE_EXCEEDED |
    /// | `ConnectTimeout` | 504 | UNAVAILABLE |
    /// | `Connect`, `Broken` | 502 | UNAVAILABLE |
    /// | `NotGrpc` | 502 | by the HTTP status, as the gRPC specification maps it |
    /// | `Truncated` | 502 | INTERNAL |
    /// | `RequestBody` | 400 | CANCELLED |
    /// | `InvalidRequest` | 400 | INTERNAL |
    ///
    /// A connection that broke by an HTTP/2 reset says more: see [`Error::grpc_code`].
    ///
    /// The mesh's own mapping, but for these: it says FAILED_PRECONDITION of any injected HTTP failure, answers a fail-fast with 504, says INTERNAL of a deadline that passes in
    /// a body, and DEADLINE_EXCEEDED where a connection took too long, although the request's own time is not up and it
    /// was never sent.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoPolicy
            | Self::PolicyEnded
            | Self::NoBackend
            | Self::FailFast { .. }
            | Self::NoEndpoints { .. }
            | Self::QueueFull { .. }
            | Self::BreakerOpen { .. }
            | Self::Closed
            | Self::Refused => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::StatusInjected { code, .. } => status_of_code(*code),
            Self::NotCarried { .. } => StatusCode::NOT_IMPLEMENTED,
            Self::Redirect { status, .. } | Self::FailureInjected { status, .. } => *status,
            Self::InvalidFilter(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::RequestTimeout
            | Self::ResponseTimeout
            | Self::HeadersTimeout
            | Self::IdleTimeout
            | Self::LeafTimeout
            | Self::ConnectTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Connect | Self::Broken | Self::NotGrpc { .. } | Self::Truncated => {
                StatusCode::BAD_GATEWAY
            }
            Self::RequestBody | Self::InvalidRequest => StatusCode::BAD_REQUEST,
        }
    }

    /// The gRPC status code that says this; the table is at [`status`](Self::status).
    pub fn grpc_code(&self) -> u16 {
        match self {
            Self::NoPolicy
            | Self::PolicyEnded
            | Self::NoBackend
            | Self::FailFast { .. }
            | Self::NoEndpoints { .. }
            | Self::BreakerOpen { .. }
            | Self::Closed
            | Self::Refused
            | Self::ConnectTimeout
            | Self::Connect
            | Self::Broken => Codes::UNAVAILABLE,
            Self::QueueFull { .. } => Codes::RESOURCE_EXHAUSTED,
            Self::NoRoute | Self::Redirect { .. } => Codes::NOT_FOUND,
            Self::FailureInjected { status, .. } => match code_of_status(*status) {
                // Who made it knows.
                Codes::UNKNOWN => Codes::INTERNAL,
                code => code,
            },
            Self::NotGrpc { status } => code_of_status(*status),
            Self::StatusInjected { code, .. } => *code,
            Self::NotCarried { .. } => Codes::UNIMPLEMENTED,
            Self::InvalidFilter(_) | Self::InvalidRequest | Self::Truncated => Codes::INTERNAL,
            Self::RequestTimeout
            | Self::ResponseTimeout
            | Self::HeadersTimeout
            | Self::IdleTimeout
            | Self::LeafTimeout => Codes::DEADLINE_EXCEEDED,
            Self::RequestBody => Codes::CANCELLED,
        }
    }

    /// A stable name, in snake case.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoPolicy => "no_policy",
            Self::PolicyEnded => "policy_ended",
            Self::NoRoute => "no_route",
            Self::Redirect { .. } => "redirect",
            Self::FailureInjected { .. } => "failure_injected",
            Self::StatusInjected { .. } => "status_injected",
            Self::NotCarried { .. } => "not_carried",
            Self::InvalidFilter(_) => "invalid_filter",
            Self::NoBackend => "no_backend",
            Self::FailFast { .. } => "fail_fast",
            Self::NoEndpoints { .. } => "no_endpoints",
            Self::QueueFull { .. } => "queue_full",
            Self::BreakerOpen { .. } => "breaker_open",
            Self::Closed => "closed",
            Self::RequestTimeout => "request_timeout",
            Self::ResponseTimeout => "response_timeout",
            Self::HeadersTimeout => "headers_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::LeafTimeout => "leaf_timeout",
            Self::NotGrpc { .. } => "not_grpc",
            Self::Truncated => "truncated",
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::Refused => "refused",
            Self::Broken => "broken",
            Self::RequestBody => "request_body",
            Self::InvalidRequest => "invalid_request",
        }
    }
}
