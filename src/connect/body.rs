use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::lease::Stream;
use crate::body::Body;
use crate::core::BoxError;
use crate::core::sync::{Mutex, lock};

/// The body of a leaf's response.
///
/// Its connection (HTTP/1.1) or its place on one (HTTP/2) is given back when it has ended or is dropped. Dropped before
/// its end, it costs an HTTP/1.1 connection.
#[derive(Debug)]
pub struct HttpBody {
    incoming: Incoming,
    stream: Option<Stream>,
}

/// A request's body, which remembers that it was the caller's body that failed: HTTP/2 tells nobody.
pub(super) struct Outgoing {
    body: Body,
    fault: Option<Arc<Fault>>,
}

/// Where a body of the caller's leaves its error.
#[derive(Default)]
pub(super) struct Fault(Mutex<Option<RequestBodyError>>);

/// The caller's request body gave an error.
#[derive(Clone, Debug)]
pub(super) struct RequestBodyError(Arc<BoxError>);

// === impl HttpBody ===

impl HttpBody {
    pub(super) fn new(incoming: Incoming, stream: Option<Stream>) -> Self {
        let stream = stream.filter(|_| !incoming.is_end_stream());
        Self { incoming, stream }
    }
}

impl http_body::Body for HttpBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        // Who knows the end by `is_end_stream` may keep the body and never poll it again.
        if !matches!(frame, Some(Ok(_))) || self.incoming.is_end_stream() {
            self.stream = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

// === impl Outgoing ===

impl Outgoing {
    pub(super) fn new(body: Body) -> Self {
        // What is in memory cannot fail.
        let fault = body.buffered().is_none().then(Arc::default);
        Self { body, fault }
    }

    pub(super) fn fault(&self) -> Option<Arc<Fault>> {
        self.fault.clone()
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            frame.map_err(|error| {
                let error = RequestBodyError(Arc::new(error));
                if let Some(fault) = &self.fault {
                    *lock(&fault.0) = Some(error.clone());
                }
                error
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

// === impl Fault ===

impl Fault {
    pub(super) fn take(&self) -> Option<RequestBodyError> {
        lock(&self.0).take()
    }
}

// === impl RequestBodyError ===

impl fmt::Display for RequestBodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the caller's request body gave an error")
    }
}

impl std::error::Error for RequestBodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&**self.0)
    }
}
