//! The state machine: exact sums on atomics, no lock, no clock of its own.

use std::time::Duration;

use tokio::time::Instant;

use super::START;
use crate::core::decay::decay;
use crate::core::sync::{AtomicU64, Ordering};
use crate::core::time::{Epoch, nanos};
use crate::policy::{Budget, EarnedBy};

// An attempt in the unit that everything is counted in. A floor of `f` attempts a second is `f` units a nanosecond.
const ATTEMPT: u64 = 1_000_000_000;

// Nine thousand million attempts; the other half of the word is for what is earned until time is next looked at.
const MOST: u64 = u64::MAX / 2;

// Who asks need not have time caught up with more exactly than this, unless there is not enough.
const MOMENT: u64 = 1_000_000;

// All requests succeed.
const ALL: u64 = 1 << 20;

// Longer banks are cut to this: the sums are exact enough up to here, and no budget means longer ones.
const LONGEST: Duration = Duration::from_secs(3600);

/// What there is.
///
/// What a success pays in is the same each time, so they are only counted. `beside` is everything else: the start and the
/// floor, less what was taken and what time took. The balance is the sum of both, and is never below zero; `beside` alone
/// may be, and wraps. It changes by compare-and-swap only, against a count that can only have grown since it was read.
#[derive(Debug)]
pub(super) struct Bank {
    policy: Budget,
    // What a success pays in.
    deposit: u64,
    // What no time takes away.
    least: u64,
    // The time constant of the rest, and how often it is brought up to date, in nanoseconds.
    tau: u64,
    tick: u64,
    epoch: Epoch,
    deposits: AtomicU64,
    beside: AtomicU64,
    // Up to when time has been caught up with, in nanoseconds.
    looked: AtomicU64,
    // The recent share of successes.
    share: AtomicU64,
    withdrawals: AtomicU64,
    refusals: AtomicU64,
}

// === impl Bank ===

impl Bank {
    pub(super) fn new(policy: Budget, now: Instant) -> Self {
        // A budget of nothing grants nothing.
        let least = if policy.is_nothing() {
            0
        } else {
            START * ATTEMPT
        };
        let tau = nanos(policy.bank.min(LONGEST));
        Self {
            policy,
            deposit: u64::from(policy.ratio.ppm()) * (ATTEMPT / 1_000_000),
            least,
            tau,
            tick: (tau / 16).max(1),
            epoch: Epoch::new(now),
            deposits: AtomicU64::new(0),
            beside: AtomicU64::new(least),
            looked: AtomicU64::new(0),
            share: AtomicU64::new(ALL),
            withdrawals: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
        }
    }

    pub(super) fn policy(&self) -> Budget {
        self.policy
    }

    pub(super) fn by_requests(&self) -> bool {
        self.policy.earned_by == EarnedBy::Requests
    }

    #[inline]
    pub(super) fn pay_in(&self, now: Instant) {
        // Time first: what is paid in now has not leaked yet.
        self.catch_up(self.epoch.nanos(now), self.tick);
        self.deposits.fetch_add(1, Ordering::AcqRel);
    }

    /// The same without the time; true if it is time to look at that. What is paid in in between counts as older than it
    /// is.
    #[inline]
    pub(super) fn pay_in_untimed(&self) -> bool {
        self.deposits.fetch_add(1, Ordering::AcqRel) % 16 == 15
    }

    pub(super) fn look(&self, now: Instant) {
        self.catch_up(self.epoch.nanos(now), self.tick);
    }

    #[inline]
    pub(super) fn take(&self, now: Instant) -> bool {
        let now = self.epoch.nanos(now);
        self.catch_up(now, MOMENT.min(self.tick));
        let taken = self.try_take() || self.try_take_of_new(now);
        let counter = if taken {
            &self.withdrawals
        } else {
            &self.refusals
        };
        counter.fetch_add(1, Ordering::Relaxed);
        taken
    }

    // If there is not enough, the floor may have paid in since.
    #[cold]
    fn try_take_of_new(&self, now: u64) -> bool {
        self.may_have(now) && self.catch_up(now, 1) && self.try_take()
    }

    // Whether the floor can have paid in what is missing: cheaper than to see.
    fn may_have(&self, now: u64) -> bool {
        let elapsed = now.saturating_sub(self.looked.load(Ordering::Acquire));
        let flat = u128::from(self.policy.min_per_sec) * u128::from(elapsed);
        let beside = self.beside.load(Ordering::Acquire);
        let balance = self.earned().wrapping_add(beside);
        u128::from(balance) + flat >= u128::from(ATTEMPT)
    }

