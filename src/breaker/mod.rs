//! The circuit breaker: when an endpoint is ejected for its failures, and when it is tried again.
//!
//! A pure state machine: [`Breaker`] is told what happened and what time it is, and says what changed. *Closed* lets
//! requests through; *open* refuses them; *half-open* has one probe out. Each change starts a new epoch, and a result
//! from another epoch decides nothing.
//!
//! It stands alone as a tower layer, around any service: [`BreakerLayer`] for one target, [`Breakers`] for many. Both have
//! a [`BreakerHandle`] to look at the state and to force it.

mod classify;
mod error;
mod future;
mod handle;
mod key;
mod layer;
#[cfg(all(test, tower_mesh_loom))]
mod loom_tests;
mod peers;
mod registry;
mod settings;
mod shared;
mod table;
mod window;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::time::Duration;

use tokio::time::Instant;

pub use self::classify::{ClassifyResult, ServerErrors};
pub use self::error::{BreakerError, Refusal};
pub use self::future::BreakerFuture;
pub use self::handle::{BreakerHandle, BreakerSnapshot, Forced};
pub use self::key::{ByHost, Key};
pub use self::layer::{BreakerLayer, BreakerService};
pub use self::registry::{Breakers, BreakersService};

pub(crate) use self::peers::{Peers, Totals};

use self::window::Window;
use crate::core::backoff;
use crate::core::time::after;
use crate::policy::{AccrualExtensions, ExponentialBackoff, FailureAccrual};
use crate::verdict::{Outcome, Verdict};

/// One endpoint's breaker.
#[derive(Clone, Debug)]
pub struct Breaker {
    policy: Option<Policy>,
    state: State,
    epoch: u64,
    // Failures in a row, while closed.
    failures: u32,
    // Ejections that are not forgotten: the place in the backoff.
    trips: u32,
    // Since when it has been closed, if it was ever open.
    closed_at: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Policy {
    max_failures: u32,
    backoff: ExponentialBackoff,
    window: Option<Window>,
    extensions: AccrualExtensions,
    // A rate-limited probe has failed.
    strict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        until: Instant,
        // Probes in a row that have succeeded.
        passed: u32,
    },
    HalfOpen {
        // When its probe was due, and until when it has time.
        due: Instant,
        until: Instant,
        passed: u32,
    },
}

/// Whether a request may go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Yes.
    Closed,
    /// Not before this moment; from then on, one probe may.
    Open {
        /// When a probe is due.
        until: Instant,
    },
    /// A probe is out, and nothing else may.
    HalfOpen {
        /// When the probe counts as lost, and another is due.
        until: Instant,
    },
}

/// A request that was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// What its result must be recorded with.
    pub epoch: u64,
    /// Whether it is a probe.
    pub probe: bool,
}

/// What a result changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transition {
    /// The endpoint was ejected, or stays so after a failed probe.
    Opened {
        /// The evidence.
        why: Cow<'static, str>,
        /// When a probe is due.
        until: Instant,
    },
    /// It would have been ejected, and the floor forbids it.
    Refused {
        /// The evidence.
        why: Cow<'static, str>,
    },
    /// It was re-admitted.
    Closed,
    /// Its probe succeeded, and another must; it is due at once.
    ProbePassed,
    /// Its probe came back without a verdict; another is due at once.
    ProbeReturned,
}

// === impl Breaker ===

impl Breaker {
    /// A closed breaker; without a policy it stays closed.
    pub fn new(policy: Option<&FailureAccrual>, now: Instant) -> Self {
        Self {
            policy: policy.map(|accrual| Policy::new(accrual, now)),
            state: State::Closed,
            epoch: 0,
            failures: 0,
            trips: 0,
            closed_at: None,
        }
    }

    /// Another policy. What was learned stays, except that no policy closes the breaker, and that a success rate over
    /// another time starts anew.
    pub fn configure(&mut self, policy: Option<&FailureAccrual>, now: Instant) {
        let mut policy = policy.map(|accrual| Policy::new(accrual, now));
        if let (Some(new), Some(old)) = (&mut policy, self.policy.take())
            && let (Some(new), Some(old)) = (&mut new.window, old.window)
        {
            new.inherit(old);
        }
        self.policy = policy;
        if self.policy.is_none() && self.state != State::Closed {
            self.close();
        }
    }

