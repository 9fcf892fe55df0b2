use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Sleep, sleep_until};
use tower_service::Service;

use super::classify::ClassifyResult;
use super::error::{BreakerError, is_neutral};
use super::shared::Passage;
use crate::core::BoxError;
use crate::verdict::Outcome;

pin_project! {
    /// The future of [`BreakerService`](super::BreakerService) and [`BreakersService`](super::BreakersService).
    ///
    /// It asks to be admitted when it is first polled; dropped at any point it leaves nothing behind.
    pub struct BreakerFuture<S, Req, C>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S::Future>,
        // Until the service is called.
        call: Option<(S, Req)>,
        passage: Passage,
        classify: C,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Entering,
        // For the next probe, or for a change.
        Waiting { waiting: Pin<Box<Waiting>> },
        Calling { #[pin] future: F },
    }
}

pin_project! {
    // Boxed: few calls wait, and it would make the future of every call three times as large.
    struct Waiting {
        #[pin]
        alarm: Option<Sleep>,
        #[pin]
        changed: OwnedNotified,
    }
}

// === impl BreakerFuture ===

impl<S: Service<Req>, Req, C> BreakerFuture<S, Req, C> {
    pub(super) fn new(service: S, request: Req, passage: Passage, classify: C) -> Self {
        Self {
            state: State::Entering,
            call: Some((service, request)),
            passage,
            classify,
        }
    }
}

impl<S, Req, C> Future for BreakerFuture<S, Req, C>
where
    S: Service<Req, Error: Into<BoxError>>,
    C: ClassifyResult<S::Response, S::Error>,
{
    type Output = Result<S::Response, BreakerError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let result = match this.state.as_mut().project() {
                StateProj::Calling { future } => ready!(future.poll(cx)),
                StateProj::Waiting { waiting } => {
                    ready!(waiting.as_mut().poll(cx));
                    this.state.set(State::Entering);
                    continue;
                }
                StateProj::Entering => {
                    // Polled again after it was ready: the same as never.
                    let Some((service, _)) = this.call.as_mut() else {
                        return Poll::Pending;
                    };
                    // It may have opened while the service was not ready.
                    if !this.passage.is_current() {
                        // Listens before it asks, so that no change falls in between.
                        let changed = listen(this.passage);
                        if let Err(refusal) = this.passage.enter() {
                            let Some(changed) = changed else {
                                *this.call = None;
                                return Poll::Ready(Err(BreakerError::Open(refusal)));
                            };
                            let alarm = refusal.look_again_at().map(sleep_until);
                            let waiting = Box::pin(Waiting { alarm, changed });
                            this.state.set(State::Waiting { waiting });
                            continue;
                        }
                    }
                    match ready!(service.poll_ready(cx)) {
                        Err(error) => Err(error),
                        Ok(()) => {
                            if let Some((mut service, request)) = this.call.take() {
                                let future = service.call(request);
                                this.state.set(State::Calling { future });
                            }
                            continue;
                        }
                    }
                }
            };
            *this.call = None;
            this.state.set(State::Entering);
            return Poll::Ready(settle(result, this.passage, this.classify));
        }
    }
}

impl Future for Waiting {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let changed = this.changed.poll(cx).is_ready();
        let alarm = this.alarm.as_mut().as_pin_mut();
        if changed || alarm.is_some_and(|alarm| alarm.poll(cx).is_ready()) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

fn listen(passage: &Passage) -> Option<OwnedNotified> {
    let shared = passage.shared().filter(|shared| shared.waits())?;
    Some(Arc::clone(shared.changed()).notified_owned())
}

fn settle<T, E, C>(
    result: Result<T, E>,
    passage: &mut Passage,
    classify: &C,
) -> Result<T, BreakerError>
where
    E: Into<BoxError>,
    C: ClassifyResult<T, E>,
{
    let outcome = classify.classify_result(&result);
    match result {
        Ok(response) => {
            passage.settle(outcome);
            Ok(response)
        }
        Err(error) => {
            let error = error.into();
            if is_neutral(&*error) {
                passage.settle(Outcome::NEUTRAL);
            } else {
                passage.settle(outcome);
            }
            Err(BreakerError::Inner(error))
        }
    }
}

impl<S: Service<Req>, Req, C> fmt::Debug for BreakerFuture<S, Req, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerFuture").finish_non_exhaustive()
    }
}
