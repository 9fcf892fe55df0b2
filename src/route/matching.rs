use http::{HeaderMap, Method, Uri};

use super::query;
use crate::policy::{MatchHeader, MatchHeaderValue, MatchPath, MatchRequest, MatchRpc};

/// How the path of a request matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathMatched {
    /// The whole path, literally.
    Exact,
    /// So many bytes at its beginning. A match that says nothing about the path matches `/`: one byte.
    Prefix(usize),
    /// The whole path, by a pattern.
    Regex,
}

/// What a rule can ask of a request: [`MatchRequest`] of any, [`MatchRpc`] of a gRPC call. There are no others.
pub trait Match: sealed::Sealed {
    /// How specific a match is, beside its host.
    #[doc(hidden)]
    type Rank: Copy + Ord;

    /// Of a rule that asks for nothing.
    #[doc(hidden)]
    const WHATEVER: (PathMatched, Self::Rank);

    /// Whether the cheap part matches, and how specific all of it is.
    #[doc(hidden)]
    fn rank(&self, method: &Method, uri: &Uri) -> Option<(PathMatched, Self::Rank)>;

    /// Whether the rest of it matches.
    #[doc(hidden)]
    fn rest(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> bool;
}

/// The order of the fields is the order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestRank {
    path: usize,
    headers: usize,
    query_params: usize,
    method: bool,
}

/// The same for gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RpcRank {
    service: usize,
    method: usize,
    headers: usize,
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for crate::policy::MatchRequest {}
    impl Sealed for crate::policy::MatchRpc {}
}

// === impl Match ===

impl Match for MatchRequest {
    type Rank = RequestRank;

    const WHATEVER: (PathMatched, RequestRank) = (
        PathMatched::Prefix(1),
        RequestRank {
            path: 1,
            headers: 0,
            query_params: 0,
            method: false,
        },
    );

    fn rank(&self, _: &Method, uri: &Uri) -> Option<(PathMatched, RequestRank)> {
        let (matched, length) = path(self.path.as_ref(), uri.path())?;
        let rank = RequestRank {
            path: length,
            headers: self.headers.len(),
            query_params: self.query_params.len(),
            method: self.method.is_some(),
        };
        Some((matched, rank))
    }

    fn rest(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> bool {
        self.method.as_ref().is_none_or(|wanted| wanted == method)
            && self.headers.iter().all(|wanted| header(wanted, headers))
            && self
                .query_params
                .iter()
                .all(|wanted| query::matches(wanted, uri.query()))
    }
}

impl Match for MatchRpc {
    type Rank = RpcRank;

    const WHATEVER: (PathMatched, RpcRank) = (
        PathMatched::Prefix(1),
        RpcRank {
            service: 0,
            method: 0,
            headers: 0,
        },
    );

    fn rank(&self, method: &Method, uri: &Uri) -> Option<(PathMatched, RpcRank)> {
        if *method != Method::POST {
            return None;
        }
        // `/service/method`; the mesh does not look at what comes after.
        let mut parts = uri.path().strip_prefix('/')?.split('/');
        let length = |wanted: Option<&String>, part: &str| match wanted {
            Some(wanted) => (wanted == part).then_some(part.len()),
            None => Some(0),
        };
        let service = length(self.service.as_ref(), parts.next()?)?;
        let method = length(self.method.as_ref(), parts.next()?)?;
        let rank = RpcRank {
            service,
            method,
            headers: self.headers.len(),
        };
        Some((PathMatched::Exact, rank))
    }

    fn rest(&self, _: &Method, _: &Uri, headers: &HeaderMap) -> bool {
        self.headers.iter().all(|wanted| header(wanted, headers))
    }
}

// === paths and headers ===

/// How this path matches, and the length that precedence counts.
fn path(wanted: Option<&MatchPath>, path: &str) -> Option<(PathMatched, usize)> {
    const ROOT: (PathMatched, usize) = (PathMatched::Prefix(1), 1);
    match wanted {
        None => Some(ROOT),
        Some(MatchPath::Exact(wanted)) => {
            (wanted == path).then_some((PathMatched::Exact, path.len()))
        }
        Some(MatchPath::Regex(wanted)) => wanted
            .matches(path)
            .then_some((PathMatched::Regex, path.len())),
        Some(MatchPath::Prefix(wanted)) => {
            let wanted = wanted.trim_end_matches('/');
            if wanted.is_empty() {
                return Some(ROOT);
            }
            let below = path.strip_prefix(wanted)?;
            // `/foo` is no prefix of `/foobar`.
            (below.is_empty() || below.starts_with('/'))
                .then_some((PathMatched::Prefix(wanted.len()), wanted.len()))
        }
    }
}

/// Any of a header's values will do. A value that is not UTF-8 matches no pattern.
fn header(wanted: &MatchHeader, headers: &HeaderMap) -> bool {
    headers
        .get_all(&wanted.name)
        .iter()
        .any(|value| match &wanted.value {
            MatchHeaderValue::Exact(wanted) => wanted == value,
            MatchHeaderValue::Regex(pattern) => {
                std::str::from_utf8(value.as_bytes()).is_ok_and(|value| pattern.matches(value))
            }
        })
}
