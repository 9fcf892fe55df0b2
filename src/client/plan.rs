use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Uri, Version};
use tokio::time::Instant;

use super::backends::{BackendState, Backends};
use crate::balance::Settings;
use crate::budget::RetryBudget;
use crate::core::sync::{Mutex, lock};
use crate::distribute::Weighted;
use crate::policy::{
    BackendDispatcher, Budget, ClientPolicy, FailureAccrual, Failures, Fidelity, Filter,
    HttpPolicy, Load, Meta, PeakEwma, Protocol, Queue, Retry, RoutePolicy, Spread, Timeouts,
};
use crate::route::{self, PathMatched};
use crate::verdict::{GrpcClassifier, HttpClassifier};

/// A policy, compiled: immutable, with the state that outlives it.
pub(crate) struct Plan {
    pub(crate) fidelity: Fidelity,
    pub(crate) http: HttpClassifier,
    pub(crate) grpc: GrpcClassifier,
    /// What retries are paid from that a request's own headers ask for.
    pub(crate) default_budget: Option<RetryBudget>,
    policy: Arc<ClientPolicy>,
    // One for each version where they differ, else one.
    routes: [Vec<Vec<RulePlan>>; 2],
}

/// What to do with the requests of one rule.
pub(crate) struct RulePlan {
    pub(crate) name: Arc<str>,
    pub(crate) filters: Vec<Filter>,
    pub(crate) timeouts: Timeouts,
    pub(crate) retry: Option<Arc<RetryPlan>>,
    /// Whether a request's `l5d-*` headers may override timeouts and retries.
    pub(crate) allow_overrides: bool,
    /// Whether the first that can serve is taken, instead of one by weight.
    pub(crate) in_order: bool,
    pub(crate) backends: Vec<BackendPlan>,
}

pub(crate) struct RetryPlan {
    pub(crate) retry: Retry,
    pub(crate) budget: Option<RetryBudget>,
}

pub(crate) struct BackendPlan {
    pub(crate) state: Arc<BackendState>,
    pub(crate) filters: Vec<Filter>,
    pub(crate) load: Load,
    weight: u32,
}

/// Which rule of a plan a request matched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matched {
    version: usize,
    route: usize,
    rule: usize,
    pub(crate) path: PathMatched,
}

/// Budgets outlive the plans that name them: one for each parent and setting.
#[derive(Default)]
pub(crate) struct Budgets(Mutex<BTreeMap<BudgetKey, RetryBudget>>);

// One for each setting of a parent's.
type BudgetKey = (Arc<Meta>, Budget);

// === impl Plan ===

impl Plan {
    pub(crate) fn compile(
        policy: Arc<ClientPolicy>,
        backends: &Backends,
        budgets: &Budgets,
        now: Instant,
    ) -> Self {
        let compile = |http: &HttpPolicy| -> Vec<Vec<RulePlan>> {
            let rules = |route: &crate::policy::Route| {
                let rules = route.rules.iter();
                rules
                    .map(|rule| {
                        RulePlan::compile(&rule.policy, http, &policy, backends, budgets, now)
                    })
                    .collect()
            };
            http.routes.iter().map(rules).collect()
        };
        let routes = match &policy.protocol {
            Protocol::Http1(http) | Protocol::Http2(http) => [compile(http), Vec::new()],
            Protocol::Detect { http1, http2, .. } if http1 == http2 => [compile(http1), Vec::new()],
            Protocol::Detect { http1, http2, .. } => [compile(http1), compile(http2)],
        };
        let failures = policy.failures.clone();
        let failures = failures.unwrap_or_else(|| Failures::by(policy.fidelity));
        Self {
            fidelity: policy.fidelity,
            http: HttpClassifier::new(failures.statuses),
            grpc: GrpcClassifier::new(failures.codes, policy.fidelity),
            default_budget: default_budget(&policy)
                .map(|budget| budgets.get(&policy.parent, budget, now)),
            policy,
            routes,
        }
    }

