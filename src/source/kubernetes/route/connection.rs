use super::{Group, Kind, Rule, backend};
use crate::source::kubernetes::field::Field;
use crate::source::kubernetes::said::Said;

/// The rules of a TLSRoute or TCPRoute: where connections go.
pub(super) fn rules(spec: &Field<'_>, kind: Kind, said: &mut Said) -> Vec<Rule> {
    let list = said.list(spec, "rules");
    let read = |rule: &Field<'_>| {
        said.known(rule, &["name", "backendRefs"]);
        Rule {
            backends: backend::read(rule, kind, Group::Gateway, said),
            path: rule.path.clone(),
            at: rule.at(),
            ..Rule::default()
        }
    };
    list.iter().map(read).collect()
}
