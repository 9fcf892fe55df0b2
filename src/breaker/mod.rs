//! The circuit breaker: when an endpoint is ejected for its failures, and when it is tried again.
//!
//! A pure state machine: [`Breaker`] is told what happened and what time it is, and says what changed. *Closed* lets
//! requests through; *open* refuses them; *half-open* has one probe out. Each change starts a new epoch, and a result
//! from another epoch decides nothing.
//!
//! It stands alone as a tower layer, around any service: [`BreakerLayer`] for one target, [`Breakers`] for many. Both have
//! a [`BreakerHandle`] to look at the state and to force it.
//!
//! The state machine itself, for who has no tower service to wrap:
//!
//! ```
//! use tokio::time::Instant;
//! use tower_mesh::breaker::{Breaker, Gate, Transition};
//! use tower_mesh::policy::FailureAccrual;
//! use tower_mesh::verdict::Outcome;
//!
//! let now = Instant::now();
//! let mut breaker = Breaker::new(Some(&FailureAccrual::consecutive(2)), now);
//! for _ in 0..2 {
//!     let admitted = breaker.admit(now).expect("it is closed");
//!     let changed = breaker.record(now, admitted, &Outcome::FAILURE, || 0, || true);
//!     assert_eq!(changed.is_some(), breaker.gate() != Gate::Closed);
//! }
//! let Gate::Open { until } = breaker.gate() else { panic!("two failures") };
//! assert!(breaker.admit(now).is_none());
//!
//! let probe = breaker.admit(until).expect("it is due");
//! let changed = breaker.record(until, probe, &Outcome::SUCCESS, || 0, || true);
//! assert_eq!(changed, Some(Transition::Closed));
//! ```

mod blocked;
mod classify;
mod error;
mod events;
mod future;
mod gate;
mod handle;
mod judging;
mod key;
mod layer;
#[cfg(all(test, tower_mesh_loom))]
mod loom_tests;
mod machine;
mod passage;
mod peers;
mod registry;
mod rules;
mod settings;
mod settling;
mod shared;
mod snapshot;
mod table;
mod telling;
mod window;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

pub use self::classify::{ClassifyResult, HttpOrGrpc, ServerErrors};
pub use self::error::{BreakerError, Refusal};
pub use self::events::{BreakerEvent, BreakerEvents};
pub use self::future::BreakerFuture;
pub use self::gate::{Admitted, Gate, Transition};
pub use self::handle::BreakerHandle;
pub use self::judging::{AtEnd, AtHead, Judging};
pub use self::key::{ByHost, Key};
pub use self::layer::{BreakerLayer, BreakerService};
pub use self::machine::Breaker;
pub use self::registry::{Breakers, BreakersService};
pub use self::settings::Wait;
pub use self::settling::SettlingBody;
pub(crate) use self::snapshot::Tenths;
pub use self::snapshot::{BreakerSnapshot, Forced};

pub(crate) use self::events::Events;
pub(crate) use self::gate::{Calm, EPOCHS};
pub(crate) use self::peers::{Peers, Totals};
pub(crate) use self::rules::Rules;
