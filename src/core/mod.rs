//! Words that every room shares: time, chance, backoff, decisions.

use std::error::Error as StdError;

pub mod backoff;
pub mod decay;
pub mod draw;
pub mod in_flight;
#[cfg(feature = "kubernetes")]
pub(crate) mod json;
pub mod observe;
pub(crate) mod sync;
pub mod time;

/// Any error.
pub type BoxError = Box<dyn StdError + Send + Sync>;

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
