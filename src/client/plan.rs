use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Uri, Version};
use tokio::time::Instant;

use super::backends::{BackendState, Backends};
use super::origin::Origin;
use crate::balance::Settings;
use crate::budget::RetryBudget;
use crate::core::sync::{Mutex, lock};
use crate::distribute::Weighted;
use crate::policy::{
    BackendDispatcher, Budget, ClientPolicy, FailureAccrual, Failures, Fidelity, Filter,
    GrpcFilter, Hedge, HedgeDelay, Load, Meta, MethodKind, PeakEwma, Protocol, Queue,
    ResponseClasses, Retry, Route, RoutePolicy, Spread, Timeouts,
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
    routes: [Vec<Vec<RulePlan>>; 2],
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

/// The percentiles that hedges track outlive the plans, too: one for each rule and part.
#[derive(Default)]
pub(crate) struct Paces(Mutex<BTreeMap<PaceKey, Arc<Pace>>>);

// The rule by its name and its place among those of that name; the part in millionths.
type PaceKey = (Arc<Meta>, Meta, usize, u32);

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
        let routes = match &policy.protocol {
            Protocol::Http1(http) | Protocol::Http2(http) => [
                compiler.routes(&http.routes, &http.failure_accrual),
                Vec::new(),
            ],
            Protocol::Detect { http1, http2, .. } => {
                let first = compiler.routes(&http1.routes, &http1.failure_accrual);
                let second = (http1 != http2)
                    .then(|| compiler.routes(&http2.routes, &http2.failure_accrual));
                [first, second.unwrap_or_default()]
            }
            Protocol::Grpc(grpc) => [
                compiler.routes(&grpc.routes, &grpc.failure_accrual),
                Vec::new(),
            ],
            // Not carried: every request is told so.
            Protocol::Opaque(_) | Protocol::Tls(_) => [Vec::new(), Vec::new()],
        };
        let indexes = match &policy.protocol {
            Protocol::Http1(http) | Protocol::Http2(http) => {
                [Index::new(&http.routes), Index::default()]
            }
            Protocol::Detect { http1, http2, .. } => [
                Index::new(&http1.routes),
                if http1 == http2 {
                    Index::default()
                } else {
                    Index::new(&http2.routes)
                },
            ],
            Protocol::Grpc(grpc) => [Index::new(&grpc.routes), Index::default()],
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
            routes,
            indexes,
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
        let matched = |version, route, rule, path| Matched {
            version,
            route,
            rule,
            path,
        };
        let [first, other] = &self.indexes;
        if let Protocol::Grpc(grpc) = &self.policy.protocol {
            let found = first.find(&grpc.routes, method, uri, headers)?;
            return Some(matched(0, found.route_index, found.rule_index, found.path));
        }
        let second = version == Version::HTTP_2 && !self.routes[1].is_empty();
        let index = if second { other } else { first };
        let policy = self.policy.for_version(version);
        let found = index.find(&policy.routes, method, uri, headers)?;
        let (route, rule) = (found.route_index, found.rule_index);
        Some(matched(usize::from(second), route, rule, found.path))
    }

    /// What the policy's target speaks, if that cannot be carried.
    pub(crate) fn not_carried(&self) -> Option<&'static str> {
        let protocol = &self.policy.protocol;
        (!protocol.is_http()).then(|| protocol.name())
    }

    pub(crate) fn rule(&self, matched: &Matched) -> &RulePlan {
        &self.routes[matched.version][matched.route][matched.rule]
    }

    /// Every backend that can have endpoints, once for each mention.
    pub(crate) fn backends(&self) -> impl Iterator<Item = &Arc<BackendState>> {
        let rules = self.routes.iter().flatten().flatten();
        let backends = rules.flat_map(|rule| &rule.backends);
        backends
            .filter(|backend| backend.fails.is_none())
            .map(|backend| &backend.state)
    }

    /// Every budget, once for each mention.
    pub(crate) fn budgets(&self) -> impl Iterator<Item = &RetryBudget> {
        let rules = self.routes.iter().flatten().flatten();
        rules.flat_map(|rule| {
            let retry = rule.retry.as_ref().and_then(|retry| retry.budget.as_ref());
            let hedge = rule.hedge.as_ref().map(|hedge| &hedge.budget);
            retry.into_iter().chain(hedge)
        })
    }
}

// === impl Compiler ===

impl Compiler<'_> {
    fn routes<M, F: Clone>(
        &self,
        routes: &[Route<M, F>],
        accrual: &Option<FailureAccrual>,
    ) -> Vec<Vec<RulePlan>>
    where
        Filters: From<Vec<F>>,
    {
        let rules = |route: &Route<M, F>| {
            let rules = route.rules.iter();
            rules.map(|rule| self.rule(&rule.policy, accrual)).collect()
        };
        routes.iter().map(rules).collect()
    }

    fn rule<F: Clone>(&self, policy: &RoutePolicy<F>, accrual: &Option<FailureAccrual>) -> RulePlan
    where
        Filters: From<Vec<F>>,
    {
        let Self {
            policy: client,
            backends,
            budgets,
            now,
            ..
        } = *self;
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
        let hedge = policy.params.hedge.map(|hedge| {
            // One for both, unless it has its own.
            let retries = retry
                .as_ref()
                .and_then(|retry: &Arc<RetryPlan>| retry.budget.clone());
            let budget = match (hedge.own_budget(), retries) {
                (None, Some(budget)) => budget,
                (own, _) => budgets.get(&client.parent, own.unwrap_or_default(), now),
            };
            Arc::new(HedgePlan {
                pace: self.pace(&policy.meta, &hedge),
                budget,
            })
        });
        let used = policy.distribution.backends();
        let used = used.map(|(used, weight)| {
            let backend = &used.backend;
            let forward = matches!(backend.dispatcher, BackendDispatcher::Forward(_));
            let load = match &backend.dispatcher {
                BackendDispatcher::BalanceP2c(load, _) => *load,
                BackendDispatcher::Forward(_) | BackendDispatcher::Fail { .. } => {
                    Load::PeakEwma(PeakEwma::DEFAULT)
                }
            };
            let fails = match &backend.dispatcher {
                BackendDispatcher::Fail { message } => Some(message.clone()),
                BackendDispatcher::Forward(_) | BackendDispatcher::BalanceP2c(..) => None,
            };
            let accrual = accrual.clone();
            let settings = Settings {
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
            };
            BackendPlan {
                state: backends.get(backend, &settings, now),
                filters: used.filters.clone().into(),
                fails,
                weight,
            }
        });
        RulePlan {
            name: policy.meta.to_string().into(),
            filters: policy.filters.clone().into(),
            kind: policy.params.kind,
            classes: policy.params.classes.clone(),
            timeouts: policy.params.timeouts,
            retry,
            hedge,
            allow_overrides: policy.params.allow_l5d_request_headers,
            in_order: matches!(policy.distribution.spread(), Spread::FirstAvailable(_)),
            backends: used.collect(),
        }
    }
}

impl Compiler<'_> {
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
        let mut paces = lock(&self.paces.0);
        let pace = paces
            .entry(key)
            .or_insert_with(|| Arc::new(Pace::new(hedge)));
        Arc::clone(pace)
    }
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
