//! What will this policy do to my traffic when one pod goes bad? A seeded world in virtual time.
//!
//! A [`World`] is scripted endpoints, scripted callers and a paused clock around the real [`Client`](crate::Client), or
//! around any tower stack: there is no second implementation of anything. A minute of traffic takes a fraction of a
//! second, and the same seed makes the same decisions at the same times, in debug and release, on every machine; the
//! [report](Report)'s digest says so.
//!
//! A [`Scenario`] is the same as a file; the example `simulate` runs one at the prompt.
//!
//! # Time
//!
//! Arrivals, service, faults and callers' patience are exact to the nanosecond. The client's own timers (timeouts,
//! backoff) are tokio's and fire at whole milliseconds, as they do in production.
//!
//! # Chance
//!
//! All of it comes from the one seed, by part and number: the third request of client 2 at endpoint `a` meets the same
//! fate whatever other clients there are.

mod address;
mod chance;
mod error;
mod load;
mod record;
mod report;
mod scenario;
mod server;
mod stage;
#[cfg(test)]
mod tests;
mod world;

use std::time::Duration;

pub use self::chance::Latency;
pub use self::error::SimError;
pub use self::load::{Load, at_once, per_second};
pub use self::report::{EndpointReport, Event, Report, SecondReport};
pub use self::scenario::{Scenario, ScenarioError, ScenarioErrorKind};
pub use self::server::{Server, healthy};
pub use self::stage::{Answering, Leaf, ServedBody};
pub use self::world::{Site, World, WorldPolicy};

/// So many milliseconds.
pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// So many seconds.
pub const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
