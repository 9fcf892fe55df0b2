//! The breaker beside a naive model that keeps every result, through random sequences of everything that can happen.
//!
//! Cases come from their number, so that each is the same on every machine; one that fails is shortened.

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::core::draw::{below, mix};
use crate::policy::{Ratio, Unified};

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

/// A policy in plain numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Terms {
    unified: bool,
    max_failures: u32,
    threshold_percent: u8,
    window_ms: u64,
    min_requests: u32,
    min: Duration,
    max: Duration,
    slow_call: Option<Duration>,
    probes: u32,
    memory: Option<Duration>,
    respect_retry_after: bool,
}

/// One that remembers every result since it closed, with its time and its bucket.
#[derive(Default)]
struct Model {
    terms: Option<Terms>,
    state: ModelState,
    results: Vec<Recorded>,
    // The window begins with this result, and its first bucket at this time.
    window_from: usize,
    window_start: Duration,
    newest_bucket: u128,
    trips: u32,
    closed_at: Option<Duration>,
    // When it got a policy: there is no time before.
    origin: Duration,
    // Of the state: what was admitted in another decides nothing.
    generation: u64,
}

struct Recorded {
    bucket: u128,
    failed: bool,
    bad: bool,
}

#[derive(Clone, Copy, PartialEq, Debug, Default)]
enum ModelState {
    #[default]
    Closed,
    // When a probe is due, and how many have succeeded.
    Open(Duration, u32),
    // When it was due, how many have succeeded, and when it counts as lost.
    Probing(Duration, u32, Duration),
}

