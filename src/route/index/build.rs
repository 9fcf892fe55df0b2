use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use super::place::Place;
use super::{Entry, Group, Index};
use crate::policy::{MatchHost, Route};
use crate::route::host;
use crate::route::matching::Match;
use crate::route::places::{Key, Shape, Table};

/// So many matches are gone through sooner than looked up.
const FEW: usize = 8;
/// The same of those that have the same host and path.
const FEW_IN_PLACE: usize = 4;

impl Index {
    /// The index of these routes.
    pub fn new<M: Match, F>(routes: &[Route<M, F>]) -> Self {
        Self::with(routes, FEW, FEW_IN_PLACE)
    }

    /// With so many matches tried in turn, and so many of one place.
    pub(in crate::route) fn with<M: Match, F>(
        routes: &[Route<M, F>],
        few: usize,
        few_in_place: usize,
    ) -> Self {
        let mut index = Self::default();
        // The entries of each host's routes; `None` is every host.
        let mut by_host: BTreeMap<Option<MatchHost>, Vec<usize>> = BTreeMap::new();
        for (number, route) in routes.iter().enumerate() {
            let first = index.entries.len();
            for (rule, of) in route.rules.iter().enumerate() {
                let entry = |wanted| Entry {
                    route: number,
                    rule,
                    wanted,
                };
                if of.matches.is_empty() {
                    index.entries.push(entry(None));
                }
                index
                    .entries
                    .extend((0..of.matches.len()).map(|wanted| entry(Some(wanted))));
            }
            let entries = first..index.entries.len();
            let mut add = |host| {
                let list = by_host.entry(host).or_default();
                // The same host twice is the same host.
                if list.last().is_none_or(|last| *last < entries.start) {
                    list.extend(entries.clone());
                }
            };
            if route.hosts.is_empty() {
                add(None);
            }
            for host in &route.hosts {
                add(Some(host::lowercase(host)));
            }
        }
        if index.entries.len() <= few {
            index.few = true;
            return index;
        }
        let mut hosts: Table<Key, Vec<Group>> = Table::default();
        for (host, list) in by_host {
            let group = group(routes, &index.entries, host, &list, few_in_place);
            match &group.host {
                None => index.everywhere = Some(group),
                Some(host) => {
                    index.has_suffixes |= matches!(host, MatchHost::Suffix { .. });
                    hosts.entry(host::key(host)).or_default().push(group);
                }
            }
        }
        index.hosts = hosts;
        index
    }
}

fn group<M: Match, F>(
    routes: &[Route<M, F>],
    entries: &[Entry],
    host: Option<MatchHost>,
    list: &[usize],
    few: usize,
) -> Group {
    let wanted = |number: usize| -> Option<&M> {
        let entry = entries.get(number)?;
        let rule = routes.get(entry.route)?.rules.get(entry.rule)?;
        rule.matches.get(entry.wanted?)
    };
    // Each can stand in one set of places or another: where the fewest others would be.
    let choices: Vec<Vec<Vec<Key>>> = list
        .iter()
        .map(|number| M::places(wanted(*number)))
        .collect();
    let mut shared: HashMap<Key, usize> = HashMap::new();
    for key in choices.iter().flatten().flatten() {
        *shared.entry(*key).or_default() += 1;
    }
    let crowd = |keys: &&Vec<Key>| {
        let crowd = keys.iter().filter_map(|key| shared.get(key));
        crowd.copied().max()
    };
    let mut by_key: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
    for (number, choices) in list.iter().zip(&choices) {
        for key in choices.iter().min_by_key(crowd).into_iter().flatten() {
            by_key.entry(*key).or_default().push(*number);
        }
    }
    let shape = Shape::new(by_key.keys());
    let mut places: Table<Key, Place> = Table::default();
    for (key, mut list) in by_key {
        // The greatest first, the first among equals: their paths count the same.
        list.sort_by_key(|number| (Reverse(M::detail(wanted(*number))), *number));
        let words = |number| wanted(number).map(M::asks).unwrap_or_default();
        places.insert(key, Place::new(list, few, words));
    }
    Group {
        host,
        shape,
        places,
    }
}
