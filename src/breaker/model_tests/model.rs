//! The model: every result since it closed, and what follows from them.

use std::time::Duration;

use crate::policy::{ExponentialBackoff, FailureAccrual, Ratio, Unified};
use crate::verdict::{Outcome, Verdict};

/// A policy in plain numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Terms {
    pub(super) unified: bool,
    pub(super) max_failures: u32,
    pub(super) threshold_percent: u8,
    pub(super) window_ms: u64,
    pub(super) min_requests: u32,
    pub(super) min: Duration,
    pub(super) max: Duration,
    pub(super) slow_call: Option<Duration>,
    pub(super) probes: u32,
    pub(super) memory: Option<Duration>,
    pub(super) respect_retry_after: bool,
}

/// One that remembers every result since it closed, with its time and its bucket.
#[derive(Default)]
pub(super) struct Model {
    terms: Option<Terms>,
    pub(super) state: ModelState,
    results: Vec<Recorded>,
    // The window begins with this result, and its first bucket at this time.
    window_from: usize,
    window_start: Duration,
    newest_bucket: u128,
    pub(super) trips: u32,
    closed_at: Option<Duration>,
    // When it got a policy: there is no time before.
    origin: Duration,
    // Of the state: what was admitted in another decides nothing.
    pub(super) generation: u64,
}

struct Recorded {
    bucket: u128,
    failed: bool,
    bad: bool,
}

#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) enum ModelState {
    #[default]
    Closed,
    // When a probe is due, and how many have succeeded.
    Open(Duration, u32),
    // When it was due, how many have succeeded, and when it counts as lost.
    Probing(Duration, u32, Duration),
}

