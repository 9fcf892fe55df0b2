use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::breaker::Forced;
use crate::core::observe::Observers;
use crate::core::time::Epoch;
use crate::endpoint::Endpoint;
use crate::policy::{FailureAccrual, Load, Queue};
use crate::verdict::{Outcome, Settle, Ticket};

mod churn;
mod zones;

pub(super) fn set(accrual: Option<FailureAccrual>, load: Load) -> Set<()> {
    set_in(accrual, load, None)
}

// With callers in a zone.
fn set_in(accrual: Option<FailureAccrual>, load: Load, zone: Option<&str>) -> Set<()> {
    let pool = Pool::new(
        "test".into(),
        1,
        Epoch::new(Instant::now()),
        Observers::default(),
        Arc::default(),
    );
    let settings = Settings {
        accrual,
        load,
        queue: Queue::default(),
        probes_in_turn: true,
    };
    Set::new(pool, settings, None).in_zone(zone.map(Arc::from))
}

pub(super) fn endpoint(n: u32) -> Endpoint {
    let [a, b, c, d] = (0x0a00_0000 + n).to_be_bytes();
    Endpoint::new(([a, b, c, d], 80).into())
}

pub(super) fn want(request: u64) -> Want<'static> {
    Want {
        now: Instant::now(),
        request,
        round: 0,
        avoid: &[],
        except: None,
        only: None,
        repeatable: false,
    }
}

fn pick(set: &Set<()>, request: u64) -> Option<(Endpoint, Ticket)> {
    set.pick(&want(request), |site, ticket| {
        (site.endpoint().clone(), ticket)
    })
}

fn fill(set: &Set<()>, count: u32) {
    let all = (0..count).map(endpoint).collect();
    set.update(Update::Reset(all), Instant::now());
}

#[tokio::test(start_paused = true)]
async fn what_has_left_keeps_no_leaf_and_what_returns_is_remembered() {
    let set = set(None, Load::default());
    fill(&set, 2);
    let (chosen, mut ticket) = pick(&set, 0).unwrap();
    ticket.sent(Instant::now());
    tokio::time::advance(Duration::from_millis(77)).await;
    ticket.settle(&Outcome::SUCCESS);
    let members = set.members();
    let known = members
        .iter()
        .find(|member| *member.site.endpoint() == chosen);
    let (cell, site) = known
        .map(|member| (Arc::clone(&member.cell), Arc::downgrade(&member.site)))
        .unwrap();
    drop(members);
    let at = |now| set.pool.epoch.nanos(now);
    let before = cell.latency_now(at(Instant::now()));
    assert_eq!(before, Duration::from_millis(77));
    set.update(Update::Remove(vec![chosen.address()]), Instant::now());
    assert!(site.upgrade().is_none(), "its leaf went with it");
    set.update(Update::Add(vec![chosen.clone()]), Instant::now());
    let members = set.members();
    let back = members
        .iter()
        .find(|member| *member.site.endpoint() == chosen);
    assert!(Arc::ptr_eq(&back.unwrap().cell, &cell));
    // Not for ever.
    set.update(Update::Remove(vec![chosen.address()]), Instant::now());
    tokio::time::advance(REMEMBERED).await;
    set.update(Update::Add(vec![chosen.clone()]), Instant::now());
    let members = set.members();
    let back = members
        .iter()
        .find(|member| *member.site.endpoint() == chosen);
    assert!(!Arc::ptr_eq(&back.unwrap().cell, &cell));
}

#[tokio::test(start_paused = true)]
async fn round_robin_follows_the_weights() {
    let set = set(None, Load::weighted_round_robin());
    let weights = [1.0, 0.5, 2.0, 0.25];
    let endpoints = (0..4u32)
        .zip(weights)
        .map(|(n, w)| endpoint(n).with_weight(w));
    set.update(Update::Reset(endpoints.collect()), Instant::now());
    let mut counts = [0u32; 4];
    for n in 0..3750 {
        let (chosen, ticket) = pick(&set, n).unwrap();
        drop(ticket);
        let index = (0..4).position(|n| endpoint(n).address() == chosen.address());
        counts[index.unwrap()] += 1;
    }
    for (count, weight) in counts.into_iter().zip(weights) {
        assert!((count as f64 - 1000.0 * weight).abs() <= 4.0, "{counts:?}");
    }
}

// How often an ejected one is taken, where so many of the endpoints are ejected.
fn panics(out: u32, of: u32, pairs: u32, picks: u64) -> f64 {
    let accrual = FailureAccrual::consecutive(1).panic_after(pairs);
    let set = set(Some(accrual), Load::default());
    fill(&set, of);
    let members = set.members();
    let now = Instant::now();
    for n in 0..out {
        let cell = members.iter().map(|member| &member.cell);
        let mut cells = cell.filter(|cell| cell.address() == endpoint(n).address());
        let mut ticket = cells.next().unwrap().admit(now, 0).unwrap();
        ticket.sent(now);
        ticket.settle(&Outcome::FAILURE);
    }
    let ejected: Vec<_> = (0..out).map(|n| endpoint(n).address()).collect();
    let taken = (0..picks).filter(|request| {
        let (chosen, _) = pick(&set, *request).unwrap();
        ejected.contains(&chosen.address())
    });
    taken.count() as f64 / picks as f64
}

