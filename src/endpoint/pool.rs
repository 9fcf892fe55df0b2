use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Guard;
use crate::breaker::{Breaker, Events, Totals};
use crate::core::draw::Dice;
use crate::core::observe::{Decision, Observers};
use crate::core::sync::{AtomicBool, AtomicU64, Mutex, Ordering};
use crate::core::time::{Epoch, nanos};
use crate::load::{Dials, Rules};
use crate::policy::{FailureAccrual, Load};

/// What the cells of one backend share.
pub(crate) struct Pool {
    pub(crate) name: Arc<str>,
    pub(crate) dice: Dice,
    pub(crate) epoch: Epoch,
    pub(crate) observers: Observers,
    // Who has subscribed to the breakers, if anybody can.
    events: Option<Arc<Events>>,
    /// Told when an endpoint may have become able to serve: this backend's, or another's of the same client.
    pub(crate) changed: Arc<Notify>,
    // Who waits for an endpoint of this backend.
    waiters: Option<Arc<dyn Waiters>>,
    /// By what endpoints are compared.
    pub(crate) load: Dials,
    pub(crate) guard: Guard,
    /// What all endpoints did of late, for those that are measured by their peers.
    pub(super) totals: Mutex<Totals>,
    outage: Outage,
    // When the next probe of any endpoint is due, in nanoseconds, or sooner; the maximum if none is ejected.
    probe_due: AtomicU64,
}

/// Those who wait for an endpoint.
pub(crate) trait Waiters: Send + Sync {
    /// One may have become able to serve, or is due to be probed at another time.
    fn changed(&self);
}

/// What is known while all endpoints of a backend are ejected. That is one event, not one for each: they are probed in
/// turn, and when one recovers, so may the others.
#[derive(Default)]
struct Outage {
    probes_in_turn: AtomicBool,
    // When the next in turn is due, in nanoseconds.
    next_probe: AtomicU64,
    // When the last outage ended. Ejections from before it do not count any more.
    ended: AtomicU64,
}

// === impl Pool ===

impl Pool {
    pub(crate) fn new(
        name: Arc<str>,
        seed: u64,
        epoch: Epoch,
        observers: Observers,
        changed: Arc<Notify>,
    ) -> Self {
        Self {
            name,
            dice: Dice::new(seed),
            epoch,
            observers,
            events: None,
            changed,
            waiters: None,
            load: Dials::new(&Rules::of(&Load::default())),
            guard: Guard::default(),
            totals: Mutex::new(Totals::default()),
            outage: Outage::default(),
            probe_due: AtomicU64::new(u64::MAX),
        }
    }

    /// With somewhere to subscribe to what happens to breakers.
    pub(crate) fn with_events(mut self, events: Arc<Events>) -> Self {
        self.events = Some(events);
        self
    }

    /// With those who wait.
    pub(crate) fn with_waiters(mut self, waiters: Arc<dyn Waiters>) -> Self {
        self.waiters = Some(waiters);
        self
    }

    /// An endpoint may have become able to serve, or is due to be probed at another time.
    pub(crate) fn notify(&self) {
        if let Some(waiters) = &self.waiters {
            waiters.changed();
        }
        self.changed.notify_waiters();
    }

    /// Tells what happened to a breaker.
    pub(super) fn tell(&self, at: Instant, decision: impl FnOnce() -> Decision) {
        match &self.events {
            Some(events) if events.is_wanted() => {
                let decision = decision();
                // Before an observer, which may panic.
                events.send(at, &self.name, &decision);
                self.observers.tell(at, || decision);
            }
            _ => self.observers.tell(at, decision),
        }
    }

    pub(crate) fn configure(
        &self,
        probes_in_turn: bool,
        load: &Load,
        accrual: Option<&FailureAccrual>,
    ) {
        self.guard.configure(accrual);
        self.load.set(&Rules::of(load));
        let flag = &self.outage.probes_in_turn;
        flag.store(probes_in_turn, Ordering::Relaxed);
    }

    /// When the next probe is due, in nanoseconds, if every endpoint is ejected and they are probed in turn.
    #[inline]
    pub(crate) fn turn(&self) -> Option<u64> {
        let in_turn = || self.outage.probes_in_turn.load(Ordering::Relaxed);
        let out = self.guard.is_out() && in_turn();
        out.then(|| self.outage.next_probe.load(Ordering::Acquire))
    }

    /// Takes the turn that is due, for a probe at `now`; nobody else gets it.
    pub(crate) fn take_turn(&self, due: u64, next: u64) -> bool {
        self.outage
            .next_probe
            .compare_exchange(due, next, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// How long it is from one turn to the next, in nanoseconds. Of several, the one that was left alone the longest is
    /// next: none of them comes back sooner than after its own wait. One alone waits that.
    pub(super) fn turn_wait(&self, breaker: &Breaker, word: u64) -> u64 {
        nanos(if self.guard.has_several() {
            breaker.turn_wait(word)
        } else {
            breaker.first_wait(word)
        })
    }

    pub(super) fn next_turn(&self, at: u64) {
        self.outage.next_probe.store(at, Ordering::Release);
    }

    /// When the last outage of everything ended, in nanoseconds. Ejections from before it do not count any more.
    pub(super) fn outage_ended(&self) -> u64 {
        self.outage.ended.load(Ordering::Acquire)
    }

    pub(super) fn end_outage(&self, at: u64) {
        self.outage.ended.store(at, Ordering::Release);
        self.expect_probe(at);
    }

    /// A probe will be due then.
    pub(crate) fn expect_probe(&self, at: u64) {
        self.probe_due.fetch_min(at, Ordering::AcqRel);
    }

    /// When a probe is due that nobody has looked for yet, if that is now. Whoever [takes](Self::take_probe) it looks.
    pub(crate) fn probe_due(&self, now: u64) -> Option<u64> {
        let due = self.probe_due.load(Ordering::Relaxed);
        (due <= now).then_some(due)
    }

    /// Whether it falls to this one to look, and to say what else is [expected](Self::expect_probe).
    pub(crate) fn take_probe(&self, due: u64) -> bool {
        self.probe_due
            .compare_exchange(due, u64::MAX, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}
