//! One record of decisions: whatever the client decides is one [`Decision`], and everything that reports reads these.
//!
//! An [`Observer`] is given to the builder of a client, a balance or a breaker. To count, log or assert, a closure is
//! enough:
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use tokio::time::Instant;
//! use tower_mesh::core::observe::Decision;
//! use tower_mesh::policy::{ClientPolicy, Retry};
//! # use http::{Request, Response};
//! # use tower_mesh::{Body, BoxError, Client};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! # let leaf = |_: &tower_mesh::Endpoint| tower::service_fn(|_: Request<Body>| async {
//! #     Ok::<_, BoxError>(Response::builder().status(503).body(Body::empty())?)
//! # });
//!
//! let told = Arc::new(Mutex::new(Vec::new()));
//! let client = Client::builder(ClientPolicy::http().retry(Retry::on(503..=503)).build()?)
//!     .endpoints(["10.0.0.7:8080"])
//!     .observer({
//!         let told = told.clone();
//!         move |_: Instant, decision: &Decision| told.lock().unwrap().push(decision.name())
//!     })
//!     .build(leaf)?; // it answers 503
//! # told.lock().unwrap().clear();
//! client.request(Request::get("http://payments.shop/").body(Body::empty())?).await?;
//!
//! let told = told.lock().unwrap();
//! assert_eq!(told[..4], ["routed", "picked", "answered", "retried"]);
//! # Ok(())
//! # }
//! ```

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// Something that was decided. Times are in `at` of [`Observer::observe`] unless named here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// A request was matched to a route.
    Routed {
        /// The request's number.
        request: u64,
        /// The route.
        route: Arc<str>,
    },
    /// No endpoint can serve; the request waits in line.
    Waiting {
        /// The request's number.
        request: u64,
        /// The backend it waits for.
        backend: Arc<str>,
    },
    /// An endpoint was chosen.
    Picked {
        /// The request's number.
        request: u64,
        /// The attempt, counted from one.
        attempt: u32,
        /// The endpoint.
        endpoint: SocketAddr,
        /// Whether this request is the endpoint's probe.
        probe: bool,
    },
    /// An endpoint answered, or failed to.
    Answered {
        /// The request's number.
        request: u64,
        /// The attempt, counted from one.
        attempt: u32,
        /// The endpoint.
        endpoint: SocketAddr,
        /// What it said: a status, or the kind of error.
        answer: Answer,
    },
    /// The request will be sent again.
    Retried {
        /// The request's number.
        request: u64,
        /// The attempt that failed, counted from one.
        attempt: u32,
        /// How long it waits first.
        backoff: Duration,
    },
    /// The request was sent a second time beside its first attempt, which takes long.
    Hedged {
        /// The request's number.
        request: u64,
        /// The attempt that is made, counted from one.
        attempt: u32,
    },
    /// The answer could have been retried, and was not.
    NotRetried {
        /// The request's number.
        request: u64,
        /// The attempt that failed, counted from one.
        attempt: u32,
        /// Why not.
        why: NotRetried,
    },
    /// A gRPC response was held back for its trailers, and is handed over before they came.
    HandedOver {
        /// The request's number.
        request: u64,
        /// The attempt, counted from one.
        attempt: u32,
        /// How long its head was held back.
        held: Duration,
    },
    /// The client refused the request, or gave it up.
    Refused {
        /// The request's number.
        request: u64,
        /// Why.
        why: &'static str,
    },
    /// An endpoint was ejected.
    Opened {
        /// The endpoint.
        endpoint: SocketAddr,
        /// The evidence.
        why: Cow<'static, str>,
        /// When it may be probed.
        until: Instant,
    },
    /// An endpoint would have been ejected, were it not for the floor.
    EjectionRefused {
        /// The endpoint.
        endpoint: SocketAddr,
        /// The evidence.
        why: Cow<'static, str>,
    },
    /// An ejected endpoint was chosen all the same: none of those that were looked at can serve, and the policy says to
    /// panic.
    Panicked {
        /// The endpoint.
        endpoint: SocketAddr,
        /// The request.
        request: u64,
    },
    /// Somebody took an endpoint's breaker in hand, or let it go.
    ByHand {
        /// The endpoint.
        endpoint: SocketAddr,
        /// What was done: it was `opened` or `closed`, and stays so, or `reset`.
        what: &'static str,
    },
    /// An ejected endpoint gets a probe.
    Probing {
        /// The endpoint.
        endpoint: SocketAddr,
        /// The request that is the probe.
        request: u64,
    },
    /// A probe succeeded, and another must before the endpoint is re-admitted.
    ProbePassed {
        /// The endpoint.
        endpoint: SocketAddr,
    },
    /// A probe ended without a verdict and gave its place back.
    ProbeReturned {
        /// The endpoint.
        endpoint: SocketAddr,
    },
    /// An ejected endpoint was re-admitted.
    Closed {
        /// The endpoint.
        endpoint: SocketAddr,
    },
    /// A standalone breaker opened, or stays so after a failed probe.
    BreakerOpened {
        /// The breaker's name.
        breaker: Arc<str>,
        /// The evidence.
        why: Cow<'static, str>,
        /// When a probe is due; none if it was opened by hand.
        until: Option<Instant>,
    },
    /// An open standalone breaker lets one request through.
    BreakerProbing {
        /// The breaker's name.
        breaker: Arc<str>,
    },
    /// A standalone breaker's probe succeeded, and another must before it closes.
    BreakerProbePassed {
        /// The breaker's name.
        breaker: Arc<str>,
    },
    /// A standalone breaker's probe ended without a verdict and gave its place back.
    BreakerProbeReturned {
        /// The breaker's name.
        breaker: Arc<str>,
    },
    /// A standalone breaker closed.
    BreakerClosed {
        /// The breaker's name.
        breaker: Arc<str>,
    },
    /// A standalone breaker refused a request.
    BreakerRefused {
        /// The breaker's name.
        breaker: Arc<str>,
        /// When a probe is due; none while one is out, or if it was opened by hand.
        retry_at: Option<Instant>,
        /// It would have, but it only watches.
        dry_run: bool,
    },
    /// A backend's endpoints changed.
    Endpoints {
        /// The backend.
        backend: Arc<str>,
        /// How many joined.
        joined: usize,
        /// How many left.
        left: usize,
    },
    /// A discovery source failed; what was known stays in use.
    DiscoveryFailed {
        /// The backend.
        backend: Arc<str>,
        /// What it said.
        error: String,
    },
    /// A new policy is in force.
    Swapped,
}

