use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::leaf::Leaf;
use super::{Endpoint, ErasedConnect, LeafCall, Pool};
use crate::breaker::{Admitted, Breaker, Gate, Transition};
use crate::core::draw::{Purpose, draw};
use crate::core::observe::Decision;
use crate::core::sync::{AtomicU64, AtomicUsize, Mutex, Ordering, lock};
use crate::core::time::nanos;
use crate::load::{self, Estimate};
use crate::policy::{FailureAccrual, Load, PeakEwma};
use crate::verdict::{Issuer, Note, Outcome, Ticket, Verdict};

/// What is known about one endpoint of one backend: requests in flight, latency, breaker.
///
/// Picks read its atomics; what a verdict changes is changed under its lock and then published.
pub(crate) struct Cell {
    address: SocketAddr,
    site: ArcSwap<Site>,
    pool: Arc<Pool>,
    pending: AtomicUsize,
    // Zero is closed; else when a probe is due, with the highest bit set while one is out.
    gate: AtomicU64,
    // When it was last ejected, or a probe of it failed, in nanoseconds.
    opened: AtomicU64,
    // The breaker's epoch, for requests that pass a closed gate without the lock.
    epoch: AtomicU64,
    latency: [AtomicU64; 2],
    penalty: [AtomicU64; 2],
    state: Mutex<State>,
}

struct State {
    breaker: Breaker,
    latency: Estimate,
    penalty: Estimate,
    load: Load,
    floor: u32,
    // Whether it is in the set, and whether it is counted as in service.
    member: bool,
    counted: bool,
}

/// The part that changes with the endpoint's metadata.
struct Site {
    endpoint: Endpoint,
    // None once it has left: what it is still asked then is not worth keeping connections for.
    leaf: Option<OnceLock<Box<dyn Leaf>>>,
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
}

const CLOSED: u64 = 0;
const HALF_OPEN: u64 = 1 << 63;

// === impl Cell ===

