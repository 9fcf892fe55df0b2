mod fault;

use std::time::Duration;

pub(crate) use self::fault::{End, Fate, Fault};
use super::chance::{Dice, Latency};
use crate::core::time::nanos;

/// A scripted endpoint: how long it takes, and what goes wrong with it when. Made with [`healthy`].
///
/// Each method that names a fault (`fails`, `slow`, `hangs`, ...) adds one that lasts for the whole run;
/// [`between`](Self::between), [`status`](Self::status), [`taking`](Self::taking), ... say more about the last one. Where
/// several faults hold at once, each throws its own dice in turn, and the first that hits decides.
///
/// ```
/// use tower_mesh::sim::{healthy, ms, s};
///
/// let gray = healthy(ms(20)).fails(0.5).status(503).taking(ms(1)).between(s(10), s(40));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    pub(crate) latency: Latency,
    pub(crate) faults: Vec<Fault>,
    pub(crate) workers: Option<u32>,
    pub(crate) drop_abandoned: bool,
    pub(crate) backend: Option<String>,
    pub(crate) zone: Option<String>,
    // When discovery adds and removes it, in nanoseconds.
    pub(crate) join: u64,
    pub(crate) leave: u64,
}

/// How long it takes until a connection is refused.
const REFUSAL: u64 = 100_000;

/// An endpoint that answers everything with success after `latency`: a [`Duration`] or a [`Latency`].
pub fn healthy(latency: impl Into<Latency>) -> Server {
    Server {
        latency: latency.into(),
        faults: Vec::new(),
        workers: None,
        drop_abandoned: false,
        backend: None,
        zone: None,
        join: 0,
        leave: u64::MAX,
    }
}

// === impl Server ===

impl Server {
    /// Serves this many requests at once; the rest wait in line, first in first out. Default: no limit.
    #[must_use]
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Does not begin work whose caller has gone while it waited in line. Default: does it all the same, as most servers
    /// do.
    #[must_use]
    pub fn drops_abandoned(mut self) -> Self {
        self.drop_abandoned = true;
        self
    }

    /// Belongs to this backend of the policy, such as `web:80`. Default: the policy's only one.
    #[must_use]
    pub fn of(mut self, backend: impl Into<String>) -> Self {
        self.backend = Some(backend.into());
        self
    }

    /// Is in this zone, and discovery says so. Default: it says nothing of zones.
    #[must_use]
    pub fn in_zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Discovery adds it at this time. Default: it is there from the start.
    #[must_use]
    pub fn joins(mut self, at: Duration) -> Self {
        self.join = nanos(at);
        self
    }

    /// Discovery removes it at this time; what has been sent to it is still answered. Default: never.
    #[must_use]
    pub fn leaves(mut self, at: Duration) -> Self {
        self.leave = nanos(at);
        self
    }

    /// Answers this part of the requests (0 to 1) with a failure: 503, and for gRPC status 14 (`UNAVAILABLE`), unless
    /// [`status`](Self::status) or [`grpc_status`](Self::grpc_status) say otherwise.
    #[must_use]
    pub fn fails(self, part: f64) -> Self {
        let fail = part;
        self.fault(|fault| fault.fail = fail)
    }

    /// Takes so many times as long.
    #[must_use]
    pub fn slow(self, times: f64) -> Self {
        self.fault(|fault| fault.slow = times)
    }

    /// Never answers what it begins to serve.
    #[must_use]
    pub fn hangs(self) -> Self {
        self.fault(|fault| fault.hang = true)
    }

    /// Refuses connections.
    #[must_use]
    pub fn down(self) -> Self {
        self.fault(|fault| fault.down = true)
    }

    /// Resets the connection under this part of the requests (0 to 1), when the answer would be due.
    #[must_use]
    pub fn resets(self, part: f64) -> Self {
        self.fault(|fault| fault.reset = part)
    }

    /// Breaks the body of this part of the answers (0 to 1) off: gRPC ends without trailers, HTTP in an error.
    #[must_use]
    pub fn truncates(self, part: f64) -> Self {
        self.fault(|fault| fault.truncate = part)
    }

    /// Stops serving; what arrives waits in line until it goes on.
    #[must_use]
    pub fn pauses(self) -> Self {
        self.fault(|fault| fault.pause = true)
    }

    /// The last fault's failures have this status.
    #[must_use]
    pub fn status(self, status: u16) -> Self {
        self.last(|fault| fault.status = status)
    }

    /// The last fault's failures have this gRPC status, where requests are gRPC.
    #[must_use]
    pub fn grpc_status(self, status: u16) -> Self {
        self.last(|fault| fault.grpc_status = status)
    }

