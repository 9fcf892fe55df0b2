use super::error::{Error, ErrorKind};
use super::place::{Mark, Origin};
use super::yaml::{Entry, Node, Value};

/// A value of a document, with the path that leads to it. What it is asked for and is not becomes an error that names
/// the place.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    pub(super) node: &'a Node,
    pub(super) path: String,
    pub(super) origin: &'a Origin,
}

// === impl Field ===

impl<'a> Field<'a> {
    pub(super) fn root(node: &'a Node, path: String, origin: &'a Origin) -> Self {
        Self { node, path, origin }
    }

    /// The same value, now that more is known of what it belongs to.
    pub(super) fn within<'b>(&self, origin: &'b Origin) -> Field<'b>
    where
        'a: 'b,
    {
        Field::root(self.node, self.path.clone(), origin)
    }

    pub(super) fn at(&self) -> Mark {
        self.node.at
    }

    pub(super) fn error(&self, message: impl Into<String>) -> Error {
        let path = if self.path.is_empty() {
            "the document"
        } else {
            &self.path
        };
        Error::found(ErrorKind::Field, self.origin, path, self.at(), message)
    }

    fn expected(&self, expected: &str) -> Error {
        self.error(format!(
            "found {}, expected {expected}",
            self.node.describe()
        ))
    }

    fn child(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// # Errors
    /// Not a mapping.
    pub(super) fn entries(&self) -> Result<&'a [Entry], Error> {
        match &self.node.value {
            Value::Map(entries) => Ok(entries),
            _ => Err(self.expected("a mapping")),
        }
    }

    /// None where the key is absent or null, which is the same in Kubernetes.
    ///
    /// # Errors
    /// Not a mapping.
    pub(super) fn get(&self, key: &str) -> Result<Option<Self>, Error> {
        let entry = self.entries()?.iter().find(|entry| entry.key == key);
        Ok(entry
            .filter(|entry| !matches!(entry.value.value, Value::Null))
            .map(|entry| Self::root(&entry.value, self.child(key), self.origin)))
    }

    /// # Errors
    /// Not a mapping, or one without this key.
    pub(super) fn require(&self, key: &str, expected: &str) -> Result<Self, Error> {
        self.get(key)?.ok_or_else(|| {
            let path = self.child(key);
            let message = format!("missing; expected {expected}");
            Error::found(ErrorKind::Field, self.origin, path, self.at(), message)
        })
    }

    /// # Errors
    /// Not a list.
    pub(super) fn list(&self) -> Result<Vec<Self>, Error> {
        match &self.node.value {
            Value::List(nodes) => Ok(nodes
                .iter()
                .enumerate()
                .map(|(i, node)| Self::root(node, format!("{}[{i}]", self.path), self.origin))
                .collect()),
            _ => Err(self.expected("a list")),
        }
    }

    /// # Errors
    /// Not a string. Numbers, booleans and dates that were meant as one have to be quoted.
    pub(super) fn string(&self) -> Result<&'a str, Error> {
        match &self.node.value {
            Value::String(text) => Ok(text),
            Value::Bool(text) | Value::Number(text, _) => Err(self
                .expected("a string")
                .remedy(format!("quote it: \"{text}\""))),
            Value::Null => Err(self.expected("a string").remedy("write it in quotes: \"\"")),
            Value::List(_) | Value::Map(_) => Err(self.expected("a string")),
        }
    }

    /// # Errors
    /// Not a string, or an empty one.
    pub(super) fn name(&self) -> Result<&'a str, Error> {
        match self.string()? {
            "" => Err(self.expected("a name")),
            name => Ok(name),
        }
    }

    /// # Errors
    /// Not a whole number from 1 to 65535.
    pub(super) fn port(&self) -> Result<std::num::NonZeroU16, Error> {
        let expected = "a whole number from 1 to 65535";
        match &self.node.value {
            Value::Number(_, Some(number)) => u16::try_from(*number)
                .ok()
                .and_then(std::num::NonZeroU16::new)
                .ok_or_else(|| self.expected(expected)),
            Value::String(text) if text.parse::<std::num::NonZeroU16>().is_ok() => Err(self
                .expected(expected)
                .remedy(format!("write it without quotes: {text}"))),
            _ => Err(self.expected(expected)),
        }
    }
}
