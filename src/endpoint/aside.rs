use std::sync::Arc;

use super::estimate::AtomicEstimate;
use crate::core::sync::{AtomicU32, AtomicU64, Ordering, SwapOption};
use crate::load::{Estimate, Rules, coarse, coarse_between};

/// What is read of an endpoint only where there is reason to.
#[repr(C)]
pub(super) struct Aside {
    // Made when it is first needed, for few need it.
    trouble: SwapOption<Trouble>,
    // On the coarse clock: since when it has been in service.
    in_service: AtomicU32,
    // In 2^-16ths.
    weight: AtomicU32,
}

// Of one that was penalized or ejected.
struct Trouble {
    penalty: AtomicEstimate,
    // In nanoseconds.
    opened: AtomicU64,
}

// === impl Aside ===

impl Aside {
    pub(super) fn new(now: u64) -> Self {
        Self {
            trouble: SwapOption::default(),
            in_service: AtomicU32::new(coarse(now)),
            weight: AtomicU32::new(1 << 16),
        }
    }

    // Only under the lock of the cell's state, lest two make it.
    fn trouble(&self) -> Arc<Trouble> {
        if let Some(trouble) = self.trouble.load().as_ref() {
            return Arc::clone(trouble);
        }
        let trouble = Arc::new(Trouble {
            penalty: AtomicEstimate::new(Estimate::from_words((0, u64::MAX))),
            opened: AtomicU64::new(0),
        });
        self.trouble.store(Some(Arc::clone(&trouble)));
        trouble
    }

    /// A failure, or a hint of the endpoint's own. Only under the lock of the cell's state.
    pub(super) fn penalize(&self, now: u64, weight: u64, rules: &Rules) {
        let trouble = self.trouble();
        let mut penalty = trouble.penalty.load();
        penalty.raise(now, weight, rules.penalty_decay);
        trouble.penalty.store(penalty);
    }

    /// What its failures and hints weigh now.
    #[inline]
    pub(super) fn penalty(&self, now: u64, decay: u64) -> u64 {
        let trouble = self.trouble.load();
        (trouble.as_ref()).map_or(0, |trouble| trouble.penalty.load().get(now, decay))
    }

    /// When it was last [ejected](Self::eject), in nanoseconds, or zero.
    pub(super) fn opened(&self) -> u64 {
        let trouble = self.trouble.load();
        (trouble.as_ref()).map_or(0, |trouble| trouble.opened.load(Ordering::Acquire))
    }

    /// It is ejected, or a probe of it failed, or somebody decided by hand. Only under the lock of the cell's state.
    pub(super) fn eject(&self, now: u64) {
        self.trouble().opened.store(now, Ordering::Release);
    }

    /// It joined, or is back.
    pub(super) fn start(&self, now: u64) {
        self.in_service.store(coarse(now), Ordering::Relaxed);
    }

    pub(super) fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Ordering::Relaxed);
    }

    /// Its share, in 2^-16ths of an ordinary endpoint's: less while it starts slowly.
    pub(super) fn weight(&self, now: u64, rules: &Rules) -> u32 {
        let weight = self.weight.load(Ordering::Relaxed);
        if rules.slow_start == 0 {
            return weight;
        }
        let since = self.in_service.load(Ordering::Relaxed);
        let age = coarse_between(since, coarse(now));
        if age >= rules.slow_start {
            return weight;
        }
        // At least a hundredth, or nothing would ever come of it.
        let ramp = u128::from(weight) * u128::from(age) / u128::from(rules.slow_start);
        (ramp as u32).max(weight / 100).max(1)
    }
}
