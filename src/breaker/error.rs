use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::blocked::{Blocked, Line};
use super::shared::Shared;
use super::snapshot::Tenths;
use crate::core::BoxError;
use crate::error::{Error, Fault};
use crate::verdict::{TransportError, TransportFailure};

/// Why a call through a breaker has no response.
///
/// One type whatever the service behind is, as tower's own layers have it, so that stacks of any errors compose. The
/// service's error is inside as it was: [`downcast`](Self::downcast) gets it back.
///
/// ```
/// use tower_mesh::breaker::BreakerError;
/// # fn retry_later(_: Option<tokio::time::Instant>) {}
///
/// fn on_error(error: BreakerError) -> Result<(), BreakerError> {
///     match error {
///         BreakerError::Open(refusal) => Ok(retry_later(refusal.retry_at())), // nothing was sent
///         error => match error.downcast::<std::io::Error>()? {
///             _their_own => Ok(()),
///         },
///     }
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BreakerError {
    /// The breaker is open: the service was not called.
    #[error(transparent)]
    Open(Refusal),
    /// The service's own error.
    #[error("the service behind the breaker failed")]
    Inner(#[source] BoxError),
}

/// What an open breaker says to who is refused.
#[derive(Clone)]
pub struct Refusal {
    shared: Arc<Shared>,
    blocked: Blocked,
    line: Line,
}

// === impl BreakerError ===

impl BreakerError {
    /// Whether the breaker refused the call, and the service has nothing to do with it.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Open(_))
    }

    /// When it makes sense to try again, where that is known.
    pub fn retry_at(&self) -> Option<Instant> {
        match self {
            Self::Open(refusal) => refusal.retry_at(),
            Self::Inner(_) => None,
        }
    }

    /// Finds one in an error's chain of sources.
    pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        crate::core::find_source(error)
    }

    /// The service's own error, if it is of this type.
    pub fn inner<E: StdError + 'static>(&self) -> Option<&E> {
        match self {
            Self::Open(_) => None,
            Self::Inner(inner) => inner.downcast_ref(),
        }
    }

    /// The service's own error by value.
    ///
    /// # Errors
    /// This error as it was, if it is a refusal or of another type.
    pub fn downcast<E: StdError + 'static>(self) -> Result<E, Self> {
        match self {
            Self::Open(_) => Err(self),
            Self::Inner(inner) => inner.downcast().map(|inner| *inner).map_err(Self::Inner),
        }
    }
}

/// Whether an error says nothing about the service: a refusal of ours further in, or the caller's own fault.
pub(super) fn is_neutral(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<Error>() {
            return error.is_local() || error.kind().fault() == Fault::Caller;
        }
        if let Some(BreakerError::Open(_)) = error.downcast_ref() {
            return true;
        }
        if let Some(error) = error.downcast_ref::<TransportError>() {
            return matches!(
                error.failure(),
                TransportFailure::RequestBody | TransportFailure::Request
            );
        }
        next = error.source();
    }
    false
}

// === impl Refusal ===

impl Refusal {
    pub(super) fn new(shared: Arc<Shared>, blocked: Blocked, line: Line) -> Self {
        Self {
            shared,
            blocked,
            line,
        }
    }

    /// Finds one in an error's chain of sources: a breaker's further in, too.
    pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(BreakerError::Open(refusal)) = error.downcast_ref() {
                return Some(refusal);
            }
            next = error.source();
        }
        None
    }

    /// The breaker's name.
    pub fn breaker(&self) -> &str {
        self.shared.name()
    }

    /// What it opened for: the last time, if it has closed and opened again since this refusal.
    // Looked up when asked for: most refusals are never read.
    pub fn why(&self) -> Cow<'static, str> {
        self.shared.evidence().why.clone()
    }

    /// When it opened; see [`why`](Self::why).
    pub fn opened_at(&self) -> Instant {
        self.shared.evidence().opened
    }

    /// When it lets a probe through. Unknown while a probe is out, and if it was opened by hand.
    pub fn retry_at(&self) -> Option<Instant> {
        self.blocked.gate.probe_due(self.shared.origin())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the breaker `{}` is open ({}) and the call was not made: ",
            self.breaker(),
            self.why()
        )?;
        match self.retry_at() {
            Some(at) => {
                let refused = self.shared.origin().instant(self.blocked.at);
                let wait = at.saturating_duration_since(refused);
                write!(f, "come back in {}", Tenths(wait))?;
            }
            None => f.write_str("come back later")?,
        }
        match self.line {
            Line::None => Ok(()),
            Line::InVain(time) => {
                let time = Duration::from_millis(time.into());
                write!(f, "; it waited for {}", Tenths(time))
            }
            Line::Full(callers) => write!(f, "; {callers} callers wait already"),
        }
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusal")
            .field("breaker", &self.breaker())
            .field("why", &self.why())
            .field("retry_at", &self.retry_at())
            .finish_non_exhaustive()
    }
}

impl StdError for Refusal {}
