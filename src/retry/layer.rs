use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::future::RetryFuture;
use super::keep::{Cloned, Copied, KeepRequest};
use super::shared::Shared;
use super::trailers::TrailersLayer;
use super::when::{ByPolicy, RetryWhen};
use crate::budget::RetryBudget;
use crate::core::draw::entropy;
use crate::core::observe::{Observer, Observers};
use crate::core::sync::AtomicU64;
use crate::policy::RetryBuilder;

/// Retries around any tower service, HTTP or not, within a [budget](crate::budget).
///
/// ```
/// use http::{Request, Response};
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_mesh::policy::{Budget, Retry};
/// use tower_mesh::retry::{RetryLayer, RetryService};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), tower_mesh::BoxError> {
/// # let mut calls = 0;
/// # let flaky = tower::service_fn(move |_: Request<String>| {
/// #     calls += 1;
/// #     let status = if calls == 1 { 503 } else { 200 };
/// #     async move { Response::builder().status(status).body(()) }
/// # });
/// # let flaky = tower::buffer::Buffer::new(flaky, 1);
///
/// let layer = RetryLayer::new(Retry::on(500..=599).limit(1).budget(Budget::percent(20)));
/// let budget = layer.budget().cloned(); // to be read, or for another layer
/// let service = ServiceBuilder::new().layer(layer).service(flaky);
///
/// let request = Request::get("http://web.shop/").body(String::new())?;
/// assert_eq!(service.oneshot(request).await?.status(), 200);
/// assert_eq!(budget.map(|budget| budget.withdrawals()), Some(1));
/// # Ok(())
/// # }
/// ```
///
/// Anything else than HTTP, with a condition of one's own. Errors and responses keep their types:
///
/// ```
/// use tower::{Layer, Service, ServiceExt};
/// use tower_mesh::policy::Retry;
/// use tower_mesh::retry::RetryLayer;
/// # #[derive(Debug, thiserror::Error)]
/// # #[error("the database is away")]
/// # struct DbError;
/// # impl DbError { fn is_transient(&self) -> bool { true } }
/// # type Rows = Vec<u64>;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// # let database = tower::service_fn(|_: &'static str| async { Err::<Rows, _>(DbError) });
///
/// let layer = RetryLayer::new(Retry::never_on_status().limit(2))
///     .when(|result: &Result<Rows, DbError>| matches!(result, Err(e) if e.is_transient()));
/// let database = layer.layer(database);
/// let error: DbError = database.oneshot("SELECT 1").await.unwrap_err();
/// # }
/// ```
///
/// **Requests** are [copied](Copied), or kept as [`clone_request`](Self::clone_request) says; one that cannot be kept is
/// sent once. Copies keep all extensions.
///
/// **Codes in trailers** come after the response, whose body it does not touch: put [its other half](Self::trailers) inside.
///
/// **State** belongs to the layer: all services that it and its clones make draw from one budget, the policy's or the
/// default one, or one that others [share](Self::within).
///
/// **Readiness**: it is always ready, and waits, within the returned future, for a fresh clone of the service; that clone
/// makes the other attempts, too.
///
/// **A try's timeout** cuts an attempt short only if another is made in its place: if none may be, it is waited for. What
/// is returned in the end is always the service's own last answer.
#[derive(Debug)]
pub struct RetryLayer<C = ByPolicy, K = Copied> {
    shared: Arc<Shared<C, K>>,
}

/// The service of [`RetryLayer`].
///
/// ```
/// # use tower_mesh::breaker::BreakerService;
/// # use tower_mesh::retry::RetryService;
/// # struct HyperClient;
/// struct Api {
///     client: RetryService<BreakerService<HyperClient>>,
/// }
/// ```
#[derive(Debug)]
pub struct RetryService<S, C = ByPolicy, K = Copied> {
    inner: S,
    shared: Arc<Shared<C, K>>,
}

// === impl RetryLayer ===

impl RetryLayer {
    /// Retries HTTP as `policy` says, or whatever [`when`](Self::when) makes of it.
    ///
    /// Statuses beyond 1 to 599, which no response has, mean nothing. A policy without a budget gets the default one,
    /// 20 % and 10 a second.
    pub fn new(policy: impl Into<RetryBuilder>) -> Self {
        let retry = policy.into().possible();
        let budget = (!retry.is_unlimited()).then(|| retry.budget().unwrap_or_default());
        Self {
            shared: Arc::new(Shared {
                retry,
                budget: budget.map(|budget| RetryBudget::new(budget, Instant::now())),
                when: ByPolicy,
                keep: Copied,
                seed: entropy(),
                observers: Observers::default(),
                retried: AtomicU64::new(0),
            }),
        }
    }

