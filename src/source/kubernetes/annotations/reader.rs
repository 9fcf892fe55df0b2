//! One annotation after the other, and what is said of each.

use crate::policy::{Difference, InvalidPolicy};
use crate::source::kubernetes::diagnostic::{Diagnostic, Severity};
use crate::source::kubernetes::error::{Error, ErrorKind};
use crate::source::kubernetes::grammar::{self, Mistake, expected};
use crate::source::kubernetes::keys;
use crate::source::kubernetes::metadata::Annotation;
use crate::source::kubernetes::place::{Mark, Origin, quoted};
use crate::source::kubernetes::said::Said;

/// The error has been written down.
pub(super) struct Invalid;

/// Reads one key after the other, so that every mistake is found and not only the first.
pub(super) struct Reader<'a> {
    annotations: &'a [Annotation],
    origin: &'a Origin,
    said: &'a mut Said,
}

// === impl Reader ===

impl<'a> Reader<'a> {
    pub(super) fn new(
        annotations: &'a [Annotation],
        origin: &'a Origin,
        said: &'a mut Said,
    ) -> Self {
        Self {
            annotations,
            origin,
            said,
        }
    }

    pub(super) fn find(&self, key: &str) -> Option<&'a Annotation> {
        self.annotations.iter().find(|found| found.key == key)
    }

    pub(super) fn read<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, Mistake>,
    ) -> Result<Option<T>, Invalid> {
        let Some(found) = self.find(key) else {
            return Ok(None);
        };
        match parse(&found.value) {
            Ok(value) => Ok(Some(value)),
            Err(mistake) => Err(self.mistake(found, mistake)),
        }
    }

    pub(super) fn mistake(&mut self, found: &Annotation, mistake: Mistake) -> Invalid {
        let message = format!(
            "found {}, expected {}",
            quoted(&found.value),
            mistake.expected
        );
        let error = Error::found(
            ErrorKind::Annotation,
            self.origin,
            &found.key,
            found.at,
            message,
        );
        let remedy = match grammar::is_template(&found.value) {
            true => Some(grammar::RENDER.to_owned()),
            false => mistake.remedy,
        };
        self.said.errors.push(match remedy {
            Some(remedy) => error.remedy(remedy),
            None => error,
        });
        Invalid
    }

    pub(super) fn say(
        &mut self,
        severity: Severity,
        found: &Annotation,
        message: &str,
        remedy: &str,
    ) {
        let diagnostic = Diagnostic::new(severity, self.origin, message)
            .key(&found.key)
            .at(found.key_at);
        self.said.push(if remedy.is_empty() {
            diagnostic
        } else {
            diagnostic.remedy(remedy)
        });
    }

    pub(super) fn annotations(&self) -> &'a [Annotation] {
        self.annotations
    }

    /// That this crate honours it and the mesh does not.
    pub(super) fn say_beyond(
        &mut self,
        severity: Severity,
        found: &Annotation,
        difference: Difference,
    ) {
        let diagnostic =
            Diagnostic::new(severity, self.origin, "an annotation of this crate's own")
                .key(&found.key)
                .at(found.key_at)
                .mesh("does not know it")
                .beyond(difference);
        self.said.push(diagnostic);
    }

    pub(super) fn without_effect(&mut self, keys: &[&str], remedy: &str) {
        for key in keys {
            if let Some(found) = self.find(key) {
                self.say(Severity::Warning, found, "has no effect here", remedy);
            }
        }
    }

    pub(super) fn blame(&mut self, key: &str, error: &InvalidPolicy) -> Invalid {
        match self.find(key) {
            Some(found) => self.mistake(found, expected(error.to_string())),
            None => {
                let message = error.to_string();
                let mark = Mark::default();
                let error = Error::found(ErrorKind::Annotation, self.origin, key, mark, message);
                self.said.errors.push(error);
                Invalid
            }
        }
    }

    /// Says of each that nobody knows what it might mean.
    pub(super) fn unknown(&mut self) {
        // To suggest costs thousands of steps for each; who has more unknown keys has another problem.
        const SUGGESTIONS: usize = 32;
        let unknown = self.annotations.iter();
        let unknown = unknown.filter(|found| keys::is_unknown(&found.key));
        for (i, found) in unknown.enumerate() {
            let nearest = (i < SUGGESTIONS).then(|| keys::nearest(&found.key));
            let remedy = match nearest.flatten() {
                Some(known) => format!("did you mean {known}?"),
                None => String::new(),
            };
            let message = "unknown annotation; it has no effect";
            self.say(Severity::Warning, found, message, &remedy);
        }
    }
}
