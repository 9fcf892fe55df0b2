use std::sync::Arc;

use http::StatusCode;

use super::{Options, Parent, backend};
use crate::policy::{
    Budget, FailureAccrual, Fidelity, Filter, HttpPolicy, InjectFailure, InvalidPolicy, MatchPath,
    MatchRequest, Meta, Ratio, Resource, Retry, RetryBuilder, Route, RouteBackend,
    RouteDistribution, RouteParams, RoutePolicy, Rule, Timeouts,
};
use crate::source::kubernetes::annotations::Settings;
use crate::source::kubernetes::objects::Objects;
use crate::source::kubernetes::route;

/// The HTTP routes of a parent in order, or its default route.
pub(super) fn policy(
    objects: &Objects,
    parent: &Parent<'_>,
    routes: &[&route::Route],
    options: &Options,
) -> Result<HttpPolicy, InvalidPolicy> {
    let mut policy = HttpPolicy {
        routes: Vec::new(),
        failure_accrual: accrual(parent.settings, options),
    };
    for route in routes {
        policy
            .routes
            .push(self::route(objects, parent, route, options)?);
    }
    match parent.egress_allows {
        // An EgressNetwork's default stands behind its routes, a Service's in place of them.
        Some(allow) => policy.routes.push(egress_default(parent, allow, options)?),
        None if routes.is_empty() => {
            policy
                .routes
                .push(default_route("http", parent, objects, options)?);
        }
        None => {}
    }
    Ok(policy)
}

fn accrual(settings: &Settings, options: &Options) -> Option<FailureAccrual> {
    let accrual = settings.accrual.clone()?;
    Some(match options.fidelity {
        Fidelity::Mesh => accrual,
        // Difference::OwnAnnotations.
        Fidelity::Extended => settings.own.extend(accrual),
    })
}

fn route(
    objects: &Objects,
    parent: &Parent<'_>,
    route: &route::Route,
    options: &Options,
) -> Result<Route, InvalidPolicy> {
    let resource = Resource::new(
        route.group.name(),
        route.kind.name(),
        &route.namespace,
        &route.name,
    )?;
    let meta = Arc::new(Meta::Resource(resource));
    let mut rules = Vec::new();
    for rule in &route.rules {
        let distribution = backend::distribution(objects, parent, &rule.backends)?;
        let mut policy = RoutePolicy::new(Arc::clone(&meta), distribution);
        policy.filters.clone_from(&rule.filters);
        policy.params = params(objects, parent, route, rule, options)?;
        rules.push(Rule {
            matches: rule.matches.clone(),
            policy,
        });
    }
    Ok(Route {
        hosts: route.hosts.clone(),
        rules,
    })
}

fn params(
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
    let mut retry = retry.or_else(|| parent.settings.retry.clone());
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
pub(super) fn default_route(
    name: &str,
    parent: &Parent<'_>,
    objects: &Objects,
    options: &Options,
) -> Result<Route, InvalidPolicy> {
    let backend = RouteBackend::from(parent.backend()?);
    let mut policy = RoutePolicy::new(
        Meta::default_named(name),
        RouteDistribution::first_available([backend])?,
    );
    let mut retry = parent.settings.retry.clone();
    if options.fidelity == Fidelity::Extended {
        retry = pay(retry, budget(objects, parent, None))?;
    }
    policy.params = RouteParams {
        timeouts: parent.settings.timeouts,
        retry,
        // Never on default routes.
        allow_l5d_request_headers: false,
    };
    Ok(everything(policy))
}

fn egress_default(
    parent: &Parent<'_>,
    allow: bool,
    options: &Options,
) -> Result<Route, InvalidPolicy> {
    let name = if allow {
        "http-egress-allow"
    } else {
        "http-egress-deny"
    };
    let mut route = default_route(name, parent, &Objects::default(), options)?;
    if !allow {
        let failure = InjectFailure::new(StatusCode::FORBIDDEN, "traffic not allowed", Ratio::ONE)?;
        for rule in &mut route.rules {
            rule.policy
                .filters
                .push(Filter::InjectFailure(failure.clone()));
        }
    }
    Ok(route)
}

/// One rule, for every path.
pub(super) fn everything(policy: RoutePolicy) -> Route {
    let any = MatchRequest {
        path: Some(MatchPath::Prefix("/".to_owned())),
        ..MatchRequest::default()
    };
    Route {
        hosts: Vec::new(),
        rules: vec![Rule {
            matches: vec![any],
            policy,
        }],
    }
}
