use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower_service::Service;

use super::Want;
use super::error::BalanceError;
use super::shared::Local;
use super::waiting::Waiting;
use crate::breaker::ClassifyResult;
use crate::core::BoxError;
use crate::core::time::after;
use crate::endpoint::Endpoint;
use crate::verdict::Ticket;

pin_project! {
    /// The future of [`Balance`](super::Balance).
    ///
    /// It chooses its endpoint when it is first polled; dropped at any point it leaves nothing behind.
    #[project = FutureProj]
    pub struct BalanceFuture<S, Req, C>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, S::Future>,
        // Until a service is called with it.
        request: Option<Req>,
        // While an endpoint is chosen, and until it has answered.
        ticket: Held,
        endpoint: Option<SocketAddr>,
        number: u64,
        round: u64,
        local: Arc<Local<S>>,
        classify: C,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, F> {
        Choosing,
        Waiting { waiting: Pin<Box<Waiting>> },
        Readying {
            service: S,
            beside: Option<Box<Beside<S>>>,
            // Once it was found not to be ready.
            alarm: Option<Pin<Box<Sleep>>>,
        },
        Calling { #[pin] future: F },
        Done,
    }
}

/// Another service that is waited for, because the first is not ready.
struct Beside<S> {
    service: S,
    ticket: Held,
    endpoint: SocketAddr,
}

/// A ticket that goes back as it came, where nothing was sent with it.
struct Held(Option<Ticket>);

/// What the first poll comes to.
enum Begun<S> {
    Chosen(S),
    Waiting(Pin<Box<Waiting>>),
}

/// What comes of waiting for two services.
enum Second<E> {
    /// The second was the first to be ready, or to fail.
    Ready(Result<(), E>),
    /// Neither was, for as long as a line may wait.
    TooLate(BalanceError),
}

type Chosen<S> = (S, Ticket, SocketAddr);

// === impl BalanceFuture ===

impl<S: Service<Req>, Req, C> BalanceFuture<S, Req, C> {
    pub(super) fn new(local: Arc<Local<S>>, number: u64, request: Req, classify: C) -> Self {
        Self {
            state: State::Choosing,
            request: Some(request),
            ticket: Held(None),
            endpoint: None,
            number,
            round: 0,
            local,
            classify,
        }
    }
}

// === impl State ===

impl<S, F> State<S, F> {
    fn readying(service: S) -> Self {
        Self::Readying {
            service,
            beside: None,
            alarm: None,
        }
    }
}

fn choose<S: Clone>(
    local: &Local<S>,
    number: u64,
    round: &mut u64,
    now: Instant,
    except: Option<SocketAddr>,
) -> Option<Chosen<S>> {
    let mut held = Held(None);
    let (service, endpoint) = choose_into(&mut held, local, number, round, now, except)?;
    Some((service, held.0.take()?, endpoint))
}

// With its ticket where it is kept.
#[inline(always)]
fn choose_into<S: Clone>(
    held: &mut Held,
    local: &Local<S>,
    number: u64,
    round: &mut u64,
    now: Instant,
    except: Option<SocketAddr>,
) -> Option<(S, SocketAddr)> {
    let want = Want {
        now,
        request: number,
        round: *round,
        avoid: &[],
        except,
        only: None,
        // Whoever stands around this layer may; it does not say so.
        repeatable: false,
    };
    *round += 1;
    let shared = &*local.shared;
    shared.set.pick_into(&mut held.0, &want, |site, _| {
        let service = site.leaf(&shared.make).clone();
        (service, site.endpoint().address())
    })
}

impl<S, Req, C> Future for BalanceFuture<S, Req, C>
where
    S: Service<Req, Error: Into<BoxError>> + Clone + Send + Sync + 'static,
    C: ClassifyResult<S::Response, S::Error>,
{
    type Output = Result<S::Response, BalanceError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Choosing => {
                    this.local.ensure();
                    let now = Instant::now();
                    match this.begin(now) {
                        Ok(Begun::Chosen(mut service)) => match service.poll_ready(cx) {
                            // Most are ready at once. One that is pending may be asked again.
                            Poll::Pending => {
                                this.ticket.delayed();
                                this.state.set(State::readying(service));
                            }
                            Poll::Ready(Ok(())) => {
                                let Some(request) = this.request.take() else {
                                    return Poll::Pending;
                                };
                                let future = service.call(request);
                                this.ticket.sent(now);
                                this.state.set(State::Calling { future });
                            }
                            Poll::Ready(Err(error)) => return this.ended(Err(error)),
                        },
                        Ok(Begun::Waiting(waiting)) => this.state.set(State::Waiting { waiting }),
                        Err(full) => return this.refused(full),
                    }
                }
                StateProj::Waiting { waiting } => {
                    let (local, number, round) = (&**this.local, *this.number, &mut *this.round);
                    let found = waiting.as_mut().poll(cx, &local.shared.set, |now| {
                        choose(local, number, round, now, None)
                    });
                    match ready!(found) {
                        Ok((service, ticket, endpoint)) => {
                            *this.ticket = Held(Some(ticket));
                            *this.endpoint = Some(endpoint);
                            this.state.set(State::readying(service));
                        }
                        Err(error) => return this.refused(error),
                    }
                }
                StateProj::Readying {
                    service,
                    beside,
                    alarm,
                } => {
                    let polled = match service.poll_ready(cx) {
                        Poll::Pending => {
                            this.ticket.delayed();
                            let (local, number) = (&**this.local, *this.number);
                            let except = *this.endpoint;
                            let choose = |now| choose(local, number, this.round, now, except);
                            match ready!(poll_beside::<S, Req>(cx, beside, alarm, local, choose)) {
                                Second::Ready(polled) => {
                                    // The other one it is: the first goes back as it came.
                                    if let Some(other) = beside.take() {
                                        let other = *other;
                                        *service = other.service;
                                        *this.ticket = other.ticket;
                                        *this.endpoint = Some(other.endpoint);
                                    }
                                    polled
                                }
                                Second::TooLate(error) => {
                                    *this.ticket = Held(None);
                                    return this.refused(error);
                                }
                            }
                        }
                        Poll::Ready(polled) => polled,
                    };
                    *beside = None;
                    if let Err(error) = polled {
                        return this.ended(Err(error));
                    }
                    let Some(request) = this.request.take() else {
                        return Poll::Pending;
                    };
                    let future = service.call(request);
                    this.ticket.sent(Instant::now());
                    this.state.set(State::Calling { future });
                }
                StateProj::Calling { future } => {
                    let result = ready!(future.poll(cx));
                    return this.ended(result);
                }
                // Polled after it was ready.
                StateProj::Done => return Poll::Pending,
            }
        }
    }
}

