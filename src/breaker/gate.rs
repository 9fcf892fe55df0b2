//! What a breaker says and is told.

use std::borrow::Cow;

use tokio::time::Instant;

/// Whether a request may go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Yes.
    Closed,
    /// Not before this moment; from then on, one probe may.
    Open {
        /// When a probe is due.
        until: Instant,
    },
    /// A probe is out, and nothing else may.
    HalfOpen {
        /// When the probe counts as lost, and another is due.
        until: Instant,
    },
}

/// A request that was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// What its result must be recorded with.
    pub epoch: u64,
    /// Whether it is a probe.
    pub probe: bool,
}

/// Epochs are counted up to this, and from zero again: a result that comes 16 million epochs late is none. So they share a
/// word with something else.
pub(crate) const EPOCHS: u64 = (1 << 24) - 1;

/// What a result changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transition {
    /// The endpoint was ejected, or stays so after a failed probe.
    Opened {
        /// The evidence.
        why: Cow<'static, str>,
        /// When a probe is due.
        until: Instant,
    },
    /// It would have been ejected, and the floor forbids it.
    Refused {
        /// The evidence.
        why: Cow<'static, str>,
    },
    /// It was re-admitted.
    Closed,
    /// Its probe succeeded, and another must; it is due at once.
    ProbePassed,
    /// Its probe came back without a verdict; another is due at once.
    ProbeReturned,
}

/// What successes change, as long as nothing else is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calm {
    /// Nothing.
    Nothing,
    /// They count, and nothing more, until this moment, in nanoseconds.
    CountUntil(u64),
    /// They may decide something.
    Matter,
}
