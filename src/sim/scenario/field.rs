use std::sync::Arc;
use std::time::Duration;

use super::error::{ScenarioError, ScenarioErrorKind as Kind};
use crate::source::kubernetes::yaml::{Entry, Node, Value};

/// A value of a scenario, with the path that leads to it. What it is asked for and is not becomes an error that names
/// line and key.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    pub(super) node: &'a Node,
    pub(super) path: String,
    pub(super) file: Option<&'a Arc<str>>,
}

// === impl Field ===

impl<'a> Field<'a> {
    pub(super) fn error(&self, kind: Kind, message: impl Into<String>) -> ScenarioError {
        ScenarioError::new(kind, self.file, message)
            .at(self.node.at)
            .key_is(&self.path)
    }

    pub(super) fn expected(&self, expected: &str) -> ScenarioError {
        let found = self.node.describe();
        self.error(Kind::Value, format!("found {found}, expected {expected}"))
    }

    pub(super) fn child(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// The mapping that this is.
    ///
    /// # Errors
    /// It is none, or has a key that is not `known`.
    pub(super) fn map(&self, known: &[&str]) -> Result<&'a [Entry], ScenarioError> {
        let Value::Map(entries) = &self.node.value else {
            return Err(self.expected(&format!("a mapping with {}", known.join(", "))));
        };
        for entry in entries {
            if known.contains(&entry.key.as_str()) {
                continue;
            }
            let error = ScenarioError::new(Kind::Key, self.file, "there is no such key")
                .at(entry.key_at)
                .key_is(self.child(&entry.key));
            return Err(match nearest(&entry.key, known) {
                Some(near) => error.remedy(format!("did you mean {near}?")),
                None => error.remedy(format!("there are {}", known.join(", "))),
            });
        }
        Ok(entries)
    }

    pub(super) fn get(&self, key: &str) -> Option<Self> {
        let Value::Map(entries) = &self.node.value else {
            return None;
        };
        let entry = entries.iter().find(|entry| entry.key == key)?;
        Some(Self {
            node: &entry.value,
            path: self.child(key),
            file: self.file,
        })
    }

    /// # Errors
    /// It is not there.
    pub(super) fn require(&self, key: &str, expected: &str) -> Result<Self, ScenarioError> {
        self.get(key).ok_or_else(|| {
            ScenarioError::new(
                Kind::Missing,
                self.file,
                format!("missing; expected {expected}"),
            )
            .at(self.node.at)
            .key_is(self.child(key))
        })
    }

    /// # Errors
    /// Not a list.
    pub(super) fn list(&self, expected: &str) -> Result<Vec<Self>, ScenarioError> {
        let Value::List(nodes) = &self.node.value else {
            return Err(self.expected(expected));
        };
        let items = nodes.iter().enumerate().map(|(i, node)| Self {
            node,
            path: format!("{}[{i}]", self.path),
            file: self.file,
        });
        Ok(items.collect())
    }

    /// # Errors
    /// Not a list of two.
    pub(super) fn pair(&self, expected: &str) -> Result<[Self; 2], ScenarioError> {
        let items = self.list(expected)?;
        <[Self; 2]>::try_from(items).map_err(|_| self.expected(expected))
    }

