use std::net::SocketAddr;

use tokio::time::Instant;

use super::{Member, Place, Set};
use crate::endpoint::Availability;

/// When something can be picked, for those who wait.
impl<L> Set<L> {
    /// Whether a request that takes any endpoint may find one now.
    pub(crate) fn is_able(&self, now: Instant) -> bool {
        let at = self.pool.epoch.nanos(now);
        let members = self.members.load();
        let mut all = members.iter().map(|m| m.cell.availability(at));
        if let Some(turn) = self.pool.turn() {
            let free = |it| !matches!(it, Availability::Probing(_) | Availability::Held);
            return (turn <= at || self.pool.guard.panics_after().is_some()) && all.any(free);
        }
        all.any(|it| matches!(it, Availability::Open | Availability::ProbeDue))
    }

    /// Who has this place goes on waiting, at most until it is `too_late`. Returns when it has to look again, if it keeps the
    /// time for the line.
    pub(crate) fn keep_time(
        &self,
        place: &Place,
        too_late: Instant,
        now: Instant,
    ) -> Option<Instant> {
        if !place.is_first() {
            // Should it be the first by now, it is woken for it, and must not say meanwhile that nothing is due.
            place.wait_until(too_late);
            return None;
        }
        let due = self.next_due(now);
        place.keep_time(due, too_late).then_some(due).flatten()
    }

    /// When the next probe is due, if none is yet.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let at = self.pool.epoch.nanos(now);
        let due = match self.pool.turn() {
            Some(turn) => Some(turn),
            None => {
                let members = self.members.load();
                let until = |member: &Member<L>| match member.cell.availability(at) {
                    Availability::Ejected(until) | Availability::Probing(until) => Some(until),
                    _ => None,
                };
                members.iter().filter_map(until).min()
            }
        };
        due.filter(|due| *due > at)
            .map(|due| self.pool.epoch.instant(due))
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
