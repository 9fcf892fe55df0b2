//! Changes of state, for whoever subscribes. It costs one load per change when nobody does.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use tokio::time::Instant;

use crate::core::observe::Decision;
use crate::core::sync::{AtomicUsize, Mutex, Ordering, lock};

/// How many events are kept for a subscriber that does not come for them.
const KEPT: usize = 256;

/// Who has subscribed to a breaker, or to those of a registry.
#[derive(Debug)]
pub(crate) struct Events {
    // How many subscribers there may be.
    wanted: AtomicUsize,
    subscribers: Mutex<Vec<Weak<Mailbox>>>,
}

#[derive(Debug)]
struct Mailbox {
    // Only of this breaker.
    only: Option<Arc<str>>,
    state: Mutex<Letters>,
}

#[derive(Debug, Default)]
struct Letters {
    events: VecDeque<BreakerEvent>,
    // Since the last that was kept.
    missed: u64,
    waker: Option<Waker>,
    // Nobody is left to write.
    over: bool,
}

/// Something happened to a breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerEvent {
    /// When.
    pub at: Instant,
    /// What: one of [`Decision`]'s variants of standalone breakers, with the breaker's name, or of a client's endpoints,
    /// with the endpoint.
    pub decision: Decision,
    /// How many events before this one were dropped, because more than 256 were waiting.
    pub missed: u64,
}

/// What happens to a breaker, or to each of a registry's, from the moment of the subscription on.
///
/// [`BreakerOpened`](Decision::BreakerOpened), [`BreakerProbing`](Decision::BreakerProbing),
/// [`BreakerProbePassed`](Decision::BreakerProbePassed), [`BreakerProbeReturned`](Decision::BreakerProbeReturned) and
/// [`BreakerClosed`](Decision::BreakerClosed). Single refusals are no events: they are counted in the
/// [snapshot](super::BreakerSnapshot::refused), and told to an [observer](super::BreakerLayer::observer).
///
/// A stream that ends when no service, handle or layer of the breaker is left. A subscriber that does not read delays
/// nobody and loses the oldest events, which the next tells in [`missed`](BreakerEvent::missed).
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// use tower_mesh::breaker::BreakerLayer;
/// use tower_mesh::policy::FailureAccrual;
///
/// let layer = BreakerLayer::new(FailureAccrual::consecutive(5)).named("orders");
/// let mut events = layer.handle().subscribe();
/// layer.handle().force_open();
/// let event = events.next().await.unwrap();
/// assert_eq!(event.decision.name(), "breaker_opened");
/// # }
/// ```
#[derive(Debug)]
pub struct BreakerEvents(Arc<Mailbox>);

// === impl Events ===

impl Default for Events {
    fn default() -> Self {
        Self {
            wanted: AtomicUsize::new(0),
            subscribers: Mutex::new(Vec::new()),
        }
    }
}

