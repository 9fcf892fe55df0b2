//! What has been read of a body, and who reads it: a state machine without a lock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};

use super::ReplayError;
use crate::body::Body;
use crate::core::BoxError;
use crate::core::sync::{AtomicU64, Ordering};

/// One body, what of it was read, and its readers.
///
/// Frames are counted from the first one; those from `base` on are here. While the tape is kept, `base` is zero.
pub(super) struct Tape {
    // None while a reader polls it, and once it was given away.
    source: Option<Body>,
    end: End,
    frames: VecDeque<Bytes>,
    base: u64,
    // Of the frames that are here.
    bytes: usize,
    // Of all frames that were ever read.
    total: u64,
    trailers: Option<HeaderMap>,
    // The length that was promised, if one was.
    exact: Option<u64>,
    limit: usize,
    // Whether another reader may still want everything from the start.
    kept: bool,
    over: bool,
    count_over: Option<Arc<AtomicU64>>,
    readers: Vec<Reader>,
    next_reader: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Open,
    /// The source said that nothing more comes.
    Ended,
    /// It gave an error, or panicked.
    Broken,
}

struct Reader {
    id: u32,
    // The next frame.
    at: u64,
    // Bytes it has had.
    had: u64,
    had_trailers: bool,
    had_error: bool,
    // Set while it waits.
    waker: Option<Waker>,
    // Whether it waits because somebody else was polling the source, and not for the source.
    turned_away: bool,
}

/// What a reader does next.
pub(super) enum Turn {
    /// Hand this out.
    Frame(Frame<Bytes>),
    End,
    Error(ReplayError),
    /// Somebody else is polling the source.
    Wait,
    /// Poll the source, without the lock, and put it back.
    Poll(Body),
    /// The same, but it is yours.
    Own(Body),
}

pub(super) type Polled = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

// === impl Tape ===

impl Tape {
    pub(super) fn new(source: Body, limit: usize, count_over: Option<Arc<AtomicU64>>) -> Self {
        Self {
            exact: source.size_hint().exact(),
            source: Some(source),
            end: End::Open,
            frames: VecDeque::new(),
            base: 0,
            bytes: 0,
            total: 0,
            trailers: None,
            limit,
            kept: true,
            over: false,
            count_over,
            readers: Vec::new(),
            next_reader: 0,
        }
    }

    /// Whether a new reader would get everything.
    pub(super) fn is_replayable(&self) -> bool {
        self.kept && self.end != End::Broken
    }

    /// Whether all of it is here.
    pub(super) fn is_complete(&self) -> bool {
        self.is_replayable() && (self.end == End::Ended || self.trailers.is_some())
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A new reader in place of all others, who must be woken. None if the start is gone; then the others stay.
    pub(super) fn restart(&mut self) -> Option<(u32, Vec<Waker>)> {
        if !self.is_replayable() {
            return None;
        }
        let wakers = self.dismiss(None);
        self.join().map(|id| (id, wakers))
    }

    /// A new reader, from the start. None if that is gone.
    pub(super) fn join(&mut self) -> Option<u32> {
        if !self.is_replayable() {
            return None;
        }
        let id = self.next_reader;
        self.next_reader = id.wrapping_add(1);
        self.readers.push(Reader {
            id,
            at: 0,
            had: 0,
            had_trailers: false,
            had_error: false,
            waker: None,
            turned_away: false,
        });
        Some(id)
    }

    /// Ends all readers but this one. Whoever waits must be woken, to hear of it.
    #[must_use]
    pub(super) fn dismiss(&mut self, except: Option<u32>) -> Vec<Waker> {
        let mut wakers = Vec::new();
        self.readers.retain_mut(|reader| {
            let stays = Some(reader.id) == except;
            if !stays {
                wakers.extend(reader.waker.take());
            }
            stays
        });
        self.trim();
        wakers
    }

    /// A reader is gone. The others must be woken: the source may know only its waker.
    #[must_use]
    pub(super) fn leave(&mut self, id: u32) -> Vec<Waker> {
        self.readers.retain(|reader| reader.id != id);
        self.trim();
        self.wakers(None)
    }

    /// Nobody joins any more: what all readers have had is let go.
    pub(super) fn seal(&mut self) {
        self.kept = false;
        self.trim();
    }

    /// The source, if nothing was read of it and nobody but one reads it.
    pub(super) fn take_untouched(&mut self) -> Option<Body> {
        let untouched = self.total == 0
            && self.end == End::Open
            && self.trailers.is_none()
            && self.readers.len() <= 1;
        self.source.take_if(|_| untouched)
    }

    /// What the reader does next.
    pub(super) fn next(&mut self, id: u32, waker: &Waker) -> Turn {
        let edge = self.edge();
        let alone = !self.kept && self.readers.len() == 1;
        let Some(reader) = self.readers.iter_mut().find(|reader| reader.id == id) else {
            return Turn::Error(ReplayError::Dismissed);
        };
        if reader.at < edge {
            let index = usize::try_from(reader.at - self.base).unwrap_or(usize::MAX);
            let Some(frame) = self.frames.get(index).cloned() else {
                return Turn::Error(ReplayError::Dismissed);
            };
            reader.at += 1;
            reader.had += frame.len() as u64;
            self.trim();
            return Turn::Frame(Frame::data(frame));
        }
        if self.end == End::Broken {
            return match std::mem::replace(&mut reader.had_error, true) {
                true => Turn::End,
                false => Turn::Error(ReplayError::Broken),
            };
        }
        if let Some(trailers) = &self.trailers
            && !std::mem::replace(&mut reader.had_trailers, true)
        {
            return Turn::Frame(Frame::trailers(trailers.clone()));
        }
        if self.end == End::Ended {
            return Turn::End;
        }
        match self.source.take() {
            Some(source) if alone => Turn::Own(source),
            Some(source) => Turn::Poll(source),
            None => {
                reader.wait(waker);
                reader.turned_away = true;
                Turn::Wait
            }
        }
    }

    /// The source is back, and this is what it gave. Whoever else waits for it must be woken.
    #[must_use]
    pub(super) fn put_back(
        &mut self,
        id: u32,
        source: Body,
        polled: &Polled,
        waker: &Waker,
    ) -> Vec<Waker> {
        self.source = Some(source);
        let reader = self.readers.iter_mut().find(|reader| reader.id == id);
        let known = reader.is_some();
        match polled {
            Poll::Pending => {
                if let Some(reader) = reader {
                    reader.wait(waker);
                    reader.turned_away = false;
                    // Who came meanwhile must ask for itself: this reader may not come again.
                    let readers = self.readers.iter_mut();
                    let away = readers.filter_map(|reader| reader.take_turned_away());
                    return away.collect();
                }
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    return self.record(id, data);
                }
                if let Some(trailers) = frame.trailers_ref() {
                    if let Some(reader) = reader {
                        reader.had_trailers = true;
                    }
                    if self.kept || self.readers.len() > usize::from(known) {
                        self.trailers = Some(trailers.clone());
                    }
                }
            }
            Poll::Ready(Some(Err(_))) => {
                if let Some(reader) = reader {
                    reader.had_error = true;
                }
                self.end = End::Broken;
            }
            Poll::Ready(None) => self.end = End::Ended,
        }
        self.wakers(Some(id))
    }

