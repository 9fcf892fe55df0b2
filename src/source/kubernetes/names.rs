//! What things may be called: the API server's rules for names, and for the keys of labels and annotations.

use super::diagnostic::{Diagnostic, Severity};
use super::field::Field;
use super::grammar;
use super::place::quoted;
use super::said::Said;
use super::yaml::Value;

/// One of the API server's forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Of namespaces and of a Service's ports (RFC 1123).
    Label,
    /// Of a Service (RFC 1035): a label that begins with a letter.
    ServiceName,
    /// Of most objects (RFC 1123): labels, between dots.
    Subdomain,
    /// Of a container's port, where a Service names it (RFC 6335).
    PortName,
}

// === impl Form ===

impl Form {
    /// Of an object of this kind.
    pub(super) fn of(kind: &str) -> Self {
        match kind {
            "Service" => Self::ServiceName,
            _ => Self::Subdomain,
        }
    }

    pub(super) fn has(self, text: &str) -> bool {
        let most = match self {
            Self::Label | Self::ServiceName => 63,
            Self::Subdomain => 253,
            Self::PortName => 15,
        };
        text.len() <= most
            && match self {
                Self::Label => is_label(text),
                Self::ServiceName => {
                    is_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase())
                }
                Self::Subdomain => text.split('.').all(is_label),
                Self::PortName => {
                    let letter = text.bytes().any(|b| b.is_ascii_lowercase());
                    is_label(text) && letter && !text.contains("--")
                }
            }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Label => "at most 63 lower-case letters, digits and dashes, no dash at the ends",
            Self::ServiceName => {
                "at most 63 lower-case letters, digits and dashes, first a letter and no dash at the end"
            }
            Self::Subdomain => {
                "at most 253 lower-case letters, digits, dashes and dots, with a letter or digit at both ends and beside dots"
            }
            Self::PortName => {
                "at most 15 lower-case letters, digits and dashes, at least one letter, no dash at the ends and no two in a row"
            }
        }
    }

    /// The same as it might have been meant.
    fn reword(self, text: &str) -> Option<String> {
        let lower = text.trim().to_ascii_lowercase();
        let keep = |c: char| c.is_ascii_alphanumeric() || (c == '.' && self == Self::Subdomain);
        let dashes: String = lower
            .chars()
            .map(|c| if keep(c) { c } else { '-' })
            .collect();
        let better = dashes.trim_matches('-').to_owned();
        self.has(&better).then_some(better)
    }

    /// Says of a name that it is none: who is called so is never there.
    pub(super) fn check(self, name: &Field<'_>, said: &mut Said) {
        let Some(text) = name
            .text()
            .filter(|text| !text.is_empty() && !self.has(text))
        else {
            return;
        };
        let remedy = match self.reword(text) {
            _ if grammar::is_template(text) => Some(grammar::RENDER.to_owned()),
            better => better.map(|better| format!("write {better}")),
        };
        refuse(name, self.expected(), remedy, said);
    }
}

/// Checks the labels of an object, or a selector: their keys, and their values.
pub(super) fn labels(labels: &Field<'_>, said: &mut Said) {
    for entry in labels.entries().unwrap_or_default() {
        key(labels, &entry.key, entry.key_at, said);
        let value = Field::root(&entry.value, labels.child(&entry.key), labels.origin);
        match &entry.value.value {
            Value::String(text) if text.is_empty() || (text.len() <= 63 && is_name(text)) => {}
            Value::String(text) => {
                let remedy = grammar::is_template(text).then(|| grammar::RENDER.to_owned());
                let expected = "at most 63 letters, digits, dashes, dots and underscores, with a letter or digit at both ends";
                refuse(&value, expected, remedy, said);
            }
            Value::Bool(text) | Value::Number(text, _) => {
                refuse(
                    &value,
                    "a string",
                    Some(format!("quote it: \"{text}\"")),
                    said,
                );
            }
            Value::Null => refuse(
                &value,
                "a string",
                Some("write it in quotes: \"\"".to_owned()),
                said,
            ),
            Value::List(_) | Value::Map(_) => refuse(&value, "a string", None, said),
        }
    }
}

/// Checks the key of a label or an annotation: at most one `/`, after the domain that it belongs to.
pub(super) fn key(holder: &Field<'_>, text: &str, at: super::place::Mark, said: &mut Said) {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    // The API server compares an annotation's domain in lower case, and a label's as it is; who writes one of ours otherwise
    // is told so elsewhere.
    let prefix = prefix.map(str::to_ascii_lowercase);
    let good = name.len() <= 63
        && is_name(name)
        && prefix.is_none_or(|prefix| Form::Subdomain.has(&prefix));
    if good {
        return;
    }
    let found = quoted(text);
    let message = format!(
        "found the key {found}, expected at most 63 letters, digits, dashes, dots and underscores, after a domain and `/` or alone"
    );
    let diagnostic = Diagnostic::new(Severity::Error, holder.origin, message)
        .key(&holder.path)
        .at(at)
        .mesh(REFUSED);
    said.push(match grammar::is_template(text) {
        true => diagnostic.remedy(grammar::RENDER),
        false => diagnostic,
    });
}

/// What the mesh does with what is not there.
pub(super) const REFUSED: &str = "never sees it: the API server refuses it";

fn refuse(field: &Field<'_>, expected: &str, remedy: Option<String>, said: &mut Said) {
    let error = field.expected(expected).mesh(REFUSED);
    let error = match remedy {
        Some(remedy) => error.remedy(remedy),
        None => error,
    };
    said.push(error.diagnostic().clone());
}

fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// A key's own part, or a label's value.
fn is_name(text: &str) -> bool {
    let ends = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(ends)
        && text.ends_with(ends)
        && text
            .chars()
            .all(|c| ends(c) || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        use Form::*;
        let long = "a".repeat(64);
        for (form, good, bad) in [
            (
                Label,
                &["a", "0", "a-b", "8080-tcp"][..],
                &["", "A", "a_b", "-a", "a-", "a.b", &long][..],
            ),
            (
                ServiceName,
                &["payments", "a0-b"],
                &["0a", "Payments", "pay.ments"],
            ),
            (
                Subdomain,
                &["a.b", "0.a-b.c", &long],
                &["a..b", ".a", "a.", "A.b", "a.-b"],
            ),
            (
                PortName,
                &["http", "grpc-web", "h2"],
                &["8080", "http--x", "sixteen-letters-", "a-very-long-name"],
            ),
        ] {
            for text in good {
                assert!(form.has(text), "{form:?} {text}");
            }
            for text in bad {
                assert!(!form.has(text), "{form:?} {text}");
            }
        }
        for (text, better) in [
            ("Payments_API", Some("payments-api")),
            ("a.b", Some("a-b")),
            (" web ", Some("web")),
            ("1st", None),
            ("ä", None),
        ] {
            assert_eq!(ServiceName.reword(text).as_deref(), better, "{text}");
        }
    }
}
