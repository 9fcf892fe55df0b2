use std::fmt;

use http::StatusCode;

use super::StatusRanges;

/// What statuses mean on one route, in place of [`Failures`](super::Failures): the response classes of a ServiceProfile.
///
/// The status decides alone, of gRPC, too; one that is in neither set is judged as on any other route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct ResponseClasses {
    /// These are failures.
    pub failures: StatusRanges,
    /// These are none; a status that is in both sets is a failure.
    pub successes: StatusRanges,
}

// === impl ResponseClasses ===

impl ResponseClasses {
    /// Whether a status is a failure, where they say so.
    pub fn is_failure(&self, status: StatusCode) -> Option<bool> {
        if self.failures.contains(status) {
            return Some(true);
        }
        self.successes.contains(status).then_some(false)
    }

    /// Whether they say nothing.
    pub fn is_empty(&self) -> bool {
        self.failures.is_empty() && self.successes.is_empty()
    }
}

impl fmt::Display for ResponseClasses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sets = [(&self.failures, "fail"), (&self.successes, "do not")];
        let mut first = true;
        for (set, what) in sets.into_iter().filter(|(set, _)| !set.is_empty()) {
            let comma = if first { "" } else { "; " };
            write!(f, "{comma}{set} {what}")?;
            first = false;
        }
        Ok(())
    }
}
