use std::borrow::Cow;

/// A policy value that breaks one of the mesh's validity rules.
///
/// Says which field, what was found there and what is expected instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {found} is not valid; expected {expected}")]
pub struct InvalidPolicy {
    field: Cow<'static, str>,
    found: String,
    expected: Cow<'static, str>,
}

// === impl InvalidPolicy ===

impl InvalidPolicy {
    pub(crate) fn new(
        field: impl Into<Cow<'static, str>>,
        found: impl ToString,
        expected: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            field: field.into(),
            found: found.to_string(),
            expected: expected.into(),
        }
    }

    /// The same, found in another field.
    pub(crate) fn in_field(mut self, field: &'static str) -> Self {
        self.field = field.into();
        self
    }

    /// The field, as a dotted path such as `retry.status_ranges`.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// What was found.
    pub fn found(&self) -> &str {
        &self.found
    }

    /// Both, for those who name the field themselves.
    #[cfg(any(feature = "kubernetes", feature = "linkerd"))]
    pub(crate) fn words(&self) -> String {
        format!("found {}, expected {}", self.found, self.expected)
    }

    /// What would have been accepted.
    pub fn expected(&self) -> &str {
        &self.expected
    }
}
