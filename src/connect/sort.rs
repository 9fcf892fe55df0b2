//! What failed, and how far the request got: from the types of errors, never from their text.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::outgoing::Link;
use crate::core::{BoxError, find_source};
use crate::verdict::{Sent, TransportError, TransportFailure};

/// A dial that failed. Several requests may have waited for it, so it can be told more than once.
#[derive(Clone, Debug)]
pub(super) struct DialError {
    address: SocketAddr,
    failure: TransportFailure,
    source: Arc<BoxError>,
}

/// Why a transport is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoConnection {
    #[error("it was not usable within the connect timeout")]
    Timeout,
    #[error("the peer does not speak HTTP/2")]
    NotHttp2,
    #[error("the peer closed it before it spoke")]
    Closed,
    #[error("the task that made it is gone: its runtime was shut down, or its dialer panicked")]
    Abandoned,
}

// === impl DialError ===

impl DialError {
    pub(super) fn new(address: SocketAddr, source: impl Into<BoxError>) -> Self {
        let source = source.into();
        let error: &(dyn StdError + 'static) = &*source;
        let late = matches!(error.downcast_ref(), Some(NoConnection::Timeout));
        Self {
            address,
            failure: if late {
                TransportFailure::ConnectTimeout
            } else {
                connect_failure(error)
            },
            source: Arc::new(source),
        }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no connection to {}", self.address)
    }
}

impl StdError for DialError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&**self.source)
    }
}

impl From<DialError> for TransportError {
    fn from(error: DialError) -> Self {
        Self::new(error.failure, Sent::NotSent, error)
    }
}

fn connect_failure(error: &(dyn StdError + 'static)) -> TransportFailure {
    match find_source::<io::Error>(error) {
        Some(io) if io.kind() == io::ErrorKind::TimedOut => TransportFailure::ConnectTimeout,
        _ => TransportFailure::Connect,
    }
}

/// What one of tonic's channels says.
#[cfg(feature = "tonic")]
pub(super) fn sort_channel(error: tonic::transport::Error, link: Option<&Link>) -> TransportError {
    if let Some(fault) = link.and_then(Link::take_fault) {
        return TransportError::new(TransportFailure::RequestBody, Sent::Unknown, fault);
    }
    let (failure, sent) = if let Some(connect) = find_source::<tonic::ConnectError>(&error) {
        (connect_failure(connect), Sent::NotSent)
    } else if find_source::<tonic::TimeoutExpired>(&error).is_some() {
        (TransportFailure::Timeout, Sent::Unknown)
    } else if let Some(h2) = find_source::<h2::Error>(&error) {
        sort_h2(h2)
    } else if find_source::<hyper::Error>(&error).is_some_and(hyper::Error::is_canceled) {
        // It was in the line of a connection that closed.
        (TransportFailure::Broken, Sent::NotSent)
    } else {
        (TransportFailure::Broken, Sent::Unknown)
    };
    TransportError::new(failure, sent, error)
}

/// A request that hyper did not give back.
pub(super) fn sort(error: hyper::Error, link: Option<&Link>) -> TransportError {
    // First, because over HTTP/2 nothing else tells: the stream was reset, by us.
    if let Some(fault) = link.and_then(Link::take_fault) {
        return TransportError::new(TransportFailure::RequestBody, Sent::Unknown, fault);
    }
    let (failure, sent) = match find_source::<h2::Error>(&error) {
        Some(h2) => sort_h2(h2),
        // Shorter than its content-length said.
        None if error.is_body_write_aborted() => (TransportFailure::RequestBody, Sent::Unknown),
        None => (TransportFailure::Broken, Sent::Unknown),
    };
    TransportError::new(failure, sent, error)
}

fn sort_h2(error: &h2::Error) -> (TransportFailure, Sent) {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    if error.is_remote() && (refused || error.is_go_away()) {
        // h2 gives a GOAWAY to streams above its last, and to those it has not opened; those below its last end with the
        // connection, by an I/O error.
        return (TransportFailure::Refused, Sent::Unprocessed);
    }
    if error.reason().is_none() && !error.is_io() {
        // What is left is h2's refusal to send such a request at all.
        return (TransportFailure::Request, Sent::NotSent);
    }
    (TransportFailure::Broken, Sent::Unknown)
}
