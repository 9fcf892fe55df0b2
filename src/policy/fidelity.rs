use std::fmt;

/// Whether to decide as the mesh does, or better.
///
/// ```
/// use tower_mesh::policy::{ClientPolicy, Difference, Fidelity};
///
/// let policy = ClientPolicy::http().fidelity(Fidelity::Mesh).build()?;
/// assert_eq!(policy.fidelity, Fidelity::Mesh);
/// assert_eq!(Difference::RetryBudget.mesh(), "retries of routes have no budget");
/// # Ok::<(), tower_mesh::policy::InvalidPolicy>(())
/// ```
///
/// Every difference is one [`Difference`], and this is the whole table:
///
/// | name | mesh | extended |
/// |---|---|---|
/// | `retry-budget` | retries of routes have no budget | a policy that names no budget gets 20 % and 10 a second |
/// | `backend-queue` | the policy's queue is ignored; 10000 requests may wait 3 s | each backend's own queue is used |
/// | `ejection-floor` | min_ready_endpoints is ignored | an ejection below min_ready_endpoints is refused |
/// | `probe-hint` | honor-retry-after is passed on and ignored | Retry-After and grpc-retry-pushback-ms are the least an ejected endpoint waits, within its backoff |
/// | `forward-breaker` | failure accrual is ignored for a forward address | a forward address has a breaker like any endpoint |
/// | `unsafe-repeat` | any method is repeated after a try that timed out, and after a broken connection where 502 is retried | what has an unknown outcome is sent again only if that is harmless: idempotent methods, an Idempotency-Key, gRPC, requests marked safe to repeat |
/// | `avoid-tried` | a retry may go to the endpoint that just failed | a retry prefers endpoints this request has not been sent to |
/// | `connect-retry` | a failed connection is tried again where the 502 or 504 it becomes is retried | a request that never left is tried again on every route that retries, once without counting |
/// | `retry-hints` | Retry-After and grpc-retry-pushback-ms do not matter to retries | they are waited for; a request that is asked to stay away, or to wait more than a minute, is not sent again |
/// | `previous-attempts` | grpc-previous-rpc-attempts is not sent | it is sent with every gRPC attempt after the first |
/// | `hedging` | there is none | a policy written in Rust may ask for it |
/// | `invalid-annotation` | its whole family (breaker, load, retries, timeouts) is as if it were not there; on a route, the whole route | the Service does not resolve; the error names the place |
/// | `grpc-codes` | PERMISSION_DENIED counts against the endpoint | PERMISSION_DENIED says nothing against the endpoint |
/// | `grpc-missing-status` | a missing or unreadable status, a page that is not gRPC and a truncated stream are successes | they are failures; a stream that its caller drops before the end is neutral |
/// | `grpc-timeout` | grpc-timeout is passed on and otherwise ignored | it is a deadline if it is shorter than the policy's, and what remains is written on each attempt |
/// | `stream-deadline` | the policy's request timeout cuts a gRPC stream short, however long ago it began | it holds until a stream has begun; then only the caller's own deadline, the response timeout and the idle timeout do |
/// | `held-trailers` | where responses are retried, each waits for its first frame, however long; trailers that are not there with it are not looked at | where gRPC codes are retried, a response is held back for its trailers as its method is, and for a few milliseconds where that is not known |
/// | `idle-head` | a request without a body that waits for its response head is never idle | the wait for a response head is idle time, too |
/// | `outage-probes` | each waits out its own backoff, however long it has grown | they are probed in turn, one in each first wait of the backoff; when one recovers, the others are probed at once |
/// | `early-refusal` | a request waits until fail-fast, whenever the next probe is due, and where there are no endpoints, too | a request that no probe can help before its deadline or fail-fast is refused at once, with the time of the next; so is one whose backend has no endpoints, as their source has confirmed |
/// | `load-extensions` | load is latency and requests in flight alone | failures and silence raise it, one that was not chosen for long is tried, an unknown one gets one request at first, and requests stay in their zone if the policy says so |
/// | `gateway-retry` | an HTTPRoute's `retry` is not read | it is honoured where no retry annotation is |
/// | `backend-request` | an HTTPRoute's `timeouts.backendRequest` is not read | it bounds each attempt |
/// | `traffic-policy` | XBackendTrafficPolicy is not read | its retry budget pays for the retries to its Service |
/// | `profile-budget` | requests earn it, whatever becomes of them, and its ttl is the bank | successes earn it, and the bank is the usual one |
/// | `own-annotations` | annotations under `tower-mesh/` are not read | they set what the mesh has no word for |
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
    /// Whether an endpoint's own hint counts for its probe, where the policy says so.
    ProbeHint,
    /// Whether a single forward address has a breaker.
    ForwardBreaker,
    /// Whether a request that may have been processed is repeated.
    UnsafeRepeat,
    /// Whether a retry avoids endpoints that this request was already sent to.
    AvoidTried,
    /// Whether a request that never left is tried again on a route that retries.
    ConnectRetry,
    /// Whether what an endpoint asks of retries is heard.
    RetryHints,
    /// Whether gRPC servers are told how often they were asked.
    PreviousAttempts,
    /// Whether there may be a second attempt beside one that takes long.
    Hedging,
    /// What becomes of an annotation whose value is not valid.
    InvalidAnnotation,
    /// Which gRPC codes are failures of the endpoint.
    GrpcCodes,
    /// What a gRPC answer without a status that can be read is.
    GrpcMissingStatus,
    /// Whether a request's `grpc-timeout` is a deadline.
    GrpcTimeout,
    /// Whether the policy's request timeout cuts a gRPC stream short that has begun.
    StreamDeadline,
    /// How long a gRPC response is held back for the code in its trailers.
    HeldTrailers,
    /// Whether the idle timeout covers the wait for a response head.
    IdleHead,
    /// How endpoints are probed when all of them are ejected.
    OutageProbes,
    /// How long a request waits that cannot be served in time.
    EarlyRefusal,
    /// What an endpoint's load is made of.
    LoadExtensions,
    /// Whether `retry` of an HTTPRoute (GEP-1731) is honoured.
    GatewayRetry,
    /// Whether `timeouts.backendRequest` of an HTTPRoute is honoured.
    BackendRequest,
    /// Whether the retry budget of an XBackendTrafficPolicy is honoured.
    TrafficPolicy,
    /// What the retry budget of a ServiceProfile is earned by, and how long what is earned is kept.
    ProfileBudget,
    /// Whether annotations of this crate's own are honoured.
    OwnAnnotations,
}

