//! What outlives the plans that name it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use crate::budget::RetryBudget;
use crate::core::sync::{Mutex, lock};
use crate::policy::{Budget, Hedge, Meta};
use crate::retry::hedge::Pace;

/// Budgets: one for each parent and setting.
#[derive(Default)]
pub(crate) struct Budgets(Mutex<Kept<BudgetKey, RetryBudget>>);

// One for each setting of a parent's.
type BudgetKey = (Arc<Meta>, Budget);

/// The percentiles that hedges track: one for each rule and part.
#[derive(Default)]
pub(crate) struct Paces(Mutex<Kept<PaceKey, Arc<Pace>>>);

// The rule by its name and its place among those of that name; the part in millionths.
pub(super) type PaceKey = (Arc<Meta>, Meta, usize, u32);

// A policy that comes back finds what it had, unless so many others came in between that they would be too many.
struct Kept<K, V> {
    known: BTreeMap<K, V>,
    // How many there are before those that nobody has any more are forgotten.
    most: usize,
}

const MOST: usize = 64;

// === impl Kept ===

impl<K: Ord, V: Clone> Kept<K, V> {
    fn get(&mut self, key: K, has_users: impl Fn(&V) -> bool, new: impl FnOnce() -> V) -> V {
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        if self.known.len() >= self.most {
            self.known.retain(|_, value| has_users(value));
            // As many again before the next look.
            self.most = MOST.max(self.known.len() * 2);
        }
        let value = new();
        self.known.insert(key, value.clone());
        value
    }
}

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            most: MOST,
        }
    }
}

// === impl Budgets ===

impl Budgets {
    pub(super) fn get(&self, parent: &Arc<Meta>, budget: Budget, now: Instant) -> RetryBudget {
        let key = (Arc::clone(parent), budget);
        let new = || RetryBudget::new(budget, now);
        lock(&self.0).get(key, RetryBudget::is_shared, new)
    }
}

// === impl Paces ===

impl Paces {
    pub(super) fn get(&self, key: PaceKey, hedge: &Hedge) -> Arc<Pace> {
        let has_users = |pace: &Arc<Pace>| Arc::strong_count(pace) > 1;
        lock(&self.0).get(key, has_users, || Arc::new(Pace::new(hedge)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(floor: u32) -> Budget {
        Budget::percent(20).min_per_sec(floor)
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_that_is_in_use_stays_and_others_are_few() {
        let (budgets, now) = (Budgets::default(), Instant::now());
        let parent = Arc::new(Meta::default_named("test"));
        let used = budgets.get(&parent, budget(0), now);
        used.withdraw(now).unwrap().spend();
        for floor in 1..10_000 {
            let _ = budgets.get(&parent, budget(floor), now);
        }
        assert!(lock(&budgets.0).known.len() <= MOST);
        let again = budgets.get(&parent, budget(0), now);
        assert!(again.is_same(&used), "what was spent is spent");
        // As many as there are are kept while they are in use.
        let many: Vec<_> = (0..1000)
            .map(|n| budgets.get(&parent, budget(n), now))
            .collect();
        assert!(lock(&budgets.0).known.len() >= many.len());
    }
}
