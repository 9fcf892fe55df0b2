//! Retries: which answers are worth another try, when that is made, and at whose expense.
//!
//! It stands alone as a tower layer, around any service: [`RetryLayer`]. The pure part, what is tried again and when, is
//! the [`Client`](crate::Client)'s, too.

mod future;
mod hint;
mod judge;
mod layer;
#[cfg(test)]
mod tests;
mod tries;
mod when;

pub use self::future::RetryFuture;
pub(crate) use self::judge::{Again, Attempted, Judgement, Rules, Wait, is_idempotent, judge};
pub use self::layer::{RetryLayer, RetryService};
pub use self::when::{Asks, ByPolicy, Cloned, KeepRequest, RetryWhen, Ruling};
