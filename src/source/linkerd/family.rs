use super::problem::{At, Problems};
use crate::policy::{
    ConnectionFilter, Filter, GrpcFilter, InjectFailure, InjectGrpcFailure, MatchRequest, MatchRpc,
    Ratio, Retry, RetryBuilder,
};
use linkerd2_proxy_api::outbound as api;

/// The messages have four kinds of routes, which differ in their matches and filters and are otherwise the same four times
/// over. What differs is in here, so that the rest is written once.
pub(super) trait Family {
    /// A filter of the policy.
    type Filter: Clone + PartialEq;
    /// A filter of the message.
    type Wire;
    type Distribution;

    fn parts(distribution: Self::Distribution) -> Option<Parts<Self::Wire>>;
    fn distribution(parts: Parts<Self::Wire>) -> Self::Distribution;
    fn read(problems: &mut Problems, at: &At<'_>, filter: Self::Wire) -> Self::Filter;
    /// None if there is no word for it.
    fn write(problems: &mut Problems, at: &At<'_>, filter: &Self::Filter) -> Option<Self::Wire>;
    /// A filter that refuses everything.
    fn refusing(message: String) -> Self::Filter;
    /// The message of a filter that refuses everything, if it is one.
    fn refusal(filter: &Self::Filter) -> Option<&str>;
}

/// A family whose routes are for requests.
pub(super) trait Requests: Family {
    type Match: Clone;
    type WireMatch;
    type Conditions;
    type Route;

    fn route(route: Self::Route) -> Route<Self>;
    fn whole(route: Route<Self>) -> Self::Route;
    fn read_match(problems: &mut Problems, at: &At<'_>, wire: Self::WireMatch)
    -> Read<Self::Match>;
    fn write_match(problems: &mut Problems, at: &At<'_>, matched: &Self::Match) -> Self::WireMatch;
    fn read_conditions(
        problems: &mut Problems,
        at: &At<'_>,
        conditions: Self::Conditions,
        retry: RetryBuilder,
    ) -> RetryBuilder;
    fn write_conditions(problems: &mut Problems, at: &At<'_>, retry: &Retry) -> Self::Conditions;
}

/// What became of a match.
pub(super) enum Read<M> {
    Is(M),
    /// Nothing can ever match it.
    Never,
    /// Not known what it was for, but nothing that does not match this.
    Within(M),
}

pub(super) enum Parts<W> {
    Empty,
    First(Vec<Used<W>>),
    /// With weights.
    Random(Vec<(Option<Used<W>>, u32)>),
}

pub(super) struct Used<W> {
    pub(super) backend: Option<api::Backend>,
    pub(super) filters: Vec<W>,
    /// Deprecated; only whether it is there.
    pub(super) timed: bool,
}

pub(super) struct Route<K: Requests + ?Sized> {
    pub(super) metadata: Option<linkerd2_proxy_api::meta::Metadata>,
    pub(super) hosts: Vec<linkerd2_proxy_api::http_route::HostMatch>,
    pub(super) rules: Vec<Rule<K>>,
}

pub(super) struct Rule<K: Requests + ?Sized> {
    pub(super) matches: Vec<K::WireMatch>,
    pub(super) filters: Vec<K::Wire>,
    pub(super) backends: Option<K::Distribution>,
    pub(super) params: Params<K::Conditions>,
}

/// What a rule says of timeouts and retries.
pub(super) struct Params<C> {
    /// Deprecated; it is the request timeout where there is no other.
    pub(super) request_timeout: Option<prost_types::Duration>,
    pub(super) timeouts: Option<linkerd2_proxy_api::http_route::Timeouts>,
    pub(super) retry: Option<Tries<C>>,
    pub(super) allow_l5d_request_headers: bool,
}

/// `Retry`.
pub(super) struct Tries<C> {
    pub(super) max_retries: u32,
    pub(super) max_request_bytes: u32,
    pub(super) conditions: Option<C>,
    pub(super) timeout: Option<prost_types::Duration>,
    pub(super) backoff: Option<api::ExponentialBackoff>,
}

pub(super) struct Http;
pub(super) struct Grpc;
pub(super) struct Opaque;
pub(super) struct Tls;

/// The two functions between the distribution of a family and its parts. `$timeout` is the deprecated field, where there is
/// one.
macro_rules! distribution {
    ($module:ident $(, $timeout:ident)?) => {
        type Wire = api::$module::Filter;
        type Distribution = api::$module::Distribution;

        #[allow(deprecated, reason = "the field is looked at, to say that nobody heeds it")]
        fn parts(distribution: Self::Distribution) -> Option<Parts<Self::Wire>> {
            use api::$module::{RouteBackend, distribution::Kind};
            let used = |backend: RouteBackend| Used {
                timed: false $(|| backend.$timeout.is_some())?,
                backend: backend.backend,
                filters: backend.filters,
            };
            Some(match distribution.kind? {
                Kind::Empty(_) => Parts::Empty,
                Kind::FirstAvailable(first) => {
                    Parts::First(first.backends.into_iter().map(used).collect())
                }
                Kind::RandomAvailable(random) => {
                    let weighed = random.backends.into_iter();
                    Parts::Random(
                        weighed
                            .map(|weighed| (weighed.backend.map(used), weighed.weight))
                            .collect(),
                    )
                }
            })
        }

        #[allow(deprecated, reason = "a field that is not set must be named, too")]
        fn distribution(parts: Parts<Self::Wire>) -> Self::Distribution {
            use api::$module::{RouteBackend, WeightedRouteBackend, distribution};
            let whole = |used: Used<Self::Wire>| RouteBackend {
                backend: used.backend,
                filters: used.filters,
                $($timeout: None,)?
            };
            let kind = match parts {
                Parts::Empty => distribution::Kind::Empty(distribution::Empty {}),
                Parts::First(backends) => {
                    distribution::Kind::FirstAvailable(distribution::FirstAvailable {
                        backends: backends.into_iter().map(whole).collect(),
                    })
                }
                Parts::Random(backends) => {
                    let weighed = backends.into_iter();
                    distribution::Kind::RandomAvailable(distribution::RandomAvailable {
                        backends: weighed
                            .map(|(used, weight)| WeightedRouteBackend {
                                backend: used.map(whole),
                                weight,
                            })
                            .collect(),
                    })
                }
            };
            Self::Distribution { kind: Some(kind) }
        }
    };
}

/// The two functions between a route of requests and its parts.
macro_rules! route {
    ($module:ident, $route:ident) => {
        type Conditions = api::$module::retry::Conditions;
        type Route = api::$route;

        #[allow(deprecated, reason = "older control planes set nothing else")]
        fn route(route: Self::Route) -> Route<Self> {
            let rule = |rule: api::$module::Rule| Rule {
                matches: rule.matches,
                filters: rule.filters,
                backends: rule.backends,
                params: Params {
                    request_timeout: rule.request_timeout,
                    timeouts: rule.timeouts,
                    retry: rule.retry.map(|retry| Tries {
                        max_retries: retry.max_retries,
                        max_request_bytes: retry.max_request_bytes,
                        conditions: retry.conditions,
                        timeout: retry.timeout,
                        backoff: retry.backoff,
                    }),
                    allow_l5d_request_headers: rule.allow_l5d_request_headers,
                },
            };
            Route {
                metadata: route.metadata,
                hosts: route.hosts,
                rules: route.rules.into_iter().map(rule).collect(),
            }
        }

        #[allow(deprecated, reason = "a field that is not set must be named, too")]
        fn whole(route: Route<Self>) -> Self::Route {
            let rule = |rule: Rule<Self>| api::$module::Rule {
                matches: rule.matches,
                filters: rule.filters,
                backends: rule.backends,
                request_timeout: rule.params.request_timeout,
                timeouts: rule.params.timeouts,
                retry: rule.params.retry.map(|retry| api::$module::Retry {
                    max_retries: retry.max_retries,
                    max_request_bytes: retry.max_request_bytes,
                    conditions: retry.conditions,
                    timeout: retry.timeout,
                    backoff: retry.backoff,
                }),
                allow_l5d_request_headers: rule.params.allow_l5d_request_headers,
            };
            api::$route {
                metadata: route.metadata,
                hosts: route.hosts,
                rules: route.rules.into_iter().map(rule).collect(),
            }
        }
    };
}

// === impl Http ===

impl Family for Http {
    type Filter = Filter;
    distribution!(http_route, request_timeout);

    fn read(problems: &mut Problems, at: &At<'_>, filter: Self::Wire) -> Filter {
        super::read::http_filter(problems, at, filter)
    }

    fn write(problems: &mut Problems, at: &At<'_>, filter: &Filter) -> Option<Self::Wire> {
        Some(super::write::http_filter(problems, at, filter))
    }

    fn refusing(message: String) -> Filter {
        let status = http::StatusCode::INTERNAL_SERVER_ERROR;
        Filter::InjectFailure(InjectFailure::always(status, message))
    }

    fn refusal(filter: &Filter) -> Option<&str> {
        match filter {
            Filter::InjectFailure(failure) if failure.ratio() == Ratio::ONE => {
                Some(failure.message())
            }
            _ => None,
        }
    }
}

impl Requests for Http {
    type Match = MatchRequest;
    type WireMatch = linkerd2_proxy_api::http_route::HttpRouteMatch;
    route!(http_route, HttpRoute);

    fn read_match(
        problems: &mut Problems,
        at: &At<'_>,
        wire: Self::WireMatch,
    ) -> Read<MatchRequest> {
        super::read::http_match(problems, at, wire)
    }

    fn write_match(
        problems: &mut Problems,
        at: &At<'_>,
        matched: &MatchRequest,
    ) -> Self::WireMatch {
        super::write::http_match(problems, at, matched)
    }

    fn read_conditions(
        problems: &mut Problems,
        at: &At<'_>,
        conditions: Self::Conditions,
        retry: RetryBuilder,
    ) -> RetryBuilder {
        super::read::http_conditions(problems, at, conditions, retry)
    }

    fn write_conditions(problems: &mut Problems, at: &At<'_>, retry: &Retry) -> Self::Conditions {
        super::write::http_conditions(problems, at, retry)
    }
}

// === impl Grpc ===

impl Family for Grpc {
    type Filter = GrpcFilter;
    distribution!(grpc_route, request_timeout);

    fn read(problems: &mut Problems, at: &At<'_>, filter: Self::Wire) -> GrpcFilter {
        super::read::grpc_filter(problems, at, filter)
    }

    fn write(problems: &mut Problems, at: &At<'_>, filter: &GrpcFilter) -> Option<Self::Wire> {
        super::write::grpc_filter(problems, at, filter)
    }

    fn refusing(message: String) -> GrpcFilter {
        GrpcFilter::InjectFailure(InjectGrpcFailure::internal(message))
    }

    fn refusal(filter: &GrpcFilter) -> Option<&str> {
        match filter {
            GrpcFilter::InjectFailure(failure) if failure.ratio() == Ratio::ONE => {
                Some(failure.message())
            }
            _ => None,
        }
    }
}

impl Requests for Grpc {
    type Match = MatchRpc;
    type WireMatch = linkerd2_proxy_api::grpc_route::GrpcRouteMatch;
    route!(grpc_route, GrpcRoute);

    fn read_match(problems: &mut Problems, at: &At<'_>, wire: Self::WireMatch) -> Read<MatchRpc> {
        super::read::rpc_match(problems, at, wire)
    }

    fn write_match(problems: &mut Problems, at: &At<'_>, matched: &MatchRpc) -> Self::WireMatch {
        super::write::rpc_match(problems, at, matched)
    }

    fn read_conditions(
        _: &mut Problems,
        _: &At<'_>,
        conditions: Self::Conditions,
        retry: RetryBuilder,
    ) -> RetryBuilder {
        super::read::grpc_conditions(conditions, retry)
    }

    fn write_conditions(problems: &mut Problems, at: &At<'_>, retry: &Retry) -> Self::Conditions {
        super::write::grpc_conditions(problems, at, retry)
    }
}

// === impl Opaque and Tls ===

macro_rules! connections {
    ($family:ident, $module:ident) => {
        impl Family for $family {
            type Filter = ConnectionFilter;
            distribution!($module);

            fn read(problems: &mut Problems, at: &At<'_>, filter: Self::Wire) -> ConnectionFilter {
                use api::$module::filter::Kind;
                match filter.kind {
                    Some(Kind::Forbidden(_)) => ConnectionFilter::Forbidden,
                    Some(Kind::Invalid(invalid)) => ConnectionFilter::Invalid {
                        message: invalid.message,
                    },
                    None => {
                        problems.missing(&at.field("kind"), super::Effect::Refused);
                        ConnectionFilter::Invalid {
                            message: super::read::not_valid(at),
                        }
                    }
                }
            }

            fn write(
                _: &mut Problems,
                _: &At<'_>,
                filter: &ConnectionFilter,
            ) -> Option<Self::Wire> {
                use api::$module::filter::Kind;
                use linkerd2_proxy_api::opaque_route::{Forbidden, Invalid};
                let kind = match filter {
                    ConnectionFilter::Forbidden => Kind::Forbidden(Forbidden {}),
                    ConnectionFilter::Invalid { message } => Kind::Invalid(Invalid {
                        message: message.clone(),
                    }),
                };
                Some(Self::Wire { kind: Some(kind) })
            }

            fn refusing(message: String) -> ConnectionFilter {
                ConnectionFilter::Invalid { message }
            }

            fn refusal(filter: &ConnectionFilter) -> Option<&str> {
                match filter {
                    ConnectionFilter::Invalid { message } => Some(message),
                    ConnectionFilter::Forbidden => None,
                }
            }
        }
    };
}

connections!(Opaque, opaque_route);
connections!(Tls, tls_route);
