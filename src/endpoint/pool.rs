use std::sync::Arc;

use tokio::sync::Notify;

use crate::core::observe::Observers;
use crate::core::sync::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::core::time::Epoch;
use crate::load::{Dials, Rules};
use crate::policy::Load;

/// What the cells of one backend share.
pub(crate) struct Pool {
    pub(crate) name: Arc<str>,
    pub(crate) seed: u64,
    pub(crate) epoch: Epoch,
    pub(crate) observers: Observers,
    /// Told when an endpoint may have become able to serve: this backend's, or another's of the same client.
    pub(crate) changed: Arc<Notify>,
    /// By what endpoints are compared.
    pub(crate) load: Dials,
    pub(super) in_service: AtomicUsize,
    pub(super) members: AtomicUsize,
    outage: Outage,
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
            seed,
            epoch,
            observers,
            changed,
            load: Dials::new(&Rules::of(&Load::default())),
            in_service: AtomicUsize::new(0),
            members: AtomicUsize::new(0),
            outage: Outage::default(),
        }
    }

    pub(crate) fn configure(&self, probes_in_turn: bool, load: &Load) {
        self.load.set(&Rules::of(load));
        let flag = &self.outage.probes_in_turn;
        flag.store(probes_in_turn, Ordering::Relaxed);
    }

    /// How many members are not ejected.
    #[cfg(test)]
    pub(crate) fn in_service(&self) -> usize {
        self.in_service.load(Ordering::Acquire)
    }

    /// When the next probe is due, in nanoseconds, if every endpoint is ejected and they are probed in turn.
    pub(crate) fn turn(&self) -> Option<u64> {
        let out = self.in_service.load(Ordering::Acquire) == 0
            && self.members.load(Ordering::Acquire) > 0
            && self.outage.probes_in_turn.load(Ordering::Relaxed);
        out.then(|| self.outage.next_probe.load(Ordering::Acquire))
    }

    /// Takes the turn that is due, for a probe at `now`; nobody else gets it.
    pub(crate) fn take_turn(&self, due: u64, next: u64) -> bool {
        self.outage
            .next_probe
            .compare_exchange(due, next, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    pub(super) fn next_turn(&self, at: u64) {
        self.outage.next_probe.store(at, Ordering::Release);
    }

    // Takes one endpoint out of service, unless that would leave fewer than `floor`.
    pub(super) fn may_eject(&self, floor: u32) -> bool {
        self.in_service
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |ready| {
                (ready > floor as usize).then(|| ready - 1)
            })
            .is_ok()
    }

    /// When the last outage of everything ended, in nanoseconds. Ejections from before it do not count any more.
    pub(super) fn outage_ended(&self) -> u64 {
        self.outage.ended.load(Ordering::Acquire)
    }

    pub(super) fn end_outage(&self, at: u64) {
        self.outage.ended.store(at, Ordering::Release);
    }
}
