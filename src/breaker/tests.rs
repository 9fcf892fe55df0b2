use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::policy::{ExponentialBackoff, FailureAccrual, Ratio, Unified};
use crate::verdict::Outcome;

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

#[test]
fn policies_combine_and_the_first_to_trip_is_named() {
    let slow = |outcome: Outcome| Outcome {
        took: Some(Duration::from_secs(3)),
        ..outcome
    };
    let rate = || FailureAccrual::success_rate(Ratio::percent(80)).backoff(backoff(1, 60));
    let all = || rate().or_consecutive(3).slow_call(Duration::from_secs(2));
    let named = |policy: &FailureAccrual, outcomes: &[Outcome]| {
        let mut b = Bench::new(policy);
        for (n, outcome) in outcomes.iter().enumerate() {
            if let Some(Transition::Opened { why, .. }) = b.call(*outcome) {
                assert_eq!(n + 1, outcomes.len(), "too early: {why}");
                return why.into_owned();
            }
        }
        "nothing".into()
    };
    let (good, bad) = (Outcome::SUCCESS, Outcome::FAILURE);
    assert_eq!(named(&all(), &[bad, bad, bad]), "3 failures in a row");
    let low = "success rate 0.60 of 5 in 10 s, threshold 0.80";
    assert_eq!(named(&all(), &[bad, good, good, good, bad]), low);
    // Slow calls are failures of either kind.
    assert_eq!(
        named(&all(), &[slow(good), bad, slow(good)]),
        "3 failures in a row"
    );
    let mixed = [good, slow(good), good, bad, good];
    assert_eq!(named(&all(), &mixed), low);
    // The rate alone, and the run first where both are true.
    assert_eq!(
        named(&rate(), &[bad; 5]),
        "success rate 0.00 of 5 in 10 s, threshold 0.80"
    );
    assert_eq!(
        named(&rate().or_consecutive(5), &[bad; 5]),
        "5 failures in a row"
    );
    // Turned the other way round it is the same.
    let other = consecutive(3).or_success_rate(Ratio::percent(80));
    assert_eq!(other, rate().or_consecutive(3));
    assert_eq!(named(&other, &[bad, good, good, good, bad]), low);
}

#[test]
fn a_rate_reads_well() {
    let why = |policy: Unified, good: u32, bad: u32| {
        let mut b = Bench::new(&policy.into());
        for _ in 0..good {
            assert_eq!(b.call(Outcome::SUCCESS), None);
        }
        for n in 1..=bad {
            if let Some(Transition::Opened { why, .. }) = b.call(Outcome::FAILURE) {
                assert_eq!(n, bad);
                return why.into_owned();
            }
        }
        panic!("not opened")
    };
    let policy = |threshold: u32, window: u64, min_requests| {
        let threshold = Ratio::parts_per_million(threshold).unwrap();
        let window = Duration::from_millis(window);
        Unified::try_new(threshold, window, min_requests, 0, backoff(1, 60)).unwrap()
    };
    assert_eq!(
        why(policy(800_000, 10_000, 143), 87, 56),
        "success rate 0.60 of 143 in 10 s, threshold 0.80"
    );
    // Never as if it were the threshold; and all digits of that.
    assert_eq!(
        why(policy(999_500, 250, 1), 1999, 2),
        "success rate 0.99 of 2001 in 250ms, threshold 0.9995"
    );
    assert_eq!(
        why(policy(1_000_000, 60_000, 1), 10, 1),
        "success rate 0.90 of 11 in 60 s, threshold 1.00"
    );
}

// === time at its edges, and for a long time ===

#[test]
fn backoffs_of_nothing_of_one_and_at_the_cap() {
    let waits = |min: Duration, max: Duration| {
        let backoff = ExponentialBackoff::try_new(min, max, Ratio::ZERO).unwrap();
        let mut b = Bench::new(&FailureAccrual::consecutive(1).backoff(backoff));
        let waits = (0..40).map(|_| {
            let Some(Transition::Opened { until, .. }) = b.call(Outcome::FAILURE) else {
                panic!("not opened")
            };
            let wait = until - b.now;
            b.now = until;
            wait
        });
        waits.collect::<Vec<_>>()
    };
    let ms = Duration::from_millis;
    // A probe at once, and then ever later.
    let zero = waits(Duration::ZERO, ms(5));
    assert_eq!(zero[..6], [ms(0), ms(1), ms(2), ms(4), ms(5), ms(5)]);
    let nano = Duration::from_nanos(1);
    let one = waits(nano, ms(1));
    assert_eq!(one[..3], [nano, nano * 2, nano * 4]);
    assert_eq!(one[39], ms(1));
    // At the cap from the beginning, for ever.
    assert_eq!(waits(ms(7), ms(7)), [ms(7); 40]);
    // Longer than anybody lives.
    let century = Duration::from_secs(100 * 365 * 24 * 3600);
    assert_eq!(waits(century, century)[..3], [crate::core::time::FAR; 3]);
}

