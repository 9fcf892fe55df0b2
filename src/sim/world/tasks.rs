//! The callers' futures, polled by the world itself: it knows when all of them wait, and in which order they were woken.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crate::core::sync::{AtomicBool, Mutex, Ordering, lock};
use crate::sim::record::Outcome;
use crate::sim::stage::{Key, Slab};

pub(super) type Exchange = Pin<Box<dyn Future<Output = Outcome>>>;

/// Requests under way, and which of them have been woken.
#[derive(Default)]
pub(super) struct Tasks {
    slab: Slab<Task>,
    ready: Arc<Ready>,
    polls: u64,
}

/// A request under way.
pub(super) struct Task {
    pub(super) client: usize,
    pub(super) arrived: u64,
    exchange: Option<Exchange>,
    alarm: Arc<Alarm>,
    waker: Waker,
}

/// Tasks that have been woken, in that order.
#[derive(Default)]
pub(super) struct Ready {
    state: Mutex<Woken>,
}

#[derive(Default)]
struct Woken {
    tasks: VecDeque<Key>,
    // The world, while it sleeps.
    sleeper: Option<Waker>,
}

struct Alarm {
    ready: Arc<Ready>,
    key: Key,
    is_queued: AtomicBool,
}

// === impl Tasks ===

impl Tasks {
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// How often any of them was polled.
    pub(super) fn polls(&self) -> u64 {
        self.polls
    }

    pub(super) fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Begins a request; it is polled with the others that are ready.
    pub(super) fn spawn(&mut self, client: usize, arrived: u64, exchange: Exchange) -> Key {
        let ready = &self.ready;
        let key = self.slab.insert_with(|key| {
            let alarm = Arc::new(Alarm {
                ready: Arc::clone(ready),
                key,
                is_queued: AtomicBool::new(true),
            });
            Task {
                client,
                arrived,
                exchange: Some(exchange),
                waker: Waker::from(Arc::clone(&alarm)),
                alarm,
            }
        });
        lock(&self.ready.state).tasks.push_back(key);
        key
    }

    /// Polls those that are ready until one has ended, or none is.
    pub(super) fn poll(&mut self) -> Option<(Task, Outcome)> {
        loop {
            let key = lock(&self.ready.state).tasks.pop_front()?;
            let Some(task) = self.slab.get_mut(key) else {
                continue;
            };
            task.alarm.is_queued.store(false, Ordering::Release);
            let Some(exchange) = &mut task.exchange else {
                continue;
            };
            self.polls += 1;
            let mut cx = Context::from_waker(&task.waker);
            if let Poll::Ready(outcome) = exchange.as_mut().poll(&mut cx) {
                return Some((self.slab.remove(key)?, outcome));
            }
        }
    }

    /// Takes a request away from its caller.
    pub(super) fn remove(&mut self, key: Key) -> Option<Task> {
        self.slab.remove(key)
    }

    pub(super) fn drain(&mut self) -> Vec<Task> {
        self.slab.drain()
    }
}

// === impl Ready ===

impl Ready {
    pub(super) fn is_empty(&self) -> bool {
        lock(&self.state).tasks.is_empty()
    }

    /// Wakes the world when a task is woken.
    pub(super) fn listen(&self, waker: &Waker) {
        lock(&self.state).sleeper = Some(waker.clone());
    }
}

// === impl Alarm ===

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let sleeper = {
            let mut woken = lock(&self.ready.state);
            woken.tasks.push_back(self.key);
            woken.sleeper.take()
        };
        if let Some(sleeper) = sleeper {
            sleeper.wake();
        }
    }
}
