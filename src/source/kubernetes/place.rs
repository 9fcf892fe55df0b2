use std::sync::Arc;

/// A line and a column of a text, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Mark {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// What is being read: a file, where it has a name, and the resource in it, as far as it is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    pub(crate) file: Option<Arc<str>>,
    pub(crate) resource: Option<Arc<str>>,
}

/// The longest piece of a manifest that a message repeats.
const MAX_QUOTED: usize = 80;

/// A piece of a manifest for a message: quoted, without control characters, cut when long.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{:?}...", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

// === impl Mark ===

impl Mark {
    /// The parser counts lines from 1 and columns from 0.
    pub(crate) fn of(marker: &granit_parser::Marker) -> Self {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            line: number(marker.line()),
            column: number(marker.col()).saturating_add(1),
        }
    }
}

// === impl Origin ===

impl Origin {
    pub(crate) fn new(file: Option<Arc<str>>) -> Self {
        Self {
            file,
            resource: None,
        }
    }

    /// The same file, this resource.
    pub(crate) fn resource(&self, resource: String) -> Self {
        Self {
            file: self.file.clone(),
            resource: Some(resource.into()),
        }
    }
}