    /// Whether a request may go through.
    pub fn gate(&self) -> Gate {
        match self.state {
            State::Closed => Gate::Closed,
            State::Open { until, .. } => Gate::Open { until },
            State::HalfOpen { until, .. } => Gate::HalfOpen { until },
        }
    }

    /// The epoch of requests that go through a closed breaker.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Failures in a row, while closed.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Lets a request through, as a probe if one is due.
    ///
    /// A probe that takes longer than the longest backoff is given up: its answer will decide nothing.
    pub fn admit(&mut self, now: Instant) -> Option<Admitted> {
        match self.state {
            State::Closed => Some(Admitted {
                epoch: self.epoch,
                probe: false,
            }),
            State::Open { until: due, passed } if due <= now => Some(self.probe(now, due, passed)),
            State::HalfOpen { due, until, passed } if until <= now => {
                Some(self.probe(now, due, passed))
            }
            State::Open { .. } | State::HalfOpen { .. } => None,
        }
    }

    /// Lets a request through as a probe before one is due, unless one is out.
    pub fn admit_early(&mut self, now: Instant) -> Option<Admitted> {
        match self.state {
            State::Open { until, passed } => Some(self.probe(now, until.min(now), passed)),
            _ => self.admit(now),
        }
    }

    fn probe(&mut self, now: Instant, due: Instant, passed: u32) -> Admitted {
        self.epoch += 1;
        let patience = self.backoff().max();
        self.state = State::HalfOpen {
            due,
            until: after(now, patience),
            passed,
        };
        Admitted {
            epoch: self.epoch,
            probe: true,
        }
    }

    /// Records a result. `word` is a random word for the wait; `may_eject` is asked before an ejection.
    pub fn record(
        &mut self,
        now: Instant,
        admitted: Admitted,
        outcome: &Outcome,
        word: u64,
        may_eject: impl FnOnce() -> bool,
    ) -> Option<Transition> {
        if admitted.epoch != self.epoch {
            return None;
        }
        let extensions = self.policy.as_ref().map(|policy| &policy.extensions);
        let slow = extensions.and_then(|extensions| extensions.slow_call);
        let outcome = &judge_slowness(*outcome, slow);
        match self.state {
            State::Closed => self.record_closed(now, outcome, word, may_eject),
            State::HalfOpen { due, passed, .. } if admitted.probe => {
                Some(self.record_probe(now, due, passed, outcome, word))
            }
            _ => None,
        }
    }

