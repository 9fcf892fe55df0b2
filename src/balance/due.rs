use tokio::time::Instant;

use super::{Member, Set};
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

    /// When the next probe is due, if none is yet.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
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
}
