//! Errors as responses.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use crate::body::Body;
use crate::core::BoxError;
use crate::error::{Error, ErrorKind};
use crate::verdict::grpc::{GRPC_RETRY_PUSHBACK_MS, is_grpc, status_headers};

/// Answers errors with the responses that say the same, so that nothing but responses comes out.
///
/// For stacks whose errors must be [`Infallible`]. A plain HTTP request gets the [status](ErrorKind::status), a
/// `retry-after` where it is known when to try again, and the error's text as body; a gRPC request a trailers-only
/// response. The [`Error`] is in the response's extensions, as an `Arc<Error>`. Errors that are not this crate's are
/// taken as a broken connection.
///
/// It decorates: readiness is the inner service's, and an error of it becomes the answer to the next call.
///
/// ```
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_mesh::client::AnswerErrorsLayer;
/// use tower_mesh::policy::ClientPolicy;
/// # use http::{Request, Response};
/// # use tower_mesh::{Body, BoxError, Client};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), BoxError> {
/// # let leaf = |_: &tower_mesh::Endpoint| tower::service_fn(|_: Request<Body>| async {
/// #     Err::<Response<Body>, BoxError>("refused".into())
/// # });
///
/// let client = Client::builder(ClientPolicy::http().build()?)
///     .endpoints(["10.0.0.7:8080"])
///     .build(leaf)?; // it answers nothing
/// let client = ServiceBuilder::new().layer(AnswerErrorsLayer::new()).service(client);
/// let request = Request::get("http://payments.shop/").body(Body::empty())?;
/// let Ok(response) = client.oneshot(request).await;
/// assert_eq!(response.status(), 502);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct AnswerErrorsLayer(());

/// The service of [`AnswerErrorsLayer`].
#[derive(Debug)]
pub struct AnswerErrors<S> {
    inner: S,
    // What readiness came to.
    failed: Option<Error>,
}

pin_project! {
    /// The future of [`AnswerErrors`].
    #[derive(Debug)]
    pub struct AnswerFuture<F> {
        #[pin]
        state: Answering<F>,
        grpc: bool,
    }
}

pin_project! {
    #[project = AnsweringProj]
    #[derive(Debug)]
    enum Answering<F> {
        Calling { #[pin] future: F },
        Failed { error: Option<Error> },
    }
}

// === impl AnswerErrorsLayer ===

impl AnswerErrorsLayer {
    /// The layer.
    pub const fn new() -> Self {
        Self(())
    }
}

impl<S> Layer<S> for AnswerErrorsLayer {
    type Service = AnswerErrors<S>;

    fn layer(&self, inner: S) -> AnswerErrors<S> {
        AnswerErrors::new(inner)
    }
}

// === impl AnswerErrors ===

impl<S> AnswerErrors<S> {
    /// Answers the errors of `inner`.
    pub const fn new(inner: S) -> Self {
        Self {
            inner,
            failed: None,
        }
    }
}

impl<S: Clone> Clone for AnswerErrors<S> {
    fn clone(&self) -> Self {
        // What readiness came to is this one's alone.
        Self::new(self.inner.clone())
    }
}

impl<S, B, R> Service<Request<B>> for AnswerErrors<S>
where
    S: Service<Request<B>, Response = Response<R>, Error: Into<BoxError>>,
    R: From<String> + Default,
{
    type Response = Response<R>;
    type Error = Infallible;
    type Future = AnswerFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.failed.is_none()
            && let Err(error) = ready!(self.inner.poll_ready(cx))
        {
            self.failed = Some(typed(error.into()));
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let grpc = is_grpc(request.headers());
        let state = match self.failed.take() {
            Some(error) => Answering::Failed { error: Some(error) },
            None => Answering::Calling {
                future: self.inner.call(request),
            },
        };
        AnswerFuture { state, grpc }
    }
}

// === impl AnswerFuture ===

impl<F, R, E> Future for AnswerFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    E: Into<BoxError>,
    R: From<String> + Default,
{
    type Output = Result<Response<R>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let error = match this.state.project() {
            AnsweringProj::Calling { future } => match ready!(future.poll(cx)) {
                Ok(response) => return Poll::Ready(Ok(response)),
                Err(error) => typed(error.into()),
            },
            AnsweringProj::Failed { error } => match error.take() {
                Some(error) => error,
                // Polled again after it was ready: the same as never.
                None => return Poll::Pending,
            },
        };
        Poll::Ready(Ok(answer(error, *this.grpc, Instant::now())))
    }
}

fn typed(error: BoxError) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => *error,
        Err(other) => Error::from_leaf(other),
    }
}

/// A trailers-only response.
pub(super) fn grpc_response(error: Error, now: Instant) -> Response<Body> {
    answer(error, true, now)
}

fn answer<R: From<String> + Default>(error: Error, grpc: bool, now: Instant) -> Response<R> {
    let mut response = if grpc {
        let mut response = Response::new(R::default());
        *response.headers_mut() = status_headers(error.grpc_code(), &error.grpc_message());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        if let Some(millis) = pushback(&error, now) {
            headers.insert(GRPC_RETRY_PUSHBACK_MS, HeaderValue::from(millis));
        }
        response
    } else {
        let mut response = Response::new(R::from(error.to_string()));
        *response.status_mut() = error.kind().status();
        let headers = response.headers_mut();
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(CONTENT_TYPE, text);
        if let Some(seconds) = retry_after(&error, now, Duration::from_secs(1)) {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let ErrorKind::Redirect { location, .. } = error.kind()
            && let Ok(location) = HeaderValue::try_from(location.to_string())
        {
            headers.insert(LOCATION, location);
        }
        response
    };
    response.extensions_mut().insert(Arc::new(error));
    response
}

/// In milliseconds, where it is known when to try again.
pub(super) fn pushback(error: &Error, now: Instant) -> Option<u32> {
    retry_after(error, now, Duration::from_millis(1))
}

fn retry_after(error: &Error, now: Instant, unit: Duration) -> Option<u32> {
    let wait = error.retry_at()?.saturating_duration_since(now);
    Some(round_up(wait, unit))
}

// Whoever comes back a moment too early has come in vain.
fn round_up(time: Duration, unit: Duration) -> u32 {
    let units = time.as_nanos().div_ceil(unit.as_nanos().max(1));
    u32::try_from(units)
        .unwrap_or(u32::MAX)
        .min(i32::MAX as u32)
}
