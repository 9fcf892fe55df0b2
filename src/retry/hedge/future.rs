use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_service::Service;

use super::shared::Shared;
use super::when::HedgeWhen;
use crate::budget::Token;
use crate::deadline::Alarm;
use crate::retry::keep::KeepRequest;

pin_project! {
    /// The future of [`HedgeService`](super::HedgeService). Dropped at any point it drops both attempts, and what it has
    /// drawn from the budget and not used returns.
    #[project = HedgeProj]
    pub struct HedgeFuture<S, Req, C, K>
    where
        S: Service<Req>,
        K: KeepRequest<Req>,
    {
        #[pin]
        first: Option<S::Future>,
        #[pin]
        second: Option<S::Future>,
        #[pin]
        alarm: Alarm,
        service: S,
        shared: Arc<Shared<C, K>>,
        // What is sent first, and what is kept for the second attempt.
        next: Option<Req>,
        kept: Option<K::Kept>,
        // Of the first attempt.
        started: Option<Instant>,
        // When the second is due.
        due: Option<Instant>,
        token: Option<Token<'static>>,
    }
}

// === impl HedgeFuture ===

impl<S, Req, C, K> HedgeFuture<S, Req, C, K>
where
    S: Service<Req>,
    K: KeepRequest<Req>,
{
    pub(super) fn new(service: S, request: Req, shared: Arc<Shared<C, K>>) -> Self {
        shared.begin();
        Self {
            first: None,
            second: None,
            alarm: Alarm::default(),
            service,
            shared,
            next: Some(request),
            kept: None,
            started: None,
            due: None,
            token: None,
        }
    }
}

impl<S, Req, C, K> Future for HedgeFuture<S, Req, C, K>
where
    S: Service<Req>,
    C: HedgeWhen<Req, S::Response, S::Error>,
    K: KeepRequest<Req>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if this.started.is_none()
            && let Err(error) = ready!(this.start(cx))
        {
            return Poll::Ready(Err(error));
        }
        loop {
            if let Some(result) = this.poll_attempts(cx) {
                return Poll::Ready(result);
            }
            ready!(this.poll_second(cx));
        }
    }
}

impl<S, Req, C, K> HedgeProj<'_, S, Req, C, K>
where
    S: Service<Req>,
    C: HedgeWhen<Req, S::Response, S::Error>,
    K: KeepRequest<Req>,
{
    // Sends the first attempt, as soon as the service is ready for it.
    fn start(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        if self.next.is_none() {
            // Polled again after it was ready: the same as never.
            return Poll::Pending;
        }
        if let Err(error) = ready!(self.service.poll_ready(cx)) {
            *self.next = None;
            return Poll::Ready(Err(error));
        }
        let Some(request) = self.next.take() else {
            return Poll::Pending;
        };
        if self.shared.when.is_safe(&request) {
            *self.kept = self.shared.keep.keep(&request);
        }
        let now = Instant::now();
        *self.started = Some(now);
        *self.due = self.kept.as_ref().and_then(|_| self.shared.pace.due(now));
        self.first.set(Some(self.service.call(request)));
        Poll::Ready(Ok(()))
    }

    // The answer that wins, or the last that there is.
    fn poll_attempts(&mut self, cx: &mut Context<'_>) -> Option<Result<S::Response, S::Error>> {
        for is_first in [true, false] {
            let mut attempt = match is_first {
                true => self.first.as_mut(),
                false => self.second.as_mut(),
            };
            let Some(future) = attempt.as_mut().as_pin_mut() else {
                continue;
            };
            let Poll::Ready(result) = future.poll(cx) else {
                continue;
            };
            attempt.set(None);
            let now = Instant::now();
            if let Some(started) = *self.started
                && (is_first || self.first.is_some())
            {
                self.shared.pace.answered(started, now);
            }
            if self.shared.when.wins(&result) {
                self.shared.success(now);
            } else if self.first.is_some() || self.second.is_some() {
                // The other may still bring an answer.
                continue;
            }
            // The loser is let go.
            self.first.set(None);
            self.second.set(None);
            *self.token = None;
            *self.kept = None;
            *self.due = None;
            return Some(result);
        }
        None
    }

    // Sends the second attempt when it is due, if something pays for it. Pending: there is nothing new to poll.
    fn poll_second(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = *self.due else {
            return Poll::Pending;
        };
        if Instant::now() < due {
            ready!(self.alarm.as_mut().poll_at(cx, Some(due)));
        }
        if self.token.is_none() {
            let token = self.shared.budget.withdraw_hedge(Instant::now());
            *self.token = token.map(Token::into_owned);
            if self.token.is_none() {
                *self.due = None;
                return Poll::Pending;
            }
        }
        // A service that is not ready has enough to do; it is asked again when it wakes.
        match ready!(self.service.poll_ready(cx)) {
            Err(_) => *self.token = None,
            Ok(()) => {
                if let Some(kept) = self.kept.take() {
                    let request = self.shared.keep.renew(kept);
                    if let Some(token) = self.token.take() {
                        token.spend();
                    }
                    self.second.set(Some(self.service.call(request)));
                }
            }
        }
        *self.due = None;
        Poll::Ready(())
    }
}

impl<S: Service<Req>, Req, C, K: KeepRequest<Req>> fmt::Debug for HedgeFuture<S, Req, C, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeFuture")
            .field("started", &self.started)
            .field("hedged", &self.second.is_some())
            .finish_non_exhaustive()
    }
}
