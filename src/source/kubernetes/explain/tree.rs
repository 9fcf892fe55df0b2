//! A policy as data that is the same for every protocol, from which text and JSON are written.

use http::{HeaderMap, Method, Uri};

use super::words::Words;
use crate::policy::{
    Backend, BackendDispatcher, Budget, ClientPolicy, ConnectionRoute, ExponentialBackoff,
    FailureAccrual, Fidelity, Load, MatchHost, Protocol, ResponseClasses, Retry, Route,
    RouteDistribution, Rule, Spread, Timeouts,
};
use crate::route::{self, Match};

/// A policy.
pub(super) struct Tree {
    pub(super) parent: String,
    pub(super) protocol: &'static str,
    pub(super) routes: Vec<RouteNode>,
    pub(super) accrual: Option<FailureAccrual>,
    pub(super) load: Option<Load>,
}

/// A route.
pub(super) struct RouteNode {
    pub(super) name: String,
    pub(super) hosts: Vec<String>,
    pub(super) rules: Vec<RuleNode>,
}

/// A rule.
pub(super) struct RuleNode {
    /// Any of these.
    pub(super) matches: Vec<String>,
    pub(super) filters: Vec<String>,
    pub(super) timeouts: Timeouts,
    pub(super) retry: Option<RetryNode>,
    /// Which statuses are failures, where the route says so.
    pub(super) classes: ResponseClasses,
    /// Whether the first that can serve is taken, instead of one by weight.
    pub(super) in_order: bool,
    pub(super) backends: Vec<BackendNode>,
}

/// Retries.
pub(super) struct RetryNode {
    pub(super) limit: u16,
    pub(super) statuses: Vec<String>,
    pub(super) codes: Vec<u16>,
    pub(super) timeout: Option<std::time::Duration>,
    pub(super) backoff: Option<ExponentialBackoff>,
    /// With the default of a client that does better than the mesh.
    pub(super) budget: Option<Budget>,
}

/// A backend.
pub(super) struct BackendNode {
    pub(super) name: String,
    pub(super) weight: u32,
    pub(super) filters: Vec<String>,
    pub(super) fails: Option<String>,
}

/// A request to be placed.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
}

/// Where a request goes.
pub(super) struct Placed {
    /// Route and rule, and the matches of it that fit.
    pub(super) found: Option<Fit>,
    /// The others that fit, and lose.
    pub(super) others: Vec<Fit>,
}

/// A rule that fits.
pub(super) struct Fit {
    pub(super) route: usize,
    pub(super) rule: usize,
    pub(super) by: Vec<String>,
}

// === impl Tree ===

impl Tree {
    pub(super) fn of(policy: &ClientPolicy) -> Self {
        let fidelity = policy.fidelity;
        let mut tree = Self {
            parent: policy.parent.to_string(),
            protocol: policy.protocol.name(),
            routes: Vec::new(),
            accrual: None,
            load: policy.backends().iter().find_map(|backend| load(backend)),
        };
        match &policy.protocol {
            // One for both versions, as they come from manifests.
            Protocol::Detect { http1: http, .. }
            | Protocol::Http1(http)
            | Protocol::Http2(http) => {
                tree.routes = routes(&http.routes, fidelity);
                tree.accrual.clone_from(&http.failure_accrual);
            }
            Protocol::Grpc(grpc) => {
                tree.routes = routes(&grpc.routes, fidelity);
                tree.accrual.clone_from(&grpc.failure_accrual);
            }
            Protocol::Opaque(opaque) => {
                tree.routes
                    .extend(opaque.route.iter().map(|route| connections(route, &[])));
            }
            Protocol::Tls(tls) => {
                let routes = tls.routes.iter();
                tree.routes = routes
                    .map(|route| connections(&route.route, &route.snis))
                    .collect();
            }
        }
        tree
    }
}

fn load(backend: &Backend) -> Option<Load> {
    match &backend.dispatcher {
        BackendDispatcher::BalanceP2c(load, _) => Some(*load),
        BackendDispatcher::Forward(_) | BackendDispatcher::Fail { .. } => None,
    }
}

fn routes<M: Words, F: Words>(routes: &[Route<M, F>], fidelity: Fidelity) -> Vec<RouteNode> {
    let node = |route: &Route<M, F>| RouteNode {
        name: match route.rules.first() {
            Some(rule) => rule.policy.meta.to_string(),
            None => "a route without rules".to_owned(),
        },
        hosts: route.hosts.iter().map(Words::words).collect(),
        rules: route.rules.iter().map(|one| rule(one, fidelity)).collect(),
    };
    routes.iter().map(node).collect()
}

