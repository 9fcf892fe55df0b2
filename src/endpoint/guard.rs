use crate::core::sync::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::core::time::nanos;
use crate::policy::{Ejection, ExponentialBackoff, FailureAccrual, Ratio};

/// How far the endpoints of a pool may be ejected, and who probes those that are.
#[derive(Debug)]
pub(crate) struct Guard {
    // How many members are not ejected. In a dry run: how many would not be.
    in_service: AtomicUsize,
    members: AtomicUsize,
    dry_run: AtomicBool,
    // Pairs that are looked at before one that is ejected is taken; the maximum: never.
    panic_after: AtomicU64,
    refused: AtomicU64,
    // Of who is in service.
    changes: AtomicU64,
    // For how long a probe waits for a request that may be repeated elsewhere, and when there was one: in nanoseconds.
    patience: AtomicU64,
    repeatable: AtomicU64,
}

/// What one endpoint counts as in these numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing {
    pub(super) member: bool,
    /// A member that is not ejected.
    pub(super) serves: bool,
}

// === impl Guard ===

impl Default for Guard {
    fn default() -> Self {
        Self {
            in_service: AtomicUsize::new(0),
            members: AtomicUsize::new(0),
            dry_run: AtomicBool::new(false),
            panic_after: AtomicU64::new(u64::MAX),
            refused: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            patience: AtomicU64::new(0),
            repeatable: AtomicU64::new(0),
        }
    }
}

impl Guard {
    pub(super) fn configure(&self, accrual: Option<&FailureAccrual>) {
        let extensions = accrual.map(FailureAccrual::extensions);
        let ejection = extensions.and_then(|extensions| extensions.ejection);
        let panic_after = ejection.and_then(|ejection| ejection.panic_after);
        // Sooner than this there is hardly a difference to never, and each pair takes its time.
        let panic_after = panic_after.map_or(u64::MAX, |pairs| u64::from(pairs.clamp(1, 64)));
        self.panic_after.store(panic_after, Ordering::Relaxed);
        let dry_run = extensions.is_some_and(|extensions| extensions.dry_run);
        self.dry_run.store(dry_run, Ordering::Relaxed);
        let min = accrual.map(FailureAccrual::probe_backoff);
        let patience = nanos(min.unwrap_or(ExponentialBackoff::ACCRUAL).min());
        self.patience.store(patience, Ordering::Relaxed);
    }

    /// How many members are not ejected.
    #[cfg(test)]
    pub(crate) fn in_service(&self) -> usize {
        self.in_service.load(Ordering::Acquire)
    }

    /// An endpoint was counted so, and is now otherwise.
    pub(super) fn recount(&self, before: Standing, now: Standing) {
        let count = |word: &AtomicUsize, before: bool, now: bool| match (before, now) {
            (false, true) => {
                word.fetch_add(1, Ordering::AcqRel);
            }
            (true, false) => {
                word.fetch_sub(1, Ordering::AcqRel);
            }
            _ => {}
        };
        count(&self.members, before.member, now.member);
        count(&self.in_service, before.serves, now.serves);
    }

    /// Counts how often it has changed who is in service.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// A gate has been opened or shut, for all to see.
    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Whether one endpoint serves, and no other.
    pub(super) fn is_down_to_one(&self) -> bool {
        self.in_service.load(Ordering::Acquire) == 1
    }

    pub(super) fn has_several(&self) -> bool {
        self.members.load(Ordering::Relaxed) > 1
    }

    /// Whether some member is not ejected.
    pub(crate) fn serves(&self) -> bool {
        self.in_service.load(Ordering::Acquire) > 0
    }

    /// Whether every member is ejected, and there are any.
    #[inline]
    pub(super) fn is_out(&self) -> bool {
        self.in_service.load(Ordering::Acquire) == 0
            && self.members.load(Ordering::Acquire) > 0
            && !self.dry_run.load(Ordering::Relaxed)
    }