    /// The source is lost: it panicked while it was polled.
    #[must_use]
    pub(super) fn lost(&mut self) -> Vec<Waker> {
        self.end = End::Broken;
        self.wakers(None)
    }

    // A frame was read by this reader, which may have been dismissed meanwhile.
    fn record(&mut self, id: u32, data: &Bytes) -> Vec<Waker> {
        // Empty frames carry nothing, and an endless row of them must not fill the memory.
        if data.is_empty() {
            return self.wakers(Some(id));
        }
        self.total += data.len() as u64;
        let edge = self.edge();
        let others = self.readers.iter().any(|reader| reader.id != id);
        let fits = data.len() <= self.limit.saturating_sub(self.bytes);
        let mut wakers = Vec::new();
        if (self.kept || others) && fits {
            self.frames.push_back(data.clone());
            self.bytes += data.len();
        } else {
            if self.kept {
                self.kept = false;
                self.over = true;
                if let Some(count) = &self.count_over {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
            // Who is behind will never see this frame.
            wakers = self.dismiss(Some(id));
            self.frames = VecDeque::new();
            self.bytes = 0;
            self.base = edge + 1;
        }
        if let Some(reader) = self.readers.iter_mut().find(|reader| reader.id == id) {
            reader.at = edge + 1;
            reader.had += data.len() as u64;
        }
        self.trim();
        wakers.extend(self.wakers(Some(id)));
        wakers
    }

    pub(super) fn is_end_stream(&self, id: u32) -> bool {
        match self.reader(id) {
            Some(reader) if self.is_at_edge(reader) => match &self.source {
                Some(source) => source.is_end_stream(),
                None => self.end == End::Ended,
            },
            _ => false,
        }
    }

    /// The length is told as it was the first time, so that each attempt is sent in the same form.
    pub(super) fn size_hint(&self, id: u32) -> SizeHint {
        let Some(reader) = self.reader(id) else {
            return SizeHint::default();
        };
        if let Some(source) = self.source.as_ref().filter(|_| self.is_at_edge(reader)) {
            return source.size_hint();
        }
        if let Some(exact) = self.exact {
            return SizeHint::with_exact(exact.saturating_sub(reader.had));
        }
        let rest = self
            .source
            .as_ref()
            .map_or(0, |source| source.size_hint().lower());
        let mut hint = SizeHint::new();
        hint.set_lower((self.total - reader.had).saturating_add(rest));
        hint
    }

    fn edge(&self) -> u64 {
        self.base + self.frames.len() as u64
    }

    fn reader(&self, id: u32) -> Option<&Reader> {
        self.readers.iter().find(|reader| reader.id == id)
    }

    // Whether it has had all that was read.
    fn is_at_edge(&self, reader: &Reader) -> bool {
        let trailers = self.trailers.is_none() || reader.had_trailers;
        reader.at == self.edge() && trailers
    }

    fn trim(&mut self) {
        if self.kept {
            return;
        }
        let least = self.readers.iter().map(|reader| reader.at).min();
        let least = least.unwrap_or(self.edge());
        while self.base < least
            && let Some(frame) = self.frames.pop_front()
        {
            self.base += 1;
            self.bytes -= frame.len();
        }
    }

    fn wakers(&mut self, except: Option<u32>) -> Vec<Waker> {
        let readers = self.readers.iter_mut();
        let others = readers.filter(|reader| Some(reader.id) != except);
        others.filter_map(|reader| reader.waker.take()).collect()
    }
}

// === impl Reader ===

impl Reader {
    fn take_turned_away(&mut self) -> Option<Waker> {
        let away = std::mem::take(&mut self.turned_away);
        self.waker.take_if(|_| away)
    }

    fn wait(&mut self, waker: &Waker) {
        if !self.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
    }
}
