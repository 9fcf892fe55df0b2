//! The four kinds of routes.

use linkerd2_proxy_api::outbound as api;

use super::{
    Family, Grpc, Http, Opaque, Params, Parts, Read, Requests, Route, Rule, Tls, Tries, Used,
};
use crate::policy::{
    ConnectionFilter, Filter, GrpcFilter, InjectFailure, InjectGrpcFailure, MatchRequest, MatchRpc,
    Ratio, Retry, RetryBuilder,
};
use crate::source::linkerd::problem::{At, Effect, Problems};
use crate::source::linkerd::{read, write};

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
        read::http_filter(problems, at, filter)
    }

    fn write(problems: &mut Problems, at: &At<'_>, filter: &Filter) -> Option<Self::Wire> {
        Some(write::http_filter(problems, at, filter))
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
        read::http_match(problems, at, wire)
    }

    fn write_match(
        problems: &mut Problems,
        at: &At<'_>,
        matched: &MatchRequest,
    ) -> Self::WireMatch {
        write::http_match(problems, at, matched)
    }

    fn read_conditions(
        problems: &mut Problems,
        at: &At<'_>,
        conditions: Self::Conditions,
        retry: RetryBuilder,
    ) -> RetryBuilder {
        read::http_conditions(problems, at, conditions, retry)
    }

    fn write_conditions(problems: &mut Problems, at: &At<'_>, retry: &Retry) -> Self::Conditions {
        write::http_conditions(problems, at, retry)
    }
}

// === impl Grpc ===

impl Family for Grpc {
    type Filter = GrpcFilter;
    distribution!(grpc_route, request_timeout);

    fn read(problems: &mut Problems, at: &At<'_>, filter: Self::Wire) -> GrpcFilter {
        read::grpc_filter(problems, at, filter)
    }

    fn write(problems: &mut Problems, at: &At<'_>, filter: &GrpcFilter) -> Option<Self::Wire> {
        write::grpc_filter(problems, at, filter)
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
        read::rpc_match(problems, at, wire)
    }

    fn write_match(problems: &mut Problems, at: &At<'_>, matched: &MatchRpc) -> Self::WireMatch {
        write::rpc_match(problems, at, matched)
    }

    fn read_conditions(
        _: &mut Problems,
        _: &At<'_>,
        conditions: Self::Conditions,
        retry: RetryBuilder,
    ) -> RetryBuilder {
        read::grpc_conditions(conditions, retry)
    }

    fn write_conditions(problems: &mut Problems, at: &At<'_>, retry: &Retry) -> Self::Conditions {
        write::grpc_conditions(problems, at, retry)
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
                        problems.missing(&at.field("kind"), Effect::Refused);
                        ConnectionFilter::Invalid {
                            message: read::not_valid(at),
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
