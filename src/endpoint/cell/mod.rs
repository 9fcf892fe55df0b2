mod settling;
mod word;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::word::Word;
use super::aside::Aside;
use super::compact::Compact;
use super::gatekeeper::{Gatekeeper, Terms};
use super::loaded::{Fast, Loaded};
use super::{Endpoint, Pool};
use crate::breaker::{Admitted, BreakerSnapshot, Forced, Gate};
use crate::core::draw::Purpose;
use crate::core::observe::Decision;
use crate::core::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::load::{Cost, Estimate, Rules};
use crate::policy::PeakEwma;
use crate::verdict::{Note, Ticket};

/// What is known about one endpoint of one backend: requests in flight, latency, failures, breaker.
///
/// Picks read its atomics, the first of which share a cache line; what a verdict changes is changed under its lock and
/// then published. In the order of use: of many cells none is in a cache, and each line counts. It never moves: snapshots
/// of the set, and tickets, share it.
///
/// There may be a hundred thousand: it is 168 bytes, or 256 with the window of a success rate (on the heap), and nothing
/// more for one that serves as it should. Not in these are the counts of its `Arc`, the user's leaf and metadata (its
/// [`Site`](super::Site)), and what few have: a probe that is out (24 bytes), the story of one that was ejected or held by
/// hand, when that was and its penalty (24), what it is measured by its peers with, the flow label of an IPv6 address.
#[repr(C)]
pub(crate) struct Cell {
    loaded: Loaded,
    // A `Word`.
    gate: AtomicU64,
    // What a result changes, and nobody compares by, begins here: the second word of its failures, the lock, and the first
    // fields under it.
    fast: Fast,
    state: Mutex<Gatekeeper>,
    pool: Arc<Pool>,
    aside: Aside,
    address: Compact,
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

// Successes that nobody hears of are gathered for so long at most (a second, nearly): their moments are forgotten.
const GATHERED: u64 = 1 << 30;

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
            address: address.into(),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (&self.address).into()
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

    // All results in the window and the bad ones, and whether a pick sees that there were any.
    #[cfg(test)]
    pub(crate) fn heard(&self) -> (Option<(u64, u64)>, bool) {
        let mut state = lock(&self.state);
        self.tell_of_calm(&mut state, 0);
        let sums = state.breaker().window_sums();
        (sums, !self.loaded.has_not_failed())
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
        !self.word().is_shut()
    }

    #[inline]
    fn word(&self) -> Word {
        Word(self.gate.load(Ordering::Acquire))
    }

    /// Whether it can take a request at `now`, in nanoseconds.
    #[inline]
    pub(crate) fn availability(&self, now: u64) -> Availability {
        let word = self.word();
        if !word.is_shut() {
            return Availability::Open;
        }
        self.availability_of_one_shut(word, now)
    }

    #[inline(never)]
    fn availability_of_one_shut(&self, word: Word, now: u64) -> Availability {
        if word.is_watched() {
            return Availability::Open;
        }
        let Some(due) = word.due() else {
            return Availability::Held;
        };
        if due <= now {
            Availability::ProbeDue
        } else if word.is_half_open() {
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
        self.aside.opened()
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
        let due = self.word().due().unwrap_or(now);
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
        let word = self.word();
        if !word.is_shut() {
            return Some(Admitted {
                epoch: word.epoch(),
                probe: false,
            });
        }
        self.admission_of_one_shut(now, early)
    }

    #[inline(never)]
    fn admission_of_one_shut(&self, (now, at): (Instant, u64), early: bool) -> Option<Admitted> {
        let word = self.word();
        if !word.is_shut() {
            return Some(Admitted {
                epoch: word.epoch(),
                probe: false,
            });
        }
        let mut state = lock(&self.state);
        let early = early || self.availability(at) == Availability::ProbeDue;
        let admitted = state.admit(now, early)?;
        self.publish(&state, at);
        Some(admitted)
    }

    /// The same, though it is ejected. The result decides nothing.
    pub(crate) fn admission_anyway(&self) -> Option<Admitted> {
        lock(&self.state).admit_anyway()
    }

    /// Tells that it was let through so, once it has its ticket.
    #[cold]
    pub(crate) fn tell_panicked(&self, now: Instant, request: u64) {
        let endpoint = self.address();
        let decision = || Decision::Panicked { endpoint, request };
        self.pool.observers.tell(now, decision);
    }

    /// How long the pool waits for its next turn, in nanoseconds.
    pub(crate) fn turn_wait(&self, request: u64) -> u64 {
        let word = self.pool.dice.draw(request, Purpose::ProbeBackoff, 1);
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
        note.owed = true;
        note.pending_until = self.pool.load.pending_until();
        Ticket::new(Arc::clone(self) as _, note)
    }

    /// Tells of a probe, once it has its ticket.
    #[cold]
    pub(crate) fn tell_probing(&self, now: Instant, request: u64) {
        self.pool.tell(now, || Decision::Probing {
            endpoint: self.address(),
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
        let at = self.pool.epoch.nanos(now);
        let mut state = lock(&self.state);
        self.tell_of_calm(&mut state, at);
        state.configure(terms, now, &self.pool.guard);
        self.publish(&state, at);
    }

    /// Holds it open or closed, or lets go (none) and forgets what was learned.
    pub(crate) fn force(&self, forced: Option<Forced>) {
        let now = Instant::now();
        let at = self.pool.epoch.nanos(now);
        let mut state = lock(&self.state);
        self.tell_of_calm(&mut state, at);
        state.force(forced, now, &self.pool.guard);
        self.aside.eject(at);
        self.publish(&state, at);
        drop(state);
        let endpoint = self.address();
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
        let name = format!("{} {}", self.pool.name, self.address());
        lock(&self.state).snapshot(name.into(), now)
    }

    // What the lock guards, for those who ask without it.
    fn publish(&self, state: &Gatekeeper, at: u64) {
        let breaker = state.breaker();
        let nanos = |until| self.pool.epoch.nanos(until);
        let calm_until = state.calm_until().min(at.saturating_add(GATHERED));
        let closed = Word::closed(breaker.epoch(), calm_until);
        let word = match (state.forced(), breaker.gate()) {
            (Some(Forced::Open), _) => Word::open(None),
            (Some(Forced::Closed), _) | (None, Gate::Closed) => closed,
            (None, Gate::Open { until }) => Word::open(Some(nanos(until))),
            (None, Gate::HalfOpen { until }) => Word::half_open(nanos(until)),
        };
        let watched = word.is_shut() && state.is_dry_run() && state.forced().is_none();
        let word = if watched { word.watched() } else { word };
        // Nobody else writes it.
        let before = self.word();
        if before != word {
            self.gate.store(word.0, Ordering::Release);
        }
        if calm_until > 0 && !word.is_shut() {
            self.loaded.be_calm();
        }
        if before.is_shut() != word.is_shut() {
            self.pool.guard.changed();
        }
        self.expect_probe();
    }

    // So that it is found when it is due, in however large a set.
    fn expect_probe(&self) {
        let word = self.word();
        if word.is_shut()
            && !word.is_watched()
            && let Some(due) = word.due()
        {
            self.pool.expect_probe(due);
        }
    }

    // Before anything else is done with its breaker. From now on successes wait for the lock.
    fn tell_of_calm(&self, state: &mut Gatekeeper, at: u64) {
        let successes = self.loaded.take_calm();
        if successes > 0 {
            self.loaded.credit(at, successes, &self.fast);
            state.credit(successes);
        }
    }
}
