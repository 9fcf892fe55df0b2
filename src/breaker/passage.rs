//! One call's way through a breaker.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::futures::OwnedNotified;
use tokio::time::Instant;

use super::blocked::{Blocked, Line};
use super::gate::Admitted;
use super::shared::Shared;
use crate::core::time::after;
use crate::verdict::{Outcome, Verdict};

/// Dropped without a verdict it is neutral, with the time waited; a probe's place is free again.
pub struct Passage {
    // None: there is no breaker to pass.
    shared: Option<Arc<Shared>>,
    admitted: Option<Admitted>,
    // A dry run let through what would have been refused: its result decides nothing.
    waved_through: bool,
    // Has one of the places of those who wait.
    in_line: bool,
    issued: Option<Instant>,
    // When it began to wait.
    waiting_since: Option<Instant>,
}

// === impl Passage ===

impl Passage {
    #[inline]
    pub(super) fn new(shared: Option<Arc<Shared>>) -> Self {
        Self {
            shared,
            admitted: None,
            waved_through: false,
            in_line: false,
            issued: None,
            waiting_since: None,
        }
    }

    /// Whether it was admitted, and nothing has changed since.
    #[inline]
    pub(super) fn is_current(&self) -> bool {
        match (&self.shared, self.admitted) {
            (Some(shared), Some(admitted)) => shared.is_current(admitted),
            (Some(_), None) => self.waved_through,
            (None, _) => true,
        }
    }

    /// Whether it is a probe.
    pub(super) fn is_probe(&self) -> bool {
        self.admitted.is_some_and(|admitted| admitted.probe)
    }

    /// Asks to be admitted.
    #[inline]
    pub(super) fn enter(&mut self) -> Result<(), Blocked> {
        let Some(shared) = &self.shared else {
            return Ok(());
        };
        match shared.admit_untimed() {
            Some(admitted) if !self.in_line => {
                self.admitted = Some(admitted);
                Ok(())
            }
            _ => self.enter_slowly(),
        }
    }

    #[inline(never)]
    fn enter_slowly(&mut self) -> Result<(), Blocked> {
        let Some(shared) = &self.shared else {
            return Ok(());
        };
        match shared.admit() {
            Ok((admitted, now)) => {
                // Held from here on, whatever an observer does.
                self.admitted = Some(admitted);
                self.issued = Some(now);
                if std::mem::take(&mut self.in_line) {
                    shared.give_place_back();
                }
                if admitted.probe {
                    shared.tell_probing(now);
                }
                Ok(())
            }
            Err(blocked) => {
                self.admitted = None;
                if shared.settings.dry_run {
                    self.waved_through = true;
                    shared.note_refusal(blocked);
                    return Ok(());
                }
                Err(blocked)
            }
        }
    }

    /// Whether callers of an open breaker wait.
    pub(super) fn waits(&self) -> bool {
        let shared = self.shared.as_ref();
        shared.is_some_and(|shared| shared.settings.wait.is_some())
    }

    /// Tells of changes from now on, if callers wait here.
    pub(super) fn listen(&self) -> Option<OwnedNotified> {
        let shared = self.shared.as_ref()?;
        shared.settings.wait?;
        Some(Arc::clone(shared.changed()).notified_owned())
    }

    /// Until when it waits for a change, before it asks again.
    ///
    /// # Errors
    /// It does not wait: for so long, any longer, or behind so many.
    pub(super) fn wait(&mut self, blocked: Blocked) -> Result<Instant, Line> {
        let shared = self.shared.as_ref();
        let Some((shared, wait)) = shared.and_then(|it| Some((it, it.settings.wait?))) else {
            return Err(Line::None);
        };
        let origin = shared.origin();
        let now = origin.instant(blocked.at);
        let since = *self.waiting_since.get_or_insert(now);
        let until = after(since, wait.at_most);
        if until <= now {
            let waited = now.saturating_duration_since(since).as_millis();
            return Err(match u32::try_from(waited).unwrap_or(u32::MAX) {
                0 => Line::None,
                waited => Line::InVain(waited),
            });
        }
        let look_again = blocked.gate.look_again_at(origin);
        // Who cannot be helped in time is told so at once.
        if blocked.gate.probe_due(origin).is_some() && look_again.is_some_and(|due| due > until) {
            return Err(Line::None);
        }
        if !self.in_line && !shared.take_place(wait) {
            let full = u32::try_from(wait.callers).unwrap_or(u32::MAX);
            return Err(Line::Full(full));
        }
        self.in_line = true;
        Ok(look_again.map_or(until, |due| due.min(until)))
    }

    /// It is not let through, and does not wait any longer. Returns who refused.
    #[inline]
    pub(super) fn refused(&mut self, blocked: Blocked) -> Option<Arc<Shared>> {
        let in_line = std::mem::take(&mut self.in_line);
        let shared = self.shared.take()?;
        if in_line {
            shared.give_place_back();
        }
        shared.note_refusal(blocked);
        Some(shared)
    }

    /// How it ended.
    #[inline]
    pub(super) fn settle(&mut self, outcome: Outcome) {
        if let (Some(shared), Some(admitted)) = (&self.shared, self.admitted)
            && shared.ignores(admitted, &outcome)
        {
            self.admitted = None;
        } else {
            self.settle_slowly(outcome);
        }
    }

    #[inline(never)]
    fn settle_slowly(&mut self, mut outcome: Outcome) {
        if self.issued.is_some() && outcome.took.is_none() && outcome.verdict != Verdict::Neutral {
            outcome.took = self.elapsed();
        }
        self.finish(&outcome);
    }

    /// How long it has taken, where that counts.
    pub(super) fn elapsed(&self) -> Option<Duration> {
        let timed = self.shared.as_ref().is_some_and(|shared| shared.is_timed());
        let issued = self.issued.filter(|_| timed)?;
        Some(Instant::now().saturating_duration_since(issued))
    }

    fn finish(&mut self, outcome: &Outcome) {
        if let (Some(shared), Some(admitted)) = (&self.shared, self.admitted.take()) {
            shared.record(admitted, outcome);
        }
    }
}

impl Drop for Passage {
    #[inline]
    fn drop(&mut self) {
        if self.admitted.is_some() || self.in_line {
            self.left();
        }
    }
}

impl Passage {
    // Its caller has left.
    #[cold]
    fn left(&mut self) {
        if self.in_line
            && let Some(shared) = &self.shared
        {
            shared.give_place_back();
        }
        let mut outcome = Outcome::NEUTRAL;
        outcome.waited = self.elapsed();
        self.finish(&outcome);
    }
}
