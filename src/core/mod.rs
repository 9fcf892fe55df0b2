//! Words that every room shares: time, chance, backoff, decisions.
//!
//! Most of it is for whoever changes this crate, or builds on its state machines. What users meet is
//! [`observe`]: the record of whatever is decided.

use std::error::Error as StdError;

pub mod backoff;
pub mod decay;
pub mod draw;
pub(crate) mod driver;
pub mod in_flight;
#[cfg(feature = "kubernetes")]
pub(crate) mod json;
pub mod observe;
pub(crate) mod sync;
pub mod time;

/// Any error.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// A text whose control characters, but those that it `keeps`, are spelled out: whatever a stranger wrote stays where it is
/// shown.
#[cfg(any(feature = "kubernetes", feature = "linkerd"))]
pub(crate) fn spelled_out(text: &str, keeps: impl Fn(char) -> bool) -> String {
    let moves = |c: char| c.is_control() && !keeps(c);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if moves(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// The first error of this type in a chain of sources.
pub(crate) fn find_source<'a, T: StdError + 'static>(
    error: &'a (dyn StdError + 'static),
) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
