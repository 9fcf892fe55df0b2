//! Where endpoints and callers meet: the time, the queue of events, the endpoints' lines, the record.

mod leaf;
mod queue;
mod slab;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use tokio::time::Instant;

pub use self::leaf::{Answering, Leaf, ServedBody};
pub(crate) use self::queue::{Event, Queue};
pub(crate) use self::slab::{Key, Slab};
use crate::core::observe::{Decision, Observer};
use crate::core::sync::{Mutex, MutexGuard, lock};
use crate::core::time::nanos;
use crate::sim::chance::{Dice, Part};
use crate::sim::record::Record;
use crate::sim::server::{End, Server};

/// The world as its endpoints see it. Never locked while a client's or caller's code runs.
pub(crate) struct Stage {
    pub(crate) start: Instant,
    inner: Mutex<Inner>,
}

pub(crate) struct Inner {
    /// Nanoseconds since the start: what the paused clock says.
    pub(crate) now: u64,
    pub(crate) queue: Queue,
    pub(crate) record: Record,
    stations: Vec<Station>,
    exchanges: Slab<Exchange>,
    // By client and station: how many exchanges they had, and what becomes of them.
    pairs: Vec<(u64, Dice)>,
    clients: usize,
    /// Told of events that are put in the queue while the world sleeps.
    pub(crate) sleeper: Option<Waker>,
}

/// An endpoint at work.
struct Station {
    server: Server,
    busy: u32,
    line: VecDeque<Work>,
}

/// A request at an endpoint.
struct Work {
    key: Key,
    dice: Dice,
}

/// A request at an endpoint, as its caller sees it. Gone when the caller is.
#[derive(Default)]
struct Exchange {
    ended: Option<End>,
    waker: Option<Waker>,
}

// === impl Stage ===

impl Stage {
    pub(crate) fn new(
        seed: u64,
        start: Instant,
        servers: Vec<Server>,
        record: Record,
        clients: usize,
    ) -> Self {
        let mut queue = Queue::default();
        for (station, server) in servers.iter().enumerate() {
            for pause in server.faults.iter().filter(|fault| fault.pause) {
                queue.push(pause.to, Event::Resume { station });
            }
        }
        let count = servers.len();
        let pairs = (0..count as u64)
            .flat_map(|station| (0..clients as u64).map(move |client| (client << 32) | station))
            .map(|pair| (0, Dice::new(seed, Part::Fate, pair)));
        Self {
            start,
            inner: Mutex::new(Inner {
                now: 0,
                queue,
                record,
                pairs: pairs.collect(),
                stations: servers.into_iter().map(Station::new).collect(),
                exchanges: Slab::default(),
                clients,
                sleeper: None,
            }),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// Writes down what a client decides.
    pub(crate) fn observer(self: &Arc<Self>, client: u32) -> impl Observer + use<> {
        let stage = Arc::clone(self);
        move |at: Instant, decision: &Decision| {
            let at = nanos(at.saturating_duration_since(stage.start));
            stage.lock().record.decision(client, at, decision);
        }
    }

    /// A worker has come to the end of its work.
    pub(crate) fn served(&self, station: usize, key: Key, end: End) {
        let waker = self.lock().served(station, key, end);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// A pause is over.
    pub(crate) fn resume(&self, station: usize) {
        self.lock().next_in_line(station);
    }
}

// === impl Inner ===

impl Inner {
    pub(crate) fn push(&mut self, at: u64, event: Event) {
        self.queue.push(at.max(self.now), event);
        if let Some(sleeper) = self.sleeper.take() {
            sleeper.wake();
        }
    }

    /// A request of a client reaches an endpoint.
    fn arrive(&mut self, now: u64, client: usize, index: usize) -> Option<Key> {
        // A task of the stack's own may have been woken by tokio's clock before the world was.
        self.now = self.now.max(now);
        let pair = self.pairs.get_mut(index * self.clients + client)?;
        let dice = pair.1.event(pair.0);
        pair.0 += 1;
        let station = self.stations.get_mut(index)?;
        let key = self.exchanges.insert(Exchange::default());
        self.record.attempt(now, index);
        let work = Work { key, dice };
        if let Some(takes) = station.server.refusal(now, dice) {
            let refused = Event::Served {
                station: index,
                key,
                end: End::Refused,
            };
            self.push(now.saturating_add(takes), refused);
        } else if station.is_full(now) {
            station.line.push_back(work);
        } else {
            self.begin(index, work);
        }
        Some(key)
    }

    fn begin(&mut self, index: usize, work: Work) {
        let now = self.now;
        let Some(station) = self.stations.get_mut(index) else {
            return;
        };
        station.busy += 1;
        let fate = station.server.fate(now, work.dice);
        if let End::Never { until: u64::MAX } = fate.end {
            // It never ends, and need not be waited for.
            self.record.failed(now, index);
            return;
        }
        let served = Event::Served {
            station: index,
            key: work.key,
            end: fate.end,
        };
        // When a worker becomes free is computed, to the nanosecond: begins + takes.
        self.push(now.saturating_add(fate.takes), served);
    }

    fn served(&mut self, index: usize, key: Key, end: End) -> Option<Waker> {
        if end != End::Success {
            self.record.failed(self.now, index);
        }
        if end != End::Refused {
            if let Some(station) = self.stations.get_mut(index) {
                station.busy = station.busy.saturating_sub(1);
            }
            self.next_in_line(index);
        }
        if let End::Never { .. } = end {
            return None;
        }
        let exchange = self.exchanges.get_mut(key)?;
        exchange.ended = Some(end);
        exchange.waker.take()
    }

    fn next_in_line(&mut self, index: usize) {
        let now = self.now;
        while let Some(station) = self.stations.get_mut(index) {
            if station.is_full(now) {
                return;
            }
            let Some(work) = station.line.pop_front() else {
                return;
            };
            if station.server.drop_abandoned && self.exchanges.get_mut(work.key).is_none() {
                continue;
            }
            self.begin(index, work);
        }
    }
}

// === impl Station ===

impl Station {
    fn new(server: Server) -> Self {
        Self {
            server,
            busy: 0,
            line: VecDeque::new(),
        }
    }

    fn is_full(&self, now: u64) -> bool {
        self.server
            .workers
            .is_some_and(|workers| self.busy >= workers)
            || self.server.is_paused(now)
    }
}
