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

use self::window::Window;
use crate::core::backoff;
use crate::core::time::after;
use crate::policy::{ExponentialBackoff, FailureAccrual};
use crate::verdict::{Outcome, Verdict};

/// One endpoint's breaker.
#[derive(Clone, Debug)]
pub struct Breaker {
    policy: Option<Policy>,
    state: State,
    epoch: u64,
    // Failures in a row, while closed.
    failures: u32,
    // Ejections since it was last closed.
    trips: u32,
}

#[derive(Clone, Debug)]
struct Policy {
    max_failures: u32,
    backoff: ExponentialBackoff,
    window: Option<Window>,
    slow_call: Option<Duration>,
    // A rate-limited probe has failed.
    strict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen { until: Instant },
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
    HalfOpen,
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
        }
    }

    /// Another policy. What was learned stays, except that no policy closes the breaker.
    pub fn configure(&mut self, policy: Option<&FailureAccrual>, now: Instant) {
        self.policy = policy.map(|accrual| Policy::new(accrual, now));
        if self.policy.is_none() && self.state != State::Closed {
            self.close();
        }
    }

    /// Whether a request may go through.
    pub fn gate(&self) -> Gate {
        match self.state {
            State::Closed => Gate::Closed,
            State::Open { until } => Gate::Open { until },
            State::HalfOpen { .. } => Gate::HalfOpen,
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
    pub fn admit(&mut self, now: Instant) -> Option<Admitted> {
        match self.state {
            State::Closed => Some(Admitted {
                epoch: self.epoch,
                probe: false,
            }),
            State::Open { until } if until <= now => {
                self.epoch += 1;
                self.state = State::HalfOpen { until };
                Some(Admitted {
                    epoch: self.epoch,
                    probe: true,
                })
            }
            State::Open { .. } | State::HalfOpen { .. } => None,
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
        let slow = self.policy.as_ref().and_then(|policy| policy.slow_call);
        let outcome = &judge_slowness(*outcome, slow);
        match self.state {
            State::Closed => self.record_closed(now, outcome, word, may_eject),
            State::HalfOpen { until } if admitted.probe => {
                Some(self.record_probe(now, until, outcome, word))
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
        Some(self.open(now, why, word))
    }

    fn record_probe(
        &mut self,
        now: Instant,
        due: Instant,
        outcome: &Outcome,
        word: u64,
    ) -> Transition {
        let strict = self.policy.as_ref().is_some_and(|policy| policy.strict);
        match outcome.verdict {
            Verdict::Success if strict && outcome.rate_limited => {
                self.open(now, "the probe was rate-limited".into(), word)
            }
            Verdict::Success => {
                self.close();
                Transition::Closed
            }
            Verdict::Failure => self.open(now, "the probe failed".into(), word),
            Verdict::Neutral => {
                self.epoch += 1;
                self.state = State::Open { until: due };
                Transition::ProbeReturned
            }
        }
    }

    fn open(&mut self, now: Instant, why: Cow<'static, str>, word: u64) -> Transition {
        // Without a policy nothing opens; the default only spares an unwrap.
        let backoff = self
            .policy
            .as_ref()
            .map_or(ExponentialBackoff::ACCRUAL, |policy| policy.backoff);
        let until = after(now, backoff::delay(&backoff, self.trips, word));
        self.trips = self.trips.saturating_add(1);
        self.epoch += 1;
        self.failures = 0;
        self.state = State::Open { until };
        Transition::Opened { why, until }
    }

    fn close(&mut self) {
        self.epoch += 1;
        self.failures = 0;
        self.trips = 0;
        self.state = State::Closed;
        if let Some(Policy {
            window: Some(window),
            ..
        }) = &mut self.policy
        {
            window.clear();
        }
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
            slow_call: accrual.slow_call_threshold(),
            strict: unified.is_some(),
        }
    }
}
