//! What all endpoints of a pool did of late, and the part of one in it.

use super::fixed::ONE;
use super::{COUNT, SECOND};
use crate::core::decay::decay;

/// A pool's results: of late, and all of them. Those of late decay, but only as long as there are enough of them: where
/// traffic is thin, the last few count however old they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    // By how much they have decayed since the beginning, as a time; and up to when.
    decayed: u64,
    at: u64,
    late: Rate,
    all: Rate,
}

/// The part of one endpoint in it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    // How far the totals had decayed when this had decayed as much.
    decayed: u64,
    late: Rate,
    all: Rate,
}

/// The others' results.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Others {
    pub(super) late: Rate,
    /// Since the beginning.
    pub(super) all: Rate,
}

/// Bad results among all, in steps of `COUNT`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    pub(super) total: u64,
    pub(super) bad: u64,
}

/// Over how long results count, and how many of the last count in any case.
const TAU: u64 = 10 * SECOND;
const LEAST: u64 = 200 * COUNT;
/// Time that is too short to be counted on its own: rounding would eat what decays.
const TICK: u64 = SECOND / 1000;

// === impl Totals ===

impl Totals {
    /// Adds results of one endpoint, and returns those of the others.
    pub(super) fn add(&mut self, at: u64, more: Rate, share: &mut Share) -> Others {
        self.advance(at);
        share.late.decay(self.decayed.saturating_sub(share.decayed));
        share.decayed = self.decayed;
        for rate in [
            &mut share.late,
            &mut share.all,
            &mut self.late,
            &mut self.all,
        ] {
            rate.add(more);
        }
        Others {
            late: Rate {
                // By rounding, the part may be larger than the whole.
                total: self.late.total.saturating_sub(share.late.total),
                bad: self.late.bad.saturating_sub(share.late.bad),
            },
            all: self.all.without(share.all),
        }
    }

    fn advance(&mut self, at: u64) {
        let elapsed = at.saturating_sub(self.at);
        if elapsed < TICK {
            return;
        }
        self.at = at;
        // e^-x is at least 1 - x: so much time leaves enough.
        let spare = self.late.total.saturating_sub(LEAST);
        let most = u128::from(TAU) * u128::from(spare) / u128::from(self.late.total.max(1));
        let time = u128::from(elapsed).min(most) as u64;
        self.late.decay(time);
        self.decayed = self.decayed.saturating_add(time);
    }
}

// === impl Rate ===

impl Rate {
    fn add(&mut self, more: Self) {
        // All of them wrap around, some time.
        self.total = self.total.wrapping_add(more.total);
        self.bad = self.bad.wrapping_add(more.bad);
    }

    fn decay(&mut self, elapsed: u64) {
        self.total = decay(self.total, elapsed, TAU);
        self.bad = decay(self.bad, elapsed, TAU);
    }

    /// What is left without these.
    pub(super) fn without(self, other: Self) -> Self {
        Self {
            total: self.total.wrapping_sub(other.total),
            bad: self.bad.wrapping_sub(other.bad),
        }
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
