use http::{HeaderMap, Method, Uri};

use super::query;
use crate::policy::{MatchHeader, MatchHeaderValue, MatchPath, MatchRequest};

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

/// How this path matches, and the length that precedence counts.
pub(super) fn path(wanted: Option<&MatchPath>, path: &str) -> Option<(PathMatched, usize)> {
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

/// Everything but host and path.
pub(super) fn rest(wanted: &MatchRequest, method: &Method, uri: &Uri, headers: &HeaderMap) -> bool {
    wanted.method.as_ref().is_none_or(|wanted| wanted == method)
        && wanted.headers.iter().all(|wanted| header(wanted, headers))
        && wanted
            .query_params
            .iter()
            .all(|wanted| query::matches(wanted, uri.query()))
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
