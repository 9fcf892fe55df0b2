use super::diagnostic::{Diagnostic, Severity};
use super::error::Error;
use super::field::Field;
use super::keys;
use super::yaml::{Node, Value};

/// What is said while something is read. Who finds a mistake writes it down here and reads on, so that every mistake is told
/// and not only the first.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) diagnostics: Vec<Diagnostic>,
    /// What makes it something that cannot be used. What was read beside them is there to find more of them.
    pub(super) errors: Vec<Error>,
}

// === impl Said ===

impl Said {
    pub(super) fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// An error.
    pub(super) fn wrong(&mut self, error: Error) {
        // More are read by nobody.
        const MOST: usize = 1000;
        // Who is no mapping is none for each of its keys.
        let again = self.errors.last();
        let again = again.is_some_and(|last| last.diagnostic() == error.diagnostic());
        if !again && self.errors.len() < MOST {
            self.errors.push(error);
        }
    }

    /// The value; or none, and the error is written down.
    pub(super) fn keep<T>(&mut self, read: Result<T, Error>) -> Option<T> {
        read.map_err(|error| self.wrong(error)).ok()
    }

    /// The value of a key, where there is one.
    pub(super) fn get<'a>(&mut self, of: &Field<'a>, key: &str) -> Option<Field<'a>> {
        self.keep(of.get(key)).flatten()
    }

    /// The same, read.
    pub(super) fn read<'a, T>(
        &mut self,
        of: &Field<'a>,
        key: &str,
        read: impl FnOnce(&Field<'a>) -> Result<T, Error>,
    ) -> Option<T> {
        let field = self.get(of, key)?;
        self.keep(read(&field))
    }

    /// The same of a key that must be there.
    pub(super) fn need<'a, T>(
        &mut self,
        of: &Field<'a>,
        (key, expected): (&str, &str),
        read: impl FnOnce(&Field<'a>) -> Result<T, Error>,
    ) -> Option<T> {
        let field = self.keep(of.require(key, expected))?;
        self.keep(read(&field))
    }

    /// What is in the list of a key, where there is one.
    pub(super) fn list<'a>(&mut self, of: &Field<'a>, key: &str) -> Vec<Field<'a>> {
        self.read(of, key, Field::list).unwrap_or_default()
    }

    /// Says of each key that is none of these that nothing reads it.
    pub(super) fn known(&mut self, of: &Field<'_>, known: &[&str]) {
        for entry in of.entries().unwrap_or_default() {
            if known.contains(&entry.key.as_str()) {
                continue;
            }
            // Of what was meant for an annotation more is said elsewhere.
            let holder = ["annotations", "labels", "template"].contains(&entry.key.as_str());
            if keys::is_policy(&entry.key) || (holder && holds_policy(&entry.value)) {
                continue;
            }
            let message = "unknown field; the API server refuses or drops it";
            let diagnostic = Diagnostic::new(Severity::Warning, of.origin, message)
                .key(of.child(&entry.key))
                .at(entry.key_at);
            self.push(match keys::nearest_of(&entry.key, known) {
                Some(near) => diagnostic.remedy(format!("did you mean {near}?")),
                None => diagnostic,
            });
        }
    }

    /// Everything that was said of something else, which was read apart; its errors, as they are, too.
    pub(super) fn add(&mut self, mut other: Self) -> Vec<Error> {
        other
            .errors
            .sort_by_key(|error| (error.line(), error.column()));
        let errors = other.errors.iter();
        other
            .diagnostics
            .extend(errors.map(|error| error.diagnostic().clone()));
        other
            .diagnostics
            .sort_by_key(|said| (said.line, said.column));
        self.diagnostics.append(&mut other.diagnostics);
        other.errors
    }
}

// Recursive over what has been found to be at most 100 levels deep.
fn holds_policy(node: &Node) -> bool {
    match &node.value {
        Value::Map(entries) => entries
            .iter()
            .any(|entry| keys::is_policy(&entry.key) || holds_policy(&entry.value)),
        _ => false,
    }
}
