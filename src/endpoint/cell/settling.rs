use tokio::time::Instant;

use super::super::gatekeeper::Gatekeeper;
use super::Cell;
use crate::breaker::{Admitted, Transition};
use crate::core::draw::Purpose;
use crate::core::observe::Decision;
use crate::core::sync::{MutexGuard, lock};
use crate::core::time::{nanos, now_after};
use crate::verdict::{Issuer, Note, Outcome, Verdict};

// What an exchange says about latency.
#[derive(Clone, Copy)]
enum Sample {
    Answer,
    AtLeast,
    None,
}

// === impl Cell ===

impl Issuer for Cell {
    fn sent(&self, _: &Note, now: Instant) {
        self.loaded.ask(self.pool.epoch.nanos(now));
    }

    fn head(&self, note: &Note, now: Instant) {
        if note.sent {
            self.loaded.answer(self.pool.epoch.nanos(now), false);
        }
    }

    fn delayed(&self, _: &Note) {
        self.loaded.excuse();
    }

    fn answered(&self, note: &Note) {
        let now = now_after(note.issued);
        self.loaded.done();
        let decay = self.pool.load.decay();
        let at = self.pool.epoch.nanos(now);
        self.sample(at, at.saturating_sub(note.at), Sample::Answer, decay);
    }

    fn unused(&self, note: &Note) {
        self.loaded.done();
        if note.owed {
            self.loaded.excuse();
        }
        let now = now_after(note.issued);
        let at = self.pool.epoch.nanos(now);
        self.record(note, &Outcome::NEUTRAL, Sample::None, (now, at));
    }

    #[inline]
    fn settled(&self, note: &Note, outcome: &Outcome, answered: bool) {
        let now = now_after(note.issued);
        let at = self.pool.epoch.nanos(now);
        // Without a head: silence, or an answer that was an error.
        let owed = note.owed && outcome.took.is_none();
        // Nearly all of them: one word is changed, and the latency.
        if outcome.is_plain_success()
            && (answered || outcome.waited.is_none())
            && note.sent
            && self.loaded.has_not_failed()
            && self.word().is_calm(note.epoch, at)
            && self.loaded.succeed_calmly(at, !answered, owed)
        {
            if !answered {
                let decay = self.pool.load.decay();
                self.sample(at, at.saturating_sub(note.at), Sample::Answer, decay);
            }
            return;
        }
        self.settled_slowly(note, outcome, answered, (now, at));
    }
}

impl Cell {
    #[inline(never)]
    fn settled_slowly(&self, note: &Note, outcome: &Outcome, answered: bool, now: (Instant, u64)) {
        let at = now.1;
        let load = !answered;
        let owed = note.owed && outcome.took.is_none();
        let silent = outcome.waited.is_some() || outcome.verdict == Verdict::Neutral;
        if owed && note.sent && !silent {
            self.loaded.answer(at, load);
        } else {
            if load {
                self.loaded.done();
            }
            if owed && note.sent && outcome.waited.is_some() {
                self.loaded.leave();
            } else if owed {
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
        self.record(note, outcome, sample, now);
    }

    #[inline(never)]
    fn record(&self, note: &Note, outcome: &Outcome, sample: Sample, now: (Instant, u64)) {
        let at = now.1;
        let load = &self.pool.load;
        let mut state = lock(&self.state);
        // Whoever left did not wait any longer than it says, however late it is told.
        let elapsed = outcome.waited.map_or(at.saturating_sub(note.at), nanos);
        self.sample(at, elapsed, sample, load.decay());
        let calm = outcome.is_plain_success()
            && self.word().is_calm(note.epoch, at)
            && !self.loaded.is_full();
        if !calm {
            self.tell_of_calm(&mut state, at);
        }
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
        if calm {
            state.credit(1);
        } else {
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
        let pool = &self.pool;
        let word = || pool.dice.draw(note.request, Purpose::ProbeBackoff, 0);
        let transition = state.record(now, admitted, outcome, word, &pool.guard, &pool.totals);
        if let Some(transition) = &transition {
            self.note_outage(&state, transition, now.1, note.request);
        }
        self.publish(&state, now.1);
        let Some(transition) = transition else {
            return;
        };
        drop(state);
        self.tell(transition, now.0);
    }

    // Of two at the same moment one may be lost, with or without the lock: it is an estimate.
    #[inline(always)]
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
                self.aside.eject(at);
                // The last one: from now on they are probed in turn. A failed probe keeps the turn that was set.
                if pool.turn().is_some_and(|due| due <= at) {
                    let word = pool.dice.draw(request, Purpose::ProbeBackoff, 1);
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
        let endpoint = self.address();
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
