use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use http::StatusCode;

use super::Parent;
use crate::policy::{
    Backend, BackendDispatcher, ConnectionFilter, EndpointDiscovery, Filter, GrpcFilter,
    InjectFailure, InjectGrpcFailure, InvalidPolicy, Load, Meta, Queue, Ratio, Resource,
    RouteBackend, RouteDistribution,
};
use crate::source::kubernetes::objects::Objects;
use crate::source::kubernetes::route::{self, BackendKind};

/// The filters of one kind of route.
pub(super) trait Filters: Sized + Clone {
    /// The same for this kind; none where it has no such thing.
    fn of(filter: &Filter) -> Option<Self>;

    /// Fails everything, as the mesh fails what falls to an invalid backend.
    fn fails(message: &str) -> Result<Self, InvalidPolicy>;
}

impl Filters for Filter {
    fn of(filter: &Filter) -> Option<Self> {
        Some(filter.clone())
    }

    fn fails(message: &str) -> Result<Self, InvalidPolicy> {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        InjectFailure::new(status, message, Ratio::ONE).map(Self::InjectFailure)
    }
}

impl Filters for GrpcFilter {
    fn of(filter: &Filter) -> Option<Self> {
        match filter {
            Filter::RequestHeaders(change) => Some(Self::RequestHeaders(change.clone())),
            _ => None,
        }
    }

    fn fails(message: &str) -> Result<Self, InvalidPolicy> {
        let code = InjectGrpcFailure::MESH_INVALID_BACKEND;
        InjectGrpcFailure::new(code, message, Ratio::ONE).map(Self::InjectFailure)
    }
}

impl Filters for ConnectionFilter {
    fn of(_: &Filter) -> Option<Self> {
        None
    }

    fn fails(message: &str) -> Result<Self, InvalidPolicy> {
        Ok(Self::Invalid {
            message: message.to_owned(),
        })
    }
}

/// Where the requests of a rule go: the parent itself where it names nobody.
pub(super) fn distribution<F: Filters>(
    objects: &Objects,
    parent: &Parent<'_>,
    named: &[route::Backend],
) -> Result<RouteDistribution<F>, InvalidPolicy> {
    let backends = named
        .iter()
        .map(|backend| Ok((one(objects, parent, backend)?, backend.weight)));
    let backends = backends.collect::<Result<Vec<_>, InvalidPolicy>>()?;
    if backends.is_empty() {
        return RouteDistribution::first_available([RouteBackend::from(parent.backend()?)]);
    }
    // The proxy takes one backend for itself, whatever it weighs.
    if let [(backend, 0)] = backends.as_slice() {
        return RouteDistribution::first_available([backend.clone()]);
    }
    if backends.iter().all(|(_, weight)| *weight == 0) {
        return Ok(RouteDistribution::empty());
    }
    RouteDistribution::random_available(backends)
}

fn one<F: Filters>(
    objects: &Objects,
    parent: &Parent<'_>,
    named: &route::Backend,
) -> Result<RouteBackend<F>, InvalidPolicy> {
    if let Some(message) = invalid(objects, parent, named) {
        return failing(parent, named, message);
    }
    let namespace = named.namespace.as_deref().unwrap_or(parent.namespace);
    let backend = match (&named.kind, parent.address) {
        (BackendKind::EgressNetwork, Some(_)) => parent.backend()?,
        // Checked to have a port.
        _ => balanced(
            namespace,
            &named.name,
            named.port.unwrap_or(parent.port),
            parent.load,
        )?,
    };
    Ok(RouteBackend {
        filters: named.filters.iter().filter_map(F::of).collect(),
        backend,
    })
}

/// Why nobody is behind it, in the mesh's words.
pub(in crate::source::kubernetes) fn invalid(
    objects: &Objects,
    parent: &Parent<'_>,
    named: &route::Backend,
) -> Option<String> {
    let name = &named.name;
    if let Some(filter) = &named.unsupported {
        return Some(format!("unsupported backend filter: {filter}"));
    }
    let namespace = named.namespace.as_deref().unwrap_or(parent.namespace);
    match &named.kind {
        BackendKind::Service if named.port.is_none() => {
            Some(format!("missing port for backend Service {name}"))
        }
        BackendKind::Service => objects
            .service(namespace, name)
            .is_none()
            .then(|| format!("Service not found {name}")),
        BackendKind::EgressNetwork => {
            let key = (namespace.to_owned(), name.clone());
            if !objects.egress.contains_key(&key) {
                return Some(format!("EgressNetwork not found {name}"));
            }
            let itself =
                parent.address.is_some() && namespace == parent.namespace && name == parent.name;
            (!itself)
                .then(|| "EgressNetwork backends attach to EgressNetwork parents only".to_owned())
        }
        BackendKind::Other(group, kind) => Some(format!("unsupported backend type {group} {kind}")),
    }
}

/// It keeps its weight, and what falls to it fails.
fn failing<F: Filters>(
    parent: &Parent<'_>,
    named: &route::Backend,
    message: String,
) -> Result<RouteBackend<F>, InvalidPolicy> {
    let (group, kind) = match &named.kind {
        BackendKind::Service => ("core", "Service"),
        BackendKind::EgressNetwork => ("policy.linkerd.io", "EgressNetwork"),
        BackendKind::Other(group, kind) if group.is_empty() => ("core", kind.as_str()),
        BackendKind::Other(group, kind) => (group.as_str(), kind.as_str()),
    };
    let namespace = named.namespace.as_deref().unwrap_or(parent.namespace);
    // An empty kind is not one.
    let kind = if kind.is_empty() { "unknown" } else { kind };
    let resource = Resource::new(group, kind, namespace, &named.name)?;
    let meta = Meta::Resource(match named.port {
        Some(port) => resource.with_port(port),
        None => resource,
    });
    Ok(RouteBackend {
        filters: vec![F::fails(&message)?],
        backend: Arc::new(Backend {
            meta: Arc::new(meta),
            queue: Queue::default(),
            dispatcher: BackendDispatcher::Fail { message },
        }),
    })
}

/// A Service's port, by the mesh's discovery.
pub(super) fn balanced(
    namespace: &str,
    name: &str,
    port: NonZeroU16,
    load: Load,
) -> Result<Arc<Backend>, InvalidPolicy> {
    Ok(Arc::new(Backend {
        meta: Arc::new(Meta::service(namespace, name, Some(port))?),
        queue: Queue::default(),
        dispatcher: BackendDispatcher::BalanceP2c(
            load,
            EndpointDiscovery::DestinationGet {
                path: format!("{name}.{namespace}.svc.cluster.local:{port}"),
            },
        ),
    }))
}

/// The address that was asked for.
pub(super) fn forward(meta: Arc<Meta>, address: SocketAddr) -> Arc<Backend> {
    Arc::new(Backend {
        meta,
        queue: Queue::default(),
        dispatcher: BackendDispatcher::Forward(address),
    })
}
