//! Which protocol a port speaks, and so which kind of route is served.

use std::num::NonZeroU16;

use crate::policy::Fidelity;
use crate::source::kubernetes::annotations::Settings;
use crate::source::kubernetes::error::{Error, ErrorKind};
use crate::source::kubernetes::grammar::OpaquePort;
use crate::source::kubernetes::keys;
use crate::source::kubernetes::place::{Mark, Origin, quoted};
use crate::source::kubernetes::route::Kind;
use crate::source::kubernetes::service::{Port, Service, Transport};

/// What a cluster takes for opaque where a Service does not say: SMTP, MySQL, Galera, PostgreSQL, Redis, Elasticsearch,
/// memcached. The default of Linkerd's installation.
const DEFAULT_OPAQUE_PORTS: [u16; 8] = [25, 587, 3306, 4444, 5432, 6379, 9300, 11211];

/// What a port says of itself.
#[derive(Clone, Debug)]
pub(in crate::source::kubernetes) enum Says {
    Http1,
    Http2,
    /// Nothing: the mesh looks.
    Nothing,
    /// Something that is no HTTP, and why that is no policy here.
    Opaque(Box<Error>),
}

// === impl Says ===

impl Says {
    /// Of several kinds of routes, the one that is served.
    pub(in crate::source::kubernetes) fn serves(
        &self,
        kinds: impl Iterator<Item = Kind>,
    ) -> Option<Kind> {
        let eligible = |kind: &Kind| match self {
            Self::Http1 => *kind == Kind::Http,
            Self::Http2 => matches!(kind, Kind::Http | Kind::Grpc),
            Self::Nothing => true,
            Self::Opaque(_) => *kind == Kind::Tcp,
        };
        kinds.filter(eligible).min()
    }

    /// As in messages.
    pub(in crate::source::kubernetes) fn describe(&self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1",
            Self::Http2 => "HTTP/2",
            Self::Nothing => "whatever is detected",
            Self::Opaque(_) => "opaque TCP",
        }
    }
}

/// By `appProtocol`, else by the opaque ports.
pub(in crate::source::kubernetes) fn says(
    service: &Service,
    port: &Port,
    fidelity: Fidelity,
) -> Says {
    let opaque = |error: Error| Says::Opaque(Box::new(error));
    let found = |key: &str, at, message: String| {
        Error::found(ErrorKind::Protocol, &service.origin, key, at, message)
    };
    if port.transport != Transport::Tcp {
        let message = format!(
            "port {} is not TCP, so that it carries no HTTP",
            port.number
        );
        return opaque(found(&format!("{}.protocol", port.path), port.at, message));
    }
    if let Some((protocol, at)) = &port.app_protocol {
        // appProtocol beats opaque-ports.
        return match protocol.to_lowercase().as_str() {
            "http" => Says::Http1,
            "kubernetes.io/h2c" => Says::Http2,
            _ => {
                let message = format!(
                    "found {}, which the mesh forwards as opaque TCP, without any HTTP policy; expected http, \
                     kubernetes.io/h2c or none",
                    quoted(protocol)
                );
                opaque(found(&format!("{}.appProtocol", port.path), *at, message).remedy(
                    "write http for HTTP/1, kubernetes.io/h2c for HTTP/2 and gRPC, or take it away",
                ))
            }
        };
    }
    let remedy = format!("if it speaks HTTP, add appProtocol: http to {}", port.path);
    let place = (&service.origin, port.at, remedy.as_str());
    listed(
        &service.settings,
        port.number,
        port.name.as_deref(),
        place,
        fidelity,
    )
}

/// By the opaque ports of a Service or an EgressNetwork, else by the cluster's. `place` is where the port stands, and what
/// to do about it.
pub(in crate::source::kubernetes) fn listed(
    settings: &Settings,
    number: NonZeroU16,
    name: Option<&str>,
    (origin, at, remedy): (&Origin, Mark, &str),
    fidelity: Fidelity,
) -> Says {
    let opaque = |error: Error| Says::Opaque(Box::new(error));
    if let Some(error) = &settings.opaque_error {
        // The mesh takes a list it cannot read for an empty one.
        return match fidelity {
            Fidelity::Extended => opaque(error.clone()),
            Fidelity::Mesh => Says::Nothing,
        };
    }
    let number = number.get();
    let (listed, by) = match &settings.opaque_ports {
        Some(ports) => (
            ports.iter().any(|opaque| match opaque {
                OpaquePort::Range(range) => range.contains(&number),
                OpaquePort::Named(named) => name == Some(named.as_str()),
            }),
            "that the annotation lists",
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
        let error = Error::found(ErrorKind::Protocol, origin, keys::OPAQUE_PORTS, at, message);
        return opaque(error.remedy(remedy));
    }
    Says::Nothing
}
