//! JSON, written by hand: there is little of it, and a serializer would be one more dependency.

use std::fmt::Write as _;

/// Text that becomes JSON.
pub(crate) struct Out(pub(crate) String);

// === impl Out ===

impl Out {
    pub(crate) fn open(&mut self, bracket: char) {
        self.0.push(bracket);
    }

    pub(crate) fn close(&mut self, bracket: char) {
        self.0.push(bracket);
    }

    /// A comma, unless it is the first.
    pub(crate) fn item(&mut self) {
        if !self.0.ends_with(['{', '[']) {
            self.0.push(',');
        }
    }

    pub(crate) fn key(&mut self, key: &str) {
        self.item();
        self.text(key);
        self.0.push(':');
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.0.push('"');
        for c in text.chars() {
            match c {
                '"' | '\\' => self.0.extend(['\\', c]),
                c if c.is_control() => {
                    // A control character is one unit of UTF-16. Writing to a string does not fail.
                    let _ = write!(self.0, "\\u{:04x}", u32::from(c));
                }
                c => self.0.push(c),
            }
        }
        self.0.push('"');
    }

    /// The shortest text that is read as the same number; never NaN nor infinite here.
    pub(crate) fn value(&mut self, value: f64) {
        let _ = write!(self.0, "{value}");
    }

    pub(crate) fn number(&mut self, key: &str, value: f64) {
        self.key(key);
        self.value(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_commas_are_where_they_belong() {
        let mut out = Out(String::new());
        out.open('{');
        out.key("a\"b\\c\n");
        out.text("{");
        out.number("n", 0.25);
        out.number("m", 1e9);
        out.close('}');
        assert_eq!(out.0, r#"{"a\"b\\c\u000a":"{","n":0.25,"m":1000000000}"#);
    }
}
