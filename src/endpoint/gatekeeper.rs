use std::borrow::Cow;
use std::sync::Arc;

use tokio::time::Instant;

use super::Guard;
use crate::breaker::Transition;
use crate::breaker::{self, Admitted, Breaker, BreakerSnapshot, Calm, Forced, Gate, Peers, Totals};
use crate::core::sync::Mutex;
use crate::core::time::Epoch;
use crate::policy::{Ejection, FailureAccrual, Ratio};
use crate::verdict::Outcome;

/// What the breakers of a set have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    rules: Option<Arc<breaker::Rules>>,
    limits: Ejection,
    worse_than_peers: Option<Ratio>,
    dry_run: bool,
}

/// A cell's breaker, and what stands around it: its peers, the pool's limits, the hand of an operator, the evidence.
// In the order of use, like the cell.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Gatekeeper {
    // That the breaker has not heard of, and need not: it and its window are some lines more that two threads would take
    // from each other.
    successes: u32,
    // As a member, and as one in service: in the pool's numbers.
    counted: (bool, bool),
    member: bool,
    dry_run: bool,
    breaker: Breaker,
    // These are boxed because few have them, and there may be many thousand cells.
    story: Option<Box<Story>>,
    // Only where the policy measures by peers.
    peers: Option<Box<Peers>>,
    limits: Option<Box<Ejection>>,
}

// Of one that is or was something else than closed.
#[derive(Debug, Default)]
struct Story {
    forced: Option<(Forced, Instant)>,
    // While it is open.
    evidence: Option<Evidence>,
    // Requests that a dry run let through.
    waved_through: u64,
}

#[derive(Debug)]
struct Evidence {
    why: Cow<'static, str>,
    since: Instant,
    failed_probes: u32,
}

/// As good as an epoch that never was: the result decides nothing.
const NO_EPOCH: u64 = u64::MAX;

// === impl Terms ===

impl Terms {
    pub(crate) fn new(accrual: Option<&FailureAccrual>, epoch: Epoch) -> Self {
        let extensions = accrual.map(FailureAccrual::extensions);
        Self {
            rules: accrual.map(|accrual| Arc::new(breaker::Rules::new(accrual, epoch))),
            limits: extensions.and_then(|e| e.ejection).unwrap_or_default(),
            worse_than_peers: extensions.and_then(|e| e.worse_than_peers),
            dry_run: extensions.is_some_and(|e| e.dry_run),
        }
    }
}

// === impl Gatekeeper ===

impl Gatekeeper {
    pub(super) fn new(terms: &Terms, now: Instant) -> Self {
        let mut gatekeeper = Self {
            successes: 0,
            breaker: Breaker::with_rules(None, now),
            peers: None,
            limits: None,
            story: None,
            dry_run: terms.dry_run,
            member: false,
            counted: (false, false),
        };
        gatekeeper.set_terms(terms, now);
        gatekeeper
    }

    fn set_terms(&mut self, terms: &Terms, now: Instant) {
        self.take_successes();
        self.breaker.set_rules(terms.rules.clone(), now);
        if self.breaker.gate() == Gate::Closed {
            self.forget_evidence();
        }
        self.limits = (terms.limits != Ejection::NONE).then(|| Box::new(terms.limits));
        self.dry_run = terms.dry_run;
        match (&mut self.peers, terms.worse_than_peers) {
            (Some(peers), Some(allowed)) => peers.configure(allowed),
            (peers, allowed) => *peers = allowed.map(|allowed| Box::new(Peers::new(allowed))),
        }
    }

    // What was counted since the last time, before anything else is done with the breaker.
    pub(super) fn take_successes(&mut self) {
        let successes = std::mem::take(&mut self.successes);
        self.breaker.credit(successes);
    }

    /// Until then, in nanoseconds, successes change nothing but how many there were, as long as nothing else is recorded.
    /// Peers hear of each, and so does an operator's hand, which ignores it.
    pub(super) fn calm_until(&self) -> u64 {
        if self.forced().is_some() || self.peers.is_some() {
            return 0;
        }
        match self.breaker.calm_for_the_quick() {
            Calm::Matter => 0,
            Calm::Nothing => u64::MAX,
            Calm::CountUntil(until) => until,
        }
    }

    /// Counts a success that is [calm](Self::calm_until).
    pub(super) fn count_success(&mut self) {
        self.successes = self.successes.saturating_add(1);
    }

    /// Whether there is no room for another of these.
    pub(super) fn is_full(&self) -> bool {
        self.successes == u32::MAX
    }

    /// So many calm successes that were counted elsewhere.
    pub(super) fn credit(&mut self, successes: u32) {
        self.breaker.credit(successes);
    }

    /// Other terms. What was learned stays.
    pub(super) fn configure(&mut self, terms: &Terms, now: Instant, guard: &Guard) {
        self.set_terms(terms, now);
        self.recount(guard);
    }

    pub(super) fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    pub(super) fn forced(&self) -> Option<Forced> {
        self.story.as_deref()?.forced.map(|(forced, _)| forced)
    }

    fn story(&mut self) -> &mut Story {
        self.story.get_or_insert_default()
    }

    fn forget_evidence(&mut self) {
        if let Some(story) = &mut self.story {
            story.evidence = None;
        }
    }

    pub(super) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Whether it was no member before.
    pub(super) fn join(&mut self, guard: &Guard) -> bool {
        let joined = !std::mem::replace(&mut self.member, true);
        self.recount(guard);
        joined
    }

