use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use tokio::time::Instant;
use tower_service::Service;

use super::error::BalanceError;
use super::future::BalanceFuture;
use super::{Set, Settings};
use crate::breaker::ClassifyResult;
use crate::core::BoxError;
use crate::core::draw;
use crate::core::driver::Driver;
use crate::core::observe::{Decision, Observer, Observers};
use crate::core::sync::{AtomicU64, Ordering};
use crate::core::time::Epoch;
use crate::discover::{Endpoints, InvalidEndpoint, Said, Source, Update};
use crate::endpoint::{Endpoint, Pool};
use crate::policy::{FailureAccrual, Load, Queue};
use crate::verdict::Outcome;

/// A balanced service over endpoints of any kind, for requests of any type.
///
/// ```
/// use tower::{Service, ServiceExt};
/// use tower_mesh::{Endpoint, balance::Balance, policy::FailureAccrual};
/// # #[derive(Clone)] struct Database(std::net::SocketAddr);
/// # impl Database { fn lazy(at: std::net::SocketAddr) -> Self { Self(at) } }
/// # impl Service<&'static str> for Database {
/// #     type Response = Vec<u64>; type Error = std::io::Error;
/// #     type Future = std::future::Ready<Result<Vec<u64>, std::io::Error>>;
/// #     fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), std::io::Error>> {
/// #         std::task::Poll::Ready(Ok(()))
/// #     }
/// #     fn call(&mut self, _: &'static str) -> Self::Future { std::future::ready(Ok(vec![1])) }
/// # }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), tower_mesh::BoxError> {
///
/// let mut replicas = Balance::builder()
///     .failure_accrual(FailureAccrual::consecutive(5))
///     .endpoints(["10.0.0.7:5432", "10.0.0.8:5432"])
///     .build(|endpoint: &Endpoint| Database::lazy(endpoint.address()))?;
///
/// let rows = replicas.call("SELECT 1").await?;
/// # assert_eq!(rows, [1]);
/// # Ok(())
/// # }
/// ```
///
/// **Clones** share their endpoints and all that is known of them. A clone is one small allocation; it makes the calls of
/// one task cost the others less, so give each its own.
///
/// **Readiness**: always, so that a `LoadShed` outside never sheds. A call waits, within its future, for an endpoint (in a
/// bounded line, for a bounded time) and for a fresh clone of its service. Services are *handles*: clones share their
/// connection. One that is not ready does not block others: another is waited for beside it.
///
/// **Verdicts**: an error is a failure, and nothing else, unless [`classify`](BalanceBuilder::classify) says otherwise. A
/// call that is dropped is neutral, and its endpoint counts as silent until it answers something.
pub struct Balance<S, C = Errors> {
    local: Arc<Local<S>>,
    classify: C,
}

/// Makes a [`Balance`]; see [`Balance::builder`].
#[must_use = "a builder does nothing until it is built"]
pub struct BalanceBuilder<C = Errors> {
    name: Arc<str>,
    endpoints: Endpoints,
    settings: Settings,
    observers: Observers,
    seed: Option<u64>,
    zone: Option<Arc<str>>,
    classify: C,
}

/// Judges a call of any type: an error is a failure, unless it says itself that it is nobody's or the caller's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errors;

/// What all clones share.
pub(super) struct Shared<S> {
    pub(super) set: Arc<Set<S>>,
    pub(super) make: Box<dyn Fn(&Endpoint) -> S + Send + Sync>,
    driver: Option<Driver>,
    lanes: AtomicU64,
}

/// What the calls of one clone share: so that those of others need not be told of each. In a line of its own, or clones
/// that were made one after the other could share what each of them writes to.
#[repr(align(64))]
pub(super) struct Local<S> {
    pub(super) shared: Arc<Shared<S>>,
    // Its requests are numbered from here.
    next: AtomicU64,
}

// As many requests as one clone can number before it takes the numbers of another.
const LANE: u32 = 40;

// === impl Errors ===

impl<T, E> ClassifyResult<T, E> for Errors {
    fn classify_result(&self, result: &Result<T, E>) -> Outcome {
        match result {
            Ok(_) => Outcome::SUCCESS,
            Err(_) => Outcome::FAILURE,
        }
    }
}

// === impl Balance ===

