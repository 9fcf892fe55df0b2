//! The breaker beside a naive model that keeps every result, through random sequences of everything that can happen.
//!
//! Cases come from their number, so that each is the same on every machine; one that fails is shortened.

mod model;
mod peers;
mod shared;

use std::time::Duration;

use tokio::time::Instant;

use self::model::{Change, Model, ModelState, Terms};
use super::gate::Calm;
use super::{Admitted, Breaker, Gate, Transition};
use crate::core::draw::{below, mix};
use crate::verdict::{Outcome, Verdict};

/// So many short cases, and some long ones.
const CASES: u64 = 200_000;
const EVENTS: u64 = 60;
const LONG_CASES: u64 = 60;
const LONG_EVENTS: u64 = 2_500;

struct Dice(u64);

#[derive(Clone, Copy, Debug)]
enum Event {
    Admit,
    AdmitEarly,
    /// The nth oldest request in flight ends like this; the floor allows an ejection or not.
    End(u64, Outcome, bool),
    /// Its caller leaves after so long.
    Cancel(u64, Duration),
    Pass(Duration),
    /// A clock that another thread read earlier.
    Back(Duration),
    Configure(Option<Terms>),
    Reset,
}

// === impl Event ===

impl Event {
    // Which ends, how, and whether the floor allows an ejection.
    fn ends(&self) -> Option<(u64, Outcome, bool)> {
        match *self {
            Self::End(which, outcome, may_eject) => Some((which, outcome, may_eject)),
            Self::Cancel(which, waited) => {
                let mut outcome = Outcome::NEUTRAL;
                outcome.waited = Some(waited);
                Some((which, outcome, true))
            }
            _ => None,
        }
    }
}

// === impl Dice ===

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = mix(self.0);
        below(self.0, n)
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    fn millis(&mut self, below: u64) -> Duration {
        Duration::from_millis(self.below(below))
    }

    fn terms(&mut self) -> Terms {
        let unified = self.below(3) > 0;
        let min = self.one_of(&[0, 1, 500, 1000]);
        Terms {
            unified,
            max_failures: self.one_of(&[0, 1, 2, 3, 5]),
            threshold_percent: if unified {
                self.one_of(&[0, 20, 50, 80, 100])
            } else {
                0
            },
            window_ms: self.one_of(&[10, 1000, 1000, 5003]),
            min_requests: self.one_of(&[0, 1, 2, 4]),
            min: Duration::from_millis(min),
            max: Duration::from_millis(min.max(1) * self.one_of(&[1, 5, 60])),
            slow_call: self.one_of(&[None, Some(Duration::from_millis(100))]),
            probes: self.one_of(&[0, 1, 1, 2, 3]),
            memory: self.one_of(&[None, Some(Duration::ZERO), Some(Duration::from_secs(2))]),
            respect_retry_after: self.below(2) > 0,
        }
    }

    fn outcome(&mut self) -> Outcome {
        let verdict = self.one_of(&[
            Verdict::Success,
            Verdict::Success,
            Verdict::Failure,
            Verdict::Failure,
            Verdict::Neutral,
        ]);
        let mut outcome = Outcome::new(verdict);
        outcome.rate_limited = self.below(6) == 0;
        outcome.retry_after = (self.below(4) == 0).then(|| self.millis(100_000));
        outcome.took = (self.below(2) == 0).then(|| self.millis(202));
        outcome
    }

    fn event(&mut self) -> Event {
        match self.below(32) {
            0..=9 => Event::Admit,
            10 => Event::AdmitEarly,
            11..=22 => Event::End(self.below(4), self.outcome(), self.below(8) > 0),
            23 => Event::Cancel(self.below(4), self.millis(202)),
            24..=28 => {
                let most = self.one_of(&[3, 300, 3_000, 70_000]);
                Event::Pass(self.millis(most))
            }
            29 => Event::Back(self.millis(50)),
            30 if self.below(4) == 0 => Event::Configure(None),
            30 => Event::Configure(Some(self.terms())),
            _ if self.below(4) == 0 => Event::Reset,
            _ => Event::Admit,
        }
    }
}

// === the comparison ===

fn events(case: u64, count: u64) -> Vec<Event> {
    let mut dice = Dice(mix(case));
    let first = Event::Configure(Some(dice.terms()));
    let rest = (0..dice.below(count)).map(|_| dice.event());
    std::iter::once(first).chain(rest).collect()
}

// How often what happened, by name.
type Seen = std::collections::BTreeMap<&'static str, u64>;