#[test]
fn a_clock_that_jumps_a_year() {
    let year = 365.0 * 24.0 * 3600.0;
    // While open: a probe is due, once.
    let mut b = Bench::new(&consecutive(1).memory(Duration::from_secs(60)));
    b.call(Outcome::FAILURE);
    b.pass(year);
    let probe = b.admit().unwrap();
    assert!(probe.probe && b.admit().is_none());
    // While it probes: the probe counts as lost.
    b.pass(year);
    let second = b.admit().unwrap();
    assert_eq!(b.record(probe, Outcome::FAILURE), None);
    assert_eq!(b.record(second, Outcome::SUCCESS), Some(Transition::Closed));
    // While closed: all is forgiven.
    b.pass(year);
    let until = b.now + Duration::from_secs(1);
    let opened = b.call(Outcome::FAILURE);
    assert!(matches!(opened, Some(Transition::Opened { until: u, .. }) if u == until));
    // In a window: what was in it is gone, and it goes on as if it were new.
    let mut b = Bench::new(&unified(50, 4, 0));
    for _ in 0..3 {
        b.call(Outcome::FAILURE);
    }
    b.pass(year);
    for _ in 0..3 {
        assert_eq!(b.call(Outcome::FAILURE), None);
    }
    assert!(matches!(
        b.call(Outcome::FAILURE),
        Some(Transition::Opened { .. })
    ));
    // And a clock that is read late does not turn anything back.
    let mut b = Bench::new(&unified(50, 4, 0));
    b.pass(year);
    for _ in 0..3 {
        b.call(Outcome::FAILURE);
    }
    b.now -= Duration::from_secs(3600);
    assert!(matches!(
        b.call(Outcome::FAILURE),
        Some(Transition::Opened { .. })
    ));
}

#[test]
fn a_window_whose_buckets_are_a_millisecond() {
    let policy = |window| {
        let window = Duration::from_millis(window);
        let policy = Unified::try_new(Ratio::percent(50), window, 3, 0, backoff(1, 60));
        policy.unwrap().into()
    };
    let mut b = Bench::new(&policy(10));
    for _ in 0..2 {
        b.call(Outcome::FAILURE);
    }
    // In the last bucket of ten they still count, in the next they do not.
    b.pass(0.0099);
    let mut early = b.breaker.clone();
    let admitted = early.admit(b.now).unwrap();
    let opened = early.record(b.now, admitted, &Outcome::FAILURE, || 0, || true);
    assert!(matches!(opened, Some(Transition::Opened { .. })));
    b.pass(0.0001);
    assert_eq!(b.call(Outcome::FAILURE), None);
    assert_eq!(b.call(Outcome::FAILURE), None);
    assert!(b.call(Outcome::FAILURE).is_some());
    // All results in one bucket.
    let mut b = Bench::new(&policy(3_600_000));
    for outcome in [Outcome::SUCCESS, Outcome::FAILURE, Outcome::SUCCESS] {
        assert_eq!(b.call(outcome), None);
    }
    assert_eq!(b.call(Outcome::FAILURE), None, "exactly half");
    assert!(b.call(Outcome::FAILURE).is_some());
}

#[test]
fn a_million_results_without_drift() {
    // A hundred results a second, every fifth a failure, for nearly three hours: exactly the threshold, all the time.
    let mut b = Bench::new(&unified(80, 1, 0));
    for n in 0..1_000_000u32 {
        let outcome = if n % 5 == 4 {
            Outcome::FAILURE
        } else {
            Outcome::SUCCESS
        };
        assert_eq!(b.call(outcome), None, "result {n}");
        b.pass(0.01);
    }
    // The window holds nine buckets and a part of the tenth, and not one result more or less.
    let (total, bad) = b.breaker.window_sums().unwrap();
    assert_eq!((total, bad), (1000, 200));
    // One more than every fifth is too much, at once.
    assert_eq!(b.call(Outcome::SUCCESS), None);
    let opened = b.call(Outcome::FAILURE);
    assert!(
        matches!(opened, Some(Transition::Opened { .. })),
        "{opened:?}"
    );
}

