use http::Method;
use regex_syntax::ast::Ast;

use crate::policy::{Condition, Pattern};
use crate::source::kubernetes::diagnostic::{Diagnostic, Severity};
use crate::source::kubernetes::error::Error;
use crate::source::kubernetes::field::Field;
use crate::source::kubernetes::route::looks;
use crate::source::kubernetes::said::Said;

/// Conditions nest as deep as documents may; these readers recurse.
pub(super) const DEPTH: usize = 32;

/// Reads a condition on requests. Several of its parts at once must all be met.
///
/// # Errors
/// What the mesh refuses.
pub(super) fn read(field: &Field<'_>, depth: usize, said: &mut Said) -> Result<Condition, Error> {
    said.known(field, &["pathRegex", "method", "all", "any", "not"]);
    let Some(deeper) = depth.checked_sub(1) else {
        return Err(field.error("nested deeper than 32 conditions"));
    };
    let mut parts = Vec::new();
    if let Some(path) = field.get("pathRegex")? {
        parts.push(Condition::Path(pattern(&path, said)?));
    }
    if let Some(method) = field.get("method")? {
        let upper = method.string()?.to_ascii_uppercase();
        let method =
            Method::from_bytes(upper.as_bytes()).map_err(|_| method.expected("an HTTP method"))?;
        parts.push(Condition::Method(method));
    }
    type Join = fn(Vec<Condition>) -> Condition;
    for (key, join) in [("all", Condition::All as Join), ("any", Condition::Any)] {
        if let Some(list) = field.get(key)? {
            let list = list.list()?.into_iter();
            let list = list.map(|part| read(&part, deeper, said));
            parts.push(join(list.collect::<Result<_, _>>()?));
        }
    }
    if let Some(not) = field.get("not")? {
        parts.push(Condition::Not(Box::new(read(&not, deeper, said)?)));
    }
    match (parts.pop(), parts.is_empty()) {
        (None, _) => {
            Err(field.error("an empty condition, expected pathRegex, method, all, any or not"))
        }
        (Some(one), true) => Ok(one),
        (Some(last), false) => {
            parts.push(last);
            Ok(Condition::All(parts))
        }
    }
}

/// The mesh writes `^` before a pattern and `$` after it, as text: of `/a|/b` each belongs to one side only.
fn pattern(field: &Field<'_>, said: &mut Said) -> Result<Pattern, Error> {
    let text = field.string()?.trim();
    let pattern = |text: &str| Pattern::new(text).map_err(|invalid| field.invalid(&invalid));
    let plain = pattern(text)?;
    looks::pattern(field, text, said);
    let parsed = regex_syntax::ast::parse::Parser::new().parse(text);
    if !matches!(parsed, Ok(Ast::Alternation(_))) {
        return Ok(plain);
    }
    let head = if text.starts_with('^') { "" } else { "^" };
    let tail = if text.ends_with('$') { "" } else { "$" };
    let meant = text.trim_start_matches('^').trim_end_matches('$');
    said.push(
        Diagnostic::new(
            Severity::Warning,
            field.origin,
            "the first alternative matches whatever begins with it, the last whatever ends with it, any other wherever it occurs",
        )
        .key(&field.path)
        .at(field.at())
        .mesh(format!("reads it as {head}{text}{tail}"))
        .remedy(format!("put it in parentheses: ({meant})")),
    );
    pattern(&format!("(?s:.*)(?:{head}{text}{tail})(?s:.*)"))
}
