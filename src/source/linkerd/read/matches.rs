use http::{HeaderName, HeaderValue, Method};
use linkerd2_proxy_api::{grpc_route, http_route, http_types, tls_route};

use super::super::family::Read;
use super::super::problem::{At, Effect, Problems};
use crate::policy::{
    MatchHeader, MatchHeaderValue, MatchHost, MatchPath, MatchQueryParam, MatchQueryValue,
    MatchRequest, MatchRpc, Pattern,
};

/// Whether a match is what the message says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum How {
    Read,
    /// A part of it is not known. In its place stands what matches anything and counts as much, so that what the match was
    /// for is within what it has become.
    Within,
    /// No request is like that.
    Never,
}

/// What matches anything.
fn anything() -> Option<Pattern> {
    Pattern::new("(?s).*").ok()
}

impl How {
    fn of<M>(self, matched: M) -> Read<M> {
        match self {
            Self::Read => Read::Is(matched),
            Self::Within => Read::Within(matched),
            Self::Never => Read::Never,
        }
    }

    fn and(&mut self, other: Self) {
        *self = (*self).max(other);
    }
}

pub(super) fn host(wire: http_route::HostMatch) -> Option<MatchHost> {
    use http_route::host_match::Match;
    Some(match wire.r#match? {
        Match::Exact(host) => MatchHost::Exact(host),
        Match::Suffix(suffix) => MatchHost::Suffix {
            reverse_labels: suffix.reverse_labels,
        },
    })
}

pub(super) fn sni(wire: tls_route::SniMatch) -> Option<MatchHost> {
    use tls_route::sni_match::Match;
    Some(match wire.r#match? {
        Match::Exact(host) => MatchHost::Exact(host),
        Match::Suffix(suffix) => MatchHost::Suffix {
            reverse_labels: suffix.reverse_labels,
        },
    })
}

pub(in super::super) fn http_match(
    problems: &mut Problems,
    at: &At<'_>,
    wire: http_route::HttpRouteMatch,
) -> Read<MatchRequest> {
    let mut how = How::Read;
    let path = wire
        .path
        .and_then(|wire| path(problems, &at.field("path"), wire, &mut how));
    let headers = headers(problems, at, wire.headers, &mut how);
    let query = wire.query_params.into_iter().enumerate();
    let query = query
        .filter_map(|(n, wire)| query_param(problems, &at.item("query_params", n), wire, &mut how));
    let query_params = query.collect();
    let method = wire
        .method
        .and_then(|wire| method(problems, &at.field("method"), wire, &mut how));
    how.of(MatchRequest {
        path,
        headers,
        query_params,
        method,
    })
}

pub(in super::super) fn rpc_match(
    problems: &mut Problems,
    at: &At<'_>,
    wire: grpc_route::GrpcRouteMatch,
) -> Read<MatchRpc> {
    let mut how = How::Read;
    let (service, method) = match wire.rpc {
        Some(rpc) => (some(rpc.service), some(rpc.method)),
        None => {
            // What the mesh's control plane sends for a match of headers alone, and its proxy does not accept.
            problems.missing(&at.field("rpc"), Effect::Refused);
            how.and(How::Within);
            (None, None)
        }
    };
    let headers = headers(problems, at, wire.headers, &mut how);
    how.of(MatchRpc {
        service,
        method,
        headers,
    })
}

/// An empty name is every name.
fn some(name: String) -> Option<String> {
    Some(name).filter(|name| !name.is_empty())
}

fn path(
    problems: &mut Problems,
    at: &At<'_>,
    wire: http_route::PathMatch,
    how: &mut How,
) -> Option<MatchPath> {
    use http_route::path_match::Kind;
    match wire.kind {
        Some(Kind::Exact(path)) => {
            problems.path(&at.field("exact"), &path, true);
            Some(MatchPath::Exact(path))
        }
        Some(Kind::Prefix(path)) => {
            problems.path(&at.field("prefix"), &path, false);
            Some(MatchPath::Prefix(path))
        }
        Some(Kind::Regex(text)) => {
            pattern(problems, &at.field("regex"), &text, how).map(MatchPath::Regex)
        }
        None => {
            problems.missing(&at.field("kind"), Effect::Refused);
            how.and(How::Within);
            anything().map(MatchPath::Regex)
        }
    }
}

