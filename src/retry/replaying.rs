use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http_body::{Body as HttpBody, Frame};
use tower_layer::Layer;
use tower_service::Service;

use super::future::RetryFuture;
use super::keep::{HttpCopy, KeepRequest};
use super::layer::{RetryLayer, RetryService};
use super::trailers::TrailersLayer;
use super::when::{ByPolicy, RetryWhen};
use crate::body::{Body, Replay, ReplayError};
use crate::budget::RetryBudget;
use crate::core::BoxError;
use crate::core::sync::{Mutex, lock};

/// [`RetryLayer`] for requests whose bodies are streams: they are kept while they are sent, so the body that the inner
/// service gets is [`tower_mesh::Body`](Body), whatever the caller's is.
///
/// ```
/// use hyper_util::client::legacy::{Client, connect::HttpConnector};
/// use hyper_util::rt::TokioExecutor;
/// use tower::ServiceBuilder;
/// use tower_mesh::policy::Retry;
/// use tower_mesh::retry::{ReplayingService, RetryLayer};
///
/// struct Api {
///     client: ReplayingService<Client<HttpConnector, tower_mesh::Body>>,
/// }
///
/// let hyper = Client::builder(TokioExecutor::new()).build_http();
/// let api = Api {
///     client: ServiceBuilder::new()
///         .layer(RetryLayer::new(Retry::on(500..=599).limit(1)).replaying(64 * 1024))
///         .service(hyper),
/// };
/// # fn call<S: tower::Service<http::Request<String>>>(_: &S) {}
/// # call(&api.client);
/// ```
///
/// A request whose body is larger than the limit is sent once; its last answer stands. Empty bodies and bodies in memory
/// are not copied.
#[derive(Debug)]
pub struct ReplayingLayer<C = ByPolicy> {
    layer: RetryLayer<C, Tapes>,
}

/// The service of [`ReplayingLayer`].
#[derive(Debug)]
pub struct ReplayingService<S, C = ByPolicy> {
    retry: RetryService<Fill<S>, C, Tapes>,
}

/// How [`ReplayingService`] keeps requests: up to a limit, while they are sent.
#[derive(Clone, Copy, Debug)]
pub struct Tapes {
    limit: usize,
}

/// A request's body, from which the body of each attempt is made.
#[derive(Clone)]
pub struct Taped(Arc<Mutex<Replay>>);

/// The body of an attempt that has none.
struct Broken;

/// Gives each attempt its body.
#[derive(Clone, Debug)]
pub struct Fill<S>(S);

// === impl ReplayingLayer ===

impl<C: Clone, K: Clone> RetryLayer<C, K> {
    /// Keeps request bodies, streams, too, up to `limit` bytes. The inner service's body is [`Body`] then.
    pub fn replaying(self, limit: usize) -> ReplayingLayer<C> {
        ReplayingLayer {
            layer: self.keep_by(Tapes { limit }),
        }
    }
}

impl<C> ReplayingLayer<C> {
    /// The layer inside of this one that makes it see the gRPC codes in trailers, too.
    pub fn trailers(&self) -> TrailersLayer {
        self.layer.trailers()
    }

    /// What pays for retries; none if the policy says that nothing needs to.
    pub fn budget(&self) -> Option<&RetryBudget> {
        self.layer.budget()
    }
}

impl<C> Clone for ReplayingLayer<C> {
    fn clone(&self) -> Self {
        Self {
            layer: self.layer.clone(),
        }
    }
}

impl<S, C> Layer<S> for ReplayingLayer<C> {
    type Service = ReplayingService<S, C>;

    fn layer(&self, inner: S) -> ReplayingService<S, C> {
        ReplayingService {
            retry: self.layer.layer(Fill(inner)),
        }
    }
}

// === impl ReplayingService ===

impl<S, C> ReplayingService<S, C> {
    /// What pays for retries; none if the policy says that nothing needs to.
    pub fn budget(&self) -> Option<&RetryBudget> {
        self.retry.budget()
    }
}

impl<S: Clone, C> Clone for ReplayingService<S, C> {
    fn clone(&self) -> Self {
        Self {
            retry: self.retry.clone(),
        }
    }
}

impl<S, B, C> Service<Request<B>> for ReplayingService<S, C>
where
    S: Service<Request<Body>> + Clone,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    C: RetryWhen<Request<Taped>, S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = C::Error;
    type Future = RetryFuture<Fill<S>, Request<Taped>, C, Tapes>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let limit = self.retry.keep().limit;
        let tape = |body| Taped(Arc::new(Mutex::new(Replay::new(Body::new(body), limit))));
        self.retry.call(request.map(tape))
    }
}

// === impl Tapes ===

impl KeepRequest<Request<Taped>> for Tapes {
    type Kept = HttpCopy<Taped>;

    fn keep(&self, request: &Request<Taped>) -> Option<HttpCopy<Taped>> {
        let replayable = request.body().is_replayable();
        replayable.then(|| HttpCopy::of(request))
    }

    fn renew(&self, kept: HttpCopy<Taped>) -> Request<Taped> {
        kept.into_request()
    }

    fn is_whole(&self, kept: &HttpCopy<Taped>) -> bool {
        kept.body.is_replayable() && kept.is_whole()
    }
}

// === impl Taped ===

impl Taped {
    fn is_replayable(&self) -> bool {
        lock(&self.0).is_replayable()
    }
}

impl fmt::Debug for Taped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taped").finish_non_exhaustive()
    }
}

// === impl Broken ===

impl HttpBody for Broken {
    type Data = Bytes;
    type Error = ReplayError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReplayError>>> {
        Poll::Ready(Some(Err(ReplayError::Broken)))
    }
}

// === impl Fill ===

impl<S: Service<Request<Body>>> Service<Request<Taped>> for Fill<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Taped>) -> S::Future {
        // It was whole when the attempt was decided on; if it broke since, the attempt breaks, too.
        let fill = |taped: Taped| {
            let body = lock(&taped.0).attempt();
            body.unwrap_or_else(|| Body::new(Broken))
        };
        self.0.call(request.map(fill))
    }
}
