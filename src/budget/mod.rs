//! The retry budget: a bank that successes pay into and extra attempts are paid from.
//!
//! Exact integer arithmetic on two atomics. With ratio `r`, floor `f` and a bank of `b` attempts, over any time `t` in
//! which `s` requests succeed, at most `r x s + f x t + b` extra attempts are granted. The bank holds two seconds of the
//! floor, at least ten attempts, and starts with ten, so that the first requests of a short-lived process may be retried.

use std::sync::Arc;

use tokio::time::Instant;

use crate::core::sync::{AtomicU64, Ordering};
use crate::core::time::Epoch;
use crate::policy;

#[cfg(test)]
mod tests;

// An attempt in the unit that everything is counted in. A floor of `f` attempts a second is `f` units a nanosecond.
const ATTEMPT: u64 = 1_000_000_000;

/// The attempts that are in the bank at the start, and the least that it can hold.
pub const START: u64 = 10;

/// A retry budget. Clones share it.
#[derive(Clone, Debug)]
pub struct RetryBudget(Arc<Bank>);

#[derive(Debug)]
struct Bank {
    policy: policy::Budget,
    // What a success pays in.
    deposit: u64,
    capacity: u64,
    epoch: Epoch,
    balance: AtomicU64,
    // Up to when the floor has been paid in, in nanoseconds.
    paid: AtomicU64,
}

/// The right to one extra attempt. Returns to the bank when dropped, unless it is [spent](Self::spend).
#[derive(Debug)]
#[must_use = "a dropped token returns to the bank"]
pub struct Token(Option<RetryBudget>);

// === impl RetryBudget ===

impl RetryBudget {
    /// A budget with its starting balance.
    pub fn new(policy: policy::Budget, now: Instant) -> Self {
        let deposit = u64::from(policy.ratio.ppm()) * (ATTEMPT / 1_000_000);
        let floor = u64::from(policy.min_per_sec);
        let attempts = if deposit == 0 && floor == 0 {
            // A budget of nothing grants nothing.
            0
        } else {
            (2 * floor).max(START)
        };
        Self(Arc::new(Bank {
            policy,
            deposit,
            capacity: attempts * ATTEMPT,
            epoch: Epoch::new(now),
            balance: AtomicU64::new(attempts.min(START) * ATTEMPT),
            paid: AtomicU64::new(0),
        }))
    }

    /// Whether both are the same bank.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The policy it was made from.
    pub fn policy(&self) -> policy::Budget {
        self.0.policy
    }

    /// A request succeeded.
    pub fn deposit(&self) {
        self.0.pay_in(self.0.deposit);
    }

    /// Asks for an extra attempt.
    pub fn withdraw(&self, now: Instant) -> Option<Token> {
        self.0.pay_floor(now);
        self.0
            .balance
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |balance| {
                balance.checked_sub(ATTEMPT)
            })
            .ok()
            .map(|_| Token(Some(self.clone())))
    }

    /// How many attempts are in the bank, in thousandths.
    pub fn balance_milli(&self, now: Instant) -> u64 {
        self.0.pay_floor(now);
        self.0.balance.load(Ordering::Acquire) / (ATTEMPT / 1000)
    }
}

// === impl Bank ===

impl Bank {
    // O(1) after any idle time.
    fn pay_floor(&self, now: Instant) {
        let floor = u64::from(self.policy.min_per_sec);
        if floor == 0 {
            return;
        }
        let now = self.epoch.nanos(now);
        let paid = self.paid.load(Ordering::Acquire);
        // Whoever moves the time forward pays for it; nobody pays twice.
        if now > paid
            && self
                .paid
                .compare_exchange(paid, now, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
        {
            self.pay_in((now - paid).saturating_mul(floor));
        }
    }

    fn pay_in(&self, amount: u64) {
        // A full bank is only read, so that a healthy client's threads do not fight over it.
        if amount == 0 || self.balance.load(Ordering::Relaxed) >= self.capacity {
            return;
        }
        let _ = self
            .balance
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |balance| {
                let filled = balance.saturating_add(amount).min(self.capacity);
                (filled > balance).then_some(filled)
            });
    }
}

// === impl Token ===

impl Token {
    /// The attempt was sent: it is paid for.
    pub fn spend(mut self) {
        self.0 = None;
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if let Some(budget) = self.0.take() {
            budget.0.pay_in(ATTEMPT);
        }
    }
}
