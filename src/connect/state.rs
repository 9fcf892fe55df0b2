use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::handle::{Card, Http1, Http2};
use super::settings::Settings;
use super::sort::DialError;
use crate::core::sync::{AtomicBool, Ordering};
use crate::core::time::{FAR, after};

/// What a pool knows: plain data and time as an argument. How one in line (`W`) is told what it gets is the pool's affair.
pub(super) struct State<W> {
    /// HTTP/1.1 connections without a request, the longest idle first.
    idle: VecDeque<Idle>,
    /// HTTP/2 connections that take requests, the oldest first.
    shared: Vec<Shared>,
    /// Who waits for a connection, by ticket: the first to come is the first served.
    line: BTreeMap<u64, W>,
    next_ticket: u64,
    dialing: usize,
    /// Whether a dial is expected to serve many in line, or one.
    multiplexed: bool,
    streams: usize,
    max_idle: usize,
    idle_timeout: Duration,
    /// Whether one connection more is a question, not a matter of course: the last dial failed, or all that there is went
    /// over one connection, which is gone.
    doubted: bool,
    /// That such a dial is on its way: to be looked at without the lock.
    trial: Arc<AtomicBool>,
    /// Who waits for what comes of it.
    lookers: Vec<Looker>,
}

/// Told why a dial failed, or dropped because it did not.
pub(super) type Looker = oneshot::Sender<DialError>;

struct Idle {
    http1: Http1,
    since: Instant,
}

struct Shared {
    http2: Http2,
    streams: usize,
    /// Since when it has no streams, if it has none.
    idle_since: Instant,
}

/// Connections to drop once the lock is released: their tasks are woken by it.
#[derive(Default)]
pub(super) struct Dead {
    http1: Vec<Http1>,
    http2: Vec<Http2>,
}

// === impl State ===

impl<W> State<W> {
    pub(super) fn new(settings: &Settings, multiplexed: bool, trial: Arc<AtomicBool>) -> Self {
        Self {
            idle: VecDeque::new(),
            shared: Vec::new(),
            line: BTreeMap::new(),
            next_ticket: 0,
            dialing: 0,
            multiplexed,
            streams: settings.streams_per_connection,
            max_idle: settings.max_idle,
            idle_timeout: settings.idle_timeout,
            doubted: false,
            trial,
            lookers: Vec::new(),
        }
    }

    /// The idle connection used last: the others can then grow old enough to be closed.
    pub(super) fn take_http1(
        &mut self,
        newer_than: Option<u64>,
        now: Instant,
        dead: &mut Dead,
    ) -> Option<Http1> {
        let mut at = self.idle.len();
        while at > 0 {
            at -= 1;
            let Some(idle) = self.idle.get(at) else {
                continue;
            };
            if idle.http1.sender.is_closed() || self.idle_until(idle) <= now {
                dead.http1
                    .extend(self.idle.remove(at).map(|idle| idle.http1));
            } else if newer_than.is_none_or(|than| idle.http1.card.number > than) {
                return self.idle.remove(at).map(|idle| idle.http1);
            }
        }
        None
    }

    /// Keeps a connection without a request, or says who in line gets it. A fresh one serves once whatever its age is: or
    /// else a limit that is too small would dial for ever.
    pub(super) fn keep_http1(
        &mut self,
        http1: Http1,
        fresh: bool,
        now: Instant,
        dead: &mut Dead,
    ) -> Option<(Http1, W)> {
        let ended = http1.card.retired(now) || http1.sender.is_closed();
        if ended && !fresh {
            dead.http1.push(http1);
            return None;
        }
        if let Some((_, waiter)) = self.line.pop_first() {
            return Some((http1, waiter));
        }
        if ended || self.idle_timeout.is_zero() || self.idle.len() >= self.max_idle {
            dead.http1.push(http1);
        } else {
            self.idle.push_back(Idle { http1, since: now });
        }
        None
    }

    /// A place on the oldest connection that has one. The one that has just `landed` serves once whatever its age is.
    pub(super) fn take_http2(
        &mut self,
        newer_than: Option<u64>,
        landed: Option<u64>,
        now: Instant,
        dead: &mut Dead,
    ) -> Option<Http2> {
        let mut at = 0;
        while let Some(shared) = self.shared.get_mut(at) {
            let card = shared.http2.card;
            let limit = self.streams.min(shared.http2.peer_limit()).max(1);
            let unused = shared.streams == 0 && after(shared.idle_since, self.idle_timeout) <= now;
            let ended = unused || card.retired(now) || shared.http2.sender.is_closed();
            if ended && landed != Some(card.number) {
                dead.http2.push(self.shared.remove(at).http2);
            } else if shared.streams < limit && newer_than.is_none_or(|than| card.number > than) {
                shared.streams += 1;
                return Some(shared.http2.clone());
            } else {
                at += 1;
            }
        }
        None
    }

    pub(super) fn keep_http2(&mut self, http2: Http2, now: Instant) {
        self.shared.push(Shared {
            http2,
            streams: 0,
            idle_since: now,
        });
    }

    /// A place for the first in line.
    pub(super) fn serve_http2(
        &mut self,
        landed: Option<u64>,
        now: Instant,
        dead: &mut Dead,
    ) -> Option<(W, Http2)> {
        if self.line.is_empty() {
            return None;
        }
        let http2 = self.take_http2(None, landed, now, dead)?;
        let (_, waiter) = self.line.pop_first()?;
        Some((waiter, http2))
    }

