use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::gatekeeper::{Gatekeeper, Terms};
use super::loaded::{Aside, Fast, Loaded};
use super::{Endpoint, Pool};
use crate::breaker::{Admitted, BreakerSnapshot, Forced, Gate, Transition};
use crate::core::draw::{Purpose, draw};
use crate::core::observe::Decision;
use crate::core::sync::{AtomicU64, Mutex, MutexGuard, Ordering, lock};
use crate::core::time::nanos;
use crate::load::{Cost, Estimate, Rules};
use crate::policy::PeakEwma;
use crate::verdict::{Issuer, Note, Outcome, Ticket, Verdict};

/// What is known about one endpoint of one backend: requests in flight, latency, failures, breaker.
///
/// Picks read its atomics, the first of which share a cache line; what a verdict changes is changed under its lock and
/// then published. In the order of use: of many cells none is in a cache, and each line counts. It never moves: snapshots of the set, and tickets, share it.
#[repr(C)]
pub(crate) struct Cell {
    loaded: Loaded,
    // Closed: the breaker's epoch. Else when a probe is due, with the highest bit set, and the next while one is out.
    gate: AtomicU64,
    // What a result changes, and nobody compares by, begins here: the second word of its failures, the lock, and the first
    // fields under it.
    fast: Fast,
    state: Mutex<Gatekeeper>,
    pool: Arc<Pool>,
    aside: Aside,
    // When it was last ejected, or a probe of it failed, in nanoseconds.
    opened: AtomicU64,
    address: SocketAddr,
}

/// Whether a cell can take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Availability {
    Open,
    ProbeDue,
    /// Not before this moment, in nanoseconds.
    Ejected(u64),
    /// A probe is out; another is due at this moment.
    Probing(u64),
    /// Not before somebody lets it.
    Held,
}

const SHUT: u64 = 1 << 63;
const HALF_OPEN: u64 = 1 << 62;
// Shut, but only in a dry run.
const WATCHED: u64 = 1 << 61;
const PAYLOAD: u64 = WATCHED - 1;
// When a probe is due that never is: it is held open by hand.
const NEVER: u64 = PAYLOAD;

// === impl Cell ===

impl Cell {
    pub(crate) fn new(
        address: SocketAddr,
        pool: Arc<Pool>,
        terms: &Terms,
        ewma: PeakEwma,
        now: Instant,
    ) -> Self {
        let at = pool.epoch.nanos(now);
        Self {
            loaded: Loaded::new(Estimate::since(ewma, at), at),
            gate: AtomicU64::new(0),
            fast: Fast::new(),
            pool,
            state: Mutex::new(Gatekeeper::new(terms, now)),
            aside: Aside::new(at),
            opened: AtomicU64::new(0),
            address,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    #[cfg(test)]
    pub(crate) fn now(&self) -> u64 {
        self.pool.epoch.nanos(Instant::now())
    }

    pub(crate) fn pending(&self) -> usize {
        self.loaded.pending() as usize
    }

    #[cfg(test)]
    pub(crate) fn gate(&self) -> Gate {
        lock(&self.state).breaker().gate()
    }

    /// The latency estimate.
    pub(crate) fn latency_now(&self, now: u64) -> Duration {
        let decay = self.pool.load.decay();
        Duration::from_nanos(self.loaded.latency().get(now, decay))
    }

    /// What one more request would cost here. `uneven` if weights matter.
    #[inline]
    pub(crate) fn cost(&self, now: u64, rules: &Rules, uneven: bool, tolerance: u32) -> Cost {
        let aside = (&self.fast, &self.aside);
        let reading = self.loaded.read(now, rules, aside, uneven);
        Cost::of(&reading, rules, tolerance)
    }

    /// The same in one number, where [the rules](Rules::are_plain) and the endpoint are of the plainest kind.
    #[inline(always)]
    pub(crate) fn plain_cost(&self, now: u64, rules: &Rules) -> Option<u128> {
        self.loaded.plain_cost(now, rules.decay)
    }

    #[cfg(test)]
    pub(crate) fn reading(&self) -> crate::load::Reading {
        let rules = self.pool.load.rules();
        let aside = (&self.fast, &self.aside);
        self.loaded.read(self.now(), &rules, aside, true)
    }

    /// Its share of the traffic, in 2^-16ths of an ordinary endpoint's.
    pub(crate) fn weight(&self, now: u64, rules: &Rules) -> u32 {
        self.aside.weight(now, rules)
    }

    /// Whether it was not chosen for so long that it should be; true for one caller only.
    #[inline]
    pub(crate) fn wants_a_turn(&self, now: u64, rules: &Rules) -> bool {
        self.loaded.wants_a_turn(now, rules)
    }

    /// Whether there is nothing special about its gate.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.gate.load(Ordering::Acquire) & SHUT == 0
    }

    /// Whether it can take a request at `now`, in nanoseconds.
    #[inline]
    pub(crate) fn availability(&self, now: u64) -> Availability {
        let gate = self.gate.load(Ordering::Acquire);
        if gate & SHUT == 0 {
            return Availability::Open;
        }
        self.availability_of_one_shut(gate, now)
    }

    #[inline(never)]
    fn availability_of_one_shut(&self, gate: u64, now: u64) -> Availability {
        if gate & WATCHED != 0 {
            return Availability::Open;
        }
        let due = gate & PAYLOAD;
        if due == NEVER {
            Availability::Held
        } else if due <= now {
            Availability::ProbeDue
        } else if gate & HALF_OPEN != 0 {
            Availability::Probing(due)
        } else if self.opened() < self.pool.outage_ended() {
            // It was ejected in an outage that is over.
            Availability::ProbeDue
        } else {
            Availability::Ejected(due)
        }
    }

    /// When it was last ejected, or a probe of it failed, in nanoseconds.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Acquire)
    }

