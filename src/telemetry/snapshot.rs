use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::balance::{Member, Set};
use crate::breaker::{BreakerSnapshot, Forced, Gate, Tenths};
use crate::budget::BudgetSnapshot;
use crate::endpoint::Endpoint;

/// A client at one moment. Its `Display` is a table.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// Requests in flight, those whose response body has not ended included.
    pub in_flight: usize,
    /// The backends, in the order in which the policy names them.
    pub backends: Vec<BackendSnapshot>,
    /// The retry budgets, in the order in which the policy's routes name them.
    pub budgets: Vec<BudgetSnapshot>,
    /// Requests so far that could not have been sent again because their body was larger than the policy keeps.
    pub bodies_too_large: u64,
    /// gRPC codes so far that were in trailers and would have been retried, had they come while the response was
    /// [held back](crate::policy::Trailers).
    pub trailers_too_late: u64,
}

/// A backend at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BackendSnapshot {
    /// Its name.
    pub name: Arc<str>,
    /// Requests in line for an endpoint.
    pub waiting: usize,
    /// Ejections that were refused since the beginning, because of the policy's limits.
    pub ejections_refused: u64,
    /// In an outage of all its endpoints they are probed in turn: when the next is, or was, due, whatever the breaker of each
    /// says of its own.
    pub next_in_turn: Option<Instant>,
    /// When this was so.
    at: Instant,
    /// Its endpoints, by address.
    pub endpoints: Vec<EndpointSnapshot>,
}

/// An endpoint at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointSnapshot {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Requests that have no answer yet.
    pub pending: usize,
    /// The latency estimate.
    pub latency: Duration,
    /// Its breaker: what its own rules say.
    pub gate: Gate,
    /// Its breaker, with the evidence, and whether somebody holds it.
    pub breaker: BreakerSnapshot,
}

// === impl Snapshot ===

impl Snapshot {
    /// All endpoints of all backends.
    pub fn endpoints(&self) -> impl Iterator<Item = &EndpointSnapshot> {
        self.backends.iter().flat_map(|backend| &backend.endpoints)
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in flight", self.in_flight)?;
        for (count, what) in [
            (self.bodies_too_large, "bodies too large to retry"),
            (self.trailers_too_late, "codes too late to retry"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        for budget in &self.budgets {
            write!(f, "\nbudget ({}): {budget}", budget.policy)?;
        }
        for backend in &self.backends {
            write!(f, "\n{}: {} waiting", backend.name, backend.waiting)?;
            if backend.ejections_refused > 0 {
                write!(f, ", {} ejections refused", backend.ejections_refused)?;
            }
            if let Some(next) = backend.next_in_turn {
                match next.saturating_duration_since(backend.at) {
                    Duration::ZERO => f.write_str(", all ejected: a probe is due")?,
                    wait => write!(f, ", all ejected: the next probe in {}", Tenths(wait))?,
                }
            }
            for endpoint in &backend.endpoints {
                let EndpointSnapshot {
                    endpoint,
                    pending,
                    latency,
                    gate,
                    breaker,
                } = endpoint;
                let gate = match (breaker.forced, gate) {
                    (Some(Forced::Open), _) => "held open",
                    (Some(Forced::Closed), _) => "held closed",
                    _ if breaker.dry_run => "in service",
                    (None, Gate::Closed) => "in service",
                    (None, Gate::Open { .. }) => "ejected",
                    (None, Gate::HalfOpen { .. }) => "being probed",
                };
                let millis = latency.as_secs_f64() * 1e3;
                let name = endpoint.to_string();
                write!(
                    f,
                    "\n  {name:<21} {gate:<12} {pending:>4} pending {millis:>9.1} ms"
                )?;
                if breaker.is_open() {
                    write!(f, "; {breaker}")?;
                }
            }
        }
        Ok(())
    }
}

// === impl BackendSnapshot ===

impl BackendSnapshot {
    pub(crate) fn take<L>(balance: &Set<L>, now: Instant) -> Self {
        let at = balance.pool.epoch.nanos(now);
        let members = balance.members();
        Self {
            name: Arc::clone(&balance.pool.name),
            waiting: balance.line.waiting(),
            ejections_refused: balance.pool.guard.refused(),
            next_in_turn: (balance.pool.turn()).map(|turn| balance.pool.epoch.instant(turn)),
            at: now,
            endpoints: members
                .iter()
                .map(|member| EndpointSnapshot::take(member, at, now))
                .collect(),
        }
    }
}

// === impl EndpointSnapshot ===

impl EndpointSnapshot {
    fn take<L>(member: &Member<L>, at: u64, now: Instant) -> Self {
        let cell = &member.cell;
        let breaker = cell.breaker(now);
        Self {
            endpoint: member.site.endpoint().clone(),
            pending: cell.pending(),
            latency: cell.latency_now(at),
            gate: breaker.gate,
            breaker,
        }
    }
}
