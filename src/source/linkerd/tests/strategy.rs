//! Every policy that a message can carry.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use crate::policy::*;
use crate::source::linkerd::family::{Family, Grpc, Http, Tls};
use crate::source::linkerd::read::fails;

/// Any time that a message can say, with those at the edges more often than not.
fn time() -> BoxedStrategy<Duration> {
    let most = i64::MAX.unsigned_abs();
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::from_nanos(1)),
        Just(Duration::new(most, 999_999_999)),
        (0..100_000_u64).prop_map(Duration::from_millis),
        (0..=most, 0..1_000_000_000_u32).prop_map(|(secs, nanos)| Duration::new(secs, nanos)),
    ]
    .boxed()
}

fn ratio() -> BoxedStrategy<Ratio> {
    let ppm = |ppm| Ratio::parts_per_million(ppm).unwrap();
    prop_oneof![
        Just(Ratio::ZERO),
        Just(Ratio::ONE),
        (0..=1_000_000_u32).prop_map(ppm)
    ]
    .boxed()
}

/// 24 bits hold every millionth below 16; beyond that whole numbers.
fn jitter() -> BoxedStrategy<Ratio> {
    prop_oneof![
        0..16_000_000_u32,
        (0..=100_u32).prop_map(|whole| whole * 1_000_000)
    ]
    .prop_map(|ppm| Ratio::parts_per_million(ppm).unwrap())
    .boxed()
}

fn backoff() -> BoxedStrategy<ExponentialBackoff> {
    (time(), time(), jitter())
        .prop_map(|(a, b, jitter)| {
            let max = a.max(b).max(Duration::from_nanos(1));
            ExponentialBackoff::try_new(a.min(b), max, jitter).unwrap()
        })
        .boxed()
}

fn word() -> BoxedStrategy<String> {
    prop_oneof!["[a-z0-9.-]{1,6}", "\\PC{1,3}"].boxed()
}

fn text() -> BoxedStrategy<String> {
    prop_oneof![Just(String::new()), word(), "\\PC{1,3}\n"].boxed()
}

fn meta() -> BoxedStrategy<Arc<Meta>> {
    let resource = (word(), word(), word(), word(), of(word()), any::<u16>());
    let resource = resource.prop_map(|(group, kind, namespace, name, section, port)| {
        let mut resource = Resource::new(group, kind, namespace, name).unwrap();
        if let Some(section) = section {
            resource = resource.with_section(section);
        }
        if let Some(port) = std::num::NonZeroU16::new(port) {
            resource = resource.with_port(port);
        }
        Meta::Resource(resource)
    });
    prop_oneof![text().prop_map(Meta::default_named), resource]
        .prop_map(Arc::new)
        .boxed()
}

fn pattern() -> BoxedStrategy<Pattern> {
    select(vec![
        "",
        "a+",
        "/foo/\\d+",
        "(?x) a # b",
        "[^/]*|b",
        "\u{e9}",
    ])
    .prop_map(|text| Pattern::new(text).unwrap())
    .boxed()
}

fn host() -> BoxedStrategy<MatchHost> {
    prop_oneof![
        text().prop_map(MatchHost::Exact),
        vec(text(), 0..4).prop_map(|reverse_labels| MatchHost::Suffix { reverse_labels }),
    ]
    .boxed()
}

fn name() -> BoxedStrategy<HeaderName> {
    "[a-z][a-z0-9-]{0,5}"
        .prop_map(|name| HeaderName::from_bytes(name.as_bytes()).unwrap())
        .boxed()
}

fn value() -> BoxedStrategy<HeaderValue> {
    let byte = prop_oneof![0x20_u8..0x7f, 0x80_u8..=0xff, Just(b'\t')];
    vec(byte, 0..5)
        .prop_map(|bytes| HeaderValue::from_bytes(&bytes).unwrap())
        .boxed()
}

fn header() -> BoxedStrategy<MatchHeader> {
    let matched = prop_oneof![
        value().prop_map(MatchHeaderValue::Exact),
        pattern().prop_map(MatchHeaderValue::Regex),
    ];
    (name(), matched)
        .prop_map(|(name, value)| MatchHeader { name, value })
        .boxed()
}

fn absolute() -> BoxedStrategy<String> {
    text().prop_map(|path| format!("/{path}")).boxed()
}

