use std::num::NonZeroU16;

use super::filter::{self, Read};
use super::{Group, Kind};
use crate::policy::Filter;
use crate::source::kubernetes::diagnostic::Diagnostic;
use crate::source::kubernetes::error::Error;
use crate::source::kubernetes::field::Field;
use crate::source::kubernetes::place::Mark;

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
///
/// # Errors
/// What the API server refuses.
pub(super) fn read(
    rule: &Field<'_>,
    kind: Kind,
    group: Group,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<Vec<Backend>, Error> {
    let Some(list) = rule.get("backendRefs")? else {
        return Ok(Vec::new());
    };
    list.list()?
        .into_iter()
        .map(|backend| one(&backend, kind, group, diagnostics))
        .collect()
}

fn one(
    backend: &Field<'_>,
    route: Kind,
    group: Group,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<Backend, Error> {
    let known = [
        "group",
        "kind",
        "name",
        "namespace",
        "port",
        "weight",
        "filters",
    ];
    backend.known(&known, diagnostics);
    let text = |key: &str| -> Result<Option<&str>, Error> {
        backend.get(key)?.map(|field| field.string()).transpose()
    };
    let (api, kind) = (
        text("group")?.unwrap_or(""),
        text("kind")?.unwrap_or("Service"),
    );
    let core = api.is_empty() || api.eq_ignore_ascii_case("core");
    let kind = match kind {
        "Service" if core => BackendKind::Service,
        "EgressNetwork" if api == "policy.linkerd.io" => BackendKind::EgressNetwork,
        kind => BackendKind::Other(api.to_owned(), kind.to_owned()),
    };
    let weight = match backend.get("weight")? {
        Some(weight) => u32::try_from(weight.integer(0, 1_000_000)?).unwrap_or(0),
        None => 1,
    };
    let port = backend.get("port")?.map(|port| port.port()).transpose()?;
    let mut filters = Vec::new();
    let mut unsupported = None;
    for filter in filter::read(backend, route, group, diagnostics)? {
        match filter {
            Read::Filter(filter) => filters.push(filter),
            Read::LeftOut(error) => diagnostics.push(error.diagnostic().clone()),
            Read::Unsupported(error, name) => {
                let error = error.mesh("fails the requests that fall to this backend");
                diagnostics.push(error.diagnostic().clone());
                unsupported = unsupported.or(Some(name));
            }
        }
    }
    Ok(Backend {
        kind,
        name: backend
            .require("name", "the name of a Service")?
            .name()?
            .to_owned(),
        namespace: text("namespace")?.map(str::to_owned),
        port,
        weight,
        filters,
        unsupported,
        path: backend.path.clone(),
        at: backend.at(),
    })
}
