use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Member, Members, Set};
use crate::breaker::Admitted;
use crate::core::draw::{Purpose, below, draw};
use crate::core::sync::{AtomicU64, Ordering, lock};
use crate::endpoint::{Availability, Cell, Site};
use crate::load::{Kind, Rules, tolerance};
use crate::verdict::Ticket;

/// Pairs drawn before all endpoints are looked at.
const DRAWS: u64 = 4;

// A look at all endpoints for one whose probe is due takes a nanosecond or so for each; so many pass for each until the
// next.
const LOOK_PACE: u64 = 1000;

/// What a request wants of an endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want<'a> {
    pub(crate) now: Instant,
    pub(crate) request: u64,
    /// Counts the picks of this request, so that each draws anew.
    pub(crate) round: u64,
    /// Not these, if there is another.
    pub(crate) avoid: &'a [SocketAddr],
    /// Not this one at all: it is already being waited for.
    pub(crate) except: Option<SocketAddr>,
    /// Only this one.
    pub(crate) only: Option<SocketAddr>,
    /// Whether it may be repeated elsewhere, should this one fail: such a request is the better probe.
    pub(crate) repeatable: bool,
}

// Up to two candidates.
struct Pair<'a, L>([Option<&'a Member<L>>; 2]);

// The better of two.
enum Better<'a, L> {
    Of(&'a Member<L>),
    // The other fails too much to be an alternative.
    ForWantOfAnother(&'a Member<L>),
}

// The one it is, which has let the request through.
struct Found<'a, L> {
    member: &'a Member<L>,
    admitted: Admitted,
    // Though it is ejected.
    panicked: bool,
}

// What a choice is made from.
struct Choice<'a, L> {
    members: &'a Members<L>,
    want: &'a Want<'a>,
    rules: &'a Rules,
    now: u64,
    seed: u64,
}

// === impl Set ===

impl<L> Set<L> {
    /// An endpoint able to serve, and a ticket for it: of two random ones the less loaded, or one whose probe is due.
    /// None if none can.
    pub(crate) fn pick<R>(
        &self,
        want: &Want<'_>,
        with: impl FnOnce(&Site<L>, Ticket) -> R,
    ) -> Option<R> {
        let mut ticket = None;
        let with = |site: &Site<L>, ticket: &mut Option<Ticket>| Some(with(site, ticket.take()?));
        self.pick_into(&mut ticket, want, with).flatten()
    }

    /// The same. The ticket is written where it is kept: moving some twenty words about takes longer than all of them are
    /// worth.
    #[inline(always)]
    pub(crate) fn pick_into<R>(
        &self,
        ticket: &mut Option<Ticket>,
        want: &Want<'_>,
        with: impl FnOnce(&Site<L>, &mut Option<Ticket>) -> R,
    ) -> Option<R> {
        let members = self.members.load();
        let now = self.pool.epoch.nanos(want.now);
        let choice = Choice {
            members: &members,
            want,
            rules: members.rules(),
            now,
            seed: self.pool.seed,
        };
        let Found {
            member,
            admitted,
            panicked,
        } = self.find(&choice)?;
        // What was let through has its ticket before anything else is called.
        let cell = &member.cell;
        // So that nothing is dropped where it is written.
        if ticket.is_some() {
            *ticket = None;
        }
        *ticket = Some(cell.ticket((want.now, now), want.request, admitted));
        if admitted.probe {
            cell.tell_probing(want.now, want.request);
        }
        if panicked {
            cell.tell_panicked(want.now, want.request);
        }
        Some(with(&member.site, ticket))
    }

