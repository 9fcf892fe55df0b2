//! What a policy comes to for the requests of a client.

mod compile;
mod kept;

use std::sync::Arc;

use http::{HeaderMap, Method, Uri, Version};

pub(crate) use self::kept::{Budgets, Paces};
use super::backends::BackendState;
use super::origin::Origin;
use crate::budget::RetryBudget;
use crate::distribute::Weighted;
use crate::policy::{
    ClientPolicy, Fidelity, Filter, GrpcFilter, MethodKind, Protocol, ResponseClasses, Retry,
    Timeouts,
};
use crate::retry::hedge::Pace;
use crate::route::{Filtered, Index, PathMatched, filter_request, filter_response};
use crate::verdict::{GrpcClassifier, HttpClassifier};

/// A policy, compiled: immutable, with the state that outlives it.
pub(crate) struct Plan {
    pub(crate) fidelity: Fidelity,
    pub(crate) http: HttpClassifier,
    pub(crate) grpc: GrpcClassifier,
    /// What retries are paid from that a request's own headers ask for.
    pub(crate) default_budget: Option<RetryBudget>,
    /// What requests are for that name no host.
    pub(crate) origin: Option<Origin>,
    policy: Arc<ClientPolicy>,
    // One for each version where they differ, else one.
    routes: [Vec<Vec<Arc<RulePlan>>>; 2],
    indexes: [Index; 2],
}

/// What to do with the requests of one rule.
pub(crate) struct RulePlan {
    pub(crate) name: Arc<str>,
    pub(crate) filters: Filters,
    pub(crate) kind: MethodKind,
    /// What statuses mean, where the route says so.
    pub(crate) classes: ResponseClasses,
    pub(crate) timeouts: Timeouts,
    pub(crate) retry: Option<Arc<RetryPlan>>,
    pub(crate) hedge: Option<Arc<HedgePlan>>,
    /// Whether a request's `l5d-*` headers may override timeouts and retries.
    pub(crate) allow_overrides: bool,
    /// Whether the first that can serve is taken, instead of one by weight.
    pub(crate) in_order: bool,
    pub(crate) backends: Vec<BackendPlan>,
}

pub(crate) struct HedgePlan {
    pub(crate) pace: Arc<Pace>,
    pub(crate) budget: RetryBudget,
}

pub(crate) struct RetryPlan {
    pub(crate) retry: Retry,
    pub(crate) budget: Option<RetryBudget>,
}

pub(crate) struct BackendPlan {
    pub(crate) state: Arc<BackendState>,
    pub(crate) filters: Filters,
    /// Why there is nobody behind it, where the policy says so.
    pub(crate) fails: Option<String>,
    weight: u32,
}

/// A rule's filters, of its protocol.
pub(crate) enum Filters {
    Http(Vec<Filter>),
    Grpc(Vec<GrpcFilter>),
}

/// What a request is sent by: the plan that it began with, and the rule of it that it matched.
pub(crate) struct Routed {
    pub(crate) plan: Arc<Plan>,
    pub(crate) rule: Arc<RulePlan>,
    pub(crate) path: PathMatched,
}

// === impl Routed ===

impl Routed {
    /// Whether the mesh is followed where this crate would do otherwise.
    pub(crate) fn is_mesh(&self) -> bool {
        self.plan.is_mesh()
    }
}

// === impl Plan ===

impl Plan {
    pub(crate) fn is_mesh(&self) -> bool {
        self.fidelity == Fidelity::Mesh
    }

    /// The most specific rule that matches.
    pub(crate) fn find(
        self: &Arc<Self>,
        version: Version,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Option<Routed> {
        let other = version == Version::HTTP_2 && !self.routes[1].is_empty();
        let which = usize::from(other);
        let (index, routes) = (&self.indexes[which], &self.routes[which]);
        let (route, rule, path) = match &self.policy.protocol {
            Protocol::Grpc(grpc) => {
                let found = index.find(&grpc.routes, method, uri, headers)?;
                (found.route_index, found.rule_index, found.path)
            }
            _ => {
                let policy = self.policy.for_version(version);
                let found = index.find(&policy.routes, method, uri, headers)?;
                (found.route_index, found.rule_index, found.path)
            }
        };
        let rule = routes.get(route)?.get(rule)?;
        Some(Routed {
            plan: Arc::clone(self),
            rule: Arc::clone(rule),
            path,
        })
    }

    /// What the policy's target speaks, if that cannot be carried.
    pub(crate) fn not_carried(&self) -> Option<&'static str> {
        let protocol = &self.policy.protocol;
        (!protocol.is_http()).then(|| protocol.name())
    }

    /// The backends that can have endpoints, in the order in which they are first named.
    pub(crate) fn backends(&self) -> Vec<&Arc<BackendState>> {
        let rules = self.routes.iter().flatten().flatten();
        let named = rules.flat_map(|rule| &rule.backends);
        let named = named.filter(|backend| backend.fails.is_none());
        distinct(named.map(|backend| &backend.state), Arc::ptr_eq)
    }

    /// The budgets, in the order in which they are first named.
    pub(crate) fn budgets(&self) -> Vec<&RetryBudget> {
        let rules = self.routes.iter().flatten().flatten();
        let named = rules.flat_map(|rule| {
            let retry = rule.retry.as_ref().and_then(|retry| retry.budget.as_ref());
            let hedge = rule.hedge.as_ref().map(|hedge| &hedge.budget);
            retry.into_iter().chain(hedge)
        });
        distinct(named, RetryBudget::is_same)
    }
}

fn distinct<'a, T>(all: impl Iterator<Item = &'a T>, same: impl Fn(&T, &T) -> bool) -> Vec<&'a T> {
    let mut distinct: Vec<&T> = Vec::new();
    for one in all {
        if !distinct.iter().any(|known| same(known, one)) {
            distinct.push(one);
        }
    }
    distinct
}

// === impl Filters ===

impl Filters {
    pub(crate) fn request(
        &self,
        uri: &Uri,
        headers: &mut HeaderMap,
        path: PathMatched,
        word: impl FnMut() -> u64,
    ) -> Result<(), Filtered> {
        match self {
            Self::Http(filters) => filter_request(filters, uri, headers, path, word),
            Self::Grpc(filters) => filter_request(filters, uri, headers, path, word),
        }
    }

    pub(crate) fn response(&self, headers: &mut HeaderMap) {
        match self {
            Self::Http(filters) => filter_response(filters, headers),
            Self::Grpc(filters) => filter_response(filters, headers),
        }
    }
}

impl From<Vec<Filter>> for Filters {
    fn from(filters: Vec<Filter>) -> Self {
        Self::Http(filters)
    }
}

impl From<Vec<GrpcFilter>> for Filters {
    fn from(filters: Vec<GrpcFilter>) -> Self {
        Self::Grpc(filters)
    }
}

impl Weighted for BackendPlan {
    fn weight(&self) -> u32 {
        self.weight
    }
}
