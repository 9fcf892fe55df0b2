//! The retry budget: a bank that successes pay into and extra attempts, retries and hedges, are paid from.
//!
//! # The guarantee
//!
//! Over any window of time, whatever came before and however many threads ask,
//!
//! ```text
//! extra attempts <= ratio x successes + floor x seconds + bank
//! ```
//!
//! with the successes and seconds of that window, and in the bank what it holds at the window's beginning:
//!
//! ```text
//! bank <= 10 + the sum of (deposit x e^(-age / bank time)) over all deposits before, those of the floor included
//! ```
//!
//! (to what one millisecond of the floor pays), which at a steady rate is what two seconds (the [bank time](policy::Budget::bank)) pay in. So the bank is never of
//! use for longer than it takes to fill it. In numbers: 280 successes a second at 20 % and a floor of 10 a second keep
//! 132 attempts; a quiet client keeps ten. If *requests* [earn](policy::EarnedBy), read requests for successes.
//!
//! # How it works
//!
//! * A success pays in `ratio` of an attempt. All sums are exact, in billionths of an attempt.
//! * The floor pays in continuously, times the *recent share of successes*: each success brings the share a quarter
//!   of the way to one, each failure that asks for a retry a quarter of the way to zero. In an outage the floor dries up
//!   within a few requests, and with it all retries; one success opens it again.
//! * What is above ten attempts leaks away with the bank time as its time constant; so income and leak balance at what that
//!   time pays in. It starts with ten, so that the first requests of a short-lived process may be retried.
//! * Nothing depends on how long it was left alone: any time is caught up with in one step.
//!
//! ```
//! use tokio::time::Instant;
//! use tower_mesh::budget::RetryBudget;
//! use tower_mesh::policy::Budget;
//!
//! let now = Instant::now();
//! let budget = RetryBudget::new(Budget::percent(20).min_per_sec(0), now);
//! let clone = budget.clone(); // the same budget
//! clone.success(now);
//! if let Some(token) = budget.withdraw(now) {
//!     // Dropped, it returns; once the attempt is sent, it is spent.
//!     token.spend();
//! }
//! assert_eq!(budget.snapshot(now).to_string(), "9.200 attempts in the bank; 1 in, 1 out, 0 refused");
//! ```

mod bank;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use self::bank::Bank;
use crate::policy;

/// The attempts that are in the bank at the start, and that no time takes away.
pub const START: u64 = 10;

/// A retry budget. Clones share it: across services, clients, routes and backends.
#[derive(Clone)]
pub struct RetryBudget(Arc<Bank>);

/// The right to one extra attempt. Returns to the bank when dropped, unless it is [spent](Self::spend). Borrows the budget;
/// one to be kept for later [owns](Self::into_owned) its share of it.
#[derive(Debug)]
#[must_use = "a dropped token returns to the bank"]
pub struct Token<'a>(Option<Cow<'a, RetryBudget>>);

/// A budget at one moment. Its `Display` is one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetSnapshot {
    /// What it was made from.
    pub policy: policy::Budget,
    /// What is in the bank, in thousandths of an attempt.
    pub balance_milli: u64,
    /// How often something was earned.
    pub deposits: u64,
    /// Extra attempts that were paid for.
    pub withdrawals: u64,
    /// Extra attempts that were not.
    pub refusals: u64,
    /// The recent share of successes, in thousandths: what is left of the floor.
    pub share_milli: u64,
}

// === impl RetryBudget ===

impl RetryBudget {
    /// A budget with its starting balance.
    pub fn new(policy: policy::Budget, now: Instant) -> Self {
        Self(Arc::new(Bank::new(policy, now)))
    }

    // Whether somebody else has it, too.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Whether both are the same bank.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The policy it was made from.
    pub fn policy(&self) -> policy::Budget {
        self.0.policy()
    }

    /// A request begins. It earns if [requests](policy::EarnedBy::Requests) do.
    pub fn request(&self, now: Instant) {
        if self.0.by_requests() {
            self.0.pay_in(now);
        }
    }

    /// A request succeeded, at whichever attempt. It earns, unless requests do.
    #[inline]
    pub fn success(&self, now: Instant) {
        self.0.succeeded();
        if !self.0.by_requests() {
            self.0.pay_in(now);
        }
    }

    /// The same for who has not looked at the clock, and does so only now and then.
    pub(crate) fn success_by(&self, now: impl FnOnce() -> Instant) {
        self.0.succeeded();
        if !self.0.by_requests() && self.0.pay_in_untimed() {
            self.0.look(now());
        }
    }

    /// An attempt failed; asks for another.
    #[inline]
    pub fn withdraw(&self, now: Instant) -> Option<Token<'_>> {
        let token = self.withdraw_hedge(now);
        self.0.failed();
        token
    }

    /// Asks for a second attempt beside one that has not failed.
    #[inline]
    pub fn withdraw_hedge(&self, now: Instant) -> Option<Token<'_>> {
        self.0.take(now).then(|| Token(Some(Cow::Borrowed(self))))
    }

    /// How many attempts are in the bank, in thousandths.
    pub fn balance_milli(&self, now: Instant) -> u64 {
        self.0.balance_milli(now)
    }

    /// How often something was earned.
    pub fn deposits(&self) -> u64 {
        self.0.deposits()
    }

    /// Extra attempts that were paid for.
    pub fn withdrawals(&self) -> u64 {
        self.0.withdrawals()
    }

    /// Extra attempts that were asked for and not paid for.
    pub fn refusals(&self) -> u64 {
        self.0.refusals()
    }

    /// All of it.
    pub fn snapshot(&self, now: Instant) -> BudgetSnapshot {
        BudgetSnapshot {
            policy: self.policy(),
            balance_milli: self.balance_milli(now),
            deposits: self.deposits(),
            withdrawals: self.withdrawals(),
            refusals: self.refusals(),
            share_milli: self.0.share_milli(),
        }
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryBudget")
            .field("policy", &self.policy())
            .field("deposits", &self.deposits())
            .field("withdrawals", &self.withdrawals())
            .field("refusals", &self.refusals())
            .finish_non_exhaustive()
    }
}

// === impl Token ===

impl Token<'_> {
    /// The same, to be kept: beside the budget, in a future.
    pub fn into_owned(mut self) -> Token<'static> {
        Token(self.0.take().map(|budget| Cow::Owned(budget.into_owned())))
    }

    /// The attempt was sent: it is paid for.
    #[inline]
    pub fn spend(mut self) {
        self.0 = None;
    }
}

impl Drop for Token<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(budget) = self.0.take() {
            budget.0.put_back();
        }
    }
}

// === impl BudgetSnapshot ===

impl fmt::Display for BudgetSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.balance_milli / 1000, self.balance_milli % 1000);
        let (deposits, withdrawals) = (self.deposits, self.withdrawals);
        let refusals = self.refusals;
        write!(
            f,
            "{whole}.{part:03} attempts in the bank; {deposits} in, {withdrawals} out, {refusals} refused"
        )
    }
}
