use http::{HeaderMap, HeaderName, HeaderValue, Request};

use super::{Found, PathMatched, find};
use crate::policy::{
    MatchHeader, MatchHeaderValue, MatchHost, MatchPath, MatchQueryParam, MatchQueryValue,
    MatchRequest, Meta, Pattern, Route, RouteDistribution, RoutePolicy, Rule,
};

mod filters;
mod grpc;
mod index;
mod matching;
mod precedence;
mod properties;
mod redirects;

// === builders ===

fn policy() -> RoutePolicy {
    RoutePolicy::new(Meta::default_named("test"), RouteDistribution::empty())
}

fn rule(matches: impl IntoIterator<Item = MatchRequest>) -> Rule {
    Rule {
        matches: matches.into_iter().collect(),
        policy: policy(),
    }
}

fn route(hosts: &[&str], rules: impl IntoIterator<Item = Rule>) -> Route {
    Route {
        hosts: hosts.iter().map(|h| MatchHost::parse(h).unwrap()).collect(),
        rules: rules.into_iter().collect(),
    }
}

fn exact(path: &str) -> MatchRequest {
    with_path(MatchPath::exact(path).unwrap())
}

fn prefix(path: &str) -> MatchRequest {
    with_path(MatchPath::prefix(path).unwrap())
}

fn regex(path: &str) -> MatchRequest {
    with_path(MatchPath::regex(path).unwrap())
}

fn with_path(path: MatchPath) -> MatchRequest {
    MatchRequest {
        path: Some(path),
        ..MatchRequest::default()
    }
}

fn header(name: &'static str, value: &'static str) -> MatchHeader {
    MatchHeader {
        name: HeaderName::from_static(name),
        value: MatchHeaderValue::Exact(HeaderValue::from_static(value)),
    }
}

fn header_regex(name: &'static str, pattern: &str) -> MatchHeader {
    MatchHeader {
        name: HeaderName::from_static(name),
        value: MatchHeaderValue::Regex(Pattern::new(pattern).unwrap()),
    }
}

fn param(name: &str, value: &str) -> MatchQueryParam {
    MatchQueryParam {
        name: name.to_owned(),
        value: MatchQueryValue::Exact(value.to_owned()),
    }
}

fn param_regex(name: &str, pattern: &str) -> MatchQueryParam {
    MatchQueryParam {
        name: name.to_owned(),
        value: MatchQueryValue::Regex(Pattern::new(pattern).unwrap()),
    }
}

// === questions ===

fn get(uri: &str) -> Request<()> {
    Request::get(uri).body(()).unwrap()
}

fn find_in<'a, B>(routes: &'a [Route], request: &Request<B>) -> Option<Found<'a>> {
    find(routes, request.method(), request.uri(), request.headers())
}

/// Route and rule.
fn place<B>(routes: &[Route], request: &Request<B>) -> Option<(usize, usize)> {
    find_in(routes, request).map(|found| (found.route_index, found.rule_index))
}

/// How a single match takes a request.
fn matched<B>(wanted: MatchRequest, request: &Request<B>) -> Option<PathMatched> {
    find_in(&[route(&[], [rule([wanted])])], request).map(|found| found.path)
}

/// Whether a route for a single host takes a request.
fn for_host<B>(host: &str, request: &Request<B>) -> bool {
    find_in(&[route(&[host], [rule([])])], request).is_some()
}

fn headers(list: &[(&'static str, &[u8])]) -> HeaderMap {
    list.iter()
        .map(|(name, value)| {
            let value = HeaderValue::from_bytes(value).unwrap();
            (HeaderName::from_static(name), value)
        })
        .fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(name, value);
            headers
        })
}
