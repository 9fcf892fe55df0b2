use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use super::{
    Options, Parent, Says, backend, connections, finish, listed, requests, routes, served,
};
use crate::policy::{
    ClientPolicy, Fidelity, HttpPolicy, InvalidPolicy, Meta, Protocol, RouteBackend,
    RouteDistribution, RoutePolicy,
};
use crate::source::kubernetes::diagnostic::{Diagnostic, Severity};
use crate::source::kubernetes::egress::{EgressNetwork, is_inside};
use crate::source::kubernetes::error::{Error, ErrorKind};
use crate::source::kubernetes::objects::Objects;
use crate::source::kubernetes::place::Origin;
use crate::source::kubernetes::route::ParentKind;
use crate::source::kubernetes::target::Target;

/// Where clients without a network of their own look.
const SHARED: &str = "linkerd-egress";

/// The policy for an address, as a sidecar asks for it: a Service's, an EgressNetwork's, or none in particular.
///
/// # Errors
/// As for a target; and an address inside the cluster that is nobody's.
pub(in crate::source::kubernetes) fn policy(
    objects: &Objects,
    address: SocketAddr,
    options: &Options,
) -> Result<ClientPolicy, Error> {
    let refuse = |message: String| {
        let diagnostic = Diagnostic::new(Severity::Error, &Origin::default(), message);
        Error::new(ErrorKind::ServiceNotFound, diagnostic.key("target"))
    };
    let Some(port) = NonZeroU16::new(address.port()) else {
        return Err(refuse(format!(
            "found {address}, expected a port from 1 to 65535"
        )));
    };
    let named = objects
        .services
        .values()
        .find(|service| service.cluster_ips.contains(&address.ip()));
    if let Some(service) = named {
        let target = Target::new(&service.namespace, &service.name, Some(port));
        // The mesh answers for a port that is not there; a client that names it made a mistake.
        if options.fidelity == Fidelity::Mesh
            && !service.ports.iter().any(|of| of.number == port)
            && let Ok(meta) = Meta::service(&service.namespace, &service.name, Some(port))
        {
            return Ok(ClientPolicy {
                parent: Arc::new(meta),
                protocol: Protocol::Opaque(connections::undefined_port()),
                fidelity: options.fidelity,
                failures: None,
            });
        }
        return super::policy(objects, service, &target, options);
    }
    if let Some(egress) = network(objects, address, options) {
        return egress_policy(objects, egress, address, port, options);
    }
    if is_inside(address.ip()) {
        return Err(refuse(format!(
            "found no Service with the clusterIP {}, which is inside the cluster",
            address.ip()
        )));
    }
    fallback(address, options).map_err(|invalid| refuse(invalid.to_string()))
}

/// Of the client's own networks, else of the shared ones: the smallest block, then the oldest, then the first by name.
fn network<'a>(
    objects: &'a Objects,
    address: SocketAddr,
    options: &Options,
) -> Option<&'a EgressNetwork> {
    let client = options.client.as_deref().unwrap_or("default");
    let of = |namespace: &str| {
        objects
            .egress
            .values()
            .any(|egress| egress.namespace == namespace)
    };
    let namespace = if of(client) { client } else { SHARED };
    let found = objects.egress.values().filter_map(|egress| {
        let bits = (egress.namespace == namespace).then(|| egress.block(address.ip()))??;
        Some((bits, egress))
    });
    let key = |(bits, egress): &(u8, &EgressNetwork)| {
        let age = (egress.created.is_none(), egress.created.clone());
        (u8::MAX - bits, age, egress.name.clone())
    };
    found.min_by_key(key).map(|(_, egress)| egress)
}

fn egress_policy(
    objects: &Objects,
    egress: &EgressNetwork,
    address: SocketAddr,
    port: NonZeroU16,
    options: &Options,
) -> Result<ClientPolicy, Error> {
    if let (Fidelity::Extended, Some(error)) = (options.fidelity, egress.settings.errors.first()) {
        return Err(error.clone());
    }
    let parent = Parent {
        namespace: &egress.namespace,
        name: &egress.name,
        port,
        settings: &egress.settings,
        load: egress.settings.load,
        address: Some(address),
        egress_allows: Some(egress.allow),
    };
    let routes = routes(objects, ParentKind::EgressNetwork, &parent, options)?;
    let remedy =
        "if it speaks HTTP, leave it out of config.linkerd.io/opaque-ports of the EgressNetwork";
    let place = (&egress.origin, egress.at, remedy);
    let says = listed(&egress.settings, port, None, place, options.fidelity);
    if let (Fidelity::Extended, Says::Opaque(error)) = (options.fidelity, &says) {
        return Err((**error).clone());
    }
    let protocol = served(objects, &parent, &says, &routes, options)?;
    finish(&parent, protocol, options).map_err(|invalid| {
        let message = invalid.to_string();
        Error::found(ErrorKind::Field, &egress.origin, "spec", egress.at, message)
    })
}

/// For what nobody wrote a policy for: straight to the address.
fn fallback(address: SocketAddr, options: &Options) -> Result<ClientPolicy, InvalidPolicy> {
    let meta = Arc::new(Meta::default_named("egress-fallback"));
    let backend = RouteBackend::from(backend::forward(Arc::clone(&meta), address));
    let distribution = RouteDistribution::first_available([backend])?;
    let route = requests::everything(RoutePolicy::new(Arc::clone(&meta), distribution));
    Ok(ClientPolicy {
        parent: meta,
        protocol: Protocol::detect(HttpPolicy {
            routes: vec![route],
            failure_accrual: None,
        }),
        fidelity: options.fidelity,
        failures: None,
    })
}
