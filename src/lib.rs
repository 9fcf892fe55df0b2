//! wip
pub mod policy;
pub mod route;
