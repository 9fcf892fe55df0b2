use tokio::time::Instant;

use crate::budget::RetryBudget;
use crate::core::observe::Observers;
use crate::core::sync::AtomicU64;
use crate::policy::{EarnedBy, Retry};

/// What a layer and all services that it makes have in common: the policy, the budget, and who is told.
#[derive(Debug)]
pub(super) struct Shared<C, K> {
    pub(super) retry: Retry,
    pub(super) budget: Option<RetryBudget>,
    pub(super) when: C,
    pub(super) keep: K,
    pub(super) seed: u64,
    pub(super) observers: Observers,
    // Numbers those that are retried, for chance and for who listens.
    pub(super) retried: AtomicU64,
}

// === impl Shared ===

impl<C, K> Shared<C, K> {
    pub(super) fn with<D, L>(&self, when: D, keep: L) -> Shared<D, L> {
        Shared {
            retry: self.retry.clone(),
            budget: self.budget.clone(),
            when,
            keep,
            seed: self.seed,
            observers: self.observers.clone(),
            retried: AtomicU64::new(0),
        }
    }

    /// A request begins.
    pub(super) fn begin(&self) {
        if let Some(budget) = &self.budget
            && budget.policy().earned_by == EarnedBy::Requests
        {
            budget.request(Instant::now());
        }
    }

    /// A request succeeded.
    pub(super) fn success(&self) {
        if let Some(budget) = &self.budget {
            budget.success_by(Instant::now);
        }
    }
}
