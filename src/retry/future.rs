use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_service::Service;

use super::judge::{Again, Judgement, Wait};
use super::keep::KeepRequest;
use super::shared::Shared;
use super::tries::{Bounds, Tries};
use super::when::{Asks, RetryWhen, Ruling};
use crate::budget::Token;
use crate::core::observe::{Decision, NotRetried};
use crate::core::sync::Ordering;
use crate::core::time::after;
use crate::deadline::Alarm;

pin_project! {
    /// The future of [`RetryService`](super::RetryService). Dropped at any point it leaves nothing behind: what it has
    /// drawn from the budget and not used returns.
    pub struct RetryFuture<S, Req, C, K>
    where
        S: Service<Req>,
        C: RetryWhen<Req, S::Response, S::Error>,
        K: KeepRequest<Req>,
    {
        #[pin]
        state: State<S::Future>,
        // The one timer: of a try, or of the wait between two.
        #[pin]
        alarm: Alarm,
        walk: Walk<S, Req, C, K, K::Kept, Result<S::Response, C::Error>>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        // Waits until the service is ready.
        Ready,
        Calling { #[pin] future: F },
        Waiting { until: Instant },
        Done,
    }
}

struct Walk<S, Req, C, K, Kept, Answer> {
    shared: Arc<Shared<C, K>>,
    service: S,
    // What is sent next, and what is kept for the attempt after that.
    next: Option<Req>,
    kept: Option<Kept>,
    asks: Asks,
    tries: Tries,
    // Drawn when it first fails.
    number: Option<u64>,
    token: Option<Token<'static>>,
    // When the try that is out has had its time.
    cut: Option<Instant>,
    // What stands if the next attempt comes to nothing.
    prior: Option<Answer>,
}

// === impl RetryFuture ===

impl<S, Req, C, K> RetryFuture<S, Req, C, K>
where
    S: Service<Req>,
    C: RetryWhen<Req, S::Response, S::Error>,
    K: KeepRequest<Req>,
{
    pub(super) fn new(service: S, request: Req, shared: Arc<Shared<C, K>>) -> Self {
        let asks = shared.when.asks(&shared.retry, &request);
        shared.begin();
        Self {
            state: State::Ready,
            alarm: Alarm::default(),
            walk: Walk {
                service,
                shared,
                next: Some(request),
                kept: None,
                asks,
                tries: Tries::default(),
                number: None,
                token: None,
                cut: None,
                prior: None,
            },
        }
    }
}

impl<S, Req, C, K> Future for RetryFuture<S, Req, C, K>
where
    S: Service<Req>,
    C: RetryWhen<Req, S::Response, S::Error>,
    K: KeepRequest<Req>,
{
    type Output = Result<S::Response, C::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let result = match this.state.as_mut().project() {
                StateProj::Calling { future } => match future.poll(cx) {
                    Poll::Ready(result) => result,
                    Poll::Pending => {
                        ready!(this.alarm.as_mut().poll_at(cx, this.walk.cut));
                        // It had its time; it is let go only for another.
                        this.walk.cut = None;
                        if let Some(until) = this.walk.instead() {
                            this.state.set(State::Waiting { until });
                        }
                        continue;
                    }
                },
                StateProj::Waiting { until } => {
                    let until = *until;
                    if Instant::now() < until {
                        ready!(this.alarm.as_mut().poll_at(cx, Some(until)));
                    }
                    this.state.set(State::Ready);
                    continue;
                }
                StateProj::Ready => match this.walk.service.poll_ready(cx) {
                    Poll::Ready(Ok(())) => match this.walk.send() {
                        Some(future) => {
                            this.state.set(State::Calling { future });
                            continue;
                        }
                        None => return Poll::Pending,
                    },
                    // Nothing was sent, and the service says why.
                    Poll::Ready(Err(error)) => {
                        this.walk.unready();
                        Err(error)
                    }
                    Poll::Pending => {
                        ready!(this.alarm.as_mut().poll_at(cx, this.walk.patience()));
                        // Too late for another try; the answer of the one before is here.
                        this.state.set(State::Done);
                        match this.walk.prior.take() {
                            Some(prior) => return Poll::Ready(prior),
                            None => continue,
                        }
                    }
                },
                // Polled again after it was ready: the same as never.
                StateProj::Done => return Poll::Pending,
            };
            // The attempt is over before the wait begins.
            this.state.set(State::Done);
            match this.walk.settle(result) {
                Ok(until) => this.state.set(State::Waiting { until }),
                Err(result) => return Poll::Ready(result),
            }
        }
    }
}

// === impl Walk ===

