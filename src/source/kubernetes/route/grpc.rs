use super::{Group, Kind, Rule, backend, filter, matches, note};
use crate::policy::MatchRpc;
use crate::source::kubernetes::diagnostic::Severity;
use crate::source::kubernetes::field::Field;
use crate::source::kubernetes::keys;
use crate::source::kubernetes::said::Said;

// === rules ===

/// The rules of a GRPCRoute. There are no defaults: without rules nothing is matched.
pub(super) fn rules(spec: &Field<'_>, said: &mut Said) -> Vec<Rule> {
    let list = said.list(spec, "rules");
    list.iter().map(|rule| one(rule, said)).collect()
}

fn one(rule: &Field<'_>, said: &mut Said) -> Rule {
    let known = [
        "name",
        "matches",
        "filters",
        "backendRefs",
        "sessionPersistence",
        "timeouts",
        "retry",
    ];
    said.known(rule, &known);
    for (key, annotations) in [
        ("timeouts", keys::TIMEOUT_REQUEST),
        ("retry", keys::RETRY_GRPC),
    ] {
        if let Some(field) = said.get(rule, key) {
            said.push(
                note(&field, Severity::Warning, "a GRPCRoute has no such field")
                    .mesh("never sees it: the API server refuses or drops it")
                    .remedy(format!("write {annotations} in the route's annotations")),
            );
        }
    }
    let filters = filter::of_rule(rule, Kind::Grpc, Group::Gateway, said);
    let mut rpcs = Vec::new();
    let mut left_out = false;
    for field in said.list(rule, "matches") {
        let rpc = rpc(&field, said);
        left_out |= rpc.is_none();
        rpcs.extend(rpc);
    }
    Rule {
        // No matches at all would be every call.
        never: left_out && rpcs.is_empty(),
        rpcs,
        filters,
        backends: backend::read(rule, Kind::Grpc, Group::Gateway, said),
        path: rule.path.clone(),
        at: rule.at(),
        ..Rule::default()
    }
}

/// None is a match that the mesh's proxy cannot read.
fn rpc(field: &Field<'_>, said: &mut Said) -> Option<MatchRpc> {
    said.known(field, &["method", "headers"]);
    let headers = matches::headers(field, said);
    let Some(method) = said.get(field, "method") else {
        let error = field
            .error("a match without a method; it is left out")
            .mesh("answers every request of the Service with an internal error")
            .remedy("name the service or the method beside the headers");
        said.push(error.diagnostic().clone());
        return None;
    };
    said.known(&method, &["type", "service", "method"]);
    said.read(&method, "type", |kind| {
        kind.one_of(&[("Exact", ())])
            .map_err(|error| error.remedy("name services and methods as they are"))
    });
    let before = said.errors.len();
    let mut text = |key: &str| {
        let name = said.read(&method, key, |field| match field.string()? {
            name if name.contains('/') => {
                let error = field.expected("a name without `/`");
                Err(match name.trim_matches('/').split_once('/') {
                    None => error.remedy(format!("write {}", name.trim_matches('/'))),
                    Some((service, method)) => {
                        error.remedy(format!("write service: {service} and method: {method}"))
                    }
                })
            }
            name => Ok(name.to_owned()),
        });
        name.filter(|name| !name.is_empty())
    };
    let (service, name) = (text("service"), text("method"));
    if service.is_none() && name.is_none() && said.errors.len() == before {
        said.wrong(
            method
                .error("neither a service nor a method")
                .remedy("name one of them"),
        );
    }
    Some(MatchRpc {
        service,
        method: name,
        headers,
    })
}
