#![allow(
    clippy::disallowed_methods,
    reason = "the models are in floating point"
)]

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::policy::{Budget, EarnedBy, Ratio};

fn granted(budget: &RetryBudget, now: Instant, asked: u32) -> u32 {
    (0..asked)
        .filter_map(|_| budget.withdraw(now))
        .map(Token::spend)
        .count() as u32
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

#[test]
fn every_ratio_is_exact() {
    // tower's reciprocal grants 33 % for 30, 50 % for 40 and 100 % for 60 and above.
    let tenths = (1..10).map(|n| f64::from(n) / 10.0);
    for ratio in tenths.chain([0.01, 0.15, 0.25, 1.0 / 3.0, 0.75, 0.99, 1.0, 1.5, 2.5, 3.0]) {
        let now = Instant::now();
        let budget = RetryBudget::new(Budget::ratio(ratio).unwrap().min_per_sec(0), now);
        assert_eq!(granted(&budget, now, 100), 10, "the start");
        let mut total = 0;
        for n in 0..10_000 {
            // As time goes by, because a leak must not show where everything is used.
            let now = now + Duration::from_millis(10) * n;
            budget.success(now);
            total += granted(&budget, now, 10);
        }
        let due = f64::from(budget.policy().ratio.ppm()) / 100.0;
        assert!((f64::from(total) - due).abs() <= 1.0, "{ratio}: {total}");
        assert_eq!(budget.deposits(), 10_000);
        assert_eq!(budget.withdrawals(), 10 + u64::from(total));
        assert_eq!(budget.refusals(), 90 + 100_000 - u64::from(total));
    }
}

#[test]
fn the_floor_refills_smoothly_while_requests_succeed() {
    let start = Instant::now();
    let budget = RetryBudget::new(Budget::percent(0).min_per_sec(10), start);
    assert_eq!(granted(&budget, start, 10), 10);
    for _ in 0..100 {
        budget.success(start);
    }
    for tenth in 1..=20 {
        let now = start + Duration::from_millis(100 * tenth);
        // Nothing but hedges: nothing has failed.
        let mut asked = (0..10).filter_map(|_| budget.withdraw_hedge(now));
        let first = asked.next();
        assert!(
            first.is_some() && asked.next().is_none(),
            "one each tenth: {tenth}"
        );
        first.into_iter().for_each(Token::spend);
    }
}

#[test]
fn the_floor_dries_up_in_an_outage_and_one_success_opens_it() {
    let start = Instant::now();
    let budget = RetryBudget::new(Budget::percent(20), start);
    // 280 failures a second for a minute.
    let mut total = 0;
    for n in 0..60 * 280 {
        let now = start + seconds(f64::from(n) / 280.0);
        total += granted(&budget, now, 1);
    }
    assert!((10..=11).contains(&total), "{total}");
    // It does not come back for being left alone, or a fleet of quiet clients would keep an outage alive.
    let day = start + seconds(86_400.0);
    assert_eq!(granted(&budget, day, 1), 0);
    budget.success(day);
    assert_eq!(granted(&budget, day + seconds(1.0), 1), 1);
}

#[test]
fn the_bank_is_two_seconds_of_deposits_and_at_least_ten() {
    // Successes a second, and what is there after a minute of them: 2 s of 20 % of them, and of the floor.
    for (rate, floor, bank) in [
        (1u32, 0u32, 10.0f64),
        (10, 0, 10.0),
        (100, 0, 40.0),
        (280, 10, 132.0),
        (1000, 0, 400.0),
        (0, 0, 10.0),
        (0, 1, 10.0),
        (0, 10, 20.0),
    ] {
        let start = Instant::now();
        let budget = RetryBudget::new(Budget::percent(20).min_per_sec(floor), start);
        assert_eq!(budget.balance_milli(start), 10_000, "the start");
        for n in 0..60 * rate {
            budget.success(start + seconds(f64::from(n) / f64::from(rate)));
        }
        let minute = start + seconds(60.0);
        let holds = budget.balance_milli(minute) as f64 / 1000.0;
        // Time is looked at sixteen times in a bank: what came in between has leaked as if it came at its beginning.
        assert!(
            holds <= bank * 1.0001 && holds >= bank * 0.93,
            "{rate}: {holds}"
        );
        // What is not refilled leaks away, down to ten.
        let later = budget.balance_milli(start + seconds(62.0)) as f64 / 1000.0;
        let left = bank * (-1f64).exp() + 2.0 * f64::from(floor) * (1.0 - (-1f64).exp());
        assert!(
            (later - left.max(10.0)).abs() < left * 0.05 + 0.1,
            "{rate}: {later}, {left}"
        );
    }
}

#[test]
fn a_longer_bank_holds_more() {
    let start = Instant::now();
    let ten = Budget::percent(20).min_per_sec(0).bank(seconds(10.0));
    let budget = RetryBudget::new(ten, start);
    for n in 0..6000 {
        budget.success(start + Duration::from_millis(10) * n);
    }
    let holds = budget.balance_milli(start + seconds(60.0));
    assert!((188_000..200_100).contains(&holds), "{holds}");
}

#[test]
fn banks_that_are_extreme() {
    let start = Instant::now();
    for bank in [
        Duration::ZERO,
        Duration::from_nanos(1),
        Duration::from_secs(3600),
        Duration::MAX,
    ] {
        let policy = Budget::percent(100).min_per_sec(u32::MAX).bank(bank);
        let budget = RetryBudget::new(policy, start);
        for n in 0..64 {
            let now = start + Duration::from_nanos(1 << n);
            budget.success(now);
            assert!(budget.balance_milli(now) >= 9_000, "{bank:?} {n}");
            assert_eq!(granted(&budget, now, 1), 1);
        }
    }
    let budget = RetryBudget::new(Budget::percent(100).bank(Duration::ZERO), start);
    for _ in 0..50 {
        budget.success(start);
    }
    let later = start + Duration::from_nanos(1);
    assert_eq!(granted(&budget, later, 100), 10, "only what is kept");
}

#[test]
fn requests_may_earn_instead() {
    let now = Instant::now();
    let policy = Budget::percent(10).min_per_sec(0);
    let by_requests = RetryBudget::new(policy.earned_by(EarnedBy::Requests), now);
    let by_successes = RetryBudget::new(policy, now);
    for budget in [&by_requests, &by_successes] {
        granted(budget, now, 10);
        for n in 0..100 {
            budget.request(now);
            if n % 2 == 0 {
                budget.success(now);
            }
        }
    }
    assert_eq!(granted(&by_requests, now, 100), 10);
    assert_eq!(granted(&by_successes, now, 100), 5);
}

#[test]
fn who_does_not_look_at_the_clock_looks_at_every_sixteenth_success() {
    let start = Instant::now();
    let budget = RetryBudget::new(Budget::percent(10).min_per_sec(0), start);
    let looks = std::cell::Cell::new(0);
    let now = || {
        looks.set(looks.get() + 1);
        start
    };
    for n in 1..=64 {
        budget.success_by(now);
        assert_eq!(looks.get(), n / 16, "{n}");
    }
    assert_eq!(budget.deposits(), 64);
    // What is paid in meanwhile leaks as anything else.
    let both = [0, 1].map(|_| RetryBudget::new(Budget::percent(10).min_per_sec(0), start));
    let mut now = start;
    for _ in 0..100_000 {
        now += Duration::from_millis(1);
        both[0].success(now);
        both[1].success_by(|| now);
    }
    let [timed, untimed] = both.map(|budget| budget.balance_milli(now));
    assert!(
        untimed <= timed && untimed + 200 > timed,
        "{untimed} {timed}"
    );
    // Requests earn: successes do not.
    let policy = Budget::percent(10).earned_by(EarnedBy::Requests);
    let budget = RetryBudget::new(policy, start);
    budget.success_by(|| start);
    assert_eq!(budget.deposits(), 0);
}

#[test]
fn a_token_comes_back_only_unspent() {
    let now = Instant::now();
    let budget = RetryBudget::new(Budget::percent(0).min_per_sec(1), now);
    drop(budget.withdraw(now).unwrap());
    assert_eq!(
        (budget.balance_milli(now), budget.withdrawals()),
        (10_000, 0)
    );
    budget.withdraw(now).unwrap().spend();
    assert_eq!(
        (budget.balance_milli(now), budget.withdrawals()),
        (9_000, 1)
    );
}

#[test]
fn a_budget_of_nothing_grants_nothing() {
    let now = Instant::now();
    let budget = RetryBudget::new(Budget::percent(0).min_per_sec(0), now);
    budget.success(now);
    assert!(budget.withdraw(now + seconds(1000.0)).is_none());
    assert_eq!((budget.refusals(), budget.balance_milli(now)), (1, 0));
}

#[test]
fn reading_changes_nothing() {
    let start = Instant::now();
    let [read, unread] = [0, 1].map(|_| RetryBudget::new(Budget::percent(20), start));
    for n in 0..5000u32 {
        let now = start + Duration::from_millis(3) * n;
        read.snapshot(now);
        for budget in [&read, &unread] {
            match n % 7 {
                0 => granted(budget, now, 1),
                _ => {
                    budget.success(now);
                    0
                }
            };
        }
    }
    let now = start + seconds(15.0);
    assert_eq!(read.snapshot(now), unread.snapshot(now));
}

// What may happen at a moment.
#[derive(Clone, Copy, Debug)]
enum Event {
    Successes(u8),
    Asks(u8),
    Hedges(u8),
    // Asks, and gives back.
    Returns,
}

fn events() -> impl Strategy<Value = Vec<(u32, Event)>> {
    let event = (any::<u8>(), 0u8..24).prop_map(|(kind, n)| match kind % 8 {
        0..3 => Event::Successes(n),
        3..6 => Event::Asks(n),
        6 => Event::Hedges(n),
        _ => Event::Returns,
    });
    // Mostly a little, sometimes long.
    let wait = any::<u32>().prop_map(|word| match word % 16 {
        0..4 => 0,
        4..15 => (word >> 4) % 500_000,
        _ => (word >> 4) % 100_000_000,
    });
    prop::collection::vec((wait, event), 1..14)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The formula of this room's documentation, over every window that begins and ends at an event.
    #[test]
    fn extra_attempts_never_exceed_the_bound(
        ppm in 0u32..3_000_000, floor in 0u32..50, bank_ms in 0u64..20_000, by_requests in any::<bool>(), events in events(),
    ) {
        let start = Instant::now();
        let policy = Budget::new(Ratio::parts_per_million(ppm).unwrap())
            .min_per_sec(floor)
            .bank(Duration::from_millis(bank_ms))
            .earned_by(if by_requests { EarnedBy::Requests } else { EarnedBy::Successes });
        let budget = RetryBudget::new(policy, start);
        let ratio = f64::from(ppm) / 1e6;
        let tau = bank_ms as f64 / 1e3;
        // Of all windows that end now: what they may have granted less what they have. And the bank's bound.
        let mut windows: Vec<f64> = Vec::with_capacity(16);
        let mut now = start;
        let mut earned_before = 0.0;
        for (micros, event) in events {
            now += Duration::from_micros(micros.into());
            let elapsed = f64::from(micros) / 1e6;
            let kept = if tau > 0.0 { (-elapsed / tau).exp() } else if elapsed > 0.0 { 0.0 } else { 1.0 };
            // The floor is a deposit, too, that is as old as its moment.
            earned_before = earned_before * kept + f64::from(floor) * tau * (1.0 - kept);
            let bank = 10.0 + earned_before;
            windows.iter_mut().for_each(|left| *left += f64::from(floor) * elapsed);
            windows.push(bank);
            let (mut deposits, mut extra) = (0.0, 0u32);
            match event {
                Event::Successes(n) => {
                    for _ in 0..n {
                        budget.request(now);
                        budget.success(now);
                    }
                    deposits = ratio * f64::from(n);
                }
                Event::Asks(n) => extra = granted(&budget, now, n.into()),
                Event::Hedges(n) => {
                    let tokens = (0..n).filter_map(|_| budget.withdraw_hedge(now));
                    extra = tokens.map(Token::spend).count() as u32;
                }
                Event::Returns => drop(budget.withdraw(now)),
            }
            earned_before += deposits;
            for left in &mut windows {
                *left += deposits - f64::from(extra);
                prop_assert!(*left > -1e-3 * f64::from(1 + floor), "{left}");
            }
            prop_assert!(budget.balance_milli(now) as f64 / 1e3 <= bank + deposits + 1e-2);
        }
    }

    /// At one moment it is plain sums: the same in wide integers.
    #[test]
    fn sums_are_exact(ppm in 0u32..3_000_000, events in events()) {
        let now = Instant::now();
        let budget = RetryBudget::new(Budget::new(Ratio::parts_per_million(ppm).unwrap()), now);
        let mut model: u128 = 10_000_000;
        for (_, event) in events {
            match event {
                Event::Successes(n) => {
                    (0..n).for_each(|_| budget.success(now));
                    model += u128::from(ppm) * u128::from(n);
                }
                Event::Asks(n) | Event::Hedges(n) => {
                    let due = u128::from(n).min(model / 1_000_000);
                    prop_assert_eq!(u128::from(granted(&budget, now, n.into())), due);
                    model -= due * 1_000_000;
                }
                Event::Returns => drop(budget.withdraw(now)),
            }
            prop_assert_eq!(u128::from(budget.balance_milli(now)), model / 1000);
        }
    }
}
