//! Worse than its peers: whether an endpoint's failures exceed those of its pool beyond chance.
//!
//! A sequential test (Page's cumulative sum), because it is looked at after every result. A failure adds the logarithm of
//! how much more likely it is of a bad endpoint than of one like its peers, a success takes away as much the other way
//! round, and the sum never falls below zero. An endpoint like its peers gets to a sum of `h` no more often than once in
//! `e^h` results; `h` follows from how many results an hour the endpoint has, and how many false ejections are allowed.
//! Two tests run side by side: for an endpoint that fails most of its requests, and for one that fails five times as many
//! as its peers.
//!
//! What the peers do is the pool's failures without the endpoint's own, over two times: a long one, in which it has to be
//! well known (the upper end of what their results allow is taken), and a short one, so that what befalls all of them at
//! once ejects nobody. The larger of the two counts.
//!
//! All of it in whole numbers.

mod fixed;
#[cfg(test)]
mod simulated;
mod totals;

#[cfg(test)]
mod tests;

use self::fixed::{NAT, ONE, ln};
pub(crate) use self::totals::Totals;
use self::totals::{Rate, Shares};
use crate::core::decay::decay;
use crate::core::sync::{Mutex, lock};
use crate::policy::Ratio;

/// The fewest failures that eject.
const MIN_FAILURES: u32 = 3;
/// The peers' rate is never taken to be lower: 1 %.
const FLOOR: u64 = ONE / 100;
/// Nor is an endpoint compared with peers of which half fail.
const COMMON: u64 = ONE / 2;
/// Results that are kept back from the totals, and for how long at most.
const KEPT: u32 = 32;
const KEPT_NANOS: u64 = 250_000_000;
/// Over which time the results an hour are counted, and how many it is taken to have at least: one a second.
const TRAFFIC: u64 = 60 * SECOND;
const MIN_TRAFFIC: u64 = HOUR / SECOND;
const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3600 * SECOND;
/// `e^h` is a bound. What each failure adds is large, so that a sum goes beyond `h` by some way, and the peers' rate is
/// taken on the high side: measured (see `simulated`), false ejections are an eighth of it and less.
const CAUTION: u64 = 8;
/// As many steps, so that what decays is not lost in rounding.
const COUNT: u64 = 1 << 20;

/// What is known of one endpoint, beside its peers.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    // False ejections an hour, in millionths.
    allowed: u64,
    // Results that are not in the totals yet, and when the last ones were added.
    kept: Kept,
    added: u64,
    // Its part in the totals.
    shares: Shares,
    // Its results, decaying, and since when they are counted.
    traffic: u64,
    since: Option<u64>,
    tests: [Test; 2],
    threshold: i64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    total: u32,
    bad: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Test {
    // What a failure adds and a success takes away; nothing while the peers fail as much as that.
    failure: i64,
    success: i64,
    sum: i64,
    // What it began with: a suspicion from before. And the results since.
    head: i64,
    total: u32,
    bad: u32,
}

// === impl Peers ===

impl Peers {
    /// Ejects falsely at most `allowed` times an hour; zero never ejects.
    pub(crate) fn new(allowed: Ratio) -> Self {
        Self {
            allowed: u64::from(allowed.ppm()),
            kept: Kept::default(),
            added: 0,
            shares: Shares::default(),
            traffic: 0,
            since: None,
            tests: Default::default(),
            threshold: 0,
        }
    }

    /// Another allowance. What was learned stays.
    pub(crate) fn configure(&mut self, allowed: Ratio) {
        self.allowed = u64::from(allowed.ppm());
    }

