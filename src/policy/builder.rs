use std::sync::Arc;

use super::{
    Backend, BackendDispatcher, ClientPolicy, EndpointDiscovery, FailureAccrual, Failures,
    Fidelity, GrpcPolicy, Hedge, HttpPolicy, InvalidPolicy, Load, MatchRpc, Meta, MethodKind,
    Protocol, Queue, ResponseClasses, RetryBuilder, Route, RouteBackend, RouteDistribution,
    RouteParams, RoutePolicy, Rule, Timeouts,
};

/// Writes a policy with one backend: for HTTP ([`ClientPolicy::http`]) with one route for everything, for gRPC
/// ([`ClientPolicy::grpc`]) with settings for services and methods, too.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct ClientPolicyBuilder<M = ()> {
    name: String,
    timeouts: Timeouts,
    retry: Option<RetryBuilder>,
    hedge: Option<Hedge>,
    failure_accrual: Option<FailureAccrual>,
    load: Load,
    queue: Queue,
    fidelity: Fidelity,
    failures: Option<Failures>,
    kind: MethodKind,
    methods: M,
}

/// What the builder of a gRPC policy knows beside that of an HTTP policy: settings of services and methods.
#[derive(Clone, Debug, Default)]
pub struct Methods(Vec<(Result<MatchRpc, InvalidPolicy>, Method)>);

/// What a service or method wants otherwise than the rest of its policy.
#[derive(Clone, Debug, Default)]
#[must_use = "settings do nothing until they are given to a builder"]
pub struct Method {
    timeouts: Option<Timeouts>,
    // The inner none is no retries.
    retry: Option<Option<RetryBuilder>>,
    kind: Option<MethodKind>,
}

// === impl ClientPolicy ===

impl ClientPolicy {
    /// A policy without YAML: one route, one backend, nothing switched on.
    pub fn http() -> ClientPolicyBuilder {
        ClientPolicyBuilder::new("http", ())
    }

    /// A policy for gRPC without YAML: one backend, nothing switched on.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_mesh::policy::{ClientPolicy, Codes, Method, Retry, Timeouts};
    ///
    /// let policy = ClientPolicy::grpc()
    ///     .named("payments.shop:50051")
    ///     .timeouts(Timeouts::request(Duration::from_secs(2)))
    ///     .retry(Retry::on_codes([Codes::UNAVAILABLE]).limit(2))
    ///     .method("shop.Payments/Charge", Method::new().unary().no_retries())
    ///     .service("shop.Reports", Method::new().timeouts(Timeouts::default()))
    ///     .build()?;
    /// # Ok::<(), tower_mesh::policy::InvalidPolicy>(())
    /// ```
    pub fn grpc() -> ClientPolicyBuilder<Methods> {
        ClientPolicyBuilder::new("grpc", Methods::default())
    }
}

// === impl ClientPolicyBuilder ===

impl<M> ClientPolicyBuilder<M> {
    fn new(name: &str, methods: M) -> Self {
        Self {
            name: name.to_owned(),
            timeouts: Timeouts::default(),
            retry: None,
            hedge: None,
            failure_accrual: None,
            load: Load::default(),
            queue: Queue::default(),
            fidelity: Fidelity::default(),
            failures: None,
            kind: MethodKind::default(),
            methods,
        }
    }

    /// What the target and its backend are called in messages, and with a port (`payments.shop:8080`) the authority of
    /// requests that name none. Default: `http` or `grpc`.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How long things may take. Default: no limits.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// What is tried again: `Retry::on(502..=504)`, `Retry::on_codes([Codes::UNAVAILABLE])`. Default: nothing.
    pub fn retry(mut self, retry: impl Into<RetryBuilder>) -> Self {
        self.retry = Some(retry.into());
        self
    }

    /// A second attempt beside one that takes long, for safe requests. Default: none.
    pub fn hedge(mut self, hedge: Hedge) -> Self {
        self.hedge = Some(hedge);
        self
    }

    /// When an endpoint is ejected. Default: never.
    pub fn failure_accrual(mut self, failure_accrual: impl Into<FailureAccrual>) -> Self {
        self.failure_accrual = Some(failure_accrual.into());
        self
    }

    /// What load is. Default: peak EWMA, with what this crate adds to it.
    pub fn load(mut self, load: Load) -> Self {
        self.load = load;
        self
    }

    /// The line for requests that find no endpoint able to serve. Default: 100 requests, 3 s.
    pub fn queue(mut self, queue: Queue) -> Self {
        self.queue = queue;
        self
    }

