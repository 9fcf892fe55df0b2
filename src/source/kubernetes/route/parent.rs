use std::num::NonZeroU16;

use super::{Group, note};
use crate::source::kubernetes::diagnostic::Severity;
use crate::source::kubernetes::field::Field;
use crate::source::kubernetes::keys;
use crate::source::kubernetes::place::{Mark, quoted};
use crate::source::kubernetes::said::Said;

/// What a route is attached to, as far as it is the mesh's business.
#[derive(Clone, Debug)]
pub(in crate::source::kubernetes) struct Parent {
    pub(in crate::source::kubernetes) kind: ParentKind,
    pub(in crate::source::kubernetes) namespace: String,
    pub(in crate::source::kubernetes) name: String,
    /// None is every port.
    pub(in crate::source::kubernetes) port: Option<NonZeroU16>,
    pub(in crate::source::kubernetes) port_at: Mark,
    pub(in crate::source::kubernetes) path: String,
    pub(in crate::source::kubernetes) at: Mark,
}

/// What kind of thing that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::source::kubernetes) enum ParentKind {
    Service,
    EgressNetwork,
}

// === parents ===

/// The parents that the mesh knows. About others that were probably meant to be such something is said.
pub(super) fn read(
    spec: &Field<'_>,
    group: Group,
    namespace: &str,
    said: &mut Said,
) -> Vec<Parent> {
    let Some(list) = said.get(spec, "parentRefs") else {
        let message = "no parentRefs: the route is attached to nothing";
        said.push(
            note(spec, Severity::Warning, message)
                .key(spec.child("parentRefs"))
                .remedy("add parentRefs with name, kind: Service and group: core"),
        );
        return Vec::new();
    };
    let list = said.keep(list.list()).unwrap_or_default();
    let read = |parent: &Field<'_>| one(parent, group, namespace, said);
    list.iter().filter_map(read).collect()
}

fn one(parent: &Field<'_>, group: Group, namespace: &str, said: &mut Said) -> Option<Parent> {
    said.known(
        parent,
        &["group", "kind", "namespace", "name", "sectionName", "port"],
    );
    let before = said.errors.len();
    let kind = said.read(parent, "kind", Field::string);
    let named = said.read(parent, "group", Field::string);
    let of = said.read(parent, "namespace", Field::name);
    let port = said.get(parent, "port");
    let number = port.as_ref().and_then(|port| said.keep(port.port()));
    // What is half known is not what it is taken for.
    if said.errors.len() > before {
        return None;
    }
    let kind = attaches(parent, group, kind, named, said)?;
    if let Some(section) = said.get(parent, "sectionName") {
        let message = "has no effect on routes of a Service; they are attached to all of its ports, or to one by port";
        said.push(
            note(&section, Severity::Warning, message)
                .mesh("ignores it")
                .remedy("write port: with the Service port's number"),
        );
    }
    if kind == ParentKind::EgressNetwork && port.is_none() {
        said.wrong(
            parent
                .error("an EgressNetwork as parent without a port")
                .mesh("refuses the route")
                .remedy("write port: with the number that is called"),
        );
    }
    let name = said.need(parent, ("name", "the name of a Service"), Field::name)?;
    Some(Parent {
        kind,
        namespace: of.unwrap_or(namespace).to_owned(),
        name: name.to_owned(),
        port_at: port.as_ref().map_or(parent.at(), Field::at),
        port: number,
        path: parent.path.clone(),
        at: parent.at(),
    })
}

/// By kind and group, with the group that the API server fills in.
fn attaches(
    parent: &Field<'_>,
    group: Group,
    kind: Option<&str>,
    named: Option<&str>,
    said: &mut Said,
) -> Option<ParentKind> {
    let (kind, wanted) = match kind {
        Some("Service") => (ParentKind::Service, "core"),
        Some("EgressNetwork") => (ParentKind::EgressNetwork, "policy.linkerd.io"),
        other => {
            stranger(parent, other, named, said);
            return None;
        }
    };
    let filled = named.unwrap_or(group.name());
    let fits = match kind {
        ParentKind::Service => filled.is_empty() || filled.eq_ignore_ascii_case("core"),
        ParentKind::EgressNetwork => filled == wanted,
    };
    if fits {
        return Some(kind);
    }
    let message = match named {
        None => format!(
            "the group is left out, so that the API server fills in {filled}, and the route is attached to nothing"
        ),
        Some(named) => {
            format!("there is no such kind in group {named}: the route is attached to nothing")
        }
    };
    said.push(
        note(parent, Severity::Warning, message)
            .mesh("does not apply the route")
            .remedy(format!("write group: {wanted}")),
    );
    None
}

/// What is neither: a Gateway, as most parents are, a Server or a whole namespace of the inbound policy, or somebody else's.
/// Said is what was probably meant to be a Service.
fn stranger(parent: &Field<'_>, kind: Option<&str>, named: Option<&str>, said: &mut Said) {
    const WORKLOADS: [&str; 5] = [
        "DaemonSet",
        "Deployment",
        "Pod",
        "ReplicaSet",
        "StatefulSet",
    ];
    let core = named.is_some_and(|group| group.is_empty() || group.eq_ignore_ascii_case("core"));
    let (message, remedy) = match kind {
        None if core => (
            "the kind is left out, so that the API server fills in Gateway, and the route is attached to nothing".to_owned(),
            "write kind: Service",
        ),
        Some("Gateway" | "Server" | "Namespace") | None => return,
        Some(kind) if WORKLOADS.contains(&kind) => (
            format!("a route is not attached to a {kind}, but to the Service in front of it"),
            "write kind: Service and group: core, with the Service's name",
        ),
        Some(kind) => {
            let near = keys::nearest_of(kind, &["Service", "EgressNetwork"]);
            let remedy = match near {
                Some("EgressNetwork") => "did you mean EgressNetwork?",
                Some(_) => "did you mean Service?",
                None if core => "write kind: Service",
                None => return,
            };
            let kind = quoted(kind);
            (
                format!("{kind} is no kind that a route can be attached to"),
                remedy,
            )
        }
    };
    said.push(
        note(parent, Severity::Warning, message)
            .mesh("does not apply the route")
            .remedy(remedy),
    );
}