#[derive(Debug, PartialEq)]
pub(super) enum Change {
    Opened(&'static str, Duration),
    Refused(&'static str),
    Closed,
    ProbePassed,
    ProbeReturned,
}

// === impl Terms ===

impl Terms {
    pub(super) fn policy(&self) -> FailureAccrual {
        let backoff = ExponentialBackoff::try_new(self.min, self.max, Ratio::ZERO).unwrap();
        let mut policy = if self.unified {
            let threshold = Ratio::percent(self.threshold_percent);
            let window = Duration::from_millis(self.window_ms);
            let (min_requests, max_failures) = (self.min_requests, self.max_failures);
            Unified::try_new(threshold, window, min_requests, max_failures, backoff)
                .unwrap()
                .into()
        } else {
            FailureAccrual::consecutive(self.max_failures).backoff(backoff)
        };
        let extensions = policy.extensions_mut();
        extensions.slow_call = self.slow_call;
        extensions.probes = self.probes;
        extensions.memory = self.memory;
        extensions.respect_retry_after = self.respect_retry_after;
        policy
    }

    // None: there is no window.
    fn bucket_nanos(&self) -> Option<u128> {
        let rated = self.unified && self.threshold_percent > 0;
        rated.then(|| u128::from(self.window_ms) * 1_000_000 / 10)
    }

    fn wait(&self, trips: u32) -> Duration {
        let (min, trips) = match (self.min, trips) {
            (Duration::ZERO, 0) => return Duration::ZERO,
            (Duration::ZERO, n) => (Duration::from_millis(1), n - 1),
            other => other,
        };
        let mut wait = min;
        for _ in 0..trips.min(40) {
            wait = (wait * 2).min(self.max);
        }
        wait.min(self.max)
    }
}

// === impl Model ===

impl Model {
    pub(super) fn configure(&mut self, terms: Option<Terms>, now: Duration) {
        if self.terms.is_none() {
            self.origin = now;
        }
        let now = now.max(self.origin);
        let bucket = |terms: Option<Terms>| terms.and_then(|terms| terms.bucket_nanos());
        if terms.is_none() || bucket(self.terms) != bucket(terms) {
            self.window_from = self.results.len();
            self.window_start = now;
            self.newest_bucket = 0;
        }
        if terms.is_none() {
            self.closed_at = None;
            if self.state != ModelState::Closed {
                self.close(None);
            }
        }
        self.terms = terms;
    }

    pub(super) fn close(&mut self, at: Option<Duration>) {
        self.generation += 1;
        self.state = ModelState::Closed;
        self.closed_at = at;
        self.results.clear();
        self.window_from = 0;
    }

    pub(super) fn admit(&mut self, now: Duration, early: bool) -> Option<bool> {
        let now = now.max(self.origin);
        let Some(terms) = self.terms else {
            return Some(false);
        };
        let (due, passed) = match self.state {
            ModelState::Closed => return Some(false),
            ModelState::Open(due, passed) if due <= now || early => (due.min(now), passed),
            ModelState::Probing(due, passed, lost) if lost <= now => (due, passed),
            _ => return None,
        };
        self.generation += 1;
        self.state = ModelState::Probing(due, passed, now + terms.max);
        Some(true)
    }

    pub(super) fn run(&self) -> u32 {
        let failed = self.results.iter().rev().take_while(|result| result.failed);
        failed.count() as u32
    }

    pub(super) fn trip(&mut self, now: Duration, outcome: &Outcome, terms: &Terms) -> Duration {
        let mut wait = terms.wait(self.trips);
        if let (true, Some(hint)) = (terms.respect_retry_after, outcome.retry_after) {
            wait = wait.max(hint.max(terms.min).min(terms.max));
        }
        self.trips += 1;
        self.generation += 1;
        self.state = ModelState::Open(now + wait, 0);
        now + wait
    }

    pub(super) fn end(
        &mut self,
        now: Duration,
        (probe, issued): (bool, u64),
        outcome: &Outcome,
        may_eject: bool,
        // Is told each result that counts, bad or not, and says whether it is worse than its peers.
        worse: impl FnOnce(bool) -> bool,
    ) -> Option<Change> {
        let terms = self.terms?;
        let now = now.max(self.origin);
        if issued != self.generation {
            return None;
        }
        let time = match outcome.verdict {
            Verdict::Success => outcome.took,
            Verdict::Neutral => outcome.waited,
            Verdict::Failure => None,
        };
        let slow = terms
            .slow_call
            .zip(time)
            .is_some_and(|(slow, time)| time > slow);
        let verdict = if slow {
            Verdict::Failure
        } else {
            outcome.verdict
        };
        if probe {
            let ModelState::Probing(due, passed, _) = self.state else {
                panic!("a probe without probation")
            };
            let limited = terms.unified && outcome.rate_limited;
            return Some(match verdict {
                Verdict::Failure => Change::Opened("failed", self.trip(now, outcome, &terms)),
                Verdict::Success if limited => {
                    Change::Opened("rate-limited", self.trip(now, outcome, &terms))
                }
                Verdict::Success if passed + 1 >= terms.probes => {
                    self.close(Some(now));
                    Change::Closed
                }
                Verdict::Success => {
                    self.generation += 1;
                    self.state = ModelState::Open(due, passed + 1);
                    Change::ProbePassed
                }
                Verdict::Neutral => {
                    self.generation += 1;
                    self.state = ModelState::Open(due, passed);
                    Change::ProbeReturned
                }
            });
        }
        if self.state != ModelState::Closed || verdict == Verdict::Neutral {
            return None;
        }
        let failed = verdict == Verdict::Failure;
        if let Some(width) = terms.bucket_nanos() {
            let bucket = now.saturating_sub(self.window_start).as_nanos() / width;
            self.newest_bucket = self.newest_bucket.max(bucket);
        }
        self.results.push(Recorded {
            bucket: self.newest_bucket,
            failed,
            bad: failed || outcome.rate_limited,
        });
        let remembered = match (terms.memory, self.closed_at) {
            (Some(memory), Some(since)) => {
                let memory = memory.max(Duration::from_nanos(1));
                let forgiven = now.saturating_sub(since).as_nanos() / memory.as_nanos();
                self.trips
                    .saturating_sub(forgiven.min(u32::MAX.into()) as u32)
            }
            _ => 0,
        };
        let worse = worse(failed || (terms.unified && outcome.rate_limited));
        let why = self.reason(&terms, remembered > 0);
        let why = why.or(worse.then_some("worse than its peers"))?;
        if !may_eject {
            return Some(Change::Refused(why));
        }
        // Four times the least backoff, at least, for what took long to be seen.
        let place = if why == "worse than its peers" { 2 } else { 0 };
        self.trips = remembered.max(place);
        Some(Change::Opened(why, self.trip(now, outcome, &terms)))
    }

    fn reason(&self, terms: &Terms, on_record: bool) -> Option<&'static str> {
        let most = match terms.max_failures {
            most if on_record => most.min(3),
            most => most,
        };
        if most > 0 && self.run() >= most {
            return Some("in a row");
        }
        terms.bucket_nanos()?;
        let newest = self.newest_bucket;
        let kept = &self.results[self.window_from.min(self.results.len())..];
        let kept: Vec<_> = kept.iter().filter(|it| newest - it.bucket < 10).collect();
        let good = kept.iter().filter(|it| !it.bad).count();
        let low = good * 100 < usize::from(terms.threshold_percent) * kept.len();
        (kept.len() >= terms.min_requests.max(1) as usize && low).then_some("success rate")
    }
}

// === impl Change ===

impl Change {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Opened("in a row", _) => "opened: in a row",
            Self::Opened("success rate", _) => "opened: success rate",
            Self::Opened("worse than its peers", _) => "opened: worse",
            Self::Opened("failed", _) => "opened: failed",
            Self::Opened(..) => "opened: rate-limited",
            Self::Refused("worse than its peers") => "refused: worse",
            Self::Refused(_) => "refused",
            Self::Closed => "closed",
            Self::ProbePassed => "probe passed",
            Self::ProbeReturned => "probe returned",
        }
    }
}