/// Finagle's rule: as many draws in a row must all be of ejected endpoints.
#[tokio::test(start_paused = true)]
async fn panic_is_as_likely_as_that_all_draws_are_of_the_ejected() {
    let picks = if cfg!(debug_assertions) {
        100_000
    } else {
        2_000_000
    };
    for (out, of, pairs) in [
        (5, 10, 1),
        (9, 10, 1),
        (8, 10, 2),
        (9, 10, 4),
        (19, 20, 4),
        (19, 20, 10),
        (1, 2, 3),
        (0, 3, 1),
    ] {
        let share = f64::from(out) / f64::from(of);
        let expected = (0..2 * pairs).fold(1.0, |all, _| all * share);
        let found = panics(out, of, pairs, picks);
        let name = format!("{out} of {of} are out, {pairs} pairs");
        println!("{name}: {found:.5}, expected {expected:.5}");
        assert!((found - expected).abs() <= 0.01, "{name}: {found}");
        // In proportion to itself, too, where there are enough picks to tell.
        if !cfg!(debug_assertions) && expected > 0.1 {
            assert!((found / expected - 1.0).abs() <= 0.01, "{name}: {found}");
        }
    }
}

// How long the probe of one of so many endpoints waits after it is due, at 1 000 requests/s.
async fn probe_wait(count: u32, repeatable: u64) -> Duration {
    let set = set(Some(FailureAccrual::consecutive(1)), Load::default());
    fill(&set, count);
    let bad = endpoint(count / 2).address();
    let only = Want {
        only: Some(bad),
        ..want(0)
    };
    let ticket = set.pick(&only, |_, ticket| ticket).unwrap();
    ticket.settle(&Outcome::FAILURE);
    let due = set.next_due(Instant::now()).unwrap();
    for request in 1..60_000 {
        tokio::time::advance(Duration::from_millis(1)).await;
        let want = Want {
            repeatable: repeatable > 0 && request % repeatable == 0,
            ..want(request)
        };
        let (chosen, ticket) = set
            .pick(&want, |site, ticket| (site.endpoint().clone(), ticket))
            .unwrap();
        let probe = ticket.note().probe;
        assert_eq!(probe, chosen.address() == bad);
        ticket.settle(&Outcome::SUCCESS);
        if probe {
            let waited = Instant::now() - due;
            // Who looks where nothing is due any more looks once.
            tokio::time::advance(Duration::from_secs(100)).await;
            drop(pick(&set, request + 1));
            assert_eq!(set.pool.probe_due(u64::MAX - 1), None);
            return waited;
        }
    }
    panic!("no probe of {bad} within a minute")
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_due_is_found_however_many_endpoints_there_are() {
    for count in [2, 10, 1000, 10_000] {
        let waited = probe_wait(count, 0).await;
        assert!(waited <= Duration::from_millis(1), "{count}: {waited:?}");
        // One request in ten may be repeated elsewhere: it waits for that.
        let waited = probe_wait(count, 10).await;
        assert!(waited <= Duration::from_millis(10), "{count}: {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn many_probes_that_are_due_at_once_get_their_turns() {
    let set = set(Some(FailureAccrual::consecutive(1)), Load::default());
    fill(&set, 1000);
    for n in 0..300 {
        let only = Want {
            only: Some(endpoint(n).address()),
            ..want(u64::from(n))
        };
        let ticket = set.pick(&only, |_, ticket| ticket).unwrap();
        ticket.settle(&Outcome::FAILURE);
    }
    // Its wait is jittered, by half at most.
    tokio::time::advance(Duration::from_secs(2)).await;
    let mut probes = 0;
    for request in 1000..1400 {
        let (_, ticket) = pick(&set, request).unwrap();
        probes += u32::from(ticket.note().probe);
        ticket.settle(&Outcome::SUCCESS);
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    assert_eq!(probes, 300);
    assert_eq!(set.pool.guard.in_service(), 1000);
}

#[tokio::test(start_paused = true)]
async fn endpoints_of_one_weight_are_compared_without_it() {
    let set = set(None, Load::default());
    fill(&set, 3);
    let uneven = |set: &Set<()>| (set.members().uneven(), set.members().are_plain());
    assert_eq!(uneven(&set), (false, true));
    let heavier = endpoint(3).with_weight(2.0);
    set.update(Update::Add(vec![heavier]), Instant::now());
    assert_eq!(uneven(&set), (true, false));
}

#[tokio::test(start_paused = true)]
async fn one_that_returns_while_it_is_ejected_is_probed_when_that_is_due() {
    let set = set(Some(FailureAccrual::consecutive(1)), Load::default());
    fill(&set, 3);
    let bad = endpoint(1);
    let only = Want {
        only: Some(bad.address()),
        ..want(0)
    };
    let ticket = set.pick(&only, |_, ticket| ticket).unwrap();
    ticket.settle(&Outcome::FAILURE);
    set.update(Update::Remove(vec![bad.address()]), Instant::now());
    tokio::time::advance(Duration::from_secs(60)).await;
    // Its turn comes, and it is not there.
    drop(pick(&set, 1));
    assert_eq!(set.pool.probe_due(u64::MAX - 1), None);
    set.update(Update::Add(vec![bad.clone()]), Instant::now());
    tokio::time::advance(Duration::from_millis(10)).await;
    let (chosen, ticket) = pick(&set, 2).unwrap();
    assert!(ticket.note().probe);
    assert_eq!(chosen, bad);
}

#[tokio::test(start_paused = true)]
async fn a_set_can_serve_as_long_as_one_can() {
    let set = set(Some(FailureAccrual::consecutive(1)), Load::default());
    let now = Instant::now();
    assert!(!set.is_able(now), "nobody is there");
    fill(&set, 3);
    for n in 0..3 {
        assert!(set.is_able(now), "{n} are out");
        assert_eq!(set.hopeless_until(now), None);
        let only = Want {
            only: Some(endpoint(n).address()),
            ..want(u64::from(n))
        };
        let ticket = set.pick(&only, |_, ticket| ticket).unwrap();
        ticket.settle(&Outcome::FAILURE);
    }
    assert!(!set.is_able(now));
    let due = set.next_due(now).unwrap();
    assert_eq!(set.hopeless_until(now), Some(due));
    // Its turn has come, and from then on one may try, no more.
    tokio::time::advance(due - now).await;
    let now = Instant::now();
    assert!(set.is_able(now));
    let probe = pick(&set, 4).unwrap().1;
    assert!(probe.note().probe);
    assert!(!set.is_able(now) && pick(&set, 5).is_none());
    probe.settle(&Outcome::SUCCESS);
    assert!(set.is_able(now));
}

#[tokio::test(start_paused = true)]
async fn another_policy_reaches_those_that_are_there_and_those_that_come() {
    let set = set(None, Load::default());
    fill(&set, 3);
    let fail = |n: u32| {
        let only = Want {
            only: Some(endpoint(n).address()),
            ..want(u64::from(n))
        };
        let ticket = set.pick(&only, |_, ticket| ticket).unwrap();
        ticket.settle(&Outcome::FAILURE);
        set.pool.guard.in_service()
    };
    assert_eq!(fail(0), 3, "without a policy");
    let with = |accrual, load| Settings {
        accrual,
        load,
        queue: Queue::default(),
        probes_in_turn: true,
    };
    let accrual = FailureAccrual::consecutive(1);
    let settings = with(Some(accrual), Load::least_pending());
    set.configure(&settings, Instant::now());
    assert!(!set.members().are_plain(), "by another measure");
    assert_eq!(fail(0), 2);
    set.update(Update::Add(vec![endpoint(3)]), Instant::now());
    assert_eq!(set.pool.guard.in_service(), 3);
    assert_eq!(fail(3), 2);
    assert!(set.pool.guard.is_reduced());
    set.configure(&with(None, Load::default()), Instant::now());
    assert_eq!(set.pool.guard.in_service(), 4, "none ejects none");
    assert!(!set.pool.guard.is_reduced() && set.members().are_plain());
    let open = |member: &Member<()>| member.cell.is_open();
    assert!(set.members().iter().all(open));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_held_open_by_hand_is_nobodys_outage() {
    let set = set(Some(FailureAccrual::consecutive(1)), Load::default());
    fill(&set, 3);
    let guard = &set.pool.guard;
    let cell = Arc::clone(&set.members().iter().next().unwrap().cell);
    let only = Want {
        only: Some(cell.address()),
        ..want(0)
    };
    let of_it = || set.pick(&only, |_, ticket| ticket);
    cell.force(Some(Forced::Open));
    assert_eq!((guard.in_service(), guard.is_reduced()), (2, false));
    assert!(of_it().is_none());
    cell.force(Some(Forced::Closed));
    assert_eq!((guard.in_service(), guard.is_reduced()), (3, false));
    of_it().unwrap().settle(&Outcome::FAILURE);
    assert_eq!(guard.in_service(), 3, "whatever it answers");
    // Let go, and what is in flight since before decides nothing.
    let before = of_it().unwrap();
    cell.force(None);
    before.settle(&Outcome::FAILURE);
    assert_eq!(guard.in_service(), 3);
    of_it().unwrap().settle(&Outcome::FAILURE);
    assert_eq!((guard.in_service(), guard.is_reduced()), (2, true));
    assert!(guard.serves());
    // A reset brings back one that is ejected.
    cell.force(None);
    assert_eq!((guard.in_service(), guard.is_reduced()), (3, false));
    of_it().unwrap().settle(&Outcome::SUCCESS);
    for member in set.members().iter() {
        member.cell.force(Some(Forced::Open));
    }
    assert!(!guard.serves());
}
