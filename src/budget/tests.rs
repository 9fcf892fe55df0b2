use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::policy::{Budget, Ratio};

fn granted(budget: &RetryBudget, now: Instant, asked: u32) -> u32 {
    (0..asked)
        .filter_map(|_| budget.withdraw(now))
        .map(Token::spend)
        .count() as u32
}

#[test]
fn every_ratio_is_exact() {
    // tower's reciprocal grants 33 % for 30, 50 % for 40 and 100 % for 60 and above.
    for percent in [1, 10, 20, 30, 40, 60, 75, 99, 100, 150, 250] {
        let now = Instant::now();
        let budget = RetryBudget::new(Budget::percent(percent).min_per_sec(0), now);
        assert_eq!(granted(&budget, now, 100), 10, "the start");
        let mut total = 0;
        for _ in 0..1000 {
            budget.deposit();
            total += granted(&budget, now, 10);
        }
        assert_eq!(total, u32::from(percent) * 10);
    }
}

#[test]
fn the_floor_refills_smoothly_and_the_bank_is_bounded() {
    let start = Instant::now();
    let budget = RetryBudget::new(Budget::percent(0).min_per_sec(10), start);
    assert_eq!(granted(&budget, start, 100), 10);
    for tenth in 1..=20 {
        let now = start + Duration::from_millis(100 * tenth);
        assert_eq!(granted(&budget, now, 100), 1, "{tenth}");
    }
    let month = start + Duration::from_secs(30 * 86_400);
    assert_eq!(granted(&budget, month, 1000), 20, "two seconds' worth");
}

#[test]
fn a_token_comes_back_only_unspent() {
    let now = Instant::now();
    let budget = RetryBudget::new(Budget::percent(0).min_per_sec(1), now);
    drop(budget.withdraw(now).unwrap());
    assert_eq!(budget.balance_milli(now), 10_000);
    budget.withdraw(now).unwrap().spend();
    assert_eq!(budget.balance_milli(now), 9_000);
}

#[test]
fn a_budget_of_nothing_grants_nothing() {
    let now = Instant::now();
    let budget = RetryBudget::new(Budget::percent(0).min_per_sec(0), now);
    budget.deposit();
    assert!(budget.withdraw(now + Duration::from_secs(1000)).is_none());
}

proptest! {
    #[test]
    fn extra_attempts_never_exceed_the_bound(
        ppm in 0u32..2_000_000, floor in 0u32..50,
        events in proptest::collection::vec((0u64..500, 0u32..20, 0u32..20), 1..100),
    ) {
        let start = Instant::now();
        let policy = Budget::new(Ratio::parts_per_million(ppm).unwrap()).min_per_sec(floor);
        let budget = RetryBudget::new(policy, start);
        let bank = u128::from(2 * floor).max(u128::from(START)) * 1_000_000_000;
        let mut now = start;
        let (mut successes, mut total, mut model) = (0u128, 0u128, u128::from(START) * 1_000_000_000);
        if ppm == 0 && floor == 0 { model = 0; }
        for (wait, deposits, asked) in events {
            now += Duration::from_millis(wait);
            // The model: the same in wide integers, event by event.
            model = (model + u128::from(wait) * 1_000_000 * u128::from(floor)).min(bank);
            if ppm == 0 && floor == 0 { model = 0; }
            for _ in 0..deposits {
                // Time is only looked at when something is asked for.
                budget.balance_milli(now);
                budget.deposit();
                model = (model + u128::from(ppm) * 1000).min(bank);
                if ppm == 0 && floor == 0 { model = 0; }
            }
            successes += u128::from(deposits);
            let got = u128::from(granted(&budget, now, asked));
            prop_assert_eq!(got, (model / 1_000_000_000).min(u128::from(asked)));
            model -= got * 1_000_000_000;
            total += got;
            let elapsed = (now - start).as_nanos();
            let bound = u128::from(ppm) * 1000 * successes + elapsed * u128::from(floor) + bank;
            prop_assert!(total * 1_000_000_000 <= bound);
        }
    }
}
