//! A diagnostic with the line of the text that it is about.

use crate::core::spelled_out;
use std::fmt::Write as _;

use super::super::diagnostic::Diagnostic;

// === impl Diagnostic ===

impl Diagnostic {
    /// Several lines for a person: what is the matter, the line of the text underlined, what the mesh does, what helps.
    ///
    /// `source` is the text of the file that it names; without it the line is left out.
    pub fn underlined(&self, source: Option<&str>) -> String {
        let number = self
            .line
            .and_then(|line| usize::try_from(line).ok()?.checked_sub(1));
        self.with_line(
            source
                .zip(number)
                .and_then(|(source, number)| source.lines().nth(number)),
        )
    }

    /// The same with the line alone.
    pub(super) fn with_line(&self, text: Option<&str>) -> String {
        let mut out = format!("{}: ", self.severity);
        for part in [&self.resource, &self.key].into_iter().flatten() {
            let _ = write!(out, "{}: ", plain(part));
        }
        out.push_str(&plain(&self.message));
        let line = self.line.unwrap_or(0);
        let margin = " ".repeat(line.max(1).to_string().len());
        let file = self.file.as_deref().map(plain);
        match (file, self.line, self.column) {
            (Some(file), Some(line), Some(column)) => {
                let _ = write!(out, "\n{margin}--> {file}:{line}:{column}");
            }
            (Some(file), ..) => {
                let _ = write!(out, "\n{margin}--> {file}");
            }
            (None, Some(line), Some(column)) => {
                let _ = write!(out, "\n{margin}--> line {line}, column {column}");
            }
            (None, ..) => {}
        }
        if let (Some(text), Some(column)) = (text, self.column) {
            // A tab is one column for the reader of YAML, and so it is here.
            let text = plain(&text.replace('\t', " "));
            let start = usize::try_from(column).unwrap_or(1).saturating_sub(1);
            let marks = "^".repeat(width(&text, start));
            let blank = " ".repeat(start);
            let _ = write!(
                out,
                "\n{margin} |\n{line} | {text}\n{margin} | {blank}{marks}"
            );
        }
        if let Some(mesh) = &self.mesh {
            let _ = write!(out, "\n{margin} = the mesh {}", plain(mesh));
        }
        if let Some(difference) = self.difference {
            let _ = write!(
                out,
                "\n{margin} = here, beyond the mesh ({difference}): {}",
                difference.extended()
            );
        }
        if let Some(remedy) = &self.remedy {
            let _ = write!(out, "\n{margin} = {}", plain(remedy));
        }
        out
    }
}

// Nothing in it moves the cursor.
fn plain(text: &str) -> String {
    spelled_out(text, |_| false)
}

/// How many characters the value at this column has: to its closing quote, the end of its flow, a comment, or the line.
fn width(text: &str, start: usize) -> usize {
    let before: Vec<char> = text.chars().take(start).collect();
    let depth = |open: char, close: char| {
        let count = |wanted: char| before.iter().filter(|c| **c == wanted).count();
        count(open) > count(close)
    };
    let flow = depth('{', '}') || depth('[', ']');
    let mut chars = text.chars().skip(start);
    let mut width = 0;
    let quote = match chars.next() {
        None => return 1,
        Some(quote @ ('"' | '\'')) => Some(quote),
        Some(_) => None,
    };
    width += 1;
    let mut last = quote.unwrap_or(' ');
    let mut trailing = 0;
    for c in chars {
        match quote {
            Some(quote) if c == quote => return width + 1,
            Some(_) => {}
            None if flow && matches!(c, ',' | '}' | ']') => break,
            // A key ends at its colon.
            None if c == ':' && text.chars().nth(start + width + 1).is_none_or(|c| c == ' ') => {
                break;
            }
            None if c == '#' && last == ' ' => break,
            None => {}
        }
        trailing = if c == ' ' { trailing + 1 } else { 0 };
        width += 1;
        last = c;
    }
    width - trailing
}

#[cfg(test)]
mod tests {
    use super::width;

    #[test]
    fn what_is_underlined() {
        for (text, start, marks) in [
            ("a: 1h30m", 3, "1h30m"),
            ("a: 1h30m  # why", 3, "1h30m"),
            ("a: '5xx, 404'  # x", 3, "'5xx, 404'"),
            ("a: 5xx, 404", 3, "5xx, 404"),
            ("{a: b, c: d}", 4, "b"),
            ("  retry.io/limti: 3", 2, "retry.io/limti"),
            ("  - port: 80", 4, "port"),
            ("a:", 9, "?"),
        ] {
            assert_eq!(width(text, start), marks.len(), "{text}");
        }
    }
}