    #[inline]
    fn try_take(&self) -> bool {
        self.change(|balance| balance.checked_sub(ATTEMPT))
    }

    pub(super) fn put_back(&self) {
        self.beside.fetch_add(ATTEMPT, Ordering::AcqRel);
        self.withdrawals.fetch_sub(1, Ordering::Relaxed);
    }

    // A quarter of the way to all; when all is well, only read.
    #[inline]
    pub(super) fn succeeded(&self) {
        if self.share.load(Ordering::Relaxed) < ALL {
            self.turn_share(|share| share + (ALL - share).div_ceil(4));
        }
    }

    // A quarter of the way to nothing.
    #[inline]
    pub(super) fn failed(&self) {
        self.turn_share(|share| share - share.div_ceil(4));
    }

    // Of two at once one may be lost; it is a share of many.
    fn turn_share(&self, turn: impl Fn(u64) -> u64) {
        let share = self.share.load(Ordering::Relaxed);
        self.share.store(turn(share), Ordering::Relaxed);
    }

    // O(1) after any time. Whether time was caught up with: not if less than `least` nanoseconds are new, nor if another
    // thread just did.
    #[inline]
    fn catch_up(&self, now: u64, least: u64) -> bool {
        let looked = self.looked.load(Ordering::Acquire);
        now.saturating_sub(looked) >= least && self.age(looked, now)
    }

    #[inline(never)]
    fn age(&self, looked: u64, now: u64) -> bool {
        // Whoever moves the time forward accounts for it; nobody does twice.
        let moved = self
            .looked
            .compare_exchange(looked, now, Ordering::AcqRel, Ordering::Acquire);
        if moved.is_err() {
            return false;
        }
        let aged = self.aging(now.saturating_sub(looked));
        self.change(|balance| Some(aged(balance)));
        true
    }

    // What a balance becomes in this time.
    fn aging(&self, elapsed: u64) -> impl Fn(u64) -> u64 {
        let share = u128::from(self.share.load(Ordering::Acquire));
        let floor = u128::from(self.policy.min_per_sec) * share;
        // A floor of u32::MAX for 584 years is 2^96 units, and the share is 2^20 at most.
        let over = |time: u64| to_word(floor * u128::from(time) / u128::from(ALL));
        let flat = over(elapsed);
        // The integral of what flows in and leaks away at once.
        let leaky = over(self.tau - decay(self.tau, elapsed, self.tau)).min(flat);
        let (least, tau) = (self.least, self.tau);
        move |balance| {
            let kept = balance.saturating_add(flat).min(least);
            let rest = match tau {
                0 => 0,
                tau => decay(balance, elapsed, tau).min(balance),
            };
            kept.max(rest.saturating_add(leaky)).min(MOST)
        }
    }

    // Changes the balance, unless `change` says none.
    #[inline]
    fn change(&self, change: impl Fn(u64) -> Option<u64>) -> bool {
        let mut beside = self.beside.load(Ordering::Acquire);
        loop {
            let earned = self.earned();
            let balance = earned.wrapping_add(beside);
            let Some(changed) = change(balance) else {
                return false;
            };
            let next = changed.wrapping_sub(earned);
            let swapped = self.beside.compare_exchange_weak(
                beside,
                next,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match swapped {
                Ok(_) => return true,
                Err(found) => beside = found,
            }
        }
    }

    fn earned(&self) -> u64 {
        let deposits = self.deposits.load(Ordering::Acquire);
        deposits.wrapping_mul(self.deposit)
    }

    // Reading changes nothing.
    pub(super) fn balance_milli(&self, now: Instant) -> u64 {
        let looked = self.looked.load(Ordering::Acquire);
        let elapsed = self.epoch.nanos(now).saturating_sub(looked);
        let beside = self.beside.load(Ordering::Acquire);
        let balance = self.earned().wrapping_add(beside);
        self.aging(elapsed)(balance) / (ATTEMPT / 1000)
    }

    pub(super) fn deposits(&self) -> u64 {
        self.deposits.load(Ordering::Relaxed)
    }

    pub(super) fn withdrawals(&self) -> u64 {
        self.withdrawals.load(Ordering::Relaxed)
    }

    pub(super) fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    pub(super) fn share_milli(&self) -> u64 {
        self.share.load(Ordering::Relaxed) * 1000 / ALL
    }
}

fn to_word(wide: u128) -> u64 {
    u64::try_from(wide).unwrap_or(u64::MAX)
}