impl Events {
    /// Of all breakers that share this, or `only` of the one of this name.
    pub(crate) fn subscribe(&self, only: Option<Arc<str>>) -> BreakerEvents {
        let mailbox = Arc::new(Mailbox {
            only,
            state: Mutex::default(),
        });
        let mut subscribers = lock(&self.subscribers);
        subscribers.retain(|subscriber| subscriber.strong_count() > 0);
        subscribers.push(Arc::downgrade(&mailbox));
        self.wanted.store(subscribers.len(), Ordering::Release);
        BreakerEvents(mailbox)
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire) > 0
    }

    pub(crate) fn send(&self, at: Instant, breaker: &Arc<str>, decision: &Decision) {
        let mut wakers = Vec::new();
        let mut subscribers = lock(&self.subscribers);
        subscribers.retain(|subscriber| {
            let Some(mailbox) = subscriber.upgrade() else {
                return false;
            };
            if mailbox.only.as_ref().is_none_or(|only| only == breaker) {
                wakers.extend(mailbox.put(at, decision));
            }
            true
        });
        self.wanted.store(subscribers.len(), Ordering::Release);
        drop(subscribers);
        // Without the lock: a waker may do anything.
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let subscribers = std::mem::take(&mut *lock(&self.subscribers));
        for mailbox in subscribers.iter().filter_map(Weak::upgrade) {
            let mut letters = lock(&mailbox.state);
            letters.over = true;
            let waker = letters.waker.take();
            drop(letters);
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

// === impl Mailbox ===

impl Mailbox {
    fn put(&self, at: Instant, decision: &Decision) -> Option<Waker> {
        let mut letters = lock(&self.state);
        if letters.events.len() == KEPT
            && let Some(lost) = letters.events.pop_front()
        {
            letters.missed += lost.missed + 1;
        }
        letters.events.push_back(BreakerEvent {
            at,
            decision: decision.clone(),
            missed: 0,
        });
        letters.waker.take()
    }
}

// === impl BreakerEvents ===

impl BreakerEvents {
    /// The next event; none when there will be no more.
    pub async fn next(&mut self) -> Option<BreakerEvent> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for BreakerEvents {
    type Item = BreakerEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<BreakerEvent>> {
        let mut letters = lock(&self.0.state);
        if let Some(mut event) = letters.events.pop_front() {
            event.missed = std::mem::take(&mut letters.missed);
            return Poll::Ready(Some(event));
        }
        if letters.over {
            return Poll::Ready(None);
        }
        letters.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn closed(events: &Events, breaker: &Arc<str>) {
        let decision = Decision::BreakerClosed {
            breaker: Arc::clone(breaker),
        };
        events.send(Instant::now(), breaker, &decision);
    }

    // What is there, and whether that is all there will be.
    fn read(events: &mut BreakerEvents, woken: &Arc<Woken>) -> (Vec<u64>, bool) {
        let waker = Arc::clone(woken).into();
        let mut cx = Context::from_waker(&waker);
        let mut missed = Vec::new();
        loop {
            match Pin::new(&mut *events).poll_next(&mut cx) {
                Poll::Ready(Some(event)) => missed.push(event.missed),
                Poll::Ready(None) => return (missed, true),
                Poll::Pending => return (missed, false),
            }
        }
    }

    #[test]
    fn who_reads_too_late_is_told_how_many_it_missed() {
        let events = Events::default();
        let name: Arc<str> = "a".into();
        let woken = Arc::default();
        let mut reader = events.subscribe(None);
        for _ in 0..KEPT {
            closed(&events, &name);
        }
        assert_eq!(read(&mut reader, &woken), (vec![0; KEPT], false));
        for _ in 0..KEPT + 3 {
            closed(&events, &name);
        }
        let (missed, over) = read(&mut reader, &woken);
        assert_eq!((missed[0], missed.len(), over), (3, KEPT, false));
        assert!(missed[1..].iter().all(|missed| *missed == 0));
    }

    #[test]
    fn readers_are_woken_by_what_they_asked_for_and_by_the_end() {
        let events = Events::default();
        assert!(!events.is_wanted());
        let (mine, other): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let woken: Arc<Woken> = Arc::default();
        let mut reader = events.subscribe(Some(Arc::clone(&mine)));
        assert!(events.is_wanted());
        assert_eq!(read(&mut reader, &woken), (vec![], false));
        closed(&events, &other);
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        closed(&events, &mine);
        // Once: it has not looked since.
        closed(&events, &mine);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(read(&mut reader, &woken), (vec![0, 0], false));
        drop(events);
        assert_eq!(woken.0.load(Ordering::Relaxed), 2);
        assert_eq!(read(&mut reader, &woken), (vec![], true));
    }

    #[test]
    fn nothing_is_put_into_words_for_readers_that_have_gone() {
        let events = Events::default();
        drop(events.subscribe(None));
        closed(&events, &"a".into());
        assert!(!events.is_wanted());
    }
}
