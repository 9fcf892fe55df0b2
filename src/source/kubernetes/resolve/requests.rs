//! The routes of HTTP and of gRPC.

use std::sync::Arc;

use http::StatusCode;

use super::backend::Filters;
use super::{Options, Parent, backend};
use crate::policy::{
    Budget, Codes, FailureAccrual, Fidelity, Filter, GrpcFilter, GrpcPolicy, HttpPolicy,
    InjectFailure, InjectGrpcFailure, InvalidPolicy, MatchPath, MatchRequest, MatchRpc, Meta,
    Ratio, Retry, RetryBuilder, Route, RouteBackend, RouteDistribution, RouteParams, RoutePolicy,
    Rule, Timeouts,
};
use crate::source::kubernetes::annotations::Settings;
use crate::source::kubernetes::objects::Objects;
use crate::source::kubernetes::route;

/// HTTP or gRPC: what their routes do not have in common.
trait Speech {
    type Match;
    type Filter: Filters;
    /// The default routes of an EgressNetwork: allow, deny.
    const EGRESS: [&'static str; 2];

    fn matches(rule: &route::Rule) -> Vec<Self::Match>;
    /// For everything.
    fn any() -> Vec<Self::Match>;
    /// The parent's.
    fn retry(settings: &Settings) -> Option<&Retry>;
    fn forbidden() -> Result<Self::Filter, InvalidPolicy>;
}

struct Http;
struct Grpc;

const FORBIDDEN: &str = "traffic not allowed";

impl Speech for Http {
    type Match = MatchRequest;
    type Filter = Filter;
    const EGRESS: [&'static str; 2] = ["http-egress-allow", "http-egress-deny"];

    fn matches(rule: &route::Rule) -> Vec<MatchRequest> {
        rule.matches.clone()
    }

    fn any() -> Vec<MatchRequest> {
        vec![MatchRequest {
            path: Some(MatchPath::Prefix("/".to_owned())),
            ..MatchRequest::default()
        }]
    }

    fn retry(settings: &Settings) -> Option<&Retry> {
        settings.retry.as_ref()
    }

    fn forbidden() -> Result<Filter, InvalidPolicy> {
        let status = StatusCode::FORBIDDEN;
        InjectFailure::new(status, FORBIDDEN, Ratio::ONE).map(Filter::InjectFailure)
    }
}

impl Speech for Grpc {
    type Match = MatchRpc;
    type Filter = GrpcFilter;
    const EGRESS: [&'static str; 2] = ["grpc-egress-allow", "grpc-egress-deny"];

    fn matches(rule: &route::Rule) -> Vec<MatchRpc> {
        rule.rpcs.clone()
    }

    fn any() -> Vec<MatchRpc> {
        Vec::new()
    }

    fn retry(settings: &Settings) -> Option<&Retry> {
        settings.grpc_retry.as_ref()
    }

    fn forbidden() -> Result<GrpcFilter, InvalidPolicy> {
        let code = Codes::PERMISSION_DENIED;
        InjectGrpcFailure::new(code, FORBIDDEN, Ratio::ONE).map(GrpcFilter::InjectFailure)
    }
}

/// The HTTP routes of a parent in order, or its default route.
pub(super) fn http(
    objects: &Objects,
    parent: &Parent<'_>,
    routes: &[&route::Route],
    options: &Options,
) -> Result<HttpPolicy, InvalidPolicy> {
    let mut converted = self::routes::<Http>(objects, parent, routes, options)?;
    if routes.is_empty() && parent.egress_allows.is_none() {
        converted.push(default_route::<Http>("http", parent, objects, options)?);
    }
    Ok(HttpPolicy {
        routes: converted,
        failure_accrual: accrual(parent.settings, options),
    })
}

/// The gRPC routes of a parent in order. A Service has no default beside them.
pub(super) fn grpc(
    objects: &Objects,
    parent: &Parent<'_>,
    routes: &[&route::Route],
    options: &Options,
) -> Result<GrpcPolicy, InvalidPolicy> {
    Ok(GrpcPolicy {
        routes: self::routes::<Grpc>(objects, parent, routes, options)?,
        failure_accrual: accrual(parent.settings, options),
    })
}

type Routes<S> = Vec<Route<<S as Speech>::Match, <S as Speech>::Filter>>;

fn routes<S: Speech>(
    objects: &Objects,
    parent: &Parent<'_>,
    routes: &[&route::Route],
    options: &Options,
) -> Result<Routes<S>, InvalidPolicy> {
    let mut converted = Vec::new();
    for route in routes {
        converted.push(self::route::<S>(objects, parent, route, options)?);
    }
    // An EgressNetwork's default stands behind its routes, a Service's in place of them.
    if let Some(allow) = parent.egress_allows {
        converted.push(egress_default::<S>(parent, allow, options)?);
    }
    Ok(converted)
}

fn accrual(settings: &Settings, options: &Options) -> Option<FailureAccrual> {
    let accrual = settings.accrual.clone()?;
    Some(match options.fidelity {
        Fidelity::Mesh => accrual,
        // Difference::OwnAnnotations.
        Fidelity::Extended => settings.own.extend(accrual),
    })
}

fn route<S: Speech>(
    objects: &Objects,
    parent: &Parent<'_>,
    route: &route::Route,
    options: &Options,
) -> Result<Route<S::Match, S::Filter>, InvalidPolicy> {
    let meta = route.meta()?;
    let mut rules = Vec::new();
    for rule in route.rules.iter().filter(|rule| !rule.never) {
        let distribution = backend::distribution(objects, parent, &rule.backends)?;
        let mut policy = RoutePolicy::new(Arc::clone(&meta), distribution);
        policy.filters = rule.filters.iter().filter_map(S::Filter::of).collect();
        policy.params = params::<S>(objects, parent, route, rule, options)?;
        rules.push(Rule {
            matches: S::matches(rule),
            policy,
        });
    }
    Ok(Route {
        hosts: route.hosts.clone(),
        rules,
    })
}

fn params<S: Speech>(
    objects: &Objects,
    parent: &Parent<'_>,
    route: &route::Route,
    rule: &route::Rule,
    options: &Options,
) -> Result<RouteParams, InvalidPolicy> {
    let annotated = route.settings.timeouts;
    // All or nothing: a rule with any timeout has none of its Service's.
    let own = Timeouts {
        request: annotated.request.or(rule.request),
        ..annotated
    };
    let mut timeouts = if own == Timeouts::default() {
        parent.settings.timeouts
    } else {
        own
    };
    let mut retry = route.settings.retry.clone();
    if options.fidelity == Fidelity::Extended {
        // Difference::GatewayRetry.
        retry = retry.or_else(|| rule.retry.clone());
    }
    let mut retry = retry.or_else(|| S::retry(parent.settings).cloned());
    if options.fidelity == Fidelity::Extended {
        // Difference::BackendRequest.
        if let Some(limit) = rule.backend_request {
            timeouts.response = Some(timeouts.response.map_or(limit, |have| have.min(limit)));
            retry = match retry {
                Some(retry) if retry.timeout().is_none() => {
                    Some(RetryBuilder::from(retry).timeout(limit).build()?)
                }
                retry => retry,
            };
        }
        retry = pay(retry, budget(objects, parent, Some((route, rule))))?;
    }
    Ok(RouteParams {
        timeouts,
        retry,
        allow_l5d_request_headers: options.allow_l5d_request_headers,
        ..RouteParams::default()
    })
}

/// Who pays beyond the mesh: the route's own annotation, its Service's, or a policy for its Service or only backend.
fn budget(
    objects: &Objects,
    parent: &Parent<'_>,
    rule: Option<(&route::Route, &route::Rule)>,
) -> Option<Budget> {
    let of_route = rule.and_then(|(route, _)| route.settings.budget);
    let of_policy = |namespace: &str, name: &str| objects.traffic(namespace, name)?.budget;
    let of_backend = || match rule?.1.backends.as_slice() {
        [only] => {
            let namespace = only.namespace.as_deref().unwrap_or(parent.namespace);
            of_policy(namespace, &only.name)
        }
        _ => None,
    };
    // Difference::OwnAnnotations and Difference::TrafficPolicy.
    of_route
        .or(parent.settings.own.budget)
        .or_else(|| of_policy(parent.namespace, parent.name))
        .or_else(of_backend)
}

fn pay(retry: Option<Retry>, budget: Option<Budget>) -> Result<Option<Retry>, InvalidPolicy> {
    match (retry, budget) {
        (Some(retry), Some(budget)) => RetryBuilder::from(retry).budget(budget).build().map(Some),
        (retry, _) => Ok(retry),
    }
}

/// The route of a parent that has none of its own.
fn default_route<S: Speech>(
    name: &str,
    parent: &Parent<'_>,
    objects: &Objects,
    options: &Options,
) -> Result<Route<S::Match, S::Filter>, InvalidPolicy> {
    let backend = RouteBackend {
        filters: Vec::new(),
        backend: parent.backend()?,
    };
    let mut policy = RoutePolicy::new(
        Meta::default_named(name),
        RouteDistribution::first_available([backend])?,
    );
    let mut retry = S::retry(parent.settings).cloned();
    if options.fidelity == Fidelity::Extended {
        retry = pay(retry, budget(objects, parent, None))?;
    }
    policy.params = RouteParams {
        timeouts: parent.settings.timeouts,
        retry,
        // Never on default routes.
        allow_l5d_request_headers: false,
        ..RouteParams::default()
    };
    Ok(Route {
        hosts: Vec::new(),
        rules: vec![Rule {
            matches: S::any(),
            policy,
        }],
    })
}

fn egress_default<S: Speech>(
    parent: &Parent<'_>,
    allow: bool,
    options: &Options,
) -> Result<Route<S::Match, S::Filter>, InvalidPolicy> {
    let [allowed, denied] = S::EGRESS;
    let name = if allow { allowed } else { denied };
    let mut route = default_route::<S>(name, parent, &Objects::default(), options)?;
    if !allow {
        for rule in &mut route.rules {
            rule.policy.filters.push(S::forbidden()?);
        }
    }
    Ok(route)
}

/// One rule, for every path.
pub(super) fn everything(policy: RoutePolicy) -> Route {
    Route {
        hosts: Vec::new(),
        rules: vec![Rule {
            matches: Http::any(),
            policy,
        }],
    }
}
