//! Retries: which answers are worth another try, and when that is made.

mod hint;
mod judge;
#[cfg(test)]
mod tests;

pub(crate) use self::judge::{Again, Attempted, Judgement, Rules, Wait, is_idempotent, judge};