fn rule<M: Words, F: Words>(rule: &Rule<M, F>, fidelity: Fidelity) -> RuleNode {
    let params = &rule.policy.params;
    let mut backends = Vec::new();
    for (used, weight) in rule.policy.distribution.backends() {
        backends.push(backend(
            &used.backend,
            weight,
            used.filters.iter().map(Words::words),
        ));
    }
    RuleNode {
        matches: rule.matches.iter().map(Words::words).collect(),
        filters: rule.policy.filters.iter().map(Words::words).collect(),
        timeouts: params.timeouts,
        retry: params
            .retry
            .as_ref()
            .map(|retry| self::retry(retry, fidelity)),
        classes: params.classes.clone(),
        in_order: in_order(&rule.policy.distribution),
        backends,
    }
}

fn in_order<F>(distribution: &RouteDistribution<F>) -> bool {
    !matches!(distribution.spread(), Spread::RandomAvailable(_))
}

fn backend(backend: &Backend, weight: u32, filters: impl Iterator<Item = String>) -> BackendNode {
    let fails = match &backend.dispatcher {
        BackendDispatcher::Fail { message } => Some(message.clone()),
        BackendDispatcher::Forward(_) | BackendDispatcher::BalanceP2c(..) => None,
    };
    BackendNode {
        name: backend.words(),
        weight,
        // The failure says the same.
        filters: match fails {
            Some(_) => Vec::new(),
            None => filters.collect(),
        },
        fails,
    }
}

fn retry(retry: &Retry, fidelity: Fidelity) -> RetryNode {
    RetryNode {
        limit: retry.max_retries(),
        statuses: retry.status_ranges().words(),
        codes: retry.codes().iter().collect(),
        timeout: retry.timeout(),
        backoff: retry.backoff(),
        // Difference::RetryBudget.
        budget: retry
            .budget()
            .or_else(|| (fidelity != Fidelity::Mesh).then(Budget::default)),
    }
}

fn connections(route: &ConnectionRoute, snis: &[MatchHost]) -> RouteNode {
    let mut backends = Vec::new();
    for (used, weight) in route.distribution.backends() {
        backends.push(backend(&used.backend, weight, std::iter::empty()));
    }
    RouteNode {
        name: route.meta.to_string(),
        hosts: snis.iter().map(Words::words).collect(),
        rules: vec![RuleNode {
            matches: Vec::new(),
            filters: route
                .filters
                .iter()
                .map(|filter| format!("{filter:?}"))
                .collect(),
            timeouts: Timeouts::default(),
            retry: None,
            classes: ResponseClasses::default(),
            in_order: in_order(&route.distribution),
            backends,
        }],
    }
}

// === impl Placed ===

impl Placed {
    /// None where the protocol has no requests.
    pub(super) fn of(policy: &ClientPolicy, asked: &Asked) -> Option<Self> {
        match &policy.protocol {
            Protocol::Detect { http1: http, .. }
            | Protocol::Http1(http)
            | Protocol::Http2(http) => Some(place(&http.routes, asked)),
            Protocol::Grpc(grpc) => Some(place(&grpc.routes, asked)),
            Protocol::Opaque(_) | Protocol::Tls(_) => None,
        }
    }
}

/// Asks the client's own search, for all of the routes and then for each match alone.
fn place<M, F>(routes: &[Route<M, F>], asked: &Asked) -> Placed
where
    M: Match + Words + Clone,
    F: Clone,
{
    let find = |routes: &[Route<M, F>]| {
        route::find(routes, &asked.method, &asked.uri, &asked.headers)
            .map(|found| (found.route_index, found.rule_index))
    };
    let best = find(routes);
    let mut placed = Placed {
        found: None,
        others: Vec::new(),
    };
    for (route_index, route) in routes.iter().enumerate() {
        for (rule_index, rule) in route.rules.iter().enumerate() {
            let alone = |matches: Vec<M>| {
                find(&[Route {
                    hosts: route.hosts.clone(),
                    rules: vec![Rule {
                        matches,
                        policy: rule.policy.clone(),
                    }],
                }])
                .is_some()
            };
            let mut by: Vec<String> = Vec::new();
            for one in &rule.matches {
                if alone(vec![one.clone()]) {
                    by.push(one.words());
                }
            }
            if rule.matches.is_empty() && alone(Vec::new()) {
                by.push("every request".to_owned());
            }
            if by.is_empty() {
                continue;
            }
            let fit = Fit {
                route: route_index,
                rule: rule_index,
                by,
            };
            if best == Some((route_index, rule_index)) {
                placed.found = Some(fit);
            } else {
                placed.others.push(fit);
            }
        }
    }
    placed
}
