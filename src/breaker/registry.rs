//! A breaker for each of many targets, bounded.

use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::classify::{HttpOrGrpc, ServerErrors};
use super::error::BreakerError;
use super::events::BreakerEvents;
use super::future::BreakerFuture;
use super::handle::BreakerHandle;
use super::judging::{AtEnd, AtHead, Judging};
use super::key::{ByHost, Key};
use super::passage::Passage;
use super::settings::{Settings, Wait};
use super::snapshot::BreakerSnapshot;
use super::table::Table;
use crate::core::BoxError;
use crate::core::observe::{Observer, Observers};
use crate::core::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::policy::FailureAccrual;
use crate::verdict::{ClassifyResponse, Outcome};

/// One breaker for each target of a client that talks to many: by host, or by a key of your own.
///
/// ```
/// use http::{Request, Response};
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_mesh::breaker::{BreakerError, Breakers, BreakersService};
/// use tower_mesh::policy::FailureAccrual;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), tower_mesh::BoxError> {
/// # let http = tower::service_fn(|request: Request<()>| async move {
/// #     let up = request.uri().host() != Some("down.shop");
/// #     Response::builder().status(if up { 200 } else { 503 }).body(())
/// # });
///
/// let breakers = Breakers::by_host(FailureAccrual::consecutive(1)).capacity(10_000);
/// let client = ServiceBuilder::new().layer(breakers.clone()).service(http);
///
/// let get = |uri: &str| client.clone().oneshot(Request::get(uri).body(()).unwrap());
/// assert_eq!(get("http://down.shop/").await?.status(), 503);
/// assert!(matches!(get("http://down.shop/").await, Err(BreakerError::Open(_))));
/// assert_eq!(get("http://up.shop/").await?.status(), 200);
/// assert_eq!(breakers.states().iter().filter(|state| state.is_open()).count(), 1);
/// # Ok(())
/// # }
///
/// // In a field:
/// struct Crawler<S> {
///     client: BreakersService<S>,
/// }
///
/// // Or a key of your own.
/// # struct Query { tenant: u32 }
/// # fn by_tenant() {
/// let by_tenant = Breakers::by(FailureAccrual::consecutive(5), |query: &Query| {
///     format!("tenant {}", query.tenant)
/// });
/// # }
/// ```
///
/// It is a layer like [`BreakerLayer`](super::BreakerLayer), with the same rules; all services that it and its clones
/// make share its breakers. Those who keep it can look at them.
///
/// **Bounded**: with as many keys as its capacity, a new one takes the place of the least recently used that is closed
/// and has no request in flight (nor a handle or a refusal that is kept). It looks at the 32 least recently used, no further, and if each of them
/// is open or busy the request passes without a breaker, which is [counted](Self::unguarded). An open breaker is not
/// forgotten, unless its probe has been due for the longest backoff and nobody came: dead hosts that nobody asks for any
/// more do not fill it for ever. Requests that have no key pass without a breaker, too.
#[derive(Clone, Debug)]
pub struct Breakers<K = ByHost, C = ServerErrors, M = AtHead> {
    settings: Settings,
    capacity: usize,
    shared: Arc<Registry>,
    key: K,
    classify: C,
    judging: PhantomData<M>,
}

/// The service of [`Breakers`].
#[derive(Clone, Debug)]
pub struct BreakersService<S, K = ByHost, C = ServerErrors, M = AtHead> {
    inner: S,
    shared: Arc<Registry>,
    key: K,
    classify: C,
    judging: PhantomData<M>,
}

#[derive(Debug)]
struct Registry {
    table: Mutex<Table>,
    unguarded: AtomicU64,
}

// === impl Breakers ===

impl Breakers {
    /// By host and port of the request.
    pub fn by_host(accrual: FailureAccrual) -> Self {
        Self::with_key(accrual, ByHost)
    }
}

impl<K> Breakers<K> {
    /// How many breakers there are at most, unless [`capacity`](Self::capacity) says otherwise.
    pub const CAPACITY: usize = 10_000;

    /// By what `key` says of each request.
    pub fn by<Req, T>(accrual: FailureAccrual, key: K) -> Self
    where
        K: Fn(&Req) -> T,
        T: Into<std::borrow::Cow<'static, str>>,
    {
        Self::with_key(accrual, key)
    }

    /// By a [`Key`] of your own type.
    pub fn with_key(accrual: FailureAccrual, key: K) -> Self {
        let settings = Settings::new(&accrual);
        Self {
            shared: Arc::new(Registry::new(settings.clone(), Self::CAPACITY)),
            settings,
            capacity: Self::CAPACITY,
            key,
            classify: ServerErrors,
            judging: PhantomData,
        }
    }
}

impl<K, C> Breakers<K, C> {
    /// Judges results by `classify`, as [`BreakerLayer::classify`](super::BreakerLayer::classify) does.
    pub fn classify<F, T, E, V>(self, classify: F) -> Breakers<K, F>
    where
        F: Fn(&Result<T, E>) -> V,
        V: Into<Outcome>,
    {
        self.judging_by(classify)
    }

    /// Judges results by a [`ClassifyResult`](super::ClassifyResult) of your own type.
    pub fn classify_with<F>(self, classify: F) -> Breakers<K, F> {
        self.judging_by(classify)
    }

