//! The state machine.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::gate::{Admitted, Calm, EPOCHS, Gate, Transition};
use super::rules::Rules;
use super::window::Window;
use crate::core::backoff;
use crate::core::time::{Epoch, FAR, nanos};
use crate::policy::{ExponentialBackoff, FailureAccrual};
use crate::verdict::{Outcome, Verdict};

/// One endpoint's breaker.
///
/// It is small (see the test of its size): there may be thousands. Times are nanoseconds from its rules' origin.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Breaker {
    // None: it stays closed, and there is no time in it.
    rules: Option<Arc<Rules>>,
    // At most `EPOCHS`.
    epoch: u32,
    // Ejections that are not forgotten: the place in the backoff.
    trips: u32,
    state: State,
    // Where the rules have a rate.
    window: Option<Box<Window>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Closed {
        // In a row.
        failures: u32,
        // Since when, if it was ever open.
        since: u64,
    },
    Open {
        // Probes in a row that have succeeded.
        passed: u32,
        due: u64,
    },
    // Boxed, because few are at a time.
    HalfOpen(Box<Probing>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Probing {
    passed: u32,
    // When its probe was due, and when it counts as lost.
    due: u64,
    lost: u64,
}

// Failures in a row that eject one whose ejections are not all forgotten, if not fewer do.
const ON_RECORD: u32 = 3;

// The place in the backoff at which one begins that is worse than its peers: four times the least.
const CHRONIC: u32 = 2;

// `since` of one that was never open.
const NEVER: u64 = u64::MAX;

// === impl Breaker ===

impl Breaker {
    /// A closed breaker; without a policy it stays closed.
    pub fn new(policy: Option<&FailureAccrual>, now: Instant) -> Self {
        let rules = policy.map(|accrual| Arc::new(Rules::new(accrual, Epoch::new(now))));
        Self::with_rules(rules, now)
    }

    pub(crate) fn with_rules(rules: Option<Arc<Rules>>, now: Instant) -> Self {
        let mut breaker = Self {
            rules: None,
            epoch: 0,
            trips: 0,
            state: State::Closed {
                failures: 0,
                since: NEVER,
            },
            window: None,
        };
        breaker.set_rules(rules, now);
        breaker
    }

    /// Another policy. What was learned stays, except that no policy closes the breaker, and that a success rate over
    /// another time starts anew.
    pub fn configure(&mut self, policy: Option<&FailureAccrual>, now: Instant) {
        let origin = self
            .rules
            .as_ref()
            .map_or(Epoch::new(now), |old| old.origin);
        let rules = policy.map(|accrual| Arc::new(Rules::new(accrual, origin)));
        self.set_rules(rules, now);
    }

    /// The same. The new rules count from the same moment as the old, if there are any.
    pub(crate) fn set_rules(&mut self, rules: Option<Arc<Rules>>, now: Instant) {
        let old = std::mem::replace(&mut self.rules, rules);
        let Some(rules) = &self.rules else {
            self.window = None;
            match &mut self.state {
                // Of no meaning without an origin.
                State::Closed { since, .. } => *since = NEVER,
                State::Open { .. } | State::HalfOpen(_) => self.close(),
            }
            return;
        };
        let width = rules.rate.map(|rate| rate.width);
        if width != old.and_then(|old| old.rate).map(|rate| rate.width) {
            let now = rules.origin.nanos(now);
            self.window = width.map(|width| Box::new(Window::new(now, width)));
        }
    }

    /// Whether a request may go through.
    pub fn gate(&self) -> Gate {
        // Nothing opens without rules.
        let Some(rules) = &self.rules else {
            return Gate::Closed;
        };
        match &self.state {
            State::Closed { .. } => Gate::Closed,
            State::Open { due, .. } => Gate::Open {
                until: rules.origin.instant(*due),
            },
            State::HalfOpen(probing) => Gate::HalfOpen {
                until: rules.origin.instant(probing.lost),
            },
        }
    }

    /// What it obeys.
    pub(crate) fn rules(&self) -> Option<&Rules> {
        self.rules.as_deref()
    }

    /// The epoch of requests that go through a closed breaker.
    pub fn epoch(&self) -> u64 {
        self.epoch.into()
    }

    /// Failures in a row, while closed.
    pub fn failures(&self) -> u32 {
        match self.state {
            State::Closed { failures, .. } => failures,
            State::Open { .. } | State::HalfOpen(_) => 0,
        }
    }

    /// Lets a request through, as a probe if one is due.
    ///
    /// A probe that takes longer than the longest backoff is given up: its answer will decide nothing.
    pub fn admit(&mut self, now: Instant) -> Option<Admitted> {
        if let State::Closed { .. } = self.state {
            return Some(Admitted {
                epoch: self.epoch(),
                probe: false,
            });
        }
        let now = self.nanos(now);
        let (due, passed) = match &self.state {
            State::Open { due, passed } if *due <= now => (*due, *passed),
            State::HalfOpen(probing) if probing.lost <= now => (probing.due, probing.passed),
            _ => return None,
        };
        Some(self.probe(now, due, passed))
    }

    /// Lets a request through as a probe before one is due, unless one is out.
    pub fn admit_early(&mut self, now: Instant) -> Option<Admitted> {
        match self.state {
            State::Open { due, passed } => {
                let now = self.nanos(now);
                Some(self.probe(now, due.min(now), passed))
            }
            _ => self.admit(now),
        }
    }

    fn probe(&mut self, now: u64, due: u64, passed: u32) -> Admitted {
        self.next_epoch();
        let patience = self.backoff().max();
        self.state = State::HalfOpen(Box::new(Probing {
            passed,
            due,
            lost: after(now, patience),
        }));
        Admitted {
            epoch: self.epoch(),
            probe: true,
        }
    }

    /// Records a result. Before an ejection, `may_eject` is asked; after one, `word` for a random word for the wait.
    pub fn record(
        &mut self,
        now: Instant,
        admitted: Admitted,
        outcome: &Outcome,
        word: impl FnOnce() -> u64,
        may_eject: impl FnOnce() -> bool,
    ) -> Option<Transition> {
        self.record_at(self.nanos(now), admitted, outcome, word, may_eject)
    }

    /// The same, at a time that is in nanoseconds from the rules' origin already.
    pub(crate) fn record_at(
        &mut self,
        now: u64,
        admitted: Admitted,
        outcome: &Outcome,
        word: impl FnOnce() -> u64,
        may_eject: impl FnOnce() -> bool,
    ) -> Option<Transition> {
        if admitted.epoch != self.epoch() {
            return None;
        }
        let rules = self.rules.as_deref()?;
        let verdict = rules.verdict(outcome);
        match &mut self.state {
            State::Closed { failures, .. } => {
                match verdict {
                    Verdict::Neutral => return None,
                    Verdict::Success => *failures = 0,
                    Verdict::Failure => *failures = failures.saturating_add(1),
                }
                let failures = *failures;
                let mut low = None;
                if let (Some(window), Some(rate)) = (self.window.as_deref_mut(), &rules.rate) {
                    let bad = verdict == Verdict::Failure || outcome.rate_limited;
                    window.record(now, rate.width, bad);
                    let (total, bad) = window.sums();
                    low = rate.is_low(total, bad).then_some((rate, total, bad));
                }
                // First to trip is named.
                let why = if rules.max_failures > 0 && failures >= rules.max_failures {
                    let s = if failures == 1 { "" } else { "s" };
                    format!("{failures} failure{s} in a row").into()
                } else if failures >= ON_RECORD
                    && rules.max_failures > 0
                    && rules.memory.is_some()
                    && self.remembered(now) > 0
                {
                    format!("{failures} failures in a row, of one that was ejected before").into()
                } else {
                    let (rate, total, bad) = low?;
                    rate.words(total, bad).into()
                };
                self.eject(now, why, 0, outcome, word, may_eject)
            }
            State::HalfOpen(probing) if admitted.probe => {
                let origin = rules.origin;
                let (due, passed, strict) = (probing.due, probing.passed, rules.strict);
                let why = match verdict {
                    Verdict::Failure => "the probe failed",
                    Verdict::Success if strict && outcome.rate_limited => {
                        "the probe was rate-limited"
                    }
                    _ => return Some(self.end_probe(now, due, passed, verdict)),
                };
                let due = self.open(now, outcome, word);
                Some(opened(why.into(), origin.instant(due)))
            }
            _ => None,
        }
    }

    /// Whether a result is one that counts, of a closed breaker, and if so whether it is bad: a failure or, where the
    /// policy says so, rate-limited.
    pub(crate) fn bad(&self, admitted: Admitted, outcome: &Outcome) -> Option<bool> {
        let rules = self.rules.as_deref()?;
        let closed = matches!(self.state, State::Closed { .. });
        if !closed || admitted.epoch != self.epoch() {
            return None;
        }
        match rules.verdict(outcome) {
            Verdict::Neutral => None,
            Verdict::Success => Some(rules.strict && outcome.rate_limited),
            Verdict::Failure => Some(true),
        }
    }

    /// Opens a closed breaker that is worse than its peers. What takes so long to be seen is hardly over after the least
    /// backoff, so it begins as if it had been ejected before.
    pub(crate) fn eject_as_worse(
        &mut self,
        now: u64,
        why: Cow<'static, str>,
        outcome: &Outcome,
        word: impl FnOnce() -> u64,
        may_eject: impl FnOnce() -> bool,
    ) -> Option<Transition> {
        self.eject(now, why, CHRONIC, outcome, word, may_eject)
    }

    // From a place in the backoff, or from where it is.
    fn eject(
        &mut self,
        now: u64,
        why: Cow<'static, str>,
        place: u32,
        outcome: &Outcome,
        word: impl FnOnce() -> u64,
        may_eject: impl FnOnce() -> bool,
    ) -> Option<Transition> {
        let origin = self.rules.as_deref()?.origin;
        if !may_eject() {
            return Some(Transition::Refused { why });
        }
        self.forgive(now);
        self.trips = self.trips.max(place);
        let due = self.open(now, outcome, word);
        Some(opened(why, origin.instant(due)))
    }

    // Of a probe that did not fail.
    fn end_probe(&mut self, now: u64, due: u64, passed: u32, verdict: Verdict) -> Transition {
        let probes = self.rules.as_ref().map_or(1, |rules| rules.probes);
        if verdict == Verdict::Success && passed + 1 >= probes {
            self.close();
            self.state = State::Closed {
                failures: 0,
                since: now,
            };
            return Transition::Closed;
        }
        self.next_epoch();
        let (passed, transition) = match verdict {
            Verdict::Success => (passed + 1, Transition::ProbePassed),
            _ => (passed, Transition::ProbeReturned),
        };
        self.state = State::Open { due, passed };
        transition
    }

    // Returns when its probe is due.
    fn open(&mut self, now: u64, outcome: &Outcome, word: impl FnOnce() -> u64) -> u64 {
        let backoff = self.backoff();
        let mut wait = backoff::delay(&backoff, self.trips, word());
        let respects = |rules: &Arc<Rules>| rules.respect_retry_after;
        if let Some(hint) = outcome.retry_after
            && self.rules.as_ref().is_some_and(respects)
        {
            wait = wait.max(hint.clamp(backoff.min(), backoff.max()));
        }
        self.trips = self.trips.saturating_add(1);
        self.next_epoch();
        let due = after(now, wait);
        self.state = State::Open { due, passed: 0 };
        due
    }

    // What was ejected before counts less after a time in service, or not at all without a memory.
    fn forgive(&mut self, now: u64) {
        self.trips = self.remembered(now);
    }

    // Ejections that are not forgotten, of a closed one.
    fn remembered(&self, now: u64) -> u32 {
        let memory = self.rules.as_ref().and_then(|rules| rules.memory);
        match (memory, &self.state) {
            (Some(memory), &State::Closed { since, .. }) if since != NEVER => {
                let forgiven = now.saturating_sub(since) / memory;
                let forgiven = u32::try_from(forgiven).unwrap_or(u32::MAX);
                self.trips.saturating_sub(forgiven)
            }
            _ => 0,
        }
    }

    /// Closed, as if nothing had been learned. What is in flight decides nothing any more.
    // Ejections are not remembered of one that was never re-admitted.
    pub(crate) fn reset(&mut self) {
        self.close();
    }

    // A closed one without rules has nothing to forget.
    fn close(&mut self) {
        self.next_epoch();
        self.state = State::Closed {
            failures: 0,
            since: NEVER,
        };
        if let Some(window) = &mut self.window {
            window.clear();
        }
    }

    fn next_epoch(&mut self) {
        self.epoch = (self.epoch + 1) & EPOCHS as u32;
    }

    /// What successes change as long as nothing else is recorded.
    pub(crate) fn calm(&self) -> Calm {
        match (&self.state, &self.rules) {
            (State::Closed { .. }, None) => Calm::Nothing,
            (State::Closed { failures: 0, .. }, Some(rules)) => match (&self.window, &rules.rate) {
                (Some(window), Some(rate)) => {
                    let (total, bad) = window.sums();
                    match rate.is_calm(total, bad) {
                        true => Calm::CountUntil(window.end()),
                        false => Calm::Matter,
                    }
                }
                _ => Calm::Nothing,
            },
            _ => Calm::Matter,
        }
    }

    /// The same for whoever does not ask how long they took.
    pub(crate) fn calm_for_the_quick(&self) -> Calm {
        match &self.rules {
            Some(rules) if rules.slow_call.is_some() => Calm::Matter,
            _ => self.calm(),
        }
    }

    /// Records so many successes at once. See [`calm`](Self::calm).
    pub(crate) fn credit(&mut self, successes: u32) {
        if let Some(window) = &mut self.window {
            window.credit(successes);
        }
    }

    /// The first wait of the backoff.
    pub(crate) fn first_wait(&self, word: u64) -> Duration {
        backoff::delay(&self.backoff(), 0, word)
    }

    /// The wait for the next turn where several are probed in turn: the first of the backoff at most, with the jitter
    /// below it instead of above.
    pub(crate) fn turn_wait(&self, word: u64) -> Duration {
        let backoff = self.backoff();
        let short = ExponentialBackoff::try_new(backoff.min(), backoff.min(), backoff.jitter());
        backoff::delay(&short.unwrap_or(backoff), 0, word)
    }

    // Without a policy nothing opens; the default only spares an unwrap.
    fn backoff(&self) -> ExponentialBackoff {
        let rules = self.rules.as_ref();
        rules.map_or(ExponentialBackoff::ACCRUAL, |rules| rules.backoff)
    }

    #[cfg(test)]
    pub(crate) fn window_sums(&self) -> Option<(u64, u64)> {
        self.window.as_deref().map(Window::sums)
    }

    #[cfg(test)]
    pub(super) fn verdict(&self, outcome: &Outcome) -> Verdict {
        let rules = self.rules.as_deref();
        rules.map_or(outcome.verdict, |rules| rules.verdict(outcome))
    }

    // There are rules where there is a time.
    pub(super) fn nanos(&self, now: Instant) -> u64 {
        let rules = self.rules.as_ref();
        rules.map_or(0, |rules| rules.origin.nanos(now))
    }
}

fn opened(why: Cow<'static, str>, until: Instant) -> Transition {
    Transition::Opened { why, until }
}

// The moment `wait` after `now`, in nanoseconds.
fn after(now: u64, wait: Duration) -> u64 {
    now.saturating_add(nanos(wait.min(FAR)))
}
