use std::fmt;
use std::time::Duration;

use super::{InvalidPolicy, Ratio};

/// How many extra attempts there may be, retries and hedges together.
///
/// Every success earns `ratio` of an attempt; beyond that `min_per_sec` attempts a second come for nothing, so that a
/// quiet client may retry too. Nothing comes for nothing while everything fails: the floor shrinks with the recent share
/// of successes. What is saved up is the *bank*: what [`bank`](Self::bank) of time pays in, and at least ten attempts.
/// The whole [guarantee](crate::budget) is a formula.
///
/// ```
/// use std::time::Duration;
/// use tower_mesh::policy::{Budget, EarnedBy};
///
/// let budget = Budget::percent(20).min_per_sec(3).bank(Duration::from_secs(5));
/// assert_eq!(budget.to_string(), "20 % of successes and 3 a second, a bank of 5s");
/// // As tower, ServiceProfiles and the Gateway API count.
/// let theirs = Budget::percent(20).earned_by(EarnedBy::Requests);
/// assert_eq!(theirs.to_string(), "20 % of requests and 10 a second, a bank of 2s");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Budget {
    /// Extra attempts for each success.
    pub ratio: Ratio,
    /// Extra attempts a second besides, times the recent share of successes.
    pub min_per_sec: u32,
    /// How long what is paid in is kept. Default: 2 s.
    ///
    /// A long one is what makes budgets fail: all that it holds goes into an outage, when there is no room for it.
    pub bank: Duration,
    /// What earns. Default: successes.
    pub earned_by: EarnedBy,
}

/// What pays into a [`Budget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum EarnedBy {
    /// Requests that succeed. When nothing does, nothing is retried.
    #[default]
    Successes,
    /// Requests, whatever becomes of them: what `retryRatio` of a ServiceProfile, `budget.percent` of the Gateway API and
    /// tower's budget mean. In an outage, this much more load stays.
    Requests,
}

// === impl Budget ===

impl Budget {
    /// The bank if nothing else is said.
    pub const BANK: Duration = Duration::from_secs(2);

    /// So many extra attempts for each success, and 10 a second besides.
    pub const fn new(ratio: Ratio) -> Self {
        Self {
            ratio,
            min_per_sec: 10,
            bank: Self::BANK,
            earned_by: EarnedBy::Successes,
        }
    }

    /// So many extra attempts per hundred successes, and 10 a second besides.
    pub const fn percent(percent: u8) -> Self {
        Self::new(Ratio::percent(percent))
    }

    /// The same from a float, rounded to the nearest millionth: `0.2` is 20 %, `1.5` is three extra attempts for two
    /// successes.
    ///
    /// # Errors
    /// Not a number, negative, or beyond 1000.
    pub fn ratio(ratio: f64) -> Result<Self, InvalidPolicy> {
        Ratio::try_from_f64("budget.ratio", ratio, 1000).map(Self::new)
    }

    /// With another floor. Default: 10 a second.
    #[must_use]
    pub const fn min_per_sec(mut self, min_per_sec: u32) -> Self {
        self.min_per_sec = min_per_sec;
        self
    }

    /// With another bank. Default: 2 s.
    #[must_use]
    pub const fn bank(mut self, bank: Duration) -> Self {
        self.bank = bank;
        self
    }

    /// Earned otherwise. Default: by successes.
    #[must_use]
    pub const fn earned_by(mut self, earned_by: EarnedBy) -> Self {
        self.earned_by = earned_by;
        self
    }

    /// Whether it never pays for anything.
    pub(crate) const fn is_nothing(&self) -> bool {
        self.ratio.ppm() == 0 && self.min_per_sec == 0
    }
}

impl Default for Budget {
    /// 20 %, and 10 a second: Linkerd's and Finagle's, with a bank of 2 s.
    fn default() -> Self {
        Self::percent(20)
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ppm = self.ratio.ppm();
        let percent = f64::from(ppm) / 10_000.0;
        let of = match self.earned_by {
            EarnedBy::Successes => "successes",
            EarnedBy::Requests => "requests",
        };
        let (floor, bank) = (self.min_per_sec, self.bank);
        write!(
            f,
            "{percent} % of {of} and {floor} a second, a bank of {bank:?}"
        )
    }
}
