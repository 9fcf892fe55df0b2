//! Files and texts become objects.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Severity};
use super::error::{Error, ErrorKind};
use super::objects::Objects;
use super::place::{Mark, Origin};
use super::said::Said;
use super::yaml::{Cause, Node, Refused};
use super::{document, files, grammar, link, yaml};

/// Manifests as they are read, file by file.
#[derive(Default)]
pub(super) struct Reading {
    objects: Objects,
    said: Said,
    /// Whether something could not be read at all.
    missing: bool,
    documents: usize,
}

// === impl Reading ===

impl Reading {
    pub(super) fn files(&mut self, path: &Path) -> Vec<PathBuf> {
        let list = files::list(path, &mut self.said.diagnostics);
        let missing = list.is_err();
        self.missing |= missing;
        self.said.keep(list).unwrap_or_default()
    }

    pub(super) fn file(&mut self, path: &Path) {
        let origin = Origin::new(Some(files::name(path)));
        let text = files::text(path);
        self.missing |= text.is_err();
        let Some(text) = self.said.keep(text) else {
            return;
        };
        let before = (self.documents, self.said.errors.len());
        self.text(&text, &origin);
        if before == (self.documents, self.said.errors.len()) {
            self.said
                .push(Diagnostic::new(Severity::Note, &origin, "has no documents"));
        }
    }

    pub(super) fn text(&mut self, text: &str, origin: &Origin) {
        let before = self.said.errors.len();
        let (documents, refused) = yaml::all(text);
        self.documents += documents.len();
        for document in documents {
            self.document(&document, origin);
        }
        for refused in refused {
            self.missing |= !matches!(refused.cause, Cause::DuplicateKey(_));
            self.said.wrong(refusal(text, origin, refused));
        }
        if let Some(of_it) = self.said.errors.get_mut(before..) {
            of_it.sort_by_key(|error| (error.line(), error.column()));
        }
    }

    fn document(&mut self, document: &Node, origin: &Origin) {
        let mut objects = Vec::new();
        document::read(document, origin, &mut objects, &mut self.said);
        for object in objects {
            let added = self.objects.add(object);
            self.said.keep(added);
        }
    }

    /// Everything has been read: the objects, and what is said of them.
    ///
    /// # Errors
    /// The first of what is wrong, among all that is said; no document at all.
    pub(super) fn finish(
        self,
        file: Option<Arc<str>>,
    ) -> Result<(Objects, Vec<Diagnostic>), Error> {
        let Self {
            mut objects,
            said: Said {
                mut diagnostics,
                errors,
            },
            missing,
            documents,
        } = self;
        // Who is missing would be missed by others, and has been told.
        if !missing {
            link::link(&mut objects, &mut diagnostics);
        }
        if let Some(first) = errors.first() {
            let all = errors.iter().map(|error| error.diagnostic().clone());
            return Err(first.clone().among(all.chain(diagnostics).collect()));
        }
        if documents == 0 {
            let origin = Origin::new(file);
            let message = "found no documents, expected at least one Kubernetes object in YAML";
            let diagnostic = Diagnostic::new(Severity::Error, &origin, message);
            return Err(Error::new(ErrorKind::Empty, diagnostic));
        }
        Ok((objects, diagnostics))
    }
}

/// The words for what the parser refuses.
fn refusal(text: &str, origin: &Origin, refused: Refused) -> Error {
    let error = |kind, message: String| {
        let diagnostic = Diagnostic::new(Severity::Error, origin, message);
        Error::new(kind, diagnostic.at(refused.at))
    };
    match refused.cause {
        Cause::Limit(limit) => {
            let error = error(ErrorKind::Limit, format!("more than {limit}"));
            if limit == yaml::DEPTH {
                error
            } else {
                error.remedy("split the file")
            }
        }
        Cause::DuplicateKey(key) => {
            let message = "the same key twice in one mapping".to_owned();
            error(ErrorKind::Duplicate, message)
                .key_is(key)
                .remedy("keep one of them")
        }
        Cause::Syntax(message) => {
            let tabs = message.contains("tab");
            let at = match tabs {
                true => tab(text, refused.at).unwrap_or(refused.at),
                false => refused.at,
            };
            let message_is = |part| message.contains(part);
            let error = error(ErrorKind::Syntax, format!("not YAML: {message}"));
            let error = error.at(at);
            if text.contains("{{") {
                error.remedy(grammar::RENDER)
            } else if tabs {
                error.remedy("indent with spaces")
            } else if message_is("block mapping") || message_is("block sequence") {
                error.remedy("look at the indent of this line, and of those above")
            } else if message_is("mapping values") {
                error.remedy("look for a `:` without a space after it, here or in the line above")
            } else if message_is("anchor") {
                error.remedy("an anchor is for aliases in the same document, after it")
            } else {
                error
            }
        }
    }
}

/// The first line from here on that is indented with a tab. The parser names what stands before it.
fn tab(text: &str, from: Mark) -> Option<Mark> {
    let first = usize::try_from(from.line).ok()?.checked_sub(1)?;
    let lines = text.lines().zip(1_u32..).skip(first);
    let mut marks = lines.filter_map(|(line, number)| {
        let indent = line.split(|c: char| !c.is_whitespace()).next()?;
        let column = indent.chars().position(|c| c == '\t')?;
        Some(Mark {
            line: number,
            column: u32::try_from(column).ok()?.saturating_add(1),
        })
    });
    marks.next()
}
