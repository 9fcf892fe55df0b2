use super::aside::Aside;
use super::estimate::AtomicEstimate;
use crate::core::sync::{AtomicU32, AtomicU64, Ordering};
use crate::load::{Estimate, Failures, Reading, Rules, coarse, coarse_between, plain_cost};

/// What a pick reads of one endpoint's load: together with the gate and the counts of the `Arc` it fills 64 bytes.
#[repr(C)]
pub(super) struct Loaded {
    // Three counts and a mark, so that one operation changes all that a request does. From below: requests in flight, those
    // that are owed the head of an answer, successes that the breaker has not heard of, and whether it need not.
    counts: AtomicU64,
    // On the coarse clock: since when it has owed an answer, zero if it owes none; when it was last chosen.
    since: AtomicU32,
    chosen: AtomicU32,
    latency: AtomicEstimate,
    // The first word of `Failures`: the second is read only where this one says that there were any.
    failures: AtomicU64,
}

/// The second word of `Failures`, beside what else a result changes.
pub(super) struct Fast(AtomicU64);

// Silence counts so many times: a busy endpoint answers something many times within its latency, so that even a part of it
// is long for nothing at all.
const INSISTENCE: u64 = 4;

// One of each in the word of all. Of what is in flight there can be 16 million: memory ends sooner.
const PENDING: u64 = 1;
const OWED: u64 = 1 << 24;
const SUCCESS: u64 = 1 << 48;
const CALM: u64 = 1 << 63;
const MOST: u64 = OWED - 1;
const MOST_SUCCESSES: u64 = (1 << 15) - 1;

// === impl Loaded ===

