use crate::core::sync::{AtomicU32, AtomicU64, Ordering};
use crate::load::{Estimate, Failures, Reading, Rules, coarse, coarse_between, plain_cost};

/// What a pick reads of one endpoint's load: together with the gate and the counts of the `Arc` it fills 64 bytes.
#[repr(C)]
pub(super) struct Loaded {
    // Requests in flight in the lower half, and in the upper half those that are owed the head of an answer: one operation
    // for both.
    counts: AtomicU64,
    // On the coarse clock: since when it has owed an answer, zero if it owes none; when it was last chosen.
    since: AtomicU32,
    chosen: AtomicU32,
    latency: [AtomicU64; 2],
    // The first word of `Failures`: the second is read only where this one says that there were any.
    failures: AtomicU64,
}

/// The second word of `Failures`, beside what else a result changes.
pub(super) struct Fast(AtomicU64);

/// What it reads only where there is reason to.
#[repr(C)]
pub(super) struct Aside {
    penalty: [AtomicU64; 2],
    // On the coarse clock: since when it has been in service.
    in_service: AtomicU32,
    // In 2^-16ths.
    weight: AtomicU32,
}

// Silence counts so many times: a busy endpoint answers something many times within its latency, so that even a part of it
// is long for nothing at all.
const INSISTENCE: u64 = 4;

// One of each in the word of both.
const PENDING: u64 = 1;
const OWED: u64 = 1 << 32;

// === impl Loaded ===

impl Loaded {
    pub(super) fn new(latency: Estimate, now: u64) -> Self {
        Self {
            counts: AtomicU64::new(0),
            since: AtomicU32::new(0),
            chosen: AtomicU32::new(coarse(now)),
            latency: words(latency),
            failures: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(super) fn pending(&self) -> u32 {
        // The lower half.
        self.counts.load(Ordering::Relaxed) as u32
    }

    /// A request was given a ticket.
    #[inline]
    pub(super) fn choose(&self, now: u64) {
        self.counts.fetch_add(PENDING, Ordering::Relaxed);
        self.chosen.store(coarse(now), Ordering::Relaxed);
    }

    /// A request is no load any more.
    pub(super) fn done(&self) {
        self.counts.fetch_sub(PENDING, Ordering::Relaxed);
    }

    /// A request is on its way: an answer is owed.
    #[inline]
    pub(super) fn ask(&self, now: u64) {
        self.counts.fetch_add(OWED, Ordering::AcqRel);
        if self.since.load(Ordering::Acquire) == 0 {
            self.since.store(mark(now), Ordering::Release);
        }
    }

    /// It answered something: whatever else it owes, it has not been silent until now. The request may be no load any
    /// more, either.
    #[inline]
    pub(super) fn answer(&self, now: u64, done: bool) {
        let less = if done { OWED + PENDING } else { OWED };
        let more = self.counts.fetch_sub(less, Ordering::AcqRel) / OWED > 1;
        self.since
            .store(if more { mark(now) } else { 0 }, Ordering::Release);
        // Somebody asked in between, and saw the old mark.
        if !more && self.counts.load(Ordering::Acquire) >= OWED {
            self.since.store(mark(now), Ordering::Release);
        }
    }

    /// Who asked has left, without an answer: it stays silent.
    pub(super) fn leave(&self) {
        self.counts.fetch_sub(OWED, Ordering::AcqRel);
    }

    /// An answer is not owed after all: the caller broke off its own request.
    pub(super) fn excuse(&self) {
        if self.counts.fetch_sub(OWED, Ordering::AcqRel) / OWED == 1 {
            self.since.store(0, Ordering::Release);
        }
    }

    /// The latency estimate in nanoseconds.
    #[inline]
    pub(super) fn latency(&self) -> Estimate {
        read(&self.latency)
    }

    pub(super) fn set_latency(&self, estimate: Estimate) {
        write(&self.latency, estimate);
    }

    #[inline]
    fn silence(&self, now: u64) -> u64 {
        match self.since.load(Ordering::Relaxed) {
            0 => 0,
            since => coarse_between(since, coarse(now)) * INSISTENCE,
        }
    }

    /// Whether it was not chosen for so long that it should be, and this call is the one that says so.
    #[inline]
    pub(super) fn wants_a_turn(&self, now: u64, rules: &Rules) -> bool {
        if rules.explore == 0 {
            return false;
        }
        let (chosen, now) = (self.chosen.load(Ordering::Relaxed), coarse(now));
        let is_one = |chosen| {
            let mine =
                self.chosen
                    .compare_exchange(chosen, now, Ordering::Relaxed, Ordering::Relaxed);
            mine.is_ok()
        };
        coarse_between(chosen, now) >= rules.explore && is_one(chosen)
    }

    /// Its [plain cost](Rules::are_plain), if it is known and has not failed of late.
    #[inline(always)]
    pub(super) fn plain_cost(&self, now: u64, decay: u64) -> Option<u128> {
        let latency = self.latency();
        let failures = self.failures.load(Ordering::Relaxed);
        if !Failures::is_none(failures) || latency.is_assumed() {
            return None;
        }
        let latency = latency.get(now, decay);
        Some(plain_cost(latency, self.silence(now), self.pending()))
    }

    /// What is known of it, as far as this line tells.
    // Into the pick, twice: what it returns stays in registers.
    #[inline(always)]
    pub(super) fn read(
        &self,
        now: u64,
        rules: &Rules,
        (fast, aside): (&Fast, &Aside),
        uneven: bool,
    ) -> Reading {
        let latency = self.latency();
        let failures = self.failures.load(Ordering::Relaxed);
        let mut reading = Reading {
            latency: latency.get(now, rules.decay),
            unknown: latency.is_assumed(),
            pending: self.pending(),
            ..Reading::NONE
        };
        if rules.silence {
            reading.silence = self.silence(now);
        }
        if rules.failures && !Failures::is_none(failures) {
            let fast = fast.0.load(Ordering::Relaxed);
            reading.failing = Failures::from_words((failures, fast)).fraction(now);
        }
        // A penalty that fades in no time is over.
        if rules.penalty_decay > 0 {
            reading.penalty = read(&aside.penalty).get(now, rules.penalty_decay);
        }
        if uneven || rules.slow_start > 0 {
            reading.weight = aside.weight(now, rules);
        }
        reading
    }

    /// A result. Only under the lock of the cell's state.
    #[inline]
    pub(super) fn record(&self, now: u64, failed: bool, fast: &Fast) {
        let mut failures = self.failures(fast);
        failures.record(now, failed);
        let (first, second) = failures.words();
        fast.0.store(second, Ordering::Relaxed);
        self.failures.store(first, Ordering::Relaxed);
    }

    /// Forgets all results. Only under the lock of the cell's state.
    pub(super) fn forget_failures(&self, fast: &Fast) {
        self.failures.store(0, Ordering::Relaxed);
        fast.0.store(0, Ordering::Relaxed);
    }

    pub(super) fn failures(&self, fast: &Fast) -> Failures {
        let first = self.failures.load(Ordering::Relaxed);
        Failures::from_words((first, fast.0.load(Ordering::Relaxed)))
    }
}

// The moment on the coarse clock, rounded up, and never zero: silence is not made longer than it is.
fn mark(now: u64) -> u32 {
    coarse(now).wrapping_add(1).max(1)
}

// === impl Fast ===

impl Fast {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }
}

// === impl Aside ===

impl Aside {
    pub(super) fn new(now: u64) -> Self {
        Self {
            penalty: words(Estimate::from_words((0, u64::MAX))),
            in_service: AtomicU32::new(coarse(now)),
            weight: AtomicU32::new(1 << 16),
        }
    }

