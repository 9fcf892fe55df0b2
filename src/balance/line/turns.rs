use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::core::time::after;

/// Whose turn it is takes it within this time, or the next one is asked: a future that nobody polls holds up nobody.
// Loom's threads have no use for real time.
pub(super) const PATIENCE: Duration = match cfg!(tower_mesh_loom) {
    true => Duration::MAX,
    false => Duration::from_millis(10),
};

/// Those who wait, in the order in which they came, and whose turn it is to look for an endpoint. `W` is what wakes one.
///
/// One looks at a time. A change gives the turn to the first; whoever has looked passes it on if there may be something
/// left for the next. So nobody overtakes, one that cannot use what there is blocks nobody, and where one probe is all
/// there is, one is woken.
#[derive(Debug)]
pub(super) struct Turns<W> {
    places: BTreeMap<u64, Waits<W>>,
    // The number of the next that comes.
    next: u64,
    // All before it have looked since the last change, and none after it. Nobody's: all have.
    turn: Option<Turn>,
    // When the first has to look again, whatever happens; and whether it has said so since the last change.
    due: Option<Instant>,
    timed: bool,
    // What was said last about when something can be had.
    hopeless: Option<Instant>,
    counted: usize,
    unrestricted: usize,
}

/// What kind of place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlaceKind {
    /// Whether it counts against the capacity: one who waits for several backends counts in one line.
    pub(crate) counted: bool,
    /// Whether it takes any endpoint. Who does not is overtaken by those who come later and do.
    pub(crate) any: bool,
}

#[derive(Debug)]
struct Waits<W> {
    kind: PlaceKind,
    waker: Option<W>,
    // What comes then comes too late.
    too_late: Option<Instant>,
    // Its turn went by while it was not there: it may look when it comes.
    owed: bool,
    // It is looking for that reason, whoever's turn it is.
    looks_late: bool,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    number: u64,
    since: Instant,
    // There was a change since: the first is asked again before anybody goes on.
    again: bool,
}

/// Who is to be woken, once the lock is gone. What is dropped is dropped then, too.
#[derive(Debug)]
pub(super) struct Woken<W>(pub(super) Vec<W>);

// === impl Turn ===

impl Turn {
    fn of(number: u64, since: Instant) -> Self {
        Self {
            number,
            since,
            again: false,
        }
    }
}

// === impl Turns ===

impl<W> Turns<W> {
    pub(super) fn new() -> Self {
        Self {
            places: BTreeMap::new(),
            next: 0,
            turn: None,
            due: None,
            timed: false,
            hopeless: None,
            counted: 0,
            unrestricted: 0,
        }
    }

    /// How many count against the capacity.
    pub(super) fn counted(&self) -> usize {
        self.counted
    }

    /// How many take any endpoint.
    pub(super) fn unrestricted(&self) -> usize {
        self.unrestricted
    }

    /// A place at the end. It is its turn if nobody else has to look first.
    pub(super) fn enter(&mut self, kind: PlaceKind, now: Instant) -> (u64, Woken<W>) {
        let mut woken = Woken(Vec::new());
        if self.due.is_some_and(|due| due <= now) {
            // The first one's timer has not rung yet.
            self.change(now, &mut woken);
        } else {
            self.pass_by_absent(now, &mut woken);
        }
        let number = self.next;
        self.next += 1;
        self.counted += usize::from(kind.counted);
        self.unrestricted += usize::from(kind.any);
        let waits = Waits {
            kind,
            waker: None,
            too_late: None,
            owed: false,
            looks_late: false,
        };
        self.places.insert(number, waits);
        if self.turn.is_none() {
            self.turn = Some(Turn::of(number, now));
        }
        (number, woken)
    }

    /// Something may have become able to serve.
    pub(super) fn change(&mut self, now: Instant, woken: &mut Woken<W>) {
        self.hopeless = None;
        self.ask_first(now, woken);
    }

    fn ask_first(&mut self, now: Instant, woken: &mut Woken<W>) {
        self.due = None;
        self.timed = false;
        self.pass_by_absent(now, woken);
        match &mut self.turn {
            Some(turn) => turn.again = true,
            None => {
                let first = self.first();
                self.give(first, None, now, woken);
            }
        }
    }

    /// Whether it may look now. If not, `waker` is woken when it may. What was woken with before is returned.
    pub(super) fn may_look(
        &mut self,
        number: u64,
        waker: W,
        now: Instant,
        woken: &mut Woken<W>,
    ) -> (bool, Option<W>) {
        let Some(waits) = self.places.get_mut(&number) else {
            return (false, Some(waker));
        };
        let old = waits.waker.replace(waker);
        // Only now: if its turn goes by while it looks, it looks once more, for what has come since it does not know.
        waits.looks_late = std::mem::take(&mut waits.owed);
        if waits.looks_late {
            return (true, old);
        }
        if let Some(turn) = &mut self.turn
            && turn.number == number
        {
            // It is here, however late.
            turn.since = turn.since.max(now);
        }
        if self.due.is_some_and(|due| due <= now) {
            // The time has come that the first keeps.
            if self.turn.is_none() {
                let first = self.first();
                self.give(first, Some(number), now, woken);
            }
            self.change(now, woken);
        }
        if self.turn.is_some_and(|turn| turn.again) {
            self.pass_on(number, false, now, woken);
        }
        let mine = self.turn.is_some_and(|turn| turn.number == number);
        (mine, old)
    }