    /// Judges HTTP responses at the end of their body, and gRPC's by their trailers, as
    /// [`BreakerLayer::settling_bodies`](super::BreakerLayer::settling_bodies) does.
    pub fn settling_bodies(self) -> Breakers<K, HttpOrGrpc, AtEnd> {
        self.judging_by(HttpOrGrpc)
    }
}

impl<K, C> Breakers<K, C, AtEnd> {
    /// Judges responses by `classify`, as
    /// [`BreakerLayer::classify_responses`](super::BreakerLayer::classify_responses) does.
    pub fn classify_responses<F>(self, classify: F) -> Breakers<K, F, AtEnd>
    where
        F: ClassifyResponse + Clone,
    {
        self.judging_by(classify)
    }
}

impl<K, C, M> Breakers<K, C, M> {
    fn judging_by<F, N>(self, classify: F) -> Breakers<K, F, N> {
        Breakers {
            settings: self.settings,
            capacity: self.capacity,
            shared: self.shared,
            key: self.key,
            classify,
            judging: PhantomData,
        }
    }

    /// At most so many breakers. Zero has none: every request passes. Default: [`CAPACITY`](Breakers::CAPACITY).
    #[must_use]
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self.with(|_| {})
    }

    /// Callers of an open breaker wait, as with [`BreakerLayer::wait`](super::BreakerLayer::wait): so many of each key.
    #[must_use]
    pub fn wait(self, wait: Wait) -> Self {
        self.with(|settings| settings.wait = Some(wait))
    }

    /// Judges and reports, and refuses nothing.
    #[must_use]
    pub fn dry_run(self) -> Self {
        self.with(|settings| settings.dry_run = true)
    }

    /// Tells every decision; a breaker's name is its key. Default: nobody.
    #[must_use]
    pub fn observer(self, observer: impl Observer) -> Self {
        self.with(|settings| settings.observers = Observers::new(observer))
    }

    /// The same jitter every time, if the keys come in the same order. For tests.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.with(|settings| settings.seed = seed)
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self.shared = Arc::new(Registry::new(self.settings.clone(), self.capacity));
        self
    }

    /// The breaker of this key, if it has one. It stays for as long as the handle is kept.
    pub fn handle(&self, key: &str) -> Option<BreakerHandle> {
        lock(&self.shared.table).get(key).map(BreakerHandle::new)
    }

    /// The same, made if there is none yet, so that it can be forced before its first request. None if there is no room
    /// for it.
    pub fn handle_or_new(&self, key: &str) -> Option<BreakerHandle> {
        let breaker = lock(&self.shared.table).get_or_make(key, Instant::now);
        breaker.map(BreakerHandle::new)
    }

    /// What happens to each of them from now on. One of them alone: [`BreakerHandle::subscribe`].
    pub fn subscribe(&self) -> BreakerEvents {
        self.settings.events.subscribe(None)
    }

    /// How many breakers there are.
    pub fn len(&self) -> usize {
        lock(&self.shared.table).len()
    }

    /// Whether there are none yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many keys made room for others.
    pub fn evicted(&self) -> u64 {
        lock(&self.shared.table).evicted()
    }

    /// How many requests passed without a breaker, for want of room or of a key.
    pub fn unguarded(&self) -> u64 {
        self.shared.unguarded.load(Ordering::Relaxed)
    }

    /// What each breaker is doing, in the order of their keys.
    pub fn states(&self) -> Vec<BreakerSnapshot> {
        let now = Instant::now();
        // Outside the lock: there may be many.
        let all = lock(&self.shared.table).all();
        all.iter().map(|breaker| breaker.snapshot(now)).collect()
    }
}

impl<S, K: Clone, C: Clone, M> Layer<S> for Breakers<K, C, M> {
    type Service = BreakersService<S, K, C, M>;

    fn layer(&self, inner: S) -> Self::Service {
        BreakersService {
            inner,
            shared: Arc::clone(&self.shared),
            key: self.key.clone(),
            classify: self.classify.clone(),
            judging: PhantomData,
        }
    }
}

// === impl BreakersService ===

impl<S, Req, K, C, M> Service<Req> for BreakersService<S, K, C, M>
where
    S: Service<Req, Error: Into<BoxError>> + Clone,
    K: Key<Req>,
    C: Clone,
    M: Judging<C, S::Response, S::Error>,
{
    type Response = M::Response;
    type Error = BreakerError;
    type Future = BreakerFuture<S, Req, C, M>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BreakerError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let passage = self.shared.passage(self.key.key(&request).as_deref());
        BreakerFuture::new(self.inner.clone(), request, passage, self.classify.clone())
    }
}

// === impl Registry ===

impl Registry {
    fn new(settings: Settings, capacity: usize) -> Self {
        Self {
            table: Mutex::new(Table::new(settings, capacity)),
            unguarded: AtomicU64::new(0),
        }
    }

    fn passage(&self, key: Option<&str>) -> Passage {
        let breaker = key.and_then(|key| lock(&self.table).get_or_make(key, Instant::now));
        if breaker.is_none() {
            self.unguarded.fetch_add(1, Ordering::Relaxed);
        }
        Passage::new(breaker)
    }
}