    /// The most specific rule that matches.
    pub(crate) fn find(
        &self,
        version: Version,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Option<Matched> {
        let policy = self.policy.for_version(version);
        let found = route::find(&policy.routes, method, uri, headers)?;
        let second = version == Version::HTTP_2 && !self.routes[1].is_empty();
        Some(Matched {
            version: usize::from(second),
            route: found.route_index,
            rule: found.rule_index,
            path: found.path,
        })
    }

    pub(crate) fn rule(&self, matched: &Matched) -> &RulePlan {
        &self.routes[matched.version][matched.route][matched.rule]
    }

    /// Every backend, once for each mention.
    pub(crate) fn backends(&self) -> impl Iterator<Item = &Arc<BackendState>> {
        let rules = self.routes.iter().flatten().flatten();
        rules.flat_map(|rule| rule.backends.iter().map(|backend| &backend.state))
    }

    /// Every budget, once for each mention.
    pub(crate) fn budgets(&self) -> impl Iterator<Item = &RetryBudget> {
        let rules = self.routes.iter().flatten().flatten();
        rules.filter_map(|rule| rule.retry.as_ref()?.budget.as_ref())
    }
}

// === impl RulePlan ===

impl RulePlan {
    fn compile(
        policy: &RoutePolicy,
        http: &HttpPolicy,
        client: &ClientPolicy,
        backends: &Backends,
        budgets: &Budgets,
        now: Instant,
    ) -> Self {
        let mesh = client.fidelity == Fidelity::Mesh;
        let retry = policy.params.retry.as_ref();
        let retry = retry.map(|retry| {
            let budget = match retry.budget() {
                None if retry.is_unlimited() => None,
                None => default_budget(client),
                named => named,
            };
            Arc::new(RetryPlan {
                retry: retry.clone(),
                budget: budget.map(|budget| budgets.get(&client.parent, budget, now)),
            })
        });
        let used = policy.distribution.backends();
        let used = used.map(|(used, weight)| {
            let backend = &used.backend;
            let forward = matches!(backend.dispatcher, BackendDispatcher::Forward(_));
            let load = match &backend.dispatcher {
                BackendDispatcher::BalanceP2c(load, _) => *load,
                BackendDispatcher::Forward(_) => Load::PeakEwma(PeakEwma::DEFAULT),
            };
            let accrual = http.failure_accrual.clone();
            let settings = Settings {
                // Difference::EjectionFloor and Difference::ForwardBreaker.
                accrual: match accrual {
                    _ if mesh && forward => None,
                    accrual if mesh => accrual.map(FailureAccrual::into_the_meshs),
                    accrual => accrual,
                },
                load,
                // Difference::OutageProbes.
                probes_in_turn: !mesh,
                // Difference::BackendQueue.
                queue: if mesh { MESH_QUEUE } else { backend.queue },
            };
            BackendPlan {
                state: backends.get(backend, &settings, now),
                filters: used.filters.clone(),
                load,
                weight,
            }
        });
        Self {
            name: policy.meta.to_string().into(),
            filters: policy.filters.clone(),
            timeouts: policy.params.timeouts,
            retry,
            allow_overrides: policy.params.allow_l5d_request_headers,
            in_order: matches!(policy.distribution.spread(), Spread::FirstAvailable(_)),
            backends: used.collect(),
        }
    }
}

// Difference::RetryBudget: of a policy that names none.
fn default_budget(policy: &ClientPolicy) -> Option<Budget> {
    (policy.fidelity != Fidelity::Mesh).then(Budget::default)
}

// What the proxy uses for HTTP, whatever the policy says.
const MESH_QUEUE: Queue = Queue {
    capacity: 10_000,
    failfast_timeout: Duration::from_secs(3),
};

impl Weighted for BackendPlan {
    fn weight(&self) -> u32 {
        self.weight
    }
}

// === impl Budgets ===

impl Budgets {
    fn get(&self, parent: &Arc<Meta>, budget: Budget, now: Instant) -> RetryBudget {
        let key = (Arc::clone(parent), budget);
        lock(&self.0)
            .entry(key)
            .or_insert_with(|| RetryBudget::new(budget, now))
            .clone()
    }
}
