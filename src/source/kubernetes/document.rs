use super::diagnostic::{Diagnostic, Severity};
use super::egress::EgressNetwork;
use super::error::Error;
use super::field::Field;
use super::keys;
use super::place::Origin;
use super::profile::Profile;
use super::route::{Group, Kind, Route};
use super::service::Service;
use super::traffic::TrafficPolicy;
use super::yaml::{Node, Value};

/// One Kubernetes object of a manifest, by what is done with it.
#[derive(Clone, Debug)]
pub(super) enum Object {
    Service(Box<Service>),
    Egress(Box<EgressNetwork>),
    Route(Box<Route>),
    Profile(Box<Profile>),
    Traffic(Box<TrafficPolicy>),
    /// Anything else, by its kind: Deployments and the like stand in the same files.
    Ignored(String),
}

/// Reads one document, of which a `List` makes many objects.
///
/// # Errors
/// Not a mapping; a Service with a field of the wrong type.
pub(super) fn read(
    node: &Node,
    origin: &Origin,
    objects: &mut Vec<Object>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<(), Error> {
    let document = Field::root(node, String::new(), origin);
    object(&document, None, objects, diagnostics)
}

// An item of a `ServiceList` has no kind of its own: it is `inherited`, as (apiVersion, kind).
fn object(
    document: &Field<'_>,
    inherited: Option<(&str, &str)>,
    objects: &mut Vec<Object>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<(), Error> {
    if !matches!(document.node.value, Value::Map(_)) {
        let found = document.node.describe();
        let message =
            format!("found {found}, expected a mapping with apiVersion, kind and metadata");
        return Err(document.error(message));
    }
    let kind = match (document.get("kind")?, inherited) {
        (Some(kind), _) => kind.string()?,
        (None, Some((_, kind))) => kind,
        (None, None)
            if document
                .get("apiVersion")?
                .or(document.get("metadata")?)
                .is_some() =>
        {
            return document.require("kind", "such as Service").map(drop);
        }
        // A `kustomization.yaml` or `values.yaml` in the same folder.
        (None, None) => {
            let message = "a document without kind, which is left out";
            let diagnostic = Diagnostic::new(Severity::Warning, document.origin, message);
            diagnostics.push(diagnostic.at(document.at()).key("kind"));
            objects.push(Object::Ignored("no kind".to_owned()));
            return Ok(());
        }
    };
    let api_version = match (document.get("apiVersion")?, inherited) {
        (Some(version), _) => version.string()?,
        (None, Some((version, _))) => version,
        (None, None) => document
            .require("apiVersion", "v1 for a Service")?
            .string()?,
    };
    if let (Some(items), Some(item_kind)) = (document.get("items")?, kind.strip_suffix("List")) {
        let inherited = Some((api_version, item_kind)).filter(|_| !item_kind.is_empty());
        for item in items.list()? {
            object(&item, inherited, objects, diagnostics)?;
        }
        return Ok(());
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    strays(document, kind, diagnostics);
    let route = |kind, group, diagnostics: &mut Vec<Diagnostic>| {
        Route::read(document, kind, group, diagnostics).map(|route| Object::Route(Box::new(route)))
    };
    objects.push(match (group, kind) {
        ("", "Service") if version == "v1" => {
            Object::Service(Box::new(Service::read(document, diagnostics)?))
        }
        ("gateway.networking.k8s.io", "HTTPRoute") => {
            route(Kind::Http, Group::Gateway, diagnostics)?
        }
        ("gateway.networking.k8s.io", "GRPCRoute") => {
            route(Kind::Grpc, Group::Gateway, diagnostics)?
        }
        ("gateway.networking.k8s.io", "TLSRoute") => route(Kind::Tls, Group::Gateway, diagnostics)?,
        ("gateway.networking.k8s.io", "TCPRoute") => route(Kind::Tcp, Group::Gateway, diagnostics)?,
        // The first version is of the inbound policy only.
        ("policy.linkerd.io", "HTTPRoute") if version != "v1alpha1" => {
            route(Kind::Http, Group::Linkerd, diagnostics)?
        }
        ("policy.linkerd.io", "EgressNetwork") => {
            Object::Egress(Box::new(EgressNetwork::read(document, diagnostics)?))
        }
        ("linkerd.io", "ServiceProfile") => {
            Object::Profile(Box::new(Profile::read(document, diagnostics)?))
        }
        ("gateway.networking.x-k8s.io", "XBackendTrafficPolicy") => {
            Object::Traffic(Box::new(TrafficPolicy::read(document, diagnostics)?))
        }
        _ => {
            let resource = document.origin.resource(resource(document, kind));
            misplaced(document, &resource, diagnostics);
            meant(document, (api_version, kind), &resource, diagnostics);
            Object::Ignored(kind.to_owned())
        }
    });
    Ok(())
}

// Whatever the object is, nothing in it is an error.
fn resource(document: &Field<'_>, kind: &str) -> String {
    let text = |key| {
        let metadata = document.get("metadata").ok()??;
        metadata.get(key).ok()??.string().ok()
    };
    let name = text("name").unwrap_or("without a name");
    match text("namespace") {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

// Outbound policy on a Deployment looks right and does nothing.
fn misplaced(document: &Field<'_>, resource: &Origin, diagnostics: &mut Vec<Diagnostic>) {
    let annotations = document
        .get("metadata")
        .and_then(|metadata| match metadata {
            Some(metadata) => metadata.get("annotations"),
            None => Ok(None),
        })
        .and_then(|annotations| annotations.map_or(Ok(&[][..]), |found| found.entries()));
    for entry in annotations.unwrap_or_default() {
        if keys::is_policy(&entry.key) {
            let message = "is read from a Service or a route only; here it has no effect";
            let diagnostic = Diagnostic::new(Severity::Warning, resource, message);
            diagnostics.push(
                diagnostic
                    .key(&entry.key)
                    .at(entry.key_at)
                    .remedy("write it in metadata.annotations of the Service"),
            );
        }
    }
}

// A wrong indent, and an annotation is none.
fn strays(document: &Field<'_>, kind: &str, diagnostics: &mut Vec<Diagnostic>) {
    const PLACES: [&[&str]; 7] = [
        &[],
        &["annotations"],
        &["metadata"],
        &["metadata", "labels"],
        &["spec"],
        &["spec", "annotations"],
        &["spec", "template", "metadata", "annotations"],
    ];
    for path in PLACES {
        let mut place = Some(Field::root(document.node, String::new(), document.origin));
        for key in path {
            place = place.and_then(|place| place.get(key).ok()?);
        }
        let Some(place) = place else { continue };
        for entry in place.entries().unwrap_or_default() {
            if !keys::is_policy(&entry.key) {
                continue;
            }
            let message = match path {
                [] | ["annotations"] => {
                    "is no annotation here, outside of metadata; it has no effect".to_owned()
                }
                path => format!(
                    "is no annotation here, in {}; it has no effect",
                    path.join(".")
                ),
            };
            let resource = document.origin.resource(resource(document, kind));
            diagnostics.push(
                Diagnostic::new(Severity::Warning, &resource, message)
                    .key(&entry.key)
                    .at(entry.key_at)
                    .remedy("write it in metadata.annotations of the Service"),
            );
        }
    }
}

// Almost one that is read: `kind: HttpRoute`, `apps/v1` for a Service. Other people's kinds may share a name with one.
fn meant(
    document: &Field<'_>,
    (api_version, kind): (&str, &str),
    resource: &Origin,
    diagnostics: &mut Vec<Diagnostic>,
) {
    const READ: [(&str, &str, &str); 8] = [
        ("", "v1", "Service"),
        ("gateway.networking.k8s.io", "v1", "HTTPRoute"),
        ("gateway.networking.k8s.io", "v1", "GRPCRoute"),
        ("gateway.networking.k8s.io", "v1alpha2", "TLSRoute"),
        ("gateway.networking.k8s.io", "v1alpha2", "TCPRoute"),
        ("policy.linkerd.io", "v1beta3", "HTTPRoute"),
        ("policy.linkerd.io", "v1alpha1", "EgressNetwork"),
        ("linkerd.io", "v1alpha2", "ServiceProfile"),
    ];
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let found = READ.into_iter().find(|(of, _, read)| {
        let same = group == *of
            || keys::nearest_of(group, &[of]).is_some()
            || (of.is_empty() && !group.contains('.'));
        let exact = group == *of && kind == *read && !of.is_empty();
        let near = kind.eq_ignore_ascii_case(read)
            || (kind != "UDPRoute" && keys::nearest_of(kind, &[read]).is_some());
        same && near && !exact
    });
    let Some((group, version, read)) = found else {
        return;
    };
    let slash = if group.is_empty() { "" } else { "/" };
    let key = if kind == read { "apiVersion" } else { "kind" };
    let at = document.get(key).ok().flatten();
    let message =
        format!("{api_version} {kind} is none of the kinds that are read; it is left out");
    diagnostics.push(
        Diagnostic::new(Severity::Warning, resource, message)
            .key(key)
            .at(at.map_or(document.at(), |at| at.at()))
            .remedy(format!("did you mean {group}{slash}{version} {read}?")),
    );
}
