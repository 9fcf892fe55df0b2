//! Where policy comes from.
//!
//! A source reads what the mesh reads and turns it into [`policy`](crate::policy) values. It knows nothing of clients.

#[cfg(feature = "kubernetes")]
pub mod kubernetes;
#[cfg(feature = "linkerd")]
pub mod linkerd;
