//! Words that every room shares: time, chance, backoff, decisions.

pub mod backoff;
pub mod decay;
pub mod draw;
pub mod error;
pub mod in_flight;
pub mod observe;
pub(crate) mod sync;
pub mod time;

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
