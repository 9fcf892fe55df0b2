//! One breaker that many callers share, and a caller's passage through it.

use std::borrow::Cow;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::error::{Evidence, Next, Refusal};
use super::handle::{BreakerSnapshot, Forced};
use super::settings::Settings;
use super::{Admitted, Breaker, Gate, Transition};
use crate::core::draw::{Purpose, draw};
use crate::core::observe::Decision;
use crate::core::sync::{AtomicBool, AtomicU64, Mutex, Ordering, lock};
use crate::core::time::after;
use crate::policy::FailureAccrual;
use crate::verdict::{Outcome, Verdict};

/// The state that a layer's services, its handles and the calls in flight share.
///
/// A closed breaker admits by two loads; what a verdict changes is changed under the lock and then published.
pub(super) struct Shared {
    settings: Settings,
    // Whether slow calls count, so that calls must be timed.
    timed: bool,
    closed: AtomicBool,
    epoch: AtomicU64,
    // Closed, and neither a success nor a neutral result would change anything.
    calm: AtomicBool,
    changed: Arc<Notify>,
    state: Mutex<State>,
}

struct State {
    breaker: Breaker,
    forced: Option<Forced>,
    // Since when it is in the hands of an operator.
    forced_at: Instant,
    // What it opened for; kept while it is open and after.
    evidence: Arc<Evidence>,
    failed_probes: u32,
    refused: u64,
    // The random word for the next wait, and how many there were.
    word: u64,
    draws: u64,
}

/// One call's way through a breaker. Dropped without a verdict it is neutral, with the time waited; a probe's place is
/// free again.
pub(super) struct Passage {
    // None: there is no breaker to pass.
    shared: Option<Arc<Shared>>,
    admitted: Option<Admitted>,
    // A dry run let through what would have been refused: its result decides nothing.
    waved_through: bool,
    issued: Option<Instant>,
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(settings: Settings, now: Instant) -> Self {
        let breaker = Breaker::new(Some(&settings.accrual), now);
        let evidence = Evidence {
            breaker: Arc::clone(&settings.name),
            why: Cow::Borrowed("it never was"),
            opened: now,
        };
        let calm = is_calm(&settings.accrual, &breaker);
        Self {
            timed: settings.accrual.extensions().slow_call.is_some(),
            closed: AtomicBool::new(true),
            epoch: AtomicU64::new(breaker.epoch()),
            calm: AtomicBool::new(calm),
            changed: Arc::default(),
            state: Mutex::new(State {
                breaker,
                forced: None,
                forced_at: now,
                evidence: Arc::new(evidence),
                failed_probes: 0,
                refused: 0,
                word: draw(settings.seed, 0, Purpose::ProbeBackoff, 0),
                draws: 0,
            }),
            settings,
        }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.settings.name
    }

    /// Whether requests flow.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Nothing much is lost if it is forgotten: it is closed by its own rules, or nobody has come for its probe for as
    /// long as the longest wait for one.
    pub(super) fn is_forgettable(&self, now: Instant) -> bool {
        let state = lock(&self.state);
        state.forced.is_none()
            && match state.breaker.gate() {
                Gate::Closed => true,
                Gate::Open { until } => {
                    after(until, self.settings.accrual.probe_backoff().max()) <= now
                }
                Gate::HalfOpen { .. } => false,
            }
    }

    /// Whether callers of an open breaker wait.
    pub(super) fn waits(&self) -> bool {
        self.settings.waits
    }

    /// Told whenever it may have become able to admit.
    pub(super) fn changed(&self) -> &Arc<Notify> {
        &self.changed
    }

