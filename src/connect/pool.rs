//! The connections to one endpoint, and who waits for one.
//!
//! What is decided is decided in [`State`], under a lock held for nanoseconds; what follows from it (telling a waiter,
//! dropping a connection, starting a dial) happens after the lock is released.

use std::sync::{Arc, Weak};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::handle::{Card, Http1, Http2};
use super::lease::{Http1Lease, Http2Lease, Lease, Stream};
use super::request::Fallback;
use super::settings::Settings;
use super::sort::{DialError, NoConnection};
use super::state::{Dead, State};
use crate::core::sync::{AtomicBool, AtomicUsize, Mutex, Ordering, lock};
use crate::endpoint::Endpoint;

pub(super) struct Pool {
    pub(super) endpoint: Endpoint,
    pub(super) fallback: Fallback,
    settings: Settings,
    open: Arc<AtomicUsize>,
    start: Start,
    state: Mutex<State<Waiter>>,
    // Whether a dial is on its way that shows whether the endpoint is there.
    trial: Arc<AtomicBool>,
}

/// One in line. Told of a lease it is not there for any more, it gives that back by dropping it.
type Waiter = oneshot::Sender<Result<Lease, DialError>>;

/// Starts a dial, which is already counted: the guard says how it ends.
pub(super) type Start = Box<dyn Fn(&Handle, Dialing) + Send + Sync>;

/// A dial in progress. Dropped, it has failed: its runtime is gone.
pub(super) struct Dialing {
    pool: Weak<Pool>,
    endpoint: Endpoint,
    settings: Settings,
    open: Arc<AtomicUsize>,
    over: bool,
}

/// How many connections there are to one endpoint, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connections {
    /// Without a request.
    pub idle: usize,
    /// Open and not idle: with a request or response body on them, or about to close.
    pub active: usize,
    /// Being made.
    pub dialing: usize,
    /// Not connections, but requests that wait for one.
    pub waiting: usize,
}

/// Takes a request out of the line.
struct InLine<'a> {
    pool: &'a Pool,
    ticket: u64,
}

// === impl Pool ===

impl Pool {
    /// `multiplexed`: whether a connection is expected to carry many requests.
    pub(super) fn new(
        endpoint: Endpoint,
        settings: Settings,
        multiplexed: bool,
        start: Start,
    ) -> Arc<Self> {
        let trial = Arc::<AtomicBool>::default();
        Arc::new(Self {
            fallback: Fallback::new(&endpoint),
            endpoint,
            state: Mutex::new(State::new(&settings, multiplexed, Arc::clone(&trial))),
            trial,
            settings,
            open: Arc::default(),
            start,
        })
    }

