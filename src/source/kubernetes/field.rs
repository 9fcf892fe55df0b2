use super::error::{Error, ErrorKind};
use super::grammar::{self, Mistake};
use super::keys;
use super::place::{Mark, Origin};
use super::yaml::{Entry, Node, Value};
use crate::policy::InvalidPolicy;

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

    pub(super) fn expected(&self, expected: &str) -> Error {
        let found = self.node.describe();
        let error = self.error(format!("found {found}, expected {expected}"));
        match self.text().is_some_and(grammar::is_template) {
            true => error.remedy(grammar::RENDER),
            false => error,
        }
    }

    /// What the policy says of a value.
    pub(super) fn invalid(&self, invalid: &InvalidPolicy) -> Error {
        self.error(invalid.words())
    }

    /// What a grammar says of a string.
    pub(super) fn mistake(&self, mistake: Mistake) -> Error {
        let error = self.expected(&mistake.expected);
        match mistake.remedy {
            Some(remedy) => error.remedy(remedy),
            None => error,
        }
    }

    pub(super) fn child(&self, key: &str) -> String {
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
            Value::List(_) => Err(self.expected("a mapping").remedy("take the dash away")),
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
            Value::Map(_) => Err(self
                .expected("a list")
                .remedy("begin it with a dash, for a list of one")),
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

    /// The same of what is to be a duration: a bare number in quotes would be the next mistake.
    ///
    /// # Errors
    /// Not a string.
    pub(super) fn duration(&self) -> Result<&'a str, Error> {
        match &self.node.value {
            Value::Number(text, _) => {
                let remedy = format!("write it with its unit: \"{text}ms\" or \"{text}s\"");
                Err(self.expected("a string").remedy(remedy))
            }
            _ => self.string(),
        }
    }

    /// The text of a string.
    pub(super) fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// # Errors
    /// Not a whole number from `min` to `max`.
    pub(super) fn integer(&self, min: i64, max: i64) -> Result<i64, Error> {
        let expected = || match max {
            i64::MAX => format!("a whole number, at least {min}"),
            _ => format!("a whole number from {min} to {max}"),
        };
        match &self.node.value {
            Value::Number(_, Some(number)) if (min..=max).contains(number) => Ok(*number),
            Value::String(text) if text.parse::<i64>().is_ok_and(|n| (min..=max).contains(&n)) => {
                Err(self
                    .expected(&expected())
                    .remedy(format!("write it without quotes: {text}")))
            }
            _ => Err(self.expected(&expected())),
        }
    }

    /// # Errors
    /// Not one of these strings. What is almost one is named.
    pub(super) fn one_of<T: Copy>(&self, known: &[(&str, T)]) -> Result<T, Error> {
        let text = self.string()?;
        if let Some((_, value)) = known.iter().find(|(name, _)| *name == text) {
            return Ok(*value);
        }
        let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
        let error = self.expected(&format!("one of {}", names.join(", ")));
        let lower = text.to_ascii_lowercase();
        let part = |name: &&&str| {
            let name = name.to_ascii_lowercase();
            let head = lower.get(..3).is_some_and(|head| name.starts_with(head));
            head || (lower.len() > 3 && name.ends_with(&lower))
        };
        let meant = names.iter().find(|name| name.eq_ignore_ascii_case(text));
        let meant = meant.or_else(|| names.iter().find(part)).copied();
        let meant = meant.or_else(|| keys::nearest_of(text, &names));
        Err(match meant {
            Some(name) => error.remedy(format!("write {name}")),
            None => error,
        })
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
            Value::String(text) if !grammar::is_template(text) => Err(self
                .expected(expected)
                .remedy("write the port's number, not its name")),
            _ => Err(self.expected(expected)),
        }
    }
}