    // The epoch first: should it open in between, the admission is from before and decides nothing.
    fn admit(&self) -> Result<(Admitted, Option<Instant>), Refusal> {
        let epoch = self.epoch.load(Ordering::Acquire);
        if self.is_closed() {
            let admitted = Admitted {
                epoch,
                probe: false,
            };
            return Ok((admitted, self.timed.then(Instant::now)));
        }
        let now = Instant::now();
        let mut state = lock(&self.state);
        let forced = state.forced == Some(Forced::Open);
        if !forced && let Some(admitted) = state.breaker.admit(now) {
            self.publish(&state);
            return Ok((admitted, Some(now)));
        }
        let next = match state.breaker.gate() {
            _ if forced => Next::Unknown,
            Gate::Open { until } => Next::Probe(until),
            Gate::HalfOpen { until } => Next::ProbeLost(until),
            Gate::Closed => Next::Unknown,
        };
        if self.settings.dry_run || !self.settings.waits {
            state.refused = state.refused.saturating_add(1);
        }
        Err(Refusal::new(Arc::clone(&state.evidence), now, next))
    }

    fn record(&self, admitted: Admitted, outcome: &Outcome) {
        if outcome.verdict != Verdict::Failure
            && !admitted.probe
            && self.calm.load(Ordering::Acquire)
        {
            return;
        }
        let now = Instant::now();
        let mut state = lock(&self.state);
        if state.forced.is_some() {
            return;
        }
        let word = state.word;
        let was_closed = state.breaker.gate() == Gate::Closed;
        // There is one service behind it: a floor under a pool means nothing here.
        let transition = state
            .breaker
            .record(now, admitted, outcome, || word, || true);
        if let Some(Transition::Opened { why, .. }) = &transition {
            state.draws = state.draws.wrapping_add(1);
            state.word = draw(self.settings.seed, state.draws, Purpose::ProbeBackoff, 0);
            if was_closed {
                state.failed_probes = 0;
                state.evidence = self.evidence(why.clone(), now);
            } else {
                state.failed_probes = state.failed_probes.saturating_add(1);
            }
        }
        self.publish(&state);
        drop(state);
        if let Some(transition) = transition {
            self.tell(transition, now);
        }
    }

    fn evidence(&self, why: Cow<'static, str>, opened: Instant) -> Arc<Evidence> {
        Arc::new(Evidence {
            breaker: Arc::clone(self.name()),
            why,
            opened,
        })
    }

    /// Holds it open or closed, or lets go (none) and forgets what was learned.
    pub(super) fn force(&self, forced: Option<Forced>, now: Instant) {
        let mut state = lock(&self.state);
        // A new epoch: what is in flight decides nothing any more.
        state.breaker.reset();
        state.forced = forced;
        state.forced_at = now;
        state.failed_probes = 0;
        let why = Cow::Borrowed("opened by hand");
        if forced == Some(Forced::Open) {
            state.evidence = self.evidence(why.clone(), now);
        }
        let was_closed = self.is_closed();
        self.publish(&state);
        drop(state);
        self.changed.notify_waiters();
        if forced == Some(Forced::Open) {
            self.opened(why, None, now);
        } else if !was_closed {
            self.tell(Transition::Closed, now);
        }
    }

    pub(super) fn snapshot(&self, now: Instant) -> BreakerSnapshot {
        let state = lock(&self.state);
        let since = match state.forced {
            Some(_) => state.forced_at,
            None => state.evidence.opened,
        };
        let open = state.breaker.gate() != Gate::Closed || state.forced == Some(Forced::Open);
        BreakerSnapshot {
            name: Arc::clone(self.name()),
            at: now,
            gate: state.breaker.gate(),
            forced: state.forced,
            since: (open || state.forced.is_some()).then_some(since),
            why: open.then(|| state.evidence.why.clone()),
            failures: state.breaker.failures(),
            failed_probes: state.failed_probes,
            refused: state.refused,
            dry_run: self.settings.dry_run,
        }
    }

    fn publish(&self, state: &State) {
        let closed = match state.forced {
            Some(forced) => forced == Forced::Closed,
            None => state.breaker.gate() == Gate::Closed,
        };
        let calm = closed && is_calm(&self.settings.accrual, &state.breaker);
        self.epoch.store(state.breaker.epoch(), Ordering::Release);
        self.calm.store(calm, Ordering::Release);
        self.closed.store(closed, Ordering::Release);
    }

