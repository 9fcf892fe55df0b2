use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

use super::grpc::GrpcEos;
use super::{Classified, ClassifyEos, Outcome, Verdict};
use crate::core::BoxError;
use crate::core::time::nanos;
use crate::policy::PendingUntil;

/// Something that is owed exactly one verdict.
pub trait Settle {
    /// Hears it.
    fn settle(self, outcome: &Outcome);
}

/// Who hands out tickets and hears how they ended. It reads the clock itself, where it needs to.
pub trait Issuer: Send + Sync + 'static {
    /// The request is on its way, and its answer owed. Called at most once, before all others but `unused`, and not at all if
    /// it was [owed](Note::owed) already.
    fn sent(&self, note: &Note, now: Instant) {
        let _ = (note, now);
    }

    /// The request is not on its way yet, though its answer was [owed](Note::owed) from the beginning. Called at most once,
    /// before all others, and followed by `sent` when it is.
    fn delayed(&self, note: &Note) {
        let _ = note;
    }

    /// The head of the answer arrived. Called at most once.
    fn head(&self, note: &Note, now: Instant) {
        let _ = (note, now);
    }

    /// The first frame of the answer arrived, or its end: from here on the exchange is no load. Called at most once.
    fn answered(&self, note: &Note);

    /// The ticket was not used: nothing was sent. Called instead of both others.
    fn unused(&self, note: &Note);

    /// How it ended. Called exactly once. `answered` tells whether [`answered`](Self::answered) was called before; if
    /// not, and there is an answer, it is all here now.
    fn settled(&self, note: &Note, outcome: &Outcome, answered: bool);
}

/// What an issuer writes on a ticket.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Note {
    /// When it was handed out.
    pub issued: Instant,
    /// The same by the issuer's own clock, in nanoseconds, if it has one.
    pub at: u64,
    /// The request's number.
    pub request: u64,
    /// The issuer's state when it was handed out. An answer from another epoch decides nothing.
    pub epoch: u64,
    /// Whether this is a probe.
    pub probe: bool,
    /// Whether the request was sent.
    pub sent: bool,
    /// Whether its answer counts as owed. An issuer that sets this from the beginning is spared a call for each request that
    /// is sent at once, as most are.
    pub owed: bool,
    /// How long the exchange counts as load.
    pub pending_until: PendingUntil,
}

/// An exchange with one endpoint, from the choice of the endpoint to the end of the answer.
///
/// Dropped without a verdict it settles what is known: what the response head said; neutral before one, with the time
/// that the caller waited in vain.
#[must_use = "a dropped ticket settles"]
pub struct Ticket {
    // Taken when settled.
    issuer: Option<Arc<dyn Issuer>>,
    note: Note,
    answered: bool,
    head: Head,
    // How long the head took, in nanoseconds.
    took: u64,
}

/// What the head said, in few bytes: a ticket travels with every response.
#[derive(Clone, Copy)]
enum Head {
    NotYet,
    Said {
        verdict: Verdict,
        rate_limited: bool,
        // In milliseconds; the maximum is none.
        retry_after: u32,
    },
    AtEnd(GrpcEos),
}

const NO_HINT: u32 = u32::MAX;

// === impl Note ===

impl Note {
    /// What was true at the issue.
    #[inline]
    pub fn new(issued: Instant, request: u64, epoch: u64, probe: bool) -> Self {
        Self {
            issued,
            at: 0,
            request,
            epoch,
            probe,
            sent: false,
            owed: false,
            pending_until: PendingUntil::FirstFrame,
        }
    }
}

// === impl Ticket ===

impl Ticket {
    /// A ticket that settles with `issuer`.
    #[inline]
    pub fn new(issuer: Arc<dyn Issuer>, note: Note) -> Self {
        Self {
            issuer: Some(issuer),
            note,
            answered: false,
            head: Head::NotYet,
            took: 0,
        }
    }

    /// What is written on it.
    #[inline]
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// Whether it is still owed a verdict.
    pub fn is_open(&self) -> bool {
        self.issuer.is_some()
    }

    /// The request goes out now.
    #[inline]
    pub fn sent(&mut self, now: Instant) {
        if let Some(issuer) = &self.issuer
            && !self.note.sent
        {
            self.note.sent = true;
            if !self.note.owed {
                self.note.owed = true;
                issuer.sent(&self.note, now);
            }
        }
    }

    /// The request does not go out yet: whoever it is for is not ready.
    pub fn delayed(&mut self) {
        if let Some(issuer) = &self.issuer
            && self.note.owed
            && !self.note.sent
        {
            self.note.owed = false;
            issuer.delayed(&self.note);
        }
    }

