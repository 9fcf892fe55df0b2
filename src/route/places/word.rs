use http::{HeaderName, HeaderValue, Method};

use super::key::Fnv;

/// A word that a request must have for a match to be for it.
#[derive(Clone, Debug)]
pub enum Word<'a> {
    /// A header with this value.
    Header(&'a HeaderName, &'a HeaderValue),
    /// A header with some value.
    HeaderName(&'a HeaderName),
    /// A query parameter with this value, decoded.
    Query(&'a str, &'a str),
    /// This method.
    Method(&'a Method),
}

// === impl Word ===

impl Word<'_> {
    pub fn hash(&self) -> u64 {
        let bytes = |kind: u8, text: &str| Fnv::NEW.byte(kind).bytes(text.bytes());
        match self {
            Self::Header(name, value) => bytes(1, name.as_str())
                .byte(b':')
                .bytes(value.as_bytes().iter().copied())
                .hash(),
            Self::HeaderName(name) => bytes(2, name.as_str()).hash(),
            Self::Query(name, value) => query_hash(name.bytes(), value.bytes()),
            Self::Method(method) => bytes(4, method.as_str()).hash(),
        }
    }
}

/// The same of a query parameter that is decoded on the way.
pub fn query_hash(name: impl Iterator<Item = u8>, value: impl Iterator<Item = u8>) -> u64 {
    let name = Fnv::NEW.byte(3).bytes(name);
    name.byte(b'=').bytes(value).hash()
}
