use std::net::SocketAddr;
use std::sync::Arc;

use linkerd2_proxy_api::{destination, outbound as api};

use super::super::family::{Family, Parts, Used};
use super::super::problem::{At, Effect, Problems};
use super::{meta, required, routes, time};
use crate::policy::{
    Backend, BackendDispatcher, EndpointDiscovery, Load, Meta, PeakEwma, PenaltyPeakEwma, Queue,
    RouteBackend, RouteDistribution,
};

/// Where to. A backend that cannot be read keeps its place and its weight, and what falls to it fails.
pub(super) fn distribution<K: Family>(
    problems: &mut Problems,
    at: &At<'_>,
    wire: Option<K::Distribution>,
) -> RouteDistribution<K::Filter> {
    let Some(parts) = wire.and_then(K::parts) else {
        problems.missing(at, Effect::Refused);
        return RouteDistribution::empty();
    };
    let made = match parts {
        Parts::Empty => return RouteDistribution::empty(),
        Parts::First(backends) => {
            let at = &at.field("first_available");
            let wire = backends.into_iter().enumerate();
            let backends: Vec<_> = wire
                .map(|(n, wire)| used::<K>(problems, &at.item("backends", n), wire))
                .collect();
            RouteDistribution::first_available(backends)
        }
        Parts::Random(backends) => {
            let at = &at.field("random_available");
            let wire = backends.into_iter().enumerate();
            let backends: Vec<_> = wire
                .map(|(n, (wire, weight))| {
                    let at = &at.item("backends", n);
                    let at = &at.field("backend");
                    let wire = wire.unwrap_or(Used {
                        backend: None,
                        filters: Vec::new(),
                        timed: false,
                    });
                    (used::<K>(problems, at, wire), weight)
                })
                .collect();
            // The proxy takes one backend for itself, whatever it weighs.
            if let [(one, 0)] = backends.as_slice() {
                let at = &at.item("backends", 0);
                let message = "found 0, for the only backend; it is used all the same";
                problems.add(&at.field("weight"), Effect::Ignored, message);
                RouteDistribution::first_available([one.clone()])
            } else {
                RouteDistribution::random_available(backends)
            }
        }
    };
    made.unwrap_or_else(|error| {
        problems.invalid(at, Effect::Refused, &error);
        RouteDistribution::empty()
    })
}

fn used<K: Family>(
    problems: &mut Problems,
    at: &At<'_>,
    wire: Used<K::Wire>,
) -> RouteBackend<K::Filter> {
    let filters = routes::filters::<K>(problems, at, wire.filters);
    if wire.timed {
        let message = "deprecated; the timeout of retries is what counts";
        problems.add(&at.field("request_timeout"), Effect::Ignored, message);
    }
    // What the control plane has to say of a backend that does not exist.
    let refusal = filters.iter().find_map(K::refusal);
    let backend = backend(problems, &at.field("backend"), wire.backend, refusal);
    RouteBackend {
        filters,
        backend: Arc::new(backend),
    }
}

/// Why requests fail that fall to a backend without anything behind it.
pub(in super::super) fn fails(meta: &Meta, refusal: Option<&str>) -> String {
    match refusal {
        Some(message) => message.to_owned(),
        None => format!("the policy says nobody is behind {meta}"),
    }
}

fn backend(
    problems: &mut Problems,
    at: &At<'_>,
    wire: Option<api::Backend>,
    refusal: Option<&str>,
) -> Backend {
    use api::backend::Kind;
    let Some(wire) = wire else {
        problems.missing(at, Effect::Refused);
        let meta = Arc::new(Meta::default_named(meta::UNNAMED));
        return Backend {
            queue: Queue::default(),
            dispatcher: BackendDispatcher::Fail {
                message: fails(&meta, refusal),
            },
            meta,
        };
    };
    let meta = meta::meta(problems, &at.field("metadata"), wire.metadata);
    let queue = queue(problems, &at.field("queue"), wire.queue);
    let dispatcher = match wire.kind {
        Some(Kind::Forward(wire)) => forward(problems, &at.field("forward"), wire),
        Some(Kind::Balancer(wire)) => balancer(problems, &at.field("balancer"), wire),
        // The mesh's word for a backend that does not exist.
        None => None,
    };
    Backend {
        queue,
        dispatcher: dispatcher.unwrap_or_else(|| BackendDispatcher::Fail {
            message: fails(&meta, refusal),
        }),
        meta,
    }
}