impl Cell {
    pub(crate) fn new(
        endpoint: Endpoint,
        pool: Arc<Pool>,
        accrual: Option<&FailureAccrual>,
        load: Load,
        now: Instant,
    ) -> Self {
        let latency = Estimate::since(load.ewma(), pool.epoch.nanos(now));
        let penalty = Estimate::from_words((0, u64::MAX));
        let words = |(value, stamp)| [AtomicU64::new(value), AtomicU64::new(stamp)];
        Self {
            address: endpoint.address(),
            site: ArcSwap::from_pointee(Site::new(endpoint)),
            pool,
            pending: AtomicUsize::new(0),
            gate: AtomicU64::new(CLOSED),
            opened: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            latency: words(latency.words()),
            penalty: words(penalty.words()),
            state: Mutex::new(State {
                breaker: Breaker::new(accrual, now),
                latency,
                penalty,
                load,
                floor: floor(accrual),
                member: false,
                counted: false,
            }),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.site.load().endpoint.clone()
    }

    #[cfg(test)]
    pub(crate) fn now(&self) -> u64 {
        self.pool.epoch.nanos(Instant::now())
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    pub(crate) fn gate(&self) -> Gate {
        lock(&self.state).breaker.gate()
    }

    /// The latency estimate, by its own policy.
    pub(crate) fn latency_now(&self, now: u64) -> Duration {
        let ewma = lock(&self.state).load.ewma();
        Duration::from_nanos(self.latency(now, ewma))
    }

    /// The latency estimate in nanoseconds.
    fn latency(&self, now: u64, ewma: PeakEwma) -> u64 {
        read(&self.latency).get(now, ewma.decay())
    }

    pub(crate) fn cost(&self, now: u64, load: &Load) -> u128 {
        let mut estimate = self.latency(now, load.ewma());
        if let Load::PenaltyPeakEwma(penalty) = load
            // One that fades in no time is over.
            && !penalty.penalty_decay.is_zero()
        {
            estimate = estimate.max(read(&self.penalty).get(now, penalty.penalty_decay));
        }
        load::cost(estimate, self.pending())
    }

    /// Whether it can take a request at `now`, in nanoseconds.
    pub(crate) fn availability(&self, now: u64) -> Availability {
        let gate = self.gate.load(Ordering::Acquire);
        if gate == CLOSED {
            return Availability::Open;
        }
        let due = gate & !HALF_OPEN;
        if due <= now {
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
    pub(crate) fn is_able(&self, now: u64) -> bool {
        matches!(
            self.availability(now),
            Availability::Open | Availability::ProbeDue
        )
    }

    /// A ticket for one request, if it can take one.
    pub(crate) fn admit(self: &Arc<Self>, now: Instant, request: u64) -> Option<Ticket> {
        self.admit_as(now, request, false)
    }

    /// The same, as a probe before one is due, unless one is out.
    pub(crate) fn admit_early(self: &Arc<Self>, now: Instant, request: u64) -> Option<Ticket> {
        self.admit_as(now, request, true)
    }

    /// How long the pool waits for its next turn, in nanoseconds.
    pub(crate) fn turn_wait(&self, request: u64) -> u64 {
        let word = draw(self.pool.seed, request, Purpose::ProbeBackoff, 1);
        nanos(lock(&self.state).breaker.first_wait(word))
    }

    fn admit_as(self: &Arc<Self>, now: Instant, request: u64, early: bool) -> Option<Ticket> {
        // The epoch first: should the gate change in between, the ticket is from before and decides nothing.
        let epoch = self.epoch.load(Ordering::Acquire);
        let admitted = if self.gate.load(Ordering::Acquire) == CLOSED {
            Admitted {
                epoch,
                probe: false,
            }
        } else {
            let mut state = lock(&self.state);
            let at = self.pool.epoch.nanos(now);
            let admitted = if early || self.availability(at) == Availability::ProbeDue {
                state.breaker.admit_early(now)?
            } else {
                state.breaker.admit(now)?
            };
            self.publish(&state);
            admitted
        };
        self.pending.fetch_add(1, Ordering::Relaxed);
        // Before anybody else is called: should they panic, it returns.
        let note = Note::new(now, request, admitted.epoch, admitted.probe);
        let ticket = Ticket::new(Arc::clone(self) as _, note);
        if admitted.probe {
            self.pool.observers.tell(now, || Decision::Probing {
                endpoint: self.address,
                request,
            });
        }
        Some(ticket)
    }

    /// A fresh call of its leaf, which is made if there is none yet.
    pub(crate) fn start(&self, connector: &dyn ErasedConnect) -> Pin<Box<dyn LeafCall>> {
        let site = self.site.load();
        let connect = || connector.connect_erased(&site.endpoint);
        match &site.leaf {
            Some(leaf) => leaf.get_or_init(connect).start(),
            None => connect().start(),
        }
    }

    /// It joined the set, or its metadata may have changed. What was learned stays.
    pub(crate) fn join(&self, endpoint: Endpoint) {
        let site = self.site.load();
        if site.leaf.is_none() || site.endpoint != endpoint {
            self.site.store(Arc::new(Site::new(endpoint)));
        }
        let mut state = lock(&self.state);
        if !std::mem::replace(&mut state.member, true) {
            self.pool.members.fetch_add(1, Ordering::AcqRel);
        }
        self.recount(&mut state);
    }

    /// It left the set. Its connections are let go when the requests on them have ended; what was learned stays.
    pub(crate) fn leave(&self) {
        self.site.store(Arc::new(Site {
            endpoint: self.endpoint(),
            leaf: None,
        }));
        let mut state = lock(&self.state);
        if std::mem::replace(&mut state.member, false) {
            self.pool.members.fetch_sub(1, Ordering::AcqRel);
        }
        self.recount(&mut state);
    }

    /// Another policy. What was learned stays.
    pub(crate) fn configure(&self, accrual: Option<&FailureAccrual>, load: Load, now: Instant) {
        let mut state = lock(&self.state);
        state.breaker.configure(accrual, now);
        state.load = load;
        state.floor = floor(accrual);
        self.recount(&mut state);
        self.publish(&state);
    }

    fn recount(&self, state: &mut State) {
        let counts = state.member && state.breaker.gate() == Gate::Closed;
        if counts && !state.counted {
            self.pool.in_service.fetch_add(1, Ordering::AcqRel);
        } else if !counts && state.counted {
            self.pool.in_service.fetch_sub(1, Ordering::AcqRel);
        }
        state.counted = counts;
    }

    fn publish(&self, state: &State) {
        self.epoch.store(state.breaker.epoch(), Ordering::Release);
        let gate = match state.breaker.gate() {
            Gate::Closed => CLOSED,
            Gate::Open { until } => self.due(until),
            Gate::HalfOpen { until } => self.due(until) | HALF_OPEN,
        };
        self.gate.store(gate, Ordering::Release);
        write(&self.latency, state.latency);
        write(&self.penalty, state.penalty);
    }

    // Neither closed nor half-open as a word.
    fn due(&self, until: Instant) -> u64 {
        let due = self.pool.epoch.nanos(until);
        due.clamp(CLOSED + 1, HALF_OPEN - 1)
    }

    fn record(&self, note: &Note, outcome: &Outcome, sample: Sample) {
        let now = Instant::now();
        let mut state = lock(&self.state);
        let at = self.pool.epoch.nanos(now);
        // Whoever left did not wait any longer than it says, however late it is told.
        let elapsed = outcome
            .waited
            .unwrap_or_else(|| now.saturating_duration_since(note.issued));
        let elapsed = nanos(elapsed);
        let tau = state.load.ewma().decay();
        match sample {
            Sample::Answer => state.latency.observe(at, elapsed, tau),
            Sample::AtLeast => state.latency.raise(at, elapsed, tau),
            Sample::None => {}
        }
        if let Load::PenaltyPeakEwma(policy) = state.load
            && (outcome.is_failure() || outcome.rate_limited)
        {
            let hint = outcome.retry_after.unwrap_or_default();
            let weight = policy.penalty.max(hint.min(policy.max_retry_after));
            state.penalty.raise(at, nanos(weight), policy.penalty_decay);
        }
        let admitted = Admitted {
            epoch: note.epoch,
            probe: note.probe,
        };
        let word = || draw(self.pool.seed, note.request, Purpose::ProbeBackoff, 0);
        let floor = state.floor;
        let counted = state.counted;
        let mut ejected = false;
        let transition = state.breaker.record(now, admitted, outcome, word, || {
            // One that has left the set is no loss to it.
            ejected = counted && self.pool.may_eject(floor);
            ejected || !counted
        });
        if ejected {
            state.counted = false;
        }
        self.recount(&mut state);
        if let Some(transition) = &transition {
            self.note_outage(&state, transition, at, note.request);
        }
        self.publish(&state);
        drop(state);
        if let Some(transition) = transition {
            self.tell(transition, now);
        }
    }

    // What a transition means for the pool as a whole.
    fn note_outage(&self, state: &State, transition: &Transition, at: u64, request: u64) {
        let pool = &self.pool;
        match transition {
            Transition::Opened { .. } => {
                self.opened.store(at, Ordering::Release);
                // The last one: from now on they are probed in turn. A failed probe keeps the turn that was set.
                if pool.turn().is_some_and(|due| due <= at) {
                    let word = draw(pool.seed, request, Purpose::ProbeBackoff, 1);
                    let wait = nanos(state.breaker.first_wait(word));
                    pool.next_turn(at.saturating_add(wait));
                }
            }
            // Its place is free again, or has to be filled once more.
            Transition::ProbeReturned | Transition::ProbePassed => pool.next_turn(at),
            Transition::Closed => {
                if pool.in_service.load(Ordering::Acquire) == 1 {
                    // The first that is back: the others are probed promptly, lest all traffic lands on it alone.
                    pool.end_outage(at);
                }
            }
            Transition::Refused { .. } => {}
        }
    }

    // Called without the lock: an observer may look at this cell.
    fn tell(&self, transition: Transition, now: Instant) {
        let endpoint = self.address;
        self.pool.observers.tell(now, || match &transition {
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
            self.pool.changed.notify_waiters();
        }
    }
}

impl Issuer for Cell {
    fn answered(&self, note: &Note) {
        let now = Instant::now();
        self.pending.fetch_sub(1, Ordering::Relaxed);
        let mut state = lock(&self.state);
        let at = self.pool.epoch.nanos(now);
        let elapsed = nanos(now.saturating_duration_since(note.issued));
        let tau = state.load.ewma().decay();
        state.latency.observe(at, elapsed, tau);
        write(&self.latency, state.latency);
    }

    fn unused(&self, note: &Note) {
        self.pending.fetch_sub(1, Ordering::Relaxed);
        self.record(note, &Outcome::NEUTRAL, Sample::None);
    }

    fn settled(&self, note: &Note, outcome: &Outcome, answered: bool) {
        if !answered {
            self.pending.fetch_sub(1, Ordering::Relaxed);
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
        self.record(note, outcome, sample);
    }
}

// What an exchange says about latency.
enum Sample {
    Answer,
    AtLeast,
    None,
}

fn floor(accrual: Option<&FailureAccrual>) -> u32 {
    accrual
        .and_then(|accrual| accrual.extensions().ejection)
        .map_or(0, |ejection| ejection.min_ready_endpoints)
}

// Two words that are read without the lock. A reader that falls between the two writes sees a new value with an old
// time, once, which is a slightly wrong estimate and nothing worse.
fn read(words: &[AtomicU64; 2]) -> Estimate {
    Estimate::from_words((
        words[0].load(Ordering::Relaxed),
        words[1].load(Ordering::Relaxed),
    ))
}

fn write(words: &[AtomicU64; 2], estimate: Estimate) {
    let (value, stamp) = estimate.words();
    words[0].store(value, Ordering::Relaxed);
    words[1].store(stamp, Ordering::Relaxed);
}

// === impl Site ===

impl Site {
    fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            leaf: Some(OnceLock::new()),
        }
    }
}
