//! A backend's endpoints, the choice among them, and the line for requests that find none.

mod line;
mod pick;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

pub(crate) use self::line::{Line, Place};
pub(crate) use self::pick::{Pick, Want};

use crate::core::observe::Decision;
use crate::core::sync::{Mutex, lock};
use crate::core::time::after;
use crate::discover::Update;
use crate::endpoint::{Cell, Endpoint, Pool};
use crate::policy::{FailureAccrual, Load, Queue};

/// How long, and for how many endpoints at most, what was learned is kept after they left.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(600);
const MAX_REMEMBERED: usize = 4096;

/// The endpoints of one backend. Picks read a snapshot; joins and leaves publish a new one.
pub(crate) struct Balance {
    pub(crate) pool: Arc<Pool>,
    pub(crate) line: Arc<Line>,
    members: ArcSwap<Vec<Arc<Cell>>>,
    known: Mutex<Known>,
    server_name: Option<Arc<str>>,
}

struct Known {
    settings: Settings,
    cells: BTreeMap<SocketAddr, Entry>,
    // Whether the source has said anything yet.
    heard: bool,
}

struct Entry {
    cell: Arc<Cell>,
    // None while it is a member.
    left: Option<Instant>,
}

/// The part of a policy that a backend's state depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) accrual: Option<FailureAccrual>,
    pub(crate) load: Load,
    pub(crate) queue: Queue,
    /// Whether the endpoints of a backend that is out altogether are probed in turn.
    pub(crate) probes_in_turn: bool,
}

// === impl Balance ===

impl Balance {
    pub(crate) fn new(pool: Pool, settings: Settings, server_name: Option<Arc<str>>) -> Self {
        let line = Arc::new(Line::new(settings.queue));
        pool.configure(settings.probes_in_turn);
        Self {
            pool: Arc::new(pool),
            line,
            members: ArcSwap::default(),
            known: Mutex::new(Known {
                settings,
                cells: BTreeMap::new(),
                heard: false,
            }),
            server_name,
        }
    }

    /// A snapshot of the members.
    pub(crate) fn members(&self) -> Arc<Vec<Arc<Cell>>> {
        self.members.load_full()
    }

    /// Whether this is one of its members.
    pub(crate) fn has(&self, address: SocketAddr) -> bool {
        let members = self.members.load();
        members.iter().any(|cell| cell.address() == address)
    }

    /// Whether the source has said anything yet.
    pub(crate) fn heard(&self) -> bool {
        lock(&self.known).heard
    }

    /// Another policy. What was learned stays.
    pub(crate) fn configure(&self, settings: &Settings, now: Instant) {
        let mut known = lock(&self.known);
        if known.settings == *settings {
            return;
        }
        for entry in known.cells.values() {
            entry
                .cell
                .configure(settings.accrual.as_ref(), settings.load, now);
        }
        self.line.configure(settings.queue);
        self.pool.configure(settings.probes_in_turn);
        known.settings = settings.clone();
        drop(known);
        self.note_able(now);
        self.pool.changed.notify_waiters();
    }

    // Where one can serve, fail-fast has not begun, whether or not anybody asked.
    fn note_able(&self, now: Instant) {
        let at = self.pool.epoch.nanos(now);
        if self.members.load().iter().any(|cell| cell.is_able(at)) {
            self.line.ready();
        }
    }

    /// What the source says.
    pub(crate) fn update(&self, update: Update, now: Instant) {
        let mut known = lock(&self.known);
        known.heard = true;
        self.note_able(now);
        let (joined, left) = match update {
            Update::Reset(endpoints) => {
                let stay: std::collections::BTreeSet<_> =
                    endpoints.iter().map(Endpoint::address).collect();
                let left = known.leave(|address| !stay.contains(address), now);
                (self.join(&mut known, endpoints, now), left)
            }
            Update::Add(endpoints) => (self.join(&mut known, endpoints, now), 0),
            Update::Remove(addresses) => {
                let gone: std::collections::BTreeSet<_> = addresses.into_iter().collect();
                (0, known.leave(|address| gone.contains(address), now))
            }
        };
        known.forget(now);
        let members = known.cells.values();
        let members = members.filter(|entry| entry.left.is_none());
        let members = members.map(|entry| Arc::clone(&entry.cell)).collect();
        self.members.store(Arc::new(members));
        self.note_able(now);
        drop(known);
        if joined + left > 0 {
            self.pool.observers.tell(now, || Decision::Endpoints {
                backend: Arc::clone(&self.pool.name),
                joined,
                left,
            });
        }
        self.pool.changed.notify_waiters();
    }

    fn join(&self, known: &mut Known, endpoints: Vec<Endpoint>, now: Instant) -> usize {
        let mut joined = 0;
        for endpoint in endpoints {
            let endpoint = endpoint.or_server_name(self.server_name.as_ref());
            let Known {
                settings, cells, ..
            } = &mut *known;
            let entry = cells.entry(endpoint.address()).or_insert_with(|| Entry {
                cell: Arc::new(Cell::new(
                    endpoint.clone(),
                    Arc::clone(&self.pool),
                    settings.accrual.as_ref(),
                    settings.load,
                    now,
                )),
                left: Some(now),
            });
            joined += usize::from(entry.left.take().is_some());
            entry.cell.join(endpoint);
        }
        joined
    }
}

// === impl Known ===

impl Known {
    fn leave(&mut self, which: impl Fn(&SocketAddr) -> bool, now: Instant) -> usize {
        let mut left = 0;
        for (address, entry) in &mut self.cells {
            if entry.left.is_none() && which(address) {
                entry.left = Some(now);
                entry.cell.leave();
                left += 1;
            }
        }
        left
    }

    fn forget(&mut self, now: Instant) {
        self.cells
            .retain(|_, entry| entry.left.is_none_or(|left| now < after(left, REMEMBERED)));
        let gone = self.cells.values().filter(|entry| entry.left.is_some());
        let surplus = gone.count().saturating_sub(MAX_REMEMBERED);
        if surplus > 0 {
            let gone = self.cells.iter();
            let mut gone: Vec<_> = gone
                .filter_map(|(address, entry)| Some((entry.left?, *address)))
                .collect();
            gone.sort();
            for (_, address) in gone.into_iter().take(surplus) {
                self.cells.remove(&address);
            }
        }
    }
}