impl Balance<()> {
    /// Names the endpoints, and what is done with them.
    pub fn builder() -> BalanceBuilder {
        BalanceBuilder {
            name: "balance".into(),
            endpoints: Vec::<Endpoint>::new().into(),
            settings: Settings {
                accrual: None,
                load: Load::default(),
                queue: Queue::default(),
                probes_in_turn: true,
            },
            observers: Observers::default(),
            seed: None,
            zone: None,
            classify: Errors,
        }
    }
}

impl<S: Send + Sync + 'static, C> Balance<S, C> {
    /// How many endpoints it has now.
    pub fn endpoints(&self) -> usize {
        self.local.shared.set.members().count()
    }

    /// How many calls have no answer yet.
    pub fn pending(&self) -> usize {
        let members = self.local.shared.set.members();
        members.iter().map(|member| member.cell.pending()).sum()
    }

    /// How many calls wait for an endpoint.
    pub fn waiting(&self) -> usize {
        self.local.shared.set.line.waiting()
    }

    /// Changes the endpoints by hand. What was learned about one is kept for ten minutes after it left.
    pub fn update(&self, update: Update) {
        self.local.shared.set.update(update, Instant::now());
    }
}

impl<S, C: Clone> Clone for Balance<S, C> {
    fn clone(&self) -> Self {
        let local = Local::new(Arc::clone(&self.local.shared));
        Self {
            local: Arc::new(local),
            classify: self.classify.clone(),
        }
    }
}

impl<S, C> fmt::Debug for Balance<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = &self.local.shared.set;
        f.debug_struct("Balance")
            .field("name", &set.pool.name)
            .field("endpoints", &set.members().count())
            .finish_non_exhaustive()
    }
}

impl<S, C, Req> Service<Req> for Balance<S, C>
where
    S: Service<Req, Error: Into<BoxError>> + Clone + Send + Sync + 'static,
    C: ClassifyResult<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = BalanceError;
    type Future = BalanceFuture<S, Req, C>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BalanceError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        // Nobody else has this clone while it is borrowed so.
        let number = self.local.only_number();
        BalanceFuture::new(
            Arc::clone(&self.local),
            number,
            request,
            self.classify.clone(),
        )
    }
}

impl<S, C, Req> Service<Req> for &Balance<S, C>
where
    S: Service<Req, Error: Into<BoxError>> + Clone + Send + Sync + 'static,
    C: ClassifyResult<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = BalanceError;
    type Future = BalanceFuture<S, Req, C>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BalanceError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let number = self.local.number();
        BalanceFuture::new(
            Arc::clone(&self.local),
            number,
            request,
            self.classify.clone(),
        )
    }
}

// === impl BalanceBuilder ===

impl<C> BalanceBuilder<C> {
    /// A name for messages. Default: `balance`.
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Where its endpoints are; see [`Endpoints`] for what can be given. Default: none, until
    /// [`update`](Balance::update) says so.
    pub fn endpoints(mut self, endpoints: impl Into<Endpoints>) -> Self {
        self.endpoints = endpoints.into();
        self
    }

    /// By what endpoints are compared. Default: peak EWMA.
    pub fn load(mut self, load: Load) -> Self {
        self.settings.load = load;
        self
    }

    /// When an endpoint is ejected for its failures. Default: never.
    pub fn failure_accrual(mut self, accrual: FailureAccrual) -> Self {
        self.settings.accrual = Some(accrual);
        self
    }

    /// The line for calls that find no endpoint able to serve.
    pub fn queue(mut self, queue: Queue) -> Self {
        self.settings.queue = queue;
        self
    }

