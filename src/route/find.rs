use http::{HeaderMap, Method, Uri};

use super::PathMatched;
use super::host::{self, HostRank};
use super::matching::Match;
use crate::policy::{Filter, MatchRequest, Route, Rule};

/// The rule that a request falls under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found<'a, M = MatchRequest, F = Filter> {
    /// Which of the routes.
    pub route_index: usize,
    /// Which of that route's rules.
    pub rule_index: usize,
    /// The rule.
    pub rule: &'a Rule<M, F>,
    /// How its path matched: what a redirect that replaces a prefix needs.
    pub path: PathMatched,
}

// How specific a match is: its host counts first.
pub(super) type Precedence<M> = (Option<HostRank>, <M as Match>::Rank);

// === find ===

/// The most specific rule for this request, the first among equals; see [precedence](crate::route#precedence). For the
/// routes of HTTP and of gRPC alike.
///
/// `None` if no rule is for it: the mesh answers 404. It goes through all of them; with many, an [`Index`](super::Index)
/// gives the same answer sooner.
pub fn find<'a, M: Match, F>(
    routes: &'a [Route<M, F>],
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Option<Found<'a, M, F>> {
    let name = host::of(uri, headers);
    let mut best: Option<(Precedence<M>, Found<'a, M, F>)> = None;
    for (route_index, route) in routes.iter().enumerate() {
        let Some(host) = host_rank(route, name) else {
            continue;
        };
        for (rule_index, rule) in route.rules.iter().enumerate() {
            let mut offer = |rank: M::Rank, path, matches: &dyn Fn() -> bool| {
                // Known before the headers and the query are looked at, so most of them never are.
                if best
                    .as_ref()
                    .is_some_and(|(found, _)| *found >= (host, rank))
                {
                    return;
                }
                if matches() {
                    let found = Found {
                        route_index,
                        rule_index,
                        rule,
                        path,
                    };
                    best = Some(((host, rank), found));
                }
            };
            if rule.matches.is_empty() {
                // It asks for nothing.
                let (path, rank) = M::WHATEVER;
                offer(rank, path, &|| true);
            }
            for wanted in &rule.matches {
                if let Some((path, rank)) = wanted.rank(method, uri) {
                    offer(rank, path, &|| wanted.rest(method, uri, headers));
                }
            }
        }
    }
    best.map(|(_, found)| found)
}

/// The outer `None` is a route for other hosts, the inner one a route for every host.
fn host_rank<M, F>(route: &Route<M, F>, name: Option<&str>) -> Option<Option<HostRank>> {
    if route.hosts.is_empty() {
        return Some(None);
    }
    let name = name?;
    let ranks = route.hosts.iter().filter_map(|host| host::rank(host, name));
    ranks.max().map(Some)
}
