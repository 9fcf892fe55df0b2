use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Member, Members};
use crate::core::draw::{Dice, Purpose, below};
use crate::core::sync::{AtomicU64, Ordering};
use crate::endpoint::{Availability, Cell};
use crate::load::{Rules, tolerance};

/// Pairs drawn before all endpoints are looked at.
pub(super) const DRAWS: u64 = 4;

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

/// What a choice is made from.
pub(super) struct Choice<'a, L> {
    pub(super) members: &'a Members<L>,
    pub(super) want: &'a Want<'a>,
    pub(super) rules: &'a Rules,
    pub(super) now: u64,
    pub(super) dice: Dice,
}

// Up to two candidates.
struct Pair<'a, L>([Option<&'a Member<L>>; 2]);

// The better of two.
enum Better<'a, L> {
    Of(&'a Member<L>),
    // The other fails too much to be an alternative.
    ForWantOfAnother(&'a Member<L>),
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
    pub(super) fn suits(&self, cell: &Cell) -> bool {
        let able = match cell.availability(self.now) {
            Availability::Open => true,
            Availability::ProbeDue => self.want.repeatable || !cell.keeps_probe(self.now),
            _ => false,
        };
        able && !self.is_excepted(cell) && !self.is_avoided(cell)
    }

    // The `n`th of a row of random ones that is not that of the choice.
    pub(super) fn any(&self, n: u64) -> Option<&'a Member<L>> {
        let number = (self.want.round << 32) | n;
        let word = self.dice.draw(self.want.request, Purpose::Panic, number);
        let index = below(word, self.members.count() as u64);
        self.members.get(index as usize)
    }

    // Of two random ones the less loaded.
    #[inline]
    pub(super) fn of_two(&self, attempt: u64) -> Option<&'a Member<L>> {
        let count = self.members.count() as u64;
        let want = self.want;
        // Where there is one, there is no choice.
        if count == 1 && want.except.is_none() {
            let only = self.members.get(0)?;
            if only.cell.is_open() {
                return Some(only);
            }
        }
        // Most often the first two are open, and no endpoint is excepted: the first round below, without its questions.
        if count >= 2 && want.except.is_none() && want.avoid.is_empty() {
            let number = (want.round * DRAWS + attempt) * DRAWS;
            let word = self.dice.draw(want.request, Purpose::Pick, number);
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
        let word = |number| self.dice.draw(self.want.request, Purpose::Pick, number);
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
    pub(super) fn in_turn(&self, turns: &AtomicU64) -> Option<&'a Member<L>> {
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
        avoided.or_else(|| self.of_all(self.dice.draw(self.want.request, Purpose::Pick, 0)))
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

    fn add(&mut self, member: &'a Member<L>) {
        match self.0 {
            [None, _] => self.0[0] = Some(member),
            [Some(_), None] if !self.has(member) => self.0[1] = Some(member),
            _ => {}
        }
    }
}
