//! The one erased body, and what it carries besides frames.
//!
//! A [`Body`] is what a client sends and what it returns, whatever the bodies are that its callers and its leaves use.
//! [`Replay`] sends one more than once while it is still being read.

mod ahead;
mod held;
mod outgoing;
mod replay;
mod tail;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;

pub(crate) use self::held::{Arrived, Held};
pub use self::replay::{Replay, ReplayError};
pub(crate) use self::tail::{GrpcEnd, Tail};

use self::outgoing::Outgoing;
use self::tail::Last;
use crate::core::BoxError;
use crate::deadline::{Limits, Progress};
use crate::error::Error;
use crate::verdict::{Ticket, grpc};

/// A request or response body of any kind, behind one concrete type.
///
/// Empty and in-memory bodies are not boxed, and [can be sent again](Self::try_clone).
///
/// ```
/// use tower_mesh::Body;
///
/// let empty = Body::empty();
/// let text = Body::from("hello");
/// assert!(text.try_clone().is_some());
/// ```
pub struct Body {
    kind: Kind,
    tail: Option<Tail>,
}

enum Kind {
    Empty,
    Full(Bytes),
    #[cfg(feature = "hyper")]
    Incoming(hyper::body::Incoming),
    Boxed(Pin<Box<dyn HttpBody<Data = Bytes, Error = BoxError> + Send>>),
    // What is told of a gRPC response that ended without a status.
    Last(Box<Last>),
}

// === impl Body ===

impl Body {
    /// No body.
    pub const fn empty() -> Self {
        Self {
            kind: Kind::Empty,
            tail: None,
        }
    }

    /// Any body. One that is a `Body` already, empty or in memory is not boxed.
    pub fn new<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        // Moves `body` out if it is one of the types that need no box.
        let mut body = Some(body);
        let any: &mut dyn Any = &mut body;
        if let Some(body) = any.downcast_mut::<Option<Self>>().and_then(Option::take) {
            return body;
        }
        if let Some(full) = any
            .downcast_mut::<Option<http_body_util::Full<Bytes>>>()
            .and_then(Option::take)
        {
            return Self::from_full(full);
        }
        if any.is::<Option<http_body_util::Empty<Bytes>>>() {
            return Self::empty();
        }
        #[cfg(feature = "hyper")]
        if let Some(incoming) = any
            .downcast_mut::<Option<hyper::body::Incoming>>()
            .and_then(Option::take)
        {
            return Kind::Incoming(incoming).into();
        }
        match body {
            Some(body) if body.is_end_stream() => Self::empty(),
            Some(body) => Kind::Boxed(Box::pin(body.map_err(Into::into))).into(),
            None => Self::empty(),
        }
    }

    /// One that is in a box already.
    pub(crate) fn of_box<B>(body: Box<B>) -> Self
    where
        B: HttpBody<Data = Bytes, Error = BoxError> + Send + 'static,
    {
        Kind::Boxed(Box::into_pin(body)).into()
    }

    /// The same body, if it is empty or in memory and nothing of it was taken yet.
    pub fn try_clone(&self) -> Option<Self> {
        match &self.kind {
            Kind::Empty => Some(Self::empty()),
            Kind::Full(bytes) => Some(bytes.clone().into()),
            _ => None,
        }
    }

    /// How many bytes it keeps in memory, if it can be sent again.
    pub fn buffered(&self) -> Option<usize> {
        match &self.kind {
            Kind::Empty => Some(0),
            Kind::Full(bytes) => Some(bytes.len()),
            _ => None,
        }
    }

    /// The same body, which settles `ticket` once: at its end, with its trailers, when it breaks, or when it is dropped.
    /// Frames, size hints and end of stream are as before. Nothing is allocated, unless it settles another one already.
    pub fn settling(self, ticket: Ticket) -> Self {
        self.with_tail(Tail::new(ticket, Limits::default(), None))
    }

    /// Gives the body something that hears how it ends.
    pub(crate) fn with_tail(mut self, mut tail: Tail) -> Self {
        if self.is_end_stream() {
            tail.ended(None);
            return match tail.truncated() {
                Some(last) => Kind::Last(Box::new(last)).into(),
                None => self,
            };
        }
        if self.tail.is_some() {
            // A client within a client: each hears the end of its own.
            self = Kind::Boxed(Box::pin(self)).into();
        }
        self.tail = Some(tail);
        self
    }

    /// The same body, which tells how far it is; one in memory needs not.
    pub(crate) fn with_progress(self, progress: Arc<Progress>) -> Self {
        Kind::Boxed(Box::pin(Outgoing::new(self, progress))).into()
    }

    fn from_full(full: http_body_util::Full<Bytes>) -> Self {
        let mut full = std::pin::pin!(full);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match full.as_mut().poll_frame(&mut cx) {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default().into(),
            _ => Self::empty(),
        }
    }

    fn poll_kind(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.kind = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            #[cfg(feature = "hyper")]
            Kind::Incoming(incoming) => Pin::new(incoming).poll_frame(cx).map_err(Into::into),
            Kind::Boxed(body) => body.as_mut().poll_frame(cx),
            last @ Kind::Last(_) => match std::mem::replace(last, Kind::Empty) {
                Kind::Last(last) => Poll::Ready(Some(*last)),
                _ => Poll::Ready(None),
            },
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = self.poll_kind(cx);
        let this = &mut *self;
        let Some(tail) = &mut this.tail else {
            return polled;
        };
        let mut told = tail.is_grpc();
        let last = match polled {
            Poll::Pending => {
                let Poll::Ready(kind) = tail.poll_limit(cx) else {
                    return Poll::Pending;
                };
                tail.expired();
                told = true;
                Some(tail.told(Error::new(kind)))
            }
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => {
                tail.ended(Some(&frame));
                let status = frame.trailers_ref().is_some_and(has_status);
                let missing = if status { None } else { tail.truncated() };
                told = missing.is_some();
                Some(with_trailers_of(frame, missing))
            }
            // Who knows the end by `is_end_stream` may never poll again.
            Poll::Ready(Some(Ok(frame))) if this.kind.is_end_stream() => {
                tail.ended(Some(&frame));
                if let Some(last) = tail.truncated() {
                    this.kind = Kind::Last(Box::new(last));
                }
                this.tail = None;
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Ready(Some(Ok(frame))) => {
                tail.frame(&frame);
                let Some(kind) = tail.overdue() else {
                    return Poll::Ready(Some(Ok(frame)));
                };
                tail.expired();
                told = true;
                Some(tail.told(Error::new(kind)))
            }
            Poll::Ready(Some(Err(error))) => {
                tail.broke(&error);
                Some(tail.told_of(error))
            }
            Poll::Ready(None) => {
                tail.ended(None);
                let missing = tail.truncated();
                told = missing.is_some();
                missing
            }
        };
        if told {
            // Nothing more comes. Dropped, so that its connection is not kept for it.
            this.kind = Kind::Empty;
        }
        this.tail = None;
        Poll::Ready(last)
    }

    fn is_end_stream(&self) -> bool {
        self.kind.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            #[cfg(feature = "hyper")]
            Kind::Incoming(incoming) => incoming.size_hint(),
            Kind::Boxed(body) => body.size_hint(),
            Kind::Last(_) => SizeHint::with_exact(0),
        }
    }
}

