use std::collections::BTreeSet;
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Severity};
use super::error::{Error, ErrorKind};
use super::grammar::OpaquePort;
use super::keys;
use super::place::quoted;
use super::service::{Port, Service, Transport};
use super::target::Target;
use crate::policy::{
    Backend, BackendDispatcher, ClientPolicy, EndpointDiscovery, Fidelity, HttpPolicy,
    InvalidPolicy, MatchPath, MatchRequest, Meta, Protocol, Queue, Route, RouteBackend,
    RouteDistribution, RouteParams, RoutePolicy, Rule,
};

/// What a cluster takes for opaque where a Service does not say: SMTP, MySQL, Galera, PostgreSQL, Redis, Elasticsearch,
/// memcached. The default of Linkerd's installation.
const DEFAULT_OPAQUE_PORTS: [u16; 8] = [25, 587, 3306, 4444, 5432, 6379, 9300, 11211];

/// Which HTTP a port speaks.
enum Speaks {
    Http1,
    Http2,
    Either,
}

/// The policy of a Service's port, as the mesh's control plane makes it of a Service without routes.
///
/// # Errors
/// See [`Manifests::resolve`](super::Manifests::resolve).
pub(super) fn policy(
    service: &Service,
    target: &Target,
    fidelity: Fidelity,
) -> Result<ClientPolicy, Error> {
    if let Some(at) = service.external_name {
        let message = "ExternalName: a Service without endpoints, for which there is no policy";
        let kind = ErrorKind::ExternalName;
        return Err(
            Error::found(kind, &service.origin, "spec.type", at, message)
                .remedy("write the policy in Rust, with ClientPolicy::http()"),
        );
    }
    let port = port(service, target)?;
    let speaks = speaks(service, port, fidelity)?;
    if let (Fidelity::Extended, Some(error)) = (fidelity, service.settings.errors.first()) {
        return Err(error.clone());
    }
    build(service, port, speaks, fidelity).map_err(|invalid| {
        let message = invalid.to_string();
        Error::found(
            ErrorKind::Field,
            &service.origin,
            &port.path,
            port.at,
            message,
        )
    })
}

fn port<'a>(service: &'a Service, target: &Target) -> Result<&'a Port, Error> {
    let not_found = |message: String| {
        Error::found(
            ErrorKind::PortNotFound,
            &service.origin,
            "spec.ports",
            service.at,
            message,
        )
    };
    let Some(first) = service.ports.first() else {
        return Err(not_found("the Service has no ports".to_owned()));
    };
    let numbers: Vec<_> = service.ports.iter().map(describe).collect();
    let numbers = numbers.join(", ");
    let Some(number) = target.port() else {
        return match service.ports.as_slice() {
            [only] => Ok(only),
            _ => Err(not_found(format!(
                "found the target {target} without a port, expected one of {numbers}"
            ))
            .remedy(format!("write {target}:{}", first.number))),
        };
    };
    // 53 over TCP and 53 over UDP are two ports.
    let named = || service.ports.iter().filter(|port| port.number == number);
    named()
        .find(|port| port.transport == Transport::Tcp)
        .or_else(|| named().next())
        .ok_or_else(|| {
            not_found(format!(
                "found port {number} in the target, expected one of {numbers}"
            ))
        })
}

fn describe(port: &Port) -> String {
    match &port.name {
        Some(name) => format!("{} ({name})", port.number),
        None => port.number.to_string(),
    }
}

