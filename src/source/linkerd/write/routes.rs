use linkerd2_proxy_api::{http_route, outbound as api, tls_route};

use super::super::family::{Family, Opaque, Requests, Route as Wire, Rule as WireRule, Tls};
use super::super::problem::{At, Effect, Problems};
use super::{backend, meta, params};
use crate::policy::{ConnectionRoute, MatchHost, OpaquePolicy, Route, TlsPolicy};

pub(super) fn routes<K: Requests>(
    problems: &mut Problems,
    at: &At<'_>,
    routes: &[Route<K::Match, K::Filter>],
) -> Vec<K::Route> {
    let write = |(n, route)| route_::<K>(problems, &at.item("routes", n), route);
    routes.iter().enumerate().map(write).collect()
}

fn route_<K: Requests>(
    problems: &mut Problems,
    at: &At<'_>,
    route: &Route<K::Match, K::Filter>,
) -> K::Route {
    let first = route.rules.first().map(|rule| &rule.policy.meta);
    if first.is_none() {
        let message = "a route without rules, which matches nothing, has no place to come from";
        problems.add(&at.field("rules"), Effect::LeftOut, message);
    }
    let rules = route.rules.iter().enumerate().map(|(n, rule)| {
        let at = &at.item("rules", n);
        if Some(&rule.policy.meta) != first {
            let message = format!(
                "{} is not where the route's first rule comes from; the message has one field for all",
                rule.policy.meta
            );
            problems.add(&at.field("metadata"), Effect::LeftOut, message);
        }
        let matches = rule.matches.iter().enumerate();
        let matches = matches
            .map(|(n, matched)| K::write_match(problems, &at.item("matches", n), matched))
            .collect();
        WireRule {
            matches,
            filters: filters::<K>(problems, at, &rule.policy.filters),
            backends: Some(backend::distribution::<K>(
                problems,
                &at.field("backends"),
                &rule.policy.distribution,
            )),
            params: params::params::<K>(problems, at, &rule.policy.params),
        }
    });
    K::whole(Wire {
        rules: rules.collect(),
        metadata: first.map(|first| meta(first)),
        hosts: route.hosts.iter().map(host).collect(),
    })
}

fn host(host: &MatchHost) -> http_route::HostMatch {
    use http_route::host_match::{Match, Suffix};
    http_route::HostMatch {
        r#match: Some(match host {
            MatchHost::Exact(host) => Match::Exact(host.clone()),
            MatchHost::Suffix { reverse_labels } => Match::Suffix(Suffix {
                reverse_labels: reverse_labels.clone(),
            }),
        }),
    }
}

fn sni(host: &MatchHost) -> tls_route::SniMatch {
    use tls_route::sni_match::{Match, Suffix};
    tls_route::SniMatch {
        r#match: Some(match host {
            MatchHost::Exact(host) => Match::Exact(host.clone()),
            MatchHost::Suffix { reverse_labels } => Match::Suffix(Suffix {
                reverse_labels: reverse_labels.clone(),
            }),
        }),
    }
}

/// Those that there is a word for.
pub(super) fn filters<K: Family>(
    problems: &mut Problems,
    at: &At<'_>,
    filters: &[K::Filter],
) -> Vec<K::Wire> {
    let write = |(n, filter)| K::write(problems, &at.item("filters", n), filter);
    filters.iter().enumerate().filter_map(write).collect()
}

pub(super) fn opaque(
    problems: &mut Problems,
    at: &At<'_>,
    policy: &OpaquePolicy,
) -> api::proxy_protocol::Opaque {
    let routes = policy.route.iter().map(|route| {
        let at = &at.item("routes", 0);
        let (backends, filters) = connections::<Opaque>(problems, at, route);
        api::OpaqueRoute {
            metadata: Some(meta(&route.meta)),
            rules: vec![api::opaque_route::Rule {
                backends: Some(backends),
                filters,
            }],
        }
    });
    api::proxy_protocol::Opaque {
        routes: routes.collect(),
    }
}

pub(super) fn tls(
    problems: &mut Problems,
    at: &At<'_>,
    policy: &TlsPolicy,
) -> api::proxy_protocol::Tls {
    let routes = policy.routes.iter().enumerate().map(|(n, route)| {
        let at = &at.item("routes", n);
        let (backends, filters) = connections::<Tls>(problems, at, &route.route);
        api::TlsRoute {
            metadata: Some(meta(&route.route.meta)),
            snis: route.snis.iter().map(sni).collect(),
            rules: vec![api::tls_route::Rule {
                backends: Some(backends),
                filters,
            }],
        }
    });
    api::proxy_protocol::Tls {
        routes: routes.collect(),
    }
}

fn connections<K: Family<Filter = crate::policy::ConnectionFilter>>(
    problems: &mut Problems,
    at: &At<'_>,
    route: &ConnectionRoute,
) -> (K::Distribution, Vec<K::Wire>) {
    let at = &at.item("rules", 0);
    (
        backend::distribution::<K>(problems, &at.field("backends"), &route.distribution),
        filters::<K>(problems, at, &route.filters),
    )
}