#[test]
fn a_window_that_is_full_counts_no_more() {
    let mut window = super::window::Window::new(0, 10);
    window.credit(u32::MAX - 1);
    window.record(5, 10, true);
    let most = u64::from(u32::MAX);
    assert_eq!(window.sums(), (most, 1));
    window.record(10, 10, true);
    window.credit(u32::MAX);
    assert_eq!(window.sums(), (most, 1));
    // The full bucket is the oldest, and then is gone.
    window.record(99, 10, true);
    assert_eq!(window.sums(), (most, 1));
    window.record(100, 10, true);
    assert_eq!(window.sums(), (1, 1));
    window.record(u64::MAX, 10, false);
    assert_eq!(window.sums(), (1, 0));
}

#[test]
fn another_policy_while_it_is_open_or_probes() {
    let mut b = Bench::new(&consecutive(1).probes(2));
    let Some(Transition::Opened { until, .. }) = b.call(Outcome::FAILURE) else {
        panic!("not opened")
    };
    // The time that was set stands; the number of probes is the new one's.
    let now = b.now;
    let longer = consecutive(5).backoff(backoff(30, 600)).probes(3);
    b.breaker.configure(Some(&longer), now);
    assert_eq!(b.breaker.gate(), Gate::Open { until });
    b.now = until;
    let probe = b.admit().unwrap();
    b.breaker.configure(Some(&unified(80, 5, 7)), b.now);
    assert!(matches!(b.breaker.gate(), Gate::HalfOpen { .. }));
    // Its probe is still its probe, and is judged by the rules of now: strictly, and one is enough.
    let failed = b.record(probe, LIMITED);
    assert!(matches!(failed, Some(Transition::Opened { .. })));
    b.pass(2.0);
    assert_eq!(b.call(Outcome::SUCCESS), Some(Transition::Closed));
    // Without a policy a probe that is out decides nothing any more.
    b.breaker.configure(Some(&consecutive(1)), b.now);
    b.call(Outcome::FAILURE);
    b.pass(1.0);
    let probe = b.admit().unwrap();
    b.breaker.configure(None, b.now);
    assert_eq!(b.record(probe, Outcome::FAILURE), None);
    assert_eq!(b.breaker.gate(), Gate::Closed);
    b.breaker.configure(Some(&consecutive(1)), b.now);
    assert!(b.call(Outcome::FAILURE).is_some());
}

#[test]
fn a_thousand_that_trip_together_do_not_probe_together() {
    use crate::core::draw::{Purpose, draw};
    // The most of `at` that fall within so long, wherever that begins.
    let most_within = |at: &mut Vec<Duration>, within: Duration| {
        at.sort_unstable();
        let mut from = 0;
        let counts = (0..at.len()).map(|to| {
            while at[to] - at[from] > within {
                from += 1;
            }
            to - from + 1
        });
        counts.max().unwrap_or_default()
    };
    let jitter = Ratio::percent(50);
    let backoff =
        ExponentialBackoff::try_new(Duration::from_secs(1), Duration::from_secs(60), jitter);
    let policy = FailureAccrual::consecutive(1).backoff(backoff.unwrap());
    for seed in 0..20 {
        let start = Instant::now();
        let mut breakers = vec![Breaker::new(Some(&policy), start); 1000];
        let mut due = vec![start; 1000];
        // They fail and probe, and all of these fail: the first wait, those between, and four at the cap.
        for round in 0..10 {
            let mut waits = Vec::new();
            for (n, breaker) in breakers.iter_mut().enumerate() {
                let word = || draw(seed, n as u64, Purpose::ProbeBackoff, round);
                let admitted = breaker.admit(due[n]).unwrap();
                let failed = breaker.record(due[n], admitted, &Outcome::FAILURE, word, || true);
                let Some(Transition::Opened { until, .. }) = failed else {
                    panic!("not opened")
                };
                waits.push(until - due[n]);
                due[n] = until;
            }
            let mean = waits.iter().sum::<Duration>() / 1000;
            // As if all had begun their wait at the same moment: the worst case, and at first the case.
            let most = most_within(&mut waits, mean / 10);
            assert!(most <= 300, "seed {seed}, round {round}: {most} of 1000");
        }
    }
}

#[test]
fn a_hang_whose_callers_leave_trips_it() {
    let left = |after: f64| Outcome {
        waited: Some(Duration::from_secs_f64(after)),
        ..Outcome::NEUTRAL
    };
    let mut b = Bench::new(&consecutive(3).slow_call(Duration::from_secs(1)));
    for _ in 0..100 {
        assert_eq!(b.call(left(0.5)), None, "they were impatient");
    }
    assert_eq!(b.call(left(1.5)), None);
    assert_eq!(b.call(left(1.5)), None);
    assert!(matches!(b.call(left(1.5)), Some(Transition::Opened { .. })));
    // Its probe hangs, too; who leaves it early says nothing, and makes room.
    b.pass(1.0);
    assert_eq!(b.call(left(0.5)), Some(Transition::ProbeReturned));
    assert!(matches!(b.call(left(2.0)), Some(Transition::Opened { .. })));
}