fn speaks(service: &Service, port: &Port, fidelity: Fidelity) -> Result<Speaks, Error> {
    let opaque = |key: &str, at, message: String| {
        Error::found(ErrorKind::Protocol, &service.origin, key, at, message)
    };
    if port.transport != Transport::Tcp {
        let message = format!(
            "port {} is not TCP, so that it carries no HTTP",
            port.number
        );
        return Err(opaque(&format!("{}.protocol", port.path), port.at, message));
    }
    if let Some((protocol, at)) = &port.app_protocol {
        // appProtocol beats opaque-ports.
        return match protocol.to_lowercase().as_str() {
            "http" => Ok(Speaks::Http1),
            "kubernetes.io/h2c" => Ok(Speaks::Http2),
            _ => Err(opaque(
                &format!("{}.appProtocol", port.path),
                *at,
                format!(
                    "found {}, which the mesh forwards as opaque TCP, without any HTTP policy; expected http, \
                     kubernetes.io/h2c or none",
                    quoted(protocol)
                ),
            )
            .remedy("write http for HTTP/1, kubernetes.io/h2c for HTTP/2 and gRPC, or take it away")),
        };
    }
    let settings = &service.settings;
    if let Some(error) = &settings.opaque_error {
        // The mesh takes a list it cannot read for an empty one.
        return match fidelity {
            Fidelity::Extended => Err(error.clone()),
            Fidelity::Mesh => Ok(Speaks::Either),
        };
    }
    let number = port.number.get();
    let (listed, by) = match &settings.opaque_ports {
        Some(ports) => (
            ports.iter().any(|opaque| match opaque {
                OpaquePort::Range(range) => range.contains(&number),
                OpaquePort::Named(name) => port.name.as_ref() == Some(name),
            }),
            "of this Service",
        ),
        None => (
            DEFAULT_OPAQUE_PORTS.contains(&number),
            "that every cluster has by default",
        ),
    };
    if listed {
        let message = format!(
            "port {number} is one of the opaque ports {by}: the mesh forwards it as TCP, without any HTTP policy"
        );
        return Err(opaque(keys::OPAQUE_PORTS, port.at, message).remedy(format!(
            "if it speaks HTTP, add appProtocol: http to {}",
            port.path
        )));
    }
    Ok(Speaks::Either)
}

fn build(
    service: &Service,
    port: &Port,
    speaks: Speaks,
    fidelity: Fidelity,
) -> Result<ClientPolicy, InvalidPolicy> {
    let (name, namespace, number) = (&service.name, &service.namespace, port.number);
    let settings = &service.settings;
    let parent = Arc::new(Meta::service(namespace, name, Some(number))?);
    let backend = Arc::new(Backend {
        meta: Arc::clone(&parent),
        queue: Queue::default(),
        dispatcher: BackendDispatcher::BalanceP2c(
            settings.load,
            EndpointDiscovery::DestinationGet {
                path: format!("{name}.{namespace}.svc.cluster.local:{number}"),
            },
        ),
    });
    let distribution = RouteDistribution::first_available([RouteBackend::from(backend)])?;
    let mut policy = RoutePolicy::new(Meta::default_named("http"), distribution);
    policy.params = RouteParams {
        timeouts: settings.timeouts,
        retry: settings.retry.clone(),
        // Never on default routes.
        allow_l5d_request_headers: false,
        ..RouteParams::default()
    };
    let any = MatchRequest {
        path: Some(MatchPath::prefix("/")?),
        ..MatchRequest::default()
    };
    let http = HttpPolicy {
        routes: vec![Route {
            hosts: Vec::new(),
            rules: vec![Rule {
                matches: vec![any],
                policy,
            }],
        }],
        failure_accrual: settings.accrual.clone(),
    };
    Ok(ClientPolicy {
        parent,
        protocol: match speaks {
            Speaks::Http1 => Protocol::Http1(http),
            Speaks::Http2 => Protocol::Http2(http),
            Speaks::Either => Protocol::detect(http),
        },
        fidelity,
        failures: None,
    })
}

/// There is no such Service; these are there.
pub(super) fn not_found(target: &Target, known: &[String], others: &BTreeSet<String>) -> Error {
    // More would bury the rest of the message.
    const SHOWN: usize = 20;
    let shown = |names: &mut dyn Iterator<Item = &str>, all: usize| {
        let shown: Vec<_> = names.take(SHOWN).collect();
        match all.saturating_sub(SHOWN) {
            0 => shown.join(", "),
            n => format!("{} and {n} more", shown.join(", ")),
        }
    };
    let message = if !known.is_empty() {
        let known = shown(&mut known.iter().map(String::as_str), known.len());
        format!("there are {known}")
    } else if others.is_empty() {
        "there is none at all".to_owned()
    } else {
        let others = shown(&mut others.iter().map(String::as_str), others.len());
        format!("there is none at all, only {others}")
    };
    let message = format!("found no Service for {target}; {message}");
    let origin = super::place::Origin::default();
    Error::new(
        ErrorKind::ServiceNotFound,
        Diagnostic::new(Severity::Error, &origin, message).key("target"),
    )
}
