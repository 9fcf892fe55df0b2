//! wip
pub(crate) mod balance;
pub mod body;
pub mod breaker;
pub mod budget;
pub mod core;
pub mod discover;
pub mod endpoint;
pub mod load;
pub mod policy;
pub mod verdict;

pub use self::body::Body;
pub use self::core::BoxError;
pub use self::core::error::{Error, ErrorKind};
pub use self::endpoint::{Connect, Endpoint};
pub use self::verdict::Verdict;
pub mod route;
