use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::lease::Stream;
use super::outgoing::Until;
use crate::core::BoxError;
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

/// After a reset without an error hyper says that the body has ended, whether it had or not.
#[derive(Debug, thiserror::Error)]
#[error("the peer reset the stream (NO_ERROR) before the response had ended")]
struct CutShort;

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
