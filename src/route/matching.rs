use http::{HeaderMap, Method, Uri};

use super::places::{Class, Fnv, Key, Shape, Word, pattern_places, rpc_key};
use super::query;
use crate::policy::{
    Condition, MatchHeader, MatchHeaderValue, MatchPath, MatchQueryValue, MatchRequest, MatchRpc,
};

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

    /// Where it can stand in an index: in all places of one of these lists. `None` is a rule that asks for nothing.
    #[doc(hidden)]
    fn places(wanted: Option<&Self>) -> Vec<Vec<Key>>;

    /// The places where what is for this request can stand.
    #[doc(hidden)]
    fn keys(shape: &Shape, method: &Method, uri: &Uri, visit: &mut dyn FnMut(Key));

    /// What a request must have besides.
    #[doc(hidden)]
    fn asks(&self) -> Vec<Word<'_>>;

    /// How specific it is apart from its path, the first of these first.
    #[doc(hidden)]
    fn detail(wanted: Option<&Self>) -> (usize, usize, bool);
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

    fn rank(&self, method: &Method, uri: &Uri) -> Option<(PathMatched, RequestRank)> {
        let (matched, length) = path(self.path.as_ref(), method, uri.path())?;
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

    fn places(wanted: Option<&Self>) -> Vec<Vec<Key>> {
        let key = |class, text: &str| Key {
            class,
            length: text.len(),
            hash: Fnv::NEW.bytes(text.bytes()).hash(),
        };
        let key = match wanted.and_then(|wanted| wanted.path.as_ref()) {
            None => Key::of(Class::Anywhere),
            Some(MatchPath::Exact(path)) => key(Class::Exact, path),
            Some(MatchPath::Prefix(path)) => match path.trim_end_matches('/') {
                "" => Key::of(Class::Anywhere),
                path => key(Class::Prefix, path),
            },
            Some(MatchPath::Regex(pattern)) => return pattern_places(pattern),
            Some(MatchPath::Condition(condition)) => {
                let mut places = vec![vec![Key::of(Class::Pattern)]];
                condition.parts(&mut |part| {
                    if let Condition::Path(pattern) = part {
                        places.extend(pattern_places(pattern));
                    }
                });
                return places;
            }
        };
        vec![vec![key]]
    }

    fn keys(shape: &Shape, _: &Method, uri: &Uri, visit: &mut dyn FnMut(Key)) {
        shape.path(uri.path(), visit);
    }

    fn asks(&self) -> Vec<Word<'_>> {
        let mut words = header_words(&self.headers);
        for wanted in &self.query_params {
            if let MatchQueryValue::Exact(value) = &wanted.value {
                words.push(Word::Query(&wanted.name, value));
            }
        }
        words.extend(self.method.as_ref().map(Word::Method));
        if let Some(MatchPath::Condition(condition)) = &self.path {
            words.extend(condition.method().map(Word::Method));
        }
        words
    }

    fn detail(wanted: Option<&Self>) -> (usize, usize, bool) {
        wanted.map_or_else(Default::default, |wanted| {
            let (headers, query_params) = (wanted.headers.len(), wanted.query_params.len());
            (headers, query_params, wanted.method.is_some())
        })
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

    fn places(wanted: Option<&Self>) -> Vec<Vec<Key>> {
        let service = wanted.and_then(|wanted| wanted.service.as_deref());
        let method = wanted.and_then(|wanted| wanted.method.as_deref());
        vec![vec![rpc_key(service, method)]]
    }

    fn keys(shape: &Shape, _: &Method, uri: &Uri, visit: &mut dyn FnMut(Key)) {
        let path = uri.path().strip_prefix('/');
        let mut parts = path.into_iter().flat_map(|path| path.split('/'));
        match (parts.next(), parts.next()) {
            (Some(service), Some(method)) => shape.rpc(service, method, visit),
            _ => shape.whatever(visit),
        }
    }

    fn asks(&self) -> Vec<Word<'_>> {
        header_words(&self.headers)
    }

    fn detail(wanted: Option<&Self>) -> (usize, usize, bool) {
        let headers = wanted.map_or(0, |wanted| wanted.headers.len());
        (headers, 0, false)
    }
}

// === paths and headers ===

/// How this path matches, and the length that precedence counts.
fn path(wanted: Option<&MatchPath>, method: &Method, path: &str) -> Option<(PathMatched, usize)> {
    const ROOT: (PathMatched, usize) = (PathMatched::Prefix(1), 1);
    match wanted {
        None => Some(ROOT),
        Some(MatchPath::Exact(wanted)) => {
            (wanted == path).then_some((PathMatched::Exact, path.len()))
        }
        Some(MatchPath::Regex(wanted)) => wanted
            .matches(path)
            .then_some((PathMatched::Regex, path.len())),
        Some(MatchPath::Condition(wanted)) => wanted
            .matches(method, path)
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

fn header_words(headers: &[MatchHeader]) -> Vec<Word<'_>> {
    fn word(wanted: &MatchHeader) -> Word<'_> {
        match &wanted.value {
            MatchHeaderValue::Exact(value) => Word::Header(&wanted.name, value),
            MatchHeaderValue::Regex(_) => Word::HeaderName(&wanted.name),
        }
    }
    headers.iter().map(word).collect()
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