    /// A connection for one request: one that is there and newer than `newer_than`, or the first that is given back or
    /// made. A dial goes on without the request that started it.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        newer_than: Option<u64>,
    ) -> Result<Lease, DialError> {
        let (runtime, told, ticket, dials) = {
            let mut dead = Dead::default();
            let mut state = lock(&self.state);
            let now = Instant::now();
            if let Some(http1) = state.take_http1(newer_than, now, &mut dead) {
                drop(state);
                return Ok(Lease::Http1(Http1Lease::new(self.clone(), http1, false)));
            }
            if let Some(http2) = state.take_http2(newer_than, None, now, &mut dead) {
                drop(state);
                return Ok(self.lease_http2(http2, false));
            }
            let runtime = Handle::try_current().map_err(|error| self.no_connection(error))?;
            let (waiter, told) = oneshot::channel();
            (runtime, told, state.wait(waiter), state.missing_dials())
        };
        let _line = InLine { pool: self, ticket };
        self.dial(&runtime, dials);
        match told.await {
            Ok(told) => told,
            Err(_) => Err(self.no_connection(NoConnection::Abandoned)),
        }
    }

    /// What comes of another request's dial, if nothing else can tell whether the endpoint is there.
    pub(super) fn look_on(&self) -> Option<oneshot::Receiver<DialError>> {
        if !self.trial.load(Ordering::Acquire) {
            return None;
        }
        lock(&self.state).look_on()
    }

    /// An HTTP/1.1 connection that can take a request.
    pub(super) fn give(self: &Arc<Self>, mut http1: Http1, fresh: bool) {
        loop {
            let waiter = {
                let mut dead = Dead::default();
                let mut state = lock(&self.state);
                match state.keep_http1(http1, fresh, Instant::now(), &mut dead) {
                    Some((kept, waiter)) => {
                        http1 = kept;
                        waiter
                    }
                    None => return,
                }
            };
            let lease = Http1Lease::new(self.clone(), http1, fresh);
            match waiter.send(Ok(Lease::Http1(lease))) {
                Ok(()) => return,
                // It left in this very moment: the next one.
                Err(Ok(Lease::Http1(lease))) => match lease.unused() {
                    Some(unused) => http1 = unused,
                    None => return,
                },
                Err(_) => return,
            }
        }
    }

    /// A place on HTTP/2 connection `number` is free again.
    pub(super) fn release(self: &Arc<Self>, number: u64) {
        lock(&self.state).release(number, Instant::now());
        self.serve(None);
    }

    /// Gives free places to those in line, those of the connection that has just `landed` too.
    fn serve(self: &Arc<Self>, landed: Option<u64>) {
        loop {
            let (waiter, http2) = {
                let mut dead = Dead::default();
                let mut state = lock(&self.state);
                match state.serve_http2(landed, Instant::now(), &mut dead) {
                    Some(served) => served,
                    None => return,
                }
            };
            let number = http2.card.number;
            let fresh = landed == Some(number);
            if let Err(Ok(Lease::Http2(lease))) = waiter.send(Ok(self.lease_http2(http2, fresh))) {
                // It left in this very moment. Not by the lease's own drop, which would come back here.
                lease.stream.forget();
                lock(&self.state).release(number, Instant::now());
            }
        }
    }

    /// Connection `number` is closed or takes no more requests.
    pub(super) fn forget(&self, number: u64) {
        let mut dead = Dead::default();
        lock(&self.state).forget(number, &mut dead);
    }

    /// Closes a connection if it has been idle for too long or is too old; when to look again.
    pub(super) fn look(&self, card: Card, now: Instant) -> Instant {
        let mut dead = Dead::default();
        lock(&self.state).look(card, now, &mut dead)
    }

    pub(super) fn connections(&self) -> Connections {
        let state = lock(&self.state);
        let idle = state.idle();
        Connections {
            idle,
            active: self.open.load(Ordering::Acquire).saturating_sub(idle),
            dialing: state.dialing(),
            waiting: state.waiting(),
        }
    }

    fn lease_http2(self: &Arc<Self>, http2: Http2, fresh: bool) -> Lease {
        let stream = Stream::new(self.clone(), http2.card.number);
        Lease::Http2(Http2Lease {
            http2,
            stream,
            fresh,
        })
    }

    fn dial(self: &Arc<Self>, runtime: &Handle, dials: usize) {
        for _ in 0..dials {
            let dialing = Dialing {
                pool: Arc::downgrade(self),
                endpoint: self.endpoint.clone(),
                settings: self.settings.clone(),
                open: self.open.clone(),
                over: false,
            };
            (self.start)(runtime, dialing);
        }
    }

    /// A connection that carries fewer requests than was expected leaves some without one. Called by its task.
    fn dial_missing(self: &Arc<Self>) {
        if let Ok(runtime) = Handle::try_current() {
            let dials = lock(&self.state).missing_dials();
            self.dial(&runtime, dials);
        }
    }

    fn no_connection(&self, why: impl Into<crate::core::BoxError>) -> DialError {
        DialError::new(self.endpoint.address(), why)
    }
}

// === impl Dialing ===

impl Dialing {
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn open(&self) -> Arc<AtomicUsize> {
        self.open.clone()
    }

    pub(super) fn land_http1(mut self, http1: Http1) -> Weak<Pool> {
        self.over = true;
        if let Some(pool) = self.pool.upgrade() {
            let lookers = lock(&pool.state).landed(false);
            drop(lookers);
            pool.give(http1, true);
            pool.dial_missing();
        }
        std::mem::take(&mut self.pool)
    }

    pub(super) fn land_http2(mut self, http2: Http2) -> Weak<Pool> {
        self.over = true;
        let number = http2.card.number;
        if let Some(pool) = self.pool.upgrade() {
            let lookers = {
                let mut state = lock(&pool.state);
                state.keep_http2(http2, Instant::now());
                state.landed(true)
            };
            pool.serve(Some(number));
            drop(lookers);
            pool.dial_missing();
        }
        std::mem::take(&mut self.pool)
    }

    pub(super) fn fail(mut self, error: DialError) {
        self.failed(&error);
    }

    fn failed(&mut self, error: &DialError) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let Some(pool) = self.pool.upgrade() else {
            return;
        };
        let (failed, lookers) = lock(&pool.state).dial_failed();
        // Who left needs no answer.
        for waiter in failed {
            let _ = waiter.send(Err(error.clone()));
        }
        for looker in lookers {
            let _ = looker.send(error.clone());
        }
    }
}

impl Drop for Dialing {
    fn drop(&mut self) {
        if !self.over {
            self.failed(&DialError::new(
                self.endpoint.address(),
                NoConnection::Abandoned,
            ));
        }
    }
}

// === impl InLine ===

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let waiter = lock(&self.pool.state).leave(self.ticket);
        drop(waiter);
    }
}
