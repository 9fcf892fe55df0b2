use http::header::MaxSizeReached;
use http::{HeaderMap, StatusCode, Uri};

use super::{PathMatched, redirect};
use crate::policy::{Filter, GrpcFilter, ModifyHeader, Ratio};

/// What a filter answers in place of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Filtered {
    /// The caller is sent elsewhere.
    #[non_exhaustive]
    Redirect {
        /// From 300 to 399.
        status: StatusCode,
        /// Where to: always with scheme and authority.
        location: Uri,
    },
    /// A failure made on purpose.
    #[non_exhaustive]
    Fail {
        /// The status that the policy gives.
        status: StatusCode,
        /// The policy's message.
        message: String,
    },
    /// A gRPC status made on purpose.
    #[non_exhaustive]
    FailGrpc {
        /// The code that the policy gives.
        code: u16,
        /// The policy's message.
        message: String,
    },
    /// The filter cannot be applied to this request. The mesh answers 500.
    Invalid(InvalidFilter),
}

/// Why a filter cannot be applied to a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidFilter {
    /// A redirect replaces the matched prefix, and the rule matched otherwise.
    #[error("a redirect replaces the matched path prefix, but the rule matched no prefix")]
    NoPrefixMatched,
    /// Neither the redirect nor the request names a host.
    #[error("a redirect names no host, and neither does the request")]
    NoHost,
    /// A redirect's host cannot be part of a URI.
    #[error("a redirect leads to {host:?}, which is not a host")]
    Host {
        /// The host, with the port if there was one.
        host: String,
    },
    /// A redirect's path cannot be part of a URI.
    #[error("a redirect leads to the path {path:?}, which is not an absolute path")]
    Path {
        /// The path.
        path: String,
    },
    /// A redirect's parts do not make a URI.
    #[error("a redirect's scheme, host and path make no URI")]
    Location,
    /// More headers were added than a request can hold.
    #[error("a filter adds more headers than a request can hold")]
    TooManyHeaders,
}

// === impl InvalidFilter ===

impl From<MaxSizeReached> for InvalidFilter {
    fn from(_: MaxSizeReached) -> Self {
        Self::TooManyHeaders
    }
}

// === filter ===

/// A filter that can be applied: a [`Filter`] of HTTP, or a [`GrpcFilter`]. There are no others.
pub trait Applies: sealed::Sealed {
    /// To a request.
    #[doc(hidden)]
    fn request(
        &self,
        uri: &Uri,
        headers: &mut HeaderMap,
        path: PathMatched,
        word: &mut dyn FnMut() -> u64,
    ) -> Result<(), Filtered>;

    /// To a response: its header changes, if it has any.
    #[doc(hidden)]
    fn response(&self) -> Option<&ModifyHeader>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for crate::policy::Filter {}
    impl Sealed for crate::policy::GrpcFilter {}
}

/// Applies the filters that concern a request, in order.
///
/// `path` is how the request [matched](super::Found::path). `word` is asked for one random word by each injected failure
/// that is reached, whatever its share.
///
/// # Errors
/// The answer that a filter gives in place of a backend. What earlier filters did to the headers stays done.
pub fn filter_request<F: Applies>(
    filters: &[F],
    uri: &Uri,
    headers: &mut HeaderMap,
    path: PathMatched,
    mut word: impl FnMut() -> u64,
) -> Result<(), Filtered> {
    filters
        .iter()
        .try_for_each(|filter| filter.request(uri, headers, path, &mut word))
}

/// Applies the filters that concern a response, in order.
///
/// A header for which there is no room (beyond some 30 000 of them) is left out: the response is worth more.
pub fn filter_response<F: Applies>(filters: &[F], headers: &mut HeaderMap) {
    for change in filters.iter().filter_map(Applies::response) {
        let _ = modify(change, headers);
    }
}

impl Applies for Filter {
    fn request(
        &self,
        uri: &Uri,
        headers: &mut HeaderMap,
        path: PathMatched,
        word: &mut dyn FnMut() -> u64,
    ) -> Result<(), Filtered> {
        match self {
            Self::InjectFailure(failure) if hit(failure.ratio(), word()) => Err(Filtered::Fail {
                status: failure.status(),
                message: failure.message().to_owned(),
            }),
            Self::Redirect(wanted) => {
                let location =
                    redirect::location(wanted, uri, headers, path).map_err(Filtered::Invalid)?;
                location.map_or(Ok(()), |location| {
                    Err(Filtered::Redirect {
                        status: wanted.status(),
                        location,
                    })
                })
            }
            Self::RequestHeaders(change) => modify_request(change, headers),
            Self::InjectFailure(_) | Self::ResponseHeaders(_) => Ok(()),
        }
    }

    fn response(&self) -> Option<&ModifyHeader> {
        match self {
            Self::ResponseHeaders(change) => Some(change),
            Self::InjectFailure(_) | Self::Redirect(_) | Self::RequestHeaders(_) => None,
        }
    }
}

impl Applies for GrpcFilter {
    fn request(
        &self,
        _: &Uri,
        headers: &mut HeaderMap,
        _: PathMatched,
        word: &mut dyn FnMut() -> u64,
    ) -> Result<(), Filtered> {
        match self {
            Self::InjectFailure(failure) if hit(failure.ratio(), word()) => {
                Err(Filtered::FailGrpc {
                    code: failure.code(),
                    message: failure.message().to_owned(),
                })
            }
            Self::RequestHeaders(change) => modify_request(change, headers),
            Self::InjectFailure(_) | Self::ResponseHeaders(_) => Ok(()),
        }
    }

    fn response(&self) -> Option<&ModifyHeader> {
        match self {
            Self::ResponseHeaders(change) => Some(change),
            Self::InjectFailure(_) | Self::RequestHeaders(_) => None,
        }
    }
}

fn modify_request(change: &ModifyHeader, headers: &mut HeaderMap) -> Result<(), Filtered> {
    modify(change, headers).map_err(|full| Filtered::Invalid(full.into()))
}

/// Whether this word is among the share: the words are cut into a million equal parts (but for one word in 2^44).
fn hit(share: Ratio, word: u64) -> bool {
    (u128::from(word) * 1_000_000) >> 64 < u128::from(share.ppm())
}

/// All of it, as far as there is room; fails if there was not enough.
fn modify(change: &ModifyHeader, headers: &mut HeaderMap) -> Result<(), MaxSizeReached> {
    let mut outcome = Ok(());
    for (name, value) in &change.add {
        outcome = outcome.and(headers.try_append(name, value.clone()).map(drop));
    }
    for (name, value) in &change.set {
        outcome = outcome.and(headers.try_insert(name, value.clone()).map(drop));
    }
    for name in &change.remove {
        headers.remove(name);
    }
    outcome
}
