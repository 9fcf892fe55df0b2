//! How loaded an endpoint is, and which of two is less so.
//!
//! Pure and in integers: an [`Estimate`] of the latency, the [`Failures`] of the recent past, and a [`Cost`] made of
//! both and of the requests in flight. They are told what happened and when; reading them changes nothing. For a balancer
//! of your own: [`Balance`](crate::balance::Balance) and the client have all of it inside.
//!
//! ```
//! use tower_mesh::load::{Cost, Estimate, Reading, Rules};
//! use tower_mesh::policy::{Load, PeakEwma};
//!
//! let ms = 1_000_000; // times are in nanoseconds
//! let rules = Rules::of(&Load::default());
//! let mut latency = Estimate::new(PeakEwma::DEFAULT);
//! latency.observe(0, 20 * ms, rules.decay);
//! latency.observe(ms, 80 * ms, rules.decay); // slower: at once
//! assert_eq!(latency.get(ms, rules.decay), 80 * ms);
//!
//! let cost = |latency, pending| {
//!     let reading = Reading { latency, pending, ..Reading::NONE };
//!     Cost::of(&reading, &rules, 0)
//! };
//! assert!(cost(20 * ms, 1) < cost(80 * ms, 1));
//! assert!(cost(20 * ms, 9) > cost(80 * ms, 1));
//! ```

mod cost;
mod dials;
mod estimate;
mod failures;

pub use self::cost::{Cost, Reading, tolerance};
pub(crate) use self::cost::{MOST_WEIGHT, plain_cost};
pub(crate) use self::dials::Dials;
pub use self::dials::{Kind, Rules};
pub use self::estimate::Estimate;
pub use self::failures::Failures;

/// A coarse clock that fits in half a word: units of 2^20 ns, about a millisecond. It wraps after 52 days, so two of them
/// are compared by their distance.
#[inline]
pub(crate) fn coarse(nanos: u64) -> u32 {
    // What is cut off is the wrap.
    (nanos >> COARSE) as u32
}

/// The time between two coarse moments in nanoseconds, if `later` is later; at most 26 days.
#[inline]
pub(crate) fn coarse_between(earlier: u32, later: u32) -> u64 {
    let units = later.wrapping_sub(earlier);
    if units > u32::MAX / 2 {
        return 0;
    }
    u64::from(units) << COARSE
}

const COARSE: u32 = 20;
