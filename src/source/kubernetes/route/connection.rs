use super::{Group, Kind, Rule, backend, keep};
use crate::source::kubernetes::diagnostic::Diagnostic;
use crate::source::kubernetes::error::Error;
use crate::source::kubernetes::field::Field;

/// The rules of a TLSRoute or TCPRoute: where connections go.
pub(super) fn rules(
    spec: &Field<'_>,
    kind: Kind,
    errors: &mut Vec<Error>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Rule> {
    let list = spec.get("rules").and_then(|rules| match rules {
        Some(rules) => rules.list(),
        None => Ok(Vec::new()),
    });
    let rules = keep(list, errors);
    let read = |rule: Field<'_>| keep(one(&rule, kind, diagnostics), errors);
    rules.into_iter().map(read).collect()
}

fn one(rule: &Field<'_>, kind: Kind, diagnostics: &mut Vec<Diagnostic>) -> Result<Rule, Error> {
    rule.known(&["name", "backendRefs"], diagnostics);
    Ok(Rule {
        backends: backend::read(rule, kind, Group::Gateway, diagnostics)?,
        path: rule.path.clone(),
        at: rule.at(),
        ..Rule::default()
    })
}