fn path() -> BoxedStrategy<MatchPath> {
    prop_oneof![
        absolute().prop_map(MatchPath::Exact),
        select(vec!["", "*"]).prop_map(|path| MatchPath::Exact(path.to_owned())),
        absolute().prop_map(MatchPath::Prefix),
        pattern().prop_map(MatchPath::Regex),
    ]
    .boxed()
}

fn method() -> BoxedStrategy<Method> {
    let known = vec![
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::PATCH,
        Method::OPTIONS,
        Method::CONNECT,
        Method::HEAD,
        Method::TRACE,
    ];
    prop_oneof![
        select(known),
        "[A-Za-z!#]{1,18}".prop_map(|method| method.parse().unwrap())
    ]
    .boxed()
}

fn query_param() -> BoxedStrategy<MatchQueryParam> {
    let matched = prop_oneof![
        text().prop_map(MatchQueryValue::Exact),
        pattern().prop_map(MatchQueryValue::Regex),
    ];
    (text(), matched)
        .prop_map(|(name, value)| MatchQueryParam { name, value })
        .boxed()
}

fn request() -> BoxedStrategy<MatchRequest> {
    let parts = (
        of(path()),
        vec(header(), 0..2),
        vec(query_param(), 0..2),
        of(method()),
    );
    parts
        .prop_map(|(path, headers, query_params, method)| MatchRequest {
            path,
            headers,
            query_params,
            method,
        })
        .boxed()
}

fn rpc() -> BoxedStrategy<MatchRpc> {
    (of(word()), of(word()), vec(header(), 0..2))
        .prop_map(|(service, method, headers)| MatchRpc {
            service,
            method,
            headers,
        })
        .boxed()
}

fn modify() -> BoxedStrategy<ModifyHeader> {
    let headers = || vec((name(), value()), 0..3);
    (headers(), headers(), vec(name(), 0..2))
        .prop_map(|(add, set, remove)| ModifyHeader { add, set, remove })
        .boxed()
}

fn redirect() -> BoxedStrategy<RedirectRequest> {
    let scheme = select(vec!["http", "https", "ftp"]).prop_map(|s| s.parse::<Scheme>().unwrap());
    let host = select(vec!["example.com", "10.0.0.1", "[::1]", "a."]);
    let path = prop_oneof![
        absolute().prop_map(ModifyPath::ReplaceFullPath),
        text().prop_map(ModifyPath::ReplacePrefixMatch),
    ];
    let parts = (
        of(scheme),
        of(host),
        of(path),
        of(1..=u16::MAX),
        300..400_u16,
    );
    parts
        .prop_map(|(scheme, host, path, port, status)| {
            let status = StatusCode::from_u16(status).unwrap();
            let mut redirect = RedirectRequest::new().with_status(status).unwrap();
            if let Some(host) = host {
                redirect = redirect.with_host(host).unwrap();
            }
            (redirect.scheme, redirect.path, redirect.port) = (scheme, path, port);
            redirect
        })
        .boxed()
}

fn http_filter() -> BoxedStrategy<Filter> {
    let failure = (100..1000_u16, text(), ratio()).prop_map(|(status, message, ratio)| {
        let status = StatusCode::from_u16(status).unwrap();
        InjectFailure::new(status, message, ratio).unwrap()
    });
    prop_oneof![
        failure.prop_map(Filter::InjectFailure),
        redirect().prop_map(Filter::Redirect),
        modify().prop_map(Filter::RequestHeaders),
        modify().prop_map(Filter::ResponseHeaders),
    ]
    .boxed()
}

fn grpc_filter() -> BoxedStrategy<GrpcFilter> {
    let code = prop_oneof![1..=16_u16, Just(500)];
    let failure = (code, text(), ratio())
        .prop_map(|(code, message, ratio)| InjectGrpcFailure::new(code, message, ratio).unwrap());
    prop_oneof![
        failure.prop_map(GrpcFilter::InjectFailure),
        modify().prop_map(GrpcFilter::RequestHeaders),
    ]
    .boxed()
}

fn connection_filter() -> BoxedStrategy<ConnectionFilter> {
    prop_oneof![
        Just(ConnectionFilter::Forbidden),
        text().prop_map(|message| ConnectionFilter::Invalid { message }),
    ]
    .boxed()
}

