use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::lease::Stream;
use super::outgoing::Until;

/// The body of a leaf's response.
///
/// Its connection (HTTP/1.1) or its place on one (HTTP/2) is given back when it has ended or is dropped. Dropped before
/// its end, it costs an HTTP/1.1 connection.
#[derive(Debug)]
pub struct HttpBody {
    incoming: Incoming,
    stream: Option<Stream>,
    until: Option<Until>,
}

// === impl HttpBody ===

impl HttpBody {
    pub(super) fn new(incoming: Incoming, stream: Option<Stream>, until: Option<Until>) -> Self {
        let ended = incoming.is_end_stream();
        Self {
            incoming,
            stream: stream.filter(|_| !ended),
            until: until.map(|until| if ended { until.ended() } else { until }),
        }
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
            self.until = self.until.take().map(Until::ended);
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
