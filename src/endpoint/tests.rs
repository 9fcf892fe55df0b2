use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::breaker::{Breaker, Forced, Gate};
use crate::core::draw::{Purpose, draw};
use crate::core::observe::Observers;
use crate::core::time::Epoch;
use crate::policy::{
    ExponentialBackoff, FailureAccrual, Load, PeakEwma, PenaltyPeakEwma, Ratio, Unified,
};
use crate::verdict::{Classified, Outcome, Settle, Ticket};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

// From so many seconds to a minute, without jitter.
fn backoff(seconds: u64) -> ExponentialBackoff {
    let most = Duration::from_secs(60);
    ExponentialBackoff::try_new(Duration::from_secs(seconds), most, Ratio::ZERO).unwrap()
}

fn cell(accrual: Option<FailureAccrual>, load: Load) -> Arc<Cell> {
    cell_of_a_pool(accrual, load)()
}

// The pool is made at once, and its cells when they are asked for.
fn cell_of_a_pool(accrual: Option<FailureAccrual>, load: Load) -> impl Fn() -> Arc<Cell> {
    let now = Instant::now();
    let pool = Pool::new(
        "test".into(),
        1,
        Epoch::new(now),
        Observers::default(),
        Arc::default(),
    );
    pool.configure(true, &load, accrual.as_ref());
    let endpoint = Endpoint::new(([10, 0, 0, 1], 80).into());
    let terms = Terms::new(accrual.as_ref(), pool.epoch);
    let pool = Arc::new(pool);
    move || {
        let pool = Arc::clone(&pool);
        let cell = Cell::new(endpoint.address(), pool, &terms, load.ewma(), now);
        let cell = Arc::new(cell);
        cell.join(&endpoint, now);
        cell
    }
}

fn ticket(cell: &Arc<Cell>) -> Ticket {
    cell.admit(Instant::now(), 0).unwrap()
}

fn latency(cell: &Cell) -> Duration {
    cell.latency_now(cell.now())
}

// A request that is answered after `after`.
async fn answered(cell: &Arc<Cell>, after: Duration, outcome: Outcome) {
    let mut ticket = ticket(cell);
    tokio::time::sleep(after).await;
    ticket.head(Classified::Ready(outcome), Instant::now());
    ticket.frame(true);
    ticket.end(None);
}

