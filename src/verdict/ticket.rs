use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use super::Outcome;

/// Something that is owed exactly one verdict.
pub trait Settle {
    /// Hears it.
    fn settle(self, outcome: &Outcome);
}

/// Who hands out tickets and hears how they ended.
pub trait Issuer: Send + Sync + 'static {
    /// The first frame of the answer arrived, or its end: from here on the exchange is no load. Called at most once.
    fn answered(&self, note: &Note, now: Instant);

    /// The ticket was not used: nothing was sent. Called instead of both others.
    fn unused(&self, note: &Note, now: Instant);

    /// How it ended. Called exactly once. `answered` tells whether [`answered`](Self::answered) was called before.
    fn settled(&self, note: &Note, outcome: &Outcome, answered: bool, now: Instant);
}

/// What an issuer writes on a ticket.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Note {
    /// When it was handed out.
    pub issued: Instant,
    /// The request's number.
    pub request: u64,
    /// The issuer's state when it was handed out. An answer from another epoch decides nothing.
    pub epoch: u64,
    /// Whether this is a probe.
    pub probe: bool,
}

/// An exchange with one endpoint, from the choice of the endpoint to the end of the answer.
///
/// Dropped without a verdict it settles what is known: what the response head said, or neutral before one.
#[must_use = "a dropped ticket settles"]
pub struct Ticket {
    // Taken when settled.
    issuer: Option<Arc<dyn Issuer>>,
    note: Note,
    answered: bool,
    head: Option<Outcome>,
}

// === impl Note ===

impl Note {
    /// What was true at the issue.
    pub fn new(issued: Instant, request: u64, epoch: u64, probe: bool) -> Self {
        Self {
            issued,
            request,
            epoch,
            probe,
        }
    }
}

// === impl Ticket ===

impl Ticket {
    /// A ticket that settles with `issuer`.
    pub fn new(issuer: Arc<dyn Issuer>, note: Note) -> Self {
        Self {
            issuer: Some(issuer),
            note,
            answered: false,
            head: None,
        }
    }

    /// What is written on it.
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// Whether it is still owed a verdict.
    pub fn is_open(&self) -> bool {
        self.issuer.is_some()
    }

    /// What the response head says.
    ///
    /// A failure cannot improve and settles at once; so does a probe, for which the head is enough. A success waits for
    /// the body, which can still break.
    pub fn head(&mut self, outcome: Outcome) {
        self.head = Some(outcome);
        if self.note.probe || outcome.is_failure() {
            self.finish(&outcome);
        }
    }

    /// The first frame of the answer arrived.
    pub fn first_frame(&mut self) {
        if self.answered {
            return;
        }
        self.answered = true;
        if let Some(issuer) = &self.issuer {
            issuer.answered(&self.note, Instant::now());
        }
    }

    /// The answer ended as its head said.
    pub fn end(mut self) {
        self.finish_as_head();
    }

    /// Nothing was sent: gives the ticket back as if it had not been issued.
    pub fn give_back(mut self) {
        if let Some(issuer) = self.issuer.take() {
            issuer.unused(&self.note, Instant::now());
        }
    }

    fn finish_as_head(&mut self) {
        let outcome = self.head.unwrap_or(Outcome::NEUTRAL);
        self.finish(&outcome);
    }

    fn finish(&mut self, outcome: &Outcome) {
        if let Some(issuer) = self.issuer.take() {
            issuer.settled(&self.note, outcome, self.answered, Instant::now());
        }
    }
}

impl Settle for Ticket {
    fn settle(mut self, outcome: &Outcome) {
        self.finish(outcome);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.finish_as_head();
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("note", &self.note)
            .field("open", &self.is_open())
            .finish()
    }
}

// === impl Settle ===

impl Settle for () {
    fn settle(self, _: &Outcome) {}
}

impl<A: Settle, B: Settle> Settle for (A, B) {
    fn settle(self, outcome: &Outcome) {
        self.0.settle(outcome);
        self.1.settle(outcome);
    }
}

impl<T: Settle> Settle for Option<T> {
    fn settle(self, outcome: &Outcome) {
        if let Some(inner) = self {
            inner.settle(outcome);
        }
    }
}
