use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::events::Events;
use super::rules::Rules;
use crate::core::draw::entropy;
use crate::core::observe::{Decision, Observers};
use crate::core::time::Epoch;
use crate::policy::FailureAccrual;

/// What a breaker is made with; a registry makes many with the same.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) name: Arc<str>,
    pub(super) rules: Arc<Rules>,
    pub(super) seed: u64,
    pub(super) dry_run: bool,
    pub(super) wait: Option<Wait>,
    pub(super) observers: Observers,
    pub(super) events: Arc<Events>,
}

/// How long callers of an open breaker wait for it, and how many of them. See
/// [`BreakerLayer::wait`](super::BreakerLayer::wait).
///
/// ```
/// use std::time::Duration;
/// use tower_mesh::breaker::{BreakerLayer, Wait};
/// use tower_mesh::policy::FailureAccrual;
///
/// let layer = BreakerLayer::new(FailureAccrual::consecutive(5))
///     .wait(Wait::at_most(Duration::from_secs(3)).callers(100));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    pub(super) at_most: Duration,
    pub(super) callers: usize,
}

// === impl Wait ===

impl Wait {
    /// How many callers wait at once, unless [`callers`](Self::callers) says otherwise.
    pub const CALLERS: usize = 1_000;

    /// So long at most, each of them.
    pub const fn at_most(time: Duration) -> Self {
        Self {
            at_most: time,
            callers: Self::CALLERS,
        }
    }

    /// So many callers at once; the next is refused.
    #[must_use]
    pub const fn callers(mut self, callers: usize) -> Self {
        self.callers = callers;
        self
    }
}

// === impl Settings ===

impl Settings {
    pub(super) fn new(accrual: &FailureAccrual) -> Self {
        let origin = Epoch::new(Instant::now());
        Self {
            name: "breaker".into(),
            rules: Arc::new(Rules::new(accrual, origin)),
            seed: entropy(),
            dry_run: accrual.extensions().dry_run,
            wait: None,
            observers: Observers::default(),
            events: Arc::default(),
        }
    }

    /// Tells a change of state, which is only put into words if somebody listens.
    pub(super) fn tell(&self, at: Instant, decision: impl FnOnce() -> Decision) {
        if !self.events.is_wanted() {
            return self.observers.tell(at, decision);
        }
        let decision = decision();
        // Before an observer, which may panic.
        self.events.send(at, &self.name, &decision);
        self.observers.tell(at, || decision);
    }
}
