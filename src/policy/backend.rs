use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Load, Meta};

/// Somewhere requests can go: a set of endpoints behind one queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Backend {
    /// What it is in the cluster.
    pub meta: Arc<Meta>,
    /// The line for requests that find no endpoint able to serve.
    pub queue: Queue,
    /// How endpoints are found and chosen.
    pub dispatcher: BackendDispatcher,
}

/// How a backend finds and chooses endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackendDispatcher {
    /// One fixed address.
    Forward(SocketAddr),
    /// Two choices by load over discovered endpoints.
    BalanceP2c(Load, EndpointDiscovery),
    /// None: what the policy names does not exist, or cannot be a backend. It keeps its weight, and requests that fall to
    /// it fail, as in the mesh: by the filters of its [`RouteBackend`](crate::policy::RouteBackend), else with this
    /// message.
    Fail {
        /// Why.
        message: String,
    },
}

/// Where a balanced backend's endpoints come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndpointDiscovery {
    /// The mesh's destination service, by this path: `name.namespace.svc.cluster.local:port`.
    ///
    /// A client that has no control plane gives endpoints in its builder; the path then names the backend in messages.
    DestinationGet {
        /// Name and port.
        path: String,
    },
}

/// A bounded line of requests that wait for an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Queue {
    /// The most requests that wait at once. One more is refused at once.
    pub capacity: usize,
    /// How long the backend may be unable to serve before waiting requests, and all that follow until it can, are
    /// refused.
    pub failfast_timeout: Duration,
}

// === impl Queue ===

impl Default for Queue {
    /// What the mesh's control plane sends: 100 requests, 3 s.
    fn default() -> Self {
        Self {
            capacity: 100,
            failfast_timeout: Duration::from_secs(3),
        }
    }
}
