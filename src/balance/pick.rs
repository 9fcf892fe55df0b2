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
                self.line.ready();
                return Pick::Found(Arc::clone(cell), ticket);
            }
        }
        Pick::None
    }

    /// The earliest moment at which a probe is due, if one is to come: of all endpoints, or of `only` one.
    pub(crate) fn next_probe(&self, now: Instant, only: Option<SocketAddr>) -> Option<Instant> {
        let at = self.pool.epoch.nanos(now);
        let members = self.members.load();
        let due = members
            .iter()
            .filter(|cell| only.is_none_or(|only| only == cell.address()))
            .filter_map(|cell| match cell.availability(at) {
                Availability::Not(until) => until,
                Availability::Open | Availability::ProbeDue => Some(at),
            });
        due.min().map(|due| self.pool.epoch.instant(due))
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
