use super::choice::{Choice, DRAWS, Want};
use super::{Member, Members, Set};
use crate::breaker::Admitted;
use crate::core::sync::lock;
use crate::endpoint::{Availability, Site};
use crate::load::Kind;
use crate::verdict::Ticket;

// A look at all endpoints for one whose probe is due takes a nanosecond or so for each; so many pass for each until the
// next.
const LOOK_PACE: u64 = 1000;

// The one it is, which has let the request through.
struct Found<'a, L> {
    member: &'a Member<L>,
    admitted: Admitted,
    // Though it is ejected.
    panicked: bool,
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
            dice: self.pool.dice,
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

    // Into the pick, and with it the choice: a call each would be a fifteenth of all the time that a request takes here.
    #[inline(always)]
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
            let draw = (self.pool.dice, want.request, want.round);
            let side = Choice {
                members: split.side(guard.changes(), now, draw),
                ..*choice
            };
            if let Some(found) = self.choose_near(&side) {
                return Some(found);
            }
        }
        self.choose(choice)
    }

    // Apart, so that the other stays where the request is.
    #[inline(never)]
    fn choose_near<'a>(&self, choice: &Choice<'a, L>) -> Option<Found<'a, L>> {
        self.choose(choice)
    }

    #[inline(always)]
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
