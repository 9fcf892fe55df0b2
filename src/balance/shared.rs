use std::sync::Arc;

use super::Set;
use crate::core::driver::Driver;
use crate::core::sync::{AtomicU64, Ordering};
use crate::endpoint::Endpoint;

// As many requests as one clone can number before it takes the numbers of another.
const LANE: u32 = 40;

/// What all clones share.
pub(super) struct Shared<S> {
    pub(super) set: Arc<Set<S>>,
    pub(super) make: Box<dyn Fn(&Endpoint) -> S + Send + Sync>,
    driver: Option<Driver>,
    lanes: AtomicU64,
}

/// What the calls of one clone share: so that those of others need not be told of each. In a line of its own, or clones
/// that were made one after the other could share what each of them writes to.
#[repr(align(64))]
pub(super) struct Local<S> {
    pub(super) shared: Arc<Shared<S>>,
    // Its requests are numbered from here.
    next: AtomicU64,
}

// === impl Shared ===

impl<S> Shared<S> {
    pub(super) fn new(
        set: Arc<Set<S>>,
        make: Box<dyn Fn(&Endpoint) -> S + Send + Sync>,
        driver: Option<Driver>,
    ) -> Self {
        Self {
            set,
            make,
            driver,
            lanes: AtomicU64::new(0),
        }
    }
}

// === impl Local ===

impl<S> Local<S> {
    pub(super) fn new(shared: Arc<Shared<S>>) -> Self {
        let lane = shared.lanes.fetch_add(1, Ordering::Relaxed);
        Self {
            shared,
            next: AtomicU64::new(lane << LANE),
        }
    }

    /// The number of the next request.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The same for the only one who asks.
    pub(super) fn only_number(&self) -> u64 {
        let number = self.next.load(Ordering::Relaxed);
        self.next.store(number + 1, Ordering::Relaxed);
        number
    }

    pub(super) fn ensure(&self) {
        if let Some(driver) = &self.shared.driver {
            driver.ensure();
        }
    }
}
