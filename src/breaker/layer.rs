use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::classify::{HttpOrGrpc, ServerErrors};
use super::error::BreakerError;
use super::future::BreakerFuture;
use super::handle::BreakerHandle;
use super::judging::{AtEnd, AtHead, Judging};
use super::passage::Passage;
use super::settings::{Settings, Wait};
use super::shared::Shared;
use crate::core::BoxError;
use crate::core::observe::{Observer, Observers};
use crate::policy::FailureAccrual;
use crate::verdict::{ClassifyResponse, Outcome};

/// A circuit breaker around any tower service, HTTP or not.
///
/// ```
/// use tower::{Service, ServiceBuilder, ServiceExt};
/// use tower_mesh::Verdict;
/// use tower_mesh::breaker::{BreakerError, BreakerLayer};
/// use tower_mesh::policy::{FailureAccrual, Ratio};
/// # #[derive(Debug, thiserror::Error)]
/// # #[error("the database is away")]
/// # struct DbError;
/// # impl DbError { fn is_transient(&self) -> bool { true } }
/// # type Rows = Vec<u64>;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// # let database = tower::service_fn(|_: &str| async { Err::<Rows, _>(DbError) });
///
/// let layer = BreakerLayer::new(FailureAccrual::success_rate(Ratio::percent(80)).or_consecutive(1))
///     .named("orders")
///     .classify(|result: &Result<Rows, DbError>| match result {
///         Err(e) if e.is_transient() => Verdict::Failure,
///         _ => Verdict::Success,
///     });
/// let handle = layer.handle();
/// let database = ServiceBuilder::new().layer(layer).service(database);
///
/// let error = database.clone().oneshot("SELECT 1").await.unwrap_err();
/// assert!(error.inner::<DbError>().is_some());
/// let error = database.clone().oneshot("SELECT 1").await.unwrap_err();
/// assert!(error.is_local() && error.retry_at().is_some());
/// assert!(handle.state().is_open());
/// # }
/// ```
///
/// **State** belongs to the layer: all services that it and its clones make share one breaker, and so do the clones of
/// these. The methods that configure it make a new one: call them before [`handle`](Self::handle) and
/// [`layer`](Layer::layer).
///
/// **Readiness**: it is always ready (so that a `LoadShed` outside never sheds) and waits, within the returned future,
/// for a fresh clone of the service. An open breaker refuses at once, whether or not the service is ready.
///
/// **Verdicts**: by [`ServerErrors`] unless [`classify`](Self::classify) says otherwise, as soon as there is a result; or
/// at the end of the body, with [`settling_bodies`](Self::settling_bodies). A call that is dropped or
/// panics is neutral, and if it was the probe, another may follow at once. So are, whatever the classifier says,
/// refusals of this crate's further in ([`BreakerError::Open`], a local [`Error`](crate::Error)) and what the caller
/// broke itself. The pool's floor of [`FailureAccrual::min_ready_endpoints`] means nothing to a single service.
#[derive(Clone, Debug)]
pub struct BreakerLayer<C = ServerErrors, M = AtHead> {
    settings: Settings,
    shared: Arc<Shared>,
    classify: C,
    judging: PhantomData<M>,
}

/// The service of [`BreakerLayer`].
///
/// ```
/// # use tower_mesh::breaker::BreakerService;
/// # struct HyperClient;
/// struct Api {
///     client: BreakerService<HyperClient>,
/// }
/// ```
#[derive(Clone, Debug)]
pub struct BreakerService<S, C = ServerErrors, M = AtHead> {
    inner: S,
    shared: Arc<Shared>,
    classify: C,
    judging: PhantomData<M>,
}

// === impl BreakerLayer ===

impl BreakerLayer {
    /// A breaker for HTTP responses, or whatever [`classify`](Self::classify) makes of it.
    pub fn new(accrual: FailureAccrual) -> Self {
        let settings = Settings::new(&accrual);
        Self {
            shared: Arc::new(Shared::new(settings.clone(), Instant::now())),
            settings,
            classify: ServerErrors,
            judging: PhantomData,
        }
    }
}

impl<C> BreakerLayer<C> {
    /// Judges results by `classify`, which may say a [`Verdict`](crate::Verdict) or an [`Outcome`].
    pub fn classify<F, T, E, V>(self, classify: F) -> BreakerLayer<F>
    where
        F: Fn(&Result<T, E>) -> V,
        V: Into<Outcome>,
    {
        self.classify_with(classify)
    }

