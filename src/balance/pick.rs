use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::Balance;
use crate::core::draw::{Purpose, below, draw};
use crate::endpoint::{Availability, Cell};
use crate::policy::Load;
use crate::verdict::Ticket;

/// Pairs drawn before all endpoints are looked at.
const DRAWS: u64 = 4;

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
    /// By what the two are compared.
    pub(crate) load: &'a Load,
}

/// What was found.
pub(crate) enum Pick {
    Found(Arc<Cell>, Ticket),
    /// None can serve.
    None,
}

// Up to two candidates.
#[derive(Default)]
struct Pair<'a>([Option<&'a Arc<Cell>>; 2]);

// === impl Balance ===

impl Balance {
    /// An endpoint able to serve: of two random ones the less loaded, or one whose probe is due.
    pub(crate) fn pick(&self, want: Want<'_>) -> Pick {
        let members = self.members.load();
        let now = self.pool.epoch.nanos(want.now);
        if want.only.is_none()
            && let Some(turn) = self.pool.turn()
        {
            return self.pick_in_turn(&members, &want, now, turn);
        }
        // A choice can be lost to another thread between the look and the ticket: a probe is given out once.
        for attempt in 0..DRAWS {
            let choice = match want.only {
                Some(only) => members
                    .iter()
                    .find(|cell| cell.address() == only && cell.is_able(now)),
                None => choose(&members, now, &want, self.pool.seed, attempt),
            };
            let Some(cell) = choice else {
                break;
            };
            if let Some(ticket) = cell.admit(want.now, want.request) {
                // A probe is a hope, no more: the clock of fail-fast runs on.
                if !ticket.note().probe {
                    self.line.ready();
                }
                return Pick::Found(Arc::clone(cell), ticket);
            }
        }
        Pick::None
    }

    // Everything is ejected: the one whose turn it is, once it is due, and nothing else.
    fn pick_in_turn(&self, members: &[Arc<Cell>], want: &Want<'_>, now: u64, turn: u64) -> Pick {
        if now < turn {
            return Pick::None;
        }
        let able = |cell: &&Arc<Cell>| {
            want.except != Some(cell.address())
                && !matches!(cell.availability(now), Availability::Probing(_))
        };
        // The one that was left alone the longest; among equals the first by address.
        let Some(cell) = members.iter().filter(able).min_by_key(|cell| cell.opened()) else {
            return Pick::None;
        };
        let next = now.saturating_add(cell.turn_wait(want.request));
        if !self.pool.take_turn(turn, next) {
            return Pick::None;
        }
        match cell.admit_early(want.now, want.request) {
            Some(ticket) => Pick::Found(Arc::clone(cell), ticket),
            None => Pick::None,
        }
    }

    /// The earliest moment at which something can be picked, as far as it is known: of all endpoints, or of `only` one.
    pub(crate) fn next_probe(&self, now: Instant, only: Option<SocketAddr>) -> Option<Instant> {
        let at = self.pool.epoch.nanos(now);
        let members = self.members.load();
        let due = members
            .iter()
            .filter(|cell| only.is_none_or(|only| only == cell.address()))
            .map(|cell| match cell.availability(at) {
                Availability::Ejected(until) | Availability::Probing(until) => until,
                Availability::Open | Availability::ProbeDue => at,
            });
        let probing = |cell: &Arc<Cell>| matches!(cell.availability(at), Availability::Probing(_));
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
        let ejected = |cell: &Arc<Cell>| matches!(cell.availability(at), Availability::Ejected(_));
        let members = self.members.load();
        let hopeless = !members.is_empty() && members.iter().all(ejected);
        hopeless.then(|| self.next_probe(now, None)).flatten()
    }
}

fn choose<'a>(
    members: &'a [Arc<Cell>],
    now: u64,
    want: &Want<'_>,
    seed: u64,
    attempt: u64,
) -> Option<&'a Arc<Cell>> {
    let count = members.len() as u64;
    if count == 0 {
        return None;
    }
    let mut pair = Pair::default();
    let suits = |cell: &Cell| {
        want.except != Some(cell.address())
            && !want.avoid.contains(&cell.address())
            && cell.is_able(now)
    };
    let numbers = (want.round * DRAWS + attempt) * DRAWS;
    let word = |number| draw(seed, want.request, Purpose::Pick, number);
    for n in 0..DRAWS {
        let word = word(numbers + n);
        let first = below(word, count);
        // Another one: the second half of the word, counted on from the first.
        let second = (first + 1 + below(word.rotate_left(32), count.saturating_sub(1))) % count;
        for index in [first, second] {
            let cell = &members[index as usize];
            if suits(cell) && pair.add(cell) {
                return pair.better(now, want.load);
            }
        }
    }
    // Few can serve: look at all of them. Another word: those above are known to lead to the others.
    let word = word(!numbers);
    let pair = two_of(members, word, suits);
    if pair.0[0].is_some() {
        return pair.better(now, want.load);
    }
    let able = |cell: &Cell| want.except != Some(cell.address()) && cell.is_able(now);
    two_of(members, word, able).better(now, want.load)
}

// Two random ones of those that suit, or the only one.
fn two_of<'a>(members: &'a [Arc<Cell>], word: u64, suits: impl Fn(&Cell) -> bool) -> Pair<'a> {
    let suiting = || members.iter().filter(|cell| suits(cell));
    let count = suiting().count() as u64;
    let first = below(word, count);
    let more = below(word.rotate_left(32), count.saturating_sub(1));
    let second = (first + 1 + more) % count.max(1);
    // Fewer than were counted, if one was lost to another thread in between.
    let mut pair = Pair::default();
    for index in [first, second] {
        if let Some(cell) = suiting().nth(index as usize) {
            pair.add(cell);
        }
    }
    pair
}

// === impl Pair ===

impl<'a> Pair<'a> {
    // Whether it is complete.
    fn add(&mut self, cell: &'a Arc<Cell>) -> bool {
        match self.0 {
            [None, _] => {
                self.0[0] = Some(cell);
                false
            }
            [Some(first), None] if !Arc::ptr_eq(first, cell) => {
                self.0[1] = Some(cell);
                true
            }
            _ => self.0[1].is_some(),
        }
    }

    fn better(&self, now: u64, load: &Load) -> Option<&'a Arc<Cell>> {
        let [first, second] = self.0;
        let (Some(a), Some(b)) = (first, second) else {
            return first;
        };
        // A probe is not delayed by what its endpoint cost before it was ejected.
        let due = |cell: &Cell| cell.availability(now) == Availability::ProbeDue;
        match (due(a), due(b)) {
            (true, false) => Some(a),
            (false, true) => Some(b),
            _ if b.cost(now, load) < a.cost(now, load) => Some(b),
            _ => Some(a),
        }
    }
}
