use std::fmt;

/// Whether to decide as the mesh does, or better.
///
/// Every difference is one [`Difference`], and [`Difference::ALL`] is the whole table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Fidelity {
    /// As Linkerd's control plane and proxy decide.
    Mesh,
    /// With what this crate honours beyond that.
    #[default]
    Extended,
}

/// One thing in which [`Fidelity::Mesh`] and [`Fidelity::Extended`] differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Difference {
    /// Retries of a policy that names no budget.
    RetryBudget,
    /// Which queue a backend has.
    BackendQueue,
    /// Whether `min_ready_endpoints` is honoured.
    EjectionFloor,
    /// Whether a single forward address has a breaker.
    ForwardBreaker,
    /// Whether a request that may have been processed is repeated.
    UnsafeRepeat,
    /// Whether a retry avoids endpoints that this request was already sent to.
    AvoidTried,
    /// Whether a request that never left is tried again on a route that retries.
    ConnectRetry,
    /// What becomes of an annotation whose value is not valid.
    InvalidAnnotation,
}

// === impl Difference ===

impl Difference {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::RetryBudget,
        Self::BackendQueue,
        Self::EjectionFloor,
        Self::ForwardBreaker,
        Self::UnsafeRepeat,
        Self::AvoidTried,
        Self::ConnectRetry,
        Self::InvalidAnnotation,
    ];

    /// A stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RetryBudget => "retry-budget",
            Self::BackendQueue => "backend-queue",
            Self::EjectionFloor => "ejection-floor",
            Self::ForwardBreaker => "forward-breaker",
            Self::UnsafeRepeat => "unsafe-repeat",
            Self::AvoidTried => "avoid-tried",
            Self::ConnectRetry => "connect-retry",
            Self::InvalidAnnotation => "invalid-annotation",
        }
    }

    /// What the mesh does.
    pub const fn mesh(self) -> &'static str {
        match self {
            Self::RetryBudget => "retries of routes have no budget",
            Self::BackendQueue => "the policy's queue is ignored; 10000 requests may wait 3 s",
            Self::EjectionFloor => "min_ready_endpoints is ignored",
            Self::ForwardBreaker => "failure accrual is ignored for a forward address",
            Self::UnsafeRepeat => {
                "any method is repeated after a broken connection, where 502 is retried"
            }
            Self::AvoidTried => "a retry may go to the endpoint that just failed",
            Self::ConnectRetry => {
                "a failed connection is tried again where the 502 or 504 it becomes is retried"
            }
            Self::InvalidAnnotation => {
                "its whole family (breaker, load, retries, timeouts) is as if it were not there"
            }
        }
    }

    /// What this crate does by default.
    pub const fn extended(self) -> &'static str {
        match self {
            Self::RetryBudget => "a policy that names no budget gets 20 % and 10 a second",
            Self::BackendQueue => "each backend's own queue is used",
            Self::EjectionFloor => "an ejection below min_ready_endpoints is refused",
            Self::ForwardBreaker => "a forward address has a breaker like any endpoint",
            Self::UnsafeRepeat => {
                "after a broken connection only idempotent methods, and requests marked safe to repeat, are sent again"
            }
            Self::AvoidTried => "a retry prefers endpoints this request has not been sent to",
            Self::ConnectRetry => {
                "a request that never left is tried again on every route that retries"
            }
            Self::InvalidAnnotation => "the Service does not resolve; the error names the place",
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
