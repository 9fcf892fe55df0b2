use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Sleep, sleep_until};
use tower_service::Service;

use super::error::{BreakerError, Line, Refusal};
use super::judging::{AtHead, Judging};
use super::passage::Passage;
use super::shared::Blocked;
use crate::core::BoxError;

pin_project! {
    /// The future of [`BreakerService`](super::BreakerService) and [`BreakersService`](super::BreakersService).
    ///
    /// It asks to be admitted when it is first polled; dropped at any point it leaves nothing behind.
    pub struct BreakerFuture<S, Req, C, M = AtHead>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S::Future>,
        // Until the service is called.
        call: Option<(S, Req)>,
        passage: Passage,
        classify: C,
        judging: PhantomData<M>,
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
        alarm: Sleep,
        #[pin]
        changed: OwnedNotified,
    }
}

// === impl BreakerFuture ===

impl<S: Service<Req>, Req, C, M> BreakerFuture<S, Req, C, M> {
    pub(super) fn new(service: S, request: Req, passage: Passage, classify: C) -> Self {
        Self {
            state: State::Entering,
            call: Some((service, request)),
            passage,
            classify,
            judging: PhantomData,
        }
    }
}

impl<S, Req, C, M> Future for BreakerFuture<S, Req, C, M>
where
    S: Service<Req, Error: Into<BoxError>>,
    M: Judging<C, S::Response, S::Error>,
{
    type Output = Result<M::Response, BreakerError>;

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
                        match enter(this.passage) {
                            Entry::Admitted => {}
                            Entry::Waits(waiting) => {
                                this.state.set(State::Waiting { waiting });
                                continue;
                            }
                            Entry::Refused(blocked, line) => {
                                *this.call = None;
                                // None only where there is no breaker, which refuses nobody.
                                if let Some(shared) = this.passage.refused(blocked) {
                                    let refusal = Refusal::new(shared, blocked, line);
                                    return Poll::Ready(Err(BreakerError::Open(refusal)));
                                }
                                return Poll::Pending;
                            }
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
            return Poll::Ready(M::settle(result, this.passage, this.classify));
        }
    }
}

enum Entry {
    Admitted,
    Waits(Pin<Box<Waiting>>),
    Refused(Blocked, Line),
}

#[inline]
fn enter(passage: &mut Passage) -> Entry {
    match passage.enter() {
        Ok(()) => Entry::Admitted,
        Err(blocked) if !passage.waits() => Entry::Refused(blocked, Line::None),
        Err(blocked) => wait(passage, blocked),
    }
}

#[inline(never)]
fn wait(passage: &mut Passage, mut blocked: Blocked) -> Entry {
    let mut line = Line::None;
    if let Some(changed) = passage.listen() {
        // Asks once more, so that no change falls in between.
        match passage.enter() {
            Ok(()) => return Entry::Admitted,
            Err(again) => blocked = again,
        }
        match passage.wait(blocked) {
            Ok(until) => {
                let alarm = sleep_until(until);
                return Entry::Waits(Box::pin(Waiting { alarm, changed }));
            }
            Err(why) => line = why,
        }
    }
    Entry::Refused(blocked, line)
}

impl Future for Waiting {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.changed.poll(cx).is_ready() || this.alarm.poll(cx).is_ready() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl<S: Service<Req>, Req, C, M> fmt::Debug for BreakerFuture<S, Req, C, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerFuture").finish_non_exhaustive()
    }
}
