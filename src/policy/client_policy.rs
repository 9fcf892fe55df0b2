use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;

use super::{
    Backend, BackendDispatcher, EndpointDiscovery, FailureAccrual, Failures, Fidelity, GrpcPolicy,
    Meta, OpaquePolicy, Route, RouteDistribution, TlsPolicy,
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
/// Which version of HTTP goes over the wire is the connector's choice; the policy says which routes apply to it. A
/// [`Client`](crate::Client) carries HTTP and gRPC; [`Opaque`](Self::Opaque) and [`Tls`](Self::Tls) are for others to read,
/// and it refuses to be built with them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one for each policy, and its parts are matched on"
)]
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
        /// For what is not HTTP, which no client in process sends.
        opaque: OpaquePolicy,
    },
    /// HTTP/1, by the Service's `appProtocol`.
    Http1(HttpPolicy),
    /// HTTP/2, by the Service's `appProtocol`.
    Http2(HttpPolicy),
    /// gRPC: the target has routes for it.
    Grpc(GrpcPolicy),
    /// Bytes.
    Opaque(OpaquePolicy),
    /// TLS that the mesh does not terminate.
    Tls(TlsPolicy),
}

static NO_HTTP: HttpPolicy = HttpPolicy {
    routes: Vec::new(),
    failure_accrual: None,
};

/// Routes and failure accrual for one version of HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct HttpPolicy {
    /// The routes. A request that none of them matches is refused.
    pub routes: Vec<Route>,
    /// When an endpoint is ejected; none is never.
    pub failure_accrual: Option<FailureAccrual>,
}

// === impl ClientPolicy ===

impl ClientPolicy {
    /// The same policy, decided as `fidelity` says.
    #[must_use]
    pub fn with_fidelity(mut self, fidelity: Fidelity) -> Self {
        self.fidelity = fidelity;
        self
    }

    /// The same policy, with its failure accrual changed where it has one. Manifests have no words for
    /// [what goes beyond the mesh](super::AccrualExtensions):
    ///
    /// ```
    /// # use tower_mesh::policy::{ClientPolicy, FailureAccrual};
    /// # let policy = ClientPolicy::http().failure_accrual(FailureAccrual::consecutive(7)).build()?;
    /// let policy = policy.with_failure_accrual(|accrual| accrual.worse_than_peers().probes(3));
    /// # Ok::<(), tower_mesh::policy::InvalidPolicy>(())
    /// ```
    #[must_use]
    pub fn with_failure_accrual(
        mut self,
        change: impl Fn(FailureAccrual) -> FailureAccrual,
    ) -> Self {
        let change = |accrual: &mut Option<FailureAccrual>| *accrual = accrual.take().map(&change);
        match &mut self.protocol {
            Protocol::Http1(policy) | Protocol::Http2(policy) => {
                change(&mut policy.failure_accrual);
            }
            Protocol::Detect { http1, http2, .. } => {
                change(&mut http1.failure_accrual);
                change(&mut http2.failure_accrual);
            }
            Protocol::Grpc(policy) => change(&mut policy.failure_accrual),
            Protocol::Opaque(_) | Protocol::Tls(_) => {}
        }
        self
    }

    /// The HTTP policy for requests of this version; one without routes, if the target is not spoken to in HTTP (then
    /// see [`protocol`](Self::protocol)).
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
            Protocol::Grpc(_) | Protocol::Opaque(_) | Protocol::Tls(_) => &NO_HTTP,
        }
    }

    /// Where requests that name no host are for: the path of the parent's own backend if it has a port, such as
    /// `payments.shop.svc.cluster.local:8080`, or else the parent's name in the cluster, if it is a Service.
    pub fn authority(&self) -> Option<Authority> {
        let backends = self.backends();
        let own = backends.iter().find(|backend| backend.meta == self.parent);
        let path = own.and_then(|backend| match &backend.dispatcher {
            BackendDispatcher::BalanceP2c(_, EndpointDiscovery::DestinationGet { path }) => {
                Some(path.as_str())
            }
            BackendDispatcher::Forward(_) | BackendDispatcher::Fail { .. } => None,
        });
        let with_port = |path: &str| {
            let authority = path.parse::<Authority>().ok()?;
            authority.port_u16().map(|_| authority)
        };
        path.and_then(with_port).or_else(|| match &*self.parent {
            Meta::Resource(service) if service.kind() == "Service" => {
                let (name, namespace) = (service.name(), service.namespace());
                let host = format!("{name}.{namespace}.svc.cluster.local");
                let authority = match service.port() {
                    Some(port) => format!("{host}:{port}"),
                    None => host,
                };
                authority.parse().ok()
            }
            _ => None,
        })
    }

    /// Every backend that a route names, each once, in the order of first mention. The opaque route of
    /// [`Protocol::Detect`] is left out: nothing is sent there.
    pub fn backends(&self) -> Vec<Arc<Backend>> {
        let mut backends = Vec::new();
        match &self.protocol {
            Protocol::Http1(policy) | Protocol::Http2(policy) => {
                named(&policy.routes, &mut backends)
            }
            Protocol::Detect { http1, http2, .. } => {
                named(&http1.routes, &mut backends);
                named(&http2.routes, &mut backends);
            }
            Protocol::Grpc(policy) => named(&policy.routes, &mut backends),
            Protocol::Opaque(policy) => {
                if let Some(route) = &policy.route {
                    used(&route.distribution, &mut backends);
                }
            }
            Protocol::Tls(policy) => {
                for route in &policy.routes {
                    used(&route.route.distribution, &mut backends);
                }
            }
        }
        backends
    }
}

fn named<M, F>(routes: &[Route<M, F>], backends: &mut Vec<Arc<Backend>>) {
    for rule in routes.iter().flat_map(|route| &route.rules) {
        used(&rule.policy.distribution, backends);
    }
}

fn used<F>(distribution: &RouteDistribution<F>, backends: &mut Vec<Arc<Backend>>) {
    for (used, _) in distribution.backends() {
        if !backends.contains(&used.backend) {
            backends.push(Arc::clone(&used.backend));
        }
    }
}

/// How long the mesh looks at a connection before it takes it for opaque, unless told otherwise.
pub(crate) const DETECT_TIMEOUT: Duration = Duration::from_secs(10);

// === impl Protocol ===

impl Protocol {
    /// The same policy for both versions, as the mesh's control plane sends for a port without `appProtocol`.
    pub fn detect(policy: HttpPolicy) -> Self {
        Self::Detect {
            timeout: DETECT_TIMEOUT,
            http1: policy.clone(),
            http2: policy,
            opaque: OpaquePolicy::default(),
        }
    }

    /// In words, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Detect { .. } => "HTTP",
            Self::Http1(_) => "HTTP/1",
            Self::Http2(_) => "HTTP/2",
            Self::Grpc(_) => "gRPC",
            Self::Opaque(_) => "opaque TCP",
            Self::Tls(_) => "TLS that passes through",
        }
    }

    /// Whether it is spoken in requests and responses, so that a [`Client`](crate::Client) can carry it.
    pub fn is_http(&self) -> bool {
        !matches!(self, Self::Opaque(_) | Self::Tls(_))
    }
}
