use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::Key;
use crate::sim::server::End;

/// Something that happens at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Event {
    /// A request arrives at a client, and the next one will be planned.
    Arrival { client: usize },
    /// One of a client's callers asks again.
    Again { client: usize },
    /// A caller drops its request.
    GiveUp { task: Key },
    /// An endpoint has come to the end of its work.
    Served { station: usize, key: Key, end: End },
    /// An endpoint's pause is over.
    Resume { station: usize },
    /// Discovery adds or removes an endpoint.
    Members,
    /// A second is over.
    Second,
}

/// What is to happen, in the order of time, and at one time in the order in which it was planned.
#[derive(Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Planned>,
    count: u64,
}

struct Planned {
    at: u64,
    number: u64,
    event: Event,
}

// === impl Queue ===

impl Queue {
    pub(crate) fn push(&mut self, at: u64, event: Event) {
        let number = self.count;
        self.count += 1;
        self.heap.push(Planned { at, number, event });
    }

    /// When the next event is.
    pub(crate) fn due(&self) -> Option<u64> {
        self.heap.peek().map(|planned| planned.at)
    }

    /// The next event, if it is not after `now`.
    pub(crate) fn pop(&mut self, now: u64) -> Option<Event> {
        if self.due()? > now {
            return None;
        }
        self.heap.pop().map(|planned| planned.event)
    }
}

// === impl Planned ===

// The heap gives out the greatest first: what is earlier is greater.
impl Ord for Planned {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Planned {}
