use http::{HeaderMap, Method, Uri};

use super::PathMatched;
use super::host::{self, HostRank};
use super::matching;
use crate::policy::{MatchRequest, Route, Rule};

/// The rule that a request falls under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found<'a> {
    /// Which of the routes.
    pub route_index: usize,
    /// Which of that route's rules.
    pub rule_index: usize,
    /// The rule.
    pub rule: &'a Rule,
    /// How its path matched: what a redirect that replaces a prefix needs.
    pub path: PathMatched,
}

/// How specific a match is. The order of the fields is the order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    host: Option<HostRank>,
    path: usize,
    headers: usize,
    query_params: usize,
    method: bool,
}

// === find ===

/// The most specific rule for this request, the first among equals; see [precedence](crate::route#precedence).
///
/// `None` if no rule is for it: the mesh answers 404.
pub fn find<'a>(
    routes: &'a [Route],
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Option<Found<'a>> {
    let name = host::of(uri, headers);
    let mut best: Option<(Rank, Found<'a>)> = None;
    for (route_index, route) in routes.iter().enumerate() {
        let Some(host) = host_rank(route, name) else {
            continue;
        };
        for (rule_index, rule) in route.rules.iter().enumerate() {
            // A rule without matches is a rule with one match that asks for nothing.
            let whatever = rule.matches.is_empty().then_some(const { &WHATEVER });
            for wanted in rule.matches.iter().chain(whatever) {
                let Some((path, length)) = matching::path(wanted.path.as_ref(), uri.path()) else {
                    continue;
                };
                let rank = Rank {
                    host,
                    path: length,
                    headers: wanted.headers.len(),
                    query_params: wanted.query_params.len(),
                    method: wanted.method.is_some(),
                };
                // Known before the headers and the query are looked at, so most of them never are.
                if best.as_ref().is_some_and(|(found, _)| *found >= rank) {
                    continue;
                }
                if matching::rest(wanted, method, uri, headers) {
                    let found = Found {
                        route_index,
                        rule_index,
                        rule,
                        path,
                    };
                    best = Some((rank, found));
                }
            }
        }
    }
    best.map(|(_, found)| found)
}

const WHATEVER: MatchRequest = MatchRequest {
    path: None,
    headers: Vec::new(),
    query_params: Vec::new(),
    method: None,
};

/// The outer `None` is a route for other hosts, the inner one a route for every host.
fn host_rank(route: &Route, name: Option<&str>) -> Option<Option<HostRank>> {
    if route.hosts.is_empty() {
        return Some(None);
    }
    let name = name?;
    let ranks = route.hosts.iter().filter_map(|host| host::rank(host, name));
    ranks.max().map(Some)
}