// === impl Difference ===

impl Difference {
    /// All of them.
    pub const ALL: [Self; 26] = [
        Self::RetryBudget,
        Self::BackendQueue,
        Self::EjectionFloor,
        Self::ProbeHint,
        Self::ForwardBreaker,
        Self::UnsafeRepeat,
        Self::AvoidTried,
        Self::ConnectRetry,
        Self::RetryHints,
        Self::PreviousAttempts,
        Self::Hedging,
        Self::InvalidAnnotation,
        Self::GrpcCodes,
        Self::GrpcMissingStatus,
        Self::GrpcTimeout,
        Self::StreamDeadline,
        Self::HeldTrailers,
        Self::IdleHead,
        Self::OutageProbes,
        Self::EarlyRefusal,
        Self::LoadExtensions,
        Self::GatewayRetry,
        Self::BackendRequest,
        Self::TrafficPolicy,
        Self::ProfileBudget,
        Self::OwnAnnotations,
    ];

    /// A stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RetryBudget => "retry-budget",
            Self::BackendQueue => "backend-queue",
            Self::EjectionFloor => "ejection-floor",
            Self::ProbeHint => "probe-hint",
            Self::ForwardBreaker => "forward-breaker",
            Self::UnsafeRepeat => "unsafe-repeat",
            Self::AvoidTried => "avoid-tried",
            Self::ConnectRetry => "connect-retry",
            Self::RetryHints => "retry-hints",
            Self::PreviousAttempts => "previous-attempts",
            Self::Hedging => "hedging",
            Self::InvalidAnnotation => "invalid-annotation",
            Self::GrpcCodes => "grpc-codes",
            Self::GrpcMissingStatus => "grpc-missing-status",
            Self::GrpcTimeout => "grpc-timeout",
            Self::StreamDeadline => "stream-deadline",
            Self::HeldTrailers => "held-trailers",
            Self::IdleHead => "idle-head",
            Self::OutageProbes => "outage-probes",
            Self::EarlyRefusal => "early-refusal",
            Self::LoadExtensions => "load-extensions",
            Self::GatewayRetry => "gateway-retry",
            Self::BackendRequest => "backend-request",
            Self::TrafficPolicy => "traffic-policy",
            Self::ProfileBudget => "profile-budget",
            Self::OwnAnnotations => "own-annotations",
        }
    }

    /// What the mesh does.
    pub const fn mesh(self) -> &'static str {
        match self {
            Self::RetryBudget => "retries of routes have no budget",
            Self::BackendQueue => "the policy's queue is ignored; 10000 requests may wait 3 s",
            Self::EjectionFloor => "min_ready_endpoints is ignored",
            Self::ProbeHint => "honor-retry-after is passed on and ignored",
            Self::ForwardBreaker => "failure accrual is ignored for a forward address",
            Self::UnsafeRepeat => {
                "any method is repeated after a try that timed out, and after a broken connection where 502 is retried"
            }
            Self::AvoidTried => "a retry may go to the endpoint that just failed",
            Self::ConnectRetry => {
                "a failed connection is tried again where the 502 or 504 it becomes is retried"
            }
            Self::RetryHints => "Retry-After and grpc-retry-pushback-ms do not matter to retries",
            Self::PreviousAttempts => "grpc-previous-rpc-attempts is not sent",
            Self::Hedging => "there is none",
            Self::InvalidAnnotation => {
                "its whole family (breaker, load, retries, timeouts) is as if it were not there; on a route, the whole route"
            }
            Self::GrpcCodes => "PERMISSION_DENIED counts against the endpoint",
            Self::GrpcMissingStatus => {
                "a missing or unreadable status, a page that is not gRPC and a truncated stream are successes"
            }
            Self::GrpcTimeout => "grpc-timeout is passed on and otherwise ignored",
            Self::StreamDeadline => {
                "the policy's request timeout cuts a gRPC stream short, however long ago it began"
            }
            Self::HeldTrailers => {
                "where responses are retried, each waits for its first frame, however long; trailers that are not there with it are not looked at"
            }
            Self::IdleHead => {
                "a request without a body that waits for its response head is never idle"
            }
            Self::OutageProbes => "each waits out its own backoff, however long it has grown",
            Self::EarlyRefusal => {
                "a request waits until fail-fast, whenever the next probe is due, and where there are no endpoints, too"
            }
            Self::LoadExtensions => "load is latency and requests in flight alone",
            Self::GatewayRetry => "an HTTPRoute's `retry` is not read",
            Self::BackendRequest => "an HTTPRoute's `timeouts.backendRequest` is not read",
            Self::TrafficPolicy => "XBackendTrafficPolicy is not read",
            Self::ProfileBudget => {
                "requests earn it, whatever becomes of them, and its ttl is the bank"
            }
            Self::OwnAnnotations => "annotations under `tower-mesh/` are not read",
        }
    }

    /// What this crate does by default.
    pub const fn extended(self) -> &'static str {
        match self {
            Self::RetryBudget => "a policy that names no budget gets 20 % and 10 a second",
            Self::BackendQueue => "each backend's own queue is used",
            Self::EjectionFloor => "an ejection below min_ready_endpoints is refused",
            Self::ProbeHint => {
                "Retry-After and grpc-retry-pushback-ms are the least an ejected endpoint waits, within its backoff"
            }
            Self::ForwardBreaker => "a forward address has a breaker like any endpoint",
            Self::UnsafeRepeat => {
                "what has an unknown outcome is sent again only if that is harmless: idempotent methods, an Idempotency-Key, gRPC, requests marked safe to repeat"
            }
            Self::AvoidTried => "a retry prefers endpoints this request has not been sent to",
            Self::ConnectRetry => {
                "a request that never left is tried again on every route that retries, once without counting"
            }
            Self::RetryHints => {
                "they are waited for; a request that is asked to stay away, or to wait more than a minute, is not sent again"
            }
            Self::PreviousAttempts => "it is sent with every gRPC attempt after the first",
            Self::Hedging => "a policy written in Rust may ask for it",
            Self::InvalidAnnotation => "the Service does not resolve; the error names the place",
            Self::GrpcCodes => "PERMISSION_DENIED says nothing against the endpoint",
            Self::GrpcMissingStatus => {
                "they are failures; a stream that its caller drops before the end is neutral"
            }
            Self::GrpcTimeout => {
                "it is a deadline if it is shorter than the policy's, and what remains is written on each attempt"
            }
            Self::StreamDeadline => {
                "it holds until a stream has begun; then only the caller's own deadline, the response timeout and the idle timeout do"
            }
            Self::HeldTrailers => {
                "where gRPC codes are retried, a response is held back for its trailers as its method is, and for a few milliseconds where that is not known"
            }
            Self::IdleHead => "the wait for a response head is idle time, too",
            Self::OutageProbes => {
                "they are probed in turn, one in each first wait of the backoff; when one recovers, the others are probed at once"
            }
            Self::EarlyRefusal => {
                "a request that no probe can help before its deadline or fail-fast is refused at once, with the time of the next; so is one whose backend has no endpoints, as their source has confirmed"
            }
            Self::LoadExtensions => {
                "failures and silence raise it, one that was not chosen for long is tried, an unknown one gets one request at first, and requests stay in their zone if the policy says so"
            }
            Self::GatewayRetry => "it is honoured where no retry annotation is",
            Self::BackendRequest => "it bounds each attempt",
            Self::TrafficPolicy => "its retry budget pays for the retries to its Service",
            Self::ProfileBudget => "successes earn it, and the bank is the usual one",
            Self::OwnAnnotations => "they set what the mesh has no word for",
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_table_is_the_table() {
        let source = include_str!("fidelity.rs");
        for difference in Difference::ALL {
            let (name, mesh, extended) =
                (difference.name(), difference.mesh(), difference.extended());
            let row = format!("/// | `{name}` | {mesh} | {extended} |\n");
            assert!(source.contains(&row), "missing or different: {row}");
        }
        let rows = source.lines().filter(|line| line.starts_with("/// | `"));
        assert_eq!(rows.count(), Difference::ALL.len());
    }
}
