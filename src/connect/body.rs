use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::lease::Stream;
use crate::body::Body;
use crate::core::BoxError;
use crate::core::sync::{Mutex, lock};
use crate::verdict::{Sent, TransportError, TransportFailure};

/// The body of a leaf's response.
///
/// Its connection (HTTP/1.1) or its place on one (HTTP/2) is given back when it has ended or is dropped. Dropped before
/// its end, it costs an HTTP/1.1 connection.
#[derive(Debug)]
pub struct HttpBody {
    incoming: Incoming,
    http2: bool,
    stream: Option<Stream>,
    until: Option<Until>,
}

/// A request's body, which remembers that it was the caller's body that failed (HTTP/2 tells nobody), and which ends when
/// nobody wants the response any longer (hyper goes on to wait for it).
pub(super) struct Outgoing {
    body: Body,
    link: Option<Arc<Link>>,
}

/// What a request's streaming body and its response have in common.
#[derive(Default)]
pub(super) struct Link {
    // Where a body of the caller's leaves its error.
    fault: Mutex<Option<RequestBodyError>>,
    over: Mutex<Over>,
}

#[derive(Default)]
struct Over {
    over: bool,
    body: Option<Waker>,
}

/// Until it is dropped, the response may still want the request's body.
#[derive(Debug)]
pub(super) struct Until {
    link: Arc<Link>,
    // Whether the request is over when the response is, whoever it was that ended it.
    duplex: bool,
    ended: bool,
}

/// After a reset without an error hyper says that the body has ended, whether it had or not.
#[derive(Debug, thiserror::Error)]
#[error("the peer reset the stream (NO_ERROR) before the response had ended")]
struct CutShort;

/// The caller's request body gave an error.
#[derive(Clone, Debug)]
pub(super) struct RequestBodyError(Arc<BoxError>);

// === impl HttpBody ===

impl HttpBody {
    pub(super) fn new(incoming: Incoming, stream: Option<Stream>, until: Option<Until>) -> Self {
        let ended = incoming.is_end_stream();
        Self {
            incoming,
            http2: stream.is_some(),
            stream: stream.filter(|_| !ended),
            until: until.map(|until| if ended { until.ended() } else { until }),
        }
    }
}

impl http_body::Body for HttpBody {
    type Data = Bytes;
    /// [`hyper::Error`], or a [`TransportError`] where hyper takes an end for a good one that is none.
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        let cut_short = frame.is_none() && self.http2 && !self.incoming.is_end_stream();
        // Who knows the end by `is_end_stream` may keep the body and never poll it again.
        if !matches!(frame, Some(Ok(_))) || self.incoming.is_end_stream() {
            self.stream = None;
            self.until = self.until.take().map(Until::ended);
        }
        if cut_short {
            // Said once.
            self.http2 = false;
            let (broken, sent) = (TransportFailure::Broken, Sent::Unknown);
            let error = TransportError::new(broken, sent, CutShort);
            return Poll::Ready(Some(Err(error.into())));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
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
        // What is in memory cannot fail, and is not waited for.
        let link = body.buffered().is_none().then(Arc::default);
        Self { body, link }
    }

    pub(super) fn link(&self) -> Option<Arc<Link>> {
        self.link.clone()
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let Some(link) = &self.link else {
            return polled.map_err(|error| RequestBodyError(Arc::new(error)));
        };
        match polled {
            Poll::Pending if link.is_over(cx) => {
                // hyper resets the stream with the reason that it finds.
                let cancel = h2::Error::from(h2::Reason::CANCEL);
                Poll::Ready(Some(Err(RequestBodyError(Arc::new(cancel.into())))))
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Err(error))) => {
                let error = RequestBodyError(Arc::new(error));
                *lock(&link.fault) = Some(error.clone());
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame))),
            Poll::Ready(None) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

// === impl Link ===

impl Link {
    pub(super) fn take_fault(&self) -> Option<RequestBodyError> {
        lock(&self.fault).take()
    }

    /// For a response, which has it until it is dropped.
    pub(super) fn until(self: Arc<Self>, duplex: bool) -> Until {
        Until {
            link: self,
            duplex,
            ended: false,
        }
    }

    // Or wakes the task later.
    fn is_over(&self, cx: &mut Context<'_>) -> bool {
        let mut over = lock(&self.over);
        if !over.over
            && !over
                .body
                .as_ref()
                .is_some_and(|old| old.will_wake(cx.waker()))
        {
            over.body = Some(cx.waker().clone());
        }
        over.over
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

// === impl Until ===

impl Until {
    /// The response has ended: what is left of the request may still be wanted, but by gRPC.
    pub(super) fn ended(mut self) -> Self {
        self.ended = true;
        self
    }
}

impl Drop for Until {
    fn drop(&mut self) {
        if self.ended && !self.duplex {
            return;
        }
        let body = {
            let mut over = lock(&self.link.over);
            over.over = true;
            over.body.take()
        };
        if let Some(body) = body {
            body.wake();
        }
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
