use super::diagnostic::{Diagnostic, Severity};
use super::egress::EgressNetwork;
use super::error::Error;
use super::field::Field;
use super::keys;
use super::place::Origin;
use super::profile::Profile;
use super::route::{Group, Kind, Route};
use super::said::Said;
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

/// Reads one document, of which a `List` makes many objects. What is wrong with them is said, and makes an error of the
/// whole: what is only partly known is an object for what else there is to say of it.
pub(super) fn read(node: &Node, origin: &Origin, objects: &mut Vec<Object>, said: &mut Said) {
    let document = Field::root(node, String::new(), origin);
    let read = object(&document, None, objects, said);
    said.keep(read);
}

// An item of a `ServiceList` has no kind of its own: it is `inherited`, as (apiVersion, kind).
fn object(
    document: &Field<'_>,
    inherited: Option<(&str, &str)>,
    objects: &mut Vec<Object>,
    said: &mut Said,
) -> Result<(), Error> {
    if is_json_patch(document) {
        let message = "a JSON patch, which is left out: what it changes is not in the manifests as they are read";
        let diagnostic = Diagnostic::new(Severity::Warning, document.origin, message);
        said.push(
            diagnostic
                .at(document.at())
                .remedy("render it first (kubectl kustomize)"),
        );
        objects.push(Object::Ignored("no kind".to_owned()));
        return Ok(());
    }
    if !matches!(document.node.value, Value::Map(_)) {
        return Err(document.expected("a mapping with apiVersion, kind and metadata"));
    }
    let kind = match (document.get("kind")?, inherited) {
        (Some(kind), _) => kind.string()?,
        (None, Some((_, kind))) => kind,
        (None, None) if document.get("metadata")?.is_some() => {
            return document.require("kind", "such as Service").map(drop);
        }
        // A `kustomization.yaml`, `values.yaml` or `Chart.yaml` in the same folder.
        (None, None) => {
            let message = "a document without kind, which is left out";
            let diagnostic = Diagnostic::new(Severity::Warning, document.origin, message);
            said.push(diagnostic.at(document.at()).key("kind"));
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
            let read = object(&item, inherited, objects, said);
            said.keep(read);
        }
        return Ok(());
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    strays(document, kind, said);
    let object = match (group, kind) {
        ("", "Service") if version == "v1" => {
            Object::Service(Box::new(Service::read(document, said)?))
        }
        ("policy.linkerd.io", "EgressNetwork") => {
            Object::Egress(Box::new(EgressNetwork::read(document, said)?))
        }
        ("linkerd.io", "ServiceProfile") => {
            Object::Profile(Box::new(Profile::read(document, said)?))
        }
        ("gateway.networking.x-k8s.io", "XBackendTrafficPolicy") => {
            Object::Traffic(Box::new(TrafficPolicy::read(document, said)?))
        }
        _ => match route(group, version, kind) {
            Some((kind, group)) => {
                Object::Route(Box::new(Route::read(document, kind, group, said)?))
            }
            None => {
                let resource = document.origin.resource(resource(document, kind));
                misplaced(document, &resource, said);
                meant(document, (api_version, kind), &resource, said);
                Object::Ignored(kind.to_owned())
            }
        },
    };
    if object.is_named() {
        objects.push(object);
    }
    Ok(())
}

fn route(group: &str, version: &str, kind: &str) -> Option<(Kind, Group)> {
    Some(match (group, kind) {
        ("gateway.networking.k8s.io", "HTTPRoute") => (Kind::Http, Group::Gateway),
        ("gateway.networking.k8s.io", "GRPCRoute") => (Kind::Grpc, Group::Gateway),
        ("gateway.networking.k8s.io", "TLSRoute") => (Kind::Tls, Group::Gateway),
        ("gateway.networking.k8s.io", "TCPRoute") => (Kind::Tcp, Group::Gateway),
        // The first version is of the inbound policy only.
        ("policy.linkerd.io", "HTTPRoute") if version != "v1alpha1" => (Kind::Http, Group::Linkerd),
        _ => return None,
    })
}

// What kustomize calls a JSON 6902 patch: a list of operations.
fn is_json_patch(document: &Field<'_>) -> bool {
    let operation = |field: &Field<'_>| {
        let has = |key| field.get(key).is_ok_and(|found| found.is_some());
        has("op") && has("path")
    };
    let list = document.list().unwrap_or_default();
    !list.is_empty() && list.iter().all(operation)
}

// === impl Object ===

impl Object {
    /// Whether it is known what it is called. (That it is not has been said.)
    fn is_named(&self) -> bool {
        let name = match self {
            Self::Service(service) => &service.name,
            Self::Egress(egress) => &egress.name,
            Self::Route(route) => &route.name,
            Self::Profile(profile) => profile.target.name(),
            Self::Traffic(policy) => &policy.name,
            Self::Ignored(_) => return true,
        };
        !name.is_empty()
    }
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
fn misplaced(document: &Field<'_>, resource: &Origin, said: &mut Said) {
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
            said.push(
                diagnostic
                    .key(&entry.key)
                    .at(entry.key_at)
                    .remedy("write it in metadata.annotations of the Service"),
            );
        }
    }
}

// A wrong indent, and an annotation is none.
fn strays(document: &Field<'_>, kind: &str, said: &mut Said) {
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
            said.push(
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
    said: &mut Said,
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
    said.push(
        Diagnostic::new(Severity::Warning, resource, message)
            .key(key)
            .at(at.map_or(document.at(), |at| at.at()))
            .remedy(format!("did you mean {group}{slash}{version} {read}?")),
    );
}