fn load() -> BoxedStrategy<Load> {
    let ewma = || {
        (time(), time()).prop_map(|(decay, rtt)| {
            PeakEwma::try_new(decay.max(Duration::from_nanos(1)), rtt).unwrap()
        })
    };
    let penalty = (ewma(), time(), time(), time()).prop_map(|(ewma, a, b, c)| {
        let mut load = PenaltyPeakEwma::new(ewma);
        (load.penalty, load.penalty_decay, load.max_retry_after) = (a, b, c);
        load
    });
    prop_oneof![
        ewma().prop_map(Load::PeakEwma),
        penalty.prop_map(Load::PenaltyPeakEwma)
    ]
    .boxed()
}

fn address() -> BoxedStrategy<SocketAddr> {
    (any::<IpAddr>(), 1..=u16::MAX)
        .prop_map(SocketAddr::from)
        .boxed()
}

fn dispatcher() -> BoxedStrategy<Option<BackendDispatcher>> {
    prop_oneof![
        Just(None),
        address().prop_map(|address| Some(BackendDispatcher::Forward(address))),
        (load(), word()).prop_map(|(load, path)| {
            let discovery = EndpointDiscovery::DestinationGet { path };
            Some(BackendDispatcher::BalanceP2c(load, discovery))
        }),
    ]
    .boxed()
}

/// `refusal` is the message of a filter that refuses everything.
fn backend<F: Clone + std::fmt::Debug + 'static>(
    filter: BoxedStrategy<F>,
    refusal: fn(&F) -> Option<&str>,
) -> BoxedStrategy<RouteBackend<F>> {
    let queue = (any::<u32>(), time()).prop_map(|(capacity, failfast_timeout)| Queue {
        capacity: capacity as usize,
        failfast_timeout,
    });
    (meta(), queue, dispatcher(), vec(filter, 0..2))
        .prop_map(move |(meta, queue, dispatcher, filters)| {
            let message = fails(&meta, filters.iter().find_map(refusal));
            RouteBackend {
                backend: Arc::new(Backend {
                    meta,
                    queue,
                    dispatcher: dispatcher.unwrap_or(BackendDispatcher::Fail { message }),
                }),
                filters,
            }
        })
        .boxed()
}

fn distribution<F: Clone + std::fmt::Debug + 'static>(
    filter: BoxedStrategy<F>,
    refusal: fn(&F) -> Option<&str>,
) -> BoxedStrategy<RouteDistribution<F>> {
    let backend = backend(filter, refusal).boxed();
    let weighed = vec((backend.clone(), any::<u32>()), 1..3);
    let weighed = weighed.prop_map(|mut backends| {
        // Not all zero.
        backends[0].1 = backends[0].1.max(1);
        RouteDistribution::random_available(backends).unwrap()
    });
    prop_oneof![
        Just(RouteDistribution::empty()),
        vec(backend, 1..3).prop_map(|list| RouteDistribution::first_available(list).unwrap()),
        weighed,
    ]
    .boxed()
}

fn retry(grpc: bool) -> BoxedStrategy<Retry> {
    let statuses = vec((1..600_u16, 1..600_u16), 0..3);
    let codes = vec(select(vec![1_u16, 4, 8, 13, 14]), 0..3);
    let parts = (
        statuses,
        codes,
        any::<u16>(),
        any::<u32>(),
        of(time()),
        of(backoff()),
    );
    parts
        .prop_map(move |(statuses, codes, limit, bytes, timeout, backoff)| {
            let mut retry = Retry::never_on_status()
                .limit(limit)
                .max_request_bytes(bytes as usize)
                .no_backoff();
            if grpc {
                retry = retry.and_on_codes(codes);
            } else {
                for (a, b) in statuses {
                    retry = retry.and_on(a.min(b)..=a.max(b));
                }
            }
            if let Some(timeout) = timeout {
                retry = retry.timeout(timeout);
            }
            if let Some(backoff) = backoff {
                retry = retry.backoff(backoff);
            }
            retry.build().unwrap()
        })
        .boxed()
}

fn params(grpc: bool) -> BoxedStrategy<RouteParams> {
    let timeouts = (of(time()), of(time()), of(time()));
    let timeouts = timeouts.prop_map(|(request, response, idle)| Timeouts {
        request,
        response,
        idle,
    });
    (timeouts, of(retry(grpc)), any::<bool>())
        .prop_map(|(timeouts, retry, allow)| RouteParams {
            timeouts,
            retry,
            allow_l5d_request_headers: allow,
            ..RouteParams::default()
        })
        .boxed()
}

