use std::fmt;

use super::place::{Mark, Origin};
use crate::core::spelled_out;
use crate::policy::Difference;

/// How much a [`Diagnostic`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// Worth knowing; what was written takes effect.
    Note,
    /// Something that was written does not take effect, or not as it seems.
    Warning,
    /// Not valid, or refused by the API server. Resolving the resource that it is about fails with the same words, unless
    /// what it is about can be read all the same (a name).
    Error,
}

/// Something that a person who wrote a manifest should know.
///
/// The mesh writes such things to its controller's log, or nowhere. Written out (`Display`) as one line: place, severity,
/// resource, key, what is the matter and what helps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Diagnostic {
    /// How much it matters.
    pub severity: Severity,
    /// The file, by the path or name it was read under; none for a text without a name.
    pub file: Option<String>,
    /// The line, from 1; none where it is about no line in particular.
    pub line: Option<u32>,
    /// The column in characters, from 1.
    pub column: Option<u32>,
    /// The resource, as `Service shop/payments`.
    pub resource: Option<String>,
    /// The annotation's key, or the field as a dotted path (`spec.ports[0].port`).
    pub key: Option<String>,
    /// What was found, and what was expected.
    pub message: String,
    /// What the mesh does with it, as the rest of a sentence that begins with "the mesh".
    pub mesh: Option<String>,
    /// The item of [`Fidelity`](crate::policy::Fidelity)'s table under which this crate does otherwise, if it does.
    pub difference: Option<Difference>,
    /// What helps: what to write instead.
    pub remedy: Option<String>,
}

// === impl Severity ===

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

// === impl Diagnostic ===

impl Diagnostic {
    pub(super) fn new(severity: Severity, origin: &Origin, message: impl Into<String>) -> Self {
        Self {
            severity,
            file: origin.file.as_deref().map(str::to_owned),
            line: None,
            column: None,
            resource: origin.resource.as_deref().map(str::to_owned),
            key: None,
            message: message.into(),
            mesh: None,
            difference: None,
            remedy: None,
        }
    }

    pub(super) fn at(mut self, mark: Mark) -> Self {
        // A default mark is no place.
        if mark.line > 0 {
            self.line = Some(mark.line);
            self.column = Some(mark.column);
        }
        self
    }

    pub(super) fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// What the mesh does: "the mesh" and then this.
    pub(super) fn mesh(mut self, mesh: impl Into<String>) -> Self {
        self.mesh = Some(mesh.into());
        self
    }

    /// What this crate does otherwise, unless it is told to do as the mesh does.
    pub(super) fn beyond(mut self, difference: Difference) -> Self {
        self.difference = Some(difference);
        self
    }

    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Those without a place first.
    pub(super) fn by_place(one: &Self, two: &Self) -> std::cmp::Ordering {
        let place = |diagnostic: &Self| (diagnostic.line, diagnostic.column);
        (&one.file, place(one)).cmp(&(&two.file, place(two)))
    }

    /// The place, then what it is about and why. One line, whatever stands in the manifest.
    pub(super) fn write(&self, f: &mut fmt::Formatter<'_>, severity: &str) -> fmt::Result {
        let mut text = match (&self.file, self.line, self.column) {
            (Some(file), Some(line), Some(column)) => format!("{file}:{line}:{column}: "),
            (Some(file), ..) => format!("{file}: "),
            (None, Some(line), Some(column)) => format!("line {line}, column {column}: "),
            (None, ..) => String::new(),
        };
        text.push_str(severity);
        for part in [&self.resource, &self.key].into_iter().flatten() {
            text.push_str(part);
            text.push_str(": ");
        }
        text.push_str(&self.message);
        if let Some(mesh) = &self.mesh {
            text.push_str("; the mesh ");
            text.push_str(mesh);
        }
        if let Some(remedy) = &self.remedy {
            text.push_str("; ");
            text.push_str(remedy);
        }
        f.write_str(&spelled_out(&text, |_| false))
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, &format!("{}: ", self.severity))
    }
}