    /// Whether some are ejected.
    pub(crate) fn is_reduced(&self) -> bool {
        self.in_service.load(Ordering::Relaxed) < self.members.load(Ordering::Relaxed)
    }

    /// After how many pairs of ejected endpoints the next is taken anyway.
    #[inline]
    pub(crate) fn panics_after(&self) -> Option<u64> {
        let pairs = self.panic_after.load(Ordering::Relaxed);
        (pairs < u64::MAX && self.is_reduced()).then_some(pairs)
    }

    /// Takes one endpoint out of service, unless that goes beyond the limits. A refusal is counted.
    pub(super) fn may_eject(&self, limits: &Ejection) -> bool {
        let members = self.members.load(Ordering::Acquire) as u64;
        let share = u64::from(limits.max_ejected.min(Ratio::ONE).ppm());
        // One may always be ejected, or else a small pool would have no breaker.
        let most = members.saturating_mul(share) / u64::from(Ratio::ONE.ppm());
        let stay = members.saturating_sub(most.max(1));
        let floor = stay.max(limits.min_ready_endpoints.into());
        let taken = self
            .in_service
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |ready| {
                (ready as u64 > floor).then(|| ready - 1)
            });
        if taken.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        taken.is_ok()
    }

    /// Ejections that were refused since the beginning.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// A request that may be repeated elsewhere looks for an endpoint.
    pub(crate) fn saw_repeatable(&self, now: u64) {
        let patience = self.patience.load(Ordering::Relaxed);
        let seen = self.repeatable.load(Ordering::Relaxed);
        // Not each one: it is a word that all share.
        if now.saturating_sub(seen) > patience / 4 {
            self.repeatable.store(now.max(1), Ordering::Relaxed);
        }
    }

    /// Whether a probe that was due at `due` waits for a request that may be repeated elsewhere: where there are such
    /// requests, and not for ever.
    pub(crate) fn keeps_probe(&self, now: u64, due: u64) -> bool {
        let patience = self.patience.load(Ordering::Relaxed);
        let seen = self.repeatable.load(Ordering::Relaxed);
        seen > 0 && now.saturating_sub(seen) <= patience && now.saturating_sub(due) < patience
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const S: u64 = 1_000_000_000;

    fn patient(seconds: u64) -> Guard {
        let (min, max) = (Duration::from_secs(seconds), Duration::from_secs(60));
        let backoff = ExponentialBackoff::try_new(min, max, Ratio::ZERO).unwrap();
        let guard = Guard::default();
        guard.configure(Some(&FailureAccrual::consecutive(1).backoff(backoff)));
        guard
    }

    #[test]
    fn a_probe_waits_for_a_request_that_may_be_repeated_as_long_as_the_least_backoff() {
        let guard = patient(4);
        assert!(!guard.keeps_probe(10 * S, 10 * S), "nobody repeats");
        guard.saw_repeatable(10 * S);
        assert!(guard.keeps_probe(10 * S, 10 * S));
        assert!(guard.keeps_probe(14 * S - 1, 10 * S));
        assert!(!guard.keeps_probe(14 * S, 10 * S), "it has waited");
        assert!(guard.keeps_probe(14 * S, 12 * S));
        assert!(
            !guard.keeps_probe(14 * S + 1, 12 * S),
            "nobody repeats any more"
        );
    }

    #[test]
    fn requests_that_may_be_repeated_are_noted_four_times_in_that_time() {
        let guard = patient(4);
        guard.saw_repeatable(10 * S);
        guard.saw_repeatable(11 * S);
        assert!(!guard.keeps_probe(14 * S + 1, 14 * S), "too soon to note");
        guard.saw_repeatable(11 * S + 1);
        assert!(guard.keeps_probe(15 * S + 1, 15 * S));
        // At the very beginning, too.
        let guard = patient(0);
        guard.saw_repeatable(1);
        assert!(
            !guard.keeps_probe(1, 1),
            "without a backoff it does not wait"
        );
    }
}
