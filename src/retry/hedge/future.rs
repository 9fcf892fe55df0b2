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
        let started = match *this.started {
            Some(started) => started,
            None => {
                if this.next.is_none() {
                    // Polled again after it was ready: the same as never.
                    return Poll::Pending;
                }
                if let Err(error) = ready!(this.service.poll_ready(cx)) {
                    *this.next = None;
                    return Poll::Ready(Err(error));
                }
                let Some(request) = this.next.take() else {
                    return Poll::Pending;
                };
                if this.shared.when.is_safe(&request) {
                    *this.kept = this.shared.keep.keep(&request);
                }
                let now = Instant::now();
                *this.started = Some(now);
                *this.due = this.kept.as_ref().and_then(|_| this.shared.pace.due(now));
                this.first.set(Some(this.service.call(request)));
                now
            }
        };
        loop {
            for is_first in [true, false] {
                let mut attempt = if is_first {
                    this.first.as_mut()
                } else {
                    this.second.as_mut()
                };
                let Some(future) = attempt.as_mut().as_pin_mut() else {
                    continue;
                };
                let Poll::Ready(result) = future.poll(cx) else {
                    continue;
                };
                attempt.set(None);
                let now = Instant::now();
                if is_first || this.first.is_some() {
                    this.shared.pace.answered(started, now);
                }
                if this.shared.when.wins(&result) {
                    this.shared.success(now);
                } else if this.first.is_some() || this.second.is_some() {
                    // The other may still bring an answer.
                    continue;
                }
                // The loser is let go.
                this.first.set(None);
                this.second.set(None);
                *this.token = None;
                *this.kept = None;
                *this.due = None;
                return Poll::Ready(result);
            }
            let Some(due) = *this.due else {
                return Poll::Pending;
            };
            if Instant::now() < due {
                ready!(this.alarm.as_mut().poll_at(cx, Some(due)));
            }
            if this.token.is_none() {
                let token = this.shared.budget.withdraw_hedge(Instant::now());
                *this.token = token.map(Token::into_owned);
                if this.token.is_none() {
                    *this.due = None;
                    return Poll::Pending;
                }
            }
            // A service that is not ready has enough to do; it is asked again when it wakes.
            match this.service.poll_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => *this.token = None,
                Poll::Ready(Ok(())) => {
                    if let Some(kept) = this.kept.take() {
                        let request = this.shared.keep.renew(kept);
                        if let Some(token) = this.token.take() {
                            token.spend();
                        }
                        this.second.set(Some(this.service.call(request)));
                    }
                }
            }
            *this.due = None;
        }
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
