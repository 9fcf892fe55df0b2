//! A response body that is read before it is handed over.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::Body;
use crate::core::BoxError;

/// What has arrived of a body, and the rest. As a body, it is what it was.
pub(crate) struct Held {
    frames: VecDeque<Frame<Bytes>>,
    // Bytes in them.
    bytes: u64,
    // What reading them has cost: an empty frame is not kept, but as much as a byte.
    cost: u64,
    rest: Rest,
    // The most bytes that were promised to come.
    upper: Option<u64>,
}

#[allow(
    clippy::large_enum_variant,
    reason = "there is one for each response that is held, and it is open for nearly all of that time"
)]
enum Rest {
    Open(Body),
    Ended,
    Broke(Option<BoxError>),
}

/// What came next.
#[derive(Debug)]
pub(crate) enum Arrived<'a> {
    Data(Bytes),
    Trailers(&'a HeaderMap),
    /// Nothing more comes.
    Ended,
    Broke,
}

/// A response's rest that was not waited for.
#[derive(Debug, thiserror::Error)]
#[error(
    "the rest of this response was let go for another try, which could not be made: lengthen the request's deadline, or look at why no endpoint could take it"
)]
struct LetGo;

// === impl Held ===

impl Held {
    pub(crate) fn new(body: Body) -> Self {
        Self {
            upper: body.size_hint().upper(),
            frames: VecDeque::new(),
            bytes: 0,
            cost: 0,
            rest: if body.is_end_stream() {
                Rest::Ended
            } else {
                Rest::Open(body)
            },
        }
    }

    /// Whether more may come.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.rest, Rest::Open(_))
    }

    /// Bytes that have arrived; an empty frame counts as one, so that an endless row of them has an end.
    pub(crate) fn cost(&self) -> u64 {
        self.cost
    }

    /// Reads on.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Arrived<'_>> {
        while let Rest::Open(body) = &mut self.rest {
            match std::task::ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let data = frame.data_ref().cloned().unwrap_or_default();
                    let len = data.len() as u64;
                    self.bytes += len;
                    self.cost += len.max(1);
                    if len > 0 || frame.is_trailers() {
                        self.frames.push_back(frame);
                    }
                    let trailers = self.frames.back().and_then(Frame::trailers_ref);
                    return Poll::Ready(trailers.map_or(Arrived::Data(data), Arrived::Trailers));
                }
                Some(Err(error)) => self.rest = Rest::Broke(Some(error)),
                None => self.rest = Rest::Ended,
            }
        }
        Poll::Ready(match &self.rest {
            Rest::Broke(Some(_)) => Arrived::Broke,
            _ => Arrived::Ended,
        })
    }

    /// Lets go of what has not arrived: its connection is free, or closed.
    pub(crate) fn let_go(&mut self) {
        if self.is_open() {
            self.rest = Rest::Broke(Some(LetGo.into()));
        }
    }

    /// As the body that it was.
    pub(crate) fn into_body(mut self: Box<Self>) -> Body {
        match (self.frames.len(), &mut self.rest) {
            (0, Rest::Open(body)) => std::mem::take(body),
            (0, Rest::Ended | Rest::Broke(None)) => Body::empty(),
            (1, Rest::Ended) if self.frames[0].is_data() => {
                let frame = self.frames.pop_front().map(Frame::into_data);
                frame.and_then(Result::ok).unwrap_or_default().into()
            }
            _ => Body::of_box(self),
        }
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some(frame) = this.frames.pop_front() {
            let len = frame.data_ref().map_or(0, Bytes::len) as u64;
            this.bytes -= len;
            this.upper = this.upper.map(|upper| upper.saturating_sub(len));
            return Poll::Ready(Some(Ok(frame)));
        }
        match &mut this.rest {
            Rest::Open(body) => Pin::new(body).poll_frame(cx),
            Rest::Ended => Poll::Ready(None),
            Rest::Broke(error) => Poll::Ready(error.take().map(Err)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
            && match &self.rest {
                Rest::Open(body) => body.is_end_stream(),
                Rest::Ended => true,
                Rest::Broke(error) => error.is_none(),
            }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            Rest::Open(body) if self.frames.is_empty() => body.size_hint(),
            rest => {
                let lower = match rest {
                    Rest::Open(body) => body.size_hint().lower(),
                    Rest::Ended | Rest::Broke(_) => 0,
                };
                let lower = self.bytes.saturating_add(lower);
                let mut hint = SizeHint::new();
                hint.set_lower(lower);
                if let Some(upper) = self.upper {
                    hint.set_upper(upper.max(lower));
                }
                hint
            }
        }
    }
}