    fn record_closed(
        &mut self,
        now: Instant,
        outcome: &Outcome,
        word: u64,
        may_eject: impl FnOnce() -> bool,
    ) -> Option<Transition> {
        let policy = self.policy.as_mut()?;
        match outcome.verdict {
            Verdict::Neutral => return None,
            Verdict::Success => self.failures = 0,
            Verdict::Failure => self.failures = self.failures.saturating_add(1),
        }
        if let Some(window) = &mut policy.window {
            window.record(now, outcome.is_failure() || outcome.rate_limited);
        }
        let failures = self.failures;
        let why: Cow<'static, str> = if policy.max_failures > 0 && failures >= policy.max_failures {
            format!("{failures} failures in a row").into()
        } else {
            policy.window.as_ref()?.verdict()?.into()
        };
        if !may_eject() {
            return Some(Transition::Refused { why });
        }
        self.forgive(now);
        Some(self.open(now, why, outcome, word))
    }

    fn record_probe(
        &mut self,
        now: Instant,
        due: Instant,
        passed: u32,
        outcome: &Outcome,
        word: u64,
    ) -> Transition {
        let strict = self.policy.as_ref().is_some_and(|policy| policy.strict);
        match outcome.verdict {
            Verdict::Success if strict && outcome.rate_limited => {
                self.open(now, "the probe was rate-limited".into(), outcome, word)
            }
            Verdict::Success if passed + 1 < self.probes() => {
                self.epoch += 1;
                self.state = State::Open {
                    until: due,
                    passed: passed + 1,
                };
                Transition::ProbePassed
            }
            Verdict::Success => {
                self.close();
                self.closed_at = Some(now);
                Transition::Closed
            }
            Verdict::Failure => self.open(now, "the probe failed".into(), outcome, word),
            Verdict::Neutral => {
                self.epoch += 1;
                self.state = State::Open { until: due, passed };
                Transition::ProbeReturned
            }
        }
    }

    fn open(
        &mut self,
        now: Instant,
        why: Cow<'static, str>,
        outcome: &Outcome,
        word: u64,
    ) -> Transition {
        let backoff = self.backoff();
        let mut wait = backoff::delay(&backoff, self.trips, word);
        let respects = |policy: &Policy| policy.extensions.respect_retry_after;
        if let Some(hint) = outcome.retry_after
            && self.policy.as_ref().is_some_and(respects)
        {
            wait = wait.max(hint.clamp(backoff.min(), backoff.max()));
        }
        let until = after(now, wait);
        self.trips = self.trips.saturating_add(1);
        self.epoch += 1;
        self.failures = 0;
        self.state = State::Open { until, passed: 0 };
        Transition::Opened { why, until }
    }

    // What was ejected before counts less after a time in service, or not at all without a memory.
    fn forgive(&mut self, now: Instant) {
        let memory = self.policy.as_ref();
        let memory = memory.and_then(|policy| policy.extensions.memory);
        let (Some(memory), Some(since)) = (memory, self.closed_at) else {
            self.trips = 0;
            return;
        };
        let healthy = now.saturating_duration_since(since).as_nanos();
        let forgiven = healthy / memory.as_nanos().max(1);
        let forgiven = u32::try_from(forgiven).unwrap_or(u32::MAX);
        self.trips = self.trips.saturating_sub(forgiven);
    }

    /// Closed, as if nothing had been learned. What is in flight decides nothing any more.
    pub(crate) fn reset(&mut self) {
        self.close();
        self.trips = 0;
    }

    fn close(&mut self) {
        self.epoch += 1;
        self.failures = 0;
        self.closed_at = None;
        self.state = State::Closed;
        if let Some(Policy {
            window: Some(window),
            ..
        }) = &mut self.policy
        {
            window.clear();
        }
    }

    /// The first wait of the backoff.
    pub(crate) fn first_wait(&self, word: u64) -> Duration {
        backoff::delay(&self.backoff(), 0, word)
    }

    fn probes(&self) -> u32 {
        let policy = self.policy.as_ref();
        policy.map_or(1, |policy| policy.extensions.probes.max(1))
    }

    // Without a policy nothing opens; the default only spares an unwrap.
    fn backoff(&self) -> ExponentialBackoff {
        let policy = self.policy.as_ref();
        policy.map_or(ExponentialBackoff::ACCRUAL, |policy| policy.backoff)
    }
}

// A success that took too long is a failure, and so is a caller that left after that long.
fn judge_slowness(mut outcome: Outcome, slow: Option<Duration>) -> Outcome {
    let time = match outcome.verdict {
        Verdict::Success => outcome.took,
        Verdict::Neutral => outcome.waited,
        Verdict::Failure => None,
    };
    if let (Some(slow), Some(time)) = (slow, time)
        && time > slow
    {
        outcome.verdict = Verdict::Failure;
    }
    outcome
}

// === impl Policy ===

impl Policy {
    fn new(accrual: &FailureAccrual, now: Instant) -> Self {
        let unified = match accrual {
            FailureAccrual::Unified(unified) => Some(unified),
            FailureAccrual::Consecutive(_) => None,
        };
        Self {
            max_failures: accrual.max_consecutive_failures(),
            backoff: accrual.probe_backoff(),
            window: unified.and_then(|unified| Window::new(unified, now)),
            extensions: accrual.extensions().clone(),
            strict: unified.is_some(),
        }
    }
}
