//! What a breaker does at one moment, in words.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::gate::Gate;

/// What a breaker was doing at one moment, and why. `Display` says it in a line.
///
/// ```
/// use tower_mesh::breaker::BreakerLayer;
/// use tower_mesh::policy::FailureAccrual;
///
/// let handle = BreakerLayer::new(FailureAccrual::consecutive(5)).named("orders").handle();
/// assert_eq!(handle.state().to_string(), "closed");
/// handle.force_open();
/// let state = handle.state();
/// assert!(state.is_open());
/// assert_eq!((&*state.name, state.why.as_deref()), ("orders", Some("opened by hand")));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerSnapshot {
    /// The breaker's name.
    pub name: Arc<str>,
    /// The moment.
    pub at: Instant,
    /// What its own rules say. See [`forced`](Self::forced).
    pub gate: Gate,
    /// Whether somebody holds it open or closed, whatever its rules say.
    pub forced: Option<Forced>,
    /// Since when it is open, or forced; none if it is closed by its own rules.
    pub since: Option<Instant>,
    /// What it opened for, while it is open.
    pub why: Option<Cow<'static, str>>,
    /// Failures in a row, while closed.
    pub failures: u32,
    /// Probes that failed since it opened.
    pub failed_probes: u32,
    /// Calls refused since it was made; in a dry run, those that would have been.
    pub refused: u64,
    /// Callers that wait for it now. See [`BreakerLayer::wait`](super::BreakerLayer::wait).
    pub waiting: usize,
    /// It judges and reports, and refuses nothing.
    pub dry_run: bool,
}

/// How a breaker is held by
/// [`BreakerHandle::force_open`](super::BreakerHandle::force_open) and
/// [`force_closed`](super::BreakerHandle::force_closed).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forced {
    /// It refuses everything.
    Open,
    /// It lets everything through and counts nothing.
    Closed,
}

/// Seconds with one digit behind the point.
pub(crate) struct Tenths(pub(crate) Duration);

// === impl BreakerSnapshot ===

impl BreakerSnapshot {
    /// Whether calls are refused, or in a dry run would be. With a probe due or out, all but that one are.
    pub fn is_open(&self) -> bool {
        match self.forced {
            Some(forced) => forced == Forced::Open,
            None => self.gate != Gate::Closed,
        }
    }
}

impl fmt::Display for BreakerSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dry_run {
            f.write_str("dry run: ")?;
        }
        let ago = Tenths(
            self.at
                .saturating_duration_since(self.since.unwrap_or(self.at)),
        );
        match (self.forced, self.gate) {
            (Some(Forced::Open), _) => write!(f, "opened by hand {ago} ago")?,
            (Some(Forced::Closed), _) => write!(f, "closed by hand {ago} ago")?,
            (None, Gate::Closed) => match self.failures {
                0 => f.write_str("closed")?,
                1 => f.write_str("closed, 1 failure in a row")?,
                n => write!(f, "closed, {n} failures in a row")?,
            },
            (None, gate) => {
                let why = self.why.as_deref().unwrap_or("unknown");
                write!(f, "opened {ago} ago: {why}; ")?;
                match self.failed_probes {
                    0 => {}
                    1 => f.write_str("1 probe failed; ")?,
                    n => write!(f, "{n} probes failed; ")?,
                }
                match gate {
                    Gate::Open { until } if until <= self.at => f.write_str("a probe is due")?,
                    Gate::Open { until } => {
                        let wait = until.saturating_duration_since(self.at);
                        write!(f, "next probe in {}", Tenths(wait))?;
                    }
                    Gate::HalfOpen { .. } | Gate::Closed => f.write_str("a probe is out")?,
                }
            }
        }
        match (self.refused, self.dry_run) {
            (0, _) => {}
            (n, true) => write!(f, "; {n} would have been refused")?,
            (n, false) => write!(f, "; {n} refused")?,
        }
        match self.waiting {
            0 => Ok(()),
            n => write!(f, "; {n} waiting"),
        }
    }
}

// === impl Tenths ===

impl fmt::Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded up, so that a wait that is left is never "0.0 s".
        let tenths = self.0.as_nanos().div_ceil(100_000_000);
        write!(f, "{}.{} s", tenths / 10, tenths % 10)
    }
}
