use std::error::Error as StdError;
use std::fmt;

use crate::core::{BoxError, find_source};

/// How far a request got before its connection failed it. What may be repeated depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sent {
    /// Not one byte of it left: there was no connection, or it closed first. Safe to repeat.
    NotSent,
    /// The peer says that it did not look at it: `REFUSED_STREAM`, or a GOAWAY above its last stream. Safe to repeat.
    Unprocessed,
    /// Some of it may have arrived and may have been processed.
    Unknown,
}

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportFailure {
    /// No connection could be made.
    Connect,
    /// No connection was made in time.
    ConnectTimeout,
    /// The peer refused the request unprocessed.
    Refused,
    /// The connection or stream broke.
    Broken,
    /// A limit in time of the leaf's own passed.
    Timeout,
    /// The caller's request body failed: nobody's fault here.
    RequestBody,
    /// The request cannot be sent as it is: nobody's fault but the caller's.
    Request,
}

/// A leaf's failure to get an answer, sorted.
///
/// A leaf returns this (or an error that has it in its chain of sources) so that retries and breakers know what
/// happened. Any other error is taken as [`Sent::Unknown`] and [`TransportFailure::Broken`].
#[derive(Debug)]
pub struct TransportError {
    failure: TransportFailure,
    sent: Sent,
    source: BoxError,
}

// === impl TransportError ===

impl TransportError {
    /// A failure and how far the request got.
    pub fn new(failure: TransportFailure, sent: Sent, source: impl Into<BoxError>) -> Self {
        Self {
            failure,
            sent,
            source: source.into(),
        }
    }

    /// What failed.
    pub fn failure(&self) -> TransportFailure {
        self.failure
    }

    /// How far the request got.
    pub fn sent(&self) -> Sent {
        self.sent
    }

    /// Finds one in an error's chain of sources.
    pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        find_source(error)
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.failure {
            TransportFailure::Connect => "could not connect",
            TransportFailure::ConnectTimeout => "connecting took too long",
            TransportFailure::Refused => "the peer refused the request unprocessed",
            TransportFailure::Broken => "the connection broke",
            TransportFailure::Timeout => "the leaf's own limit in time passed",
            TransportFailure::RequestBody => "the request's body failed",
            TransportFailure::Request => "the request cannot be sent as it is",
        })
    }
}

impl StdError for TransportError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.source)
    }
}
