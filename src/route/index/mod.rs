//! Routes, compiled: a request looks at those rules only that can be for it.
//!
//! The answer is [`find`](super::find())'s, whose comparisons are the only ones there are: the index says which matches are
//! worth comparing, and in which order. A match stands in *places* that a request which it is for will ask for: first its
//! host, then its path (the path itself, each prefix of it, the literals a pattern begins or ends with), and where many
//! share those, whichever of its headers, query parameters or method the fewest of them share. Within a place the first that
//! matches is the best there, and the best of all places wins.

mod build;
mod place;

use std::cmp::Reverse;

use http::{HeaderMap, Method, Uri};

use self::place::{Asked, Place};
use super::find::{Found, Precedence};
use super::host::{self, HostRank};
use super::matching::Match;
use super::places::{Key, Shape, Table};
use crate::policy::{MatchHost, Route};

/// An index of routes, for [`find`](Self::find): with many routes a request costs about what it costs with few.
///
/// What is not indexed is tried in turn: patterns for paths that neither begin nor end with anything in particular, and
/// patterns for a header or a query parameter where nothing else tells matches of the same path apart.
///
/// ```
/// use http::{HeaderMap, Method, Uri};
/// use tower_mesh::policy::ClientPolicy;
/// use tower_mesh::route::{self, Index};
///
/// let policy = ClientPolicy::http().build()?;
/// let routes = &policy.for_version(http::Version::HTTP_11).routes;
/// let index = Index::new(routes);
/// let (method, uri, headers) = (Method::GET, Uri::from_static("/quote"), HeaderMap::new());
/// assert_eq!(
///     index.find(routes, &method, &uri, &headers),
///     route::find(routes, &method, &uri, &headers),
/// );
/// # Ok::<(), tower_mesh::policy::InvalidPolicy>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Index {
    // Every match, in the order of the routes, the rules, and the matches in a rule.
    entries: Vec<Entry>,
    // Of routes for every host, and of those for some.
    everywhere: Option<Group>,
    hosts: Table<Key, Vec<Group>>,
    has_suffixes: bool,
    // Few enough to go through them.
    few: bool,
}

/// A match: where it stands in the routes. No match is a rule that asks for nothing.
#[derive(Clone, Copy, Debug)]
struct Entry {
    route: usize,
    rule: usize,
    wanted: Option<usize>,
}

/// The matches of the routes of one host.
#[derive(Clone, Debug)]
struct Group {
    host: Option<MatchHost>,
    shape: Shape,
    places: Table<Key, Place>,
}

/// A request that looks for its rule.
struct Search<'a, 'r, M: Match, F> {
    index: &'a Index,
    routes: &'r [Route<M, F>],
    asked: Asked<'a>,
    best: Option<Best<'r, M, F>>,
    // How many matches were compared.
    compared: usize,
}

struct Best<'r, M: Match, F> {
    rank: Precedence<M>,
    entry: usize,
    found: Found<'r, M, F>,
}

// === impl Index ===

impl Index {
    /// The rule that [`route::find`](super::find()) would find.
    ///
    /// `routes` are those that the index was made of; for others it has no answer that means anything.
    pub fn find<'r, M: Match, F>(
        &self,
        routes: &'r [Route<M, F>],
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Option<Found<'r, M, F>> {
        if self.few {
            return super::find(routes, method, uri, headers);
        }
        self.search(routes, method, uri, headers).0
    }

    /// The same, with the number of matches that were compared.
    pub(super) fn search<'r, M: Match, F>(
        &self,
        routes: &'r [Route<M, F>],
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> (Option<Found<'r, M, F>>, usize) {
        let mut search = Search {
            index: self,
            routes,
            asked: Asked {
                method,
                uri,
                headers,
            },
            best: None,
            compared: 0,
        };
        if !self.hosts.is_empty()
            && let Some(name) = host::of(uri, headers)
        {
            host::keys(name, self.has_suffixes, &mut |key| {
                for group in self.hosts.get(&key).into_iter().flatten() {
                    let rank = group.host.as_ref().and_then(|host| host::rank(host, name));
                    if rank.is_some() {
                        search.group(group, rank);
                    }
                }
            });
        }
        if let Some(group) = &self.everywhere {
            search.group(group, None);
        }
        (search.best.map(|best| best.found), search.compared)
    }
}

// === impl Search ===

impl<M: Match, F> Search<'_, '_, M, F> {
    fn group(&mut self, group: &Group, host: Option<HostRank>) {
        // A host that is less specific cannot win any more.
        if self.best.as_ref().is_some_and(|best| best.rank.0 > host) {
            return;
        }
        // The last are the longest, most often; then the others need not be looked at closely.
        let mut hits = [None; 8];
        let mut held = 0;
        M::keys(
            &group.shape,
            self.asked.method,
            self.asked.uri,
            &mut |key| {
                let Some(place) = group.places.get(&key) else {
                    return;
                };
                match hits.get_mut(held) {
                    Some(hit) => {
                        *hit = Some(place);
                        held += 1;
                    }
                    None => self.place(place, host),
                }
            },
        );
        for place in hits.into_iter().rev().flatten() {
            self.place(place, host);
        }
    }

    fn place(&mut self, place: &Place, host: Option<HostRank>) {
        let asked = self.asked;
        place.lists(&asked, &mut |list| self.list(list, host));
    }

    // All that match in a list have the same path, so that it is in the order of precedence.
    fn list(&mut self, list: &[usize], host: Option<HostRank>) {
        let Asked {
            method,
            uri,
            headers,
        } = self.asked;
        for &number in list {
            self.compared += 1;
            let Some(entry) = self.index.entries.get(number) else {
                continue;
            };
            let rule = self.routes.get(entry.route).map(|route| &route.rules);
            let Some(rule) = rule.and_then(|rules| rules.get(entry.rule)) else {
                continue;
            };
            let wanted = entry.wanted.and_then(|wanted| rule.matches.get(wanted));
            let (path, rank) = match wanted {
                None => M::WHATEVER,
                Some(wanted) => match wanted.rank(method, uri) {
                    Some(ranked) => ranked,
                    None => continue,
                },
            };
            let rank = (host, rank);
            let beaten =
                |best: &Best<'_, M, F>| (best.rank, Reverse(best.entry)) >= (rank, Reverse(number));
            if self.best.as_ref().is_some_and(beaten) {
                return;
            }
            if wanted.is_none_or(|wanted| wanted.rest(method, uri, headers)) {
                let found = Found {
                    route_index: entry.route,
                    rule_index: entry.rule,
                    rule,
                    path,
                };
                self.best = Some(Best {
                    rank,
                    entry: number,
                    found,
                });
                return;
            }
        }
    }
}
