//! Values of matches that are compared otherwise than they look.

use super::{Group, note};
use crate::source::kubernetes::diagnostic::Severity;
use crate::source::kubernetes::field::Field;
use crate::source::kubernetes::names::REFUSED;
use crate::source::kubernetes::place::quoted;
use crate::source::kubernetes::said::Said;

/// A path that is compared as it stands: the whole of it, or its first segments.
pub(super) fn path(value: &Field<'_>, text: &str, exact: bool, group: Group, said: &mut Said) {
    let wild = wild(text, exact);
    if let Some((why, remedy)) = refused(text) {
        let remedy = wild.map_or(remedy.to_owned(), |(_, remedy)| remedy);
        let message = format!("found {}, expected a path {why}", quoted(text));
        match group {
            Group::Gateway => said.wrong(value.error(message).mesh(REFUSED).remedy(remedy)),
            // Its API server does not look.
            Group::Linkerd => said.push(note(value, Severity::Warning, message).remedy(remedy)),
        }
    } else if let Some((piece, remedy)) = wild {
        let message = format!("{piece} in a path stands for itself, not for anything else");
        said.push(note(value, Severity::Warning, message).remedy(remedy));
    }
}

/// What somebody takes for a wildcard or a parameter, and what to write for it.
fn wild(text: &str, exact: bool) -> Option<(&'static str, String)> {
    let parameter = |segment: &str| segment.starts_with(['{', ':']);
    let piece = match text {
        _ if text.contains('*') => "*",
        _ if text.split('/').any(|segment| segment.starts_with('{')) => "{}",
        _ if text.split('/').any(parameter) => ":",
        _ => return None,
    };
    for everything in ["/**", "/*", "/.*", "/.+", "/(.*)", ".*", "*"] {
        let Some(before) = text.strip_suffix(everything) else {
            continue;
        };
        if before.contains('*') || before.split('/').any(parameter) {
            break;
        }
        let prefix = if before.is_empty() { "/" } else { before };
        let remedy = match exact {
            true => format!("write type: PathPrefix with value: {prefix}"),
            false => format!("write {prefix}, which matches what is below, too"),
        };
        return Some((piece, remedy));
    }
    let segments = text.split('/').map(|segment| match segment {
        "**" => ".*".to_owned(),
        _ if parameter(segment) => "[^/]+".to_owned(),
        _ => segment.replace('*', "[^/]*"),
    });
    let pattern = segments.collect::<Vec<_>>().join("/");
    let below = if exact { "" } else { "(/.*)?" };
    Some((
        piece,
        format!("write type: RegularExpression with value: {pattern}{below}"),
    ))
}

/// Why Gateway API's schema refuses a path, and what helps.
fn refused(text: &str) -> Option<(&'static str, &'static str)> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/%".contains(c);
    let bad = text.chars().find(|c| !allowed(*c));
    if text.contains('?') {
        return Some(("without a query", "put what comes after ? into queryParams"));
    }
    if text.contains("//") {
        return Some(("without //", "write one / in its place"));
    }
    let lower = text.to_ascii_lowercase();
    let dots = ["/./", "/../"].iter().any(|dots| text.contains(dots));
    if dots || text.ends_with("/.") || text.ends_with("/..") || lower.contains("%2f") {
        return Some(("without `.`, `..` and %2F", "write the path that is meant"));
    }
    bad.is_some().then_some((
        "of letters, digits and -._~!$&'()*+,;=:@%",
        "write other characters as % and two digits, or type: RegularExpression",
    ))
}

/// A pattern for a path. It has to match the whole of it.
pub(in crate::source::kubernetes) fn pattern(value: &Field<'_>, text: &str, said: &mut Said) {
    let mut say = |message: &str, remedy: String| {
        said.push(note(value, Severity::Warning, message).remedy(remedy));
    };
    let bare = text.strip_prefix('^').unwrap_or(text);
    if bare.starts_with(|c: char| c.is_ascii_alphanumeric()) && !bare.contains('|') {
        let message = "never met: a path begins with /, and a pattern has to match all of it";
        return say(message, format!("write /{bare}, or .*{bare}"));
    }
    if let Some(before) = text.strip_suffix("/*") {
        let message = "* is \"any number of what stands before it\", here of /: nothing that is below is matched";
        return say(message, format!("write {before}/.*"));
    }
    let open =
        text.starts_with('^') && text.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '/');
    if open {
        let message = "a pattern has to match the whole path: nothing that is below is matched";
        say(
            message,
            format!("write {text}.* if that is meant, else {text}$"),
        );
    }
}

/// A header's or a parameter's value that is compared as it stands.
pub(super) fn literal(value: &Field<'_>, said: &mut Said) {
    let text = value.text().unwrap_or_default();
    if text.contains(".*") || text.contains(".+") || (text.starts_with('^') && text.ends_with('$'))
    {
        let message = format!("{} is compared as it stands", quoted(text));
        let remedy = "write type: RegularExpression beside it for a pattern";
        said.push(note(value, Severity::Warning, message).remedy(remedy));
    }
}