    /// Whether it can take a request at `now`, be it as a probe.
    #[inline]
    pub(crate) fn is_able(&self, now: u64) -> bool {
        matches!(
            self.availability(now),
            Availability::Open | Availability::ProbeDue
        )
    }

    /// Whether its probe, which is due, waits for a request that may be repeated elsewhere.
    pub(crate) fn keeps_probe(&self, now: u64) -> bool {
        let due = self.gate.load(Ordering::Acquire) & PAYLOAD;
        // Those of an outage are due when it ends.
        let ended = self.pool.outage_ended();
        let due = if due <= now { due } else { ended };
        self.pool.guard.keeps_probe(now, due)
    }

    /// A ticket for one request, if it can take one.
    #[cfg(test)]
    pub(crate) fn admit(self: &Arc<Self>, now: Instant, request: u64) -> Option<Ticket> {
        let now = (now, self.pool.epoch.nanos(now));
        let admitted = self.admission(now, false)?;
        let ticket = self.ticket(now, request, admitted);
        if admitted.probe {
            self.tell_probing(now.0, request);
        }
        Some(ticket)
    }

    /// Lets a request through that gets its [`ticket`](Self::ticket) at once: at a moment that is known in the pool's
    /// nanoseconds, too; `early` as a probe before one is due, unless one is out.
    #[inline]
    pub(crate) fn admission(&self, now: (Instant, u64), early: bool) -> Option<Admitted> {
        let gate = self.gate.load(Ordering::Acquire);
        if gate & SHUT == 0 {
            return Some(Admitted {
                epoch: gate,
                probe: false,
            });
        }
        self.admission_of_one_shut(now, early)
    }

    #[inline(never)]
    fn admission_of_one_shut(&self, (now, at): (Instant, u64), early: bool) -> Option<Admitted> {
        let gate = self.gate.load(Ordering::Acquire);
        if gate & SHUT == 0 {
            return Some(Admitted {
                epoch: gate,
                probe: false,
            });
        }
        let mut state = lock(&self.state);
        let early = early || self.availability(at) == Availability::ProbeDue;
        let admitted = state.admit(now, early)?;
        self.publish(&state);
        Some(admitted)
    }

    /// The same, though it is ejected. The result decides nothing.
    pub(crate) fn admission_anyway(&self) -> Option<Admitted> {
        lock(&self.state).admit_anyway()
    }

    /// Tells that it was let through so, once it has its ticket.
    #[cold]
    pub(crate) fn tell_panicked(&self, now: Instant, request: u64) {
        let endpoint = self.address;
        let decision = || Decision::Panicked { endpoint, request };
        self.pool.observers.tell(now, decision);
    }

    /// How long the pool waits for its next turn, in nanoseconds.
    pub(crate) fn turn_wait(&self, request: u64) -> u64 {
        let word = draw(self.pool.seed, request, Purpose::ProbeBackoff, 1);
        self.pool.turn_wait(lock(&self.state).breaker(), word)
    }

    /// The ticket of a request that was let through.
    // Where it is kept it is made.
    #[inline(always)]
    pub(crate) fn ticket(
        self: &Arc<Self>,
        (now, at): (Instant, u64),
        request: u64,
        admitted: Admitted,
    ) -> Ticket {
        self.loaded.choose(at);
        let mut note = Note::new(now, request, admitted.epoch, admitted.probe);
        note.at = at;
        note.pending_until = self.pool.load.pending_until();
        Ticket::new(Arc::clone(self) as _, note)
    }

    /// Tells of a probe, once it has its ticket.
    #[cold]
    pub(crate) fn tell_probing(&self, now: Instant, request: u64) {
        self.pool.tell(now, || Decision::Probing {
            endpoint: self.address,
            request,
        });
    }

