use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::policy::{Ratio, Unified};

fn backoff(min: u64, max: u64) -> ExponentialBackoff {
    ExponentialBackoff::try_new(
        Duration::from_secs(min),
        Duration::from_secs(max),
        Ratio::ZERO,
    )
    .unwrap()
}

fn consecutive(max_failures: u32) -> FailureAccrual {
    FailureAccrual::consecutive(max_failures).backoff(backoff(1, 60))
}

fn unified(threshold: u8, min_requests: u32, max_failures: u32) -> FailureAccrual {
    Unified::try_new(
        Ratio::percent(threshold),
        Duration::from_secs(10),
        min_requests,
        max_failures,
        backoff(1, 60),
    )
    .unwrap()
    .into()
}

struct Bench {
    breaker: Breaker,
    now: Instant,
}

impl Bench {
    fn new(policy: &FailureAccrual) -> Self {
        let now = Instant::now();
        Self {
            breaker: Breaker::new(Some(policy), now),
            now,
        }
    }

    fn pass(&mut self, seconds: f64) {
        self.now += Duration::from_secs_f64(seconds);
    }

    fn admit(&mut self) -> Option<Admitted> {
        self.breaker.admit(self.now)
    }

    fn record(&mut self, admitted: Admitted, outcome: Outcome) -> Option<Transition> {
        self.breaker
            .record(self.now, admitted, &outcome, || 0, || true)
    }

    fn call(&mut self, outcome: Outcome) -> Option<Transition> {
        let admitted = self.admit().unwrap();
        self.record(admitted, outcome)
    }

    fn is_open(&self) -> bool {
        matches!(self.breaker.gate(), Gate::Open { .. })
    }
}

const LIMITED: Outcome = Outcome {
    rate_limited: true,
    ..Outcome::SUCCESS
};

#[test]
fn failures_in_a_row_open_it_and_a_success_between_does_not() {
    let mut b = Bench::new(&consecutive(3));
    for outcome in [
        Outcome::FAILURE,
        Outcome::FAILURE,
        Outcome::SUCCESS,
        Outcome::FAILURE,
        Outcome::NEUTRAL,
        Outcome::FAILURE,
    ] {
        assert_eq!(b.call(outcome), None);
    }
    let opened = b.call(Outcome::FAILURE);
    let until = b.now + Duration::from_secs(1);
    assert_eq!(
        opened,
        Some(Transition::Opened {
            why: "3 failures in a row".into(),
            until
        })
    );
    assert_eq!(b.admit(), None);
}

#[test]
fn zero_failures_never_open_it() {
    let mut b = Bench::new(&consecutive(0));
    for _ in 0..1000 {
        assert_eq!(b.call(Outcome::FAILURE), None);
    }
}

