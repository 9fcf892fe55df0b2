//! Endpoints, the choice among them, and the line for requests that find none: within a client one for each backend, and
//! on its own as [`Balance`], over services of any kind.
//!
//! [`Balance`] is for what is not HTTP, or has no policy: replicas of a database, connections of a protocol of your own.
//! Of two random endpoints the less loaded gets a call; one that fails is ejected, if a
//! [policy](crate::policy::FailureAccrual) says so; a call that finds none waits in a bounded line.
//!
//! ```
//! use tower::{Service, service_fn};
//! use tower_mesh::balance::{Balance, BalanceError};
//! use tower_mesh::policy::FailureAccrual;
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//!
//! let replica = |up: bool| service_fn(move |n: u32| async move { if up { Ok(n + 1) } else { Err("down") } });
//! let mut replicas = Balance::builder()
//!     .failure_accrual(FailureAccrual::consecutive(1))
//!     .seed(7)
//!     .over([replica(true), replica(false)]);
//!
//! let mut failed = 0;
//! for _ in 0..100 {
//!     match replicas.call(1).await {
//!         Ok(answer) => assert_eq!(answer, 2),
//!         Err(BalanceError::Inner { .. }) => failed += 1,
//!         Err(refused) => panic!("{refused}"),
//!     }
//! }
//! assert_eq!(failed, 1, "after its first failure it is left alone");
//! # }
//! ```

mod builder;
mod choice;
mod due;
mod error;
mod future;
mod known;
mod line;
mod members;
mod pick;
mod service;
mod shared;
#[cfg(test)]
mod tests;
mod waiting;
mod zones;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;

pub use self::builder::BalanceBuilder;
pub(crate) use self::choice::Want;
pub use self::error::BalanceError;
pub use self::future::BalanceFuture;
use self::known::Known;
pub(crate) use self::known::REMEMBERED;
pub(crate) use self::line::{Line, Place, PlaceKind};
pub(crate) use self::members::{Member, Members};
pub use self::service::{Balance, Errors};

use crate::core::driver::Driver;
use crate::core::observe::Decision;
use crate::core::sync::{AtomicU64, Mutex, Swap, lock};
use crate::discover::{Absence, Said, Source, Update};
use crate::endpoint::Pool;
use crate::policy::{FailureAccrual, Load, Queue};

/// The endpoints of one backend, with leaves of type `L`. Picks read a snapshot; joins and leaves publish a new one.
pub(crate) struct Set<L> {
    pub(crate) pool: Arc<Pool>,
    pub(crate) line: Arc<Line>,
    members: Swap<Members<L>>,
    // Whose turn it is in round robin.
    turns: AtomicU64,
    known: Mutex<Known<L>>,
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

// === impl Set ===

impl<L> Set<L> {
    pub(crate) fn new(pool: Pool, settings: Settings, server_name: Option<Arc<str>>) -> Self {
        let line = Arc::new(Line::new(settings.queue));
        pool.configure(
            settings.probes_in_turn,
            &settings.load,
            settings.accrual.as_ref(),
        );
        let pool = Arc::new(pool.with_waiters(Arc::clone(&line) as _));
        Self {
            line,
            members: Swap::default(),
            turns: AtomicU64::new(0),
            known: Mutex::new(Known::new(Arc::clone(&pool), settings, server_name)),
            pool,
        }
    }

    /// Where the callers are, if they know.
    pub(crate) fn in_zone(self, zone: Option<Arc<str>>) -> Self {
        if let Some(zone) = zone {
            lock(&self.known).be_in(zone);
        }
        self
    }

    /// A snapshot of the members.
    pub(crate) fn members(&self) -> Arc<Members<L>> {
        self.members.load_full()
    }

    /// Whether this is one of its members.
    pub(crate) fn has(&self, address: SocketAddr) -> bool {
        lock(&self.known).place_of(address).is_some()
    }

    /// Whether the source has said anything yet.
    pub(crate) fn heard(&self) -> bool {
        lock(&self.known).heard()
    }

    /// Whether the source's last word was that there are no endpoints, or it has ended without any: waiting is of no use.
    pub(crate) fn absence(&self) -> Option<Absence> {
        // Whoever finds an endpoint does not ask, and of those who find none most have some that are ejected.
        if !self.members.load().is_empty() {
            return None;
        }
        lock(&self.known).absence()
    }