    /// It joined the set, or its metadata may have changed. What was learned stays.
    pub(crate) fn join(&self, endpoint: &Endpoint, now: Instant) {
        self.aside.set_weight(endpoint.weight_word());
        if lock(&self.state).join(&self.pool.guard) {
            self.aside.start(self.pool.epoch.nanos(now));
            self.expect_probe();
        }
    }

    /// It left the set. What was learned stays.
    pub(crate) fn leave(&self) {
        lock(&self.state).leave(&self.pool.guard);
    }

    /// Another policy. What was learned stays.
    pub(crate) fn configure(&self, terms: &Terms, now: Instant) {
        let mut state = lock(&self.state);
        state.configure(terms, now, &self.pool.guard);
        self.publish(&state);
    }

    /// Holds it open or closed, or lets go (none) and forgets what was learned.
    pub(crate) fn force(&self, forced: Option<Forced>) {
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.force(forced, now, &self.pool.guard);
        self.opened
            .store(self.pool.epoch.nanos(now), Ordering::Release);
        self.publish(&state);
        drop(state);
        let endpoint = self.address;
        let what = match forced {
            Some(Forced::Open) => "opened",
            Some(Forced::Closed) => "closed",
            None => "reset",
        };
        let decision = || Decision::ByHand { endpoint, what };
        self.pool.tell(now, decision);
        self.pool.notify();
    }

    pub(crate) fn backend(&self) -> &str {
        &self.pool.name
    }

    /// What its breaker does, and why.
    pub(crate) fn breaker(&self, now: Instant) -> BreakerSnapshot {
        let name = format!("{} {}", self.pool.name, self.address);
        lock(&self.state).snapshot(name.into(), now)
    }

    fn publish(&self, state: &Gatekeeper) {
        let breaker = state.breaker();
        let closed = breaker.epoch() & PAYLOAD;
        let gate = match (state.forced(), breaker.gate()) {
            (Some(Forced::Open), _) => NEVER | SHUT,
            (Some(Forced::Closed), _) | (None, Gate::Closed) => closed,
            (None, Gate::Open { until }) => self.due(until) | SHUT,
            (None, Gate::HalfOpen { until }) => self.due(until) | SHUT | HALF_OPEN,
        };
        let watched = gate & SHUT != 0 && state.is_dry_run() && state.forced().is_none();
        let gate = gate | if watched { WATCHED } else { 0 };
        if self.gate.swap(gate, Ordering::AcqRel) != gate {
            self.pool.guard.changed();
        }
        self.expect_probe();
    }

    // So that it is found when it is due, in however large a set.
    fn expect_probe(&self) {
        let gate = self.gate.load(Ordering::Acquire);
        if gate & SHUT != 0 && gate & WATCHED == 0 && gate & PAYLOAD != NEVER {
            self.pool.expect_probe(gate & PAYLOAD);
        }
    }

    fn due(&self, until: Instant) -> u64 {
        self.pool.epoch.nanos(until).min(NEVER - 1)
    }

    #[inline(always)]
    fn record(&self, note: &Note, outcome: &Outcome, sample: Sample, now: (Instant, u64)) {
        let at = now.1;
        let load = &self.pool.load;
        let mut state = lock(&self.state);
        // Whoever left did not wait any longer than it says, however late it is told.
        let elapsed = outcome.waited.map_or(at.saturating_sub(note.at), nanos);
        self.sample(at, elapsed, sample, load.decay());
        if outcome.verdict != Verdict::Neutral {
            let failed = outcome.is_failure();
            self.loaded.record(at, failed, &self.fast);
        }
        if (outcome.is_failure() || outcome.rate_limited) && load.penalty_decay() > 0 {
            let rules = load.rules();
            let hint = outcome.retry_after.map_or(0, nanos);
            let weight = rules.penalty.max(hint.min(rules.max_retry_after));
            self.aside.penalize(at, weight, &rules);
        }
        // What is published is of this moment, under the lock: closed, and of the epoch of the ticket.
        let is_current = note.epoch == self.gate.load(Ordering::Relaxed);
        if !(is_current && state.passes_calmly(at, outcome)) {
            self.record_slowly(state, note, outcome, now);
        }
    }

    #[inline(never)]
    fn record_slowly(
        &self,
        mut state: MutexGuard<'_, Gatekeeper>,
        note: &Note,
        outcome: &Outcome,
        now: (Instant, u64),
    ) {
        let admitted = Admitted {
            epoch: note.epoch,
            probe: note.probe,
        };
        let word = || draw(self.pool.seed, note.request, Purpose::ProbeBackoff, 0);
        let pool = &self.pool;
        let transition = state.record(now, admitted, outcome, word, &pool.guard, &pool.totals);
        let Some(transition) = transition else {
            return;
        };
        self.note_outage(&state, &transition, now.1, note.request);
        self.publish(&state);
        drop(state);
        self.tell(transition, now.0);
    }

