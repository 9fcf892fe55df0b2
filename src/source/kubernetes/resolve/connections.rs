//! The routes of what is no HTTP. They are data for others: a client here carries requests only.

use super::{Parent, backend};
use crate::policy::{
    ConnectionFilter, ConnectionRoute, InvalidPolicy, Meta, OpaquePolicy, RouteBackend,
    RouteDistribution, TlsPolicy, TlsRoute,
};
use crate::source::kubernetes::objects::Objects;
use crate::source::kubernetes::route::Route;

/// The first TCPRoute, or everything to the parent.
pub(super) fn opaque(
    objects: &Objects,
    parent: &Parent<'_>,
    routes: &[&Route],
) -> Result<OpaquePolicy, InvalidPolicy> {
    let route = match (routes.first(), parent.egress_allows) {
        (Some(first), _) => connections(objects, parent, first)?,
        (None, None) => Some(to_itself("opaq", parent)?),
        (None, Some(allow)) => Some(egress(
            ["tcp-egress-allow", "tcp-egress-deny"],
            parent,
            allow,
        )?),
    };
    Ok(OpaquePolicy { route })
}

/// The TLSRoutes by their server names, and behind them what an EgressNetwork does with others.
pub(super) fn tls(
    objects: &Objects,
    parent: &Parent<'_>,
    routes: &[&Route],
) -> Result<TlsPolicy, InvalidPolicy> {
    let mut converted = Vec::new();
    for route in routes {
        if let Some(connections) = connections(objects, parent, route)? {
            converted.push(TlsRoute {
                snis: route.hosts.clone(),
                route: connections,
            });
        }
    }
    if let Some(allow) = parent.egress_allows {
        converted.push(TlsRoute {
            snis: Vec::new(),
            route: egress(["tls-egress-allow", "tls-egress-deny"], parent, allow)?,
        });
    }
    Ok(TlsPolicy { routes: converted })
}

/// For a port that a Service does not have.
pub(super) fn undefined_port() -> OpaquePolicy {
    let mut route = ConnectionRoute::new(
        Meta::default_named("undefined-port"),
        RouteDistribution::empty(),
    );
    route.filters.push(ConnectionFilter::Forbidden);
    OpaquePolicy { route: Some(route) }
}

fn connections(
    objects: &Objects,
    parent: &Parent<'_>,
    route: &Route,
) -> Result<Option<ConnectionRoute>, InvalidPolicy> {
    let Some(rule) = route.rules.first() else {
        return Ok(None);
    };
    let distribution = backend::distribution(objects, parent, &rule.backends)?;
    Ok(Some(ConnectionRoute::new(route.meta()?, distribution)))
}

fn to_itself(name: &str, parent: &Parent<'_>) -> Result<ConnectionRoute, InvalidPolicy> {
    let backend = RouteBackend {
        filters: Vec::new(),
        backend: parent.backend()?,
    };
    let distribution = RouteDistribution::first_available([backend])?;
    Ok(ConnectionRoute::new(
        Meta::default_named(name),
        distribution,
    ))
}

fn egress(
    [allowed, denied]: [&str; 2],
    parent: &Parent<'_>,
    allow: bool,
) -> Result<ConnectionRoute, InvalidPolicy> {
    let mut route = to_itself(if allow { allowed } else { denied }, parent)?;
    if !allow {
        route.filters.push(ConnectionFilter::Forbidden);
    }
    Ok(route)
}
