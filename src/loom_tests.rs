//! Every interleaving of our own atomics and locks: `RUSTFLAGS="--cfg tower_mesh_loom" cargo test --lib loom_tests`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use loom::thread;
use tokio::time::Instant;

use crate::balance::{Line, PlaceKind, Set, Settings, Want};
use crate::breaker::Gate;
use crate::budget::{RetryBudget, START};
use crate::core::observe::Observers;
use crate::core::sync::{AtomicBool, Mutex, Ordering, lock};
use crate::core::time::Epoch;
use crate::discover::Update;
use crate::endpoint::{Cell, Endpoint, Pool, Terms, Waiters};
use crate::policy::{
    Budget, ExponentialBackoff, FailureAccrual, Load, PeakEwma, Queue, Ratio, Unified,
};
use crate::verdict::{Outcome, Settle, Ticket};

fn check(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    // Interleavings with more switches than this find nothing that those with fewer do not.
    builder.preemption_bound = Some(3);
    builder.check(test);
}

// The same for what takes many steps.
fn check_few(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
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
                let place = line.enter(ANY, Instant::now());
                assert!(line.waiting() <= 1);
                place.is_some()
            })
        });
        let entered = entering.map(|thread| thread.join().unwrap_or(false));
        assert!(entered.contains(&true));
        assert_eq!(line.waiting(), 0);
    });
}

const ANY: PlaceKind = PlaceKind {
    counted: true,
    any: true,
};

// Wakes a thread of loom's.
struct Bell {
    rung: Mutex<bool>,
    ringing: loom::sync::Condvar,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *lock(&self.rung) = true;
        self.ringing.notify_one();
    }
}

// Looks when it may, until there is something. A wake-up that is lost is a deadlock, which loom finds.
fn wait_for(line: &Arc<Line>, open: &AtomicBool) {
    let bell = Arc::new(Bell {
        rung: Mutex::new(false),
        ringing: loom::sync::Condvar::new(),
    });
    let waker = Waker::from(Arc::clone(&bell));
    let cx = Context::from_waker(&waker);
    let now = Instant::now();
    let Some(place) = line.enter(ANY, now) else {
        panic!("there is room");
    };
    loop {
        while place.may_look(&cx, now) {
            if open.load(Ordering::Acquire) {
                return place.leave(true);
            }
            place.looked(false, now);
        }
        let mut rung = lock(&bell.rung);
        while !*rung {
            rung = match bell.ringing.wait(rung) {
                Ok(rung) => rung,
                Err(poisoned) => poisoned.into_inner(),
            };
        }
        *rung = false;
    }
}

fn line() -> Arc<Line> {
    Arc::new(Line::new(Queue {
        capacity: 9,
        failfast_timeout: Duration::from_secs(1),
    }))
}

#[test]
fn no_wake_up_is_lost() {
    check(|| {
        let (line, open) = (line(), Arc::new(AtomicBool::new(false)));
        let waiting = {
            let (line, open) = (Arc::clone(&line), Arc::clone(&open));
            thread::spawn(move || wait_for(&line, &open))
        };
        open.store(true, Ordering::Release);
        line.changed();
        assert!(waiting.join().is_ok());
        assert_eq!(line.waiting(), 0);
        assert!(!line.is_crowded());
    });
}

#[test]
fn who_leaves_with_the_turn_passes_it_on() {
    check_few(|| {
        let (line, open) = (line(), Arc::new(AtomicBool::new(false)));
        let first = line.enter(ANY, Instant::now());
        let waiting = {
            let (line, open) = (Arc::clone(&line), Arc::clone(&open));
            thread::spawn(move || wait_for(&line, &open))
        };
        let leaving = thread::spawn(move || drop(first));
        open.store(true, Ordering::Release);
        line.changed();
        assert!(waiting.join().is_ok());
        assert!(leaving.join().is_ok());
        assert_eq!(line.waiting(), 0);
    });
}

// A set of so many endpoints, of which none is compared by what real time says of it.
fn set(count: u8, now: Instant) -> Arc<Set<()>> {
    let settings = Settings {
        accrual: Some(FailureAccrual::consecutive(1)),
        load: Load::least_pending(),
        queue: Queue::default(),
        probes_in_turn: true,
    };
    let set = Set::new(pool(now), settings, None);
    set.update(Update::Reset((1..=count).map(endpoint).collect()), now);
    Arc::new(set)
}

fn endpoint(last: u8) -> Endpoint {
    Endpoint::new(([10, 0, 0, last], 80).into())
}