#[test]
fn one_that_is_worse_than_its_peers_is_left_alone_four_times_as_long_at_first() {
    let mut b = Bench::new(&consecutive(7).memory(Duration::from_secs(10)));
    let worse = |b: &mut Bench, allowed: bool| {
        let at = b.breaker.nanos(b.now);
        let outcome = Outcome::FAILURE;
        let transition = (b.breaker).eject_as_worse(at, "worse".into(), &outcome, || 0, || allowed);
        match transition {
            Some(Transition::Opened { until, .. }) => (until - b.now).as_secs(),
            _ => 0,
        }
    };
    assert_eq!(worse(&mut b, false), 0, "the floor");
    assert!(!b.is_open());
    for expected in [4, 8, 16] {
        assert_eq!(worse(&mut b, true), expected);
        b.pass(60.0);
        assert_eq!(b.call(Outcome::SUCCESS), Some(Transition::Closed));
    }
}

#[test]
fn a_reset_forgets_the_place_in_the_backoff() {
    let mut b = Bench::new(&consecutive(1).memory(Duration::from_secs(1000)));
    for expected in [1, 1, 2] {
        if expected == 1 {
            b.breaker.reset();
        }
        let Some(Transition::Opened { until, .. }) = b.call(Outcome::FAILURE) else {
            panic!("not opened")
        };
        assert_eq!((until - b.now).as_secs(), expected);
        b.now = until;
        assert_eq!(b.call(Outcome::SUCCESS), Some(Transition::Closed));
    }
}

#[test]
fn a_turn_is_waited_for_as_long_as_the_first_backoff_at_most() {
    let jitter = Ratio::percent(50);
    let (min, max) = (Duration::from_secs(2), Duration::from_secs(60));
    let backoff = ExponentialBackoff::try_new(min, max, jitter).unwrap();
    let b = Bench::new(&FailureAccrual::consecutive(1).backoff(backoff));
    let words = (0..64).map(|n| n << 58);
    let (mut first, mut turn): (Vec<_>, Vec<_>) = words
        .map(|word| (b.breaker.first_wait(word), b.breaker.turn_wait(word)))
        .unzip();
    first.sort();
    turn.sort();
    assert!(min <= first[0] && first[63] > min && first[63] <= min.mul_f64(1.5));
    assert!(turn[63] <= min && turn[0] < min, "{turn:?}");
}

#[test]
fn successes_that_change_nothing_need_not_be_heard_one_by_one() {
    let calm = |b: &Bench| b.breaker.calm();
    assert_eq!(
        Breaker::new(None, Instant::now()).calm(),
        Calm::Nothing,
        "without a policy"
    );
    let mut b = Bench::new(&consecutive(2));
    assert_eq!(calm(&b), Calm::Nothing);
    b.call(Outcome::FAILURE);
    assert_eq!(calm(&b), Calm::Matter, "the next ends a run");
    b.call(Outcome::SUCCESS);
    assert_eq!(calm(&b), Calm::Nothing);
    b.call(Outcome::FAILURE);
    b.call(Outcome::FAILURE);
    assert_eq!(calm(&b), Calm::Matter, "open");
    // A rate counts them, until a bucket ends; and where it is too low, the next may bring it to where it decides.
    let mut b = Bench::new(&unified(50, 4, 0));
    b.pass(3.5);
    b.call(Outcome::SUCCESS);
    assert_eq!(calm(&b), Calm::CountUntil(4_000_000_000));
    b.call(Outcome::FAILURE);
    b.call(Outcome::SUCCESS);
    assert_eq!(calm(&b), Calm::Matter, "too few to be judged yet");
    b.call(Outcome::SUCCESS);
    assert_eq!(calm(&b), Calm::CountUntil(4_000_000_000));
    // Whoever does not ask how long they took cannot say that they change nothing where that counts.
    let slow = consecutive(2).slow_call(Duration::from_secs(1));
    for (policy, quick) in [(consecutive(2), Calm::Nothing), (slow, Calm::Matter)] {
        assert_eq!(Bench::new(&policy).breaker.calm_for_the_quick(), quick);
    }
}

#[test]
fn it_is_small() {
    use std::mem::size_of;
    // All there is of it, without a window and with one: only one with a probe out has 24 bytes more. The rules are shared.
    assert_eq!(size_of::<Breaker>(), 40);
    assert_eq!(size_of::<super::window::Window>(), 88);
}
