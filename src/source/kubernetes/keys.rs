//! The annotation keys that the mesh's outbound policy is made of, and what was probably meant by others.

pub(super) const ACCRUAL: &str = "balancer.linkerd.io/failure-accrual";
pub(super) const MAX_FAILURES: &str =
    "balancer.linkerd.io/failure-accrual-consecutive-max-failures";
pub(super) const MIN_PENALTY: &str = "balancer.linkerd.io/failure-accrual-consecutive-min-penalty";
pub(super) const MAX_PENALTY: &str = "balancer.linkerd.io/failure-accrual-consecutive-max-penalty";
pub(super) const JITTER: &str = "balancer.linkerd.io/failure-accrual-consecutive-jitter-ratio";
pub(super) const THRESHOLD: &str =
    "balancer.alpha.linkerd.io/failure-accrual-success-rate-threshold";
pub(super) const WINDOW: &str = "balancer.alpha.linkerd.io/failure-accrual-success-rate-window";
pub(super) const MIN_REQUESTS: &str =
    "balancer.alpha.linkerd.io/failure-accrual-success-rate-min-requests";
pub(super) const HONOR_RETRY_AFTER: &str =
    "balancer.alpha.linkerd.io/failure-accrual-honor-retry-after";
pub(super) const PENALIZE: &str = "balancer.alpha.linkerd.io/penalize-failures";
pub(super) const PENALTY: &str = "balancer.alpha.linkerd.io/load-biaser-penalty";
pub(super) const MAX_RETRY_AFTER: &str = "balancer.alpha.linkerd.io/load-biaser-max-retry-after";
pub(super) const RETRY_HTTP: &str = "retry.linkerd.io/http";
pub(super) const RETRY_GRPC: &str = "retry.linkerd.io/grpc";
pub(super) const RETRY_LIMIT: &str = "retry.linkerd.io/limit";
pub(super) const RETRY_TIMEOUT: &str = "retry.linkerd.io/timeout";
pub(super) const TIMEOUT_REQUEST: &str = "timeout.linkerd.io/request";
pub(super) const TIMEOUT_RESPONSE: &str = "timeout.linkerd.io/response";
pub(super) const TIMEOUT_IDLE: &str = "timeout.linkerd.io/idle";
pub(super) const OPAQUE_PORTS: &str = "config.linkerd.io/opaque-ports";

/// The prefix of this crate's own. It is none of the mesh's.
const OWN: &str = "tower-mesh/";
pub(super) const OWN_BUDGET_PERCENT: &str = "tower-mesh/retry-budget-percent";
pub(super) const OWN_BUDGET_MIN: &str = "tower-mesh/retry-budget-min-per-second";
pub(super) const OWN_MIN_READY: &str = "tower-mesh/failure-accrual-min-ready-endpoints";
pub(super) const OWN_SLOW_CALL: &str = "tower-mesh/failure-accrual-slow-call";
pub(super) const OWN_MEMORY: &str = "tower-mesh/failure-accrual-memory";
pub(super) const OWN_PROBES: &str = "tower-mesh/failure-accrual-probes";
pub(super) const OWN_PEERS: &str = "tower-mesh/failure-accrual-worse-than-peers";
pub(super) const OWN_MAX_EJECTED: &str = "tower-mesh/failure-accrual-max-ejected";
pub(super) const OWN_PANIC_AFTER: &str = "tower-mesh/failure-accrual-panic-after";
pub(super) const OWN_DRY_RUN: &str = "tower-mesh/failure-accrual-dry-run";
pub(super) const OWN_LOAD: &str = "tower-mesh/load-extensions";
pub(super) const OWN_ZONE: &str = "tower-mesh/prefer-zone";

/// Every key under [`PREFIXES`] that is read.
const KNOWN: [&str; 31] = [
    ACCRUAL,
    MAX_FAILURES,
    MIN_PENALTY,
    MAX_PENALTY,
    JITTER,
    THRESHOLD,
    WINDOW,
    MIN_REQUESTS,
    HONOR_RETRY_AFTER,
    PENALIZE,
    PENALTY,
    MAX_RETRY_AFTER,
    RETRY_HTTP,
    RETRY_GRPC,
    RETRY_LIMIT,
    RETRY_TIMEOUT,
    TIMEOUT_REQUEST,
    TIMEOUT_RESPONSE,
    TIMEOUT_IDLE,
    OWN_BUDGET_PERCENT,
    OWN_BUDGET_MIN,
    OWN_MIN_READY,
    OWN_SLOW_CALL,
    OWN_MEMORY,
    OWN_PROBES,
    OWN_PEERS,
    OWN_MAX_EJECTED,
    OWN_PANIC_AFTER,
    OWN_DRY_RUN,
    OWN_LOAD,
    OWN_ZONE,
];

/// Those of [`KNOWN`] that hold a duration.
const DURATIONS: [&str; 11] = [
    MIN_PENALTY,
    MAX_PENALTY,
    WINDOW,
    PENALTY,
    MAX_RETRY_AFTER,
    RETRY_TIMEOUT,
    TIMEOUT_REQUEST,
    TIMEOUT_RESPONSE,
    TIMEOUT_IDLE,
    OWN_SLOW_CALL,
    OWN_MEMORY,
];

/// Whether an annotation holds a duration.
pub(super) fn is_duration(key: &str) -> bool {
    DURATIONS.contains(&key)
}

/// Under these nothing stands but outbound policy. (`config.linkerd.io/` has many keys that are none of ours.)
const PREFIXES: [&str; 5] = [
    "balancer.linkerd.io/",
    "balancer.alpha.linkerd.io/",
    "retry.linkerd.io/",
    "timeout.linkerd.io/",
    OWN,
];

/// Whether a key is the mesh's outbound policy or was meant to be, known or not: `Retry.linkerd.io/http` and
/// `timeouts.linkerd.io/request`, too.
pub(super) fn is_policy(key: &str) -> bool {
    const LONGEST: usize = 40;
    let Some(slash) = key.find('/').filter(|slash| *slash < LONGEST) else {
        return false;
    };
    let (prefix, _) = key.split_at(slash + 1);
    let linkerd = || prefix.to_ascii_lowercase().contains(".linkerd.");
    PREFIXES.contains(&prefix)
        || (linkerd() && PREFIXES.iter().any(|known| distance(prefix, known) <= 2))
}

/// Whether a key is this crate's own, known or not.
pub(super) fn is_own(key: &str) -> bool {
    key.starts_with(OWN)
}

/// Whether a key of outbound policy is one that the mesh does not know.
pub(super) fn is_unknown(key: &str) -> bool {
    is_policy(key) && !KNOWN.contains(&key)
}

/// The known key with the fewest letters different. None for keys longer than Kubernetes allows (253, `/`, 63).
pub(super) fn nearest(key: &str) -> Option<&'static str> {
    if key.len() > 317 {
        return None;
    }
    KNOWN.into_iter().min_by_key(|known| distance(key, known))
}

/// The field that was probably meant: at most two letters different, and fewer than half.
pub(super) fn nearest_of<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    if key.len() > 63 {
        return None;
    }
    let near = known.iter().map(|known| (distance(key, known), *known));
    let (distance, near) = near.min()?;
    (distance <= 2 && distance * 2 < near.len()).then_some(near)
}

/// How many letters to insert, remove or replace to make one of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(b.chars()) {
            let replaced = diagonal + usize::from(x != y);
            diagonal = *cell;
            left = replaced.min(left + 1).min(diagonal + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}