    pub(super) fn release(&mut self, number: u64, now: Instant) {
        if let Some(shared) = self
            .shared
            .iter_mut()
            .find(|s| s.http2.card.number == number)
        {
            shared.streams = shared.streams.saturating_sub(1);
            if shared.streams == 0 {
                shared.idle_since = now;
            }
        }
    }

    pub(super) fn wait(&mut self, waiter: W) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket = ticket.wrapping_add(1);
        self.line.insert(ticket, waiter);
        ticket
    }

    pub(super) fn leave(&mut self, ticket: u64) -> Option<W> {
        self.line.remove(&ticket)
    }

    /// How many dials must be started so that each in line has one to wait for. They count as started.
    pub(super) fn missing_dials(&mut self) -> usize {
        let missing = self
            .line
            .len()
            .div_ceil(self.per_dial())
            .saturating_sub(self.dialing);
        self.dialing += missing;
        if missing > 0 && self.doubted {
            self.trial.store(true, Ordering::Release);
        }
        missing
    }

    /// What comes of the dial that shows whether the endpoint is there, if one is on its way and there is nothing to serve
    /// another request with meanwhile.
    pub(super) fn look_on(&mut self) -> Option<oneshot::Receiver<DialError>> {
        let open = |shared: &Shared| !shared.http2.sender.is_closed();
        let idle = |idle: &Idle| !idle.http1.sender.is_closed();
        if self.dialing == 0 || !self.doubted {
            return None;
        }
        if self.shared.iter().any(open) || self.idle.iter().any(idle) {
            return None;
        }
        // Most go elsewhere at once.
        self.lookers.retain(|looker| !looker.is_closed());
        let (looker, told) = oneshot::channel();
        self.lookers.push(looker);
        Some(told)
    }

    /// A dial has become a connection. Who waited for that is to be dropped without the lock.
    pub(super) fn landed(&mut self, multiplexed: bool) -> Vec<Looker> {
        self.dialing = self.dialing.saturating_sub(1);
        self.multiplexed = multiplexed;
        // Of HTTP/1.1 there is one for each request.
        self.doubted = multiplexed;
        self.trial.store(false, Ordering::Release);
        std::mem::take(&mut self.lookers)
    }

    /// Those in line for whom no other dial is in progress, and those who waited for what comes of it.
    pub(super) fn dial_failed(&mut self) -> (Vec<W>, Vec<Looker>) {
        self.dialing = self.dialing.saturating_sub(1);
        self.doubted = true;
        let hopeful = self.dialing.saturating_mul(self.per_dial());
        let mut failed = Vec::new();
        while self.line.len() > hopeful {
            failed.extend(self.line.pop_first().map(|(_, waiter)| waiter));
        }
        if self.dialing > 0 {
            return (failed, Vec::new());
        }
        self.trial.store(false, Ordering::Release);
        (failed, std::mem::take(&mut self.lookers))
    }

    pub(super) fn forget(&mut self, number: u64, dead: &mut Dead) {
        if let Some(at) = self.idle.iter().position(|i| i.http1.card.number == number) {
            dead.http1.extend(self.idle.remove(at).map(|i| i.http1));
        }
        if let Some(at) = self
            .shared
            .iter()
            .position(|s| s.http2.card.number == number)
        {
            dead.http2.push(self.shared.remove(at).http2);
        }
    }

    /// Drops a connection that is too old, or idle for too long; when to look again.
    pub(super) fn look(&mut self, card: Card, now: Instant, dead: &mut Dead) -> Instant {
        let number = card.number;
        // In use: it cannot be idle for too long any sooner. (A timer for each time it becomes idle would cost more.)
        let in_use = after(now, self.idle_timeout.max(Duration::from_millis(1)));
        let idle = self.idle.iter().find(|i| i.http1.card.number == number);
        let shared = self.shared.iter().find(|s| s.http2.card.number == number);
        let until = match (idle, shared) {
            (Some(idle), _) => self.idle_until(idle),
            (None, Some(shared)) if shared.streams == 0 => shared
                .http2
                .card
                .or_retired(after(shared.idle_since, self.idle_timeout)),
            (None, Some(shared)) => shared.http2.card.or_retired(in_use),
            // Out of sight, with a request or about to end. Once it is too old, its return says so.
            (None, None) if card.retired(now) => in_use,
            (None, None) => card.or_retired(in_use),
        };
        if until > now {
            return until;
        }
        self.forget(number, dead);
        after(now, FAR)
    }

    /// How many connections have no request.
    pub(super) fn idle(&self) -> usize {
        self.idle.len() + self.shared.iter().filter(|s| s.streams == 0).count()
    }

    pub(super) fn dialing(&self) -> usize {
        self.dialing
    }

    pub(super) fn waiting(&self) -> usize {
        self.line.len()
    }

    fn idle_until(&self, idle: &Idle) -> Instant {
        idle.http1
            .card
            .or_retired(after(idle.since, self.idle_timeout))
    }

    fn per_dial(&self) -> usize {
        if self.multiplexed { self.streams } else { 1 }
    }
}
