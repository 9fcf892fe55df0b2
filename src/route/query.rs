use std::borrow::Cow;
use std::iter;

use crate::policy::{MatchQueryParam, MatchQueryValue};

/// Any of a parameter's values will do.
pub(super) fn matches(wanted: &MatchQueryParam, query: Option<&str>) -> bool {
    params(query).any(|(name, value)| {
        decoded(name).eq(wanted.name.bytes())
            && match &wanted.value {
                MatchQueryValue::Exact(wanted) => decoded(value).eq(wanted.bytes()),
                MatchQueryValue::Regex(pattern) => {
                    text(value).is_some_and(|value| pattern.matches(&value))
                }
            }
    })
}

/// Names and values, encoded.
pub(super) fn params(query: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
    query
        .unwrap_or_default()
        .split('&')
        .filter(|param| !param.is_empty())
        .map(|param| param.split_once('=').unwrap_or((param, "")))
}

/// The decoded text; `None` if it is not UTF-8.
fn text(encoded: &str) -> Option<Cow<'_, str>> {
    if encoded.contains(['%', '+']) {
        let decoded = String::from_utf8(decoded(encoded).collect()).ok()?;
        Some(Cow::Owned(decoded))
    } else {
        Some(Cow::Borrowed(encoded))
    }
}

/// The bytes of a form-encoded name or value. A `%` without two hex digits stands for itself.
pub(super) fn decoded(encoded: &str) -> impl Iterator<Item = u8> + '_ {
    let mut rest = encoded.as_bytes();
    iter::from_fn(move || {
        let (first, tail) = rest.split_first()?;
        let (byte, tail) = match (first, tail) {
            (b'+', _) => (b' ', tail),
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', tail),
            },
            (byte, _) => (*byte, tail),
        };
        rest = tail;
        Some(byte)
    })
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}
