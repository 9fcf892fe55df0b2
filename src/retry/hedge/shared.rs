use tokio::time::Instant;

use super::pace::Pace;
use crate::budget::RetryBudget;
use crate::policy::{EarnedBy, Hedge};

/// What a layer and all services that it makes have in common: the pace and the budget.
#[derive(Debug)]
pub(super) struct Shared<C, K> {
    pub(super) hedge: Hedge,
    pub(super) pace: Pace,
    pub(super) budget: RetryBudget,
    // Whether it is somebody else's, who pays in, too.
    pub(super) borrowed: bool,
    pub(super) when: C,
    pub(super) keep: K,
}

// === impl Shared ===

impl<C, K> Shared<C, K> {
    pub(super) fn with<D, L>(&self, when: D, keep: L) -> Shared<D, L> {
        Shared {
            hedge: self.hedge,
            pace: Pace::new(&self.hedge),
            budget: self.budget.clone(),
            borrowed: self.borrowed,
            when,
            keep,
        }
    }

    /// A request begins.
    pub(super) fn begin(&self) {
        if !self.borrowed && self.budget.policy().earned_by == EarnedBy::Requests {
            self.budget.request(Instant::now());
        }
    }

    /// A request succeeded.
    pub(super) fn success(&self, now: Instant) {
        if !self.borrowed {
            self.budget.success(now);
        }
    }
}
