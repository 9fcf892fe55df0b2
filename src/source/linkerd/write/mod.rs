//! A policy becomes a message. What a message has no field for, or what would come back as something else, is named.

mod accrual;
mod backend;
mod filter;
mod matches;
mod params;
mod routes;

use std::time::Duration;

use linkerd2_proxy_api::{meta as wire, outbound as api};

use super::family::{Grpc, Http};
use super::problem::{At, Effect, Problems};
use crate::policy::{ClientPolicy, Fidelity, HttpPolicy, Meta, Protocol};

pub(super) use self::filter::{grpc_filter, http_filter};
pub(super) use self::matches::{http_match, rpc_match};
pub(super) use self::params::{grpc_conditions, http_conditions};

pub(super) fn policy(problems: &mut Problems, policy: &ClientPolicy) -> api::OutboundPolicy {
    let at = &At::Root;
    if policy.fidelity != Fidelity::default() {
        lost(problems, &at.field("fidelity"), "a switch of this crate");
    }
    if policy.failures.is_some() {
        lost(problems, &at.field("failures"), "what a failure is");
    }
    let kind = protocol(problems, at, &policy.protocol);
    api::OutboundPolicy {
        protocol: Some(api::ProxyProtocol { kind: Some(kind) }),
        metadata: Some(meta(&policy.parent)),
    }
}

fn protocol(
    problems: &mut Problems,
    at: &At<'_>,
    protocol: &Protocol,
) -> api::proxy_protocol::Kind {
    use api::proxy_protocol::{Detect, Grpc as WireGrpc, Http1, Http2, Kind};
    match protocol {
        Protocol::Detect {
            timeout,
            http1,
            http2,
            opaque,
        } => {
            let at = &at.field("detect");
            let (one, one_accrual) = http(problems, &at.field("http1"), http1);
            let (two, two_accrual) = http(problems, &at.field("http2"), http2);
            Kind::Detect(Detect {
                timeout: time(problems, &at.field("timeout"), *timeout),
                opaque: Some(routes::opaque(problems, &at.field("opaque"), opaque)),
                http1: Some(Http1 {
                    routes: one,
                    failure_accrual: one_accrual,
                }),
                http2: Some(Http2 {
                    routes: two,
                    failure_accrual: two_accrual,
                }),
            })
        }
        Protocol::Http1(policy) => {
            let (routes, failure_accrual) = http(problems, &at.field("http1"), policy);
            Kind::Http1(Http1 {
                routes,
                failure_accrual,
            })
        }
        Protocol::Http2(policy) => {
            let (routes, failure_accrual) = http(problems, &at.field("http2"), policy);
            Kind::Http2(Http2 {
                routes,
                failure_accrual,
            })
        }
        Protocol::Grpc(policy) => {
            let at = &at.field("grpc");
            Kind::Grpc(WireGrpc {
                routes: routes::routes::<Grpc>(problems, at, &policy.routes),
                failure_accrual: accrual::accrual(problems, at, policy.failure_accrual.as_ref()),
            })
        }
        Protocol::Opaque(policy) => {
            Kind::Opaque(routes::opaque(problems, &at.field("opaque"), policy))
        }
        Protocol::Tls(policy) => Kind::Tls(routes::tls(problems, &at.field("tls"), policy)),
    }
}

fn http(
    problems: &mut Problems,
    at: &At<'_>,
    policy: &HttpPolicy,
) -> (Vec<api::HttpRoute>, Option<api::FailureAccrual>) {
    (
        routes::routes::<Http>(problems, at, &policy.routes),
        accrual::accrual(problems, at, policy.failure_accrual.as_ref()),
    )
}

fn meta(meta: &Meta) -> wire::Metadata {
    use wire::metadata::Kind;
    let kind = match meta {
        Meta::Default { name } => Kind::Default(name.clone()),
        Meta::Resource(resource) => Kind::Resource(wire::Resource {
            group: resource.group().to_owned(),
            kind: resource.kind().to_owned(),
            name: resource.name().to_owned(),
            namespace: resource.namespace().to_owned(),
            section: resource.section().unwrap_or_default().to_owned(),
            port: resource.port().map_or(0, |port| port.get().into()),
        }),
    };
    wire::Metadata { kind: Some(kind) }
}

/// There is no field for it.
fn lost(problems: &mut Problems, at: &At<'_>, what: impl std::fmt::Display) {
    let message = format!("the message has no field for {what}");
    problems.add(at, Effect::LeftOut, message);
}

/// A time; none if it is longer than can be written.
fn time(problems: &mut Problems, at: &At<'_>, time: Duration) -> Option<prost_types::Duration> {
    let wire = prost_types::Duration::try_from(time).ok();
    if wire.is_none() {
        let message = format!("found {time:?}, expected less than 2^63 s");
        problems.add(at, Effect::LeftOut, message);
    }
    wire
}