fn pick(set: &Set<()>, request: u64, now: Instant) -> Option<(SocketAddr, Ticket)> {
    let want = Want {
        now,
        request,
        round: 0,
        avoid: &[],
        except: None,
        only: None,
        repeatable: false,
    };
    set.pick(&want, |site, ticket| (site.endpoint().address(), ticket))
}

// One request, which ends like this. Where it went.
fn ask(set: &Set<()>, request: u64, outcome: &Outcome, now: Instant) -> Option<SocketAddr> {
    let (address, mut ticket) = pick(set, request, now)?;
    ticket.sent(now);
    ticket.settle(outcome);
    Some(address)
}

// What is counted is what is there.
fn check_counts(set: &Set<()>, cells: &[Arc<Cell>]) {
    assert!(cells.iter().all(|cell| cell.pending() == 0));
    let members = set.members();
    let closed = members.iter().filter(|m| m.cell.gate() == Gate::Closed);
    assert_eq!(set.pool.guard.in_service(), closed.count());
}

fn cells(set: &Set<()>) -> Vec<Arc<Cell>> {
    let members = set.members();
    members.iter().map(|m| Arc::clone(&m.cell)).collect()
}

#[test]
fn what_is_known_to_be_gone_is_not_picked() {
    check_few(|| {
        let now = Instant::now();
        let set = set(2, now);
        let cells = cells(&set);
        let gone = endpoint(1).address();
        let leaving = {
            let set = Arc::clone(&set);
            thread::spawn(move || {
                set.update(Update::Remove(vec![gone]), now);
                ask(&set, 1, &Outcome::SUCCESS, now)
            })
        };
        let picked = ask(&set, 2, &Outcome::SUCCESS, now);
        assert!(picked.is_some());
        let after = leaving.join();
        assert_eq!(after.ok().flatten(), Some(endpoint(2).address()));
        assert_eq!(set.members().count(), 1);
        check_counts(&set, &cells);
    });
}

#[test]
fn an_ejection_beside_a_leave_and_a_return_is_counted_once() {
    check_few(|| {
        let now = Instant::now();
        let set = set(2, now);
        let cells = cells(&set);
        let moving = {
            let set = Arc::clone(&set);
            thread::spawn(move || {
                set.update(Update::Remove(vec![endpoint(1).address()]), now);
                set.update(Update::Add(vec![endpoint(1)]), now);
            })
        };
        assert!(ask(&set, 1, &Outcome::FAILURE, now).is_some());
        assert!(moving.join().is_ok());
        assert_eq!(set.members().count(), 2);
        assert_eq!(set.pool.guard.in_service(), 1);
        check_counts(&set, &cells);
    });
}

#[test]
fn all_leave_at_once_and_nothing_is_left_over() {
    check_few(|| {
        let now = Instant::now();
        let set = set(2, now);
        let cells = cells(&set);
        let leaving = {
            let set = Arc::clone(&set);
            thread::spawn(move || {
                set.update(Update::DoesNotExist, now);
                assert!(pick(&set, 1, now).is_none());
            })
        };
        ask(&set, 2, &Outcome::FAILURE, now);
        assert!(leaving.join().is_ok());
        assert!(set.members().is_empty() && set.absence().is_some());
        assert_eq!(set.pool.guard.in_service(), 0);
        check_counts(&set, &cells);
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
fn no_result_is_lost_beside_another_of_which_the_breaker_is_told_later() {
    for outcomes in [
        [Outcome::SUCCESS, Outcome::FAILURE],
        [Outcome::SUCCESS, Outcome::SUCCESS],
    ] {
        check(move || {
            let now = Instant::now();
            let pool = Arc::new(pool(now));
            let cell = cell(FailureAccrual::Unified(Unified::default()), &pool, 1, now);
            // The breaker hears of the first one, and need not hear of the next.
            let settle = move |cell: &Arc<Cell>, outcome: &Outcome| {
                if let Some(mut ticket) = cell.admit(now, 0) {
                    ticket.sent(now);
                    ticket.settle(outcome);
                }
            };
            settle(&cell, &Outcome::SUCCESS);
            settle(&cell, &Outcome::SUCCESS);
            let threads = outcomes.map(|outcome| {
                let cell = Arc::clone(&cell);
                thread::spawn(move || settle(&cell, &outcome))
            });
            for thread in threads {
                assert!(thread.join().is_ok());
            }
            let failures = outcomes.iter().filter(|it| it.is_failure()).count() as u64;
            assert_eq!(cell.heard(), (Some((4, failures)), failures > 0));
            assert_eq!(cell.pending(), 0);
        });
    }
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
