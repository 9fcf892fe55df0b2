//! The one error of a client.
//!
//! An [`Error`] says by its [kind](ErrorKind) what happened, whether an endpoint has anything to do with it, and when it
//! makes sense to try again. Each kind has a stable name, the [fault](ErrorKind::fault) behind it, and the HTTP status and
//! gRPC code that say the same to who asked.
//!
//! ```
//! use tower_mesh::error::{ErrorKind, Fault};
//!
//! let full = ErrorKind::QueueFull { backend: "payments".to_owned(), capacity: 100 };
//! assert!(full.is_local(), "nothing was sent");
//! assert_eq!((full.name(), full.status().as_u16()), ("queue_full", 503));
//! assert_eq!(ErrorKind::RequestBody.fault(), Fault::Caller);
//! ```

mod kind;

use std::error::Error as StdError;
use std::fmt;
use std::net::SocketAddr;

use tokio::time::Instant;

pub use self::kind::{ErrorKind, Fault};

use crate::breaker::Refusal;
use crate::core::{BoxError, find_source};
#[cfg(feature = "hyper")]
use crate::verdict::grpc::code_of_reset;

/// Why a request got no answer.
///
/// [`kind`](Self::kind) says what happened; `source()` is the endpoint's own error, intact.
///
/// ```
/// # fn retry_later(_: Option<tokio::time::Instant>) {}
/// # fn f(result: Result<(), tower_mesh::Error>) -> Result<(), Box<dyn std::error::Error>> {
/// match result {
///     Ok(()) => {}
///     Err(e) if e.is_local() => retry_later(e.retry_at()), // refused here: fail-fast, line full, ...
///     Err(e) if e.is_deadline() => {}                      // ran out of time
///     Err(e) => return Err(e.into()),                      // the endpoint's own error
/// }
/// # Ok(())
/// # }
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    retry_at: Option<Instant>,
    endpoint: Option<SocketAddr>,
    attempts: u32,
    source: Option<BoxError>,
}

// === impl Error ===

impl Error {
    pub(crate) fn new(kind: ErrorKind) -> Self {
        Self(Box::new(Inner {
            kind,
            retry_at: None,
            endpoint: None,
            attempts: 0,
            source: None,
        }))
    }

    /// Sorts what a leaf returned.
    ///
    /// Another client's refusal stays what it is: no endpoint had anything to do with it.
    pub(crate) fn from_leaf(source: BoxError) -> Self {
        let mut error = Self::new(ErrorKind::of(&*source));
        let refusal = Self::find(&*source).filter(|error| error.is_local());
        error.0.retry_at = match refusal {
            Some(refusal) => refusal.retry_at(),
            None => Refusal::find(&*source).and_then(Refusal::retry_at),
        };
        error.0.source = Some(source);
        error
    }

    /// Finds one in an error's chain of sources.
    pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        find_source(error)
    }

    /// The same error, with another between it and its source.
    #[cfg(feature = "tonic")]
    pub(crate) fn between(mut self, put: impl FnOnce(Option<BoxError>) -> BoxError) -> Self {
        self.0.source = Some(put(self.0.source.take()));
        self
    }

    pub(crate) fn with_retry_at(mut self, at: Option<Instant>) -> Self {
        self.0.retry_at = at;
        self
    }

    pub(crate) fn with_endpoint(mut self, endpoint: SocketAddr) -> Self {
        self.0.endpoint = Some(endpoint);
        self
    }

    pub(crate) fn with_attempts(mut self, attempts: u32) -> Self {
        self.0.attempts = attempts;
        self
    }

    /// What happened.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The gRPC status code that says this: its kind's, but of a stream that was reset the one that its reason means, as the
    /// gRPC specification maps it.
    pub fn grpc_code(&self) -> u16 {
        let by_source = || {
            self.code_of_source()
                .filter(|_| self.0.kind == ErrorKind::Broken)
        };
        by_source().unwrap_or_else(|| self.0.kind.grpc_code())
    }

    #[cfg(feature = "hyper")]
    fn code_of_source(&self) -> Option<u16> {
        let source = self.source()?;
        if let Some(h2) = find_source::<h2::Error>(source) {
            let reason = h2.reason().filter(|_| h2.is_reset() && h2.is_remote())?;
            return Some(code_of_reset(reason.into()));
        }
        #[cfg(feature = "tonic")]
        if let Some(status) = find_source::<tonic::Status>(source)
            && !matches!(status.code(), tonic::Code::Ok | tonic::Code::Unknown)
        {
            return u16::try_from(i32::from(status.code())).ok();
        }
        None
    }

    #[cfg(not(feature = "hyper"))]
    fn code_of_source(&self) -> Option<u16> {
        None
    }

    /// What a gRPC status says: this, and the root of what the endpoint's own error says. A status that was sent has no
    /// sources that could say it.
    pub(crate) fn grpc_message(&self) -> String {
        let mut root = self.source().filter(|_| !self.is_local());
        while let Some(deeper) = root.and_then(StdError::source) {
            root = Some(deeper);
        }
        match root {
            Some(root) => format!("{self}: {root}"),
            None => self.to_string(),
        }
    }

    /// Whether this client refused the request, and no endpoint has anything to do with it.
    pub fn is_local(&self) -> bool {
        self.0.kind.is_local()
    }

    /// Whether a timeout or the request's deadline passed.
    pub fn is_deadline(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::RequestTimeout
                | ErrorKind::ResponseTimeout
                | ErrorKind::HeadersTimeout
                | ErrorKind::IdleTimeout
                | ErrorKind::LeafTimeout
        )
    }

    /// When it makes sense to try again, where that is known: the next probe of an ejected endpoint.
    pub fn retry_at(&self) -> Option<Instant> {
        self.0.retry_at
    }

    /// The endpoint of the last attempt.
    pub fn endpoint(&self) -> Option<SocketAddr> {
        self.0.endpoint
    }

    /// How many attempts were sent.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.kind.fmt(f)?;
        if let Some(endpoint) = self.0.endpoint {
            write!(f, " (endpoint {endpoint}, attempt {})", self.0.attempts)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("endpoint", &self.0.endpoint)
            .field("attempts", &self.0.attempts)
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
