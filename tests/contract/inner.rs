//! The inner service of every subject, and its body.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use tower::Service;
use tower_mesh::{Body, BoxError};

use crate::support::ms;

/// Ready only after two polls, and only for one call; clones start anew. Answers after two polls more, by a script of
/// how many calls there were before, with a body that takes a poll for each frame and ends with trailers.
pub struct Strict {
    script: fn(usize) -> StatusCode,
    pub calls: Arc<AtomicUsize>,
    // The same, and nobody sets it back.
    pub total: Arc<AtomicUsize>,
    // Calls and bodies that exist.
    pub alive: Arc<()>,
    unready_polls: u8,
}

impl Strict {
    pub fn new(script: fn(usize) -> StatusCode) -> Self {
        Self {
            script,
            calls: Arc::default(),
            total: Arc::default(),
            alive: Arc::default(),
            unready_polls: 2,
        }
    }
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self {
            script: self.script,
            calls: Arc::clone(&self.calls),
            total: Arc::clone(&self.total),
            alive: Arc::clone(&self.alive),
            unready_polls: 2,
        }
    }
}

impl Service<Request<Body>> for Strict {
    type Response = Response<Slow>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Slow>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.unready_polls > 0 {
            self.unready_polls -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        assert_eq!(self.unready_polls, 0, "called before it was ready");
        self.unready_polls = 2;
        self.total.fetch_add(1, Ordering::Relaxed);
        let status = (self.script)(self.calls.fetch_add(1, Ordering::Relaxed));
        let alive = Arc::clone(&self.alive);
        Box::pin(async move {
            tokio::task::yield_now().await;
            tokio::time::sleep(ms(5)).await;
            let mut response = Response::new(Slow::new(alive));
            *response.status_mut() = status;
            Ok(response)
        })
    }
}

/// Two data frames and trailers, a poll in vain before each.
pub struct Slow {
    _alive: Arc<()>,
    step: u8,
}

impl Slow {
    pub fn new(alive: Arc<()>) -> Self {
        Self {
            _alive: alive,
            step: 0,
        }
    }
}

impl http_body::Body for Slow {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.step += 1;
        Poll::Ready(match self.step {
            2 => Some(Ok(Frame::data(Bytes::from_static(b"he")))),
            4 => Some(Ok(Frame::data(Bytes::from_static(b"llo")))),
            6 => {
                let mut trailers = HeaderMap::new();
                trailers.insert("x-end", "1".parse().unwrap());
                // UNKNOWN, to whom it concerns: gRPC, which is told of a status that is missing.
                trailers.insert("grpc-status", "2".parse().unwrap());
                Some(Ok(Frame::trailers(trailers)))
            }
            step if step > 6 => None,
            _ => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.step >= 6
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        hint.set_lower(1);
        hint.set_upper(9);
        hint
    }
}
