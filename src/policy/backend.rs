use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{InvalidPolicy, Meta};

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

/// What an endpoint's load is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Load {
    /// Latency, peak-sensitive and decaying, times requests in flight.
    PeakEwma(PeakEwma),
    /// The same, with a penalty for answers that are failures.
    PenaltyPeakEwma(PenaltyPeakEwma),
}

/// Peak EWMA: a slower answer raises the estimate at once, faster ones lower it over `decay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeakEwma {
    decay: Duration,
    default_rtt: Duration,
}

/// Peak EWMA in which a failed answer weighs at least `penalty`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PenaltyPeakEwma {
    ewma: PeakEwma,
    /// What a failure weighs at least.
    pub penalty: Duration,
    /// The time over which a penalty fades. (The mesh reads it and then ignores it.)
    pub penalty_decay: Duration,
    /// The most that an endpoint's own `Retry-After` may weigh.
    pub max_retry_after: Duration,
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

// === impl Load ===

impl Load {
    /// The latency estimate, which both kinds have.
    pub const fn ewma(&self) -> PeakEwma {
        match self {
            Self::PeakEwma(ewma) => *ewma,
            Self::PenaltyPeakEwma(penalty) => penalty.ewma,
        }
    }
}

impl Default for Load {
    fn default() -> Self {
        Self::PeakEwma(PeakEwma::DEFAULT)
    }
}

// === impl PeakEwma ===

impl PeakEwma {
    /// What the mesh's control plane sends: 30 ms fading over 10 s.
    pub const DEFAULT: Self = Self {
        decay: Duration::from_secs(10),
        default_rtt: Duration::from_millis(30),
    };

    /// A `default_rtt` below 1 ms is taken as 1 ms, as in the mesh.
    ///
    /// # Errors
    /// A `decay` of zero.
    pub fn try_new(decay: Duration, default_rtt: Duration) -> Result<Self, InvalidPolicy> {
        if decay.is_zero() {
            return Err(InvalidPolicy::new(
                "load.decay",
                "0s",
                "a duration above zero",
            ));
        }
        Ok(Self {
            decay,
            default_rtt: default_rtt.max(Duration::from_millis(1)),
        })
    }

    /// The time in which an estimate falls to 37 % (1/e) of its distance from the samples.
    pub const fn decay(&self) -> Duration {
        self.decay
    }

    /// The estimate before the first sample.
    pub const fn default_rtt(&self) -> Duration {
        self.default_rtt
    }
}

impl Default for PeakEwma {
    fn default() -> Self {
        Self::DEFAULT
    }
}

// === impl PenaltyPeakEwma ===

impl PenaltyPeakEwma {
    /// The mesh's defaults for the penalty: 5 s fading over 10 s, at most 300 s by `Retry-After`.
    pub const fn new(ewma: PeakEwma) -> Self {
        Self {
            ewma,
            penalty: Duration::from_secs(5),
            penalty_decay: Duration::from_secs(10),
            max_retry_after: Duration::from_secs(300),
        }
    }

    /// The latency estimate underneath.
    pub const fn ewma(&self) -> PeakEwma {
        self.ewma
    }
}
