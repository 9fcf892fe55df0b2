//! Arrivals, departures, changes and wake-ups in any order, beside the rule they have to follow: of those who can use
//! something, the one that came first gets it.

mod halting;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::turns::{PATIENCE, PlaceKind, Turns, Woken};

// What one waits for: any of two endpoints, or one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Any,
    Only(usize),
}

#[derive(Clone, Debug)]
enum Step {
    Arrive(Wish),
    // One of those who wait goes away.
    Leave(usize),
    // One of those who were woken comes.
    Poll(usize),
    // An endpoint can serve one, all, or nobody, and that is told.
    Probe(usize),
    Open(usize),
    Shut(usize),
    // An endpoint's probe becomes due, so many milliseconds from now, which nobody tells.
    Due(usize, u64),
    // Everybody who was woken comes, and time passes.
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let wish = prop_oneof![
        4 => Just(Wish::Any),
        1 => (0usize..2).prop_map(Wish::Only),
    ];
    let step = prop_oneof![
        6 => wish.prop_map(Step::Arrive),
        2 => (0usize..8).prop_map(Step::Leave),
        6 => (0usize..8).prop_map(Step::Poll),
        3 => (0usize..2).prop_map(Step::Probe),
        1 => (0usize..2).prop_map(Step::Open),
        2 => (0usize..2).prop_map(Step::Shut),
        2 => (0usize..2, 1u64..50).prop_map(|(at, ms)| Step::Due(at, ms)),
        2 => (0u64..60).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..80)
}

#[derive(Clone, Copy, Debug, Default)]
struct Server {
    open: bool,
    probes: u32,
    due: Option<Instant>,
}

struct World {
    now: Instant,
    turns: Turns<u64>,
    wishes: BTreeMap<u64, Wish>,
    woken: BTreeSet<u64>,
    servers: [Server; 2],
    // When the timer of the one that keeps the time rings.
    timers: BTreeMap<u64, Instant>,
    // Counts of what was worth a wake-up, and of wake-ups.
    causes: usize,
    wakes: usize,
}

impl World {
    fn new() -> Self {
        Self {
            now: Instant::now(),
            turns: Turns::new(),
            wishes: BTreeMap::new(),
            woken: BTreeSet::new(),
            servers: [Server::default(); 2],
            timers: BTreeMap::new(),
            causes: 0,
            wakes: 0,
        }
    }

    fn can_use(&self, wish: Wish) -> Option<usize> {
        (0..2).find(|at| {
            let server = self.servers[*at];
            let due = server.due.is_some_and(|due| due <= self.now);
            (wish == Wish::Any || wish == Wish::Only(*at))
                && (server.open || server.probes > 0 || due)
        })
    }

    fn take(&mut self, at: usize) {
        let now = self.now;
        let server = &mut self.servers[at];
        if server.open {
        } else if server.probes > 0 {
            server.probes -= 1;
        } else if server.due.is_some_and(|due| due <= now) {
            server.due = None;
        }
    }

    fn act<T>(&mut self, act: impl FnOnce(&mut Turns<u64>, Instant, &mut Woken<u64>) -> T) -> T {
        let mut woken = Woken(Vec::new());
        let result = act(&mut self.turns, self.now, &mut woken);
        self.wakes += woken.0.len();
        self.woken.extend(woken.0);
        result
    }

    fn change(&mut self) {
        self.causes += 1;
        self.act(|turns, now, woken| turns.change(now, woken));
    }

    fn arrive(&mut self, wish: Wish) {
        let kind = PlaceKind {
            counted: true,
            any: wish == Wish::Any,
        };
        let number = self.act(|turns, now, woken| {
            let (number, more) = turns.enter(kind, now);
            woken.0.extend(more.0);
            number
        });
        assert!(self.wishes.keys().all(|other| *other < number));
        self.wishes.insert(number, wish);
        self.poll(number);
    }

    fn leave(&mut self, number: u64, more: bool) {
        self.causes += 1;
        self.act(|turns, now, woken| turns.leave(number, more, now, woken));
        self.wishes.remove(&number);
        self.woken.remove(&number);
        self.timers.remove(&number);
    }

