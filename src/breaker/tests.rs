use std::time::Duration;

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

#[test]
fn it_is_small() {
    use std::mem::size_of;
    assert!(size_of::<Breaker>() <= 64, "{}", size_of::<Breaker>());
    let window = size_of::<Breaker>() + size_of::<super::window::Window>();
    assert!(window <= 192, "{window}");
}
