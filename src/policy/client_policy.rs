use std::sync::Arc;
use std::time::Duration;

use super::{
    Backend, BackendDispatcher, EndpointDiscovery, FailureAccrual, Failures, Fidelity,
    InvalidPolicy, Load, Meta, Queue, RetryBuilder, Route, RouteBackend, RouteDistribution,
    RouteParams, RoutePolicy, Rule, Timeouts,
};

/// Everything a client needs to know to call one target.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientPolicy {
    /// What the policy is for.
    pub parent: Arc<Meta>,
    /// How the target is spoken to, and the routes for that.
    pub protocol: Protocol,
    /// Whether to decide as the mesh does, or better.
    pub fidelity: Fidelity,
    /// Which answers are failures of the endpoint. None: [by fidelity](Failures::by).
    pub failures: Option<Failures>,
}

/// How a target is spoken to.
///
/// Which version of HTTP goes over the wire is the connector's choice; the policy says which routes apply to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// The mesh looks at what the caller sends.
    #[non_exhaustive]
    Detect {
        /// How long the mesh looks. A client in process knows, and never waits.
        timeout: Duration,
        /// For HTTP/1 requests.
        http1: HttpPolicy,
        /// For HTTP/2 requests.
        http2: HttpPolicy,
    },
    /// HTTP/1, by the Service's `appProtocol`.
    Http1(HttpPolicy),
    /// HTTP/2, by the Service's `appProtocol`.
    Http2(HttpPolicy),
}

/// Routes and failure accrual for one version of HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct HttpPolicy {
    /// The routes. A request that none of them matches is refused.
    pub routes: Vec<Route>,
    /// When an endpoint is ejected; none is never.
    pub failure_accrual: Option<FailureAccrual>,
}

/// Writes a policy with one route for everything and one backend; see [`ClientPolicy::http`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct ClientPolicyBuilder {
    name: String,
    timeouts: Timeouts,
    retry: Option<RetryBuilder>,
    failure_accrual: Option<FailureAccrual>,
    load: Load,
    queue: Queue,
    fidelity: Fidelity,
    failures: Option<Failures>,
}

// === impl ClientPolicy ===

impl ClientPolicy {
    /// A policy without YAML: one route, one backend, nothing switched on.
    pub fn http() -> ClientPolicyBuilder {
        ClientPolicyBuilder {
            name: "http".to_owned(),
            timeouts: Timeouts::default(),
            retry: None,
            failure_accrual: None,
            load: Load::default(),
            queue: Queue::default(),
            fidelity: Fidelity::default(),
            failures: None,
        }
    }

    /// The same policy, decided as `fidelity` says.
    #[must_use]
    pub fn with_fidelity(mut self, fidelity: Fidelity) -> Self {
        self.fidelity = fidelity;
        self
    }

    /// The policy for requests of this version.
    pub fn for_version(&self, version: http::Version) -> &HttpPolicy {
        match &self.protocol {
            Protocol::Http1(policy) | Protocol::Http2(policy) => policy,
            Protocol::Detect { http1, http2, .. } => {
                if version == http::Version::HTTP_2 {
                    http2
                } else {
                    http1
                }
            }
        }
    }

    /// Every backend that a route names, each once, in the order of first mention.
    pub fn backends(&self) -> Vec<Arc<Backend>> {
        let policies: [Option<&HttpPolicy>; 2] = match &self.protocol {
            Protocol::Http1(policy) | Protocol::Http2(policy) => [Some(policy), None],
            Protocol::Detect { http1, http2, .. } => [Some(http1), Some(http2)],
        };
        let mut backends: Vec<Arc<Backend>> = Vec::new();
        for policy in policies.into_iter().flatten() {
            let rules = policy.routes.iter().flat_map(|route| &route.rules);
            for (used, _) in rules.flat_map(|rule| rule.policy.distribution.backends()) {
                if !backends.contains(&used.backend) {
                    backends.push(Arc::clone(&used.backend));
                }
            }
        }
        backends
    }
}

// === impl Protocol ===

impl Protocol {
    /// The same policy for both versions, as the mesh's control plane sends for a port without `appProtocol`.
    pub fn detect(policy: HttpPolicy) -> Self {
        Self::Detect {
            timeout: Duration::from_secs(10),
            http1: policy.clone(),
            http2: policy,
        }
    }
}

// === impl ClientPolicyBuilder ===

impl ClientPolicyBuilder {
    /// What the target and its backend are called in messages. Default: `http`.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How long things may take.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// What is tried again: `Retry::on(502..=504)`.
    pub fn retry(mut self, retry: impl Into<RetryBuilder>) -> Self {
        self.retry = Some(retry.into());
        self
    }

    /// When an endpoint is ejected.
    pub fn failure_accrual(mut self, failure_accrual: impl Into<FailureAccrual>) -> Self {
        self.failure_accrual = Some(failure_accrual.into());
        self
    }

    /// What load is.
    pub fn load(mut self, load: Load) -> Self {
        self.load = load;
        self
    }

    /// The line for requests that find no endpoint able to serve.
    pub fn queue(mut self, queue: Queue) -> Self {
        self.queue = queue;
        self
    }

    /// Whether to decide as the mesh does, or better.
    pub fn fidelity(mut self, fidelity: Fidelity) -> Self {
        self.fidelity = fidelity;
        self
    }

    /// Which answers are failures of the endpoint. Default: [by fidelity](Failures::by).
    pub fn failures(mut self, failures: Failures) -> Self {
        self.failures = Some(failures);
        self
    }

    /// # Errors
    /// The first part that is not valid.
    pub fn build(self) -> Result<ClientPolicy, InvalidPolicy> {
        let meta = Arc::new(Meta::default_named(self.name.as_str()));
        let backend = Arc::new(Backend {
            meta: Arc::clone(&meta),
            queue: self.queue,
            dispatcher: BackendDispatcher::BalanceP2c(
                self.load,
                EndpointDiscovery::DestinationGet { path: self.name },
            ),
        });
        let distribution = RouteDistribution::first_available([RouteBackend::from(backend)])?;
        let mut policy = RoutePolicy::new(Arc::clone(&meta), distribution);
        policy.params = RouteParams {
            timeouts: self.timeouts,
            retry: self.retry.map(RetryBuilder::build).transpose()?,
            allow_l5d_request_headers: false,
        };
        let route = Route {
            hosts: Vec::new(),
            rules: vec![Rule::any(policy)],
        };
        Ok(ClientPolicy {
            parent: meta,
            protocol: Protocol::detect(HttpPolicy {
                routes: vec![route],
                failure_accrual: self.failure_accrual,
            }),
            fidelity: self.fidelity,
            failures: self.failures,
        })
    }
}
