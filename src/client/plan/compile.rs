//! A policy becomes a plan.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{BackendPlan, Budgets, Filters, HedgePlan, Paces, Plan, RetryPlan, RulePlan};
use crate::balance::Settings;
use crate::budget::RetryBudget;
use crate::client::backends::Backends;
use crate::client::origin::Origin;
use crate::policy::{
    Backend, BackendDispatcher, Budget, ClientPolicy, FailureAccrual, Failures, Fidelity, Hedge,
    HedgeDelay, Load, Meta, PeakEwma, Protocol, Queue, Retry, Route, RoutePolicy, Spread,
};
use crate::retry::hedge::Pace;
use crate::route::{Index, Match};
use crate::verdict::{GrpcClassifier, HttpClassifier};

/// What a rule is compiled with.
struct Compiler<'a> {
    policy: &'a ClientPolicy,
    backends: &'a Backends,
    budgets: &'a Budgets,
    paces: &'a Paces,
    // How many rules of each name were compiled already.
    named: RefCell<BTreeMap<Meta, usize>>,
    now: Instant,
}

// === impl Plan ===

impl Plan {
    pub(crate) fn compile(
        policy: Arc<ClientPolicy>,
        backends: &Backends,
        budgets: &Budgets,
        paces: &Paces,
        now: Instant,
    ) -> Self {
        let compiler = Compiler {
            policy: &policy,
            backends,
            budgets,
            paces,
            named: RefCell::default(),
            now,
        };
        // The second is empty unless the versions differ.
        let ((routes, index), (other_routes, other_index)) = match &policy.protocol {
            Protocol::Http1(http) | Protocol::Http2(http) => {
                let all = compiler.routes(&http.routes, &http.failure_accrual);
                (all, Default::default())
            }
            Protocol::Detect { http1, http2, .. } => {
                let first = compiler.routes(&http1.routes, &http1.failure_accrual);
                let second = (http1 != http2)
                    .then(|| compiler.routes(&http2.routes, &http2.failure_accrual));
                (first, second.unwrap_or_default())
            }
            Protocol::Grpc(grpc) => {
                let all = compiler.routes(&grpc.routes, &grpc.failure_accrual);
                (all, Default::default())
            }
            // Not carried: every request is told so.
            Protocol::Opaque(_) | Protocol::Tls(_) => Default::default(),
        };
        let failures = policy.failures.clone();
        let failures = failures.unwrap_or_else(|| Failures::by(policy.fidelity));
        Self {
            fidelity: policy.fidelity,
            http: HttpClassifier::new(failures.statuses),
            grpc: GrpcClassifier::new(failures.codes, policy.fidelity),
            default_budget: default_budget(&policy)
                .map(|budget| budgets.get(&policy.parent, budget, now)),
            origin: Origin::of(&policy),
            policy,
            routes: [routes, other_routes],
            indexes: [index, other_index],
        }
    }
}

// === impl Compiler ===

impl Compiler<'_> {
    /// The rules of each route, and the index that finds them.
    fn routes<M: Match, F: Clone>(
        &self,
        routes: &[Route<M, F>],
        accrual: &Option<FailureAccrual>,
    ) -> (Vec<Vec<Arc<RulePlan>>>, Index)
    where
        Filters: From<Vec<F>>,
    {
        let rules = |route: &Route<M, F>| {
            let rules = route.rules.iter();
            rules
                .map(|rule| Arc::new(self.rule(&rule.policy, accrual)))
                .collect()
        };
        (routes.iter().map(rules).collect(), Index::new(routes))
    }

    fn rule<F: Clone>(&self, policy: &RoutePolicy<F>, accrual: &Option<FailureAccrual>) -> RulePlan
    where
        Filters: From<Vec<F>>,
    {
        let params = &policy.params;
        let retry = params.retry.as_ref().map(|retry| self.retry(retry));
        let retries = retry.as_ref().and_then(|retry| retry.budget.as_ref());
        let hedge = params.hedge.map(|hedge| HedgePlan {
            budget: self.hedge_budget(&hedge, retries),
            pace: self.pace(&policy.meta, &hedge),
        });
        let backends = policy.distribution.backends();
        let backends = backends.map(|(used, weight)| {
            let backend = &used.backend;
            let settings = self.settings(backend, accrual.clone());
            BackendPlan {
                state: self.backends.get(backend, &settings, self.now),
                filters: used.filters.clone().into(),
                fails: match &backend.dispatcher {
                    BackendDispatcher::Fail { message } => Some(message.clone()),
                    BackendDispatcher::Forward(_) | BackendDispatcher::BalanceP2c(..) => None,
                },
                weight,
            }
        });
        RulePlan {
            name: policy.meta.to_string().into(),
            filters: policy.filters.clone().into(),
            kind: params.kind,
            classes: params.classes.clone(),
            timeouts: params.timeouts,
            backends: backends.collect(),
            retry: retry.map(Arc::new),
            hedge: hedge.map(Arc::new),
            allow_overrides: params.allow_l5d_request_headers,
            in_order: matches!(policy.distribution.spread(), Spread::FirstAvailable(_)),
        }
    }

    fn retry(&self, retry: &Retry) -> RetryPlan {
        let budget = match retry.budget() {
            None if retry.is_unlimited() => None,
            None => default_budget(self.policy),
            named => named,
        };
        RetryPlan {
            retry: retry.clone(),
            budget: budget.map(|budget| self.budget(budget)),
        }
    }

    // One for both, unless it has its own.
    fn hedge_budget(&self, hedge: &Hedge, retries: Option<&RetryBudget>) -> RetryBudget {
        match (hedge.own_budget(), retries) {
            (None, Some(budget)) => budget.clone(),
            (own, _) => self.budget(own.unwrap_or_default()),
        }
    }

    fn budget(&self, budget: Budget) -> RetryBudget {
        self.budgets.get(&self.policy.parent, budget, self.now)
    }

    // What of the policy the state of a backend depends on.
    fn settings(&self, backend: &Backend, accrual: Option<FailureAccrual>) -> Settings {
        let mesh = self.policy.fidelity == Fidelity::Mesh;
        let forward = matches!(backend.dispatcher, BackendDispatcher::Forward(_));
        let load = match &backend.dispatcher {
            BackendDispatcher::BalanceP2c(load, _) => *load,
            BackendDispatcher::Forward(_) | BackendDispatcher::Fail { .. } => {
                Load::PeakEwma(PeakEwma::DEFAULT)
            }
        };
        Settings {
            // Difference::EjectionFloor, ProbeHint and ForwardBreaker.
            accrual: match accrual {
                _ if mesh && forward => None,
                accrual if mesh => accrual.map(FailureAccrual::into_the_meshs),
                accrual => accrual,
            },
            // Difference::LoadExtensions.
            load: if mesh { load.into_the_meshs() } else { load },
            // Difference::OutageProbes.
            probes_in_turn: !mesh,
            // Difference::BackendQueue.
            queue: if mesh { MESH_QUEUE } else { backend.queue },
        }
    }

    fn pace(&self, rule: &Meta, hedge: &Hedge) -> Arc<Pace> {
        let HedgeDelay::Percentile(part) = hedge.delay() else {
            return Arc::new(Pace::new(hedge));
        };
        let nth = {
            let mut named = self.named.borrow_mut();
            let count = named.entry(rule.clone()).or_default();
            *count += 1;
            *count
        };
        let key = (
            Arc::clone(&self.policy.parent),
            rule.clone(),
            nth,
            part.ppm(),
        );
        self.paces.get(key, hedge)
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