    /// Of which kind the gRPC methods are that have no [settings](Method) saying it. Default: [`MethodKind::Auto`].
    pub fn kind(mut self, kind: MethodKind) -> Self {
        self.kind = kind;
        self
    }

    /// Whether to decide as the mesh does, or better. Default: [`Fidelity::Extended`].
    pub fn fidelity(mut self, fidelity: Fidelity) -> Self {
        self.fidelity = fidelity;
        self
    }

    /// Which answers are failures of the endpoint. Default: [by fidelity](Failures::by).
    pub fn failures(mut self, failures: Failures) -> Self {
        self.failures = Some(failures);
        self
    }

    fn policy<F>(&self, method: &Method) -> Result<RoutePolicy<F>, InvalidPolicy> {
        let meta = Arc::new(Meta::default_named(self.name.as_str()));
        let backend = Arc::new(Backend {
            meta: Arc::clone(&meta),
            queue: self.queue,
            dispatcher: BackendDispatcher::BalanceP2c(
                self.load,
                EndpointDiscovery::DestinationGet {
                    path: self.name.clone(),
                },
            ),
        });
        let distribution = RouteDistribution::first_available([RouteBackend::from(backend)])?;
        let mut policy = RoutePolicy::new(meta, distribution);
        let retry = method.retry.clone().unwrap_or_else(|| self.retry.clone());
        policy.params = RouteParams {
            timeouts: method.timeouts.unwrap_or(self.timeouts),
            retry: retry.map(RetryBuilder::build).transpose()?,
            hedge: self.hedge,
            allow_l5d_request_headers: false,
            kind: method.kind.unwrap_or(self.kind),
            classes: ResponseClasses::default(),
        };
        Ok(policy)
    }

    fn done(self, protocol: Protocol) -> ClientPolicy {
        ClientPolicy {
            parent: Arc::new(Meta::default_named(self.name)),
            protocol,
            fidelity: self.fidelity,
            failures: self.failures,
        }
    }
}

impl ClientPolicyBuilder {
    /// # Errors
    /// The first part that is not valid.
    pub fn build(self) -> Result<ClientPolicy, InvalidPolicy> {
        let http = HttpPolicy {
            routes: vec![Route {
                hosts: Vec::new(),
                rules: vec![Rule::any(self.policy(&Method::new())?)],
            }],
            failure_accrual: self.failure_accrual.clone(),
        };
        Ok(self.done(Protocol::detect(http)))
    }
}

impl ClientPolicyBuilder<Methods> {
    /// Settings of one method: `shop.Payments/Charge`. What they do not say is the policy's, or the default.
    pub fn method(mut self, method: &str, settings: Method) -> Self {
        self.methods.0.push((MatchRpc::method(method), settings));
        self
    }

    /// Settings of the methods of one service, `shop.Payments`, that have none of their own.
    pub fn service(mut self, service: &str, settings: Method) -> Self {
        self.methods.0.push((MatchRpc::service(service), settings));
        self
    }

    /// # Errors
    /// The first part that is not valid.
    pub fn build(mut self) -> Result<ClientPolicy, InvalidPolicy> {
        let mut rules = Vec::new();
        for (matched, settings) in std::mem::take(&mut self.methods.0) {
            rules.push(Rule {
                matches: vec![matched?],
                policy: self.policy(&settings)?,
            });
        }
        rules.push(Rule::any(self.policy(&Method::new())?));
        let grpc = GrpcPolicy {
            routes: vec![Route {
                hosts: Vec::new(),
                rules,
            }],
            failure_accrual: self.failure_accrual.clone(),
        };
        Ok(self.done(Protocol::Grpc(grpc)))
    }
}

// === impl Method ===

impl Method {
    /// Nothing otherwise.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its own timeouts, all three.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = Some(timeouts);
        self
    }

    /// Its own retries.
    pub fn retry(mut self, retry: impl Into<RetryBuilder>) -> Self {
        self.retry = Some(Some(retry.into()));
        self
    }

    /// One attempt.
    pub fn no_retries(mut self) -> Self {
        self.retry = Some(None);
        self
    }

    /// One message there, one back: see [`MethodKind`].
    pub fn unary(mut self) -> Self {
        self.kind = Some(MethodKind::Unary);
        self
    }

    /// A stream in one direction or both: see [`MethodKind`].
    pub fn streaming(mut self) -> Self {
        self.kind = Some(MethodKind::Streaming);
        self
    }
}
