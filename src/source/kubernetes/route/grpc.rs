use super::filter::Read;
use super::{Group, Kind, Rule, backend, filter, keep, matches};
use crate::policy::MatchRpc;
use crate::source::kubernetes::diagnostic::Diagnostic;
use crate::source::kubernetes::error::Error;
use crate::source::kubernetes::field::Field;

// === rules ===

/// The rules of a GRPCRoute. There are no defaults: without rules nothing is matched.
pub(super) fn rules(
    spec: &Field<'_>,
    errors: &mut Vec<Error>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Rule> {
    let list = spec.get("rules").and_then(|rules| match rules {
        Some(rules) => rules.list(),
        None => Ok(Vec::new()),
    });
    let rules = keep(list, errors);
    let read = |rule: Field<'_>| keep(one(&rule, diagnostics), errors);
    rules.into_iter().map(read).collect()
}

fn one(rule: &Field<'_>, diagnostics: &mut Vec<Diagnostic>) -> Result<Rule, Error> {
    let known = [
        "name",
        "matches",
        "filters",
        "backendRefs",
        "sessionPersistence",
    ];
    rule.known(&known, diagnostics);
    let mut filters = Vec::new();
    for filter in filter::read(rule, Kind::Grpc, Group::Gateway, diagnostics)? {
        match filter {
            Read::Filter(filter) => filters.push(filter),
            Read::LeftOut(error) => diagnostics.push(error.diagnostic().clone()),
            Read::Unsupported(error, _) => return Err(error),
        }
    }
    let mut rpcs = Vec::new();
    let mut left_out = false;
    if let Some(list) = rule.get("matches")? {
        for field in list.list()? {
            match rpc(&field, diagnostics)? {
                Some(rpc) => rpcs.push(rpc),
                None => left_out = true,
            }
        }
    }
    Ok(Rule {
        // No matches at all would be every call.
        never: left_out && rpcs.is_empty(),
        rpcs,
        filters,
        backends: backend::read(rule, Kind::Grpc, Group::Gateway, diagnostics)?,
        path: rule.path.clone(),
        at: rule.at(),
        ..Rule::default()
    })
}

/// None is a match that the mesh's proxy cannot read.
fn rpc(field: &Field<'_>, diagnostics: &mut Vec<Diagnostic>) -> Result<Option<MatchRpc>, Error> {
    field.known(&["method", "headers"], diagnostics);
    let headers = matches::headers(field, diagnostics)?;
    let Some(method) = field.get("method")? else {
        let error = field
            .error("a match without a method; it is left out")
            .mesh("answers every request of the Service with an internal error")
            .remedy("name the service or the method beside the headers");
        diagnostics.push(error.diagnostic().clone());
        return Ok(None);
    };
    method.known(&["type", "service", "method"], diagnostics);
    if let Some(kind) = method.get("type")? {
        kind.one_of(&[("Exact", ())])
            .map_err(|error| error.remedy("name services and methods as they are"))?;
    }
    let text = |key: &str| -> Result<Option<String>, Error> {
        let Some(field) = method.get(key)? else {
            return Ok(None);
        };
        let name = field.string()?;
        if name.contains('/') {
            return Err(field.expected("a name without `/`"));
        }
        Ok(Some(name.to_owned()).filter(|name| !name.is_empty()))
    };
    let (service, name) = (text("service")?, text("method")?);
    if service.is_none() && name.is_none() {
        return Err(method
            .error("neither a service nor a method")
            .remedy("name one of them"));
    }
    Ok(Some(MatchRpc {
        service,
        method: name,
        headers,
    }))
}
