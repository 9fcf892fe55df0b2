//! wip
pub mod body;
#[cfg(feature = "hyper")]
pub mod connect;
pub mod core;
pub mod endpoint;
pub mod policy;
pub mod verdict;

pub use self::body::Body;
pub use self::core::BoxError;
pub use self::core::error::{Error, ErrorKind};
pub use self::endpoint::{Connect, Endpoint};
pub use self::verdict::Verdict;
