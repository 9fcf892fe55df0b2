//! Every policy that a message can carry.

mod requests;
mod values;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use crate::policy::*;
use crate::source::linkerd::family::{Family, Grpc, Http, Tls};
use crate::source::linkerd::read::fails;

use self::requests::*;
use self::values::*;
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
