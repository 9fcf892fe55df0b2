use crate::source::kubernetes::diagnostic::{Diagnostic, Severity};
use crate::source::kubernetes::keys;
use crate::source::kubernetes::objects::Objects;
use crate::source::kubernetes::resolve::{self, Parent};
use crate::source::kubernetes::route::{Backend, BackendKind, Route, Rule};

/// The namespace that has a Service of this name, of several the first.
pub(super) fn elsewhere<'a>(objects: &'a Objects, name: &str) -> Option<&'a str> {
    let found = objects.services.keys().find(|(_, other)| other == name);
    found.map(|(namespace, _)| namespace.as_str())
}

/// What helps against a Service that is not there.
pub(super) fn missing(objects: &Objects, namespace: &str, name: &str) -> String {
    if let Some(of) = elsewhere(objects, name) {
        return format!("there is one in {of}: write namespace: {of}");
    }
    let here = objects.services.keys();
    let here = here.filter(|(of, _)| of == namespace);
    let names: Vec<&str> = here.map(|(_, name)| name.as_str()).take(100).collect();
    match keys::nearest_of(name, &names) {
        Some(near) => format!("did you mean {near}?"),
        None => format!(
            "write the manifest of Service {namespace}/{name} beside this one, or correct the name"
        ),
    }
}

/// What is said of where a rule sends its requests.
pub(super) fn backends(
    objects: &Objects,
    route: &Route,
    parent: &Parent<'_>,
    rule: &Rule,
    diagnostics: &mut Vec<Diagnostic>,
) {
    for backend in &rule.backends {
        let Backend { name, path, at, .. } = backend;
        let namespace = backend.namespace.as_deref().unwrap_or(parent.namespace);
        if backend.namespace.is_none() && route.namespace != parent.namespace {
            let there = objects.service(&route.namespace, name).is_some();
            let message = format!(
                "goes to {name} in {namespace}, the namespace of the parent, not to {name} in {}, the route's",
                route.namespace
            );
            let diagnostic = route
                .warning(path, *at, message)
                .mesh("reads it so, other than Gateway API says")
                .remedy(format!(
                    "write namespace: {}",
                    if there { &route.namespace } else { namespace }
                ));
            diagnostics.push(diagnostic);
        }
        if let Some(why) = resolve::invalid_backend(objects, parent, backend) {
            // Has been said, where it was read.
            if backend.unsupported.is_none() {
                let diagnostic = Diagnostic::new(Severity::Error, &route.origin, why)
                    .key(path)
                    .at(*at)
                    .mesh("answers 500 to the requests that fall to this backend");
                diagnostics.push(match &backend.kind {
                    BackendKind::Service if backend.port.is_none() => {
                        diagnostic.remedy("write port: with the Service's port")
                    }
                    BackendKind::Service => diagnostic.remedy(missing(objects, namespace, name)),
                    _ => diagnostic.remedy("name a Service"),
                });
            }
            continue;
        }
        let have = objects.ports_of(namespace, name);
        if let Some(port) = backend.port
            && backend.kind == BackendKind::Service
            && !have.contains(&port)
        {
            let have: Vec<_> = have.iter().map(ToString::to_string).collect();
            let message = format!(
                "Service {namespace}/{name} has no port {port}, only {}",
                have.join(", ")
            );
            diagnostics.push(
                route
                    .warning(format!("{path}.port"), *at, message)
                    .mesh("does not check it, and finds no endpoints")
                    .remedy(format!("write port: {}", have.join(" or "))),
            );
        }
    }
    let Some(first) = rule.backends.first() else {
        return;
    };
    if rule.backends.iter().all(|backend| backend.weight == 0) {
        let (message, mesh) = if rule.backends.len() == 1 {
            (
                "the only backend weighs 0, and gets all requests",
                "does not weigh a single backend",
            )
        } else {
            (
                "all backends weigh 0: every request is refused",
                "fails while it serves them",
            )
        };
        diagnostics.push(
            route
                .warning(format!("{}.weight", first.path), first.at, message)
                .mesh(mesh)
                .remedy("write a weight above 0 for the backends that are to be used"),
        );
    }
}
