//! Which endpoints exist: a fixed list, or any stream of updates.

mod driver;
mod source;

pub(crate) use self::driver::Driver;
pub(crate) use self::source::Source;
pub use self::source::{Endpoints, InvalidEndpoint, Resolve, ToEndpoint, backend_names};

use std::net::SocketAddr;

use crate::endpoint::Endpoint;

/// A change of a backend's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// These, and no others.
    Reset(Vec<Endpoint>),
    /// These too; one that is known by its address gets the new metadata.
    Add(Vec<Endpoint>),
    /// No longer these.
    Remove(Vec<SocketAddr>),
}