    /// A failure, or a hint of the endpoint's own. Only under the lock of the cell's state.
    pub(super) fn penalize(&self, now: u64, weight: u64, rules: &Rules) {
        let mut penalty = read(&self.penalty);
        penalty.raise(now, weight, rules.penalty_decay);
        write(&self.penalty, penalty);
    }

    /// It joined, or is back.
    pub(super) fn start(&self, now: u64) {
        self.in_service.store(coarse(now), Ordering::Relaxed);
    }

    pub(super) fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Ordering::Relaxed);
    }

    /// Its share, in 2^-16ths of an ordinary endpoint's: less while it starts slowly.
    pub(super) fn weight(&self, now: u64, rules: &Rules) -> u32 {
        let weight = self.weight.load(Ordering::Relaxed);
        if rules.slow_start == 0 {
            return weight;
        }
        let since = self.in_service.load(Ordering::Relaxed);
        let age = coarse_between(since, coarse(now));
        if age >= rules.slow_start {
            return weight;
        }
        // At least a hundredth, or nothing would ever come of it.
        let ramp = u128::from(weight) * u128::from(age) / u128::from(rules.slow_start);
        (ramp as u32).max(weight / 100).max(1)
    }
}

// Two words that are read without the lock. A reader that falls between the two writes sees a new value with an old
// time, once, which is a slightly wrong estimate and nothing worse.
#[inline]
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

fn words(estimate: Estimate) -> [AtomicU64; 2] {
    let (value, stamp) = estimate.words();
    [AtomicU64::new(value), AtomicU64::new(stamp)]
}
