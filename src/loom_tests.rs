//! Every interleaving of our own atomics and locks: `RUSTFLAGS="--cfg tower_mesh_loom" cargo test --lib loom_tests`.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;
use tokio::time::Instant;

use crate::balance::Line;
use crate::breaker::Gate;
use crate::budget::{RetryBudget, START};
use crate::core::observe::Observers;
use crate::core::time::Epoch;
use crate::endpoint::{Cell, Endpoint, Pool, Terms};
use crate::policy::{Budget, ExponentialBackoff, FailureAccrual, PeakEwma, Queue, Ratio};
use crate::verdict::{Outcome, Settle, Ticket};

fn check(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    // Interleavings with more switches than this find nothing that those with fewer do not.
    builder.preemption_bound = Some(3);
    builder.check(test);
}

#[test]
fn a_budget_grants_no_more_than_it_has() {
    check(|| {
        let now = Instant::now();
        let budget = RetryBudget::new(Budget::percent(100).min_per_sec(0), now);
        for _ in 0..START - 1 {
            budget
                .withdraw(now)
                .into_iter()
                .for_each(|token| token.spend());
        }
        // One left, and one to be earned.
        let asking = [1, 2].map(|_| {
            let budget = budget.clone();
            thread::spawn(move || budget.withdraw(now).map(|token| token.spend()).is_some())
        });
        budget.success(now);
        let granted = asking.map(|thread| u64::from(thread.join().unwrap_or(false)));
        let left = budget.balance_milli(now) / 1000;
        assert_eq!(granted.iter().sum::<u64>() + left, 2);
    });
}

#[test]
fn time_is_paid_for_once() {
    check(|| {
        let start = Instant::now();
        let budget = RetryBudget::new(Budget::percent(0).min_per_sec(1), start);
        for _ in 0..START {
            budget
                .withdraw_hedge(start)
                .into_iter()
                .for_each(|token| token.spend());
        }
        let later = start + Duration::from_secs(1);
        let asking = [1, 2].map(|_| {
            let budget = budget.clone();
            let ask = move || budget.withdraw_hedge(later).map(|token| token.spend());
            thread::spawn(move || ask().is_some())
        });
        let granted = asking.map(|thread| u32::from(thread.join().unwrap_or(false)));
        // Whoever looks while the other pays may be too early, but never do both get the one.
        assert!(granted.iter().sum::<u32>() <= 1);
        let left = u32::from(budget.withdraw_hedge(later).is_some());
        assert_eq!(granted.iter().sum::<u32>() + left, 1);
    });
}

#[test]
fn deposits_withdrawals_and_refills_lose_and_make_nothing() {
    check(|| {
        let start = Instant::now();
        let budget = RetryBudget::new(Budget::percent(100).min_per_sec(1), start);
        for _ in 0..START - 1 {
            budget
                .withdraw_hedge(start)
                .into_iter()
                .for_each(|token| token.spend());
        }
        // One is left, one is earned and one is the floor's.
        let later = start + Duration::from_secs(1);
        let asking = {
            let budget = budget.clone();
            let ask = move || budget.withdraw_hedge(later).map(|token| token.spend());
            thread::spawn(move || ask().is_some())
        };
        let earning = {
            let budget = budget.clone();
            thread::spawn(move || budget.success(later))
        };
        let mine = budget.withdraw_hedge(later).map(|token| token.spend());
        let theirs = asking.join().unwrap_or(false);
        assert!(earning.join().is_ok());
        let granted = u64::from(mine.is_some()) + u64::from(theirs);
        assert_eq!(granted + budget.balance_milli(later) / 1000, 3);
        assert_eq!(budget.withdrawals(), START - 1 + granted);
    });
}

#[test]
fn what_leaks_is_not_granted_too() {
    check(|| {
        let start = Instant::now();
        let budget = RetryBudget::new(Budget::percent(100).min_per_sec(0), start);
        for _ in 0..START - 1 {
            budget
                .withdraw_hedge(start)
                .into_iter()
                .for_each(|token| token.spend());
        }
        // Without a bank beyond what is kept, all but ten goes with time; nothing makes one of none.
        let later = start + Duration::from_secs(3600);
        let asking = [start, later].map(|at| {
            let budget = budget.clone();
            let ask = move || budget.withdraw_hedge(at).map(|token| token.spend());
            thread::spawn(move || ask().is_some())
        });
        let granted = asking.map(|thread| u64::from(thread.join().unwrap_or(false)));
        assert_eq!(granted.iter().sum::<u64>(), 1);
        assert_eq!(budget.balance_milli(later), 0);
    });
}

