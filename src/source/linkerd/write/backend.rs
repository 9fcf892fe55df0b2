use std::net::SocketAddr;

use linkerd2_proxy_api::{destination, net, outbound as api};

use super::super::family::{Family, Parts, Used};
use super::super::problem::{At, Effect, Problems};
use super::super::read::fails;
use super::{lost, meta, routes, time};
use crate::policy::{
    Backend, BackendDispatcher, EndpointDiscovery, Load, LoadExtensions, PeakEwma, RouteBackend,
    RouteDistribution, Spread,
};

/// What a single address weighs in the messages of the mesh's control plane.
const WEIGHT: u32 = 1;

pub(super) fn distribution<K: Family>(
    problems: &mut Problems,
    at: &At<'_>,
    distribution: &RouteDistribution<K::Filter>,
) -> K::Distribution {
    K::distribution(match distribution.spread() {
        Spread::Empty => Parts::Empty,
        Spread::FirstAvailable(backends) => {
            let at = &at.field("first_available");
            let write = |(n, backend)| used::<K>(problems, &at.item("backends", n), backend);
            Parts::First(backends.iter().enumerate().map(write).collect())
        }
        Spread::RandomAvailable(backends) => {
            let at = &at.field("random_available");
            let write = |(n, (backend, weight)): (usize, &(_, u32))| {
                let at = &at.item("backends", n);
                let used = used::<K>(problems, &at.field("backend"), backend);
                (Some(used), *weight)
            };
            Parts::Random(backends.iter().enumerate().map(write).collect())
        }
    })
}

fn used<K: Family>(
    problems: &mut Problems,
    at: &At<'_>,
    used: &RouteBackend<K::Filter>,
) -> Used<K::Wire> {
    let refusal = used.filters.iter().find_map(K::refusal);
    Used {
        backend: Some(backend(
            problems,
            &at.field("backend"),
            &used.backend,
            refusal,
        )),
        filters: routes::filters::<K>(problems, at, &used.filters),
        timed: false,
    }
}

fn backend(
    problems: &mut Problems,
    at: &At<'_>,
    backend: &Backend,
    refusal: Option<&str>,
) -> api::Backend {
    use api::backend::Kind;
    let kind = match &backend.dispatcher {
        BackendDispatcher::Forward(address) => {
            let at = &at.field("forward");
            Some(Kind::Forward(forward(problems, at, *address)))
        }
        BackendDispatcher::BalanceP2c(load, discovery) => {
            let at = &at.field("balancer");
            Some(Kind::Balancer(balancer(problems, at, load, discovery)))
        }
        BackendDispatcher::Fail { message } => {
            if *message != fails(&backend.meta, refusal) {
                let what = format_args!("why nobody is behind it ({message:?})");
                lost(problems, &at.field("message"), what);
            }
            None
        }
    };
    let at = &at.field("queue");
    let capacity = u32::try_from(backend.queue.capacity);
    if capacity.is_err() {
        let found = backend.queue.capacity;
        let message = format!(
            "found {found}, expected at most {}, which is used",
            u32::MAX
        );
        problems.add(&at.field("capacity"), Effect::LeftOut, message);
    }
    api::Backend {
        metadata: Some(meta(&backend.meta)),
        queue: Some(api::Queue {
            capacity: capacity.unwrap_or(u32::MAX),
            failfast_timeout: time(
                problems,
                &at.field("failfast_timeout"),
                backend.queue.failfast_timeout,
            ),
        }),
        kind,
    }
}

fn forward(problems: &mut Problems, at: &At<'_>, address: SocketAddr) -> destination::WeightedAddr {
    let at = &at.field("addr");
    if address.port() == 0 {
        let message = "found 0, expected a port from 1 to 65535";
        problems.add(&at.field("port"), Effect::Refused, message);
    }
    if let SocketAddr::V6(address) = address
        && (address.scope_id(), address.flowinfo()) != (0, 0)
    {
        lost(
            problems,
            &at.field("ip"),
            "the zone or the flow of an address",
        );
    }
    destination::WeightedAddr {
        addr: Some(net::TcpAddress::from(address)),
        weight: WEIGHT,
        ..destination::WeightedAddr::default()
    }
}

fn balancer(
    problems: &mut Problems,
    at: &At<'_>,
    load: &Load,
    discovery: &EndpointDiscovery,
) -> api::backend::BalanceP2c {
    use api::backend::endpoint_discovery::{DestinationGet, Kind};
    use api::backend::{EndpointDiscovery as Wire, balance_p2c};
    if *load.extensions() != LoadExtensions::DEFAULT {
        let at = at.field("load");
        lost(
            problems,
            &at.field("extensions"),
            "what a load is made of beside latency",
        );
    }
    let EndpointDiscovery::DestinationGet { path } = discovery;
    if path.is_empty() {
        let at = at.field("discovery");
        let at = at.field("dst");
        let message = "found nothing, expected a name and a port";
        problems.add(&at.field("path"), Effect::Refused, message);
    }
    let (decay, rtt) = (load.ewma().decay(), load.ewma().default_rtt());
    let load = match load {
        Load::PenaltyPeakEwma(penalty) => {
            let at = &at.field("penalty_peak_ewma");
            let mut write = |field, given| time(problems, &at.field(field), given);
            balance_p2c::Load::PenaltyPeakEwma(balance_p2c::PenaltyPeakEwma {
                default_rtt: write("default_rtt", rtt),
                decay: write("decay", decay),
                penalty: write("penalty", penalty.penalty),
                max_retry_after: write("max_retry_after", penalty.max_retry_after),
                penalty_decay: write("penalty_decay", penalty.penalty_decay),
            })
        }
        Load::PeakEwma(_) | Load::LeastPending(_) | Load::WeightedRoundRobin(_) => {
            if !matches!(load, Load::PeakEwma(_)) {
                let default = PeakEwma::DEFAULT;
                let message = format!(
                    "the message has no field for a load without latency; expected peak EWMA ({:?}, {:?})",
                    default.default_rtt(),
                    default.decay()
                );
                problems.add(&at.field("load"), Effect::Default, message);
            }
            let at = &at.field("peak_ewma");
            balance_p2c::Load::PeakEwma(balance_p2c::PeakEwma {
                default_rtt: time(problems, &at.field("default_rtt"), rtt),
                decay: time(problems, &at.field("decay"), decay),
            })
        }
    };
    api::backend::BalanceP2c {
        discovery: Some(Wire {
            kind: Some(Kind::Dst(DestinationGet { path: path.clone() })),
        }),
        load: Some(load),
    }
}