    /// Tries again when `when` says so, which returns a `bool` or a [`Ruling`](super::Ruling). What the policy says of
    /// statuses and codes means nothing then. Requests of any kind are cloned, unless
    /// [`clone_request`](Self::clone_request) says otherwise after this.
    pub fn when<F, T, E, V>(self, when: F) -> RetryLayer<F, Cloned>
    where
        F: Fn(&Result<T, E>) -> V,
        V: Into<super::Ruling>,
    {
        self.with(when, Cloned)
    }
}

impl<C: Clone, K: Clone> RetryLayer<C, K> {
    /// Tries again by a [`RetryWhen`] of your own type.
    pub fn when_by<F>(self, when: F) -> RetryLayer<F, K> {
        let keep = self.shared.keep.clone();
        self.with(when, keep)
    }

    /// Keeps requests by `keep`; none is sent once.
    pub fn clone_request<F, Req>(self, keep: F) -> RetryLayer<C, F>
    where
        F: Fn(&Req) -> Option<Req>,
    {
        self.keep_by(keep)
    }

    pub(super) fn keep_by<L>(self, keep: L) -> RetryLayer<C, L> {
        let when = self.shared.when.clone();
        self.with(when, keep)
    }

    /// Draws from this budget, whatever the policy says.
    #[must_use]
    pub fn within(self, budget: &RetryBudget) -> Self {
        self.change(|shared| shared.budget = Some(budget.clone()))
    }

    /// Tells what is retried and what is not, and why. Requests are numbered as they fail for the first time.
    /// Default: nobody.
    #[must_use]
    pub fn observer(self, observer: impl Observer) -> Self {
        self.change(|shared| shared.observers = Observers::new(observer))
    }

    /// The same jitter every time. For tests. Default: another one for each layer.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.change(|shared| shared.seed = seed)
    }

    fn change(self, change: impl FnOnce(&mut Shared<C, K>)) -> Self {
        let (when, keep) = (self.shared.when.clone(), self.shared.keep.clone());
        let mut shared = self.shared.with(when, keep);
        change(&mut shared);
        Self {
            shared: Arc::new(shared),
        }
    }

    fn with<D, L>(self, when: D, keep: L) -> RetryLayer<D, L> {
        RetryLayer {
            shared: Arc::new(self.shared.with(when, keep)),
        }
    }
}

impl<C, K> RetryLayer<C, K> {
    /// The layer inside of this one that makes it see the gRPC codes in trailers, too.
    pub fn trailers(&self) -> TrailersLayer {
        TrailersLayer::new(&self.shared.retry)
    }

    /// What pays for retries; none if the policy says that nothing needs to.
    pub fn budget(&self) -> Option<&RetryBudget> {
        self.shared.budget.as_ref()
    }
}

impl<C, K> Clone for RetryLayer<C, K> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<S, C, K> Layer<S> for RetryLayer<C, K> {
    type Service = RetryService<S, C, K>;

    fn layer(&self, inner: S) -> RetryService<S, C, K> {
        RetryService {
            inner,
            shared: Arc::clone(&self.shared),
        }
    }
}

// === impl RetryService ===

impl<S, C, K> RetryService<S, C, K> {
    /// What pays for retries; none if the policy says that nothing needs to.
    pub fn budget(&self) -> Option<&RetryBudget> {
        self.shared.budget.as_ref()
    }
}

impl<S, C, K> RetryService<S, C, K> {
    pub(super) fn keep(&self) -> &K {
        &self.shared.keep
    }
}

impl<S: Clone, C, K> Clone for RetryService<S, C, K> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<S, Req, C, K> Service<Req> for RetryService<S, C, K>
where
    S: Service<Req> + Clone,
    C: RetryWhen<Req, S::Response, S::Error>,
    K: KeepRequest<Req>,
{
    type Response = S::Response;
    type Error = C::Error;
    type Future = RetryFuture<S, Req, C, K>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        RetryFuture::new(self.inner.clone(), request, Arc::clone(&self.shared))
    }
}