/// A pattern, or what matches anything.
fn pattern(problems: &mut Problems, at: &At<'_>, text: &str, how: &mut How) -> Option<Pattern> {
    match Pattern::new(text) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            problems.invalid(at, Effect::Refused, &error);
            how.and(How::Within);
            anything()
        }
    }
}

/// What is wrong with a value, without a field: the message has names of its own.
fn headers(
    problems: &mut Problems,
    at: &At<'_>,
    wire: Vec<http_route::HeaderMatch>,
    how: &mut How,
) -> Vec<MatchHeader> {
    let wire = wire.into_iter().enumerate();
    wire.filter_map(|(n, wire)| header(problems, &at.item("headers", n), wire, how))
        .collect()
}

fn header(
    problems: &mut Problems,
    at: &At<'_>,
    wire: http_route::HeaderMatch,
    how: &mut How,
) -> Option<MatchHeader> {
    use http_route::header_match::Value;
    let Ok(name) = HeaderName::from_bytes(wire.name.as_bytes()) else {
        let message = format!("found {:?}, expected a header's name", wire.name);
        problems.add(&at.field("name"), Effect::LeftOut, message);
        how.and(How::Never);
        return None;
    };
    let value = match wire.value {
        Some(Value::Exact(bytes)) => {
            let Ok(value) = HeaderValue::from_bytes(&bytes) else {
                let found = String::from_utf8_lossy(&bytes);
                let message = format!("found {found:?}, expected a header's value");
                problems.add(&at.field("exact"), Effect::LeftOut, message);
                how.and(How::Never);
                return None;
            };
            MatchHeaderValue::Exact(value)
        }
        Some(Value::Regex(text)) => {
            MatchHeaderValue::Regex(pattern(problems, &at.field("regex"), &text, how)?)
        }
        None => {
            problems.missing(&at.field("value"), Effect::Refused);
            how.and(How::Within);
            MatchHeaderValue::Regex(anything()?)
        }
    };
    Some(MatchHeader { name, value })
}

fn query_param(
    problems: &mut Problems,
    at: &At<'_>,
    wire: http_route::QueryParamMatch,
    how: &mut How,
) -> Option<MatchQueryParam> {
    use http_route::query_param_match::Value;
    let value = match wire.value {
        Some(Value::Exact(value)) => MatchQueryValue::Exact(value),
        Some(Value::Regex(text)) => {
            MatchQueryValue::Regex(pattern(problems, &at.field("regex"), &text, how)?)
        }
        None => {
            problems.missing(&at.field("value"), Effect::Refused);
            how.and(How::Within);
            MatchQueryValue::Regex(anything()?)
        }
    };
    Some(MatchQueryParam {
        name: wire.name,
        value,
    })
}

/// A method. There is nothing that matches any of them and counts as one, but the method counts last.
fn method(
    problems: &mut Problems,
    at: &At<'_>,
    wire: http_types::HttpMethod,
    how: &mut How,
) -> Option<Method> {
    use http_types::http_method::Type;
    let missing = wire.r#type.is_none();
    let unknown = matches!(wire.r#type, None | Some(Type::Registered(_)));
    match Method::try_from(wire) {
        Ok(method) => Some(method),
        Err(error) if unknown => {
            if missing {
                problems.missing(&at.field("type"), Effect::Refused);
            } else {
                problems.add(&at.field("registered"), Effect::Refused, error.to_string());
            }
            how.and(How::Within);
            None
        }
        Err(error) => {
            problems.add(
                &at.field("unregistered"),
                Effect::LeftOut,
                error.to_string(),
            );
            how.and(How::Never);
            None
        }
    }
}
