//! What all endpoints of a pool did of late, and the part of one in it.

use super::fixed::ONE;
use super::{COUNT, SECOND};
use crate::core::decay::decay;

/// A pool's results, over a long and over a short time.
#[derive(Clone, Debug)]
pub(crate) struct Totals {
    slow: Tally,
    fast: Tally,
}

/// Results that decay, but only as long as there are enough of them: where traffic is thin, the last few count however
/// old they are.
#[derive(Clone, Debug)]
struct Tally {
    tau: u64,
    // So many are always kept.
    least: u64,
    // By how much it has decayed since the beginning, as a time; and up to when.
    decayed: u64,
    at: u64,
    rate: Rate,
}

/// The parts of one endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shares {
    slow: Share,
    fast: Share,
}

// Decayed as far as the tally was at that time.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    decayed: u64,
    rate: Rate,
}

/// Bad results among all, in steps of `COUNT`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    pub(super) total: u64,
    pub(super) bad: u64,
}

/// Time that is too short to be counted on its own: rounding would eat what decays.
const TICK: u64 = SECOND / 1000;

// === impl Totals ===

impl Default for Totals {
    fn default() -> Self {
        Self {
            slow: Tally::new(10 * SECOND, 200),
            fast: Tally::new(SECOND, 20),
        }
    }
}

impl Totals {
    /// Adds results of one endpoint, and returns those of the others over both times.
    pub(super) fn add(
        &mut self,
        at: u64,
        total: u32,
        bad: u32,
        shares: &mut Shares,
    ) -> (Rate, Rate) {
        let more = Rate {
            total: u64::from(total) * COUNT,
            bad: u64::from(bad) * COUNT,
        };
        (
            self.slow.add(at, more, &mut shares.slow),
            self.fast.add(at, more, &mut shares.fast),
        )
    }
}

// === impl Tally ===

impl Tally {
    fn new(tau: u64, least: u64) -> Self {
        Self {
            tau,
            least: least * COUNT,
            decayed: 0,
            at: 0,
            rate: Rate::default(),
        }
    }

    fn add(&mut self, at: u64, more: Rate, share: &mut Share) -> Rate {
        self.advance(at);
        let own = &mut share.rate;
        own.decay(self.decayed.saturating_sub(share.decayed), self.tau);
        own.add(more);
        share.decayed = self.decayed;
        self.rate.add(more);
        Rate {
            total: self.rate.total.saturating_sub(own.total),
            bad: self.rate.bad.saturating_sub(own.bad),
        }
    }

    fn advance(&mut self, at: u64) {
        let elapsed = at.saturating_sub(self.at);
        if elapsed < TICK {
            return;
        }
        self.at = at;
        // e^-x is at least 1 - x: so much time leaves enough.
        let spare = self.rate.total.saturating_sub(self.least);
        let most = u128::from(self.tau) * u128::from(spare) / u128::from(self.rate.total.max(1));
        let time = u128::from(elapsed).min(most) as u64;
        self.rate.decay(time, self.tau);
        self.decayed = self.decayed.saturating_add(time);
    }
}

// === impl Rate ===

impl Rate {
    fn add(&mut self, more: Self) {
        self.total = self.total.saturating_add(more.total);
        self.bad = self.bad.saturating_add(more.bad);
    }

    fn decay(&mut self, elapsed: u64, tau: u64) {
        self.total = decay(self.total, elapsed, tau);
        self.bad = decay(self.bad, elapsed, tau);
    }

    /// The share of bad ones. Of nothing it is one: nobody knows.
    pub(super) fn mean(&self) -> u64 {
        part(self.bad, self.total)
    }

    /// What it may be at most, with so many seen: 84 % sure, as a Poisson variable.
    pub(super) fn upper(&self) -> u64 {
        let root = (u128::from(self.bad) + u128::from(COUNT / 4)) * u128::from(COUNT);
        let root = root.isqrt() as u64;
        let bad = self.bad.saturating_add(COUNT / 2).saturating_add(root);
        part(bad, self.total)
    }
}

fn part(bad: u64, total: u64) -> u64 {
    if bad >= total {
        return ONE;
    }
    (u128::from(bad) * u128::from(ONE) / u128::from(total)) as u64
}