    // Only under the lock.
    #[inline]
    fn sample(&self, at: u64, elapsed: u64, sample: Sample, decay: u64) {
        let mut latency = self.loaded.latency();
        match sample {
            Sample::Answer => latency.observe(at, elapsed, decay),
            Sample::AtLeast => latency.raise(at, elapsed, decay),
            Sample::None => return,
        }
        self.loaded.set_latency(latency);
    }

    // What a transition means for the pool as a whole.
    fn note_outage(&self, state: &Gatekeeper, transition: &Transition, at: u64, request: u64) {
        let pool = &self.pool;
        match transition {
            Transition::Opened { .. } => {
                self.opened.store(at, Ordering::Release);
                // The last one: from now on they are probed in turn. A failed probe keeps the turn that was set.
                if pool.turn().is_some_and(|due| due <= at) {
                    let word = draw(pool.seed, request, Purpose::ProbeBackoff, 1);
                    let wait = pool.turn_wait(state.breaker(), word);
                    pool.next_turn(at.saturating_add(wait));
                }
            }
            // Its place is free again, or has to be filled once more.
            Transition::ProbeReturned | Transition::ProbePassed => pool.next_turn(at),
            Transition::Closed => {
                self.aside.start(at);
                if pool.guard.is_down_to_one() {
                    // The first that is back: the others are probed promptly, lest all traffic lands on it alone.
                    pool.end_outage(at);
                }
                if self.opened() < pool.outage_ended() {
                    // What failed while everything did says nothing about one of them.
                    self.loaded.forget_failures(&self.fast);
                }
            }
            Transition::Refused { .. } => {}
        }
    }

    // Called without the lock: an observer may look at this cell.
    fn tell(&self, transition: Transition, now: Instant) {
        let endpoint = self.address;
        self.pool.tell(now, || match &transition {
            Transition::Opened { why, until } => Decision::Opened {
                endpoint,
                why: why.clone(),
                until: *until,
            },
            Transition::Refused { why } => Decision::EjectionRefused {
                endpoint,
                why: why.clone(),
            },
            Transition::Closed => Decision::Closed { endpoint },
            Transition::ProbePassed => Decision::ProbePassed { endpoint },
            Transition::ProbeReturned => Decision::ProbeReturned { endpoint },
        });
        if !matches!(transition, Transition::Refused { .. }) {
            // Those who wait look again: it can serve, or its next probe is due at another time.
            self.pool.notify();
        }
    }
}

impl Issuer for Cell {
    fn sent(&self, note: &Note, now: Instant) {
        // Most are sent at once, and the clock counts in two words what the note has in one.
        let at = if now == note.issued {
            note.at
        } else {
            self.pool.epoch.nanos(now)
        };
        self.loaded.ask(at);
    }

    fn head(&self, note: &Note, now: Instant) {
        if note.sent {
            self.loaded.answer(self.pool.epoch.nanos(now), false);
        }
    }

    fn answered(&self, note: &Note) {
        let now = Instant::now();
        self.loaded.done();
        let decay = self.pool.load.decay();
        let _state = lock(&self.state);
        let at = self.pool.epoch.nanos(now);
        self.sample(at, at.saturating_sub(note.at), Sample::Answer, decay);
    }

    fn unused(&self, note: &Note) {
        self.loaded.done();
        let now = Instant::now();
        let at = self.pool.epoch.nanos(now);
        self.record(note, &Outcome::NEUTRAL, Sample::None, (now, at));
    }

    fn settled(&self, note: &Note, outcome: &Outcome, answered: bool) {
        let now = Instant::now();
        let at = self.pool.epoch.nanos(now);
        let load = !answered;
        // Without a head: silence, or an answer that was an error.
        let owed = note.sent && outcome.took.is_none();
        let silent = outcome.waited.is_some() || outcome.verdict == Verdict::Neutral;
        if owed && !silent {
            self.loaded.answer(at, load);
        } else if load {
            self.loaded.done();
        }
        if owed && silent {
            if outcome.waited.is_some() {
                self.loaded.leave();
            } else {
                self.loaded.excuse();
            }
        }
        let sample = match outcome.verdict {
            // The latency was taken at the first frame.
            _ if answered => Sample::None,
            Verdict::Success => Sample::Answer,
            // However soon it failed, and however early its caller left: it is no faster for that.
            Verdict::Failure => Sample::AtLeast,
            Verdict::Neutral if outcome.waited.is_some() => Sample::AtLeast,
            Verdict::Neutral => Sample::None,
        };
        self.record(note, outcome, sample, (now, at));
    }
}

// What an exchange says about latency.
#[derive(Clone, Copy)]
enum Sample {
    Answer,
    AtLeast,
    None,
}
