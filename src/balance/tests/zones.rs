//! The callers' own zone first.

use super::*;
use crate::policy::{PreferZone, Ratio};

const ZONES: [&str; 3] = ["a", "b", "c"];

// Endpoints in each zone, for callers in `a`.
fn zoned(counts: [u32; 3], load: Load) -> Set<()> {
    let set = set_in(Some(FailureAccrual::consecutive(1)), load, Some("a"));
    set.update(Update::Reset(endpoints(counts)), Instant::now());
    set
}

fn endpoints(counts: [u32; 3]) -> Vec<Endpoint> {
    let zones = ZONES.iter().zip(counts).zip(0u32..);
    zones
        .flat_map(|((zone, count), z)| {
            (0..count).map(move |n| endpoint(z * 1000 + n).with_zone(*zone))
        })
        .collect()
}

fn prefer() -> Load {
    Load::default().prefer_zone(PreferZone::DEFAULT)
}

// What part of so many requests stays, each of which takes a while.
async fn stays(set: &Set<()>, wants: impl Fn(u64) -> Want<'static>) -> f64 {
    let mut near = 0;
    let mut tickets = std::collections::VecDeque::new();
    for request in 0..10_000u64 {
        let want = wants(request);
        let (zone, mut ticket) = set
            .pick(&want, |site, ticket| {
                (site.endpoint().zone().map(str::to_owned), ticket)
            })
            .unwrap();
        near += u32::from(zone.as_deref() == Some("a"));
        ticket.sent(Instant::now());
        tickets.push_back(ticket);
        if tickets.len() > 20 {
            tickets.pop_front().unwrap().settle(&Outcome::SUCCESS);
        }
        tokio::time::advance(Duration::from_micros(500)).await;
    }
    f64::from(near) / 10_000.0
}

fn eject(set: &Set<()>, last: impl IntoIterator<Item = u32>) {
    for n in last {
        let only = Want {
            only: Some(endpoint(n).address()),
            ..want(77)
        };
        let ticket = set.pick(&only, |_, ticket| ticket).unwrap();
        ticket.settle(&Outcome::FAILURE);
    }
}

// Held open, whatever its rules say.
fn held(set: &Set<()>, these: impl IntoIterator<Item = u32>) {
    for n in these {
        let address = endpoint(n).address();
        let members = set.members();
        let member = members.iter().find(|m| m.cell.address() == address);
        member
            .unwrap()
            .cell
            .force(Some(crate::breaker::Forced::Open));
    }
}

#[tokio::test(start_paused = true)]
async fn as_many_stay_as_the_zone_can_carry() {
    let set = zoned([10, 10, 10], prefer());
    assert!(stays(&set, want).await >= 0.99);
    // Half of them cannot serve: 5 of 25, times three zones, times 1.4.
    held(&set, 0..5);
    let part = stays(&set, want).await;
    assert!((part - 0.84).abs() < 0.02, "{part}");
    held(&set, 5..10);
    assert_eq!(stays(&set, want).await, 0.0);
    // They are back.
    for member in set.members().iter() {
        member.cell.force(None);
    }
    assert!(stays(&set, want).await >= 0.99);
    // The others are gone: no choice.
    let gone: Vec<_> = endpoints([0, 10, 10]);
    let gone = gone.iter().map(Endpoint::address).collect();
    set.update(Update::Remove(gone), Instant::now());
    assert_eq!(stays(&set, want).await, 1.0);
}

#[tokio::test(start_paused = true)]
async fn an_ejection_counts_at_once_and_its_probe_goes_first() {
    let set = zoned([2, 2, 2], prefer());
    eject(&set, [0]);
    // 1 of 5, times three zones, times 1.4; its probe, once it is due, is made by the next.
    let due = set.next_due(Instant::now()).unwrap();
    let mut near = 0;
    for request in 0..1000 {
        let (chosen, ticket) = pick(&set, request).unwrap();
        near += u32::from(chosen.zone() == Some("a"));
        ticket.give_back();
    }
    assert!((780..900).contains(&near), "{near}");
    tokio::time::sleep_until(due).await;
    let (chosen, ticket) = pick(&set, 1000).unwrap();
    assert_eq!(chosen.address(), endpoint(0).address());
    assert!(ticket.note().probe);
}

