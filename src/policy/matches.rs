use std::fmt;
use std::hash::{Hash, Hasher};

use http::uri::Authority;
use http::{HeaderName, HeaderValue, Method};

use super::{Condition, InvalidPolicy};

/// Which hosts a route is for. Compared without regard to case, a trailing dot ignored unless written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum MatchHost {
    /// This host.
    Exact(String),
    /// Any host with at least one label before these: `*.example.com` is `["com", "example"]`.
    Suffix {
        /// Labels, the last first.
        reverse_labels: Vec<String>,
    },
}

/// What a request looks like; every part that is there must match.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct MatchRequest {
    /// Its path.
    pub path: Option<MatchPath>,
    /// Its headers.
    pub headers: Vec<MatchHeader>,
    /// Its query parameters.
    pub query_params: Vec<MatchQueryParam>,
    /// Its method.
    pub method: Option<Method>,
}

/// Which paths match.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MatchPath {
    /// This path.
    Exact(String),
    /// This path and everything below it, segment by segment; a trailing `/` says nothing.
    Prefix(String),
    /// Paths that match from beginning to end.
    Regex(Pattern),
    /// Requests that meet this. It counts as the whole path, whatever it asks. The mesh's routes have no word for it, only
    /// its profiles.
    Condition(Condition),
}

/// A header that must be there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MatchHeader {
    /// Its name.
    pub name: HeaderName,
    /// What one of its values must be.
    pub value: MatchHeaderValue,
}

/// A header's value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MatchHeaderValue {
    /// This value, byte by byte.
    Exact(HeaderValue),
    /// Values that match from beginning to end.
    Regex(Pattern),
}

/// A query parameter that must be there, form-decoded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MatchQueryParam {
    /// Its name.
    pub name: String,
    /// What its value must be.
    pub value: MatchQueryValue,
}

/// A query parameter's value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MatchQueryValue {
    /// This value.
    Exact(String),
    /// Values that match from beginning to end.
    Regex(Pattern),
}

/// A regular expression that must match a value from beginning to end. Compared by its text.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    anchored: regex::Regex,
}

// === impl MatchHost ===

impl MatchHost {
    /// From the form that manifests use: `example.com` or `*.example.com`.
    ///
    /// # Errors
    /// An empty name or label, a `*` elsewhere, a port, or what no host can contain.
    pub fn parse(host: &str) -> Result<Self, InvalidPolicy> {
        let invalid = || {
            InvalidPolicy::new(
                "hostname",
                format!("{host:?}"),
                "a name such as `example.com` or `*.example.com`",
            )
        };
        let name = host.strip_prefix("*.").unwrap_or(host);
        let labels = name.strip_suffix('.').unwrap_or(name);
        let host_only = name
            .parse::<Authority>()
            .is_ok_and(|authority| authority.host() == name);
        if !host_only || name.contains('*') || labels.split('.').any(str::is_empty) {
            return Err(invalid());
        }
        Ok(if name.len() < host.len() {
            Self::Suffix {
                reverse_labels: name.split('.').rev().map(str::to_owned).collect(),
            }
        } else {
            Self::Exact(host.to_owned())
        })
    }
}

// === impl MatchPath ===

impl MatchPath {
    /// # Errors
    /// A path that does not begin with `/`.
    pub fn exact(path: impl Into<String>) -> Result<Self, InvalidPolicy> {
        absolute("match.path.exact", path.into()).map(Self::Exact)
    }

    /// # Errors
    /// A path that does not begin with `/`.
    pub fn prefix(path: impl Into<String>) -> Result<Self, InvalidPolicy> {
        absolute("match.path.prefix", path.into()).map(Self::Prefix)
    }

    /// # Errors
    /// Not a regular expression.
    pub fn regex(pattern: &str) -> Result<Self, InvalidPolicy> {
        Pattern::new(pattern).map(Self::Regex)
    }
}

fn absolute(field: &'static str, path: String) -> Result<String, InvalidPolicy> {
    if path.starts_with('/') {
        Ok(path)
    } else {
        Err(InvalidPolicy::new(
            field,
            format!("{path:?}"),
            "a path that begins with `/`",
        ))
    }
}

// === impl Pattern ===

impl Pattern {
    /// # Errors
    /// Not a regular expression in the [`regex`](https://docs.rs/regex) crate's syntax, which is the mesh's.
    pub fn new(text: &str) -> Result<Self, InvalidPolicy> {
        // Compiled alone first: `a)(b` must not become valid by the parentheses that anchor it.
        regex::Regex::new(text)
            .and_then(|_| {
                // In verbose mode a comment at the end swallows the closing parenthesis; a line end, which says nothing
                // there, saves it. Only then: elsewhere it would have to match.
                regex::Regex::new(&format!(r"\A(?:{text})\z")).or_else(|error| {
                    regex::Regex::new(&format!("\\A(?:{text}\n)\\z")).map_err(|_| error)
                })
            })
            .map(|anchored| Self {
                text: text.to_owned(),
                anchored,
            })
            .map_err(|error| {
                let reason = error.to_string();
                let reason = reason.lines().last().unwrap_or_default().trim();
                InvalidPolicy::new(
                    "pattern",
                    format!("{text:?} ({reason})"),
                    "a regular expression",
                )
            })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the whole of `value` matches.
    pub fn matches(&self, value: &str) -> bool {
        self.anchored.is_match(value)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}
