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
pub(crate) struct Budgets(Mutex<BTreeMap<BudgetKey, RetryBudget>>);

// One for each setting of a parent's.
type BudgetKey = (Arc<Meta>, Budget);

/// The percentiles that hedges track: one for each rule and part.
#[derive(Default)]
pub(crate) struct Paces(Mutex<BTreeMap<PaceKey, Arc<Pace>>>);

// The rule by its name and its place among those of that name; the part in millionths.
pub(super) type PaceKey = (Arc<Meta>, Meta, usize, u32);

// === impl Budgets ===

impl Budgets {
    pub(super) fn get(&self, parent: &Arc<Meta>, budget: Budget, now: Instant) -> RetryBudget {
        let key = (Arc::clone(parent), budget);
        lock(&self.0)
            .entry(key)
            .or_insert_with(|| RetryBudget::new(budget, now))
            .clone()
    }
}

// === impl Paces ===

impl Paces {
    pub(super) fn get(&self, key: PaceKey, hedge: &Hedge) -> Arc<Pace> {
        let mut paces = lock(&self.0);
        let pace = paces
            .entry(key)
            .or_insert_with(|| Arc::new(Pace::new(hedge)));
        Arc::clone(pace)
    }
}
