use std::sync::Arc;
use std::time::Duration;

use super::{
    Backend, Filter, Hedge, InvalidPolicy, MatchHost, MatchRequest, Meta, MethodKind,
    ResponseClasses, Retry,
};

/// A set of rules for some hosts: of HTTP, or with other matches `M` and filters `F` of [gRPC](super::GrpcRoute).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route<M = MatchRequest, F = Filter> {
    /// The hosts it is for; none means every host.
    pub hosts: Vec<MatchHost>,
    /// Its rules. Over all routes the most specific match wins, the first among equals.
    pub rules: Vec<Rule<M, F>>,
}

/// What a request looks like, and what to do with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule<M = MatchRequest, F = Filter> {
    /// Any of these; none means every request.
    pub matches: Vec<M>,
    /// What to do.
    pub policy: RoutePolicy<F>,
}

/// What to do with a request that matched.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoutePolicy<F = Filter> {
    /// Where this comes from.
    pub meta: Arc<Meta>,
    /// Applied in order before a backend is chosen.
    pub filters: Vec<F>,
    /// Where to.
    pub distribution: RouteDistribution<F>,
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
    /// Second attempts beside those that take long; none is none. An extension.
    pub hedge: Option<Hedge>,
    /// Whether a request's `l5d-*` headers may override timeouts and retries.
    pub allow_l5d_request_headers: bool,
    /// What kind of gRPC methods it is for. The mesh has no word for it.
    pub kind: MethodKind,
    /// Which statuses are failures; none is as [`Failures`](super::Failures) say. Only profiles of the mesh have a word for it.
    pub classes: ResponseClasses,
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
pub struct RouteDistribution<F = Filter>(Spread<F>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Spread<F> {
    Empty,
    FirstAvailable(Vec<RouteBackend<F>>),
    RandomAvailable(Vec<(RouteBackend<F>, u32)>),
}

/// A backend as one route uses it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RouteBackend<F = Filter> {
    /// Applied in order after it was chosen.
    pub filters: Vec<F>,
    /// The backend.
    pub backend: Arc<Backend>,
}

// === impl Rule ===

impl<M, F> Rule<M, F> {
    /// For every request.
    pub fn any(policy: RoutePolicy<F>) -> Self {
        Self {
            matches: Vec::new(),
            policy,
        }
    }
}

// === impl RoutePolicy ===

impl<F> RoutePolicy<F> {
    /// Everything to one distribution, without filters, timeouts and retries.
    pub fn new(meta: impl Into<Arc<Meta>>, distribution: RouteDistribution<F>) -> Self {
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

impl<F> RouteDistribution<F> {
    /// Nowhere: every request is refused.
    pub const fn empty() -> Self {
        Self(Spread::Empty)
    }

    /// The first backend that can serve.
    ///
    /// # Errors
    /// No backends.
    pub fn first_available(
        backends: impl IntoIterator<Item = RouteBackend<F>>,
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
        backends: impl IntoIterator<Item = (RouteBackend<F>, u32)>,
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
    pub fn backends(&self) -> impl Iterator<Item = (&RouteBackend<F>, u32)> + '_ {
        let (first, random) = match &self.0 {
            Spread::Empty => (&[][..], &[][..]),
            Spread::FirstAvailable(backends) => (&backends[..], &[][..]),
            Spread::RandomAvailable(backends) => (&[][..], &backends[..]),
        };
        first
            .iter()
            .map(|backend| (backend, 1))
            .chain(random.iter().map(|(backend, weight)| (backend, *weight)))
    }

    pub(crate) fn spread(&self) -> &Spread<F> {
        &self.0
    }
}

// === impl RouteBackend ===

impl<F> From<Arc<Backend>> for RouteBackend<F> {
    fn from(backend: Arc<Backend>) -> Self {
        Self {
            filters: Vec::new(),
            backend,
        }
    }
}
