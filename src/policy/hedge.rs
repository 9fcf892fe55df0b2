use std::fmt;
use std::time::Duration;

use super::{Budget, Ratio};

/// A second attempt beside one that takes long, at another endpoint; the first answer counts, and the other attempt is
/// dropped. An extension: the mesh has no hedging, and without this there is none.
///
/// Only for requests that are *safe* (GET, HEAD, OPTIONS, TRACE, or those whose
/// [options](crate::RequestOptions::safe_to_repeat) say so), and only within a budget.
///
/// ```
/// use std::time::Duration;
/// use tower_mesh::policy::{Budget, Hedge};
///
/// let fixed = Hedge::after(Duration::from_millis(200)).budget(Budget::percent(1));
/// let tracked = Hedge::after_percentile(95);
/// assert_eq!(tracked.to_string(), "hedges after the 95th percentile");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hedge {
    delay: HedgeDelay,
    budget: Option<Budget>,
}

/// When a [`Hedge`] is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HedgeDelay {
    /// After this time without a response head.
    Fixed(Duration),
    /// After the time within which this part of recent requests had their response head. Not before there were a few.
    Percentile(Ratio),
}

// === impl Hedge ===

impl Hedge {
    /// After a fixed time.
    pub const fn after(delay: Duration) -> Self {
        Self {
            delay: HedgeDelay::Fixed(delay),
            budget: None,
        }
    }

    /// After the time within which so many of a hundred recent requests had their answer; at most 99.
    pub const fn after_percentile(percent: u8) -> Self {
        let percent = if percent > 99 { 99 } else { percent };
        Self {
            delay: HedgeDelay::Percentile(Ratio::percent(percent)),
            budget: None,
        }
    }

    /// What pays for it. Default: what pays for retries, or without them [`Budget::default`].
    #[must_use]
    pub const fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// When it is made.
    pub const fn delay(&self) -> HedgeDelay {
        self.delay
    }

    /// What pays for it, if it has something of its own.
    pub const fn own_budget(&self) -> Option<Budget> {
        self.budget
    }
}

impl fmt::Display for Hedge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.delay {
            HedgeDelay::Fixed(delay) => write!(f, "hedges after {delay:?}")?,
            HedgeDelay::Percentile(part) => {
                write!(f, "hedges after the {}th percentile", part.ppm() / 10_000)?;
            }
        }
        match self.budget {
            Some(budget) => write!(f, ", within {budget}"),
            None => Ok(()),
        }
    }
}