impl<S, Req, C> FutureProj<'_, S, Req, C>
where
    S: Service<Req, Error: Into<BoxError>> + Clone,
    C: ClassifyResult<S::Response, S::Error>,
{
    // Whoever waits was first; better than to be refused is to overtake those who will be served all the same.
    #[inline(always)]
    fn begin(&mut self, now: Instant) -> Result<Begun<S>, BalanceError> {
        let set = &self.local.shared.set;
        for overtakes in [false, true] {
            if overtakes || !set.line.is_crowded() {
                let (number, round) = (*self.number, &mut *self.round);
                let chosen = choose_into(self.ticket, self.local, number, round, now, None);
                if let Some((service, endpoint)) = chosen {
                    *self.endpoint = Some(endpoint);
                    return Ok(Begun::Chosen(service));
                }
            }
            if overtakes {
                break;
            }
            if let Some(waiting) = Waiting::begin(set, now) {
                return Ok(Begun::Waiting(waiting));
            }
            if !set.pool.guard.serves() {
                break;
            }
        }
        Err(BalanceError::QueueFull {
            balance: Arc::clone(&set.pool.name),
            capacity: set.line.capacity(),
        })
    }

    fn ended(
        &mut self,
        result: Result<S::Response, S::Error>,
    ) -> Poll<Result<S::Response, BalanceError>> {
        if let Some(ticket) = &mut self.ticket.0 {
            ticket.settle_in_place(&self.classify.classify_result(&result));
        }
        self.state.set(State::Done);
        let endpoint = *self.endpoint;
        Poll::Ready(result.map_err(|source| BalanceError::Inner {
            endpoint: Endpoint::new(endpoint.unwrap_or_else(|| ([0, 0, 0, 0], 0).into())),
            source: source.into(),
        }))
    }

    fn refused(&mut self, error: BalanceError) -> Poll<Result<S::Response, BalanceError>> {
        self.state.set(State::Done);
        Poll::Ready(Err(error))
    }
}

// Waits for a second one, as long as the first is not ready; for both at most as long as a line may wait.
fn poll_beside<S, Req>(
    cx: &mut Context<'_>,
    beside: &mut Option<Box<Beside<S>>>,
    alarm: &mut Option<Pin<Box<Sleep>>>,
    local: &Local<S>,
    choose: impl FnOnce(Instant) -> Option<Chosen<S>>,
) -> Poll<Second<S::Error>>
where
    S: Service<Req>,
{
    let set = &local.shared.set;
    let now = Instant::now();
    let alarm = alarm.get_or_insert_with(|| {
        let until = after(now, set.line.failfast_timeout());
        Box::pin(sleep_until(until))
    });
    if beside.is_none() {
        *beside = choose(now).map(|(service, ticket, endpoint)| {
            Box::new(Beside {
                service,
                ticket: Held(Some(ticket)),
                endpoint,
            })
        });
    }
    if let Some(other) = beside {
        match other.service.poll_ready(cx) {
            Poll::Ready(polled) => return Poll::Ready(Second::Ready(polled)),
            Poll::Pending => other.ticket.delayed(),
        }
    }
    ready!(alarm.as_mut().poll(cx));
    Poll::Ready(Second::TooLate(BalanceError::Unavailable {
        balance: Arc::clone(&set.pool.name),
        why: "its endpoints have no room for another call".to_owned(),
        retry_at: None,
    }))
}

// === impl Held ===

impl Held {
    fn delayed(&mut self) {
        if let Some(ticket) = &mut self.0 {
            ticket.delayed();
        }
    }

    #[inline]
    fn sent(&mut self, now: Instant) {
        if let Some(ticket) = &mut self.0 {
            ticket.sent(now);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // One that was settled returns nothing.
        if let Some(ticket) = self.0.take_if(|ticket| !ticket.note().sent) {
            ticket.give_back();
        }
    }
}

impl<S, Req, C> fmt::Debug for BalanceFuture<S, Req, C>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalanceFuture")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}
