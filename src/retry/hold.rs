//! How long a gRPC response is held back for its trailers: pure, told what came and when.

use std::time::Duration;

use tokio::time::Instant;

use crate::core::time::after;
use crate::policy::{Fidelity, MethodKind, Trailers};

/// A response that is held back.
#[derive(Debug)]
pub(crate) struct Hold {
    way: Way,
    // The most bytes.
    limit: u64,
    next_frame: Duration,
    // When it is handed over, whatever has come.
    until: Option<Instant>,
    messages: Messages,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// All of it.
    Unary,
    /// What comes at once.
    Auto,
    /// The first frame, however long it takes, and what is there together with it.
    Mesh,
}

/// Counts gRPC messages: five bytes of head each, the last four of which say how long the rest is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Messages {
    whole: u64,
    // Of the message that has begun: bytes of its head, its length so far as the head tells, bytes still to come.
    head: u8,
    length: u32,
    left: u32,
}

// === impl Hold ===

impl Hold {
    /// None if it is handed over at once. `limit` is in bytes.
    pub(crate) fn new(
        trailers: Trailers,
        method: MethodKind,
        fidelity: Fidelity,
        limit: usize,
        now: Instant,
    ) -> Option<Self> {
        // Difference::HeldTrailers.
        let (way, until) = match method {
            _ if fidelity == Fidelity::Mesh => (Way::Mesh, None),
            MethodKind::Streaming => return None,
            MethodKind::Unary => (Way::Unary, None),
            MethodKind::Auto => (Way::Auto, Some(after(now, trailers.first_frame))),
        };
        Some(Self {
            way,
            limit: limit as u64,
            next_frame: trailers.next_frame,
            until,
            messages: Messages::default(),
        })
    }

    /// When it is handed over unless something comes before.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Nothing more is there at `now`: whether it is held on.
    pub(crate) fn waits(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Data came, with which there are so many bytes: whether it is held on.
    pub(crate) fn data(&mut self, data: &[u8], bytes: u64, now: Instant) -> bool {
        if bytes > self.limit {
            return false;
        }
        match self.way {
            _ if data.is_empty() => true,
            Way::Unary => true,
            // What is there already is looked at, and nothing is waited for.
            Way::Mesh => self.until.replace(now).is_none(),
            Way::Auto => {
                let begun = self.messages.begun();
                let whole = self.messages.whole;
                self.messages.read(data);
                if self.messages.begun() && self.messages.whole > 0 || self.messages.whole > 1 {
                    return false;
                }
                // One wait for the message, and one after it: whoever drips cannot stretch them.
                if !begun || self.messages.whole > whole {
                    self.until = Some(after(now, self.next_frame));
                }
                true
            }
        }
    }
}

// === impl Messages ===

impl Messages {
    const HEAD: u8 = 5;

    fn begun(&self) -> bool {
        self.head > 0
    }

    fn read(&mut self, mut data: &[u8]) {
        loop {
            if self.head < Self::HEAD {
                let Some((byte, rest)) = data.split_first() else {
                    return;
                };
                data = rest;
                // The first is a flag.
                if self.head > 0 {
                    self.length = self.length << 8 | u32::from(*byte);
                }
                self.head += 1;
                self.left = self.length;
            }
            if self.head == Self::HEAD {
                let step = data
                    .len()
                    .min(usize::try_from(self.left).unwrap_or(usize::MAX));
                data = &data[step..];
                self.left -= u32::try_from(step).unwrap_or(self.left);
                if self.left > 0 {
                    return;
                }
                *self = Self {
                    whole: self.whole + 1,
                    ..Self::default()
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn message(len: u32) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(len.to_be_bytes());
        bytes.extend(std::iter::repeat_n(7, len as usize));
        bytes
    }

    fn hold(method: MethodKind, fidelity: Fidelity, now: Instant) -> Option<Hold> {
        let trailers = Trailers::default().next_frame(ms(20));
        Hold::new(trailers, method, fidelity, 100, now)
    }

    proptest! {
        #[test]
        fn messages_are_counted_however_they_are_cut(
            lengths in proptest::collection::vec(0u32..20, 0..6),
            cuts in proptest::collection::vec(1usize..9, 1..6), tail in 0usize..5,
        ) {
            let mut bytes: Vec<u8> = lengths.iter().flat_map(|len| message(*len)).collect();
            bytes.extend(std::iter::repeat_n(0, tail));
            let mut messages = Messages::default();
            let mut cuts = cuts.iter().cycle();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let cut = rest.len().min(*cuts.next().unwrap());
                messages.read(&rest[..cut]);
                rest = &rest[cut..];
            }
            prop_assert_eq!(messages.whole, lengths.len() as u64);
            prop_assert_eq!(messages.begun(), tail > 0);
        }
    }

    #[test]
    fn streaming_is_not_held() {
        let now = Instant::now();
        assert!(hold(MethodKind::Streaming, Fidelity::Extended, now).is_none());
        // The mesh does not know of methods.
        assert!(hold(MethodKind::Streaming, Fidelity::Mesh, now).is_some());
    }

    #[test]
    fn unary_is_held_up_to_the_limit() {
        let now = Instant::now();
        let mut unary = hold(MethodKind::Unary, Fidelity::Extended, now).unwrap();
        assert!(unary.waits(now + ms(1_000_000)));
        assert!(unary.data(&message(95), 100, now));
        assert!(!unary.data(&[0], 101, now));
    }

    #[test]
    fn auto_waits_for_a_frame_then_for_its_message_then_for_what_follows() {
        let now = Instant::now();
        let auto = || hold(MethodKind::Auto, Fidelity::Extended, now).unwrap();
        assert!(auto().waits(now + ms(9)) && !auto().waits(now + ms(10)));
        // One message in two parts; the second does not stretch the wait, its end does.
        let (mut held, one) = (auto(), message(10));
        assert!(held.data(&one[..3], 3, now + ms(5)));
        assert_eq!(held.until(), Some(now + ms(25)));
        assert!(held.data(&one[3..9], 9, now + ms(15)));
        assert_eq!(held.until(), Some(now + ms(25)));
        assert!(held.data(&one[9..], 15, now + ms(20)));
        assert_eq!(held.until(), Some(now + ms(40)));
        // Any part of a second one tells that it is a stream.
        assert!(!held.data(&[0], 16, now + ms(21)));
        assert!(!auto().data(&[message(1), message(1)].concat(), 12, now));
        assert!(!auto().data(&message(96), 101, now), "the limit");
        // An empty message is a message.
        assert!(auto().data(&message(0), 5, now));
    }

    #[test]
    fn the_mesh_waits_for_one_frame_and_looks_once_more() {
        let now = Instant::now();
        let mut held = hold(MethodKind::Auto, Fidelity::Mesh, now).unwrap();
        assert!(held.waits(now + ms(1_000_000)));
        assert!(held.data(&[0], 1, now));
        assert!(!held.waits(now));
        assert!(!held.data(&[0], 2, now));
    }
}
