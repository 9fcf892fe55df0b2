//! wip
pub mod policy;
