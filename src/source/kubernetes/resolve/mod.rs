//! What everything that was read comes to for one target.

mod address;
mod backend;
mod connections;
mod profile;
mod protocol;
mod requests;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

pub(super) use self::address::policy as address;
pub(super) use self::backend::invalid as invalid_backend;
pub(super) use self::protocol::{Says, listed, says};
use super::annotations::Settings;
use super::diagnostic::{Diagnostic, Severity};
use super::error::{Error, ErrorKind};
use super::links::Attached;
use super::objects::Objects;
use super::route::{Kind, ParentKind, Route};
use super::service::{Port, Service, Transport};
use super::target::Target;
use crate::policy::{
    Backend, ClientPolicy, DETECT_TIMEOUT, Fidelity, HttpPolicy, InvalidPolicy, Load, Meta,
    OpaquePolicy, Protocol, Resource,
};

/// For whom, and how.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    pub(super) fidelity: Fidelity,
    /// The client's namespace; none is that of the target.
    pub(super) client: Option<String>,
    pub(super) allow_l5d_request_headers: bool,
}

/// What routes are attached to, and what they inherit from.
#[derive(Clone, Copy)]
pub(super) struct Parent<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) port: NonZeroU16,
    pub(super) settings: &'a Settings,
    pub(super) load: Load,
    /// The address that was asked for, of an EgressNetwork.
    pub(super) address: Option<SocketAddr>,
    /// Whether an EgressNetwork lets through what no route is for.
    pub(super) egress_allows: Option<bool>,
}

// === impl Parent ===

impl Parent<'_> {
    pub(super) fn meta(&self) -> Result<Arc<Meta>, InvalidPolicy> {
        Ok(Arc::new(match self.address {
            None => Meta::service(self.namespace, self.name, Some(self.port))?,
            Some(_) => Meta::Resource(
                Resource::new(
                    "policy.linkerd.io",
                    "EgressNetwork",
                    self.namespace,
                    self.name,
                )?
                .with_port(self.port),
            ),
        }))
    }

    /// The parent as a backend.
    pub(super) fn backend(&self) -> Result<Arc<Backend>, InvalidPolicy> {
        match self.address {
            None => backend::balanced(self.namespace, self.name, self.port, self.load),
            Some(address) => Ok(backend::forward(self.meta()?, address)),
        }
    }
}

/// The policy of a Service's port.
///
/// # Errors
/// See [`Manifests::resolve`](super::Manifests::resolve).
pub(super) fn policy(
    objects: &Objects,
    service: &Service,
    target: &Target,
    options: &Options,
) -> Result<ClientPolicy, Error> {
    if let Some(at) = service.external_name {
        let message = "ExternalName: a Service without endpoints, for which there is no policy";
        let kind = ErrorKind::ExternalName;
        return Err(
            Error::found(kind, &service.origin, "spec.type", at, message)
                .remedy("write the policy in Rust, with ClientPolicy::http()"),
        );
    }
    let undefined;
    let port = match (port(service, target), options.fidelity, target.port()) {
        (Ok(port), ..) => port,
        // The mesh does not look whether it is there.
        (Err(_), Fidelity::Mesh, Some(number)) => {
            undefined = Port::undefined(number);
            &undefined
        }
        (Err(error), ..) => return Err(error),
    };
    let says = says(service, port, options.fidelity);
    // A client carries requests only, so that the mesh's policy for the rest is told to those who ask for the mesh's.
    if let Says::Opaque(error) = &says
        && (options.fidelity == Fidelity::Extended || port.transport != Transport::Tcp)
    {
        return Err((**error).clone());
    }
    if let (Fidelity::Extended, Some(error)) = (options.fidelity, service.settings.errors.first()) {
        return Err(error.clone());
    }
    let parent = Parent {
        namespace: &service.namespace,
        name: &service.name,
        port: port.number,
        settings: &service.settings,
        load: service.settings.load,
        address: None,
        egress_allows: None,
    };
    let invalid = |invalid: InvalidPolicy| {
        let kind = ErrorKind::Field;
        let message = invalid.to_string();
        Error::found(kind, &service.origin, &port.path, port.at, message)
    };
    let is_http = !matches!(says, Says::Opaque(_));
    if is_http && let Some(profile) = profile::of(objects, service, options)? {
        let http = profile::policy(&parent, profile, options.fidelity).map_err(invalid)?;
        let opaque = connections::opaque(objects, &parent, &[]).map_err(invalid)?;
        return finish(&parent, protocol(&says, http, opaque), options).map_err(invalid);
    }
    let routes = routes(objects, ParentKind::Service, &parent, options)?;
    let protocol = served(objects, &parent, &says, &routes, options)?;
    finish(&parent, protocol, options).map_err(invalid)
}