impl<S, Req, C, K> Walk<S, Req, C, K, K::Kept, Result<S::Response, C::Error>>
where
    S: Service<Req>,
    C: RetryWhen<Req, S::Response, S::Error>,
    K: KeepRequest<Req>,
{
    fn max_retries(&self) -> u16 {
        let retry = &self.shared.retry;
        self.asks.max_retries.unwrap_or(retry.max_retries())
    }

    // The service is ready: the attempt takes place, and is paid for.
    fn send(&mut self) -> Option<S::Future> {
        let max_retries = self.max_retries();
        // In its place until it is sent: it is large.
        let request = self.next.as_mut()?;
        if let Some(token) = self.token.take() {
            token.spend();
        }
        self.prior = None;
        let retry = &self.shared.retry;
        if self.tries.sent() > 0 {
            let sent = self.tries.sent();
            self.shared.when.resend(request, sent);
        }
        if self.tries.may_follow(max_retries) {
            self.kept = self.shared.keep.keep(request);
        }
        self.tries.send();
        let timeout = retry.timeout();
        let cuts = self.kept.is_some() && self.tries.may_cut(max_retries) && !self.asks.no_repeat;
        let timeout = timeout.filter(|_| cuts);
        self.cut = timeout.map(|timeout| after(Instant::now(), timeout));
        let request = self.next.take()?;
        Some(self.service.call(request))
    }

    // It is not ready and never will be: an attempt that nothing was sent for.
    fn unready(&mut self) {
        self.token = None;
        let next = self.next.take();
        self.kept = next.and_then(|next| self.shared.keep.keep(&next));
        self.prior = None;
        self.tries.send();
    }

    // Until when the next attempt may wait for the service to be ready.
    fn patience(&self) -> Option<Instant> {
        self.prior.as_ref().and(self.asks.deadline)
    }

    // What an attempt came to: when the next is made, or what is returned.
    fn settle(
        &mut self,
        result: Result<S::Response, S::Error>,
    ) -> Result<Instant, Result<S::Response, C::Error>> {
        let (when, keep) = (&self.shared.when, &self.shared.keep);
        let mut whole = false;
        let kept = match &self.kept {
            Some(_) if !when.stands(&self.shared.retry, &result) => self.kept.take(),
            _ => None,
        };
        let (ruling, result) = match kept {
            Some(kept) => {
                whole = keep.is_whole(&kept);
                let next = keep.renew(kept);
                let ruled = when.judge(&self.shared.retry, &next, result);
                self.next = Some(next);
                ruled
            }
            None => {
                self.kept = None;
                when.last(result)
            }
        };
        let Ruling { judgement, earns } = ruling;
        let again = match judgement {
            Judgement::Retry(again) => again,
            Judgement::Final => {
                if earns && result.is_ok() {
                    self.shared.success();
                }
                return Err(result);
            }
            Judgement::Unsafe => return self.stand(NotRetried::Unsafe, result),
            Judgement::Stop => return self.stand(NotRetried::Pushback, result),
        };
        match self.again(again, whole) {
            Ok(until) => {
                self.prior = Some(result);
                Ok(until)
            }
            Err(why) => self.stand(why, result),
        }
    }

    fn stand(
        &mut self,
        why: NotRetried,
        result: Result<S::Response, C::Error>,
    ) -> Result<Instant, Result<S::Response, C::Error>> {
        self.told(Instant::now(), why);
        Err(result)
    }

    // Another in place of one that had its time, if there may be one.
    fn instead(&mut self) -> Option<Instant> {
        let again = Again {
            untouched: false,
            wait: Wait::Backoff,
        };
        let keep = &self.shared.keep;
        let whole = self.kept.as_ref().is_some_and(|kept| keep.is_whole(kept));
        match self.again(again, whole) {
            Ok(until) => {
                self.next = self.kept.take().map(|kept| self.shared.keep.renew(kept));
                Some(until)
            }
            Err(why) => {
                self.told(Instant::now(), why);
                None
            }
        }
    }

    // `whole`: there is a request for it.
    fn again(&mut self, again: Again, whole: bool) -> Result<Instant, NotRetried> {
        let now = Instant::now();
        let limit = self.max_retries();
        let number = self.number();
        let shared = &*self.shared;
        let bounds = Bounds {
            retry: &shared.retry,
            max_retries: limit,
            whole,
            deadline: self.asks.deadline,
            budget: shared.budget.as_ref(),
            seed: shared.seed,
            number,
        };
        let planned = self.tries.again(again, &bounds, now)?;
        let (attempt, backoff) = (self.tries.sent(), planned.backoff);
        shared.observers.tell(now, || Decision::Retried {
            request: number,
            attempt,
            backoff,
        });
        self.token = planned.token;
        Ok(planned.until)
    }

    fn told(&mut self, now: Instant, why: NotRetried) {
        let (request, attempt) = (self.number(), self.tries.sent());
        self.shared.observers.tell(now, || Decision::NotRetried {
            request,
            attempt,
            why,
        });
    }

    fn number(&mut self) -> u64 {
        let retried = &self.shared.retried;
        *self
            .number
            .get_or_insert_with(|| retried.fetch_add(1, Ordering::Relaxed))
    }
}

impl<S: Service<Req>, Req, C, K> fmt::Debug for RetryFuture<S, Req, C, K>
where
    C: RetryWhen<Req, S::Response, S::Error>,
    K: KeepRequest<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryFuture")
            .field("sent", &self.walk.tries.sent())
            .finish_non_exhaustive()
    }
}
