use std::sync::Arc;
use std::time::Duration;

use super::{Backend, Filter, InvalidPolicy, MatchHost, MatchRequest, Meta, Retry};

/// A set of rules for some hosts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// The hosts it is for; none means every host.
    pub hosts: Vec<MatchHost>,
    /// Its rules. Over all routes the most specific match wins, the first among equals.
    pub rules: Vec<Rule>,
}

/// What a request looks like, and what to do with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Any of these; none means every request.
    pub matches: Vec<MatchRequest>,
    /// What to do.
    pub policy: RoutePolicy,
}

/// What to do with a request that matched.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoutePolicy {
    /// Where this comes from.
    pub meta: Arc<Meta>,
    /// Applied in order before a backend is chosen.
    pub filters: Vec<Filter>,
    /// Where to.
    pub distribution: RouteDistribution,
    /// Timeouts and retries.
    pub params: RouteParams,
}

/// Timeouts and retries of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct RouteParams {
    /// How long things may take.
    pub timeouts: Timeouts,
    /// Retries; none is one attempt.
    pub retry: Option<Retry>,
    /// Whether a request's `l5d-*` headers may override timeouts and retries.
    pub allow_l5d_request_headers: bool,
}

/// How long things may take. Default: as long as they like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Timeouts {
    /// From the request until the end of the response, waiting and retries included.
    pub request: Option<Duration>,
    /// From the end of the request's body until the end of the response, for each attempt.
    pub response: Option<Duration>,
    /// Between two frames in either direction.
    pub idle: Option<Duration>,
}

/// How requests are spread over backends.
///
/// # Validity
/// Made by [`first_available`](Self::first_available) and [`random_available`](Self::random_available), so a list is
/// never empty and its weights are never all zero.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RouteDistribution(Spread);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Spread {
    Empty,
    FirstAvailable(Vec<RouteBackend>),
    RandomAvailable(Vec<(RouteBackend, u32)>),
}

/// A backend as one route uses it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RouteBackend {
    /// Applied in order after it was chosen.
    pub filters: Vec<Filter>,
    /// The backend.
    pub backend: Arc<Backend>,
}

// === impl Rule ===

impl Rule {
    /// For every request.
    pub fn any(policy: RoutePolicy) -> Self {
        Self {
            matches: Vec::new(),
            policy,
        }
    }
}

// === impl RoutePolicy ===

impl RoutePolicy {
    /// Everything to one distribution, without filters, timeouts and retries.
    pub fn new(meta: impl Into<Arc<Meta>>, distribution: RouteDistribution) -> Self {
        Self {
            meta: meta.into(),
            filters: Vec::new(),
            distribution,
            params: RouteParams::default(),
        }
    }
}

// === impl Timeouts ===

impl Timeouts {
    /// One limit for the whole exchange.
    pub const fn request(limit: Duration) -> Self {
        Self {
            request: Some(limit),
            response: None,
            idle: None,
        }
    }
}

// === impl RouteDistribution ===

impl RouteDistribution {
    /// Nowhere: every request is refused.
    pub const fn empty() -> Self {
        Self(Spread::Empty)
    }

    /// The first backend that can serve.
    ///
    /// # Errors
    /// No backends.
    pub fn first_available(
        backends: impl IntoIterator<Item = RouteBackend>,
    ) -> Result<Self, InvalidPolicy> {
        let backends: Vec<_> = backends.into_iter().collect();
        if backends.is_empty() {
            return Err(InvalidPolicy::new(
                "distribution.first_available",
                "an empty list",
                "at least one backend",
            ));
        }
        Ok(Self(Spread::FirstAvailable(backends)))
    }

    /// One of those that can serve, by weight.
    ///
    /// # Errors
    /// No backends, or not one with a weight above zero.
    pub fn random_available(
        backends: impl IntoIterator<Item = (RouteBackend, u32)>,
    ) -> Result<Self, InvalidPolicy> {
        let backends: Vec<_> = backends.into_iter().collect();
        if backends.iter().all(|(_, weight)| *weight == 0) {
            return Err(InvalidPolicy::new(
                "distribution.random_available",
                if backends.is_empty() {
                    "an empty list"
                } else {
                    "weights that are all zero"
                },
                "at least one backend with a weight above zero",
            ));
        }
        Ok(Self(Spread::RandomAvailable(backends)))
    }

    /// The backends with their weights; one each where weights do not apply.
    pub fn backends(&self) -> impl Iterator<Item = (&RouteBackend, u32)> + '_ {
        let (first, random): (&[RouteBackend], &[(RouteBackend, u32)]) = match &self.0 {
            Spread::Empty => (&[], &[]),
            Spread::FirstAvailable(backends) => (backends, &[]),
            Spread::RandomAvailable(backends) => (&[], backends),
        };
        first
            .iter()
            .map(|backend| (backend, 1))
            .chain(random.iter().map(|(backend, weight)| (backend, *weight)))
    }

    pub(crate) fn spread(&self) -> &Spread {
        &self.0
    }
}

// === impl RouteBackend ===

impl From<Arc<Backend>> for RouteBackend {
    fn from(backend: Arc<Backend>) -> Self {
        Self {
            filters: Vec::new(),
            backend,
        }
    }
}
