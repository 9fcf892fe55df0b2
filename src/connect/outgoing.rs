use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::body::Body;
use crate::core::BoxError;
use crate::core::sync::{Mutex, lock};

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

/// The caller's request body gave an error.
#[derive(Clone, Debug)]
pub(super) struct RequestBodyError(Arc<BoxError>);

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