fn compare(events: &[Event], seen: &mut Seen) -> Result<(), String> {
    let start = Instant::now();
    let mut now = Duration::ZERO;
    let mut breaker = Breaker::new(None, start);
    let mut model = Model::default();
    let mut flying: Vec<(Admitted, u64)> = Vec::new();
    for (n, event) in events.iter().enumerate() {
        let at = start + now;
        let moment = now;
        let wrong = |what: String| Err(format!("event {n}, {event:?} at {moment:?}: {what}"));
        match *event {
            Event::Pass(time) => now += time,
            Event::Back(time) => now = now.saturating_sub(time),
            Event::Configure(terms) => {
                let policy = terms.map(|terms| terms.policy());
                breaker.configure(policy.as_ref(), at);
                model.configure(terms, now);
            }
            Event::Reset => {
                breaker.reset();
                model.close(None);
                model.trips = 0;
            }
            Event::Admit | Event::AdmitEarly => {
                let early = matches!(event, Event::AdmitEarly);
                let ours = if early {
                    breaker.admit_early(at)
                } else {
                    breaker.admit(at)
                };
                let theirs = model.admit(now, early);
                if ours.map(|admitted| admitted.probe) != theirs {
                    return wrong(format!("{ours:?}, and not {theirs:?}"));
                }
                flying.extend(ours.map(|admitted| (admitted, model.generation)));
            }
            Event::End(..) | Event::Cancel(..) if flying.is_empty() => {}
            Event::End(..) | Event::Cancel(..) => {
                let Some((which, outcome, may_eject)) = event.ends() else {
                    continue;
                };
                let (admitted, issued) = flying.remove(which as usize % flying.len());
                let ours = end(&mut breaker, at, admitted, &outcome, may_eject);
                let issued = (admitted.probe, issued);
                let theirs = model.end(now, issued, &outcome, may_eject, |_| false);
                let name = theirs.as_ref().map_or("nothing", Change::name);
                *seen.entry(name).or_default() += 1;
                if !same(&ours, &theirs, start) {
                    return wrong(format!("{ours:?}, and not {theirs:?}"));
                }
            }
        }
        if let Err(what) = same_state(&breaker, &model, start) {
            return wrong(what);
        }
    }
    Ok(())
}

fn same_state(breaker: &Breaker, model: &Model, start: Instant) -> Result<(), String> {
    let same = match (breaker.gate(), model.state) {
        (Gate::Closed, ModelState::Closed) => breaker.failures() == model.run(),
        (Gate::Open { until }, ModelState::Open(due, _)) => until == start + due,
        (Gate::HalfOpen { until }, ModelState::Probing(_, _, lost)) => until == start + lost,
        _ => false,
    };
    let failures = (breaker.failures(), model.run());
    let (ours, theirs) = (breaker.gate(), model.state);
    let what = || format!("{ours:?}, and not {theirs:?}; failures {failures:?}");
    same.then_some(()).ok_or_else(what)
}

// As the layer does it: a success that changes nothing is not recorded, or only counted.
fn end(
    breaker: &mut Breaker,
    at: Instant,
    admitted: Admitted,
    outcome: &Outcome,
    may_eject: bool,
) -> Option<Transition> {
    if breaker.verdict(outcome) == Verdict::Success && admitted.epoch == breaker.epoch() {
        match breaker.calm() {
            Calm::Nothing => return None,
            Calm::CountUntil(end) if !outcome.rate_limited && breaker.nanos(at) < end => {
                breaker.credit(1);
                return None;
            }
            _ => {}
        }
    }
    breaker.record(at, admitted, outcome, || 0, || may_eject)
}

fn same(ours: &Option<Transition>, theirs: &Option<Change>, start: Instant) -> bool {
    match (ours, theirs) {
        (None, None)
        | (Some(Transition::Closed), Some(Change::Closed))
        | (Some(Transition::ProbePassed), Some(Change::ProbePassed))
        | (Some(Transition::ProbeReturned), Some(Change::ProbeReturned)) => true,
        (Some(Transition::Opened { why, until }), Some(Change::Opened(named, due))) => {
            why.contains(named) && *until == start + *due
        }
        (Some(Transition::Refused { why }), Some(Change::Refused(named))) => why.contains(named),
        _ => false,
    }
}

fn check(case: u64, count: u64, seen: &mut Seen) {
    let mut events = events(case, count);
    let Err(mut error) = compare(&events, seen) else {
        return;
    };
    // Without each event that is not needed for it to go wrong.
    let mut n = events.len();
    while n > 0 {
        n -= 1;
        let mut fewer = events.clone();
        fewer.remove(n);
        if let Err(still) = compare(&fewer, seen) {
            (events, error) = (fewer, still);
        }
    }
    panic!("case {case}: {error}\n{events:#?}");
}

#[test]
fn agrees_with_a_model_that_remembers_everything() {
    let mut seen = Seen::new();
    (0..CASES).for_each(|case| check(case, EVENTS, &mut seen));
    // Each of them often enough to mean something.
    let names = [
        "nothing",
        "opened: in a row",
        "opened: success rate",
        "opened: failed",
        "opened: rate-limited",
        "refused",
        "closed",
        "probe passed",
        "probe returned",
    ];
    for name in names {
        let count = seen.get(name).copied().unwrap_or_default();
        assert!(count > 5_000, "{name}: {seen:?}");
    }
}

#[test]
fn agrees_with_it_for_a_long_time() {
    (0..LONG_CASES).for_each(|case| check(case, LONG_EVENTS, &mut Seen::new()));
}