fn routes<M, F>(
    matched: BoxedStrategy<M>,
    filter: BoxedStrategy<F>,
    refusal: fn(&F) -> Option<&str>,
    grpc: bool,
) -> BoxedStrategy<Vec<Route<M, F>>>
where
    M: Clone + std::fmt::Debug + 'static,
    F: Clone + std::fmt::Debug + 'static,
{
    let rule = (
        vec(matched, 0..3),
        vec(filter.clone(), 0..2),
        distribution(filter, refusal),
        params(grpc),
    );
    let route = (meta(), vec(host(), 0..2), vec(rule, 1..3)).prop_map(|(meta, hosts, rules)| {
        let rules = rules.into_iter();
        let rules = rules.map(|(matches, filters, distribution, params)| Rule {
            matches,
            policy: RoutePolicy {
                meta: Arc::clone(&meta),
                filters,
                distribution,
                params,
            },
        });
        Route {
            hosts,
            rules: rules.collect(),
        }
    });
    vec(route, 0..2).boxed()
}

fn accrual() -> BoxedStrategy<FailureAccrual> {
    let unified = (ratio(), time(), 0..=1_000_000_u32, any::<u32>(), backoff());
    let unified = unified.prop_map(|(threshold, window, min, max, backoff)| {
        let window = match threshold {
            Ratio::ZERO => window,
            _ => window.max(Unified::MIN_WINDOW),
        };
        Unified::try_new(threshold, window, min, max, backoff).unwrap()
    });
    let consecutive = (any::<u32>(), backoff())
        .prop_map(|(max, backoff)| FailureAccrual::consecutive(max).backoff(backoff));
    let any_of = prop_oneof![consecutive, unified.prop_map(FailureAccrual::from)];
    (any_of, of(any::<u32>()), any::<bool>())
        .prop_map(|(mut accrual, floor, hint)| {
            accrual.extensions_mut().respect_retry_after = hint;
            if let Some(floor) = floor {
                accrual = accrual.min_ready_endpoints(floor);
            }
            accrual
        })
        .boxed()
}

fn http() -> BoxedStrategy<HttpPolicy> {
    let refusal = <Http as Family>::refusal;
    let routes = routes(request().boxed(), http_filter().boxed(), refusal, false);
    (routes, of(accrual()))
        .prop_map(|(routes, failure_accrual)| HttpPolicy {
            routes,
            failure_accrual,
        })
        .boxed()
}

fn connections() -> BoxedStrategy<ConnectionRoute> {
    let refusal = <Tls as Family>::refusal;
    let distribution = distribution(connection_filter().boxed(), refusal);
    let parts = (meta(), vec(connection_filter(), 0..3), distribution);
    parts
        .prop_map(|(meta, filters, distribution)| ConnectionRoute {
            meta,
            filters,
            distribution,
        })
        .boxed()
}

fn opaque() -> BoxedStrategy<OpaquePolicy> {
    of(connections())
        .prop_map(|route| OpaquePolicy { route })
        .boxed()
}

fn protocol() -> BoxedStrategy<Protocol> {
    let refusal = <Grpc as Family>::refusal;
    let grpc = routes(rpc().boxed(), grpc_filter().boxed(), refusal, true);
    let grpc = (grpc, of(accrual())).prop_map(|(routes, failure_accrual)| GrpcPolicy {
        routes,
        failure_accrual,
    });
    let tls = (vec(host(), 0..3), connections());
    let tls = tls.prop_map(|(snis, route)| TlsRoute { snis, route });
    let tls = vec(tls, 0..3).prop_map(|routes| TlsPolicy { routes });
    prop_oneof![
        (time(), http(), http(), opaque()).prop_map(|(timeout, http1, http2, opaque)| {
            Protocol::Detect {
                timeout,
                http1,
                http2,
                opaque,
            }
        }),
        http().prop_map(Protocol::Http1),
        http().prop_map(Protocol::Http2),
        grpc.prop_map(Protocol::Grpc),
        opaque().prop_map(Protocol::Opaque),
        tls.prop_map(Protocol::Tls),
    ]
    .boxed()
}

pub(super) fn policy() -> BoxedStrategy<ClientPolicy> {
    (meta(), protocol())
        .prop_map(|(parent, protocol)| ClientPolicy {
            parent,
            protocol,
            fidelity: Fidelity::default(),
            failures: None,
        })
        .boxed()
}
