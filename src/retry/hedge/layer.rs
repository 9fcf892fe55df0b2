use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::future::HedgeFuture;
use super::pace::Pace;
use super::shared::Shared;
use super::when::{ByMethod, HedgeWhen};
use crate::budget::RetryBudget;
use crate::policy::Hedge;
use crate::retry::keep::{Cloned, Copied, KeepRequest};

/// A second attempt beside one that takes long, around any tower service, within a [budget](crate::budget).
///
/// ```
/// use std::time::Duration;
/// use tower::{Layer, ServiceExt};
/// use tower_mesh::policy::{Budget, Hedge};
/// use tower_mesh::retry::HedgeLayer;
/// # use http::{Request, Response};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), tower_mesh::BoxError> {
/// # let calls = std::sync::atomic::AtomicU32::new(0);
/// # let slow_at_first = tower::service_fn(move |_: Request<String>| {
/// #     let call = calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
/// #     async move {
/// #         tokio::time::sleep(Duration::from_secs(if call == 0 { 60 } else { 0 })).await;
/// #         Response::builder().body(())
/// #     }
/// # });
/// # let slow_at_first = tower::buffer::Buffer::new(slow_at_first, 2);
///
/// let hedge = Hedge::after(Duration::from_millis(200)).budget(Budget::percent(1));
/// let service = HedgeLayer::new(hedge).layer(slow_at_first);
///
/// let request = Request::get("http://web.shop/").body(String::new())?;
/// let start = tokio::time::Instant::now();
/// service.oneshot(request).await?;
/// assert!(start.elapsed() < Duration::from_millis(210));
/// # Ok(())
/// # }
/// ```
///
/// **Which requests**: [`ByMethod`], unless [`when`](Self::when) says otherwise. They are [copied](Copied), or kept as
/// [`clone_request`](Self::clone_request) says.
///
/// **The race**: the first answer wins and the other attempt is dropped. An attempt that fails waits for the other; a
/// request fails with what came last.
///
/// **State** belongs to the layer: its budget, and the percentile that it tracks, are those of all services that it and its
/// clones make. **Readiness** is as with [`RetryLayer`](super::super::RetryLayer); the second attempt is made only if the
/// service is ready for it.
#[derive(Debug)]
pub struct HedgeLayer<C = ByMethod, K = Copied> {
    shared: Arc<Shared<C, K>>,
}

/// The service of [`HedgeLayer`].
#[derive(Debug)]
pub struct HedgeService<S, C = ByMethod, K = Copied> {
    inner: S,
    shared: Arc<Shared<C, K>>,
}

// === impl HedgeLayer ===

impl HedgeLayer {
    /// Hedges as `hedge` says.
    pub fn new(hedge: Hedge) -> Self {
        let budget = hedge.own_budget().unwrap_or_default();
        Self {
            shared: Arc::new(Shared {
                hedge,
                pace: Pace::new(&hedge),
                budget: RetryBudget::new(budget, Instant::now()),
                borrowed: false,
                when: ByMethod,
                keep: Copied,
            }),
        }
    }

    /// Hedges the requests, and ends the race by the answers, that `when` says. Requests of any kind are cloned, unless
    /// [`clone_request`](Self::clone_request) says otherwise after this.
    pub fn when<D>(self, when: D) -> HedgeLayer<D, Cloned> {
        self.with(when, Cloned)
    }
}

impl<C: Clone, K: Clone> HedgeLayer<C, K> {
    /// Keeps requests by `keep`; none is sent once.
    pub fn clone_request<F, Req>(self, keep: F) -> HedgeLayer<C, F>
    where
        F: Fn(&Req) -> Option<Req>,
    {
        let when = self.shared.when.clone();
        self.with(when, keep)
    }

    /// Draws from the budget of somebody else, such as a [`RetryLayer`](super::super::RetryLayer) outside, who pays in
    /// what its requests earn.
    #[must_use]
    pub fn within(self, budget: &RetryBudget) -> Self {
        let (when, keep) = (self.shared.when.clone(), self.shared.keep.clone());
        let mut shared = self.shared.with(when, keep);
        shared.budget = budget.clone();
        shared.borrowed = true;
        Self {
            shared: Arc::new(shared),
        }
    }

    fn with<D, L>(self, when: D, keep: L) -> HedgeLayer<D, L> {
        HedgeLayer {
            shared: Arc::new(self.shared.with(when, keep)),
        }
    }
}

impl<C, K> HedgeLayer<C, K> {
    /// What pays for second attempts.
    pub fn budget(&self) -> &RetryBudget {
        &self.shared.budget
    }
}

impl<C, K> Clone for HedgeLayer<C, K> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<S, C, K> Layer<S> for HedgeLayer<C, K> {
    type Service = HedgeService<S, C, K>;

    fn layer(&self, inner: S) -> HedgeService<S, C, K> {
        HedgeService {
            inner,
            shared: Arc::clone(&self.shared),
        }
    }
}

// === impl HedgeService ===

impl<S, C, K> HedgeService<S, C, K> {
    /// What pays for second attempts.
    pub fn budget(&self) -> &RetryBudget {
        &self.shared.budget
    }
}

impl<S: Clone, C, K> Clone for HedgeService<S, C, K> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<S, Req, C, K> Service<Req> for HedgeService<S, C, K>
where
    S: Service<Req> + Clone,
    C: HedgeWhen<Req, S::Response, S::Error>,
    K: KeepRequest<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = HedgeFuture<S, Req, C, K>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        HedgeFuture::new(self.inner.clone(), request, Arc::clone(&self.shared))
    }
}