    // Called without the lock: an observer may look at this breaker.
    fn tell(&self, transition: Transition, now: Instant) {
        // Those who wait look again: it closed, or its next probe is due at another time. First, should an observer
        // panic.
        self.changed.notify_waiters();
        match transition {
            Transition::Opened { why, until } => self.opened(why, Some(until), now),
            Transition::Closed => {
                tracing::info!(breaker = %self.name(), dry_run = self.settings.dry_run, "closed");
                let decision = || Decision::BreakerClosed {
                    breaker: Arc::clone(self.name()),
                };
                self.settings.observers.tell(now, decision);
            }
            _ => {}
        }
    }

    fn opened(&self, why: Cow<'static, str>, until: Option<Instant>, now: Instant) {
        tracing::warn!(breaker = %self.name(), dry_run = self.settings.dry_run, %why, "opened");
        self.settings
            .observers
            .tell(now, || Decision::BreakerOpened {
                breaker: Arc::clone(self.name()),
                why,
                until,
            });
    }

    fn tell_refusal(&self, refusal: &Refusal) {
        let dry_run = self.settings.dry_run;
        if dry_run {
            tracing::debug!(breaker = %self.name(), "a call would have been refused");
        }
        let decision = || Decision::BreakerRefused {
            breaker: Arc::clone(self.name()),
            retry_at: refusal.retry_at(),
            dry_run,
        };
        self.settings.observers.tell(refusal.at(), decision);
    }
}

// Successes matter where there is a run of failures to end, a rate to raise, or a threshold for slow ones.
fn is_calm(accrual: &FailureAccrual, breaker: &Breaker) -> bool {
    matches!(accrual, FailureAccrual::Consecutive(policy) if policy.extensions.slow_call.is_none())
        && breaker.failures() == 0
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("name", self.name())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

// === impl Passage ===

impl Passage {
    pub(super) fn new(shared: Option<Arc<Shared>>) -> Self {
        Self {
            shared,
            admitted: None,
            waved_through: false,
            issued: None,
        }
    }

    pub(super) fn shared(&self) -> Option<&Arc<Shared>> {
        self.shared.as_ref()
    }

    /// Whether it was admitted, and nothing has changed since.
    pub(super) fn is_current(&self) -> bool {
        match (&self.shared, self.admitted) {
            (Some(_), _) if self.waved_through => true,
            (Some(shared), Some(admitted)) => {
                admitted.epoch == shared.epoch.load(Ordering::Acquire)
            }
            (Some(_), None) => false,
            (None, _) => true,
        }
    }

    /// Asks to be admitted.
    pub(super) fn enter(&mut self) -> Result<(), Refusal> {
        let Some(shared) = &self.shared else {
            return Ok(());
        };
        match shared.admit() {
            Ok((admitted, issued)) => {
                // Held from here on, whatever an observer does.
                self.admitted = Some(admitted);
                self.issued = issued;
                if admitted.probe {
                    let now = issued.unwrap_or_else(Instant::now);
                    let decision = || Decision::BreakerProbing {
                        breaker: Arc::clone(shared.name()),
                    };
                    shared.settings.observers.tell(now, decision);
                }
                Ok(())
            }
            Err(refusal) if shared.settings.dry_run => {
                self.admitted = None;
                self.waved_through = true;
                shared.tell_refusal(&refusal);
                Ok(())
            }
            Err(refusal) => {
                self.admitted = None;
                if !shared.waits() {
                    shared.tell_refusal(&refusal);
                }
                Err(refusal)
            }
        }
    }

    /// How it ended.
    pub(super) fn settle(&mut self, mut outcome: Outcome) {
        if outcome.took.is_none() && outcome.verdict != Verdict::Neutral {
            outcome.took = self.elapsed();
        }
        self.finish(&outcome);
    }

    fn elapsed(&self) -> Option<std::time::Duration> {
        let issued = self.issued?;
        Some(Instant::now().saturating_duration_since(issued))
    }

    fn finish(&mut self, outcome: &Outcome) {
        if let (Some(shared), Some(admitted)) = (&self.shared, self.admitted.take()) {
            shared.record(admitted, outcome);
        }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        if self.admitted.is_none() {
            return;
        }
        let mut outcome = Outcome::NEUTRAL;
        outcome.waited = self.elapsed();
        self.finish(&outcome);
    }
}