    /// The last fault's failures ask to be left alone for so long: `retry-after` in whole seconds, and
    /// `grpc-retry-pushback-ms` where requests are gRPC.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        self.last(|fault| fault.retry_after = Some(wait))
    }

    /// What the last fault hits takes this long instead: its failures and resets, or everything where it has none.
    #[must_use]
    pub fn taking(self, latency: impl Into<Latency>) -> Self {
        let latency = latency.into();
        self.last(|fault| fault.latency = Some(latency))
    }

    /// The last fault holds from the one time to just before the other. Default: always.
    #[must_use]
    pub fn between(self, from: Duration, to: Duration) -> Self {
        let (start, end) = (nanos(from), nanos(to));
        self.last(|fault| (fault.from, fault.to) = (start, end))
    }

    fn fault(mut self, set: impl FnOnce(&mut Fault)) -> Self {
        let mut fault = Fault::default();
        set(&mut fault);
        self.faults.push(fault);
        self
    }

    fn last(mut self, set: impl FnOnce(&mut Fault)) -> Self {
        match self.faults.last_mut() {
            Some(fault) => set(fault),
            None => return self.fault(set),
        }
        self
    }

    /// Why it cannot be.
    pub(crate) fn invalid(&self) -> Option<String> {
        if let Some(why) = self.latency.invalid() {
            return Some(why.to_owned());
        }
        if self.workers == Some(0) {
            return Some(
                "an endpoint without workers never answers; use `pauses` or `hangs`".into(),
            );
        }
        if self.leave <= self.join {
            return Some("it leaves before it joins".into());
        }
        self.faults.iter().find_map(Fault::invalid)
    }

    fn active(&self, at: u64) -> impl Iterator<Item = (u64, &Fault)> {
        let faults = (0..).zip(&self.faults);
        faults.filter(move |(_, fault)| fault.from <= at && at < fault.to)
    }

    pub(crate) fn is_paused(&self, at: u64) -> bool {
        self.active(at).any(|(_, fault)| fault.pause)
    }

    /// How long a connection takes to be refused, where it is.
    pub(crate) fn refusal(&self, at: u64, dice: Dice) -> Option<u64> {
        let (_, down) = self.active(at).find(|(_, fault)| fault.down)?;
        let latency = down.latency.as_ref();
        Some(latency.map_or(REFUSAL, |latency| latency.draw(dice.event(1))))
    }

    /// What becomes of a request that it begins to serve at `at`.
    pub(crate) fn fate(&self, at: u64, dice: Dice) -> Fate {
        let mut latency = &self.latency;
        let mut times = 1.0;
        let mut end = End::Success;
        let mut instead = None;
        for (n, fault) in self.active(at) {
            if fault.hang {
                let until = fault.to;
                return Fate {
                    takes: until.saturating_sub(at),
                    end: End::Never { until },
                };
            }
            times *= fault.slow;
            if !fault.has_chance() {
                latency = fault.latency.as_ref().unwrap_or(latency);
                continue;
            }
            if end != End::Success {
                continue;
            }
            // Three dice for each fault, thrown whatever the others show.
            if dice.chance(10 + 3 * n, fault.reset) {
                end = End::Reset;
                instead = fault.latency.as_ref();
            } else if dice.chance(11 + 3 * n, fault.fail) {
                end = End::Failure {
                    status: fault.status,
                    grpc_status: fault.grpc_status,
                    retry_after: fault.retry_after,
                };
                instead = fault.latency.as_ref();
            } else if dice.chance(12 + 3 * n, fault.truncate) {
                end = End::Truncated;
            }
        }
        let takes = match instead {
            Some(latency) => latency.draw(dice.event(0)),
            // A cast of a float saturates.
            None if times != 1.0 => (latency.draw(dice.event(0)) as f64 * times) as u64,
            None => latency.draw(dice.event(0)),
        };
        let takes = self.stretched(at, takes);
        Fate { takes, end }
    }

    // Work in hand stands still while it is paused.
    fn stretched(&self, at: u64, takes: u64) -> u64 {
        let mut until = at.saturating_add(takes);
        let mut pauses: Vec<_> = self.faults.iter().filter(|fault| fault.pause).collect();
        pauses.sort_by_key(|fault| fault.from);
        let mut from = at;
        for pause in pauses {
            let begins = pause.from.max(from);
            if begins < until && begins < pause.to {
                until = until.saturating_add(pause.to - begins);
                from = pause.to;
            }
        }
        until - at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::chance::Part;
    use crate::sim::{ms, s};

    fn dice() -> Dice {
        Dice::new(1, Part::Fate, 0)
    }

    #[test]
    fn work_in_hand_stands_still_while_paused() {
        let server = healthy(ms(100))
            .pauses()
            .between(ms(50), ms(250))
            .pauses()
            .between(ms(200), ms(300));
        assert_eq!(server.fate(0, dice()).takes, nanos(ms(350)));
        assert_eq!(server.fate(nanos(ms(300)), dice()).takes, nanos(ms(100)));
        assert!(server.is_paused(nanos(ms(299))) && !server.is_paused(nanos(ms(300))));
    }

    #[test]
    fn the_first_fault_that_hits_decides_and_its_time_counts() {
        let server = healthy(ms(20))
            .slow(10.0)
            .between(s(5), s(6))
            .fails(1.0)
            .status(500)
            .taking(ms(1))
            .between(s(10), s(20))
            .resets(1.0);
        let fate = server.fate(nanos(s(10)), dice());
        assert_eq!(fate.takes, nanos(ms(1)));
        assert!(matches!(fate.end, End::Failure { status: 500, .. }));
        let fate = server.fate(nanos(s(20)), dice());
        assert_eq!((fate.takes, fate.end), (nanos(ms(20)), End::Reset));
        let fate = server.fate(nanos(s(5)), dice());
        assert_eq!(fate.takes, nanos(ms(200)));
    }

    #[test]
    fn half_is_half() {
        let server = healthy(ms(20)).fails(0.5);
        let failed = |n| server.fate(0, dice().event(n)).end != End::Success;
        let count = (0..10_000).filter(|n| failed(*n)).count();
        assert!((4_800..5_200).contains(&count), "{count}");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for server in [
            healthy(ms(1)).fails(1.5),
            healthy(ms(1)).fails(f64::NAN),
            healthy(ms(1)).slow(0.0),
            healthy(ms(1)).fails(1.0).status(20),
            healthy(ms(1)).hangs().between(s(2), s(1)),
            healthy(ms(1)).workers(0),
            healthy(ms(1)).joins(s(2)).leaves(s(1)),
            healthy(Latency::uniform(ms(2), ms(1))),
        ] {
            assert!(server.invalid().is_some(), "{server:?}");
        }
    }
}
