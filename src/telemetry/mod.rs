//! What is going on, for people and programs to read.

mod snapshot;

pub use self::snapshot::{BackendSnapshot, EndpointSnapshot, Snapshot};
