//! One endpoint: its address, its leaf, its cell of state and its tickets.

mod address;
mod aside;
mod cell;
mod compact;
mod estimate;
mod gatekeeper;
mod guard;
mod leaf;
mod loaded;
mod pool;
mod site;
#[cfg(test)]
mod tests;

pub use self::address::Endpoint;
pub(crate) use self::cell::{Availability, Cell};
pub(crate) use self::gatekeeper::Terms;
use self::guard::Guard;
pub use self::leaf::Connect;
pub(crate) use self::leaf::{ErasedConnect, Leaf, LeafCall};
pub(crate) use self::pool::{Pool, Waiters};
pub(crate) use self::site::Site;