#[test]
fn a_token_that_comes_back_is_there_for_the_next() {
    check(|| {
        let now = Instant::now();
        let budget = RetryBudget::new(Budget::percent(1).min_per_sec(0), now);
        for _ in 0..START - 1 {
            budget
                .withdraw(now)
                .into_iter()
                .for_each(|token| token.spend());
        }
        let unused = budget.withdraw(now);
        let asking = {
            let budget = budget.clone();
            thread::spawn(move || budget.withdraw(now).map(|token| token.spend()).is_some())
        };
        drop(unused);
        let granted = u64::from(asking.join().unwrap_or(false));
        assert_eq!(granted + budget.balance_milli(now) / 1000, 1);
    });
}

#[test]
fn a_line_holds_no_more_than_it_may_and_forgets_nobody() {
    check(|| {
        let queue = Queue {
            capacity: 1,
            failfast_timeout: Duration::from_secs(1),
        };
        let line = Arc::new(Line::new(queue));
        let entering = [1, 2].map(|_| {
            let line = Arc::clone(&line);
            thread::spawn(move || {
                let place = line.enter();
                assert!(line.waiting() <= 2);
                place.is_some()
            })
        });
        let entered = entering.map(|thread| thread.join().unwrap_or(false));
        assert!(entered.contains(&true));
        assert_eq!(line.waiting(), 0);
    });
}

fn cell(policy: FailureAccrual, pool: &Arc<Pool>, last: u8, now: Instant) -> Arc<Cell> {
    let endpoint = Endpoint::new(([10, 0, 0, last], 80).into());
    let cell = Arc::new(Cell::new(
        endpoint.address(),
        Arc::clone(pool),
        &Terms::new(Some(&policy), pool.epoch),
        PeakEwma::DEFAULT,
        now,
    ));
    cell.join(&endpoint, now);
    cell
}

fn pool(now: Instant) -> Pool {
    let changed = Arc::new(tokio::sync::Notify::new());
    Pool::new(
        "loom".into(),
        1,
        Epoch::new(now),
        Observers::default(),
        changed,
    )
}

// Opens at the first failure, and is due for a probe at once.
fn due() -> (Arc<Cell>, Instant) {
    let now = Instant::now();
    let pool = Arc::new(pool(now));
    let no_wait = ExponentialBackoff::try_new(Duration::ZERO, Duration::from_nanos(1), Ratio::ZERO);
    let policy = FailureAccrual::consecutive(1);
    let policy = no_wait.map_or(policy.clone(), |wait| policy.backoff(wait));
    let cell = cell(policy, &pool, 1, now);
    if let Some(ticket) = cell.admit(now, 0) {
        ticket.settle(&Outcome::FAILURE);
    }
    (cell, now + Duration::from_secs(60))
}

#[test]
fn one_probe_at_a_time_and_none_is_lost() {
    check(|| {
        let (cell, now) = due();
        let probing = [Outcome::NEUTRAL, Outcome::SUCCESS].map(|outcome| {
            let cell = Arc::clone(&cell);
            thread::spawn(move || {
                let ticket: Option<Ticket> = cell.admit(now, 1);
                let probe = ticket.as_ref().is_some_and(|ticket| ticket.note().probe);
                if let Some(ticket) = ticket {
                    ticket.settle(&outcome);
                }
                probe
            })
        });
        for thread in probing {
            let _ = thread.join();
        }
        assert_eq!(cell.pending(), 0);
        // Whatever happened, the next request gets through: as a probe, or because a probe succeeded.
        assert!(!matches!(cell.gate(), Gate::HalfOpen { .. }));
        assert!(cell.admit(now, 2).is_some());
    });
}

#[test]
fn a_straggler_never_decides_a_probe() {
    check(|| {
        let now = Instant::now();
        let pool = Arc::new(pool(now));
        let cell = cell(FailureAccrual::consecutive(1), &pool, 1, now);
        let (Some(straggler), Some(first)) = (cell.admit(now, 0), cell.admit(now, 1)) else {
            panic!("closed");
        };
        let late = thread::spawn(move || straggler.settle(&Outcome::SUCCESS));
        first.settle(&Outcome::FAILURE);
        let _ = late.join();
        assert!(matches!(cell.gate(), Gate::Open { .. }));
        assert_eq!(cell.pending(), 0);
    });
}

#[test]
fn the_floor_holds_when_two_fail_at_once() {
    check(|| {
        let now = Instant::now();
        let pool = Arc::new(pool(now));
        let policy = || FailureAccrual::consecutive(1).min_ready_endpoints(1);
        let cells = [1, 2].map(|last| cell(policy(), &pool, last, now));
        let failing = [0, 1].map(|n| {
            let cell = Arc::clone(&cells[n]);
            thread::spawn(move || {
                if let Some(ticket) = cell.admit(now, 0) {
                    ticket.settle(&Outcome::FAILURE);
                }
            })
        });
        for thread in failing {
            let _ = thread.join();
        }
        let open = cells.iter().filter(|cell| cell.gate() != Gate::Closed);
        assert_eq!(open.count(), 1, "one is ejected, and never both");
    });
}
