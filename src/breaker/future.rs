use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Sleep, sleep_until};
use tower_service::Service;

use super::blocked::{Blocked, Line};
use super::error::{BreakerError, Refusal};
use super::judging::{AtHead, Judging};
use super::passage::Passage;
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
        state: State<S, Req, S::Future>,
        passage: Passage,
        classify: C,
        judging: PhantomData<M>,
    }
}

pin_project! {
    #[project = StateProj]
    #[project_replace = StateOwned]
    enum State<S, Req, F> {
        Entering { service: S, request: Req },
        // For the next probe, or for a change.
        Waiting { service: S, request: Req, waiting: Pin<Box<Waiting>> },
        Calling { #[pin] future: F },
        Done,
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
            state: State::Entering { service, request },
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
        let result = loop {
            match this.state.as_mut().project() {
                StateProj::Calling { future } => break ready!(future.poll(cx)),
                StateProj::Entering { service, .. } => {
                    // It may have opened while the service was not ready.
                    if !this.passage.is_current()
                        && let Err(blocked) = this.passage.enter()
                    {
                        match wait(this.passage, blocked) {
                            Entry::Admitted => {}
                            Entry::Waits(waiting) => {
                                this.state.as_mut().wait(waiting);
                                continue;
                            }
                            Entry::Refused(blocked, line) => {
                                this.state.set(State::Done);
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
                        Ok(()) => this.state.as_mut().call(),
                        Err(error) => break Err(error),
                    }
                }
                StateProj::Waiting { waiting, .. } => {
                    ready!(waiting.as_mut().poll(cx));
                    this.state.as_mut().enter();
                }
                // Polled again after it was ready: the same as never.
                StateProj::Done => return Poll::Pending,
            }
        };
        this.state.set(State::Done);
        Poll::Ready(M::settle(result, this.passage, this.classify))
    }
}

// === impl State ===

impl<S: Service<Req>, Req> State<S, Req, S::Future> {
    #[inline]
    fn call(mut self: Pin<&mut Self>) {
        let old = self.as_mut().project_replace(Self::Done);
        if let StateOwned::Entering {
            mut service,
            request,
        } = old
        {
            let future = service.call(request);
            self.set(Self::Calling { future });
        }
    }

    fn wait(mut self: Pin<&mut Self>, waiting: Pin<Box<Waiting>>) {
        let old = self.as_mut().project_replace(Self::Done);
        if let StateOwned::Entering { service, request } = old {
            self.set(Self::Waiting {
                service,
                request,
                waiting,
            });
        }
    }

    fn enter(mut self: Pin<&mut Self>) {
        let old = self.as_mut().project_replace(Self::Done);
        if let StateOwned::Waiting {
            service, request, ..
        } = old
        {
            self.set(Self::Entering { service, request });
        }
    }
}

// === impl Waiting ===

enum Entry {
    Admitted,
    Waits(Pin<Box<Waiting>>),
    Refused(Blocked, Line),
}

#[inline]
fn wait(passage: &mut Passage, blocked: Blocked) -> Entry {
    if passage.waits() {
        wait_in_line(passage, blocked)
    } else {
        Entry::Refused(blocked, Line::None)
    }
}

#[inline(never)]
fn wait_in_line(passage: &mut Passage, mut blocked: Blocked) -> Entry {
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
