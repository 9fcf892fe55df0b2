//! The same on threads that may halt anywhere, for any time: between a look and what is said of it, between what is known
//! and what is told. Who came first no longer goes first; but still nobody is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::super::turns::{Turns, Woken};
use super::ANY;

#[derive(Clone, Debug)]
enum Step {
    Arrive,
    // One of those whose future nobody is polling goes away.
    Drop(usize),
    // One of those who are woken, or in the middle of it, goes on to where it may halt next.
    Go(usize),
    // What can be had: all there is, nothing, or a probe so many milliseconds from now; or ago, by the clock of a thread
    // that was halted before it said so.
    Open,
    Shut,
    Due(i64),
    // One of these is told.
    Tell,
    Pass(u64),
    // Nobody halts any more: for now, or until all is quiet.
    Run,
    Settle,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => Just(Step::Arrive),
        2 => (0usize..3).prop_map(Step::Drop),
        8 => (0usize..8).prop_map(Step::Go),
        2 => Just(Step::Run),
        1 => Just(Step::Open),
        1 => Just(Step::Shut),
        3 => (-10i64..20).prop_map(Step::Due),
        4 => Just(Step::Tell),
        3 => (0u64..20).prop_map(Step::Pass),
        1 => Just(Step::Settle),
    ];
    proptest::collection::vec(step, 1..120)
}

// Where in its poll a task is, and which time it had when that began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Parked,
    Looking(Instant),
    LookedInVain(Instant),
    // It has found something: the probe is its own.
    Leaving,
    Staying(Instant),
    StayingFirst(Instant),
    StayingBehind,
    KeepingTime(Option<Instant>),
}

struct World {
    now: Instant,
    turns: Turns<u64>,
    tasks: BTreeMap<u64, At>,
    woken: BTreeSet<u64>,
    timers: BTreeMap<u64, Instant>,
    open: bool,
    due: Option<Instant>,
    untold: usize,
}

impl World {
    fn new() -> Self {
        Self {
            // There is a time before the first.
            now: Instant::now() + Duration::from_secs(1),
            turns: Turns::new(),
            tasks: BTreeMap::new(),
            woken: BTreeSet::new(),
            timers: BTreeMap::new(),
            open: false,
            due: None,
            untold: 0,
        }
    }

    fn act<T>(&mut self, act: impl FnOnce(&mut Turns<u64>, &mut Woken<u64>) -> T) -> T {
        let mut woken = Woken(Vec::new());
        let result = act(&mut self.turns, &mut woken);
        self.woken.extend(woken.0);
        result
    }

    fn can_use(&self, now: Instant) -> bool {
        self.open || self.due.is_some_and(|due| due <= now)
    }

    fn arrive(&mut self) {
        let now = self.now;
        let (number, woken) = self.turns.enter(ANY, now);
        self.woken.extend(woken.0);
        self.tasks.insert(number, At::Looking(now));
    }

    fn set(&mut self, open: bool, due: Option<Instant>) {
        (self.open, self.due) = (open, due);
        self.untold += 1;
    }

    fn tell(&mut self) {
        if let Some(rest) = self.untold.checked_sub(1) {
            self.untold = rest;
            let now = self.now;
            self.act(|turns, woken| turns.change(now, woken));
        }
    }

    fn leave(&mut self, number: u64, more: bool) {
        let now = self.now;
        self.act(|turns, woken| turns.leave(number, more, now, woken));
        self.tasks.remove(&number);
        self.woken.remove(&number);
        self.timers.remove(&number);
    }

    // Those who can go on.
    fn running(&self) -> Vec<u64> {
        let runs = |(number, at): &(&u64, &At)| **at != At::Parked || self.woken.contains(number);
        let running = self.tasks.iter().filter(runs);
        running.map(|(number, _)| *number).collect()
    }

    fn go(&mut self, number: u64) {
        let next = match self.tasks[&number] {
            At::Parked => {
                self.woken.remove(&number);
                At::Looking(self.now)
            }
            At::Looking(now) => {
                let look = self.act(|turns, woken| turns.may_look(number, number, now, woken).0);
                match look {
                    true if self.can_use(now) => {
                        // A probe that comes to nothing may be made again, which nobody tells.
                        self.due = Some(self.now + Duration::from_millis(7));
                        At::Leaving
                    }
                    true => At::LookedInVain(now),
                    false => At::Staying(now),
                }
            }
            At::Leaving => return self.leave(number, self.can_use(self.now)),
            At::LookedInVain(now) => {
                self.act(|turns, woken| turns.looked(number, false, now, woken));
                At::Looking(now)
            }
            At::Staying(now) if self.turns.is_first(number) => At::StayingFirst(now),
            At::Staying(_) => At::StayingBehind,
            At::StayingBehind => {
                self.turns.wait_until(number, self.late());
                self.timers.remove(&number);
                At::Parked
            }
            At::StayingFirst(now) => At::KeepingTime(self.due.filter(|due| *due > now)),
            At::KeepingTime(due) => {
                self.timers.remove(&number);
                if self.turns.keep_time(number, due, self.late())
                    && let Some(due) = due
                {
                    self.timers.insert(number, due);
                }
                At::Parked
            }
        };
        self.tasks.insert(number, next);
    }

    fn late(&self) -> Instant {
        self.now + Duration::from_secs(60)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let rung: Vec<u64> = (self.timers.iter())
            .filter(|(_, at)| **at <= self.now)
            .map(|(number, _)| *number)
            .collect();
        for number in rung {
            self.timers.remove(&number);
            self.woken.insert(number);
        }
    }

    fn run(&mut self) {
        while let Some(number) = self.running().first() {
            self.go(*number);
        }
    }

    // Returns whether anybody waits for what is there.
    fn settle(&mut self) -> bool {
        while self.untold > 0 {
            self.tell();
        }
        loop {
            self.run();
            let Some(next) = self.timers.values().min() else {
                // Longer than anything is due.
                self.now += Duration::from_millis(100);
                return !self.tasks.is_empty() && self.can_use(self.now);
            };
            self.pass(next.saturating_duration_since(self.now));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nobody_is_forgotten(steps in steps()) {
        let mut world = World::new();
        let of = |all: Vec<u64>, n: usize| (!all.is_empty()).then(|| all[n % all.len()]);
        for step in steps {
            match step {
                Step::Arrive => world.arrive(),
                Step::Drop(n) => {
                    let parked = world.tasks.iter().filter(|(_, at)| **at == At::Parked);
                    if let Some(number) = of(parked.map(|(number, _)| *number).collect(), n) {
                        world.leave(number, true);
                    }
                }
                Step::Go(n) => {
                    if let Some(number) = of(world.running(), n) {
                        world.go(number);
                    }
                }
                Step::Open => world.set(true, None),
                Step::Shut => world.set(false, None),
                Step::Due(ms) => {
                    let time = Duration::from_millis(ms.unsigned_abs());
                    let due = if ms < 0 { world.now - time } else { world.now + time };
                    world.set(false, Some(due));
                }
                Step::Tell => world.tell(),
                Step::Pass(ms) => world.pass(Duration::from_millis(ms)),
                Step::Run => world.run(),
                Step::Settle => prop_assert!(!world.settle(), "{:?}", world.tasks),
            }
        }
        prop_assert!(!world.settle(), "{:?}", world.tasks);
    }
}
