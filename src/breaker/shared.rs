//! One breaker that many callers share.

use std::borrow::Cow;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::blocked::{Blocked, Word};
use super::gate::{Admitted, Calm, Gate, Transition};
use super::machine::Breaker;
use super::settings::{Settings, Wait};
use super::snapshot::{BreakerSnapshot, Forced};
use crate::core::draw::{Purpose, draw};
use crate::core::sync::{AtomicU64, AtomicUsize, Mutex, Ordering, lock};
use crate::core::time::{Epoch, after};
use crate::verdict::{Outcome, Verdict};

/// The state that a layer's services, its handles and the calls in flight share.
///
/// Calls that change nothing are admitted, recorded and refused by these words; what changes something is changed under
/// the lock and then published.
pub(super) struct Shared {
    pub(super) settings: Settings,
    // Whether slow calls count, so that calls must be timed.
    timed: bool,
    // Whether successes count.
    counts: bool,
    // Neither: while it is calm, a success is of no interest.
    plain: bool,
    gate: AtomicU64,
    epoch: AtomicU64,
    // Zero: successes matter. Else they change nothing or, where they count, are only counted here until the moment
    // below, in the lower half. The upper half is another one whenever this is published.
    calm: AtomicU64,
    calm_until: AtomicU64,
    pub(super) refused: AtomicU64,
    waiting: AtomicUsize,
    pub(super) changed: Arc<Notify>,
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
    // How many random words were drawn for waits.
    draws: u64,
    // How often `calm` was published.
    published: u32,
}

/// What a breaker opened for.
#[derive(Debug)]
pub(super) struct Evidence {
    pub(super) why: Cow<'static, str>,
    pub(super) opened: Instant,
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(settings: Settings, now: Instant) -> Self {
        let breaker = Breaker::with_rules(Some(Arc::clone(&settings.rules)), now);
        let state = State {
            breaker,
            forced: None,
            forced_at: now,
            evidence: Arc::new(Evidence::new("it never was".into(), now)),
            failed_probes: 0,
            draws: 0,
            published: 0,
        };
        let shared = Self {
            timed: settings.rules.slow_call.is_some(),
            counts: settings.rules.rate.is_some(),
            plain: settings.rules.slow_call.is_none() && settings.rules.rate.is_none(),
            gate: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            calm: AtomicU64::new(0),
            calm_until: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            changed: Arc::default(),
            state: Mutex::new(state),
            settings,
        };
        shared.publish(&mut lock(&shared.state));
        shared
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.settings.name
    }

    /// Whether calls must be timed.
    #[inline]
    pub(super) fn is_timed(&self) -> bool {
        self.timed
    }

    pub(super) fn origin(&self) -> Epoch {
        self.settings.rules.origin
    }

    pub(super) fn evidence(&self) -> Arc<Evidence> {
        Arc::clone(&lock(&self.state).evidence)
    }

    /// Nothing much is lost if it is forgotten: it is closed by its own rules, or nobody has come for its probe for as
    /// long as the longest wait for one.
    pub(super) fn is_forgettable(&self, now: Instant) -> bool {
        let state = lock(&self.state);
        state.forced.is_none()
            && match state.breaker.gate() {
                Gate::Closed => true,
                Gate::Open { until } => after(until, self.settings.rules.backoff.max()) <= now,
                Gate::HalfOpen { .. } => false,
            }
    }

    /// Told whenever it may have become able to admit.
    pub(super) fn changed(&self) -> &Arc<Notify> {
        &self.changed
    }

    #[inline]
    pub(super) fn is_current(&self, admitted: Admitted) -> bool {
        admitted.epoch == self.epoch.load(Ordering::Acquire)
    }

    /// Lets a call through if it is closed and nobody has to know the time.
    // The epoch first: should it open in between, the admission is from before and decides nothing.
    #[inline]
    pub(super) fn admit_untimed(&self) -> Option<Admitted> {
        let epoch = self.epoch.load(Ordering::Acquire);
        let closed = Word::load(&self.gate) == Word::CLOSED;
        (closed && !self.timed).then_some(Admitted {
            epoch,
            probe: false,
        })
    }

    /// Lets a call through, and says when.
    pub(super) fn admit(&self) -> Result<(Admitted, Instant), Blocked> {
        let epoch = self.epoch.load(Ordering::Acquire);
        let gate = Word::load(&self.gate);
        let now = Instant::now();
        if gate == Word::CLOSED {
            let admitted = Admitted {
                epoch,
                probe: false,
            };
            return Ok((admitted, now));
        }
        let at = self.origin().nanos(now);
        if gate.due() > at {
            return Err(Blocked { gate, at });
        }
        self.admit_probe(now, at)
    }

    #[inline(never)]
    fn admit_probe(&self, now: Instant, at: u64) -> Result<(Admitted, Instant), Blocked> {
        let mut state = lock(&self.state);
        if state.forced != Some(Forced::Open)
            && let Some(admitted) = state.breaker.admit(now)
        {
            self.publish(&mut state);
            return Ok((admitted, now));
        }
        let gate = state.word(self.origin());
        Err(Blocked { gate, at })
    }

    /// Whether a result changes nothing: most of all calls. A straggler's does not, either.
    #[inline]
    pub(super) fn ignores(&self, admitted: Admitted, outcome: &Outcome) -> bool {
        self.plain
            && !admitted.probe
            && outcome.verdict == Verdict::Success
            && self.calm.load(Ordering::Acquire) != 0
    }

