use http::header::MaxSizeReached;
use http::{HeaderMap, StatusCode, Uri};

use super::{PathMatched, redirect};
use crate::policy::{Filter, ModifyHeader, Ratio};

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

/// Applies the filters that concern a request, in order.
///
/// `path` is how the request [matched](super::Found::path). `word` is asked for one random word by each
/// [`Filter::InjectFailure`] that is reached, whatever its share.
///
/// # Errors
/// The answer that a filter gives in place of a backend. What earlier filters did to the headers stays done.
pub fn filter_request(
    filters: &[Filter],
    uri: &Uri,
    headers: &mut HeaderMap,
    path: PathMatched,
    mut word: impl FnMut() -> u64,
) -> Result<(), Filtered> {
    for filter in filters {
        match filter {
            Filter::InjectFailure(failure) => {
                if hit(failure.ratio(), word()) {
                    return Err(Filtered::Fail {
                        status: failure.status(),
                        message: failure.message().to_owned(),
                    });
                }
            }
            Filter::Redirect(wanted) => {
                let location =
                    redirect::location(wanted, uri, headers, path).map_err(Filtered::Invalid)?;
                if let Some(location) = location {
                    return Err(Filtered::Redirect {
                        status: wanted.status(),
                        location,
                    });
                }
            }
            Filter::RequestHeaders(change) => {
                modify(change, headers).map_err(|full| Filtered::Invalid(full.into()))?;
            }
            Filter::ResponseHeaders(_) => {}
        }
    }
    Ok(())
}

/// Applies the filters that concern a response, in order.
///
/// A header for which there is no room (beyond some 30 000 of them) is left out: the response is worth more.
pub fn filter_response(filters: &[Filter], headers: &mut HeaderMap) {
    for filter in filters {
        match filter {
            Filter::ResponseHeaders(change) => {
                let _ = modify(change, headers);
            }
            Filter::InjectFailure(_) | Filter::Redirect(_) | Filter::RequestHeaders(_) => {}
        }
    }
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