    /// Another policy. What was learned stays.
    pub(crate) fn configure(&self, settings: &Settings, now: Instant) {
        let mut known = lock(&self.known);
        if !known.configure(settings, now) {
            return;
        }
        // Whether zones count may be another matter.
        self.members.store(Arc::new(known.members()));
        drop(known);
        self.line.configure(settings.queue);
        self.pool.configure(
            settings.probes_in_turn,
            &settings.load,
            settings.accrual.as_ref(),
        );
        self.note_able(now);
        self.line.wake_all(now);
        self.pool.changed.notify_waiters();
    }

    // Where one can serve, fail-fast has not begun, whether or not anybody asked.
    fn note_able(&self, now: Instant) {
        let at = self.pool.epoch.nanos(now);
        let members = self.members.load();
        if members.iter().any(|member| member.cell.is_able(at)) {
            self.line.ready();
        }
    }

    /// Why it cannot serve, or `only` this member of it: in words, for an error.
    pub(crate) fn why_unready(&self, now: Instant, only: Option<SocketAddr>) -> String {
        let count = match only {
            Some(_) => 1,
            None => self.members.load().count(),
        };
        if count == 0 {
            return match (self.absence(), self.heard()) {
                (Some(absence), _) => absence.why(),
                (None, true) => "it has no endpoints",
                (None, false) => "its endpoint source has said nothing yet",
            }
            .to_owned();
        }
        match self.next_probe(now, only) {
            Some(due) if due > now => {
                let wait = due.saturating_duration_since(now);
                format!("all {count} are ejected; the next probe is due in {wait:?}")
            }
            _ => format!("all {count} are ejected, and a probe is out"),
        }
    }

    /// What the source says.
    pub(crate) fn update(&self, update: Update, now: Instant) {
        self.update_all([update], now);
    }

    /// Several things at once: one snapshot is published for all of them.
    pub(crate) fn update_all(&self, updates: impl IntoIterator<Item = Update>, now: Instant) {
        let mut known = lock(&self.known);
        self.note_able(now);
        let changes = known.apply(updates, now);
        if changes.any() {
            self.members.store(Arc::new(known.members()));
        }
        self.note_able(now);
        let absent = known.absence().is_some();
        drop(known);
        let (joined, left) = (changes.joined, changes.left);
        if joined + left > 0 {
            self.pool.observers.tell(now, || Decision::Endpoints {
                backend: Arc::clone(&self.pool.name),
                joined,
                left,
            });
        }
        if absent {
            self.line.wake_all(now);
        }
        if changes.any() || absent {
            self.pool.notify();
        }
    }

    /// The source says nothing more: what is known stays in use, and who waits for more waits in vain.
    pub(crate) fn end(&self, now: Instant) {
        lock(&self.known).end();
        if self.absence().is_some() {
            self.line.wake_all(now);
            self.pool.notify();
        }
    }
}

impl<L: Send + Sync + 'static> Set<L> {
    /// Its endpoints are those of `source`: a fixed list at once, of any other what it says, by the driver that is returned.
    pub(crate) fn follow(self: &Arc<Self>, source: &Source, now: Instant) -> Option<Driver> {
        if let Source::Fixed(Ok(endpoints)) = source {
            self.update(Update::Reset(endpoints.clone()), now);
        }
        // A task must not keep alive what it keeps up to date.
        let set = Arc::downgrade(self);
        let apply = move |said| match set.upgrade() {
            Some(set) => {
                set.hear(said, Instant::now());
                true
            }
            None => false,
        };
        source.task(apply).map(Driver::new)
    }

    fn hear(&self, said: Said, now: Instant) {
        match said {
            Said::Updates(updates) => self.update_all(updates, now),
            Said::Ended => self.end(now),
            Said::Failed(error) => {
                let backend = &self.pool.name;
                tracing::warn!(%backend, %error, "endpoint discovery failed; what is known stays in use");
                self.pool.observers.tell(now, || Decision::DiscoveryFailed {
                    backend: Arc::clone(backend),
                    error: error.to_string(),
                });
            }
        }
    }
}
