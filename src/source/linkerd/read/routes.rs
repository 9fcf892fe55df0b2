use std::sync::Arc;

use linkerd2_proxy_api::outbound as api;

use super::super::family::{Family, Opaque, Read, Requests, Tls};
use super::super::problem::{At, Effect, Problems};
use super::{backend, matches, meta, not_valid, params};
use crate::policy::{
    ConnectionFilter, ConnectionRoute, Meta, OpaquePolicy, Route, RouteDistribution, RoutePolicy,
    Rule, TlsRoute,
};

type Rules<K> = Vec<Rule<<K as Requests>::Match, <K as Family>::Filter>>;

/// Where to, and what first.
type WireRule<K> = (
    Option<<K as Family>::Distribution>,
    Vec<<K as Family>::Wire>,
);

pub(super) fn routes<K: Requests>(
    problems: &mut Problems,
    at: &At<'_>,
    wire: Vec<K::Route>,
) -> Vec<Route<K::Match, K::Filter>> {
    let mut routes = Vec::with_capacity(wire.len());
    for (n, wire) in wire.into_iter().enumerate() {
        route::<K>(problems, &at.item("routes", n), wire, &mut routes);
    }
    routes
}

/// One route; two where one of its hosts cannot be read, and none where it is for nothing.
fn route<K: Requests>(
    problems: &mut Problems,
    at: &At<'_>,
    wire: K::Route,
    routes: &mut Vec<Route<K::Match, K::Filter>>,
) {
    let wire = K::route(wire);
    let meta = meta::meta(problems, &at.field("metadata"), wire.metadata);
    if wire.rules.is_empty() {
        // It matches nothing.
        problems.add(
            &at.field("rules"),
            Effect::LeftOut,
            "found none, expected at least one",
        );
        return;
    }
    let any_host = wire.hosts.is_empty();
    let mut hosts = Vec::with_capacity(wire.hosts.len());
    let mut unknown = None;
    for (n, host) in wire.hosts.into_iter().enumerate() {
        match matches::host(host) {
            Some(host) => hosts.push(host),
            None => {
                problems.missing(&at.item("hosts", n).field("match"), Effect::Refused);
                unknown.get_or_insert(n);
            }
        }
    }
    let mut rules = Vec::with_capacity(wire.rules.len());
    for (n, wire) in wire.rules.into_iter().enumerate() {
        rule::<K>(problems, &at.item("rules", n), &meta, wire, &mut rules);
    }
    if rules.is_empty() {
        return;
    }
    // Nobody knows which host was meant. What comes for a host that no route names is refused, if its rules match, and so
    // is not sent where this route would not have sent it.
    let refused = unknown.map(|n| {
        let at = &at.item("hosts", n);
        let rules = rules.iter().map(|rule| Rule {
            matches: Vec::clone(&rule.matches),
            policy: refusing::<K>(Arc::clone(&meta), at),
        });
        Route {
            hosts: Vec::new(),
            rules: rules.collect(),
        }
    });
    if any_host || !hosts.is_empty() {
        routes.push(Route { hosts, rules });
    }
    routes.extend(refused);
}

/// One rule; two where one of its matches cannot be read, and none where nothing can match.
fn rule<K: Requests>(
    problems: &mut Problems,
    at: &At<'_>,
    meta: &Arc<Meta>,
    wire: super::super::family::Rule<K>,
    rules: &mut Rules<K>,
) {
    let any = wire.matches.is_empty();
    let (mut matches, mut within, mut unknown) = (Vec::new(), Vec::new(), None);
    for (n, wire) in wire.matches.into_iter().enumerate() {
        match K::read_match(problems, &at.item("matches", n), wire) {
            Read::Is(matched) => matches.push(matched),
            Read::Within(matched) => {
                within.push(matched);
                unknown.get_or_insert(n);
            }
            Read::Never => {}
        }
    }
    let mut policy = RoutePolicy::new(
        Arc::clone(meta),
        backend::distribution::<K>(problems, &at.field("backends"), wire.backends),
    );
    policy.filters = filters::<K>(problems, at, wire.filters);
    policy.params = params::params::<K>(problems, at, wire.params);
    if any || !matches.is_empty() {
        rules.push(Rule { matches, policy });
    }
    // The matches that were read come first: among equals the first wins.
    if let Some(n) = unknown {
        rules.push(Rule {
            matches: within,
            policy: refusing::<K>(Arc::clone(meta), &at.item("matches", n)),
        });
    }
}