    /// It has looked, and stays. Others may find something if `more`.
    pub(super) fn looked(&mut self, number: u64, more: bool, now: Instant, woken: &mut Woken<W>) {
        let waits = self.places.get_mut(&number);
        if waits.is_some_and(|waits| std::mem::take(&mut waits.looks_late)) {
            // If it has the turn by now, it has not used it yet.
            return;
        }
        self.pass_on(number, more, now, woken);
    }

    /// It leaves. Others may find something if `more`. What it would have been woken with is returned.
    pub(super) fn leave(
        &mut self,
        number: u64,
        more: bool,
        now: Instant,
        woken: &mut Woken<W>,
    ) -> Option<W> {
        let was_first = self.is_first(number);
        // What it took may be due again some time.
        self.timed &= self.turn.is_none_or(|turn| turn.number != number);
        let gone = self.places.remove(&number)?;
        self.counted -= usize::from(gone.kind.counted);
        self.unrestricted -= usize::from(gone.kind.any);
        self.pass_on(number, more, now, woken);
        // The first keeps the time for all: the next one has to, and looks before that, for what was due may be so by now.
        let idle = self.timed && self.due.is_none();
        if was_first && !idle {
            self.ask_first(now, woken);
        }
        gone.waker
    }

    fn pass_on(&mut self, number: u64, more: bool, now: Instant, woken: &mut Woken<W>) {
        let Some(turn) = self.turn.filter(|turn| turn.number == number) else {
            return;
        };
        let next = if turn.again {
            self.first()
        } else if more {
            self.after(number)
        } else {
            None
        };
        self.give(next, Some(number), now, woken);
    }

    /// It goes on waiting. It may be told at [`hopeless`](Self::hopeless) that nothing can be had before it is `too_late`.
    pub(super) fn wait_until(&mut self, number: u64, too_late: Instant) {
        if let Some(waits) = self.places.get_mut(&number) {
            waits.too_late = Some(too_late);
        }
    }

    /// The same of the first, which keeps the time: it looks again at `due`. Whether it still is the first.
    pub(super) fn keep_time(
        &mut self,
        number: u64,
        due: Option<Instant>,
        too_late: Instant,
    ) -> bool {
        self.wait_until(number, too_late);
        let first = self.is_first(number);
        if first {
            self.due = due;
            self.timed = true;
        }
        first
    }

    /// Nothing can be had before `until`: those for whom that is too late are told.
    pub(super) fn hopeless(&mut self, until: Instant, woken: &mut Woken<W>) {
        if self.hopeless.replace(until) == Some(until) {
            return;
        }
        for waits in self.places.values_mut() {
            if waits.too_late.is_some_and(|late| late <= until) {
                woken.0.extend(waits.waker.take());
            }
        }
    }

    /// Something that concerns everybody.
    pub(super) fn wake_all(&mut self, now: Instant, woken: &mut Woken<W>) {
        self.change(now, woken);
        let all = self.places.values_mut();
        woken.0.extend(all.filter_map(|waits| waits.waker.take()));
    }

    pub(super) fn is_first(&self, number: u64) -> bool {
        self.first() == Some(number)
    }

    // The first that can be asked.
    fn first(&self) -> Option<u64> {
        let mut asked = self.places.iter().filter(|(_, waits)| !waits.owed);
        asked.next().map(|(number, _)| *number)
    }

    fn after(&self, number: u64) -> Option<u64> {
        let mut after = self.places.range(number + 1..);
        after
            .find(|(_, waits)| !waits.owed)
            .map(|(number, _)| *number)
    }

    // The one that is here needs no wake-up.
    fn give(&mut self, number: Option<u64>, here: Option<u64>, now: Instant, woken: &mut Woken<W>) {
        self.turn = number.map(|number| Turn::of(number, now));
        let away = number.filter(|_| number != here);
        let waits = away.and_then(|number| self.places.get_mut(&number));
        woken.0.extend(waits.and_then(|waits| waits.waker.take()));
    }

    // One that was woken, and does not come.
    fn pass_by_absent(&mut self, now: Instant, woken: &mut Woken<W>) {
        let Some(turn) = self.turn else { return };
        if now < after(turn.since, PATIENCE) {
            return;
        }
        if let Some(waits) = self.places.get_mut(&turn.number) {
            waits.owed = true;
        }
        self.pass_on(turn.number, true, now, woken);
    }
}