/// What an endpoint said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// A response with this status.
    Status(u16),
    /// No response, for this reason.
    Error(&'static str),
}

/// Why a failed attempt was the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotRetried {
    /// The limit was reached.
    Limit,
    /// The budget is spent.
    Budget,
    /// The body is gone: it was a stream, or larger than the policy keeps.
    Body,
    /// The wait would have outlasted the deadline.
    Deadline,
    /// It may have been processed, and is not safe to repeat.
    Unsafe,
    /// No endpoint can take it.
    NoEndpoint,
    /// The endpoint asks to be left alone, for good or for longer than a request should wait.
    Pushback,
}

/// Somebody who wants to know. Called in line: it should be quick, and must not call the client.
pub trait Observer: Send + Sync + 'static {
    /// A decision, as it is made.
    fn observe(&self, at: Instant, decision: &Decision);
}

/// Where decisions are told. One branch when nobody listens.
#[derive(Clone, Default)]
pub struct Observers(Option<Arc<dyn Observer>>);

// === impl Decision ===

impl Decision {
    /// A stable name, in snake case.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Routed { .. } => "routed",
            Self::Waiting { .. } => "waiting",
            Self::Picked { .. } => "picked",
            Self::Answered { .. } => "answered",
            Self::Retried { .. } => "retried",
            Self::Hedged { .. } => "hedged",
            Self::NotRetried { .. } => "not_retried",
            Self::HandedOver { .. } => "handed_over",
            Self::Refused { .. } => "refused",
            Self::Opened { .. } => "opened",
            Self::EjectionRefused { .. } => "ejection_refused",
            Self::Panicked { .. } => "panicked",
            Self::ByHand { .. } => "by_hand",
            Self::Probing { .. } => "probing",
            Self::ProbePassed { .. } => "probe_passed",
            Self::ProbeReturned { .. } => "probe_returned",
            Self::Closed { .. } => "closed",
            Self::BreakerOpened { .. } => "breaker_opened",
            Self::BreakerProbing { .. } => "breaker_probing",
            Self::BreakerProbePassed { .. } => "breaker_probe_passed",
            Self::BreakerProbeReturned { .. } => "breaker_probe_returned",
            Self::BreakerClosed { .. } => "breaker_closed",
            Self::BreakerRefused { .. } => "breaker_refused",
            Self::Endpoints { .. } => "endpoints",
            Self::DiscoveryFailed { .. } => "discovery_failed",
            Self::Swapped => "swapped",
        }
    }
}

// === impl Observer ===

impl<F> Observer for F
where
    F: Fn(Instant, &Decision) + Send + Sync + 'static,
{
    fn observe(&self, at: Instant, decision: &Decision) {
        self(at, decision);
    }
}

// === impl Observers ===

impl Observers {
    /// Tells this one.
    pub fn new(observer: impl Observer) -> Self {
        Self(Some(Arc::new(observer)))
    }

    /// Tells a decision, which is only made if somebody listens.
    pub(crate) fn tell(&self, at: Instant, decision: impl FnOnce() -> Decision) {
        if let Some(observer) = &self.0 {
            observer.observe(at, &decision());
        }
    }

    /// Whether somebody listens.
    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Observers(1)"
        } else {
            "Observers(0)"
        })
    }
}