impl Kind {
    fn is_end_stream(&self) -> bool {
        match self {
            Kind::Empty => true,
            Kind::Full(_) => false,
            #[cfg(feature = "hyper")]
            Kind::Incoming(incoming) => incoming.is_end_stream(),
            Kind::Boxed(body) => body.is_end_stream(),
            Kind::Last(_) => false,
        }
    }
}

fn has_status(trailers: &HeaderMap) -> bool {
    trailers.contains_key(grpc::GRPC_STATUS)
}

// The trailers that came say more than those that stand in for a status.
fn with_trailers_of(frame: Frame<Bytes>, missing: Option<Last>) -> Last {
    match (missing, frame.into_trailers()) {
        (Some(Ok(told)), Ok(mut trailers)) => {
            trailers.extend(told.into_trailers().unwrap_or_default());
            Ok(Frame::trailers(trailers))
        }
        (Some(last), _) => last,
        (None, Ok(trailers)) => Ok(Frame::trailers(trailers)),
        (None, Err(frame)) => Ok(frame),
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Empty => "empty",
            Kind::Full(_) => "full",
            #[cfg(feature = "hyper")]
            Kind::Incoming(_) => "incoming",
            Kind::Boxed(_) => "boxed",
            Kind::Last(_) => "ending",
        };
        f.debug_tuple("Body").field(&kind).finish()
    }
}

impl From<Kind> for Body {
    fn from(kind: Kind) -> Self {
        Self { kind, tail: None }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            Self::empty()
        } else {
            Kind::Full(bytes).into()
        }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Bytes::from_static(bytes).into()
    }
}

impl From<()> for Body {
    fn from((): ()) -> Self {
        Self::empty()
    }
}
