use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::Shared;
use crate::breaker::{BreakerEvents, BreakerSnapshot, Forced};
use crate::endpoint::Cell;

/// The breakers of a client's endpoints, seen from outside: their state with the evidence, and a hand on each.
///
/// ```
/// use tower_mesh::policy::{ClientPolicy, FailureAccrual};
/// use tower_mesh::{Body, BoxError, Client, Endpoint};
/// # use http::{Request, Response};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), BoxError> {
/// # let connect = |_: &Endpoint| {
/// #     tower::service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(Response::new(Body::empty())) })
/// # };
/// let policy = ClientPolicy::http().failure_accrual(FailureAccrual::consecutive(5)).build()?;
/// let client = Client::builder(policy)
///     .endpoints(["10.0.0.7:8080", "10.0.0.8:8080"])
///     .build(connect)?;
///
/// let mut events = client.breakers().subscribe();
/// for breaker in client.breakers().of("10.0.0.7:8080".parse()?) {
///     breaker.force_open(); // until `reset`: it is being repaired
///     assert_eq!(breaker.state().to_string(), "opened by hand 0.0 s ago");
/// }
/// assert_eq!(events.next().await.unwrap().decision.name(), "by_hand");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ClientBreakers {
    shared: Arc<Shared>,
}

/// One endpoint's breaker in one backend of a client.
///
/// It is the endpoint's as long as the client knows it, also while it is away from the set.
#[derive(Clone)]
pub struct EndpointBreaker {
    cell: Arc<Cell>,
}

// === impl ClientBreakers ===

impl ClientBreakers {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// One for each endpoint of each backend that the policy names now, by backend and then by address.
    pub fn all(&self) -> Vec<EndpointBreaker> {
        let Some(plan) = self.shared.plan.load_full() else {
            return Vec::new();
        };
        let cells = plan.backends().into_iter().flat_map(|backend| {
            let members = backend.balance.members();
            let mut cells: Vec<_> = members.iter().map(|m| Arc::clone(&m.cell)).collect();
            cells.sort_by_key(|cell| cell.address());
            cells
        });
        cells.map(|cell| EndpointBreaker { cell }).collect()
    }

    /// Those of one endpoint: as many as backends that have it.
    pub fn of(&self, endpoint: SocketAddr) -> Vec<EndpointBreaker> {
        let mut all = self.all();
        all.retain(|breaker| breaker.endpoint() == endpoint);
        all
    }

    /// What happens to any of them from now on: [`Opened`](crate::core::observe::Decision::Opened),
    /// [`EjectionRefused`](crate::core::observe::Decision::EjectionRefused), [`Probing`](crate::core::observe::Decision::Probing),
    /// [`ProbePassed`](crate::core::observe::Decision::ProbePassed), [`ProbeReturned`](crate::core::observe::Decision::ProbeReturned),
    /// [`Closed`](crate::core::observe::Decision::Closed) and [`ByHand`](crate::core::observe::Decision::ByHand), those of endpoints that join later
    /// included. It ends with the client.
    pub fn subscribe(&self) -> BreakerEvents {
        self.shared.backends.events.subscribe(None)
    }
}

impl std::fmt::Debug for ClientBreakers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.all()).finish()
    }
}

// === impl EndpointBreaker ===

impl EndpointBreaker {
    /// The endpoint.
    pub fn endpoint(&self) -> SocketAddr {
        self.cell.address()
    }

    /// The backend that it is an endpoint of.
    pub fn backend(&self) -> &str {
        self.cell.backend()
    }

    /// What it is doing, and why: "opened 3.2 s ago: 7 failures in a row; next probe in 0.8 s".
    pub fn state(&self) -> BreakerSnapshot {
        self.cell.breaker(Instant::now())
    }

    /// Takes the endpoint out of service until [`reset`](Self::reset) (or [`force_closed`](Self::force_closed)): nobody
    /// is sent there, not even to probe it or in panic. It does not count as a member for the policy's limits.
    ///
    /// What is in flight goes on, and decides nothing.
    pub fn force_open(&self) {
        self.cell.force(Some(Forced::Open));
    }

    /// Keeps the endpoint in service until [`reset`](Self::reset) (or [`force_open`](Self::force_open)), whatever it
    /// answers.
    pub fn force_closed(&self) {
        self.cell.force(Some(Forced::Closed));
    }

    /// In service, by its own rules, and as if nothing had been learned yet.
    pub fn reset(&self) {
        self.cell.force(None);
    }
}

impl std::fmt::Debug for EndpointBreaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (backend, endpoint, state) = (self.backend(), self.endpoint(), self.state());
        write!(f, "{backend} {endpoint}: {state}")
    }
}
