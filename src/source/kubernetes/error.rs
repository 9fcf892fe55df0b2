use std::fmt;
use std::io;
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Severity};
use super::place::{Mark, Origin};

/// Why manifests could not be read, or a target not be resolved.
///
/// `Display` is one line that names the place (file, line, column), the resource, the key, what was found, what was
/// expected, and what helps:
///
/// ```text
/// deploy/payments.yaml:9:39: Service shop/payments: retry.linkerd.io/timeout: found "1h30m", expected a whole number
/// and one unit (ms, s, m, h, d); write "90m"
/// ```
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    // Boxed, for a `Result` is as large as its larger half.
    diagnostic: Box<Diagnostic>,
    cause: Option<Arc<io::Error>>,
    /// Everything that was said when it was found, itself included; empty where it stands alone.
    among: Arc<[Diagnostic]>,
}

/// What an [`Error`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file or folder could not be read. The cause is the error's `source()`.
    Io,
    /// Not YAML, or not UTF-8.
    Syntax,
    /// More than a manifest may be: size, depth, documents, or what aliases repeat.
    Limit,
    /// No document at all.
    Empty,
    /// A field is missing, or of the wrong type.
    Field,
    /// The same key twice in one mapping, or the same Service twice.
    Duplicate,
    /// A target that is not `name.namespace:port`.
    Target,
    /// No such Service.
    ServiceNotFound,
    /// The Service has no such port, or several where the target names none.
    PortNotFound,
    /// An annotation's value is not in its grammar.
    Annotation,
    /// The port does not carry HTTP as far as the mesh is concerned, so that there is no HTTP policy.
    Protocol,
    /// The Service has no endpoints of its own (`type: ExternalName`).
    ExternalName,
    /// A warning about this target or what is attached to it, with [`Manifests::strict`](super::Manifests::strict).
    Strict,
}

// === impl Error ===

impl Error {
    pub(super) fn new(kind: ErrorKind, diagnostic: Diagnostic) -> Self {
        Self {
            kind,
            diagnostic: Box::new(Diagnostic {
                severity: Severity::Error,
                ..diagnostic
            }),
            cause: None,
            among: Arc::new([]),
        }
    }

    /// Something at a place.
    pub(super) fn found(
        kind: ErrorKind,
        origin: &Origin,
        key: impl Into<String>,
        at: Mark,
        message: impl Into<String>,
    ) -> Self {
        let diagnostic = Diagnostic::new(Severity::Error, origin, message);
        Self::new(kind, diagnostic.key(key).at(at))
    }

    pub(super) fn io(path: &std::path::Path, cause: io::Error) -> Self {
        let origin = Origin::new(Some(path.to_string_lossy().into()));
        let message = format!("cannot be read: {cause}");
        Self {
            cause: Some(Arc::new(cause)),
            ..Self::new(
                ErrorKind::Io,
                Diagnostic::new(Severity::Error, &origin, message),
            )
        }
    }

    /// What the mesh does: "the mesh" and then this.
    pub(super) fn mesh(mut self, mesh: impl Into<String>) -> Self {
        self.diagnostic.mesh = Some(mesh.into());
        self
    }

    /// The same, unless that has been said.
    pub(super) fn or_mesh(self, mesh: &str) -> Self {
        match self.diagnostic.mesh {
            Some(_) => self,
            None => self.mesh(mesh),
        }
    }

    /// Where, if that is known better now.
    pub(super) fn at(mut self, mark: Mark) -> Self {
        *self.diagnostic = self.diagnostic.at(mark);
        self
    }

    /// The key it is about.
    pub(super) fn key_is(mut self, key: String) -> Self {
        self.diagnostic.key = Some(key);
        self
    }

    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.diagnostic.remedy = Some(remedy.into());
        self
    }

    /// One of these.
    pub(super) fn among(mut self, mut all: Vec<Diagnostic>) -> Self {
        all.sort_by(Diagnostic::by_place);
        self.among = all.into();
        self
    }

    /// What it is about.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The file, by the path or name it was read under. None for a text without a name, and for errors that are about
    /// no file (a target that is not one).
    pub fn file(&self) -> Option<&str> {
        self.diagnostic.file.as_deref()
    }

    /// The line, from 1.
    pub fn line(&self) -> Option<u32> {
        self.diagnostic.line
    }

    /// The column in characters, from 1.
    pub fn column(&self) -> Option<u32> {
        self.diagnostic.column
    }

    /// The annotation's key, or the field as a dotted path.
    pub fn key(&self) -> Option<&str> {
        self.diagnostic.key.as_deref()
    }

    /// The same as a value whose parts can be read one by one.
    pub fn diagnostic(&self) -> &Diagnostic {
        &self.diagnostic
    }

    /// Everything that there is to say, by file and line: manifests that cannot be read may have many mistakes, of which this
    /// error is the first.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match &*self.among {
            [] => std::slice::from_ref(&self.diagnostic),
            all => all,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.diagnostic.write(f, "")?;
        let all = self.diagnostics().iter();
        let errors = all.filter(|one| one.severity == Severity::Error).count();
        match errors.saturating_sub(1) {
            0 => Ok(()),
            1 => f.write_str(" (and 1 more error)"),
            more => write!(f, " (and {more} more errors)"),
        }
    }
}

// Not derived: `thiserror` would give the `Arc` as the source, and nobody's `downcast_ref::<io::Error>()` would find it.
impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause
            .as_deref()
            .map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}