#[tokio::test(start_paused = true)]
async fn a_small_zone_is_not_overloaded() {
    let set = zoned([1, 10, 19], prefer());
    let part = stays(&set, want).await;
    assert!((part - 0.14).abs() < 0.02, "{part}");
    // As much as its share, and no more.
    let even = PreferZone::DEFAULT.overprovision(Ratio::percent(100));
    let set = zoned([1, 10, 19], Load::default().prefer_zone(even));
    let part = stays(&set, want).await;
    assert!((part - 0.10).abs() < 0.02, "{part}");
    // Its callers are few: a hundredth of all.
    let few = PreferZone::DEFAULT.callers(Ratio::percent(1));
    let set = zoned([1, 10, 19], Load::default().prefer_zone(few));
    assert_eq!(stays(&set, want).await, 1.0);
    // One that weighs more carries more.
    let set = set_in(None, prefer(), Some("a"));
    let mut all = endpoints([1, 10, 19]);
    all[0] = all[0].clone().with_weight(4.0);
    set.update(Update::Reset(all), Instant::now());
    let part = stays(&set, want).await;
    assert!((part - 4.0 / 33.0 * 3.0 * 1.4).abs() < 0.02, "{part}");
}

#[tokio::test(start_paused = true)]
async fn without_a_word_for_it_zones_do_not_count() {
    let plain = zoned([10, 10, 10], Load::default());
    let part = stays(&plain, want).await;
    assert!((part - 1.0 / 3.0).abs() < 0.05, "{part}");
    // A policy that says so later, and one that no longer does.
    let settings = |load| Settings {
        accrual: Some(FailureAccrual::consecutive(1)),
        load,
        queue: Queue::default(),
        probes_in_turn: true,
    };
    plain.configure(&settings(prefer()), Instant::now());
    assert_eq!(stays(&plain, want).await, 1.0);
    plain.configure(&settings(Load::default()), Instant::now());
    assert!(stays(&plain, want).await < 0.5);
    // A caller that does not know where it is.
    let set = set(None, prefer());
    set.update(Update::Reset(endpoints([10, 10, 10])), Instant::now());
    assert!(stays(&set, want).await < 0.5);
}

#[tokio::test(start_paused = true)]
async fn another_try_may_leave_the_zone() {
    static TRIED: std::sync::LazyLock<[std::net::SocketAddr; 1]> =
        std::sync::LazyLock::new(|| [endpoint(0).address()]);
    let set = zoned([10, 10, 10], prefer());
    let again = |request| Want {
        avoid: &*TRIED,
        ..want(request)
    };
    let part = stays(&set, again).await;
    assert!((0.2..0.5).contains(&part), "{part}");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_may_move_and_other_loads_prefer_zones_too() {
    for load in [Load::least_pending(), Load::weighted_round_robin()] {
        let set = zoned([10, 10, 10], load.prefer_zone(PreferZone::DEFAULT));
        assert_eq!(stays(&set, want).await, 1.0);
        // All of the zone go elsewhere, but two.
        let moved = (0..8).map(|n| endpoint(n).with_zone("b")).collect();
        set.update(Update::Add(moved), Instant::now());
        let part = stays(&set, want).await;
        assert!((part - 2.0 / 30.0 * 3.0 * 1.4).abs() < 0.02, "{part}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Joins, leaves and moves in any order: what is near and what is far is what the members say.
    #[test]
    fn sides_are_what_the_members_say(steps in proptest::collection::vec((0u32..40, 0usize..5), 1..150)) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().unwrap().block_on(async {
            let set = set_in(None, prefer(), Some("a"));
            for (n, what) in steps {
                let update = match what {
                    0..3 => Update::Add(vec![endpoint(n).with_zone(ZONES[what])]),
                    3 => Update::Remove(vec![endpoint(n).address()]),
                    _ => Update::Add(vec![endpoint(n)]),
                };
                set.update(update, Instant::now());
                let members = set.members();
                let of = |near: bool| {
                    let zone = |m: &&Member<()>| (m.site.endpoint().zone() == Some("a")) == near;
                    let mut all: Vec<_> = members.iter().filter(zone).map(|m| m.cell.address()).collect();
                    all.sort();
                    all
                };
                let (near, far) = (of(true), of(false));
                match members.split() {
                    None => assert!(near.is_empty() || far.is_empty()),
                    Some(split) => assert_eq!(split.addresses(), [near, far]),
                }
            }
        });
    }
}