    /// What the response head says.
    ///
    /// A failure cannot improve and settles at once; so does a probe, for which the head is enough. A success waits for
    /// the body, which can still break.
    pub fn head(&mut self, head: Classified<GrpcEos>, now: Instant) {
        self.took = nanos(now.saturating_duration_since(self.note.issued));
        if let Some(issuer) = &self.issuer {
            issuer.head(&self.note, now);
        }
        if self.note.pending_until == PendingUntil::Head {
            self.no_load();
        }
        match head {
            Classified::Ready(outcome) if self.note.probe || outcome.is_failure() => {
                self.head = Head::of(&outcome);
                self.finish(outcome);
            }
            Classified::Ready(outcome) => self.head = Head::of(&outcome),
            Classified::AtEnd(eos) => self.head = Head::AtEnd(eos),
        }
    }

    /// A frame of the answer arrived: of data, or of something else.
    pub fn frame(&mut self, is_data: bool) {
        if self.note.pending_until != PendingUntil::End {
            self.no_load();
        }
        // For a probe the first message is enough, so that a long stream can close a breaker.
        if is_data && self.note.probe && matches!(self.head, Head::AtEnd(_)) {
            self.finish(Outcome::SUCCESS);
        }
    }

    fn no_load(&mut self) {
        if !self.answered {
            self.answered = true;
            if let Some(issuer) = &self.issuer {
                issuer.answered(&self.note);
            }
        }
    }

    /// The answer ended, with or without trailers. Returns what it came to.
    pub fn end(mut self, trailers: Option<&HeaderMap>) -> Outcome {
        self.end_in_place(trailers)
    }

    // The same for who cannot give it away without moving it. Settles nothing the second time.
    pub(crate) fn end_in_place(&mut self, trailers: Option<&HeaderMap>) -> Outcome {
        let outcome = match self.head {
            Head::AtEnd(eos) => eos.classify_eos(trailers),
            head => head.outcome(),
        };
        self.finish(outcome);
        outcome
    }

    /// The answer broke: whatever its head said, that is the endpoint's failure.
    pub fn broke(mut self, error: &BoxError) {
        self.broke_in_place(error);
    }

    pub(crate) fn broke_in_place(&mut self, error: &BoxError) {
        let outcome = match self.head {
            Head::AtEnd(eos) => eos.classify_error(error),
            _ => Outcome::FAILURE,
        };
        self.finish(outcome);
    }

    /// Nothing was sent: gives the ticket back as if it had not been issued.
    pub fn give_back(mut self) {
        if let Some(issuer) = self.issuer.take() {
            issuer.unused(&self.note);
        }
    }

    /// The same as [`settle`](Settle::settle) for who cannot give it away without moving it. Settles nothing the second
    /// time.
    #[inline]
    pub(crate) fn settle_in_place(&mut self, outcome: &Outcome) {
        if !matches!(self.head, Head::NotYet) {
            return self.finish(*outcome);
        }
        if let Some(issuer) = self.issuer.take() {
            issuer.settled(&self.note, outcome, self.answered);
        }
    }

    fn finish(&mut self, mut outcome: Outcome) {
        if !matches!(self.head, Head::NotYet) {
            outcome.took = Some(Duration::from_nanos(self.took));
        }
        if let Some(issuer) = self.issuer.take() {
            issuer.settled(&self.note, &outcome, self.answered);
        }
    }
}

// === impl Head ===

impl Head {
    fn of(outcome: &Outcome) -> Self {
        let millis = |hint: Duration| u32::try_from(hint.as_millis()).unwrap_or(NO_HINT - 1);
        Self::Said {
            verdict: outcome.verdict,
            rate_limited: outcome.rate_limited,
            retry_after: outcome.retry_after.map_or(NO_HINT, millis),
        }
    }

    fn outcome(self) -> Outcome {
        match self {
            Self::Said {
                verdict,
                rate_limited,
                retry_after,
            } => Outcome {
                rate_limited,
                retry_after: (retry_after != NO_HINT)
                    .then(|| Duration::from_millis(retry_after.into())),
                ..Outcome::new(verdict)
            },
            Self::NotYet | Self::AtEnd(_) => Outcome::NEUTRAL,
        }
    }
}

impl Settle for Ticket {
    #[inline]
    fn settle(mut self, outcome: &Outcome) {
        self.settle_in_place(outcome);
    }
}

impl Drop for Ticket {
    #[inline]
    fn drop(&mut self) {
        if self.issuer.is_some() {
            self.let_go();
        }
    }
}

impl Ticket {
    // What is left of the answer interests nobody: the same as dropped, while the answer itself is kept.
    pub(crate) fn let_go(&mut self) {
        if self.issuer.is_none() {
            return;
        }
        // What is owed is a response head; an open stream is not silence, nor is a body that nobody asks for.
        let head = Duration::from_nanos(self.took);
        let (outcome, waited) = match self.head {
            Head::Said { .. } => (self.head.outcome(), Some(head)),
            Head::AtEnd(eos) => {
                let outcome = eos.classify_drop();
                let counts = outcome.verdict != Verdict::Neutral;
                (outcome, counts.then_some(head))
            }
            Head::NotYet => {
                let waited = Instant::now().saturating_duration_since(self.note.issued);
                (Outcome::NEUTRAL, Some(waited))
            }
        };
        self.finish(Outcome { waited, ..outcome });
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
