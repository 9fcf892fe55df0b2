//! What it takes to send a request on a connection, and what is known of it.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::Waker;

use hyper::client::conn::{http1, http2};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::outgoing::Outgoing;
use crate::core::sync::{AtomicUsize, Mutex, Ordering, lock};

/// What is known of a connection from its start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Card {
    pub(super) number: u64,
    pub(super) retire_at: Option<Instant>,
    pub(super) encrypted: bool,
}

pub(super) struct Http1 {
    pub(super) sender: http1::SendRequest<Outgoing>,
    pub(super) parking: Arc<Parking>,
    pub(super) card: Card,
}

#[derive(Clone)]
pub(super) struct Http2 {
    pub(super) sender: http2::SendRequest<Outgoing>,
    pub(super) handles: Arc<Handles>,
    pub(super) card: Card,
}

/// What all handles on an HTTP/2 connection share.
pub(super) struct Handles {
    // How many streams the peer allows.
    pub(super) peer_limit: Arc<AtomicUsize>,
    // Dropped with the last handle, which tells the connection's task.
    pub(super) _any: oneshot::Sender<Infallible>,
}

/// Where an HTTP/1.1 connection's handle waits until the response body has ended, watched by the connection's task.
#[derive(Default)]
pub(super) struct Parking(Mutex<Parked>);

#[derive(Default)]
struct Parked {
    sender: Option<http1::SendRequest<Outgoing>>,
    task: Option<Waker>,
}

// === impl Card ===

impl Card {
    pub(super) fn retired(&self, now: Instant) -> bool {
        self.retire_at.is_some_and(|at| at <= now)
    }

    pub(super) fn or_retired(&self, at: Instant) -> Instant {
        self.retire_at.map_or(at, |retire| retire.min(at))
    }
}

// === impl Http2 ===

impl Http2 {
    /// How many streams the peer allows.
    pub(super) fn peer_limit(&self) -> usize {
        self.handles.peer_limit.load(Ordering::Relaxed)
    }
}

// === impl Parking ===

impl Parking {
    /// For the connection's task, which is woken.
    pub(super) fn park(&self, sender: http1::SendRequest<Outgoing>) {
        let task = {
            let mut parked = lock(&self.0);
            parked.sender = Some(sender);
            parked.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }

    /// What was parked; the task is woken if something is, later.
    pub(super) fn take(&self, task: &Waker) -> Option<http1::SendRequest<Outgoing>> {
        let mut parked = lock(&self.0);
        let sender = parked.sender.take();
        if sender.is_none() && !parked.task.as_ref().is_some_and(|old| old.will_wake(task)) {
            parked.task = Some(task.clone());
        }
        sender
    }
}