    fn find<'a>(&self, choice: &Choice<'a, L>) -> Option<Found<'a, L>> {
        let (want, now, members) = (choice.want, choice.now, choice.members);
        let guard = &self.pool.guard;
        if want.only.is_none() {
            let panics = |pairs| self.panic(choice, pairs);
            if let Some(turn) = self.pool.turn() {
                let found = self.pick_in_turn(members, want, now, turn);
                return found.or_else(|| panics(guard.panics_after()?));
            }
            if let Some(found) = guard.panics_after().and_then(panics) {
                return Some(found);
            }
            if want.repeatable {
                guard.saw_repeatable(now);
            }
            if let Some(due) = self.pool.probe_due(now)
                && let Some(found) = self.probe(choice, due)
            {
                return Some(found);
            }
        }
        // Its own zone first; whoever has been somewhere already, or stands before a closed door, goes anywhere.
        let anywhere = want.only.is_some() || want.except.is_some() || !want.avoid.is_empty();
        if let Some(split) = members.split().filter(|_| !anywhere) {
            let draw = (self.pool.seed, want.request, want.round);
            let side = Choice {
                members: split.side(guard.changes(), now, draw),
                ..*choice
            };
            if let Some(found) = self.choose(&side) {
                return Some(found);
            }
        }
        self.choose(choice)
    }

    fn choose<'a>(&self, choice: &Choice<'a, L>) -> Option<Found<'a, L>> {
        let (want, now) = (choice.want, choice.now);
        // A choice can be lost to another thread between the look and the ticket: a probe is given out once.
        for attempt in 0..DRAWS {
            let chosen = match want.only {
                Some(only) => {
                    let place = lock(&self.known).place_of(only);
                    let member = place.and_then(|place| choice.members.get(place));
                    // The snapshot may be older than the place.
                    member
                        .filter(|member| member.cell.address() == only && member.cell.is_able(now))
                }
                None if choice.rules.kind == Kind::RoundRobin => choice.in_turn(&self.turns),
                None => choice.of_two(attempt),
            };
            let member = chosen?;
            if let Some(admitted) = member.cell.admission((want.now, now), false) {
                // A probe is a hope, no more: the clock of fail-fast runs on.
                if !admitted.probe {
                    self.line.ready();
                }
                return Some(Found::new(member, admitted));
            }
        }
        None
    }

    // Everything is ejected: the one whose turn it is, once it is due, and nothing else.
    fn pick_in_turn<'a>(
        &self,
        members: &'a Members<L>,
        want: &Want<'_>,
        now: u64,
        turn: u64,
    ) -> Option<Found<'a, L>> {
        if now < turn {
            return None;
        }
        let able = |member: &&Member<L>| {
            want.except != Some(member.cell.address())
                && !matches!(
                    member.cell.availability(now),
                    Availability::Probing(_) | Availability::Held
                )
        };
        // The one that was left alone the longest; among equals the first by address.
        let longest = |member: &&Member<L>| (member.cell.opened(), member.cell.address());
        let member = members.iter().filter(able).min_by_key(longest)?;
        let next = now.saturating_add(member.cell.turn_wait(want.request));
        if !self.pool.take_turn(turn, next) {
            return None;
        }
        let admitted = member.cell.admission((want.now, now), true)?;
        Some(Found::new(member, admitted))
    }

    // A probe is due somewhere: it is looked for, lest in a large set it waits until chance finds it.
    fn probe<'a>(&self, choice: &Choice<'a, L>, due: u64) -> Option<Found<'a, L>> {
        let now = choice.want.now;
        let guard = &self.pool.guard;
        let kept = !choice.want.repeatable && guard.keeps_probe(choice.now, due);
        if kept || !self.pool.take_probe(due) {
            return None;
        }
        let mut found = None;
        let mut next = u64::MAX;
        for member in choice.members.iter() {
            match member.cell.availability(choice.now) {
                Availability::ProbeDue if found.is_none() && choice.suits(&member.cell) => {
                    found = Some(member);
                }
                Availability::ProbeDue => next = choice.now,
                Availability::Ejected(until) | Availability::Probing(until) => {
                    next = next.min(until);
                }
                Availability::Open | Availability::Held => {}
            }
        }
        // Not again before it has cost next to nothing, however many there are and however many of them are due.
        let soonest = choice
            .now
            .saturating_add(choice.members.count() as u64 * LOOK_PACE);
        if next < u64::MAX {
            self.pool.expect_probe(next.max(soonest));
        }
        let member = found?;
        let admitted = member.cell.admission((now, choice.now), false)?;
        Some(Found::new(member, admitted))
    }

    // Finagle's rule: where so many random pairs in a row cannot serve, one of the last is taken anyway.
    fn panic<'a>(&self, choice: &Choice<'a, L>, pairs: u64) -> Option<Found<'a, L>> {
        let mut last = None;
        for n in 0..2 * pairs {
            let member = choice.any(n)?;
            match member.cell.availability(choice.now) {
                // It waits for that one already.
                _ if choice.want.except == Some(member.cell.address()) => {}
                Availability::Open | Availability::ProbeDue => return None,
                Availability::Ejected(_) | Availability::Probing(_) => last = Some(member),
                Availability::Held => {}
            }
        }
        let member = last?;
        let admitted = member.cell.admission_anyway()?;
        let panicked = true;
        Some(Found {
            panicked,
            ..Found::new(member, admitted)
        })
    }

    /// The earliest moment at which something can be picked, as far as it is known: of all endpoints, or of `only` one.
    pub(crate) fn next_probe(&self, now: Instant, only: Option<SocketAddr>) -> Option<Instant> {
        let at = self.pool.epoch.nanos(now);
        let members = self.members.load();
        let due = members
            .iter()
            .map(|member| &member.cell)
            .filter(|cell| only.is_none_or(|only| only == cell.address()))
            .filter_map(|cell| match cell.availability(at) {
                Availability::Ejected(until) | Availability::Probing(until) => Some(until),
                Availability::Open | Availability::ProbeDue => Some(at),
                Availability::Held => None,
            });
        let probing =
            |member: &Member<L>| matches!(member.cell.availability(at), Availability::Probing(_));
        let due = match self.pool.turn() {
            // In turn, whatever each one's own time is; unless a probe of every one of them is out.
            Some(turn) if only.is_none() && !members.iter().all(probing) => Some(turn),
            _ => due.min(),
        };
        due.map(|due| self.pool.epoch.instant(due))
    }

    /// When the next probe is due, if nothing can change before that: every endpoint is ejected, and no probe is out.
    pub(crate) fn hopeless_until(&self, now: Instant) -> Option<Instant> {
        let at = self.pool.epoch.nanos(now);
        let ejected =
            |member: &Member<L>| matches!(member.cell.availability(at), Availability::Ejected(_));
        let members = self.members.load();
        let hopeless = !members.is_empty() && members.iter().all(ejected);
        hopeless.then(|| self.next_probe(now, None)).flatten()
    }
}

