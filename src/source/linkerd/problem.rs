use std::fmt::{self, Write as _};

use crate::core::spelled_out;
use crate::policy::InvalidPolicy;

/// A part of a message or of a policy that did not come over as it was.
///
/// Written out (`Display`) as one line: where, what is the matter, what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Problem {
    /// The field, as a path of the message's names: `http1.routes[0].rules[1].matches[0].path`.
    ///
    /// What a policy says and a message has no field for is named in the same way: `http1.routes[0].rules[1].hedge`.
    pub path: String,
    /// What was found there, and what was expected.
    pub message: String,
    /// What became of it.
    pub effect: Effect,
}

/// What became of a part that did not come over as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Effect {
    /// It is valid, and nobody heeds it: neither the mesh's proxy nor a policy of this crate.
    Ignored,
    /// It came over as it is. It does nothing, or what it is for fails when a request meets it.
    Kept,
    /// It is as if it were not there.
    LeftOut,
    /// A default stands in its place.
    Default,
    /// What it is for is refused: leaving it out would do with requests what nobody has asked for.
    Refused,
}

/// The parts of a message that are not valid, taken for an error: see [`Read::strict`](super::Read::strict).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the control plane's policy is not valid: {}{}", .0[0], more(.0))]
pub struct InvalidMessage(Vec<Problem>);

/// Where a conversion stands. Only written out when there is something to say.
#[derive(Clone, Copy)]
pub(super) enum At<'a> {
    Root,
    Field(&'a At<'a>, &'static str),
    Item(&'a At<'a>, &'static str, usize),
}

/// The problems so far.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

fn more(problems: &[Problem]) -> String {
    match problems.len() {
        0 | 1 => String::new(),
        n => format!(" (and {} more)", n - 1),
    }
}

// === impl Problem ===

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}: {}; {}", self.path, self.message, self.effect);
        // One line, whatever stands in the message.
        f.write_str(&spelled_out(&text, |_| false))
    }
}

// === impl Effect ===

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ignored => "nobody heeds it",
            Self::Kept => "it is kept as it is",
            Self::LeftOut => "it is left out",
            Self::Default => "the default is used",
            Self::Refused => "what it is for is refused",
        })
    }
}

// === impl InvalidMessage ===

impl InvalidMessage {
    /// Of those that are more than [`Effect::Ignored`]; none if there are none.
    pub(super) fn of(problems: Vec<Problem>) -> Option<Self> {
        let mut problems = problems;
        problems.retain(|problem| problem.effect > Effect::Ignored);
        (!problems.is_empty()).then_some(Self(problems))
    }

    /// All of them; there is at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

// === impl At ===

impl<'a> At<'a> {
    pub(super) const fn field(&'a self, name: &'static str) -> At<'a> {
        At::Field(self, name)
    }

    pub(super) const fn item(&'a self, name: &'static str, index: usize) -> At<'a> {
        At::Item(self, name, index)
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parent, name, index) = match self {
            At::Root => return Ok(()),
            At::Field(parent, name) => (parent, name, None),
            At::Item(parent, name, index) => (parent, name, Some(index)),
        };
        parent.fmt(f)?;
        if !matches!(parent, At::Root) {
            f.write_char('.')?;
        }
        f.write_str(name)?;
        index.map_or(Ok(()), |index| write!(f, "[{index}]"))
    }
}

// === impl Problems ===

impl Problems {
    pub(super) fn add(&mut self, at: &At<'_>, effect: Effect, message: impl Into<String>) {
        self.0.push(Problem {
            path: at.to_string(),
            message: message.into(),
            effect,
        });
    }

    /// A value that the policy does not take.
    pub(super) fn invalid(&mut self, at: &At<'_>, effect: Effect, invalid: &InvalidPolicy) {
        self.add(at, effect, invalid.words());
    }

    /// A path, which is kept as it is: the proxy looks at none. `*` and nothing are those of OPTIONS and CONNECT, where a
    /// path may be `exact`.
    pub(super) fn path(&mut self, at: &At<'_>, path: &str, exact: bool) {
        let good = path.starts_with('/') || (exact && matches!(path, "" | "*"));
        if !good {
            let message = format!("found {path:?}, expected a path that begins with `/`");
            self.add(at, Effect::Kept, message);
        }
    }

    /// Something that a message must have is not there.
    pub(super) fn missing(&mut self, at: &At<'_>, effect: Effect) {
        self.add(at, effect, "missing");
    }

    pub(super) fn into_vec(self) -> Vec<Problem> {
        self.0
    }
}