    /// Records a result of a closed breaker, at a time in nanoseconds. Says why to eject, if there is a reason.
    ///
    /// `totals` are the pool's; they are locked at a failure, and for one result in 32 or four times a second.
    pub(crate) fn record(&mut self, at: u64, bad: bool, totals: &Mutex<Totals>) -> Option<String> {
        self.kept.total += 1;
        self.kept.bad += u32::from(bad);
        let late = at.saturating_sub(self.added) >= KEPT_NANOS;
        let peers = (bad || late || self.kept.total >= KEPT).then(|| self.look(at, totals));
        for test in &mut self.tests {
            test.record(bad, self.threshold);
        }
        let peers = peers.filter(|_| bad && self.allowed > 0)?;
        let test = self.tests.iter().find(|test| test.trips(self.threshold))?;
        Some(format!(
            "worse than its peers: {} of {} failed, and {} of their {}",
            test.bad,
            test.total,
            peers.bad.div_ceil(COUNT),
            peers.total / COUNT,
        ))
    }

    /// It was re-admitted: half-way under suspicion.
    pub(crate) fn parole(&mut self) {
        self.forget();
        for test in &mut self.tests {
            test.head = self.threshold / 2;
            test.sum = test.head;
        }
    }

    /// As if nothing had been suspected.
    pub(crate) fn forget(&mut self) {
        for test in &mut self.tests {
            test.reset();
        }
    }

    // Adds what was kept back, and sees how the peers do. Returns their results over the longer time.
    fn look(&mut self, at: u64, totals: &Mutex<Totals>) -> Rate {
        let since = *self.since.get_or_insert(at);
        let elapsed = at.saturating_sub(self.added.max(since));
        let kept = std::mem::take(&mut self.kept);
        let more = u64::from(kept.total) * COUNT;
        self.traffic = decay(self.traffic, elapsed, TRAFFIC).saturating_add(more);
        self.added = self.added.max(at);
        let (slow, fast) = {
            let mut totals = lock(totals);
            totals.add(at, kept.total, kept.bad, &mut self.shares)
        };
        let rate = slow.upper().max(fast.mean()).max(FLOOR);
        let (grave, slight) = if rate < COMMON {
            let grave = (ONE + rate) / 2;
            (
                Test::steps(rate, grave),
                Test::steps(rate, grave.min(5 * rate)),
            )
        } else {
            Default::default()
        };
        for (test, steps) in self.tests.iter_mut().zip([grave, slight]) {
            (test.failure, test.success) = steps;
        }
        self.threshold = self.threshold_at(at.saturating_sub(since));
        slow
    }

    // ln(results an hour x tests / false ejections an hour)
    fn threshold_at(&self, age: u64) -> i64 {
        let time = age.clamp(SECOND, TRAFFIC);
        let hourly = u128::from(self.traffic / COUNT) * u128::from(HOUR) / u128::from(time);
        let hourly = u64::try_from(hourly).unwrap_or(u64::MAX).max(MIN_TRAFFIC);
        let tests = self.tests.len() as u64;
        ln(hourly.saturating_mul(tests) / CAUTION) + ln(Ratio::ONE.ppm().into())
            - ln(self.allowed.max(1))
    }
}

// === impl Test ===

impl Test {
    // Logarithms of the likelihood of each result of a bad one, over that of one like its peers.
    fn steps(peers: u64, bad: u64) -> (i64, i64) {
        (ln(bad) - ln(peers), ln(ONE - bad) - ln(ONE - peers))
    }

    fn record(&mut self, bad: bool, threshold: i64) {
        if self.failure == 0 {
            return self.reset();
        }
        self.total = self.total.saturating_add(1);
        self.bad = self.bad.saturating_add(u32::from(bad));
        self.sum += if bad { self.failure } else { self.success };
        // What was over the threshold without an ejection does not pile up.
        self.sum = self.sum.min(threshold.max(NAT));
        if self.sum <= 0 {
            self.reset();
        }
    }

    // By what was thought of the peers at the time, and by what is thought of them now.
    fn trips(&self, threshold: i64) -> bool {
        let good = i64::from(self.total - self.bad);
        let now = self.head + i64::from(self.bad) * self.failure + good * self.success;
        self.bad >= MIN_FAILURES && self.sum >= threshold && now >= threshold
    }

    fn reset(&mut self) {
        (self.sum, self.head, self.total, self.bad) = (0, 0, 0, 0);
    }
}
