//! Counts what is going on, so that it can be waited for.

use std::sync::Arc;

use tokio::sync::Notify;

use super::sync::{AtomicUsize, Ordering};

// The highest bit says closed; the rest counts.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// A count of exchanges in flight that can be closed for new ones.
#[derive(Debug, Default)]
pub struct InFlight {
    count: AtomicUsize,
    emptied: Notify,
}

/// One exchange in flight. Gives its place back when dropped.
#[derive(Debug)]
pub struct InFlightGuard(Arc<InFlight>);

// === impl InFlight ===

impl InFlight {
    /// One more, unless closed.
    pub fn enter(self: &Arc<Self>) -> Option<InFlightGuard> {
        let guard = InFlightGuard(Arc::clone(self));
        // On a closed count the guard takes its place back by being dropped.
        let before = self.count.fetch_add(1, Ordering::AcqRel);
        (before & CLOSED == 0).then_some(guard)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire) & !CLOSED
    }

    /// Whether new ones are refused.
    pub fn is_closed(&self) -> bool {
        self.count.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Refuses new ones and waits until there is none left.
    pub async fn close(&self) {
        self.count.fetch_or(CLOSED, Ordering::AcqRel);
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            // Listens before it looks, or the last one could leave in between unheard.
            emptied.as_mut().enable();
            if self.count() == 0 {
                return;
            }
            emptied.await;
        }
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let before = self.0.count.fetch_sub(1, Ordering::AcqRel);
        if before == CLOSED | 1 {
            self.0.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn close_waits_for_the_last_one_and_refuses_new_ones() {
        let in_flight = Arc::new(InFlight::default());
        let first = in_flight.enter().unwrap();
        let closing = tokio::spawn({
            let in_flight = Arc::clone(&in_flight);
            async move { in_flight.close().await }
        });
        tokio::task::yield_now().await;
        assert!(in_flight.is_closed());
        assert!(in_flight.enter().is_none());
        assert_eq!(in_flight.count(), 1);
        assert!(!closing.is_finished());
        drop(first);
        closing.await.unwrap();
        in_flight.close().await;
    }
}