pub(super) fn filters<K: Family>(
    problems: &mut Problems,
    at: &At<'_>,
    wire: Vec<K::Wire>,
) -> Vec<K::Filter> {
    let read = |(n, filter)| K::read(problems, &at.item("filters", n), filter);
    wire.into_iter().enumerate().map(read).collect()
}

/// Refuses everything, for what is not valid here.
fn refusing<K: Family>(meta: Arc<Meta>, at: &At<'_>) -> RoutePolicy<K::Filter> {
    let mut policy = RoutePolicy::new(meta, RouteDistribution::empty());
    policy.filters.push(K::refusing(not_valid(at)));
    policy
}

pub(super) fn refused<K: Requests>(meta: Arc<Meta>, at: &At<'_>) -> Route<K::Match, K::Filter> {
    Route {
        hosts: Vec::new(),
        rules: vec![Rule::any(refusing::<K>(meta, at))],
    }
}

pub(super) fn opaque(
    problems: &mut Problems,
    at: &At<'_>,
    wire: api::proxy_protocol::Opaque,
) -> OpaquePolicy {
    let count = wire.routes.len();
    let mut routes = wire.routes.into_iter();
    let Some(first) = routes.next() else {
        return OpaquePolicy::default();
    };
    let at = &at.item("routes", 0);
    let meta = meta::meta(problems, &at.field("metadata"), first.metadata);
    if count > 1 {
        // Each is for every connection.
        let message = format!("found {count}, expected at most one");
        problems.add(at, Effect::Refused, message);
        return OpaquePolicy {
            route: Some(refused_connections(meta, at)),
        };
    }
    let rules = first.rules.into_iter();
    let rules = rules.map(|rule| (rule.backends, rule.filters)).collect();
    OpaquePolicy {
        route: Some(connections::<Opaque>(problems, at, meta, rules)),
    }
}

pub(super) fn tls(
    problems: &mut Problems,
    at: &At<'_>,
    wire: api::proxy_protocol::Tls,
) -> Vec<TlsRoute> {
    let mut routes = Vec::with_capacity(wire.routes.len());
    for (n, wire) in wire.routes.into_iter().enumerate() {
        let at = &at.item("routes", n);
        let meta = meta::meta(problems, &at.field("metadata"), wire.metadata);
        let any = wire.snis.is_empty();
        let mut snis = Vec::with_capacity(wire.snis.len());
        let mut unknown = None;
        for (n, sni) in wire.snis.into_iter().enumerate() {
            match matches::sni(sni) {
                Some(sni) => snis.push(sni),
                None => {
                    problems.missing(&at.item("snis", n).field("match"), Effect::Refused);
                    unknown.get_or_insert(n);
                }
            }
        }
        let rules = wire.rules.into_iter();
        let rules = rules.map(|rule| (rule.backends, rule.filters)).collect();
        if any || !snis.is_empty() {
            let route = connections::<Tls>(problems, at, Arc::clone(&meta), rules);
            routes.push(TlsRoute { snis, route });
        }
        // As for hosts.
        if let Some(n) = unknown {
            routes.push(TlsRoute {
                snis: Vec::new(),
                route: refused_connections(meta, &at.item("snis", n)),
            });
        }
    }
    routes
}

fn connections<K: Family<Filter = ConnectionFilter>>(
    problems: &mut Problems,
    at: &At<'_>,
    meta: Arc<Meta>,
    rules: Vec<WireRule<K>>,
) -> ConnectionRoute {
    let count = rules.len();
    let mut rules = rules.into_iter();
    match (rules.next(), rules.next()) {
        (Some((backends, filters_)), None) => {
            let at = &at.item("rules", 0);
            let backends = backend::distribution::<K>(problems, &at.field("backends"), backends);
            let mut route = ConnectionRoute::new(meta, backends);
            route.filters = filters::<K>(problems, at, filters_);
            route
        }
        _ => {
            let at = &at.field("rules");
            let message = format!("found {count}, expected one");
            problems.add(at, Effect::Refused, message);
            refused_connections(meta, at)
        }
    }
}

fn refused_connections(meta: Arc<Meta>, at: &At<'_>) -> ConnectionRoute {
    let mut route = ConnectionRoute::new(meta, RouteDistribution::empty());
    route.filters.push(ConnectionFilter::Invalid {
        message: not_valid(at),
    });
    route
}
