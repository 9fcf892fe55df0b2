use std::time::Duration;

use tokio::time::Instant;

use super::percentile::Percentile;
use crate::core::time::{after, nanos};
use crate::policy::{Hedge, HedgeDelay};

/// When a second attempt is made: pure, told how long answers took.
#[derive(Debug)]
pub(crate) struct Pace {
    fixed: Duration,
    percentile: Option<Percentile>,
}

// === impl Pace ===

impl Pace {
    pub(crate) fn new(hedge: &Hedge) -> Self {
        match hedge.delay() {
            HedgeDelay::Fixed(fixed) => Self {
                fixed,
                percentile: None,
            },
            HedgeDelay::Percentile(part) => Self {
                fixed: Duration::ZERO,
                percentile: Some(Percentile::new(part)),
            },
        }
    }

    /// When the second attempt is due; none while too little is known.
    pub(crate) fn due(&self, started: Instant) -> Option<Instant> {
        let delay = match &self.percentile {
            Some(percentile) => Duration::from_nanos(percentile.get()?),
            None => self.fixed,
        };
        Some(after(started, delay))
    }

    /// The first attempt was answered, or let go because the second was: it took so long, or at least that.
    pub(crate) fn answered(&self, started: Instant, now: Instant) {
        if let Some(percentile) = &self.percentile {
            percentile.record(nanos(now.saturating_duration_since(started)));
        }
    }
}
