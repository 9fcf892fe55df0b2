//! A message becomes a policy. Nothing fails: what is not valid is named, and does the least harm.

mod accrual;
mod backend;
mod filter;
mod matches;
mod meta;
mod params;
mod routes;

use std::sync::Arc;
use std::time::Duration;

use linkerd2_proxy_api::outbound as api;

use super::family::{Grpc, Http};
use super::problem::{At, Effect, Problems};
use crate::policy::{
    ClientPolicy, DETECT_TIMEOUT, Fidelity, GrpcPolicy, HttpPolicy, Meta, OpaquePolicy, Protocol,
    TlsPolicy,
};

pub(super) use self::backend::fails;
pub(super) use self::filter::{grpc_filter, http_filter};
pub(super) use self::matches::{http_match, rpc_match};
pub(super) use self::params::{grpc_conditions, http_conditions};

/// What those are told whose requests are refused for something that is not valid.
pub(super) fn not_valid(at: &At<'_>) -> String {
    format!("the policy is not valid: {at}")
}

pub(super) fn policy(problems: &mut Problems, message: api::OutboundPolicy) -> ClientPolicy {
    let at = At::Root;
    let parent = meta::meta(problems, &at.field("metadata"), message.metadata);
    let kind = match message.protocol {
        Some(protocol) => protocol.kind,
        None => None,
    };
    let protocol = match kind {
        Some(kind) => protocol(problems, &at, kind),
        None => {
            problems.missing(&at.field("protocol"), Effect::Refused);
            Protocol::detect(refused(parent.clone(), &at.field("protocol")))
        }
    };
    ClientPolicy {
        parent,
        protocol,
        fidelity: Fidelity::default(),
        failures: None,
    }
}

fn protocol(problems: &mut Problems, at: &At<'_>, kind: api::proxy_protocol::Kind) -> Protocol {
    use api::proxy_protocol::Kind;
    match kind {
        Kind::Detect(detect) => {
            let at = &at.field("detect");
            let timeout = required(problems, &at.field("timeout"), detect.timeout);
            let http1 = detect.http1.map(|http| (http.routes, http.failure_accrual));
            let http2 = detect.http2.map(|http| (http.routes, http.failure_accrual));
            Protocol::Detect {
                timeout: timeout.unwrap_or(DETECT_TIMEOUT),
                http1: detected(problems, &at.field("http1"), http1),
                http2: detected(problems, &at.field("http2"), http2),
                opaque: match detect.opaque {
                    Some(opaque) => routes::opaque(problems, &at.field("opaque"), opaque),
                    None => {
                        // Without a route every connection is refused.
                        problems.missing(&at.field("opaque"), Effect::Refused);
                        OpaquePolicy::default()
                    }
                },
            }
        }
        Kind::Http1(policy) => {
            let (routes, accrual) = (policy.routes, policy.failure_accrual);
            Protocol::Http1(http(problems, &at.field("http1"), routes, accrual))
        }
        Kind::Http2(policy) => {
            let (routes, accrual) = (policy.routes, policy.failure_accrual);
            Protocol::Http2(http(problems, &at.field("http2"), routes, accrual))
        }
        Kind::Grpc(policy) => {
            let at = &at.field("grpc");
            Protocol::Grpc(GrpcPolicy {
                routes: routes::routes::<Grpc>(problems, at, policy.routes),
                failure_accrual: accrual::accrual(problems, at, policy.failure_accrual),
            })
        }
        Kind::Opaque(opaque) => {
            Protocol::Opaque(routes::opaque(problems, &at.field("opaque"), opaque))
        }
        Kind::Tls(tls) => Protocol::Tls(TlsPolicy {
            routes: routes::tls(problems, &at.field("tls"), tls),
        }),
    }
}

fn http(
    problems: &mut Problems,
    at: &At<'_>,
    routes: Vec<api::HttpRoute>,
    accrual: Option<api::FailureAccrual>,
) -> HttpPolicy {
    HttpPolicy {
        routes: routes::routes::<Http>(problems, at, routes),
        failure_accrual: accrual::accrual(problems, at, accrual),
    }
}

type Detected = (Vec<api::HttpRoute>, Option<api::FailureAccrual>);

fn detected(problems: &mut Problems, at: &At<'_>, policy: Option<Detected>) -> HttpPolicy {
    match policy {
        Some((routes, accrual)) => http(problems, at, routes, accrual),
        None => {
            problems.missing(at, Effect::Refused);
            refused(Arc::new(Meta::default_named(meta::UNNAMED)), at)
        }
    }
}

/// Every request is, for what is not valid here.
fn refused(meta: Arc<Meta>, at: &At<'_>) -> HttpPolicy {
    HttpPolicy {
        routes: vec![routes::refused::<Http>(meta, at)],
        failure_accrual: None,
    }
}

/// A time, if it is there and can be one. One that cannot is left out.
fn time(
    problems: &mut Problems,
    at: &At<'_>,
    wire: Option<prost_types::Duration>,
    effect: Effect,
) -> Option<Duration> {
    let wire = wire?.normalized();
    // Not by prost's own conversion: it overflows where a message has the least number of seconds.
    match (u64::try_from(wire.seconds), u32::try_from(wire.nanos)) {
        (Ok(seconds), Ok(nanos)) => Some(Duration::new(seconds, nanos)),
        _ => {
            let found = format!("{} s and {} ns", wire.seconds, wire.nanos);
            problems.add(at, effect, format!("found {found}, expected a time from 0"));
            None
        }
    }
}

/// A time that must be there.
fn required(
    problems: &mut Problems,
    at: &At<'_>,
    wire: Option<prost_types::Duration>,
) -> Option<Duration> {
    if wire.is_none() {
        problems.missing(at, Effect::Default);
    }
    time(problems, at, wire, Effect::Default)
}
