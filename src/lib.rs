//! wip
pub mod policy;
#[cfg(feature = "kubernetes")]
pub mod source;
