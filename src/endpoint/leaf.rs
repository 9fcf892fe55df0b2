use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::Endpoint;
use crate::body::Body;
use crate::core::BoxError;

/// Makes the leaf service of an endpoint: the handle that requests to it go through.
///
/// Implemented for closures `Fn(&Endpoint) -> S`. Called once for each endpoint, when it is first chosen. It should
/// return at once: a leaf connects when it is used. A leaf is a *handle*: its clones share their connection. Errors are
/// best [`TransportError`](crate::verdict::TransportError)s, which say how far a request got.
pub trait Connect: Send + Sync + 'static {
    /// The body of the leaf's responses.
    type ResponseBody: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static;
    /// The leaf.
    type Leaf: Service<
            http::Request<Body>,
            Response = http::Response<Self::ResponseBody>,
            Error: Into<BoxError>,
            Future: Send,
        > + Clone
        + Send
        + Sync
        + 'static;

    /// The leaf for `endpoint`.
    fn connect(&self, endpoint: &Endpoint) -> Self::Leaf;
}

impl<F, S, B> Connect for F
where
    F: Fn(&Endpoint) -> S + Send + Sync + 'static,
    S: Service<
            http::Request<Body>,
            Response = http::Response<B>,
            Error: Into<BoxError>,
            Future: Send,
        > + Clone
        + Send
        + Sync
        + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type ResponseBody = B;
    type Leaf = S;

    fn connect(&self, endpoint: &Endpoint) -> S {
        self(endpoint)
    }
}

/// A [`Connect`] whose types are forgotten.
pub(crate) trait ErasedConnect: Send + Sync {
    fn connect_erased(&self, endpoint: &Endpoint) -> Box<dyn Leaf>;
}

/// A leaf whose type is forgotten.
pub(crate) trait Leaf: Send + Sync {
    /// A fresh clone, not ready yet. The one allocation of an attempt.
    fn start(&self) -> Pin<Box<dyn LeafCall>>;
}

/// One use of a leaf: polled ready, given a request, polled to its response.
pub(crate) trait LeafCall: Send {
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>>;

    /// Only after it was ready, and once.
    fn call(self: Pin<&mut Self>, request: http::Request<Body>);

    /// Only after `call`, and not after it was ready.
    fn poll_response(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<http::Response<Body>, BoxError>>;
}

struct Handle<S>(S);

pin_project! {
    struct Call<S, F> {
        service: S,
        #[pin]
        future: Option<F>,
    }
}

// === impl ErasedConnect ===

impl<C: Connect> ErasedConnect for C {
    fn connect_erased(&self, endpoint: &Endpoint) -> Box<dyn Leaf> {
        Box::new(Handle(self.connect(endpoint)))
    }
}

// === impl Handle ===

impl<S, B> Leaf for Handle<S>
where
    S: Service<
            http::Request<Body>,
            Response = http::Response<B>,
            Error: Into<BoxError>,
            Future: Send,
        > + Clone
        + Send
        + Sync
        + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    fn start(&self) -> Pin<Box<dyn LeafCall>> {
        Box::pin(Call {
            service: self.0.clone(),
            future: None,
        })
    }
}

// === impl Call ===

impl<S, F, B> LeafCall for Call<S, F>
where
    S: Service<http::Request<Body>, Response = http::Response<B>, Future = F> + Send,
    S::Error: Into<BoxError>,
    F: Future<Output = Result<http::Response<B>, S::Error>> + Send,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.project().service.poll_ready(cx).map_err(Into::into)
    }

    fn call(self: Pin<&mut Self>, request: http::Request<Body>) {
        let mut this = self.project();
        let future = this.service.call(request);
        this.future.set(Some(future));
    }

    fn poll_response(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<http::Response<Body>, BoxError>> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            return Poll::Pending;
        };
        let result = ready!(future.poll(cx));
        this.future.set(None);
        Poll::Ready(
            result
                .map(|response| response.map(Body::new))
                .map_err(Into::into),
        )
    }
}
