//! What is attached to what, and what is said of objects that do not fit together.

mod backends;
mod checks;
mod inherited;
mod order;
mod policies;
mod services;
mod twins;

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use super::diagnostic::{Diagnostic, Severity};
use super::links::{Attached, Links};
use super::objects::Objects;
use super::route::{Kind, Parent, ParentKind, Route};

type Reference<'a> = (ParentKind, &'a str, &'a str, Option<NonZeroU16>);

// === link ===

/// Puts the routes in order, attaches them, and says what does not fit.
pub(super) fn link(objects: &mut Objects, diagnostics: &mut Vec<Diagnostic>) {
    objects.routes.sort_by(Route::precedence);
    let winners = winners(&objects.routes);
    let mut links: BTreeMap<_, Vec<Attached>> = BTreeMap::new();
    for (index, route) in objects.routes.iter().enumerate() {
        for parent in &route.parents {
            let why = refused(objects, route, parent, &winners);
            let accepted = why.is_none();
            diagnostics.extend(why);
            let key = (parent.kind, parent.namespace.clone(), parent.name.clone());
            links.entry(key).or_default().push(Attached {
                route: index,
                port: parent.port,
                accepted,
            });
        }
    }
    objects.links = Links::new(links);
    checks::all(objects, diagnostics);
}

fn reference(parent: &Parent) -> Reference<'_> {
    (parent.kind, &parent.namespace, &parent.name, parent.port)
}

/// The most specific kind at every parent and port.
fn winners(routes: &[Route]) -> BTreeMap<Reference<'_>, (Kind, &Route)> {
    let mut winners: BTreeMap<Reference<'_>, (Kind, &Route)> = BTreeMap::new();
    for route in routes.iter().filter(|route| route.errors.is_empty()) {
        for parent in &route.parents {
            let winner = winners
                .entry(reference(parent))
                .or_insert((route.kind, route));
            if route.kind < winner.0 {
                *winner = (route.kind, route);
            }
        }
    }
    winners
}

/// Why the mesh does not accept a route at a parent.
fn refused(
    objects: &Objects,
    route: &Route,
    parent: &Parent,
    winners: &BTreeMap<Reference<'_>, (Kind, &Route)>,
) -> Option<Diagnostic> {
    let Parent {
        namespace, name, ..
    } = parent;
    let say = |message: String| {
        Diagnostic::new(Severity::Warning, &route.origin, message)
            .key(&parent.path)
            .at(parent.at)
            .mesh("does not accept the route there")
    };
    match parent.kind {
        ParentKind::EgressNetwork => {
            let key = (namespace.clone(), name.clone());
            let Some(egress) = objects.egress.get(&key) else {
                return Some(say(format!("found no EgressNetwork {namespace}/{name}")));
            };
            if egress.overlaps_cluster() {
                let message =
                    format!("EgressNetwork {namespace}/{name} has addresses of the cluster's own");
                return Some(say(message).remedy("take the cluster's networks out of its blocks"));
            }
        }
        ParentKind::Service => {
            let Some(service) = objects.service(namespace, name) else {
                return Some(
                    say(format!("found no Service {namespace}/{name}"))
                        .remedy(
                        match backends::elsewhere(objects, name) {
                            Some(of) => format!(
                                "there is one in {of}: write namespace: {of}, in the route's metadata or for this parent"
                            ),
                            None => backends::missing(objects, namespace, name),
                        },
                    ),
                );
            };
            if service.headless.is_some() {
                return Some(
                    say(format!(
                        "Service {namespace}/{name} is headless (clusterIP: None)"
                    ))
                    .remedy("attach the route to a Service with a clusterIP"),
                );
            }
            if service.external_name.is_some() {
                return Some(say(format!(
                    "Service {namespace}/{name} is an ExternalName"
                )));
            }
        }
    }
    let (kind, winner) = winners.get(&reference(parent))?;
    (*kind < route.kind).then(|| {
        say(format!(
            "conflicts with {}: for one parent and port only the most specific kind of route is served ({})",
            winner.describe(),
            kind.name(),
        ))
        .remedy("take one of the two away, or give them different ports")
    })
}
