use std::error::Error as StdError;
use std::sync::Arc;

use tokio::time::Instant;

use crate::core::BoxError;
use crate::endpoint::Endpoint;

/// Why a call through a [`Balance`](super::Balance) has no response.
///
/// One type whatever the services are, as tower's own layers have it. A service's own error is inside as it was:
/// [`downcast`](Self::downcast) gets it back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BalanceError {
    /// The endpoint's own error.
    #[error("endpoint {endpoint} failed")]
    Inner {
        /// The endpoint.
        endpoint: Endpoint,
        /// What its service said.
        source: BoxError,
    },
    /// No endpoint could serve for too long: nothing was sent.
    #[error("{balance} cannot serve: {why}")]
    Unavailable {
        /// The balance's name.
        balance: Arc<str>,
        /// Why not.
        why: String,
        /// When the next probe is due, where that is known.
        retry_at: Option<Instant>,
    },
    /// As many calls wait for an endpoint as may: nothing was sent.
    #[error("{capacity} calls wait for an endpoint of {balance}, which is all that may")]
    QueueFull {
        /// The balance's name.
        balance: Arc<str>,
        /// How many may wait.
        capacity: usize,
    },
}

// === impl BalanceError ===

impl BalanceError {
    /// Whether the call was refused here, and no endpoint has seen it.
    pub fn is_local(&self) -> bool {
        !matches!(self, Self::Inner { .. })
    }

    /// When it makes sense to try again, where that is known.
    pub fn retry_at(&self) -> Option<Instant> {
        match self {
            Self::Unavailable { retry_at, .. } => *retry_at,
            _ => None,
        }
    }

    /// The endpoint that failed.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Self::Inner { endpoint, .. } => Some(endpoint),
            _ => None,
        }
    }

    /// Finds one in an error's chain of sources.
    pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        crate::core::find_source(error)
    }

    /// The service's own error, if it is of this type.
    pub fn inner<E: StdError + 'static>(&self) -> Option<&E> {
        match self {
            Self::Inner { source, .. } => source.downcast_ref(),
            _ => None,
        }
    }

    /// The service's own error by value.
    ///
    /// # Errors
    /// This error as it was, if it is a refusal or of another type.
    pub fn downcast<E: StdError + 'static>(self) -> Result<E, Self> {
        match self {
            Self::Inner { endpoint, source } => source
                .downcast()
                .map(|inner| *inner)
                .map_err(|source| Self::Inner { endpoint, source }),
            refusal => Err(refusal),
        }
    }
}