#[derive(Debug, PartialEq)]
enum Change {
    Opened(&'static str, Duration),
    Refused(&'static str),
    Closed,
    ProbePassed,
    ProbeReturned,
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
            max_failures: self.one_of(&[0, 1, 2, 3]),
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

// === impl Terms ===

impl Terms {
    fn policy(&self) -> FailureAccrual {
        let backoff = ExponentialBackoff::try_new(self.min, self.max, Ratio::ZERO).unwrap();
        let mut policy = if self.unified {
            let threshold = Ratio::percent(self.threshold_percent);
            let window = Duration::from_millis(self.window_ms);
            let (min_requests, max_failures) = (self.min_requests, self.max_failures);
            Unified::try_new(threshold, window, min_requests, max_failures, backoff)
                .unwrap()
                .into()
        } else {
            FailureAccrual::consecutive(self.max_failures).backoff(backoff)
        };
        let extensions = policy.extensions_mut();
        extensions.slow_call = self.slow_call;
        extensions.probes = self.probes;
        extensions.memory = self.memory;
        extensions.respect_retry_after = self.respect_retry_after;
        policy
    }

    // None: there is no window.
    fn bucket_nanos(&self) -> Option<u128> {
        let rated = self.unified && self.threshold_percent > 0;
        rated.then(|| u128::from(self.window_ms) * 1_000_000 / 10)
    }

    fn wait(&self, trips: u32) -> Duration {
        let (min, trips) = match (self.min, trips) {
            (Duration::ZERO, 0) => return Duration::ZERO,
            (Duration::ZERO, n) => (Duration::from_millis(1), n - 1),
            other => other,
        };
        let mut wait = min;
        for _ in 0..trips.min(40) {
            wait = (wait * 2).min(self.max);
        }
        wait.min(self.max)
    }
}

// === impl Model ===

impl Model {
    fn configure(&mut self, terms: Option<Terms>, now: Duration) {
        if self.terms.is_none() {
            self.origin = now;
        }
        let now = now.max(self.origin);
        let bucket = |terms: Option<Terms>| terms.and_then(|terms| terms.bucket_nanos());
        if terms.is_none() || bucket(self.terms) != bucket(terms) {
            self.window_from = self.results.len();
            self.window_start = now;
            self.newest_bucket = 0;
        }
        if terms.is_none() {
            self.closed_at = None;
            if self.state != ModelState::Closed {
                self.close(None);
            }
        }
        self.terms = terms;
    }

    fn close(&mut self, at: Option<Duration>) {
        self.generation += 1;
        self.state = ModelState::Closed;
        self.closed_at = at;
        self.results.clear();
        self.window_from = 0;
    }

    fn admit(&mut self, now: Duration, early: bool) -> Option<bool> {
        let now = now.max(self.origin);
        let Some(terms) = self.terms else {
            return Some(false);
        };
        let (due, passed) = match self.state {
            ModelState::Closed => return Some(false),
            ModelState::Open(due, passed) if due <= now || early => (due.min(now), passed),
            ModelState::Probing(due, passed, lost) if lost <= now => (due, passed),
            _ => return None,
        };
        self.generation += 1;
        self.state = ModelState::Probing(due, passed, now + terms.max);
        Some(true)
    }

    fn run(&self) -> u32 {
        let failed = self.results.iter().rev().take_while(|result| result.failed);
        failed.count() as u32
    }

    fn trip(&mut self, now: Duration, outcome: &Outcome, terms: &Terms) -> Duration {
        let mut wait = terms.wait(self.trips);
        if let (true, Some(hint)) = (terms.respect_retry_after, outcome.retry_after) {
            wait = wait.max(hint.max(terms.min).min(terms.max));
        }
        self.trips += 1;
        self.generation += 1;
        self.state = ModelState::Open(now + wait, 0);
        now + wait
    }

    fn end(
        &mut self,
        now: Duration,
        (probe, issued): (bool, u64),
        outcome: &Outcome,
        may_eject: bool,
    ) -> Option<Change> {
        let terms = self.terms?;
        let now = now.max(self.origin);
        if issued != self.generation {
            return None;
        }
        let time = match outcome.verdict {
            Verdict::Success => outcome.took,
            Verdict::Neutral => outcome.waited,
            Verdict::Failure => None,
        };
        let slow = terms
            .slow_call
            .zip(time)
            .is_some_and(|(slow, time)| time > slow);
        let verdict = if slow {
            Verdict::Failure
        } else {
            outcome.verdict
        };
        if probe {
            let ModelState::Probing(due, passed, _) = self.state else {
                panic!("a probe without probation")
            };
            let limited = terms.unified && outcome.rate_limited;
            return Some(match verdict {
                Verdict::Failure => Change::Opened("failed", self.trip(now, outcome, &terms)),
                Verdict::Success if limited => {
                    Change::Opened("rate-limited", self.trip(now, outcome, &terms))
                }
                Verdict::Success if passed + 1 >= terms.probes => {
                    self.close(Some(now));
                    Change::Closed
                }
                Verdict::Success => {
                    self.generation += 1;
                    self.state = ModelState::Open(due, passed + 1);
                    Change::ProbePassed
                }
                Verdict::Neutral => {
                    self.generation += 1;
                    self.state = ModelState::Open(due, passed);
                    Change::ProbeReturned
                }
            });
        }
        if self.state != ModelState::Closed || verdict == Verdict::Neutral {
            return None;
        }
        let failed = verdict == Verdict::Failure;
        if let Some(width) = terms.bucket_nanos() {
            let bucket = now.saturating_sub(self.window_start).as_nanos() / width;
            self.newest_bucket = self.newest_bucket.max(bucket);
        }
        self.results.push(Recorded {
            bucket: self.newest_bucket,
            failed,
            bad: failed || outcome.rate_limited,
        });
        let remembered = match (terms.memory, self.closed_at) {
            (Some(memory), Some(since)) => {
                let memory = memory.max(Duration::from_nanos(1));
                let forgiven = now.saturating_sub(since).as_nanos() / memory.as_nanos();
                self.trips
                    .saturating_sub(forgiven.min(u32::MAX.into()) as u32)
            }
            _ => 0,
        };
        let why = self.reason(&terms, remembered > 0)?;
        if !may_eject {
            return Some(Change::Refused(why));
        }
        self.trips = remembered;
        Some(Change::Opened(why, self.trip(now, outcome, &terms)))
    }

    fn reason(&self, terms: &Terms, on_record: bool) -> Option<&'static str> {
        let most = match terms.max_failures {
            most if on_record => most.min(3),
            most => most,
        };
        if most > 0 && self.run() >= most {
            return Some("in a row");
        }
        terms.bucket_nanos()?;
        let newest = self.newest_bucket;
        let kept = &self.results[self.window_from.min(self.results.len())..];
        let kept: Vec<_> = kept.iter().filter(|it| newest - it.bucket < 10).collect();
        let good = kept.iter().filter(|it| !it.bad).count();
        let low = good * 100 < usize::from(terms.threshold_percent) * kept.len();
        (kept.len() >= terms.min_requests.max(1) as usize && low).then_some("success rate")
    }
}

// === impl Change ===

impl Change {
    fn name(&self) -> &'static str {
        match self {
            Self::Opened("in a row", _) => "opened: in a row",
            Self::Opened("success rate", _) => "opened: success rate",
            Self::Opened("failed", _) => "opened: failed",
            Self::Opened(..) => "opened: rate-limited",
            Self::Refused(_) => "refused",
            Self::Closed => "closed",
            Self::ProbePassed => "probe passed",
            Self::ProbeReturned => "probe returned",
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
                let (which, outcome, may_eject) = match *event {
                    Event::End(which, outcome, may_eject) => (which, outcome, may_eject),
                    Event::Cancel(which, waited) => {
                        let waited = Some(waited);
                        (
                            which,
                            Outcome {
                                waited,
                                ..Outcome::NEUTRAL
                            },
                            true,
                        )
                    }
                    _ => continue,
                };
                let (admitted, issued) = flying.remove(which as usize % flying.len());
                let ours = end(&mut breaker, at, admitted, &outcome, may_eject);
                let theirs = model.end(now, (admitted.probe, issued), &outcome, may_eject);
                let name = theirs.as_ref().map_or("nothing", Change::name);
                *seen.entry(name).or_default() += 1;
                if !same(&ours, &theirs, start) {
                    return wrong(format!("{ours:?}, and not {theirs:?}"));
                }
            }
        }
        let same = match (breaker.gate(), model.state) {
            (Gate::Closed, ModelState::Closed) => breaker.failures() == model.run(),
            (Gate::Open { until }, ModelState::Open(due, _)) => until == start + due,
            (Gate::HalfOpen { until }, ModelState::Probing(_, _, lost)) => until == start + lost,
            _ => false,
        };
        if !same {
            let failures = (breaker.failures(), model.run());
            return wrong(format!(
                "{:?}, and not {:?}; failures {failures:?}",
                breaker.gate(),
                model.state
            ));
        }
    }
    Ok(())
}

// As the layer does it: a success that changes nothing is not recorded, or only counted.
fn end(
    breaker: &mut Breaker,
    at: Instant,
    admitted: Admitted,
    outcome: &Outcome,
    may_eject: bool,
) -> Option<Transition> {
    let rules = breaker.rules.clone();
    let verdict = rules.map_or(outcome.verdict, |rules| rules.verdict(outcome));
    if verdict == Verdict::Success && admitted.epoch == breaker.epoch() {
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