    /// Tells decisions to `observer`.
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observers = Observers::new(observer);
        self
    }

    /// The zone the calls are made from, such as `eu-1a`: where the load is told to
    /// [prefer it](crate::policy::Load::prefer_zone), calls stay there as far as its endpoints can carry them. Default: not
    /// known.
    pub fn zone(mut self, zone: impl Into<Arc<str>>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// What chance is drawn from. Default: another one for each balance.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// How a call's result is judged: a closure over `&Result<T, E>` that returns a [`Verdict`](crate::Verdict), or
    /// [`ServerErrors`](crate::breaker::ServerErrors) for HTTP. Cloned for each call. Default: [`Errors`].
    pub fn classify<D>(self, classify: D) -> BalanceBuilder<D> {
        BalanceBuilder {
            name: self.name,
            endpoints: self.endpoints,
            settings: self.settings,
            observers: self.observers,
            seed: self.seed,
            zone: self.zone,
            classify,
        }
    }

    /// The balance, over services that `make` makes: one for each endpoint, when it is first chosen.
    ///
    /// # Errors
    /// An endpoint that is none.
    pub fn build<S>(
        self,
        make: impl Fn(&Endpoint) -> S + Send + Sync + 'static,
    ) -> Result<Balance<S, C>, InvalidEndpoint>
    where
        S: Send + Sync + 'static,
    {
        self.endpoints.check()?;
        Ok(self.made(Box::new(make)))
    }

    /// The balance, over these services, which have no addresses: in what is told of them they go by their number, as
    /// `[100::]:0` and so on, addresses that lead nowhere.
    pub fn over<S>(mut self, services: impl IntoIterator<Item = S>) -> Balance<S, C>
    where
        S: Clone + Send + Sync + 'static,
    {
        let services: Vec<S> = services.into_iter().collect();
        let endpoints: Vec<_> = (0..services.len()).map(numbered).collect();
        self.endpoints = endpoints.into();
        let clones = move |endpoint: &Endpoint| services[number_of(endpoint)].clone();
        self.made(Box::new(clones))
    }

    fn made<S>(self, make: Box<dyn Fn(&Endpoint) -> S + Send + Sync>) -> Balance<S, C>
    where
        S: Send + Sync + 'static,
    {
        let now = Instant::now();
        let pool = Pool::new(
            self.name,
            self.seed.unwrap_or_else(draw::entropy),
            Epoch::new(now),
            self.observers,
            Arc::default(),
        );
        let set = Arc::new(Set::new(pool, self.settings, None).in_zone(self.zone));
        if let Source::Fixed(Ok(endpoints)) = &self.endpoints.0
            && !endpoints.is_empty()
        {
            set.update(Update::Reset(endpoints.clone()), now);
        }
        let task = self.endpoints.0.task(applier(Arc::downgrade(&set)));
        let shared = Shared {
            set,
            make,
            driver: task.map(Driver::new),
            lanes: AtomicU64::new(0),
        };
        Balance {
            local: Arc::new(Local::new(Arc::new(shared))),
            classify: self.classify,
        }
    }
}

impl<C> fmt::Debug for BalanceBuilder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalanceBuilder")
            .field("name", &self.name)
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}

/// What a driver does with what its source says. A task must not keep alive what it keeps up to date.
pub(crate) fn applier<L: Send + Sync + 'static>(
    set: Weak<Set<L>>,
) -> impl Fn(Said) -> bool + Clone + Send + Sync + 'static {
    move |said| {
        let Some(set) = set.upgrade() else {
            return false;
        };
        let now = Instant::now();
        match said {
            Said::Updates(updates) => set.update_all(updates, now),
            Said::Ended => set.end(now),
            Said::Failed(error) => {
                let backend = &set.pool.name;
                tracing::warn!(%backend, %error, "endpoint discovery failed; what is known stays in use");
                set.pool.observers.tell(now, || Decision::DiscoveryFailed {
                    backend: Arc::clone(backend),
                    error: error.to_string(),
                });
            }
        }
        true
    }
}

// In the prefix that is set aside for what leads nowhere (RFC 6666).
fn numbered(number: usize) -> Endpoint {
    let address = Ipv6Addr::from_bits((0x100 << 112) | number as u128);
    Endpoint::new(SocketAddr::from((address, 0))).named(format!("service {number}"))
}

fn number_of(endpoint: &Endpoint) -> usize {
    match endpoint.address() {
        SocketAddr::V6(address) => address.ip().to_bits() as u64 as usize,
        SocketAddr::V4(_) => 0,
    }
}

// === impl Local ===

impl<S> Local<S> {
    fn new(shared: Arc<Shared<S>>) -> Self {
        let lane = shared.lanes.fetch_add(1, Ordering::Relaxed);
        Self {
            shared,
            next: AtomicU64::new(lane << LANE),
        }
    }

    /// The number of the next request.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The same for the only one who asks.
    fn only_number(&self) -> u64 {
        let number = self.next.load(Ordering::Relaxed);
        self.next.store(number + 1, Ordering::Relaxed);
        number
    }

    pub(super) fn ensure(&self) {
        if let Some(driver) = &self.shared.driver {
            driver.ensure();
        }
    }
}
