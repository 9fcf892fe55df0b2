//! Retries: which answers are worth another try, when that is made, and at whose expense.
//!
//! It stands alone as a tower layer, around any service: [`RetryLayer`]; so does the second attempt beside one that takes
//! long: [`HedgeLayer`]. A [`Client`](crate::Client) retries and hedges by its policy and needs neither; what is tried again
//! and when is decided by the same code.

mod future;
pub(crate) mod hedge;
mod hint;
mod hold;
mod judge;
mod keep;
mod layer;
mod packed;
mod replaying;
mod shared;
#[cfg(test)]
mod tests;
mod trailers;
mod tries;
mod when;

pub use self::future::RetryFuture;
pub use self::hedge::{ByMethod, HedgeFuture, HedgeLayer, HedgeService, HedgeWhen};
pub(crate) use self::hold::Hold;
pub(crate) use self::judge::{Again, Attempted, Judgement, Rules, is_idempotent, judge};
pub use self::keep::{Cloned, Copied, HttpCopy, KeepRequest};
pub use self::layer::{RetryLayer, RetryService};
pub use self::replaying::{Fill, ReplayingLayer, ReplayingService, Taped, Tapes};
pub use self::trailers::{TrailersFuture, TrailersLayer, TrailersService};
pub(crate) use self::tries::{Bounds, Tries};
pub use self::when::{Asks, ByPolicy, RetryWhen, Ruling};