/// The mesh's proxy refuses a policy without it, and then uses a queue of its own.
fn queue(problems: &mut Problems, at: &At<'_>, wire: Option<api::Queue>) -> Queue {
    let default = Queue::default();
    let Some(wire) = wire else {
        problems.missing(at, Effect::Default);
        return default;
    };
    let timeout = required(
        problems,
        &at.field("failfast_timeout"),
        wire.failfast_timeout,
    );
    Queue {
        capacity: usize::try_from(wire.capacity).unwrap_or(usize::MAX),
        failfast_timeout: timeout.unwrap_or(default.failfast_timeout),
    }
}

/// One address. All that is said of it besides is about the proxy that is in front of it.
fn forward(
    problems: &mut Problems,
    at: &At<'_>,
    wire: destination::WeightedAddr,
) -> Option<BackendDispatcher> {
    if wire.authority_override.is_some() {
        let message = "only the mesh's own gateways know what to do with it";
        problems.add(&at.field("authority_override"), Effect::Ignored, message);
    }
    let at = &at.field("addr");
    let port = wire.addr.as_ref().map_or(0, |addr| addr.port);
    let Some(addr) = wire.addr else {
        problems.missing(at, Effect::Refused);
        return None;
    };
    if port == 0 || port > u32::from(u16::MAX) {
        let message = format!("found {port}, expected a port from 1 to 65535");
        problems.add(&at.field("port"), Effect::Refused, message);
        return None;
    }
    match SocketAddr::try_from(addr) {
        Ok(addr) => Some(BackendDispatcher::Forward(addr)),
        Err(_) => {
            problems.missing(&at.field("ip"), Effect::Refused);
            None
        }
    }
}

fn balancer(
    problems: &mut Problems,
    at: &At<'_>,
    wire: api::backend::BalanceP2c,
) -> Option<BackendDispatcher> {
    use api::backend::endpoint_discovery::Kind;
    let load = load(problems, at, wire.load);
    let at = &at.field("discovery");
    match wire.discovery.and_then(|discovery| discovery.kind) {
        Some(Kind::Dst(dst)) if dst.path.is_empty() => {
            let message = "found nothing, expected a name and a port";
            problems.add(&at.field("dst").field("path"), Effect::Refused, message);
            None
        }
        Some(Kind::Dst(dst)) => Some(BackendDispatcher::BalanceP2c(
            load,
            EndpointDiscovery::DestinationGet { path: dst.path },
        )),
        None => {
            problems.missing(at, Effect::Refused);
            None
        }
    }
}

fn load(
    problems: &mut Problems,
    at: &At<'_>,
    wire: Option<api::backend::balance_p2c::Load>,
) -> Load {
    use api::backend::balance_p2c::Load as Wire;
    let default = PeakEwma::DEFAULT;
    match wire {
        Some(Wire::PeakEwma(wire)) => {
            let at = &at.field("peak_ewma");
            let decay = required(problems, &at.field("decay"), wire.decay);
            let rtt = required(problems, &at.field("default_rtt"), wire.default_rtt);
            let decay = decay.unwrap_or(default.decay());
            let rtt = rtt.unwrap_or(default.default_rtt());
            Load::PeakEwma(ewma(problems, at, decay, rtt))
        }
        Some(Wire::PenaltyPeakEwma(wire)) => {
            let at = &at.field("penalty_peak_ewma");
            let mut or = |field, wire, default| {
                time(problems, &at.field(field), wire, Effect::Default).unwrap_or(default)
            };
            let decay = or("decay", wire.decay, default.decay());
            let rtt = or("default_rtt", wire.default_rtt, default.default_rtt());
            let mut load = PenaltyPeakEwma::new(default);
            let penalty = or("penalty", wire.penalty, load.penalty);
            let penalty_decay = or("penalty_decay", wire.penalty_decay, load.penalty_decay);
            let max = or(
                "max_retry_after",
                wire.max_retry_after,
                load.max_retry_after,
            );
            load = PenaltyPeakEwma::new(ewma(problems, at, decay, rtt));
            load.penalty = penalty;
            load.penalty_decay = penalty_decay;
            load.max_retry_after = max;
            Load::PenaltyPeakEwma(load)
        }
        None => {
            problems.missing(&at.field("load"), Effect::Default);
            Load::default()
        }
    }
}

fn ewma(
    problems: &mut Problems,
    at: &At<'_>,
    decay: std::time::Duration,
    rtt: std::time::Duration,
) -> PeakEwma {
    PeakEwma::try_new(decay, rtt).unwrap_or_else(|error| {
        problems.invalid(&at.field("decay"), Effect::Default, &error);
        PeakEwma::try_new(PeakEwma::DEFAULT.decay(), rtt).unwrap_or_default()
    })
}
