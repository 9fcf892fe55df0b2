//! Policies with routes to several backends, in the words that a control plane has for them.

use std::num::NonZeroU16;
use std::sync::Arc;

use tower_mesh::policy::{
    Backend, BackendDispatcher, ClientPolicy, EndpointDiscovery, FailureAccrual, Fidelity,
    HttpPolicy, Load, Meta, Protocol, Queue, Route, RouteBackend, RouteDistribution, RoutePolicy,
    Rule,
};

/// The Service `name.shop:80`, with defaults.
pub fn backend(name: &str) -> RouteBackend {
    backend_with(name, Queue::default())
}

pub fn backend_with(name: &str, queue: Queue) -> RouteBackend {
    let path = format!("{name}.shop.svc.cluster.local:80");
    let discovery = EndpointDiscovery::DestinationGet { path };
    Arc::new(Backend {
        meta: Meta::service("shop", name, NonZeroU16::new(80))
            .unwrap()
            .into(),
        queue,
        dispatcher: BackendDispatcher::BalanceP2c(Load::default(), discovery),
    })
    .into()
}

/// For every request.
pub fn rule(distribution: RouteDistribution) -> Rule {
    Rule::any(RoutePolicy::new(Meta::default_named("all"), distribution))
}

/// Every request goes the same way.
pub fn policy_to(distribution: RouteDistribution) -> ClientPolicy {
    policy_of(vec![rule(distribution)])
}

/// One route, with a breaker that opens at the first failure.
pub fn policy_of(rules: Vec<Rule>) -> ClientPolicy {
    ClientPolicy {
        parent: Meta::service("shop", "web", None).unwrap().into(),
        protocol: Protocol::Http1(HttpPolicy {
            routes: vec![Route {
                hosts: Vec::new(),
                rules,
            }],
            failure_accrual: Some(FailureAccrual::consecutive(1)),
        }),
        fidelity: Fidelity::Extended,
        failures: None,
    }
}
