use std::fmt;
use std::io;
use std::sync::Arc;

use crate::source::kubernetes::place::Mark;

/// What is wrong with a scenario file.
///
/// `Display` is one line that names the place, the key, what was found, what was expected, and what helps:
///
/// ```text
/// gray.yaml:12:16: endpoints[1].faults[0].fail: found the number 1.5, expected a part from 0 to 1
/// ```
#[derive(Clone, Debug, thiserror::Error)]
pub struct ScenarioError {
    pub(super) kind: ScenarioErrorKind,
    pub(super) file: Option<Arc<str>>,
    pub(super) line: Option<u32>,
    pub(super) column: Option<u32>,
    pub(super) key: Option<String>,
    pub(super) message: String,
    pub(super) remedy: Option<String>,
    #[source]
    pub(super) cause: Option<Arc<io::Error>>,
}

/// What a [`ScenarioError`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ScenarioErrorKind {
    /// A file could not be read: the scenario, or the policy it names.
    Io,
    /// Not YAML, more of it than the limits allow, or not one document.
    Syntax,
    /// A key that is none, or that stands twice.
    Key,
    /// A key that must be there is not.
    Missing,
    /// A value that cannot be.
    Value,
    /// The policy is not valid, or does not fit the endpoints.
    Policy,
}

// === impl ScenarioError ===

impl ScenarioError {
    pub(super) fn new(
        kind: ScenarioErrorKind,
        file: Option<&Arc<str>>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            file: file.cloned(),
            line: None,
            column: None,
            key: None,
            message: message.into(),
            remedy: None,
            cause: None,
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

    pub(super) fn key_is(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into()).filter(|key: &String| !key.is_empty());
        self
    }

    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// What it is about.
    pub fn kind(&self) -> ScenarioErrorKind {
        self.kind
    }

    /// The file, by the path it was read from; none for a text.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// The line, from 1.
    pub fn line(&self) -> Option<u32> {
        self.line
    }

    /// The column in characters, from 1.
    pub fn column(&self) -> Option<u32> {
        self.column
    }

    /// The key as a dotted path: `endpoints[0].latency`.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line, self.column) {
            (Some(file), Some(line), Some(column)) => write!(f, "{file}:{line}:{column}: ")?,
            (Some(file), ..) => write!(f, "{file}: ")?,
            (None, Some(line), Some(column)) => write!(f, "line {line}, column {column}: ")?,
            (None, ..) => {}
        }
        if let Some(key) = &self.key {
            write!(f, "{}: ", key.escape_debug())?;
        }
        // One line, whatever stands in the file.
        write!(f, "{}", self.message.replace(char::is_control, " "))?;
        if let Some(remedy) = &self.remedy {
            write!(f, "; {}", remedy.replace(char::is_control, " "))?;
        }
        Ok(())
    }
}
