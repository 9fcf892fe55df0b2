//! Looking at a breaker, and taking it in hand.

use std::sync::Arc;

use tokio::time::Instant;

use super::events::BreakerEvents;
use super::shared::Shared;
use super::snapshot::{BreakerSnapshot, Forced};

/// A breaker seen from outside its stack: reads its state and forces it, wherever its services went.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// use tower_mesh::breaker::BreakerLayer;
/// use tower_mesh::policy::FailureAccrual;
///
/// let layer = BreakerLayer::new(FailureAccrual::consecutive(5));
/// let handle = layer.handle();
/// assert_eq!(handle.state().to_string(), "closed");
/// handle.force_open(); // until `reset`
/// # tokio::time::advance(std::time::Duration::from_millis(3200)).await;
/// assert_eq!(handle.state().to_string(), "opened by hand 3.2 s ago");
/// handle.reset();
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct BreakerHandle(Arc<Shared>);

// === impl BreakerHandle ===

impl BreakerHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// What it is doing, and why.
    pub fn state(&self) -> BreakerSnapshot {
        self.0.snapshot(Instant::now())
    }

    /// What happens to it from now on: opened, probed, closed.
    pub fn subscribe(&self) -> BreakerEvents {
        let settings = &self.0.settings;
        settings.events.subscribe(Some(Arc::clone(&settings.name)))
    }

    /// Refuses everything until [`reset`](Self::reset) (or [`force_closed`](Self::force_closed)). A dry run still
    /// refuses nothing.
    ///
    /// What is in flight goes on, and decides nothing.
    pub fn force_open(&self) {
        self.0.force(Some(Forced::Open), Instant::now());
    }

    /// Lets everything through until [`reset`](Self::reset) (or [`force_open`](Self::force_open)), whatever comes back.
    pub fn force_closed(&self) {
        self.0.force(Some(Forced::Closed), Instant::now());
    }

    /// Closed, by its own rules, and as if nothing had been learned yet.
    pub fn reset(&self) {
        self.0.force(None, Instant::now());
    }
}