    fn poll(&mut self, number: u64) {
        self.woken.remove(&number);
        let wish = self.wishes[&number];
        loop {
            let mine = self.act(|turns, now, woken| turns.may_look(number, number, now, woken).0);
            if !mine {
                break;
            }
            if let Some(at) = self.can_use(wish) {
                // The rule.
                let earlier = self.wishes.range(..number);
                for (other, wish) in earlier {
                    let could = self.can_use(*wish);
                    assert_eq!(could, None, "{number} overtakes {other}");
                }
                self.take(at);
                let more = self.can_use(Wish::Any).is_some();
                return self.leave(number, more);
            }
            let more = wish != Wish::Any && self.can_use(Wish::Any).is_some();
            self.causes += usize::from(more);
            self.act(|turns, now, woken| turns.looked(number, more, now, woken));
        }
        let due = self.servers.iter().filter_map(|server| server.due);
        let due = due.filter(|due| *due > self.now).min();
        let late = self.now + Duration::from_secs(60);
        self.timers.remove(&number);
        if self.turns.keep_time(number, due, late)
            && let Some(due) = due
        {
            self.timers.insert(number, due);
        }
    }

    fn drain(&mut self) {
        while let Some(number) = self.woken.pop_first() {
            self.poll(number);
        }
    }

    fn wait(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        // One timer after the other: nothing is left lying about while time passes.
        loop {
            self.drain();
            let next = self
                .timers
                .iter()
                .min_by_key(|(number, at)| (**at, **number));
            let Some((number, at)) = next.map(|(number, at)| (*number, *at)) else {
                break;
            };
            if at > until {
                break;
            }
            self.now = self.now.max(at);
            self.timers.remove(&number);
            self.causes += 1;
            self.wakes += 1;
            self.woken.insert(number);
        }
        self.now = until;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn who_came_first_goes_first_and_nobody_is_forgotten(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            let of = |all: Vec<u64>, n: usize| (!all.is_empty()).then(|| all[n % all.len()]);
            match step {
                Step::Arrive(wish) => world.arrive(wish),
                Step::Leave(n) => {
                    if let Some(number) = of(world.wishes.keys().copied().collect(), n) {
                        world.leave(number, true);
                    }
                }
                Step::Poll(n) => {
                    if let Some(number) = of(world.woken.iter().copied().collect(), n) {
                        world.poll(number);
                    }
                }
                Step::Probe(at) => {
                    world.servers[at].probes += 1;
                    world.change();
                }
                Step::Open(at) => {
                    world.servers[at].open = true;
                    world.change();
                }
                Step::Shut(at) => {
                    world.servers[at] = Server::default();
                    world.change();
                }
                Step::Due(at, ms) => {
                    world.servers[at].due = Some(world.now + Duration::from_millis(ms));
                    world.change();
                }
                Step::Wait(ms) => world.wait(ms),
            }
            prop_assert_eq!(world.turns.counted(), world.wishes.len());
        }
        world.wait(100);
        for (number, wish) in &world.wishes {
            prop_assert_eq!(world.can_use(*wish), None, "{} is forgotten", number);
        }
        // Nobody is woken for nothing: a change wakes one, and whoever goes the next.
        prop_assert!(world.wakes <= world.causes, "{} for {}", world.wakes, world.causes);
    }
}

const ANY: PlaceKind = PlaceKind {
    counted: true,
    any: true,
};

#[test]
fn one_that_does_not_come_holds_up_nobody_for_long() {
    let start = Instant::now();
    let mut turns = Turns::new();
    let mut woken = Woken(Vec::new());
    for number in 0..3u64 {
        assert_eq!(turns.enter(ANY, start).0, number);
        assert!(turns.may_look(number, number, start, &mut woken).0);
        turns.looked(number, false, start, &mut woken);
    }
    turns.change(start, &mut woken);
    assert_eq!(woken.0, [0]);
    // It is not there. Whoever comes does not overtake the others, and has the next one asked once patience is over.
    let (newest, more) = turns.enter(ANY, start + PATIENCE / 2);
    assert!(more.0.is_empty());
    assert!(!turns.may_look(newest, newest, start, &mut woken).0);
    let late = start + PATIENCE;
    turns.change(late, &mut woken);
    let (_, more) = turns.enter(ANY, late);
    assert!(more.0.is_empty());
    assert_eq!(woken.0, [0, 1]);
    assert!(turns.may_look(1, 1, late, &mut woken).0);
    // It comes late: it may look at once, and the turn goes on as if it had not come.
    assert!(turns.may_look(0, 0, late, &mut woken).0);
    turns.leave(0, true, late, &mut woken);
    assert!(turns.may_look(1, 1, late, &mut woken).0);
    turns.leave(1, true, late, &mut woken);
    assert!(turns.may_look(2, 2, late, &mut woken).0);
}

