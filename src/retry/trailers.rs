use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::hold::Hold;
use crate::body::{Arrived, Body, Held};
use crate::core::BoxError;
use crate::deadline::Alarm;
use crate::options::RequestOptions;
use crate::policy::{Fidelity, MethodKind, Retry};
use crate::verdict::grpc::{GRPC_STATUS, is_grpc};

/// Holds a gRPC response back for the code in its trailers, so that a [`RetryLayer`](super::RetryLayer) outside, of whatever
/// kind, sees it. It comes [from that layer](super::RetryLayer::trailers) and stands inside of it:
///
/// ```
/// use http::{Request, Response};
/// use tower::ServiceBuilder;
/// use tower_mesh::policy::{Codes, Retry};
/// use tower_mesh::retry::{RetryLayer, RetryService, TrailersService};
/// # #[derive(Clone)]
/// # struct Grpc;
///
/// struct Api {
///     calls: RetryService<TrailersService<Grpc>>,
/// }
///
/// let retry = RetryLayer::new(Retry::on_codes([Codes::UNAVAILABLE]));
/// let trailers = retry.trailers();
/// let api = Api {
///     calls: ServiceBuilder::new().layer(retry).layer(trailers).service(Grpc),
/// };
/// # let _ = api.calls;
/// ```
///
/// Responses have a [`Body`] then. Only those of gRPC requests are held, and only if the policy retries codes and the head has
/// none; for as long as the policy's [`Trailers`](crate::policy::Trailers) say for the kind of method that the request's
/// [options](RequestOptions::method) name, or else [`Auto`](MethodKind::Auto), and up to its limit in bytes. What takes
/// longer is handed over, and stands. A body that breaks while it is held is a broken connection. The timeout of a try counts
/// what is held, too.
#[derive(Clone, Debug)]
pub struct TrailersLayer {
    retry: Arc<Retry>,
}

/// The service of [`TrailersLayer`].
#[derive(Clone, Debug)]
pub struct TrailersService<S> {
    inner: S,
    retry: Arc<Retry>,
}

pin_project! {
    /// The future of [`TrailersService`].
    #[must_use = "futures do nothing unless polled"]
    pub struct TrailersFuture<F> {
        #[pin]
        future: Option<F>,
        #[pin]
        alarm: Alarm,
        // None if its response is not held.
        held_for: Option<(Arc<Retry>, MethodKind)>,
        holding: Option<Box<Holding>>,
    }
}

struct Holding {
    response: Response<()>,
    held: Box<Held>,
    hold: Hold,
}

/// How a response ended that was held, among its extensions.
#[derive(Clone, Debug)]
pub(super) enum HeldEnd {
    Trailers(Option<HeaderMap>),
    Broke,
}

// === impl TrailersLayer ===

impl TrailersLayer {
    pub(super) fn new(retry: &Retry) -> Self {
        Self {
            retry: Arc::new(retry.clone()),
        }
    }
}

impl<S> Layer<S> for TrailersLayer {
    type Service = TrailersService<S>;

    fn layer(&self, inner: S) -> TrailersService<S> {
        TrailersService {
            inner,
            retry: Arc::clone(&self.retry),
        }
    }
}

// === impl TrailersService ===

impl<S, A, B> Service<Request<A>> for TrailersService<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = TrailersFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let options = request.extensions().get::<RequestOptions>();
        let limit = options.and_then(|options| options.max_retries);
        let never = limit.unwrap_or(self.retry.max_retries()) == 0;
        let kind = options
            .and_then(|options| options.method)
            .unwrap_or_default();
        let holds = !self.retry.codes().is_empty() && !never && is_grpc(request.headers());
        TrailersFuture {
            held_for: holds.then(|| (Arc::clone(&self.retry), kind)),
            future: Some(self.inner.call(request)),
            alarm: Alarm::default(),
            holding: None,
        }
    }
}

// === impl TrailersFuture ===

impl<F, B, E> Future for TrailersFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(future) = this.future.as_mut().as_pin_mut() {
            let result = ready!(future.poll(cx));
            this.future.set(None);
            let response = match result {
                Ok(response) => response.map(Body::new),
                Err(error) => return Poll::Ready(Err(error)),
            };
            // What a head tells is known already.
            let told =
                response.status() != StatusCode::OK || response.headers().contains_key(GRPC_STATUS);
            let hold = this.held_for.take().filter(|_| !told);
            let hold = hold.and_then(|(retry, kind)| {
                let (trailers, now) = (retry.trailers(), Instant::now());
                let limit = retry.max_request_bytes();
                Hold::new(trailers, kind, Fidelity::Extended, limit, now)
            });
            let Some(hold) = hold else {
                return Poll::Ready(Ok(response));
            };
            let (parts, body) = response.into_parts();
            *this.holding = Some(Box::new(Holding {
                response: Response::from_parts(parts, ()),
                held: Box::new(Held::new(body)),
                hold,
            }));
        }
        // Polled again after it was ready: the same as never.
        let Some(holding) = this.holding else {
            return Poll::Pending;
        };
        loop {
            let end = match holding.poll(cx) {
                Poll::Ready(end) => end,
                Poll::Pending => {
                    ready!(this.alarm.as_mut().poll_at(cx, holding.hold.until()));
                    continue;
                }
            };
            let Some(mut holding) = this.holding.take() else {
                return Poll::Pending;
            };
            if let Some(end) = end {
                holding.response.extensions_mut().insert(end);
            }
            let body = holding.held.into_body();
            return Poll::Ready(Ok(holding.response.map(|()| body)));
        }
    }
}

impl<F> fmt::Debug for TrailersFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrailersFuture")
            .field("holding", &self.holding.is_some())
            .finish_non_exhaustive()
    }
}

// === impl Holding ===

impl Holding {
    /// Its end; none if it is handed over before that.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<HeldEnd>> {
        loop {
            let now = Instant::now();
            let polled = self.held.poll_next(cx);
            return match polled {
                Poll::Ready(Arrived::Data(data)) => {
                    if self.hold.data(&data, self.held.cost(), now) {
                        continue;
                    }
                    Poll::Ready(None)
                }
                Poll::Ready(Arrived::Trailers(trailers)) => {
                    Poll::Ready(Some(HeldEnd::Trailers(Some(trailers.clone()))))
                }
                Poll::Ready(Arrived::Ended) => Poll::Ready(Some(HeldEnd::Trailers(None))),
                Poll::Ready(Arrived::Broke) => Poll::Ready(Some(HeldEnd::Broke)),
                Poll::Pending if self.hold.waits(now) => Poll::Pending,
                Poll::Pending => Poll::Ready(None),
            };
        }
    }
}