    /// # Errors
    /// Not a string, or an empty one.
    pub(super) fn text(&self, expected: &str) -> Result<&'a str, ScenarioError> {
        match &self.node.value {
            Value::String(text) if !text.trim().is_empty() => Ok(text),
            Value::Bool(text) | Value::Number(text, _) => Err(self
                .expected(expected)
                .remedy(format!("quote it: \"{text}\""))),
            _ => Err(self.expected(expected)),
        }
    }

    /// # Errors
    /// Not a boolean.
    pub(super) fn flag(&self) -> Result<bool, ScenarioError> {
        match &self.node.value {
            Value::Bool(text) => Ok(text.to_ascii_lowercase().starts_with(['t', 'y'])
                || text.eq_ignore_ascii_case("on")),
            _ => Err(self.expected("true or false")),
        }
    }

    /// # Errors
    /// Not a whole number from `least` to `most`.
    pub(super) fn whole(&self, least: u64, most: u64) -> Result<u64, ScenarioError> {
        let number = match &self.node.value {
            Value::Number(_, Some(number)) => u64::try_from(*number).ok(),
            _ => None,
        };
        number
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| self.expected(&format!("a whole number from {least} to {most}")))
    }

    /// # Errors
    /// Not a finite number from `least` to `most`.
    pub(super) fn number(
        &self,
        least: f64,
        most: f64,
        expected: &str,
    ) -> Result<f64, ScenarioError> {
        let number = match &self.node.value {
            Value::Number(_, Some(whole)) => Some(*whole as f64),
            Value::Number(text, None) => text.replace('_', "").parse().ok(),
            _ => None,
        };
        number
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| self.expected(expected))
    }

    /// # Errors
    /// Not a number from 0 to 1.
    pub(super) fn part(&self) -> Result<f64, ScenarioError> {
        self.number(0.0, 1.0, "a part from 0 to 1")
    }

    /// # Errors
    /// Not a number with a unit.
    pub(super) fn duration(&self) -> Result<Duration, ScenarioError> {
        let expected = "a duration: a number and a unit (ns, us, ms, s, m, h), such as 20ms";
        match &self.node.value {
            Value::String(text) => duration(text).ok_or_else(|| self.expected(expected)),
            Value::Number(_, Some(0)) => Ok(Duration::ZERO),
            Value::Number(text, _) => Err(self
                .expected(expected)
                .remedy(format!("write {text}s or {text}ms"))),
            _ => Err(self.expected(expected)),
        }
    }
}

/// `20ms`, `1.5s`, `3.333333ms`: exact to the nanosecond, or none.
fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u128); 6] = [
        ("ns", 1),
        ("us", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at_checked(end)?;
    let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || whole.len() > 18 || fraction.len() > 18 || number.ends_with('.') {
        return None;
    }
    let digits = |text: &str| {
        if text.is_empty() {
            return Some(0);
        }
        text.parse::<u128>().ok()
    };
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let scaled = (digits(whole)? * scale + digits(fraction)?) * nanos;
    // Less than a nanosecond is nothing that could happen.
    if scaled % scale != 0 {
        return None;
    }
    u64::try_from(scaled / scale).ok().map(Duration::from_nanos)
}

/// The known word that differs from this one by a slip of the finger or two.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let distances = known.iter().map(|one| (distance(word, one), *one));
    let (distance, near) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= 2 && distance < near.len()).then_some(near)
}

/// How many letters have to be put in, taken out or changed.
fn distance(a: &str, b: &str) -> usize {
    // Longer than any key there is.
    if a.len() > 40 {
        return a.len();
    }
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut left = i + 1;
        let mut next = vec![left];
        for (y, above) in b.chars().zip(row.windows(2)) {
            if let [diagonal, up] = above {
                left = (diagonal + usize::from(x != y)).min(up + 1).min(left + 1);
                next.push(left);
            }
        }
        row = next;
    }
    row.last().copied().unwrap_or(a.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_exact_or_none() {
        let nanos = |text| duration(text).map(|d| d.as_nanos());
        assert_eq!(nanos("20ms"), Some(20_000_000));
        assert_eq!(nanos("3.333333ms"), Some(3_333_333));
        assert_eq!(nanos("1.5h"), Some(5_400_000_000_000));
        assert_eq!(nanos("0s"), Some(0));
        for none in [
            "",
            "s",
            "20",
            "20 ms",
            "-1s",
            ".5s",
            "1.s",
            "1.2.3s",
            "0.5ns",
            "20min",
            "1h30m",
            "9999999999999999999h",
            "99999999999999999h",
            "20µs",
        ] {
            assert_eq!(nanos(none), None, "{none}");
        }
    }

    #[test]
    fn slips_are_recognized() {
        assert_eq!(
            nearest("endpoint", &["endpoints", "load"]),
            Some("endpoints")
        );
        assert_eq!(nearest("latancy", &["latency", "load"]), Some("latency"));
        assert_eq!(nearest("zebra", &["latency", "load"]), None);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }
}
