//! What an unquoted word is: the rules of the API server's YAML reader, which are those of YAML 1.1.
//!
//! It matters where a string is required: an unquoted `3`, `yes` or `on` is none, and the API server refuses the object.

use super::yaml::Value;

/// The value of a plain (unquoted) scalar.
pub(super) fn plain(text: &str) -> Value {
    let text = text.to_owned();
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" | "n"
        | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
            Value::Bool(text)
        }
        _ => match integer(&text) {
            Some(number) => Value::Number(text, Some(number)),
            None if is_float(&text) => Value::Number(text, None),
            None => Value::String(text),
        },
    }
}

/// Decimal, or by its prefix hexadecimal (`0x`), octal (`0o`, `0`) or binary (`0b`); `_` between digits.
fn integer(text: &str) -> Option<i64> {
    if !text.bytes().next_back()?.is_ascii_alphanumeric() {
        return None;
    }
    let text: String = text.chars().filter(|c| *c != '_').collect();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, digits.get(2..)?),
        [b'0', b'o' | b'O', ..] => (8, digits.get(2..)?),
        [b'0', b'b' | b'B', ..] => (2, digits.get(2..)?),
        [b'0', _, ..] => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    // A second sign is none of a number's.
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    let number = i128::from_str_radix(digits, radix).ok()?;
    i64::try_from(if negative { -number } else { number }).ok()
}

/// `1.5`, `.5`, `1e3`, whole numbers too large for 64 bits, and the words for what is no number.
fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    // Rust reads `inf`, `nan` and `infinity` as well, for YAML they are words.
    unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.bytes().any(|b| b.is_ascii_digit())
        && unsigned.parse::<f64>().is_ok()
}
