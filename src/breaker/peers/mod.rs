//! Worse than its peers: whether an endpoint's failures exceed those of its pool beyond chance.
//!
//! A sequential test (Page's cumulative sum), because it is looked at after every result. A failure adds the logarithm of
//! how much more likely it is of a bad endpoint than of one like its peers, a success takes away as much the other way
//! round, and the sum never falls below zero. An endpoint like its peers gets to a sum of `h` no more often than once in
//! `e^h` results; `h` follows from how many results an hour the endpoint has, and how many false ejections are allowed.
//! Two tests run side by side: for an endpoint that fails most of its requests, and for one that fails five times as many
//! as its peers.
//!
//! What the peers do is the pool's failures without the endpoint's own, of the last ten seconds or more, on the high side
//! of what they allow. Before an ejection they are looked at once more: what they did since the sum was last zero counts
//! if it is worse, so that what befalls all of them at once ejects nobody.
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
use self::totals::{Others, Rate, Share};
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
    // Its part in the totals, and what the others did when it was last added to.
    share: Share,
    others: Others,
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
    kind: usize,
    steps: Steps,
    sum: i64,
    // What it began with: a suspicion from before. And the results since.
    head: i64,
    total: u32,
    bad: u32,
    // What the peers had done by then.
    began: Rate,
}

// What a failure adds and a success takes away; nothing while half of what the peers do fails.
#[derive(Clone, Copy, Debug, Default)]
struct Steps {
    failure: i64,
    success: i64,
}

// === impl Peers ===

impl Peers {
    /// Ejects falsely at most `allowed` times an hour; zero never ejects.
    pub(crate) fn new(allowed: Ratio) -> Self {
        Self {
            allowed: u64::from(allowed.ppm()),
            kept: Kept::default(),
            added: 0,
            share: Share::default(),
            others: Others::default(),
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
        if bad || late || self.kept.total >= KEPT {
            self.look(at, totals);
        }
        for test in &mut self.tests {
            test.record(bad, self.threshold, self.others.all);
        }
        if !bad || self.allowed == 0 {
            return None;
        }
        let all = self.others.all;
        let trips = |test: &&Test| test.trips(self.threshold, all);
        let test = self.tests.iter().find(trips)?;
        let peers = self.others.late;
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
            test.began = self.others.all;
        }
    }

    /// As if nothing had been suspected.
    pub(crate) fn forget(&mut self) {
        for test in &mut self.tests {
            test.reset();
        }
    }

    // Adds what was kept back, and sees how the peers do.
    fn look(&mut self, at: u64, totals: &Mutex<Totals>) {
        let since = *self.since.get_or_insert(at);
        let elapsed = at.saturating_sub(self.added.max(since));
        let kept = std::mem::take(&mut self.kept);
        let more = Rate {
            total: u64::from(kept.total) * COUNT,
            bad: u64::from(kept.bad) * COUNT,
        };
        self.traffic = decay(self.traffic, elapsed, TRAFFIC).saturating_add(more.total);
        self.added = self.added.max(at);
        self.others = lock(totals).add(at, more, &mut self.share);
        let rate = self.others.late.upper().max(FLOOR);
        for (kind, test) in self.tests.iter_mut().enumerate() {
            test.kind = kind;
            test.steps = Steps::new(kind, rate);
        }
        self.threshold = self.threshold_at(at.saturating_sub(since));
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

// === impl Steps ===

impl Steps {
    // Logarithms of the likelihood of each result of a bad one, over that of one like its peers. The first test is for one
    // that fails most, the second for one that fails five times as many.
    fn new(kind: usize, peers: u64) -> Self {
        if peers >= COMMON {
            return Self::default();
        }
        let most = (ONE + peers) / 2;
        let bad = if kind == 0 { most } else { most.min(5 * peers) };
        Self {
            failure: ln(bad) - ln(peers),
            success: ln(ONE - bad) - ln(ONE - peers),
        }
    }
}

// === impl Test ===

impl Test {
    fn record(&mut self, bad: bool, threshold: i64, peers: Rate) {
        if self.steps.failure == 0 {
            return self.reset();
        }
        if self.sum == 0 {
            if !bad {
                return;
            }
            self.began = peers;
        }
        self.total = self.total.saturating_add(1);
        self.bad = self.bad.saturating_add(u32::from(bad));
        let step = if bad {
            self.steps.failure
        } else {
            self.steps.success
        };
        // What goes over the threshold without an ejection does not pile up.
        self.sum = (self.sum + step).min(threshold.max(NAT));
        if self.sum <= 0 {
            self.reset();
        }
    }

    // By what was thought of the peers at the time, by what is thought of them now, and by what they did meanwhile.
    fn trips(&self, threshold: i64, peers: Rate) -> bool {
        if self.bad < MIN_FAILURES || self.sum < threshold {
            return false;
        }
        let good = i64::from(self.total - self.bad);
        let sum = |steps: &Steps| {
            let results = i64::from(self.bad) * steps.failure + good * steps.success;
            steps.failure > 0 && self.head + results >= threshold
        };
        let meanwhile = peers.without(self.began);
        // Of which something has to be known. (Of nothing, the mean is one.)
        let meanwhile = meanwhile.mean().max(FLOOR);
        sum(&self.steps) && sum(&Steps::new(self.kind, meanwhile))
    }

    fn reset(&mut self) {
        (self.sum, self.head, self.total, self.bad) = (0, 0, 0, 0);
    }
}
