//! Every interleaving of callers of one breaker.

use std::sync::Arc;

use loom::thread;
use tokio::time::Instant;

use super::Gate;
use super::passage::Passage;
use super::settings::Settings;
use super::shared::Shared;
use crate::core::sync::{AtomicUsize, Ordering};
use crate::policy::{ExponentialBackoff, FailureAccrual, Ratio};
use crate::verdict::Outcome;

fn check(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(test);
}

// Its probes are due at once.
fn shared(max_failures: u32) -> Arc<Shared> {
    let none = std::time::Duration::ZERO;
    let short = std::time::Duration::from_millis(1);
    let accrual = FailureAccrual::consecutive(max_failures);
    let accrual = match ExponentialBackoff::try_new(none, short, Ratio::ZERO) {
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
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (shared, out) = (Arc::clone(&shared), Arc::clone(&out));
                thread::spawn(move || {
                    let mut passage = Passage::new(Some(shared));
                    if passage.enter().is_ok() {
                        assert_eq!(out.fetch_add(1, Ordering::AcqRel), 0);
                        out.fetch_sub(1, Ordering::AcqRel);
                    }
                    // Dropped without a verdict.
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        let mut next = Passage::new(Some(Arc::clone(&shared)));
        assert!(next.enter().is_ok(), "a probe was lost");
        next.settle(Outcome::SUCCESS);
        assert_eq!(shared.snapshot(Instant::now()).gate, Gate::Closed);
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
