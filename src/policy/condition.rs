use http::Method;

use super::Pattern;

/// What a ServiceProfile asks of a request: patterns and methods, joined as one likes.
///
/// ```
/// use http::Method;
/// use tower_mesh::policy::{Condition, Pattern};
///
/// let reads = Condition::Any(vec![Condition::Method(Method::GET), Condition::Method(Method::HEAD)]);
/// let private = Condition::Path(Pattern::new("/private/.*")?);
/// let public_reads = Condition::All(vec![reads, Condition::Not(Box::new(private))]);
/// assert!(public_reads.matches(&Method::GET, "/books"));
/// assert!(!public_reads.matches(&Method::GET, "/private/books"));
/// # Ok::<(), tower_mesh::policy::InvalidPolicy>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Condition {
    /// Paths that match from beginning to end.
    Path(Pattern),
    /// This method.
    Method(Method),
    /// All of these; of none, every request.
    All(Vec<Self>),
    /// One of these; of none, no request.
    Any(Vec<Self>),
    /// What does not meet this.
    Not(Box<Self>),
}

// === impl Condition ===

impl Condition {
    /// Whether a request meets it.
    pub fn matches(&self, method: &Method, path: &str) -> bool {
        match self {
            Self::Path(pattern) => pattern.matches(path),
            Self::Method(wanted) => wanted == method,
            Self::All(all) => all.iter().all(|one| one.matches(method, path)),
            Self::Any(any) => any.iter().any(|one| one.matches(method, path)),
            Self::Not(not) => !not.matches(method, path),
        }
    }

    /// A method that every request has that meets it.
    pub(crate) fn method(&self) -> Option<&Method> {
        match self {
            Self::Method(method) => Some(method),
            Self::All(all) => all.iter().find_map(Self::method),
            Self::Path(_) | Self::Any(_) | Self::Not(_) => None,
        }
    }

    /// Those of which every request that meets it meets all: none of them is a conjunction.
    pub(crate) fn parts(&self, visit: &mut dyn FnMut(&Self)) {
        match self {
            Self::All(all) => all.iter().for_each(|one| one.parts(visit)),
            one => visit(one),
        }
    }
}
