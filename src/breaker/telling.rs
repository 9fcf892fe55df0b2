//! What a shared breaker tells: those who wait, the log, observers and subscribers. Always without its lock.

use std::borrow::Cow;
use std::sync::Arc;

use tokio::time::Instant;

use super::blocked::Blocked;
use super::gate::Transition;
use super::shared::Shared;
use crate::core::observe::Decision;
use crate::core::sync::Ordering;

impl Shared {
    // Called without the lock: an observer may look at this breaker.
    pub(super) fn tell(&self, transition: Transition, now: Instant) {
        // Those who wait look again: it closed, or its next probe is due at another time. First, should an observer
        // panic.
        self.changed.notify_waiters();
        let breaker = || Arc::clone(self.name());
        match transition {
            Transition::Opened { why, until } => self.opened(why, Some(until), now),
            Transition::Closed => {
                tracing::info!(breaker = %self.name(), dry_run = self.settings.dry_run, "closed");
                let breaker = breaker();
                (self.settings).tell(now, || Decision::BreakerClosed { breaker });
            }
            Transition::ProbePassed => {
                (self.settings).tell(now, || Decision::BreakerProbePassed { breaker: breaker() })
            }
            Transition::ProbeReturned => (self.settings).tell(now, || {
                Decision::BreakerProbeReturned { breaker: breaker() }
            }),
            // There is no floor under a single service.
            Transition::Refused { .. } => {}
        }
    }

    pub(super) fn opened(&self, why: Cow<'static, str>, until: Option<Instant>, now: Instant) {
        tracing::warn!(breaker = %self.name(), dry_run = self.settings.dry_run, %why, "opened");
        self.settings.tell(now, || Decision::BreakerOpened {
            breaker: Arc::clone(self.name()),
            why,
            until,
        });
    }

    pub(super) fn tell_probing(&self, now: Instant) {
        self.settings.tell(now, || Decision::BreakerProbing {
            breaker: Arc::clone(self.name()),
        });
    }

    /// Counts and tells a refusal, or what would have been one.
    #[inline]
    pub(super) fn note_refusal(&self, blocked: Blocked) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        if self.settings.observers.is_some() || self.settings.dry_run {
            self.tell_refusal(blocked);
        }
    }

    // To observers alone: it is no event, as there may be thousands a second.
    #[cold]
    fn tell_refusal(&self, blocked: Blocked) {
        let dry_run = self.settings.dry_run;
        if dry_run {
            tracing::debug!(breaker = %self.name(), "a call would have been refused");
        }
        let at = self.origin().instant(blocked.at);
        (self.settings.observers).tell(at, || Decision::BreakerRefused {
            breaker: Arc::clone(self.name()),
            retry_at: blocked.gate.probe_due(self.origin()),
            dry_run,
        });
    }
}