/// The policy that the mesh has for a Service that is not there: that of one about which nothing is said.
///
/// # Errors
/// A name that is none.
pub(super) fn unknown(
    objects: &Objects,
    target: &Target,
    options: &Options,
) -> Result<ClientPolicy, Error> {
    // Without a port it is HTTP's own.
    let number = target.port().unwrap_or(NonZeroU16::MIN.saturating_add(79));
    let service = Service {
        origin: Default::default(),
        at: Default::default(),
        namespace: target.namespace().to_owned(),
        name: target.name().to_owned(),
        external_name: None,
        headless: None,
        cluster_ips: Vec::new(),
        ports: vec![Port::undefined(number)],
        settings: Settings::default(),
    };
    policy(objects, &service, target, options)
}

fn finish(
    parent: &Parent<'_>,
    protocol: Protocol,
    options: &Options,
) -> Result<ClientPolicy, InvalidPolicy> {
    Ok(ClientPolicy {
        parent: parent.meta()?,
        protocol,
        fidelity: options.fidelity,
        failures: None,
    })
}

fn protocol(says: &Says, http: HttpPolicy, opaque: OpaquePolicy) -> Protocol {
    match says {
        Says::Http1 => Protocol::Http1(http),
        Says::Http2 => Protocol::Http2(http),
        Says::Opaque(_) => Protocol::Opaque(opaque),
        Says::Nothing => Protocol::Detect {
            timeout: DETECT_TIMEOUT,
            http1: http.clone(),
            http2: http,
            opaque,
        },
    }
}

/// The routes that this client has of this parent, in order.
///
/// # Errors
/// One that is not valid, unless it is to be left out as in the mesh.
fn routes<'a>(
    objects: &'a Objects,
    kind: ParentKind,
    parent: &Parent<'_>,
    options: &Options,
) -> Result<Vec<&'a Route>, Error> {
    let client = options.client.as_deref().unwrap_or(parent.namespace);
    let attached = objects.links.of(kind, parent.namespace, parent.name);
    let mut routes: Vec<&Route> = Vec::new();
    for Attached {
        route,
        port,
        accepted,
    } in attached
    {
        let Some(route) = objects.routes.get(*route) else {
            continue;
        };
        // A route of the parent's namespace is for everybody, another for its own namespace's clients.
        let for_us = route.namespace == parent.namespace || route.namespace == client;
        if !for_us || port.is_some_and(|port| port != parent.port) {
            continue;
        }
        match route.errors.first() {
            Some(error) if options.fidelity == Fidelity::Extended => return Err(error.clone()),
            Some(_) => {}
            None if *accepted && !routes.iter().any(|other| std::ptr::eq(*other, route)) => {
                routes.push(route);
            }
            None => {}
        }
    }
    Ok(routes)
}

/// The protocol, with the routes of the one kind that is served.
fn served(
    objects: &Objects,
    parent: &Parent<'_>,
    says: &Says,
    routes: &[&Route],
    options: &Options,
) -> Result<Protocol, Error> {
    let kind = says.serves(routes.iter().map(|route| route.kind));
    let served: Vec<&Route> = routes
        .iter()
        .copied()
        .filter(|route| Some(route.kind) == kind)
        .collect();
    let invalid = |invalid: InvalidPolicy| {
        let (origin, at) = match served.first() {
            Some(route) => (route.origin.clone(), route.at),
            None => Default::default(),
        };
        Error::found(ErrorKind::Field, &origin, "spec", at, invalid.to_string())
    };
    if let (Fidelity::Extended, Some(kind @ (Kind::Tls | Kind::Tcp)), Some(first)) =
        (options.fidelity, kind, served.first())
    {
        let what = match kind {
            Kind::Tls => "TLS by its server name",
            _ => "TCP",
        };
        let message = format!(
            "decides that {}.{}:{} is no HTTP: the mesh forwards {what}, without any HTTP policy",
            parent.name, parent.namespace, parent.port
        );
        return Err(Error::found(
            ErrorKind::Protocol,
            &first.origin,
            "kind",
            first.at,
            message,
        ));
    }
    // What is explicitly no HTTP has no failures to weigh.
    let plain = Parent {
        load: Load::default(),
        ..*parent
    };
    match kind {
        _ if matches!(says, Says::Opaque(_)) => connections::opaque(objects, &plain, &served)
            .map(Protocol::Opaque)
            .map_err(invalid),
        Some(Kind::Grpc) => requests::grpc(objects, parent, &served, options)
            .map(Protocol::Grpc)
            .map_err(invalid),
        Some(Kind::Tls) => connections::tls(objects, &plain, &served)
            .map(Protocol::Tls)
            .map_err(invalid),
        Some(Kind::Tcp) => connections::opaque(objects, &plain, &served)
            .map(Protocol::Opaque)
            .map_err(invalid),
        Some(Kind::Http) | None => {
            let http = requests::http(objects, parent, &served, options).map_err(invalid)?;
            let opaque = connections::opaque(objects, parent, &[]).map_err(invalid)?;
            Ok(protocol(says, http, opaque))
        }
    }
}

/// The port that a target names.
pub(super) fn port<'a>(service: &'a Service, target: &Target) -> Result<&'a Port, Error> {
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