// === impl Found ===

impl<'a, L> Found<'a, L> {
    #[inline]
    fn new(member: &'a Member<L>, admitted: Admitted) -> Self {
        Self {
            member,
            admitted,
            panicked: false,
        }
    }
}

// === impl Choice ===

impl<'a, L> Choice<'a, L> {
    fn able(&self, cell: &Cell) -> bool {
        cell.is_able(self.now) && !self.is_excepted(cell)
    }

    // Few requests say so; for the others the address stays out of the cache.
    fn is_excepted(&self, cell: &Cell) -> bool {
        let except = self.want.except;
        except.is_some_and(|except| except == cell.address())
    }

    fn is_avoided(&self, cell: &Cell) -> bool {
        let avoid = self.want.avoid;
        !avoid.is_empty() && avoid.contains(&cell.address())
    }

    // Neither one that was tried already, nor one whose probe is better made by another request.
    #[inline]
    fn suits(&self, cell: &Cell) -> bool {
        let able = match cell.availability(self.now) {
            Availability::Open => true,
            Availability::ProbeDue => self.want.repeatable || !cell.keeps_probe(self.now),
            _ => false,
        };
        able && !self.is_excepted(cell) && !self.is_avoided(cell)
    }

    // The `n`th of a row of random ones that is not that of the choice.
    fn any(&self, n: u64) -> Option<&'a Member<L>> {
        let number = (self.want.round << 32) | n;
        let word = draw(self.seed, self.want.request, Purpose::Panic, number);
        let index = below(word, self.members.count() as u64);
        self.members.get(index as usize)
    }

    // Of two random ones the less loaded.
    #[inline]
    fn of_two(&self, attempt: u64) -> Option<&'a Member<L>> {
        let count = self.members.count() as u64;
        let want = self.want;
        // Most often the first two are open, and no endpoint is excepted: the first round below, without its questions.
        if count >= 2 && want.except.is_none() && want.avoid.is_empty() {
            let number = (want.round * DRAWS + attempt) * DRAWS;
            let word = draw(self.seed, want.request, Purpose::Pick, number);
            let first = below(word, count);
            let second = another(first, word, count);
            // Both are fetched before either is looked at: of many, neither is in a cache.
            let a = self.members.get(first as usize)?;
            let b = self.members.get(second as usize)?;
            let (open_a, open_b) = (a.cell.is_open(), b.cell.is_open());
            if open_a && open_b {
                return match self.lesser((a, b), word) {
                    Better::Of(member) => Some(member),
                    Better::ForWantOfAnother(member) => self.or_a_third((a, b), member, word),
                };
            }
        }
        self.of_pairs(attempt)
    }

    #[inline(never)]
    fn of_pairs(&self, attempt: u64) -> Option<&'a Member<L>> {
        let count = self.members.count() as u64;
        let numbers = (self.want.round * DRAWS + attempt) * DRAWS;
        let word = |number| draw(self.seed, self.want.request, Purpose::Pick, number);
        // One that suits, whose fellows so far did not.
        let mut alone: Option<&'a Member<L>> = None;
        // One alone makes no pair, however often it is drawn.
        let draws = if count < 2 { 0 } else { DRAWS };
        for n in 0..draws {
            let word = word(numbers + n);
            let first = below(word, count);
            let second = another(first, word, count);
            let a = self.members.get(first as usize)?;
            let b = self.members.get(second as usize)?;
            let (a, b) = (self.if_it_suits(a), self.if_it_suits(b));
            let pair = match (alone, a, b) {
                (None, Some(a), Some(b)) => (a, b),
                (None, a, b) => {
                    alone = a.or(b);
                    continue;
                }
                (Some(one), a, b) => {
                    let other = |it: &&Member<L>| !Arc::ptr_eq(&it.cell, &one.cell);
                    match a.filter(other).or(b.filter(other)) {
                        Some(other) => (one, other),
                        None => continue,
                    }
                }
            };
            return Some(match self.better_of(pair, word) {
                Better::Of(member) => member,
                Better::ForWantOfAnother(member) => self.or_a_third(pair, member, word)?,
            });
        }
        self.of_all(word(!numbers))
    }

    #[inline]
    fn if_it_suits(&self, member: &'a Member<L>) -> Option<&'a Member<L>> {
        self.suits(&member.cell).then_some(member)
    }

    // Beside one that fails, the other was no choice: it is compared with one more. Else the slowest would get whatever
    // is kept from those that fail.
    #[cold]
    fn or_a_third(
        &self,
        (a, b): (&'a Member<L>, &'a Member<L>),
        only: &'a Member<L>,
        word: u64,
    ) -> Option<&'a Member<L>> {
        let pair = Pair([Some(a), Some(b)]);
        let count = self.members.count() as u64;
        let start = below(word.rotate_left(16), count);
        let third = (0..DRAWS.min(count)).find_map(|n| {
            let member = self.members.get(((start + n) % count) as usize)?;
            (!pair.has(member) && self.suits(&member.cell)).then_some(member)
        });
        let pair = Pair([Some(only), third]);
        self.better(&pair, word).map(Better::member)
    }

    #[cold]
    // Few can serve, or one: looks at all of them. Another word than before: those are known to lead to the others.
    fn of_all(&self, word: u64) -> Option<&'a Member<L>> {
        let pair = self.two_of(word, |cell| self.suits(cell));
        if pair.0[0].is_some() {
            return self.better(&pair, word).map(Better::member);
        }
        let pair = self.two_of(word, |cell| self.able(cell));
        self.better(&pair, word).map(Better::member)
    }

    // Two random ones of those that suit, or the only one.
    fn two_of(&self, word: u64, suits: impl Fn(&Cell) -> bool) -> Pair<'a, L> {
        let suiting = || self.members.iter().filter(|member| suits(&member.cell));
        let count = suiting().count() as u64;
        let first = below(word, count);
        let second = another(first, word, count);
        // Fewer than were counted, if one was lost to another thread in between.
        let mut pair = Pair([None, None]);
        for index in [first, second] {
            if let Some(member) = suiting().nth(index as usize) {
                pair.add(member);
            }
        }
        pair
    }

    fn better(&self, pair: &Pair<'a, L>, word: u64) -> Option<Better<'a, L>> {
        match pair.0 {
            [Some(a), Some(b)] => Some(self.better_of((a, b), word)),
            [first, _] => first.map(Better::Of),
        }
    }

    fn better_of(&self, (a, b): (&'a Member<L>, &'a Member<L>), word: u64) -> Better<'a, L> {
        // A probe is not delayed by what its endpoint cost before it was ejected.
        let due = |cell: &Cell| cell.availability(self.now) == Availability::ProbeDue;
        match (due(&a.cell), due(&b.cell)) {
            (true, false) => return Better::Of(a),
            (false, true) => return Better::Of(b),
            _ => {}
        }
        self.lesser((a, b), word)
    }

    // By what one more request would cost.
    #[inline]
    fn lesser(&self, (a, b): (&'a Member<L>, &'a Member<L>), word: u64) -> Better<'a, L> {
        // Most often there is little to compare.
        if self.members.are_plain()
            && let Some(cost_a) = a.cell.plain_cost(self.now, self.rules)
            && let Some(cost_b) = b.cell.plain_cost(self.now, self.rules)
        {
            let (best, worst) = if cost_b < cost_a { (b, a) } else { (a, b) };
            return Better::Of(self.or_its_turn(best, worst));
        }
        self.lesser_of_any((a, b), word)
    }

    // One that nobody has chosen for long gets its turn, once, lest it be judged for ever by what it was.
    #[inline]
    fn or_its_turn(&self, best: &'a Member<L>, worst: &'a Member<L>) -> &'a Member<L> {
        if worst.cell.wants_a_turn(self.now, self.rules) {
            return worst;
        }
        best
    }

    #[inline(never)]
    fn lesser_of_any(&self, (a, b): (&'a Member<L>, &'a Member<L>), word: u64) -> Better<'a, L> {
        let uneven = self.members.uneven();
        let tolerance = tolerance(word);
        let cost = |cell: &Cell| cell.cost(self.now, self.rules, uneven, tolerance);
        let (costs_a, costs_b) = (cost(&a.cell), cost(&b.cell));
        let (best, worst, reliable) = if costs_b < costs_a {
            (b, a, costs_a.is_as_reliable_as(&costs_b))
        } else {
            (a, b, costs_b.is_as_reliable_as(&costs_a))
        };
        let turn = self.or_its_turn(best, worst);
        match reliable || std::ptr::eq(turn, worst) {
            true => Better::Of(turn),
            false => Better::ForWantOfAnother(best),
        }
    }

    // One after the other, each as often as it weighs: it is passed over in as many rounds as it lacks of the heaviest.
    fn in_turn(&self, turns: &AtomicU64) -> Option<&'a Member<L>> {
        let count = self.members.count() as u64;
        if count == 0 {
            return None;
        }
        let heaviest = u128::from(self.members.heaviest());
        let mut avoided = None;
        // Enough for the lightest that is likely, and then whatever can serve.
        for _ in 0..count.saturating_mul(DRAWS) {
            let turn = turns.fetch_add(1, Ordering::Relaxed);
            let (index, round) = (turn % count, turn / count);
            let Some(member) = self.members.get(index as usize) else {
                continue;
            };
            let weight = u128::from(member.cell.weight(self.now, self.rules));
            // Of the rounds, as many as it weighs, spread evenly; each endpoint begins somewhere else.
            let place = (u128::from(round) + u128::from(index)) * weight;
            if self.members.uneven() || self.rules.slow_start > 0 {
                let passed = place % heaviest.max(1);
                if passed >= weight {
                    continue;
                }
            }
            if self.suits(&member.cell) {
                return Some(member);
            }
            if self.able(&member.cell) {
                avoided = avoided.or(Some(member));
            }
        }
        avoided.or_else(|| self.of_all(draw(self.seed, self.want.request, Purpose::Pick, 0)))
    }
}

// === impl Better ===

impl<'a, L> Better<'a, L> {
    fn member(self) -> &'a Member<L> {
        match self {
            Self::Of(member) | Self::ForWantOfAnother(member) => member,
        }
    }
}

// One of `count` that is not the `first`: by the second half of the word, counted on from there.
fn another(first: u64, word: u64, count: u64) -> u64 {
    let more = below(word.rotate_left(32), count.saturating_sub(1));
    let second = first + 1 + more;
    // Less than twice as many.
    if second < count {
        second
    } else {
        second.saturating_sub(count)
    }
}

// === impl Pair ===

impl<'a, L> Pair<'a, L> {
    fn has(&self, member: &Member<L>) -> bool {
        let same = |it: &&Member<L>| Arc::ptr_eq(&it.cell, &member.cell);
        self.0.iter().flatten().any(same)
    }

    // Whether it is complete.
    fn add(&mut self, member: &'a Member<L>) -> bool {
        match self.0 {
            [None, _] => {
                self.0[0] = Some(member);
                false
            }
            [Some(first), None] if !Arc::ptr_eq(&first.cell, &member.cell) => {
                self.0[1] = Some(member);
                true
            }
            _ => self.0[1].is_some(),
        }
    }
}