    pub(super) fn record(&self, admitted: Admitted, outcome: &Outcome) {
        let mut now = None;
        if !admitted.probe {
            match self.settings.rules.verdict(outcome) {
                Verdict::Neutral => return,
                Verdict::Success if self.passes_calmly(admitted, outcome, &mut now) => return,
                _ => {}
            }
        }
        self.record_under_lock(admitted, outcome, now.unwrap_or_else(Instant::now));
    }

    // Whether this success is done with: it changes nothing, or it was counted.
    #[inline]
    fn passes_calmly(
        &self,
        admitted: Admitted,
        outcome: &Outcome,
        now: &mut Option<Instant>,
    ) -> bool {
        let mut calm = self.calm.load(Ordering::Acquire);
        if calm == 0 {
            return false;
        }
        if !self.counts || !self.is_current(admitted) {
            return true;
        }
        if outcome.rate_limited {
            return false;
        }
        let at = self.origin().nanos(*now.get_or_insert_with(Instant::now));
        // Whatever changes takes the word away first, so that all this is of one moment if the word is still the same.
        while at < self.calm_until.load(Ordering::Acquire) && calm as u32 != u32::MAX {
            let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
            match (self.calm).compare_exchange_weak(calm, calm + 1, success, failure) {
                Ok(_) => return true,
                Err(other) if other >> 32 == calm >> 32 => calm = other,
                Err(_) => return false,
            }
        }
        false
    }

    #[inline(never)]
    fn record_under_lock(&self, admitted: Admitted, outcome: &Outcome, now: Instant) {
        let mut state = lock(&self.state);
        if state.forced.is_some() {
            return;
        }
        self.count_calm(&mut state);
        let (seed, draws) = (self.settings.seed, state.draws);
        let word = || draw(seed, draws, Purpose::ProbeBackoff, 0);
        let was_closed = state.breaker.gate() == Gate::Closed;
        // There is one service behind it: a floor under a pool means nothing here.
        let transition = (state.breaker).record(now, admitted, outcome, word, || true);
        if let Some(Transition::Opened { why, .. }) = &transition {
            state.draws = state.draws.wrapping_add(1);
            if was_closed {
                state.failed_probes = 0;
                state.evidence = Arc::new(Evidence::new(why.clone(), now));
            } else {
                state.failed_probes = state.failed_probes.saturating_add(1);
            }
        }
        self.publish(&mut state);
        drop(state);
        if let Some(transition) = transition {
            self.tell(transition, now);
        }
    }

    // Takes over what was counted without the lock. It is published again afterwards.
    fn count_calm(&self, state: &mut State) {
        if self.counts {
            let calm = self.calm.swap(0, Ordering::AcqRel);
            // The lower half.
            state.breaker.credit(calm as u32);
        }
    }

    /// Holds it open or closed, or lets go (none) and forgets what was learned.
    pub(super) fn force(&self, forced: Option<Forced>, now: Instant) {
        let mut state = lock(&self.state);
        self.count_calm(&mut state);
        // A new epoch: what is in flight decides nothing any more.
        state.breaker.reset();
        state.forced = forced;
        state.forced_at = now;
        state.failed_probes = 0;
        let why = Cow::Borrowed("opened by hand");
        if forced == Some(Forced::Open) {
            state.evidence = Arc::new(Evidence::new(why.clone(), now));
        }
        let was_closed = Word::load(&self.gate) == Word::CLOSED;
        self.publish(&mut state);
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
            refused: self.refused.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            dry_run: self.settings.dry_run,
        }
    }

    fn publish(&self, state: &mut State) {
        self.epoch.store(state.breaker.epoch(), Ordering::Release);
        let calm = match state.breaker.calm() {
            Calm::Matter => None,
            // In somebody's hands, nothing counts.
            _ if self.counts && state.forced.is_some() => None,
            Calm::Nothing => Some(0),
            Calm::CountUntil(until) => Some(until),
        };
        if let Some(until) = calm {
            self.calm_until.store(until, Ordering::Release);
            // Never zero.
            state.published = state.published.wrapping_add(1).max(1);
        }
        let word = calm.map_or(0, |_| u64::from(state.published) << 32);
        self.calm.store(word, Ordering::Release);
        state.word(self.origin()).store(&self.gate);
    }

    // All results in the window, and the bad ones.
    #[cfg(test)]
    pub(super) fn window_sums(&self) -> Option<(u64, u64)> {
        let mut state = lock(&self.state);
        self.count_calm(&mut state);
        self.publish(&mut state);
        state.breaker.window_sums()
    }

    /// Takes one of the places of those who wait.
    pub(super) fn take_place(&self, wait: Wait) -> bool {
        let more = |waiting| (waiting < wait.callers).then_some(waiting + 1);
        let (set, fetch) = (Ordering::AcqRel, Ordering::Acquire);
        self.waiting.fetch_update(set, fetch, more).is_ok()
    }

    pub(super) fn give_place_back(&self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gate = Word::load(&self.gate);
        f.debug_struct("Shared")
            .field("name", self.name())
            .field("closed", &(gate == Word::CLOSED))
            .finish_non_exhaustive()
    }
}

// === impl State ===

impl State {
    fn word(&self, origin: Epoch) -> Word {
        Word::new(self.forced, self.breaker.gate(), origin)
    }
}

// === impl Evidence ===

impl Evidence {
    pub(super) fn new(why: Cow<'static, str>, opened: Instant) -> Self {
        Self { why, opened }
    }
}