#[tokio::test(start_paused = true)]
async fn a_hang_whose_callers_leave_is_in_the_estimate_and_within_the_breakers_reach() {
    for (slow_call, gate_closed) in [(None, true), (Some(ms(500)), false), (Some(ms(2000)), true)] {
        let mut accrual = FailureAccrual::consecutive(3);
        if let Some(threshold) = slow_call {
            accrual = accrual.slow_call(threshold);
        }
        let cell = cell(Some(accrual), Load::default());
        answered(&cell, ms(20), Outcome::SUCCESS).await;
        assert_eq!(latency(&cell), ms(20));
        for _ in 0..3 {
            let ticket = ticket(&cell);
            tokio::time::sleep(ms(1000)).await;
            drop(ticket);
        }
        assert_eq!(latency(&cell), ms(1000), "they waited in vain that long");
        assert_eq!(cell.pending(), 0);
        assert_eq!(cell.gate() == Gate::Closed, gate_closed, "{slow_call:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn slow_answers_are_failures_where_the_policy_says_so() {
    let accrual = FailureAccrual::consecutive(2).slow_call(ms(100));
    let cell = cell(Some(accrual), Load::default());
    answered(&cell, ms(101), Outcome::SUCCESS).await;
    answered(&cell, ms(100), Outcome::SUCCESS).await;
    answered(&cell, ms(101), Outcome::SUCCESS).await;
    assert_eq!(cell.gate(), Gate::Closed, "never two in a row");
    answered(&cell, ms(101), Outcome::SUCCESS).await;
    assert!(matches!(cell.gate(), Gate::Open { .. }));
}

#[tokio::test(start_paused = true)]
async fn fast_failures_and_early_leavers_never_look_fast() {
    let cell = cell(None, Load::default());
    answered(&cell, ms(200), Outcome::SUCCESS).await;
    for outcome in [Outcome::FAILURE, Outcome::NEUTRAL] {
        for _ in 0..100 {
            answered(&cell, Duration::ZERO, outcome).await;
            drop(ticket(&cell));
        }
    }
    assert_eq!(latency(&cell), ms(200));
    // A ticket that was not used says nothing at all.
    let unused = ticket(&cell);
    tokio::time::sleep(ms(5000)).await;
    let before = latency(&cell);
    unused.give_back();
    assert_eq!(latency(&cell), before);
    // Neither does the caller's own broken body, however long it took.
    let broken = ticket(&cell);
    tokio::time::sleep(ms(5000)).await;
    let before = latency(&cell);
    broken.settle(&Outcome::NEUTRAL);
    assert_eq!(latency(&cell), before);
}

#[tokio::test(start_paused = true)]
async fn pending_until_the_first_frame() {
    let cell = cell(None, Load::default());
    let mut ticket = ticket(&cell);
    assert_eq!(cell.pending(), 1);
    ticket.head(Classified::Ready(Outcome::SUCCESS), Instant::now());
    assert_eq!(cell.pending(), 1);
    ticket.frame(true);
    assert_eq!(cell.pending(), 0);
    ticket.frame(true);
    drop(ticket);
    assert_eq!(cell.pending(), 0);
}

#[tokio::test(start_paused = true)]
async fn failures_cost_their_penalty_while_it_fades() {
    let policy = PenaltyPeakEwma::new(PeakEwma::DEFAULT);
    let load = Load::PenaltyPeakEwma(policy);
    let cell = cell(None, load);
    answered(&cell, ms(10), Outcome::SUCCESS).await;
    let penalty = |cell: &Cell| Duration::from_nanos(cell.reading().penalty);
    assert_eq!(penalty(&cell), ms(0));
    answered(&cell, ms(0), Outcome::FAILURE).await;
    assert_eq!(penalty(&cell), policy.penalty);
    assert_eq!(latency(&cell), ms(10), "which is not latency");
    tokio::time::sleep(policy.penalty_decay).await;
    let faded = penalty(&cell).as_secs_f64();
    assert!((1.83..1.85).contains(&faded), "{faded}");
    // The endpoint's own hint weighs more, up to a limit.
    let mut limited = Outcome::SUCCESS;
    limited.rate_limited = true;
    limited.retry_after = Some(Duration::from_secs(1000));
    answered(&cell, ms(0), limited).await;
    assert_eq!(penalty(&cell), policy.max_retry_after);
}

#[tokio::test(start_paused = true)]
async fn why_it_is_ejected_is_known_as_long_as_it_is() {
    let accrual = FailureAccrual::consecutive(1).backoff(backoff(4));
    let epoch = Epoch::new(Instant::now());
    let terms = |accrual: Option<&FailureAccrual>| Terms::new(accrual, epoch);
    let why = |cell: &Cell| cell.breaker(Instant::now()).why;
    let cell = cell(Some(accrual.clone()), Load::default());
    assert_eq!(why(&cell), None);
    ticket(&cell).settle(&Outcome::FAILURE);
    assert!(why(&cell).is_some());
    // Another policy keeps it ejected.
    cell.configure(&terms(Some(&accrual)), Instant::now());
    assert!(why(&cell).is_some());
    cell.configure(&terms(None), Instant::now());
    assert_eq!((cell.gate(), why(&cell)), (Gate::Closed, None));
    cell.configure(&terms(Some(&accrual)), Instant::now());
    ticket(&cell).settle(&Outcome::FAILURE);
    // By hand.
    cell.force(Some(Forced::Closed));
    assert_eq!(why(&cell), None);
    cell.force(Some(Forced::Open));
    assert_eq!(why(&cell).as_deref(), Some("opened by hand"));
    cell.force(None);
    assert_eq!(why(&cell), None);
    // And by a probe.
    ticket(&cell).settle(&Outcome::FAILURE);
    tokio::time::advance(ms(4000)).await;
    ticket(&cell).settle(&Outcome::SUCCESS);
    let told = cell.breaker(Instant::now());
    assert_eq!(
        (told.gate, told.why, told.since),
        (Gate::Closed, None, None)
    );
}

#[tokio::test(start_paused = true)]
async fn a_ticket_that_is_not_used_frees_the_place_of_a_probe_and_owes_no_answer() {
    let accrual = FailureAccrual::consecutive(1).backoff(backoff(4));
    let cell = cell(Some(accrual), Load::default());
    ticket(&cell).settle(&Outcome::FAILURE);
    tokio::time::advance(ms(4000)).await;
    let probe = ticket(&cell);
    assert!(cell.admit(Instant::now(), 0).is_none(), "one at a time");
    probe.give_back();
    let probe = ticket(&cell);
    tokio::time::advance(ms(1000)).await;
    assert!(cell.reading().silence > 0);
    probe.give_back();
    tokio::time::advance(ms(1000)).await;
    assert_eq!((cell.reading().silence, cell.pending()), (0, 0));
    ticket(&cell).settle(&Outcome::SUCCESS);
    assert_eq!(cell.gate(), Gate::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_in_the_reading_at_once_and_a_success_makes_up_for_it() {
    let cell = cell(None, Load::default());
    answered(&cell, ms(1), Outcome::SUCCESS).await;
    assert_eq!(cell.reading().failing, 0);
    answered(&cell, ms(0), Outcome::FAILURE).await;
    // The quick estimate: three eighths of the way.
    assert_eq!(cell.reading().failing, 3 * (1 << 16) / 8);
    answered(&cell, ms(0), Outcome::NEUTRAL).await;
    assert_eq!(cell.reading().failing, 3 * (1 << 16) / 8);
    answered(&cell, ms(0), Outcome::SUCCESS).await;
    assert!(cell.reading().failing < 3 * (1 << 16) / 8);
}

#[test]
fn a_cell_is_small() {
    assert_eq!(size_of::<Cell>(), 168);
    // With the window, and the counts of its `Arc` beside it. See there for what may be on the heap besides: nothing, for
    // one that fails now and then and is not ejected.
    for (accrual, allocations, bytes) in [
        (FailureAccrual::consecutive(7), 1, 168),
        (Unified::default().into(), 2, 256),
    ] {
        let make = cell_of_a_pool(Some(accrual), Load::default());
        let mut made = None;
        let heap = allocation_counter::measure(|| {
            let cell = made.insert(make());
            for n in 0..100 {
                let outcome = match n % 10 {
                    9 => Outcome::FAILURE,
                    _ => Outcome::SUCCESS,
                };
                ticket(cell).settle(&outcome);
            }
        });
        let on_the_heap = (heap.count_current, heap.bytes_current);
        assert_eq!(on_the_heap, (allocations, bytes + 16));
    }
}

proptest! {
    // Successes that are counted beside the breaker are as if each had been recorded.
    #[test]
    fn a_cells_gate_is_that_of_a_breaker_that_hears_of_everything(
        steps in proptest::collection::vec((0u64..700, 0usize..4, 0u8..40, 0usize..3), 1..400),
        kind in 0usize..3,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let accrual = match kind {
                0 => FailureAccrual::consecutive(3),
                1 => FailureAccrual::Unified(Unified::default()),
                _ => FailureAccrual::Unified(Unified::default()).slow_call(ms(1000)),
            };
            let cell = cell(Some(accrual.clone()), Load::default());
            let mut model = Breaker::new(Some(&accrual), Instant::now());
            let word = draw(1, 0, Purpose::ProbeBackoff, 0);
            let mut flying = std::collections::VecDeque::new();
            for (wait, starts, end, ends) in steps {
                tokio::time::advance(ms(wait * wait / 700)).await;
                let now = Instant::now();
                for _ in 0..starts {
                    match (cell.admit(now, 0), model.admit(now)) {
                        (Some(mut ticket), Some(admitted)) => {
                            // One that was not sent takes the longer way.
                            if wait % 8 > 0 {
                                ticket.sent(now);
                            }
                            flying.push_back((ticket, admitted));
                        }
                        (None, None) => {}
                        (ticket, admitted) => panic!("{ticket:?} {admitted:?}"),
                    }
                }
                for (ticket, admitted) in flying.drain(..ends.min(flying.len())) {
                    let mut outcome = match end {
                        0..4 => Outcome::FAILURE,
                        4 => Outcome::NEUTRAL,
                        _ => Outcome::SUCCESS,
                    };
                    outcome.rate_limited = end == 5;
                    outcome.took = (end % 3 > 0).then(|| ms(end.into()) * 30);
                    ticket.settle(&outcome);
                    let _ = model.record(now, admitted, &outcome, || word, || true);
                    assert_eq!(cell.gate(), model.gate());
                }
            }
            assert_eq!(cell.pending(), flying.len());
            assert_eq!(cell.heard().0, model.window_sums());
        });
    }
}
