//! Every interleaving of callers of one breaker.

use std::sync::Arc;

use loom::thread;
use tokio::time::Instant;

use super::Gate;
use super::passage::Passage;
use super::settings::{Settings, Wait};
use super::shared::Shared;
use crate::core::sync::{AtomicUsize, Ordering};
use crate::policy::{ExponentialBackoff, FailureAccrual, Ratio, Unified};
use crate::verdict::Outcome;

fn check(test: impl Fn() + Sync + Send + 'static) {
    check_with(3, test);
}

// With so many preemptions at most.
fn check_with(preemptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(test);
}

// Its first probe is due at once, and is not lost while the test runs: real time must not decide anything here.
fn shared(max_failures: u32) -> Arc<Shared> {
    let none = std::time::Duration::ZERO;
    let long = std::time::Duration::from_secs(3600);
    let accrual = FailureAccrual::consecutive(max_failures);
    let accrual = match ExponentialBackoff::try_new(none, long, Ratio::ZERO) {
        Ok(backoff) => accrual.backoff(backoff),
        Err(error) => panic!("{error}"),
    };
    let mut settings = Settings::new(&accrual);
    settings.seed = 1;
    Arc::new(Shared::new(settings, Instant::now()))
}

fn fail(shared: &Arc<Shared>) {
    let mut passage = Passage::new(Some(Arc::clone(shared)));
    passage.enter().unwrap();
    passage.settle(Outcome::FAILURE);
}

#[test]
fn one_probe_at_a_time_and_none_is_lost() {
    check(|| {
        let shared = shared(1);
        fail(&shared);
        let out = Arc::new(AtomicUsize::new(0));
        let probe = |shared: Arc<Shared>, out: Arc<AtomicUsize>| {
            let mut passage = Passage::new(Some(shared));
            if passage.enter().is_ok() {
                assert_eq!(out.fetch_add(1, Ordering::AcqRel), 0);
                out.fetch_sub(1, Ordering::AcqRel);
            }
            // Dropped without a verdict.
        };
        let other = {
            let (shared, out) = (Arc::clone(&shared), Arc::clone(&out));
            thread::spawn(move || probe(shared, out))
        };
        probe(Arc::clone(&shared), Arc::clone(&out));
        other.join().unwrap();
        let mut next = Passage::new(Some(Arc::clone(&shared)));
        assert!(next.enter().is_ok(), "a probe was lost");
        next.settle(Outcome::SUCCESS);
        assert_eq!(shared.snapshot(Instant::now()).gate, Gate::Closed);
    });
}

#[test]
fn one_of_three_is_the_probe() {
    check_with(2, || {
        let shared = shared(1);
        fail(&shared);
        let enter = |shared: &Arc<Shared>| {
            let mut passage = Passage::new(Some(Arc::clone(shared)));
            passage.enter().is_ok().then_some(passage)
        };
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || enter(&shared))
            })
            .collect();
        let mut entered = vec![enter(&shared)];
        entered.extend(threads.into_iter().map(|thread| thread.join().unwrap()));
        assert_eq!(entered.iter().flatten().count(), 1);
        drop(entered);
        assert!(enter(&shared).is_some(), "a probe was lost");
    });
}

#[test]
fn no_failure_is_forgotten_beside_successes_without_the_lock() {
    check(|| {
        let shared = shared(2);
        let threads: Vec<_> = [Outcome::FAILURE, Outcome::FAILURE]
            .map(|outcome| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let mut passage = Passage::new(Some(shared));
                    passage.enter().unwrap();
                    passage.settle(outcome);
                })
            })
            .into();
        // Let through before or after either of them; a neutral result changes nothing.
        let mut passage = Passage::new(Some(Arc::clone(&shared)));
        if passage.enter().is_ok() {
            passage.settle(Outcome::NEUTRAL);
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(shared.snapshot(Instant::now()).is_open());
    });
}

fn settle(shared: &Arc<Shared>, outcome: Outcome) {
    let mut passage = Passage::new(Some(Arc::clone(shared)));
    passage.enter().unwrap();
    passage.settle(outcome);
}

#[test]
fn successes_without_the_lock_are_counted_once() {
    check_with(2, || {
        let hour = std::time::Duration::from_secs(3600);
        let rate = Unified::try_new(Ratio::percent(50), hour, 3, 0, ExponentialBackoff::ACCRUAL);
        let settings = Settings::new(&rate.unwrap().into());
        let shared = Arc::new(Shared::new(settings, Instant::now()));
        let threads: Vec<_> = [Outcome::SUCCESS, Outcome::FAILURE]
            .map(|outcome| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || settle(&shared, outcome))
            })
            .into();
        settle(&shared, Outcome::SUCCESS);
        for thread in threads {
            thread.join().unwrap();
        }
        // Two of four are enough, two of five are not: none was lost, and none counted twice.
        fail(&shared);
        assert!(!shared.snapshot(Instant::now()).is_open());
        fail(&shared);
        assert!(shared.snapshot(Instant::now()).is_open());
    });
}

#[test]
fn a_straggler_counts_for_nothing_after_a_reset() {
    check(|| {
        let hour = std::time::Duration::from_secs(3600);
        let rate = Unified::try_new(Ratio::percent(60), hour, 2, 0, ExponentialBackoff::ACCRUAL);
        let settings = Settings::new(&rate.unwrap().into());
        let shared = Arc::new(Shared::new(settings, Instant::now()));
        let mut straggler = Passage::new(Some(Arc::clone(&shared)));
        straggler.enter().unwrap();
        let late = thread::spawn(move || straggler.settle(Outcome::SUCCESS));
        shared.force(None, Instant::now());
        late.join().unwrap();
        fail(&shared);
        // One of two, were the straggler counted; else one of one, which is too few to say.
        assert!(!shared.snapshot(Instant::now()).is_open());
        settle(&shared, Outcome::SUCCESS);
        assert!(shared.snapshot(Instant::now()).is_open());
    });
}

#[test]
fn no_more_wait_than_may_and_no_place_is_lost() {
    check(|| {
        let mut settings = Settings::new(&FailureAccrual::consecutive(1));
        let wait = Wait::at_most(std::time::Duration::from_secs(3600)).callers(1);
        settings.wait = Some(wait);
        let shared = Arc::new(Shared::new(settings, Instant::now()));
        fail(&shared);
        let inside = Arc::new(AtomicUsize::new(0));
        let join = |shared: Arc<Shared>, inside: Arc<AtomicUsize>| {
            let mut passage = Passage::new(Some(shared));
            let blocked = passage.enter().unwrap_err();
            if passage.wait(blocked).is_ok() {
                assert_eq!(inside.fetch_add(1, Ordering::AcqRel), 0);
                inside.fetch_sub(1, Ordering::AcqRel);
            }
        };
        let other = {
            let (shared, inside) = (Arc::clone(&shared), Arc::clone(&inside));
            thread::spawn(move || join(shared, inside))
        };
        join(Arc::clone(&shared), inside);
        other.join().unwrap();
        assert_eq!(shared.snapshot(Instant::now()).waiting, 0);
    });
}