    pub(super) fn leave(&mut self, guard: &Guard) {
        self.member = false;
        self.recount(guard);
    }

    // One that is held open by hand is as if it were not there: that is nobody's outage.
    fn recount(&mut self, guard: &Guard) {
        let held = self.forced() == Some(Forced::Open);
        let member = self.member && !held;
        let forced = self.forced().is_some();
        let serves = member && (forced || self.breaker.gate() == Gate::Closed);
        guard.recount(self.counted, (member, serves));
        self.counted = (member, serves);
    }

    /// Lets a request through a gate that is not closed, `early` as a probe before one is due.
    pub(super) fn admit(&mut self, now: Instant, early: bool) -> Option<Admitted> {
        if self.forced() == Some(Forced::Open) {
            return None;
        }
        self.take_successes();
        let admitted = if early {
            self.breaker.admit_early(now)
        } else {
            self.breaker.admit(now)
        };
        if admitted.is_none() && self.dry_run {
            let waved = &mut self.story().waved_through;
            *waved = waved.saturating_add(1);
            return Some(self.anyway());
        }
        admitted
    }

    /// Lets a request through whatever the breaker says. Its result decides nothing.
    pub(super) fn admit_anyway(&self) -> Option<Admitted> {
        (self.forced() != Some(Forced::Open)).then(|| self.anyway())
    }

    fn anyway(&self) -> Admitted {
        Admitted {
            epoch: NO_EPOCH,
            probe: false,
        }
    }

    /// Records a result, at a time that is `at` in the pool's nanoseconds, which the rules count from the same moment.
    pub(super) fn record(
        &mut self,
        (now, at): (Instant, u64),
        admitted: Admitted,
        outcome: &Outcome,
        word: impl Fn() -> u64,
        guard: &Guard,
        totals: &Mutex<Totals>,
    ) -> Option<Transition> {
        if self.forced().is_some() {
            return None;
        }
        self.take_successes();
        self.record_one((now, at), admitted, outcome, word, guard, totals)
    }

    fn record_one(
        &mut self,
        (now, at): (Instant, u64),
        admitted: Admitted,
        outcome: &Outcome,
        word: impl Fn() -> u64,
        guard: &Guard,
        totals: &Mutex<Totals>,
    ) -> Option<Transition> {
        let worse = self.peers.as_mut().and_then(|peers| {
            let bad = self.breaker.bad(admitted, outcome)?;
            peers.record(at, bad, totals)
        });
        // One that has left the set is no loss to it.
        let (member, serves) = self.counted;
        let limits = self.limits.as_deref().unwrap_or(&Ejection::NONE);
        let mut ejected = false;
        let mut may_eject = || {
            ejected = serves && guard.may_eject(limits);
            ejected || !serves
        };
        let mut transition = self
            .breaker
            .record_at(at, admitted, outcome, &word, &mut may_eject);
        if transition.is_none()
            && let Some(why) = worse
        {
            let why = why.into();
            transition = self
                .breaker
                .eject_as_worse(at, why, outcome, &word, &mut may_eject);
        }
        let transition = transition?;
        if ejected {
            self.counted = (member, false);
        }
        self.recount(guard);
        self.note(&transition, now);
        Some(transition)
    }

    fn note(&mut self, transition: &Transition, now: Instant) {
        match transition {
            Transition::Opened { why, .. } => match &mut self.story().evidence {
                Some(evidence) => {
                    evidence.failed_probes = evidence.failed_probes.saturating_add(1);
                }
                none => {
                    *none = Some(Evidence {
                        why: why.clone(),
                        since: now,
                        failed_probes: 0,
                    });
                    if let Some(peers) = &mut self.peers {
                        peers.forget();
                    }
                }
            },
            Transition::Closed => {
                self.forget_evidence();
                if let Some(peers) = &mut self.peers {
                    peers.parole();
                }
            }
            _ => {}
        }
    }

    /// Holds it open or closed, or lets go (none) and forgets what was learned. What it was before.
    pub(super) fn force(
        &mut self,
        forced: Option<Forced>,
        now: Instant,
        guard: &Guard,
    ) -> Option<Forced> {
        self.successes = 0;
        // A new epoch: what is in flight decides nothing any more.
        self.breaker.reset();
        self.forget_evidence();
        if let Some(peers) = &mut self.peers {
            peers.forget();
        }
        let before = self.forced();
        if forced.is_some() || self.story.is_some() {
            self.story().forced = forced.map(|forced| (forced, now));
        }
        self.recount(guard);
        before
    }

    /// What it does, and why.
    pub(super) fn snapshot(&self, name: Arc<str>, now: Instant) -> BreakerSnapshot {
        let story = self.story.as_deref();
        let evidence = story.and_then(|story| story.evidence.as_ref());
        let forced = story.and_then(|story| story.forced);
        let forced = forced.map(|(_, since)| since);
        let why = match self.forced() {
            Some(Forced::Open) => Some(Cow::Borrowed("opened by hand")),
            _ => evidence.map(|evidence| evidence.why.clone()),
        };
        BreakerSnapshot {
            name,
            at: now,
            gate: self.breaker.gate(),
            forced: self.forced(),
            since: forced.or(evidence.map(|evidence| evidence.since)),
            why,
            failures: self.breaker.failures(),
            failed_probes: evidence.map_or(0, |evidence| evidence.failed_probes),
            refused: story.map_or(0, |story| story.waved_through),
            waiting: 0,
            dry_run: self.dry_run,
        }
    }
}
