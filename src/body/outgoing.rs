use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::Body;
use crate::core::BoxError;
use crate::deadline::Progress;

/// A request's body that tells how far it is: at each frame, and when it ends or is dropped.
pub(super) struct Outgoing {
    body: Body,
    progress: Arc<Progress>,
}

// === impl Outgoing ===

impl Outgoing {
    pub(super) fn new(body: Body, progress: Arc<Progress>) -> Self {
        Self { body, progress }
    }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Pending => self.progress.ask(),
            Poll::Ready(Some(Ok(_))) if !self.body.is_end_stream() => self.progress.frame(),
            Poll::Ready(_) => self.progress.flush(),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.progress.flush();
    }
}