// So many wait, and each has looked in vain.
fn in_vain(count: u64, now: Instant) -> Turns<u64> {
    let mut turns = Turns::new();
    let mut woken = Woken(Vec::new());
    for number in 0..count {
        turns.enter(ANY, now);
        assert!(turns.may_look(number, number, now, &mut woken).0);
        turns.looked(number, false, now, &mut woken);
    }
    assert!(woken.0.is_empty());
    turns
}

#[test]
fn what_is_due_when_the_first_leaves_is_looked_at_by_the_next() {
    let now = Instant::now();
    let due = now + Duration::from_millis(1);
    let mut woken = Woken(Vec::new());
    let mut turns = in_vain(2, now);
    assert!(turns.keep_time(0, Some(due), now + Duration::from_secs(1)));
    // Its caller gives up in the very moment for which it waits.
    turns.leave(0, true, due, &mut woken);
    assert_eq!(woken.0, [1]);
    assert!(turns.may_look(1, 1, due, &mut woken).0);
}

#[test]
fn one_whose_turn_goes_by_while_it_looks_looks_again() {
    let start = Instant::now();
    let late = start + PATIENCE;
    let mut woken = Woken(Vec::new());
    let mut turns = in_vain(1, start);
    turns.change(start, &mut woken);
    assert!(turns.may_look(0, 0, start, &mut woken).0);
    // Its thread is halted between the look and this.
    turns.change(late, &mut woken);
    turns.looked(0, false, start, &mut woken);
    assert!(turns.may_look(0, 0, start, &mut woken).0);
}

#[test]
fn one_that_comes_late_to_its_own_timer_is_not_absent() {
    let start = Instant::now();
    let late = start + PATIENCE;
    let mut woken = Woken(Vec::new());
    let mut turns = in_vain(1, start);
    turns.change(start, &mut woken);
    assert!(turns.keep_time(0, Some(start), late));
    assert!(turns.may_look(0, 0, late, &mut woken).0);
}

#[test]
fn a_look_that_comes_late_does_not_use_up_a_turn_given_meanwhile() {
    let start = Instant::now();
    let late = start + PATIENCE;
    let mut woken = Woken(Vec::new());
    let mut turns = in_vain(2, start);
    turns.change(start, &mut woken);
    turns.change(late, &mut woken);
    assert_eq!(woken.0, [0, 1]);
    assert!(turns.may_look(0, 0, late, &mut woken).0);
    // Something changed since the next one was woken: the first is to look again before it.
    assert!(!turns.may_look(1, 1, late, &mut woken).0);
    assert_eq!(woken.0, [0, 1, 0]);
    turns.looked(0, false, late, &mut woken);
    assert!(turns.may_look(0, 0, late, &mut woken).0);
}

#[test]
fn only_those_are_told_for_whom_it_is_too_late() {
    let now = Instant::now();
    let at = |secs| now + Duration::from_secs(secs);
    let mut turns = Turns::new();
    let mut woken = Woken(Vec::new());
    for number in 0..5u64 {
        turns.enter(ANY, now);
        assert!(turns.may_look(number, number, now, &mut woken).0);
        turns.looked(number, false, now, &mut woken);
        turns.keep_time(number, None, at(number));
    }
    turns.hopeless(at(2), &mut woken);
    assert_eq!(woken.0, [0, 1, 2]);
    // They know.
    turns.hopeless(at(2), &mut woken);
    assert_eq!(woken.0, [0, 1, 2]);
    turns.wake_all(now, &mut woken);
    assert_eq!(woken.0, [0, 1, 2, 3, 4]);
}