impl Loaded {
    pub(super) fn new(latency: Estimate, now: u64) -> Self {
        Self {
            counts: AtomicU64::new(0),
            since: AtomicU32::new(0),
            chosen: AtomicU32::new(coarse(now)),
            latency: AtomicEstimate::new(latency),
            failures: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(super) fn pending(&self) -> u32 {
        (self.counts.load(Ordering::Relaxed) & MOST) as u32
    }

    /// A request was given a ticket, and is on its way unless it is [held up](Self::excuse): an answer is owed.
    #[inline]
    pub(super) fn choose(&self, now: u64) {
        self.counts.fetch_add(PENDING + OWED, Ordering::AcqRel);
        self.expect(now);
        self.chosen.store(coarse(now), Ordering::Relaxed);
    }

    /// A request is no load any more.
    pub(super) fn done(&self) {
        self.counts.fetch_sub(PENDING, Ordering::Relaxed);
    }

    /// A request that was held up is on its way: an answer is owed.
    pub(super) fn ask(&self, now: u64) {
        self.counts.fetch_add(OWED, Ordering::AcqRel);
        self.expect(now);
    }

    #[inline]
    fn expect(&self, now: u64) {
        if self.since.load(Ordering::Acquire) == 0 {
            self.since.store(mark(now), Ordering::Release);
        }
    }

    /// It answered something: whatever else it owes, it has not been silent until now. The request may be no load any
    /// more, either.
    #[inline]
    pub(super) fn answer(&self, now: u64, done: bool) {
        let less = if done { OWED + PENDING } else { OWED };
        let before = self.counts.fetch_sub(less, Ordering::AcqRel);
        self.answered(now, owes(before - less));
    }

    #[inline]
    fn answered(&self, now: u64, more: bool) {
        self.since
            .store(if more { mark(now) } else { 0 }, Ordering::Release);
        // Somebody asked in between, and saw the old mark.
        if !more && owes(self.counts.load(Ordering::Acquire)) {
            self.since.store(mark(now), Ordering::Release);
        }
    }

    /// The same of a success, which the breaker hears of [later](Self::take_calm); or nothing at all, if it must at once.
    /// `done`: the request is no load any more; `owed`: and its answer was owed.
    #[inline]
    pub(super) fn succeed_calmly(&self, now: u64, done: bool, owed: bool) -> bool {
        let mut counts = self.counts.load(Ordering::Relaxed);
        let less = if done { PENDING } else { 0 } + if owed { OWED } else { 0 };
        loop {
            if counts & CALM == 0 || successes(counts) == MOST_SUCCESSES {
                return false;
            }
            let after = counts - less + SUCCESS;
            let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
            match (self.counts).compare_exchange_weak(counts, after, success, failure) {
                Ok(_) => {
                    if owed {
                        self.answered(now, owes(after));
                    }
                    return true;
                }
                Err(now) => counts = now,
            }
        }
    }

    /// The successes that the breaker has not heard of; from now on it hears of each. Only under the lock of the cell's
    /// state.
    pub(super) fn take_calm(&self) -> u32 {
        if self.counts.load(Ordering::Relaxed) & CALM == 0 {
            return 0;
        }
        let rest = PENDING * MOST + OWED * MOST;
        let counts = self.counts.fetch_and(rest, Ordering::AcqRel);
        successes(counts) as u32
    }

    /// Whether the breaker has to hear of those first, for there is no room for another.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        successes(self.counts.load(Ordering::Relaxed)) == MOST_SUCCESSES
    }

    /// From now on it need not hear of successes. Only under the lock of the cell's state.
    pub(super) fn be_calm(&self) {
        if self.counts.load(Ordering::Relaxed) & CALM == 0 {
            self.counts.fetch_or(CALM, Ordering::AcqRel);
        }
    }

    /// Who asked has left, without an answer: it stays silent.
    pub(super) fn leave(&self) {
        self.counts.fetch_sub(OWED, Ordering::AcqRel);
    }

    /// An answer is not owed after all: the caller broke off its own request.
    pub(super) fn excuse(&self) {
        if !owes(self.counts.fetch_sub(OWED, Ordering::AcqRel) - OWED) {
            self.since.store(0, Ordering::Release);
        }
    }

    /// The latency estimate in nanoseconds.
    #[inline]
    pub(super) fn latency(&self) -> Estimate {
        self.latency.load()
    }

    #[inline(always)]
    pub(super) fn set_latency(&self, estimate: Estimate) {
        self.latency.store(estimate);
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
            reading.penalty = aside.penalty(now, rules.penalty_decay);
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
        self.set_failures(failures, fast);
    }

    fn set_failures(&self, failures: Failures, fast: &Fast) {
        let (first, second) = failures.words();
        fast.0.store(second, Ordering::Relaxed);
        self.failures.store(first, Ordering::Relaxed);
    }

    /// Whether nothing has failed of late.
    #[inline]
    pub(super) fn has_not_failed(&self) -> bool {
        Failures::is_none(self.failures.load(Ordering::Relaxed))
    }

    /// So many successes of the last second or so. Only under the lock of the cell's state.
    pub(super) fn credit(&self, now: u64, successes: u32, fast: &Fast) {
        let mut failures = self.failures(fast);
        failures.credit(now, successes);
        self.set_failures(failures, fast);
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

// Whether the word of all counts says that an answer is owed.
#[inline]
fn owes(counts: u64) -> bool {
    counts & (OWED * MOST) != 0
}

#[inline]
fn successes(counts: u64) -> u64 {
    (counts / SUCCESS) & MOST_SUCCESSES
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::PeakEwma;

    fn loaded() -> Loaded {
        Loaded::new(Estimate::since(PeakEwma::DEFAULT, 0), 0)
    }

    #[test]
    fn counts_do_not_run_into_each_other() {
        let loaded = loaded();
        for _ in 0..3 {
            loaded.choose(1 << 20);
        }
        assert!(
            !loaded.succeed_calmly(0, true, true),
            "it has to be told to be"
        );
        loaded.be_calm();
        loaded.be_calm();
        assert!(loaded.succeed_calmly(0, true, true));
        loaded.answer(0, true);
        assert!(loaded.succeed_calmly(0, false, false));
        assert_eq!((loaded.pending(), loaded.take_calm()), (1, 2));
        assert_eq!(loaded.take_calm(), 0);
        assert!(!loaded.succeed_calmly(0, true, true), "nor is it any more");
        assert_ne!(loaded.silence(1 << 30), 0, "one is still owed");
        loaded.excuse();
        loaded.done();
        assert_eq!((loaded.pending(), loaded.silence(1 << 30)), (0, 0));
        assert_eq!(loaded.counts.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_answer_that_is_not_owed_after_all_leaves_the_others_owed() {
        let loaded = loaded();
        for _ in 0..3 {
            loaded.choose(1 << 20);
        }
        loaded.excuse();
        loaded.excuse();
        assert_ne!(loaded.silence(1 << 30), 0);
        loaded.excuse();
        assert_eq!(loaded.silence(1 << 30), 0);
    }

    #[test]
    fn there_is_room_for_so_many_successes() {
        let loaded = loaded();
        loaded.choose(0);
        loaded.be_calm();
        for _ in 0..MOST_SUCCESSES {
            assert!(!loaded.is_full());
            assert!(loaded.succeed_calmly(0, false, false));
        }
        assert!(loaded.is_full() && !loaded.succeed_calmly(0, true, true));
        assert_eq!(u64::from(loaded.take_calm()), MOST_SUCCESSES);
        assert_eq!(loaded.pending(), 1);
    }
}
