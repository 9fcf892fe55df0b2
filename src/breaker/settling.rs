//! A body that tells a breaker how it ended.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::error::is_neutral;
use super::passage::Passage;
use crate::core::BoxError;
use crate::verdict::{Classified, ClassifyEos, Outcome};

pin_project! {
    /// The response body of a breaker that [judges at the end](super::BreakerLayer::settling_bodies).
    ///
    /// Frames, size hints and end of stream are the inner body's; its errors are boxed. Nothing is allocated.
    ///
    /// Dropped before its end it settles what the response head said, or what its classifier makes of that: for gRPC,
    /// nothing.
    pub struct SettlingBody<B, E: ClassifyEos> {
        #[pin]
        inner: B,
        verdict: Owed<E>,
    }
}

/// The verdict that is still owed.
struct Owed<E: ClassifyEos> {
    passage: Passage,
    // None: settled.
    said: Option<Classified<E>>,
    // How long the head took: the body's time is nobody's slow call.
    took: Option<Duration>,
}

// === impl SettlingBody ===

impl<B: Body, E: ClassifyEos> SettlingBody<B, E> {
    pub(super) fn new(inner: B, passage: Passage, said: Classified<E>) -> Self {
        let mut verdict = Owed::new(passage, said);
        if inner.is_end_stream() {
            verdict.ended(None);
        }
        Self { inner, verdict }
    }
}

impl<B, E> Body for SettlingBody<B, E>
where
    B: Body<Error: Into<BoxError>>,
    E: ClassifyEos,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut this = self.project();
        let polled = ready!(this.inner.as_mut().poll_frame(cx));
        Poll::Ready(match polled {
            Some(Ok(frame)) => {
                // Who knows the end by `is_end_stream` may never poll again.
                if frame.is_trailers() || this.inner.is_end_stream() {
                    this.verdict.ended(frame.trailers_ref());
                } else if frame.is_data() {
                    this.verdict.data();
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                let error = error.into();
                this.verdict.broke(&error);
                Some(Err(error))
            }
            None => {
                this.verdict.ended(None);
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B: fmt::Debug, E: ClassifyEos> fmt::Debug for SettlingBody<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SettlingBody")
            .field("inner", &self.inner)
            .field("settled", &self.verdict.said.is_none())
            .finish()
    }
}

// === impl Owed ===

impl<E: ClassifyEos> Owed<E> {
    fn new(passage: Passage, said: Classified<E>) -> Self {
        let mut this = Self {
            took: passage.elapsed(),
            passage,
            said: Some(said),
        };
        // A failure cannot improve, and for a probe the head is enough.
        let enough = match &this.said {
            Some(Classified::Ready(outcome)) => this.passage.is_probe() || outcome.is_failure(),
            _ => false,
        };
        if enough {
            this.ended(None);
        }
        this
    }

    // Data arrived, and there may be more. For a probe the first message is enough, so that a long stream can close a
    // breaker.
    fn data(&mut self) {
        if self.passage.is_probe() && matches!(self.said, Some(Classified::AtEnd(_))) {
            self.said = None;
            self.settle(Outcome::SUCCESS);
        }
    }

    fn ended(&mut self, trailers: Option<&HeaderMap>) {
        match self.said.take() {
            Some(Classified::Ready(outcome)) => self.settle(outcome),
            Some(Classified::AtEnd(rest)) => self.settle(rest.classify_eos(trailers)),
            None => {}
        }
    }

    fn broke(&mut self, error: &BoxError) {
        match self.said.take() {
            Some(_) if is_neutral(&**error) => self.settle(Outcome::NEUTRAL),
            Some(Classified::Ready(_)) => self.settle(Outcome::FAILURE),
            Some(Classified::AtEnd(rest)) => self.settle(rest.classify_error(error)),
            None => {}
        }
    }

    fn settle(&mut self, mut outcome: Outcome) {
        outcome.took = self.took;
        self.passage.settle(outcome);
    }
}

impl<E: ClassifyEos> Drop for Owed<E> {
    fn drop(&mut self) {
        match self.said.take() {
            Some(Classified::Ready(outcome)) => self.settle(outcome),
            Some(Classified::AtEnd(rest)) => self.settle(rest.classify_drop()),
            None => {}
        }
    }
}
