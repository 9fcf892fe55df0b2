//! One endpoint: its address, its leaf, its cell of state and its tickets.
//!
//! An [`Endpoint`] is what discovery says: an address, and what is known about it. [`Connect`] makes a leaf for it: any
//! tower service from requests to responses, whose clones share their connection. The rest is not public.
//!
//! ```
//! use tower_mesh::Endpoint;
//!
//! let endpoint = Endpoint::new("10.0.0.7:8080".parse()?)
//!     .named("payments-0")
//!     .with_zone("eu-1a")
//!     .with_weight(0.5); // half of what others get
//! assert_eq!(endpoint.to_string(), "payments-0");
//! assert_eq!(endpoint.zone(), Some("eu-1a"));
//! # Ok::<(), std::net::AddrParseError>(())
//! ```

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
