//! What is attached to what: made by [`link`](super::link), once everything has been read.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use super::route::ParentKind;

/// The routes of every parent.
#[derive(Clone, Debug, Default)]
pub(super) struct Links(BTreeMap<(ParentKind, String, String), Vec<Attached>>);

/// A route at a parent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attached {
    /// Which of the routes.
    pub(super) route: usize,
    /// None is every port.
    pub(super) port: Option<NonZeroU16>,
    /// Whether the mesh would say so in the route's status, without which it does nothing with it.
    pub(super) accepted: bool,
}

// === impl Links ===

impl Links {
    pub(super) fn new(links: BTreeMap<(ParentKind, String, String), Vec<Attached>>) -> Self {
        Self(links)
    }

    /// In the mesh's order.
    pub(super) fn of(&self, kind: ParentKind, namespace: &str, name: &str) -> &[Attached] {
        let key = (kind, namespace.to_owned(), name.to_owned());
        self.0.get(&key).map_or(&[], Vec::as_slice)
    }
}
