//! wip
pub(crate) mod balance;
pub mod body;
pub mod breaker;
pub mod budget;
pub mod client;
pub mod core;
pub(crate) mod deadline;
pub mod discover;
pub(crate) mod distribute;
pub mod endpoint;
pub mod load;
pub mod policy;
pub(crate) mod retry;
pub mod route;
pub mod telemetry;
pub mod verdict;

pub use self::body::Body;
pub use self::client::{Client, RequestOptions, Served};
pub use self::core::BoxError;
pub use self::core::error::{Error, ErrorKind};
pub use self::endpoint::{Connect, Endpoint};
pub use self::verdict::Verdict;
