use std::borrow::Cow;
use std::sync::Arc;

use tokio::time::Instant;

use super::guard::{Guard, Standing};
use crate::breaker::{
    self, Admitted, Breaker, BreakerSnapshot, Calm, Forced, Gate, Peers, Totals, Transition,
};
use crate::core::sync::Mutex;
use crate::core::time::Epoch;
use crate::policy::FailureAccrual;
use crate::verdict::Outcome;

/// What the breakers of a set have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms(Option<Arc<breaker::Rules>>);

/// A cell's breaker, and what stands around it: its peers, the pool's limits, the hand of an operator, the evidence.
// In the order of use, like the cell.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Gatekeeper {
    // In the pool's numbers.
    counted: Standing,
    member: bool,
    breaker: Breaker,
    // Boxed because few have it, and there may be many thousand cells.
    story: Option<Box<Story>>,
}

// Of one that is or was something else than closed, or that is measured by its peers.
#[derive(Debug, Default)]
struct Story {
    forced: Option<(Forced, Instant)>,
    // While it is open.
    evidence: Option<Evidence>,
    // Requests that a dry run let through.
    waved_through: u64,
    // Only where the policy measures by them.
    peers: Option<Peers>,
}

#[derive(Debug)]
struct Evidence {
    why: Cow<'static, str>,
    since: Instant,
    failed_probes: u32,
}

/// Let through whatever the breaker says. As good as of an epoch that never was: the result decides nothing.
const ANYWAY: Admitted = Admitted {
    epoch: u64::MAX,
    probe: false,
};

// === impl Terms ===

impl Terms {
    pub(crate) fn new(accrual: Option<&FailureAccrual>, epoch: Epoch) -> Self {
        Self(accrual.map(|accrual| Arc::new(breaker::Rules::new(accrual, epoch))))
    }
}

// === impl Gatekeeper ===

impl Gatekeeper {
    pub(super) fn new(terms: &Terms, now: Instant) -> Self {
        let mut gatekeeper = Self {
            counted: Standing::default(),
            member: false,
            breaker: Breaker::with_rules(None, now),
            story: None,
        };
        gatekeeper.set_terms(terms, now);
        gatekeeper
    }

    fn set_terms(&mut self, terms: &Terms, now: Instant) {
        self.breaker.set_rules(terms.0.clone(), now);
        if self.breaker.gate() == Gate::Closed {
            self.forget_evidence();
        }
        let allowed = terms.0.as_ref().and_then(|rules| rules.worse_than_peers);
        match (self.peers(), allowed) {
            (Some(peers), Some(allowed)) => peers.configure(allowed),
            (None, None) => {}
            (_, allowed) => self.story().peers = allowed.map(Peers::new),
        }
    }

    /// Until then, in nanoseconds, successes change nothing but how many there were, as long as nothing else is recorded.
    /// Peers hear of each, and so does an operator's hand, which ignores it.
    pub(super) fn calm_until(&self) -> u64 {
        // Most have neither.
        if let Some(story) = &self.story
            && (story.forced.is_some() || story.peers.is_some())
        {
            return 0;
        }
        match self.breaker.calm_for_the_quick() {
            Calm::Matter => 0,
            Calm::Nothing => u64::MAX,
            Calm::CountUntil(until) => until,
        }
    }

    /// So many successes that are [calm](Self::calm_until).
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

    fn peers(&mut self) -> Option<&mut Peers> {
        self.story.as_mut()?.peers.as_mut()
    }

    fn forget_evidence(&mut self) {
        if let Some(story) = &mut self.story {
            story.evidence = None;
        }
    }

    pub(super) fn is_dry_run(&self) -> bool {
        self.breaker.rules().is_some_and(|rules| rules.dry_run)
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
        let standing = Standing { member, serves };
        guard.recount(self.counted, standing);
        self.counted = standing;
    }

    /// Lets a request through a gate that is not closed, `early` as a probe before one is due.
    pub(super) fn admit(&mut self, now: Instant, early: bool) -> Option<Admitted> {
        if self.forced() == Some(Forced::Open) {
            return None;
        }
        let admitted = if early {
            self.breaker.admit_early(now)
        } else {
            self.breaker.admit(now)
        };
        if admitted.is_none() && self.is_dry_run() {
            let waved = &mut self.story().waved_through;
            *waved = waved.saturating_add(1);
            return Some(ANYWAY);
        }
        admitted
    }

    /// Lets a request through whatever the breaker says. Its result decides nothing.
    pub(super) fn admit_anyway(&self) -> Option<Admitted> {
        (self.forced() != Some(Forced::Open)).then_some(ANYWAY)
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
        let worse = self.story.as_mut().and_then(|story| {
            let peers = story.peers.as_mut()?;
            let bad = self.breaker.bad(admitted, outcome)?;
            peers.record(at, bad, totals)
        });
        // One that has left the set is no loss to it.
        let serves = self.counted.serves;
        let mut ejected = false;
        let limits = self.breaker.rules()?.limits;
        let mut may_eject = || {
            ejected = serves && guard.may_eject(&limits);
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
            self.counted.serves = false;
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
                    if let Some(peers) = self.peers() {
                        peers.forget();
                    }
                }
            },
            Transition::Closed => {
                self.forget_evidence();
                if let Some(peers) = self.peers() {
                    peers.parole();
                }
            }
            _ => {}
        }
    }

    /// Holds it open or closed, or lets go (none) and forgets what was learned.
    pub(super) fn force(&mut self, forced: Option<Forced>, now: Instant, guard: &Guard) {
        // A new epoch: what is in flight decides nothing any more.
        self.breaker.reset();
        self.forget_evidence();
        if let Some(peers) = self.peers() {
            peers.forget();
        }
        if forced.is_some() || self.story.is_some() {
            self.story().forced = forced.map(|forced| (forced, now));
        }
        self.recount(guard);
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
            dry_run: self.is_dry_run(),
        }
    }
}
