use std::collections::BTreeSet;

use super::backends::backends;
use super::inherited;
use super::order::order;
use super::policies::{profiles, traffic};
use super::services;
use super::twins::twins;
use crate::policy::Fidelity;
use crate::source::kubernetes::diagnostic::{Diagnostic, Severity};
use crate::source::kubernetes::objects::Objects;
use crate::source::kubernetes::resolve::{Parent, Says, says};
use crate::source::kubernetes::route::{Kind, ParentKind, Route};
use crate::source::kubernetes::service::Service;

/// Everything about objects that fit together otherwise than they seem to.
pub(super) fn all(objects: &Objects, diagnostics: &mut Vec<Diagnostic>) {
    for route in objects
        .routes
        .iter()
        .filter(|route| route.errors.is_empty())
    {
        let before = diagnostics.len();
        for parent in &route.parents {
            ports(objects, route, parent, diagnostics);
        }
        for parent in parents(objects, route) {
            inherited::all(route, &parent, diagnostics);
            for rule in &route.rules {
                backends(objects, route, &parent, rule, diagnostics);
            }
        }
        order(route, diagnostics);
        // The same for every parent is said once.
        let said = diagnostics.split_off(before);
        let mut seen = BTreeSet::new();
        for diagnostic in said {
            if seen.insert(diagnostic.to_string()) {
                diagnostics.push(diagnostic);
            }
        }
    }
    for service in objects.services.values() {
        services::all(service, diagnostics);
        served(objects, service, diagnostics);
    }
    profiles(objects, diagnostics);
    traffic(objects, diagnostics);
}

/// A route for a port that its Service does not have.
fn ports(
    objects: &Objects,
    route: &Route,
    parent: &crate::source::kubernetes::route::Parent,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let ParentKind::Service = parent.kind else {
        return;
    };
    let have = objects.ports_of(&parent.namespace, &parent.name);
    if let Some(port) = parent.port
        && !have.is_empty()
        && !have.contains(&port)
    {
        let have: Vec<_> = have.iter().map(ToString::to_string).collect();
        let message = format!(
            "port {port} is none of Service {}/{}, which has {}: nobody ever meets the route",
            parent.namespace,
            parent.name,
            have.join(", ")
        );
        diagnostics.push(
            route
                .warning(format!("{}.port", parent.path), parent.port_at, message)
                .mesh("accepts it all the same")
                .remedy(format!(
                    "write port: {}, or take the port away for all",
                    have.join(" or ")
                )),
        );
    }
}

/// The parents that are there, as far as what hangs on them goes.
fn parents<'a>(objects: &'a Objects, route: &'a Route) -> Vec<Parent<'a>> {
    let parents = route.parents.iter().filter_map(|parent| {
        let service = match parent.kind {
            ParentKind::Service => objects.service(&parent.namespace, &parent.name)?,
            ParentKind::EgressNetwork => return None,
        };
        let first = service.ports.first()?.number;
        Some(Parent {
            namespace: &service.namespace,
            name: &service.name,
            port: parent.port.unwrap_or(first),
            settings: &service.settings,
            load: service.settings.load,
            address: None,
            egress_allows: None,
        })
    });
    parents.collect()
}

/// Routes that are attached to a port and not served there.
fn served(objects: &Objects, service: &Service, diagnostics: &mut Vec<Diagnostic>) {
    let attached = objects
        .links
        .of(ParentKind::Service, &service.namespace, &service.name);
    let attached: Vec<_> = attached
        .iter()
        .filter(|attached| attached.accepted)
        .filter_map(|attached| Some((attached.port, objects.routes.get(attached.route)?)))
        .filter(|(_, route)| route.errors.is_empty())
        .collect();
    for port in &service.ports {
        let here = || {
            attached
                .iter()
                .filter(|(on, _)| on.is_none_or(|on| on == port.number))
        };
        if here().next().is_none() {
            continue;
        }
        let says = says(service, port, Fidelity::Mesh);
        let kind = says.serves(here().map(|(_, route)| route.kind));
        for (_, route) in here().filter(|(_, route)| Some(route.kind) != kind) {
            let message = match kind {
                Some(kind) => format!(
                    "not served on port {} of {}, where {}s are",
                    port.number,
                    service.origin.resource.as_deref().unwrap_or_default(),
                    kind.name()
                ),
                None => format!(
                    "not served on port {} of {}, which is taken for {}",
                    port.number,
                    service.origin.resource.as_deref().unwrap_or_default(),
                    says.describe()
                ),
            };
            let remedy = match (&says, route.kind) {
                (Says::Opaque(_), Kind::Http) => "write appProtocol: http on the port",
                (Says::Opaque(_) | Says::Http1, Kind::Grpc) => {
                    "write appProtocol: kubernetes.io/h2c on the port"
                }
                _ => "give the two kinds of routes different ports",
            };
            diagnostics.push(
                route
                    .warning("spec.parentRefs", route.at, message)
                    .mesh("serves one kind of route on a port")
                    .remedy(remedy),
            );
        }
        both_namespaces(service, port.number, &attached, diagnostics);
    }
    twins(&attached, diagnostics);
}

/// Consumer routes beside producer routes: merged.
fn both_namespaces(
    service: &Service,
    port: std::num::NonZeroU16,
    attached: &[(Option<std::num::NonZeroU16>, &Route)],
    diagnostics: &mut Vec<Diagnostic>,
) {
    let here = || {
        attached
            .iter()
            .filter(|(on, _)| on.is_none_or(|on| on == port))
    };
    let Some((_, own)) = here().find(|(_, route)| route.namespace == service.namespace) else {
        return;
    };
    for (_, other) in here().filter(|(_, route)| route.namespace != service.namespace) {
        let message = format!(
            "clients in {} have this route and {}",
            other.namespace,
            own.describe()
        );
        diagnostics.push(
            Diagnostic::new(Severity::Note, &other.origin, message)
                .key("spec.parentRefs")
                .at(other.at)
                .mesh("merges the two; Gateway API says that a consumer's route takes the place of the producer's"),
        );
    }
}
