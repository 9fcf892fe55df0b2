use std::num::NonZeroU16;

use super::filter::{self, Read};
use super::{Group, Kind};
use crate::policy::Filter;
use crate::source::kubernetes::field::Field;
use crate::source::kubernetes::place::Mark;
use crate::source::kubernetes::said::Said;

/// One of a rule's `backendRefs`.
#[derive(Clone, Debug)]
pub(in crate::source::kubernetes) struct Backend {
    pub(in crate::source::kubernetes) kind: BackendKind,
    pub(in crate::source::kubernetes) name: String,
    /// None is the namespace of the *parent*.
    pub(in crate::source::kubernetes) namespace: Option<String>,
    pub(in crate::source::kubernetes) port: Option<NonZeroU16>,
    pub(in crate::source::kubernetes) weight: u32,
    pub(in crate::source::kubernetes) filters: Vec<Filter>,
    /// A filter that the mesh does not do, which makes this backend fail.
    pub(in crate::source::kubernetes) unsupported: Option<String>,
    pub(in crate::source::kubernetes) path: String,
    pub(in crate::source::kubernetes) at: Mark,
}

/// What a backend is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::source::kubernetes) enum BackendKind {
    Service,
    EgressNetwork,
    /// Group and kind.
    Other(String, String),
}

/// The backends of a rule; none is the parent itself.
pub(super) fn read(rule: &Field<'_>, kind: Kind, group: Group, said: &mut Said) -> Vec<Backend> {
    let list = said.list(rule, "backendRefs");
    let read = |backend: &Field<'_>| one(backend, kind, group, said);
    list.iter().map(read).collect()
}

fn one(backend: &Field<'_>, route: Kind, group: Group, said: &mut Said) -> Backend {
    let known = [
        "group",
        "kind",
        "name",
        "namespace",
        "port",
        "weight",
        "filters",
    ];
    said.known(backend, &known);
    let api = said.read(backend, "group", Field::string).unwrap_or("");
    let kind = said.read(backend, "kind", Field::string);
    let core = api.is_empty() || api.eq_ignore_ascii_case("core");
    let kind = match kind.unwrap_or("Service") {
        "Service" if core => BackendKind::Service,
        "EgressNetwork" if api == "policy.linkerd.io" => BackendKind::EgressNetwork,
        kind => BackendKind::Other(api.to_owned(), kind.to_owned()),
    };
    let name = said.need(backend, ("name", "the name of a Service"), Field::name);
    let namespace = said.read(backend, "namespace", Field::string);
    let port = said.read(backend, "port", Field::port);
    let weight = said.read(backend, "weight", |weight| weight.integer(0, 1_000_000));
    let mut filters = Vec::new();
    let mut unsupported = None;
    for filter in filter::read(backend, route, group, said) {
        match filter {
            Read::Filter(filter) => filters.push(filter),
            Read::LeftOut(error) => said.push(error.diagnostic().clone()),
            Read::Unsupported(error, name) => {
                let error = error.mesh("fails the requests that fall to this backend");
                said.push(error.diagnostic().clone());
                unsupported = unsupported.or(Some(name));
            }
        }
    }
    Backend {
        kind,
        name: name.unwrap_or_default().to_owned(),
        namespace: namespace.map(str::to_owned),
        port,
        weight: weight.map_or(1, |weight| u32::try_from(weight).unwrap_or(0)),
        filters,
        unsupported,
        path: backend.path.clone(),
        at: backend.at(),
    }
}