#[test]
fn probes_wait_ever_longer_and_a_recovery_forgets() {
    let mut b = Bench::new(&consecutive(1));
    let mut waits = Vec::new();
    let mut opened = b.call(Outcome::FAILURE);
    for _ in 0..8 {
        let Some(Transition::Opened { until, .. }) = opened else {
            panic!("{opened:?}")
        };
        waits.push((until - b.now).as_secs());
        b.now = until;
        opened = b.call(Outcome::FAILURE);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    b.pass(60.0);
    assert_eq!(b.call(Outcome::SUCCESS), Some(Transition::Closed));
    let until = b.now + Duration::from_secs(1);
    assert!(
        matches!(b.call(Outcome::FAILURE), Some(Transition::Opened { until: u, .. }) if u == until)
    );
}

#[test]
fn three_failures_eject_one_that_is_not_forgiven() {
    let mut b = Bench::new(&consecutive(7).memory(Duration::from_secs(10)));
    let run = |b: &mut Bench| {
        let mut calls = 0;
        while !b.is_open() {
            b.call(Outcome::FAILURE);
            calls += 1;
        }
        b.pass(60.0);
        assert_eq!(b.call(Outcome::SUCCESS), Some(Transition::Closed));
        calls
    };
    assert_eq!(run(&mut b), 7);
    b.pass(9.0);
    assert_eq!(run(&mut b), 3, "on record");
    b.pass(20.0);
    assert_eq!(run(&mut b), 7, "two are made up for");
}

#[test]
fn one_probe_at_a_time_and_a_neutral_one_frees_its_place() {
    let mut b = Bench::new(&consecutive(1));
    b.call(Outcome::FAILURE);
    b.pass(0.999);
    assert_eq!(b.admit(), None);
    b.pass(0.001);
    let probe = b.admit().unwrap();
    assert!(probe.probe);
    assert_eq!(b.admit(), None);
    assert_eq!(
        b.record(probe, Outcome::NEUTRAL),
        Some(Transition::ProbeReturned)
    );
    let second = b.admit().unwrap();
    // The first one's verdict, were it to come twice, decides nothing any more.
    assert_eq!(b.record(probe, Outcome::SUCCESS), None);
    assert_eq!(b.record(second, Outcome::SUCCESS), Some(Transition::Closed));
}

#[test]
fn stragglers_from_before_the_trip_decide_nothing() {
    let mut b = Bench::new(&consecutive(2));
    let stragglers: Vec<_> = (0..4).map(|_| b.admit().unwrap()).collect();
    b.call(Outcome::FAILURE);
    b.call(Outcome::FAILURE);
    assert!(b.is_open());
    assert_eq!(b.record(stragglers[0], Outcome::SUCCESS), None);
    b.pass(1.0);
    let probe = b.admit().unwrap();
    assert_eq!(b.record(stragglers[1], Outcome::SUCCESS), None);
    assert_eq!(b.record(stragglers[2], Outcome::FAILURE), None);
    assert!(matches!(b.breaker.gate(), Gate::HalfOpen { .. }));
    assert_eq!(b.record(probe, Outcome::SUCCESS), Some(Transition::Closed));
    // After the recovery, too.
    assert_eq!(b.record(stragglers[3], Outcome::FAILURE), None);
    assert_eq!(b.breaker.failures(), 0);
}

#[test]
fn the_floor_refuses_an_ejection_and_keeps_counting() {
    let mut b = Bench::new(&consecutive(1));
    let admitted = b.admit().unwrap();
    let refused = b
        .breaker
        .record(b.now, admitted, &Outcome::FAILURE, || 0, || false);
    assert!(matches!(refused, Some(Transition::Refused { .. })));
    assert_eq!(b.breaker.gate(), Gate::Closed);
    assert!(matches!(
        b.call(Outcome::FAILURE),
        Some(Transition::Opened { .. })
    ));
}

#[test]
fn a_low_success_rate_opens_it() {
    let mut b = Bench::new(&unified(80, 5, 0));
    for outcome in [
        Outcome::FAILURE,
        Outcome::SUCCESS,
        Outcome::SUCCESS,
        Outcome::SUCCESS,
    ] {
        assert_eq!(b.call(outcome), None, "cold start");
    }
    assert_eq!(b.call(Outcome::SUCCESS), None, "exactly the threshold");
    let opened = b.call(Outcome::FAILURE);
    assert!(
        matches!(&opened, Some(Transition::Opened { why, .. }) if why == "success rate 0.66 of 6 in 10 s, threshold 0.80"),
        "{opened:?}"
    );
}

#[test]
fn rate_limits_count_for_the_rate_and_the_probe_but_end_a_run() {
    let mut b = Bench::new(&unified(50, 100, 3));
    for _ in 0..4 {
        b.call(Outcome::FAILURE);
        b.call(Outcome::FAILURE);
        assert_eq!(b.call(LIMITED), None);
    }
    let mut b = Bench::new(&unified(50, 3, 0));
    b.call(LIMITED);
    b.call(LIMITED);
    assert!(matches!(b.call(LIMITED), Some(Transition::Opened { .. })));
    b.pass(1.0);
    assert!(
        matches!(b.call(LIMITED), Some(Transition::Opened { .. })),
        "a strict probe"
    );
    let mut b = Bench::new(&consecutive(1));
    b.call(Outcome::FAILURE);
    b.pass(1.0);
    assert_eq!(b.call(LIMITED), Some(Transition::Closed), "a lenient probe");
}

#[test]
fn results_leave_the_window() {
    let mut b = Bench::new(&unified(80, 5, 0));
    for _ in 0..4 {
        b.call(Outcome::FAILURE);
    }
    b.pass(10.0);
    for _ in 0..5 {
        assert_eq!(b.call(Outcome::SUCCESS), None);
    }
    // An idle century does not wedge it.
    b.pass(3e9);
    for _ in 0..4 {
        assert_eq!(b.call(Outcome::FAILURE), None);
    }
    assert!(b.call(Outcome::FAILURE).is_some());
}

#[test]
fn another_policy_keeps_the_state_and_none_closes_it() {
    let mut b = Bench::new(&consecutive(1));
    b.call(Outcome::FAILURE);
    b.breaker.configure(Some(&unified(80, 5, 7)), b.now);
    assert!(b.is_open());
    b.breaker.configure(None, b.now);
    assert_eq!(b.breaker.gate(), Gate::Closed);
    for _ in 0..100 {
        assert_eq!(b.call(Outcome::FAILURE), None);
    }
}

#[test]
fn several_probes_in_a_row_must_succeed() {
    let mut b = Bench::new(&consecutive(1).probes(3));
    b.call(Outcome::FAILURE);
    b.pass(1.0);
    assert_eq!(b.call(Outcome::SUCCESS), Some(Transition::ProbePassed));
    assert_eq!(b.call(Outcome::NEUTRAL), Some(Transition::ProbeReturned));
    assert_eq!(b.call(Outcome::SUCCESS), Some(Transition::ProbePassed));
    assert!(matches!(
        b.call(Outcome::FAILURE),
        Some(Transition::Opened { .. })
    ));
    b.pass(2.0);
    for _ in 0..2 {
        assert_eq!(
            b.call(Outcome::SUCCESS),
            Some(Transition::ProbePassed),
            "counted anew"
        );
    }
    assert_eq!(b.call(Outcome::SUCCESS), Some(Transition::Closed));
}

#[test]
fn a_probe_that_takes_too_long_makes_room_for_another() {
    let mut b = Bench::new(&consecutive(1));
    b.call(Outcome::FAILURE);
    b.pass(1.0);
    let lost = b.admit().unwrap();
    b.pass(59.9);
    assert_eq!(b.admit(), None);
    b.pass(0.1);
    let second = b.admit().unwrap();
    assert!(second.probe);
    assert_eq!(
        b.record(lost, Outcome::SUCCESS),
        None,
        "too late to decide anything"
    );
    assert_eq!(b.record(second, Outcome::SUCCESS), Some(Transition::Closed));
}

#[test]
fn hints_are_the_least_it_is_left_alone_for() {
    let hinted = |seconds| {
        let mut outcome = Outcome::FAILURE;
        outcome.retry_after = Some(Duration::from_secs(seconds));
        outcome
    };
    for (respect, hint, wait) in [
        (false, 10, 1),
        (true, 10, 10),
        (true, 0, 1),
        (true, 1000, 60),
    ] {
        let mut policy = consecutive(1);
        if respect {
            policy = policy.respect_retry_after();
        }
        let mut b = Bench::new(&policy);
        let until = b.now + Duration::from_secs(wait);
        assert!(
            matches!(b.call(hinted(hint)), Some(Transition::Opened { until: u, .. }) if u == until),
            "{respect} {hint}"
        );
    }
}

#[test]
fn an_endpoint_that_flaps_is_remembered_and_forgiven() {
    let waits = |policy: &FailureAccrual, healthy: f64| {
        let mut b = Bench::new(policy);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let Some(Transition::Opened { until, .. }) = b.call(Outcome::FAILURE) else {
                panic!("not opened")
            };
            waits.push((until - b.now).as_secs());
            b.now = until;
            assert_eq!(b.call(Outcome::SUCCESS), Some(Transition::Closed));
            b.pass(healthy);
        }
        waits
    };
    let memory = consecutive(1).memory(Duration::from_secs(10));
    assert_eq!(waits(&consecutive(1), 1.0), [1; 8], "without a memory");
    assert_eq!(waits(&memory, 9.0), [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(waits(&memory, 10.0), [1; 8], "one is made up for");
    assert_eq!(waits(&memory, 1e9), [1; 8]);
}

// The naive model: remembers every result of the current epoch with its time.
struct Model {
    threshold_percent: u64,
    min_requests: u64,
    max_failures: u32,
    results: Vec<(Duration, bool)>,
    run: u32,
    state: ModelState,
    trips: u32,
    probes: u32,
    memory: Option<Duration>,
    closed_at: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum ModelState {
    Closed,
    // When a probe is due, and how many have succeeded.
    Open(Duration, u32),
    // When it was due, how many have succeeded, and when it counts as lost.
    Probing(Duration, u32, Duration),
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Admit,
    // The nth oldest request in flight ends like this.
    End(usize, u8),
    Pass(u32),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => Just(Event::Admit),
        4 => (0usize..4, 0u8..4).prop_map(|(n, how)| Event::End(n, how)),
        2 => (0u32..3000).prop_map(Event::Pass),
    ];
    proptest::collection::vec(event, 1..200)
}

const MAX: Duration = Duration::from_secs(60);

impl Model {
    fn admit(&mut self, now: Duration) -> Option<bool> {
        match self.state {
            ModelState::Closed => Some(false),
            ModelState::Open(due, passed) if due <= now => {
                self.state = ModelState::Probing(due, passed, now + MAX);
                Some(true)
            }
            ModelState::Probing(due, passed, lost) if lost <= now => {
                self.state = ModelState::Probing(due, passed, now + MAX);
                Some(true)
            }
            _ => None,
        }
    }

    fn trip(&mut self, now: Duration) {
        let wait = Duration::from_secs((1 << self.trips.min(10)).min(60));
        self.trips += 1;
        self.run = 0;
        self.state = ModelState::Open(now + wait, 0);
    }

    fn end(&mut self, now: Duration, probe: bool, verdict: Verdict, limited: bool) {
        let failed = verdict == Verdict::Failure;
        if probe {
            let ModelState::Probing(due, passed, _) = self.state else {
                panic!("a probe without probation")
            };
            if verdict == Verdict::Neutral {
                self.state = ModelState::Open(due, passed);
            } else if failed || (limited && self.threshold_percent > 0) {
                self.trip(now);
            } else if passed + 1 < self.probes {
                self.state = ModelState::Open(due, passed + 1);
            } else {
                self.state = ModelState::Closed;
                self.closed_at = Some(now);
                self.run = 0;
                self.results.clear();
            }
            return;
        }
        if verdict == Verdict::Neutral {
            return;
        }
        self.run = if failed { self.run + 1 } else { 0 };
        self.results.push((now, failed || limited));
        let bucket = |at: Duration| at.as_millis() / 1000;
        let kept: Vec<_> = self
            .results
            .iter()
            .filter(|(at, _)| bucket(now) - bucket(*at) < 10)
            .collect();
        let total = kept.len() as u64;
        let good = kept.iter().filter(|(_, bad)| !bad).count() as u64;
        let low = self.threshold_percent > 0
            && total >= self.min_requests.max(1)
            && good * 100 < self.threshold_percent * total;
        let healthy = self.closed_at.map(|at| now - at);
        let remembered = match (self.memory, healthy) {
            (Some(memory), Some(healthy)) => {
                let forgiven = (healthy.as_millis() / memory.as_millis()) as u32;
                self.trips.saturating_sub(forgiven)
            }
            _ => 0,
        };
        let most = if remembered > 0 {
            self.max_failures.min(3)
        } else {
            self.max_failures
        };
        if (most > 0 && self.run >= most) || low {
            self.trips = remembered;
            self.trip(now);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(25_000))]

    #[test]
    fn agrees_with_a_model_that_remembers_everything(
        events in events(), threshold in prop_oneof![Just(0u8), 1u8..=100], min_requests in 0u32..8, max_failures in 0u32..5,
        probes in 0u32..4, memory in proptest::option::of(1u64..20),
    ) {
        let mut policy = if threshold == 0 { consecutive(max_failures) } else { unified(threshold, min_requests, max_failures) };
        policy = policy.probes(probes);
        let memory = memory.map(Duration::from_secs);
        if let Some(memory) = memory { policy = policy.memory(memory); }
        let mut b = Bench::new(&policy);
        let start = b.now;
        let mut model = Model {
            threshold_percent: threshold.into(), min_requests: min_requests.into(), max_failures,
            results: Vec::new(), run: 0, state: ModelState::Closed, trips: 0,
            probes: probes.max(1), memory, closed_at: None,
        };
        // (as admitted by the breaker, generation of the model's state when admitted)
        let mut flying: Vec<(Admitted, u64)> = Vec::new();
        let mut generation = 0u64;
        for event in events {
            let now = b.now - start;
            let before = model.state;
            match event {
                Event::Pass(ms) => b.now += Duration::from_millis(ms.into()),
                Event::Admit => {
                    let (ours, theirs) = (b.admit(), model.admit(now));
                    prop_assert_eq!(ours.map(|a| a.probe), theirs);
                    if model.state != before { generation += 1; }
                    if let Some(admitted) = ours { flying.push((admitted, generation)); }
                }
                Event::End(n, how) => {
                    if flying.is_empty() { continue; }
                    let (admitted, issued) = flying.remove(n % flying.len());
                    let outcome = [Outcome::SUCCESS, Outcome::FAILURE, Outcome::NEUTRAL, LIMITED][how as usize];
                    b.record(admitted, outcome);
                    if issued == generation {
                        model.end(now, admitted.probe, outcome.verdict, outcome.rate_limited);
                        if model.state != before { generation += 1; }
                    }
                }
            }
            let agrees = match (b.breaker.gate(), model.state) {
                (Gate::Closed, ModelState::Closed) => true,
                (Gate::Open { until }, ModelState::Open(due, _)) => until - start == due,
                (Gate::HalfOpen { until }, ModelState::Probing(_, _, lost)) => until - start == lost,
                _ => false,
            };
            prop_assert!(agrees, "{:?} {:?}", b.breaker.gate(), model.state);
        }
    }
}

#[test]
fn it_is_small() {
    use std::mem::size_of;
    assert!(size_of::<Breaker>() <= 64, "{}", size_of::<Breaker>());
    let window = size_of::<Breaker>() + size_of::<super::window::Window>();
    assert!(window <= 192, "{window}");
}
