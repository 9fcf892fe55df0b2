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
/// best [`TransportError`](crate::verdict::TransportError)s, which say how far a request got; of any other nobody knows, so
/// that only what is safe to repeat is sent again.
///
/// reqwest as leaf, for a program that has its proxies and certificates there. It dials what the URI names, which is
/// therefore made the endpoint; the request's `host` header stays what it is about:
///
/// ```ignore
/// let http = reqwest::Client::new();
/// let leaf = move |endpoint: &Endpoint| {
///     let (http, address) = (http.clone(), endpoint.address());
///     tower::service_fn(move |request: http::Request<Body>| {
///         let http = http.clone();
///         async move {
///             let (mut parts, body) = request.into_parts();
///             if let (Some(authority), None) = (parts.uri.authority(), parts.headers.get(HOST)) {
///                 let host = HeaderValue::from_str(authority.as_str())?;
///                 parts.headers.insert(HOST, host);
///             }
///             let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
///             parts.uri = format!("http://{address}{path}").parse()?;
///             let body = reqwest::Body::wrap_stream(BodyDataStream::new(body)); // of http-body-util
///             let request = reqwest::Request::try_from(http::Request::from_parts(parts, body))?;
///             let response = http.execute(request).await?;
///             Ok::<_, BoxError>(http::Response::<reqwest::Body>::from(response))
///         }
///     })
/// };
/// let client = Client::builder(policy).endpoints(hosts).build(leaf)?;
/// ```
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
