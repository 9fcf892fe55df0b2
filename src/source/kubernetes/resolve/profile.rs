use std::sync::Arc;

use super::{Options, Parent, backend};
use crate::policy::{
    Budget, Condition, Fidelity, HttpPolicy, InvalidPolicy, MatchPath, MatchRequest, Meta,
    MethodKind, Resource, Retry, RetryBuilder, Route, RouteBackend, RouteDistribution, RouteParams,
    RoutePolicy, Rule, Timeouts,
};
use crate::source::kubernetes::profile::{Profile, ProfileRoute, retried};

/// What a profile makes of a Service: its own routes and nothing else, no breaker and no annotation.
pub(super) fn policy(
    parent: &Parent<'_>,
    profile: &Profile,
    fidelity: Fidelity,
) -> Result<HttpPolicy, InvalidPolicy> {
    // In a profile the first route that matches counts, elsewhere the most specific: conditions are all equally specific.
    let rule_of = |condition: &Condition, policy| Rule {
        matches: vec![MatchRequest {
            path: Some(MatchPath::Condition(condition.clone())),
            ..MatchRequest::default()
        }],
        policy,
    };
    let mut rules = Vec::new();
    for route in &profile.routes {
        let policy = rule(parent, profile, Some(route), fidelity)?;
        rules.push(rule_of(&route.condition, policy));
    }
    let mut routes = Vec::new();
    if !rules.is_empty() {
        routes.push(Route {
            hosts: Vec::new(),
            rules,
        });
    }
    let everything = Condition::All(Vec::new());
    routes.push(Route {
        hosts: Vec::new(),
        rules: vec![rule_of(&everything, rule(parent, profile, None, fidelity)?)],
    });
    Ok(HttpPolicy {
        routes,
        failure_accrual: None,
    })
}

fn rule(
    parent: &Parent<'_>,
    profile: &Profile,
    route: Option<&ProfileRoute>,
    fidelity: Fidelity,
) -> Result<RoutePolicy, InvalidPolicy> {
    let mut backends = Vec::new();
    for over in &profile.overrides {
        let (namespace, name) = (over.target.namespace(), over.target.name());
        let port = over.target.port().unwrap_or(parent.port);
        let backend = backend::balanced(namespace, name, port, parent.load)?;
        backends.push((RouteBackend::from(backend), over.weight));
    }
    let distribution = if backends.is_empty() {
        RouteDistribution::first_available([RouteBackend::from(parent.backend()?)])?
    } else {
        RouteDistribution::random_available(backends)?
    };
    let name = format!("{}.{}.svc.cluster.local", parent.name, parent.namespace);
    let resource = Resource::new("linkerd.io", "ServiceProfile", &profile.namespace, name)?;
    let meta = match route {
        Some(route) => Meta::Resource(resource.with_section(&route.name)),
        None => Meta::Resource(resource),
    };
    let mut policy = RoutePolicy::new(Arc::new(meta), distribution);
    if let Some(route) = route {
        policy.params = RouteParams {
            timeouts: Timeouts {
                request: route.timeout,
                ..Timeouts::default()
            },
            retry: match profile.budget.map(|budget| match fidelity {
                // Difference::ProfileBudget.
                Fidelity::Extended => Budget::new(budget.ratio).min_per_sec(budget.min_per_sec),
                _ => budget,
            }) {
                // As often as the budget pays for, and at once.
                Some(budget) if route.retryable => Some(
                    retried(&route.classes)
                        .into_iter()
                        .fold(Retry::never_on_status(), RetryBuilder::and_on)
                        .limit(u16::MAX)
                        .no_backoff()
                        .budget(budget)
                        .build()?,
                ),
                _ => None,
            },
            allow_l5d_request_headers: false,
            kind: MethodKind::Auto,
            hedge: None,
            classes: route.classes.clone(),
        };
    }
    Ok(policy)
}

/// The profile that takes the place of everything else, if there is one.
pub(super) fn of<'a>(
    objects: &'a crate::source::kubernetes::objects::Objects,
    service: &crate::source::kubernetes::service::Service,
    options: &Options,
) -> Result<Option<&'a Profile>, crate::source::kubernetes::error::Error> {
    let client = options.client.as_deref().unwrap_or(&service.namespace);
    let Some(profile) = objects.profile(service, client) else {
        return Ok(None);
    };
    match profile.errors.first() {
        Some(error) if options.fidelity == Fidelity::Extended => Err(error.clone()),
        // The mesh sends none of it.
        Some(_) => Ok(None),
        None => Ok(Some(profile).filter(|profile| profile.counts())),
    }
}
