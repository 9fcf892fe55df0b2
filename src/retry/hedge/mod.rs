//! Hedging: a second attempt beside one that takes long.

mod future;
mod layer;
mod pace;
mod percentile;
mod shared;
mod when;

pub use self::future::HedgeFuture;
pub use self::layer::{HedgeLayer, HedgeService};
pub(crate) use self::pace::Pace;
pub(crate) use self::when::is_safe;
pub use self::when::{ByMethod, HedgeWhen};