    /// Judges results by a [`ClassifyResult`](super::ClassifyResult) of your own type.
    pub fn classify_with<F>(self, classify: F) -> BreakerLayer<F> {
        self.judging_by(classify)
    }

    /// Judges HTTP responses at the end of their body, and gRPC's by their trailers, as [`HttpOrGrpc`] does.
    ///
    /// The response's body becomes a [`SettlingBody`](super::SettlingBody), which is why the plain layer does not do it.
    /// What fails at the head settles there; what does not can still break. A body that is dropped unread counts as what
    /// its head said, and for gRPC not at all. A probe is decided by its head or, for gRPC, by its first message, so that
    /// a long stream can close a breaker.
    ///
    /// ```
    /// use tower_mesh::breaker::{AtEnd, BreakerLayer, BreakerService, HttpOrGrpc};
    /// use tower_mesh::policy::FailureAccrual;
    /// # struct HyperClient;
    ///
    /// let layer = BreakerLayer::new(FailureAccrual::consecutive(5)).settling_bodies();
    ///
    /// struct Api {
    ///     client: BreakerService<HyperClient, HttpOrGrpc, AtEnd>, // tower::Layer::layer(&layer, hyper_client)
    /// }
    /// # let _: Api = Api { client: tower::Layer::layer(&layer, HyperClient) };
    /// ```
    pub fn settling_bodies(self) -> BreakerLayer<HttpOrGrpc, AtEnd> {
        self.judging_by(HttpOrGrpc)
    }
}

impl<C> BreakerLayer<C, AtEnd> {
    /// Judges responses by `classify`: a [`GrpcClassifier`](crate::verdict::GrpcClassifier), an
    /// [`HttpClassifier`](crate::verdict::HttpClassifier), or a closure over status and headers.
    pub fn classify_responses<F>(self, classify: F) -> BreakerLayer<F, AtEnd>
    where
        F: ClassifyResponse + Clone,
    {
        self.judging_by(classify)
    }
}

impl<C, M> BreakerLayer<C, M> {
    fn judging_by<F, N>(self, classify: F) -> BreakerLayer<F, N> {
        BreakerLayer {
            settings: self.settings,
            shared: self.shared,
            classify,
            judging: PhantomData,
        }
    }

    /// Under this name in errors, logs and decisions. Default: `breaker`.
    #[must_use]
    pub fn named(self, name: impl Into<Arc<str>>) -> Self {
        self.with(|settings| settings.name = name.into())
    }

    /// Callers of an open breaker wait for the next probe, or for it to close, instead of being refused: so long and so
    /// many as `wait` says. Default: they are refused.
    ///
    /// A caller is still refused at once if the next probe is due only after its time, and when its time is over.
    #[must_use]
    pub fn wait(self, wait: Wait) -> Self {
        self.with(|settings| settings.wait = Some(wait))
    }

    /// Judges and reports, and refuses nothing: [`BreakerSnapshot::refused`](super::BreakerSnapshot::refused) counts
    /// what would have been.
    #[must_use]
    pub fn dry_run(self) -> Self {
        self.with(|settings| settings.dry_run = true)
    }

    /// Tells every decision. Default: nobody.
    #[must_use]
    pub fn observer(self, observer: impl Observer) -> Self {
        self.with(|settings| settings.observers = Observers::new(observer))
    }

    /// The same jitter every time. For tests. Default: another one for each layer.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.with(|settings| settings.seed = seed)
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self.shared = Arc::new(Shared::new(self.settings.clone(), Instant::now()));
        self
    }

    /// Reads and forces the breaker of this layer.
    pub fn handle(&self) -> BreakerHandle {
        BreakerHandle::new(Arc::clone(&self.shared))
    }
}

impl<S, C: Clone, M> Layer<S> for BreakerLayer<C, M> {
    type Service = BreakerService<S, C, M>;

    fn layer(&self, inner: S) -> Self::Service {
        BreakerService {
            inner,
            shared: Arc::clone(&self.shared),
            classify: self.classify.clone(),
            judging: PhantomData,
        }
    }
}

// === impl BreakerService ===

impl<S, C, M> BreakerService<S, C, M> {
    /// Reads and forces its breaker.
    pub fn handle(&self) -> BreakerHandle {
        BreakerHandle::new(Arc::clone(&self.shared))
    }
}

impl<S, Req, C, M> Service<Req> for BreakerService<S, C, M>
where
    S: Service<Req, Error: Into<BoxError>> + Clone,
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
        let passage = Passage::new(Some(Arc::clone(&self.shared)));
        BreakerFuture::new(self.inner.clone(), request, passage, self.classify.clone())
    }
}
