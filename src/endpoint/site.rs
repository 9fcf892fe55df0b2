use std::pin::Pin;
use std::sync::OnceLock;

use super::{Endpoint, ErasedConnect, Leaf, LeafCall};

/// The part of an endpoint that is the user's: its metadata, and its leaf, which is made when it is first needed.
///
/// Another of these takes its place when the metadata changes, and none does when it leaves; its cell stays the same.
// The leaf next to the address, which comes first in an endpoint: each call asks for both.
#[repr(C)]
pub(crate) struct Site<L> {
    leaf: OnceLock<L>,
    endpoint: Endpoint,
}

// === impl Site ===

impl<L> Site<L> {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self {
            leaf: OnceLock::new(),
            endpoint,
        }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn leaf(&self, make: impl FnOnce(&Endpoint) -> L) -> &L {
        self.leaf.get_or_init(|| make(&self.endpoint))
    }
}

impl Site<Box<dyn Leaf>> {
    /// A fresh call of its leaf.
    pub(crate) fn start(&self, connector: &dyn ErasedConnect) -> Pin<Box<dyn LeafCall>> {
        self.leaf(|endpoint| connector.connect_erased(endpoint))
            .start()
    }
}
