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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::Budget;

    #[test]
    fn who_owns_the_budget_pays_in_for_requests_or_for_successes() {
        let now = Instant::now();
        let policy = Budget::percent(10);
        for (earned_by, borrowed, deposits) in [
            (EarnedBy::Requests, false, [1, 1]),
            (EarnedBy::Successes, false, [0, 1]),
            // Whose it is pays in.
            (EarnedBy::Requests, true, [0, 0]),
            (EarnedBy::Successes, true, [0, 0]),
        ] {
            let hedge = Hedge::after(Duration::from_millis(10));
            let shared = Shared {
                hedge,
                pace: Pace::new(&hedge),
                budget: RetryBudget::new(policy.earned_by(earned_by), now),
                borrowed,
                when: (),
                keep: (),
            };
            shared.begin();
            let begun = shared.budget.deposits();
            shared.success(now);
            assert_eq!([begun, shared.budget.deposits()], deposits, "{earned_by:?}");
        }
    }
}
