//! A request body that can be sent again.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body as HttpBody, SizeHint};

#[cfg(all(test, tower_mesh_loom))]
mod loom_tests;
mod tape;
#[cfg(all(test, not(tower_mesh_loom)))]
mod tests;

use self::tape::{Polled, Tape, Turn};
use super::Body;
use crate::core::BoxError;
use crate::core::sync::{AtomicU64, Mutex, lock};

/// Keeps a request's body for further attempts: each gets all of it, every byte once and in order, trailers included.
///
/// An empty body or one in memory is handed out again and again and costs nothing. A stream is kept while it is sent,
/// frame by frame and without a copy, up to a limit in bytes; what an attempt has not read yet the next one reads from the
/// stream itself. Over the limit what was kept is let go, the attempt that is being sent goes on, and there is no other.
/// Bytes are counted, not what holds them: a frame of a few bytes may keep a larger buffer alive.
///
/// Each attempt [ends](Self::release) the bodies of those before: a connection that has not noticed yet that its response
/// was dropped reads nothing more. [`race`](Self::race) is for two attempts at once. Dropped, it keeps nothing any longer,
/// while the bodies that were handed out go on.
///
/// ```
/// # use http_body_util::BodyExt;
/// # use tower_mesh::Body;
/// use tower_mesh::body::Replay;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_mesh::BoxError> {
/// # let upload = Body::from("all of it");
/// let mut replay = Replay::new(upload, 64 * 1024);
/// while let Some(body) = replay.attempt() {
///     let sent = body.collect().await?.to_bytes();
///     # assert_eq!(sent, "all of it");
///     # break;
/// }
/// # Ok(())
/// # }
/// ```
pub struct Replay(Kept);

enum Kept {
    /// Empty, or in memory.
    Whole(Body),
    /// Sent once, because it is larger than the limit.
    Once(Option<Body>),
    Tape(Arc<Shared>),
}

/// Why the body of an attempt broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The attempt was given up, and another took its place.
    #[error("the attempt that this request body belonged to was given up")]
    Dismissed,
    /// The body itself broke in an earlier attempt.
    #[error("the request's body broke in an earlier attempt")]
    Broken,
}

/// What the keeper and the bodies that it handed out share. Locked for moments, never while the source is polled.
struct Shared(Mutex<Tape>);

/// The body of one attempt.
struct Attempt {
    shared: Arc<Shared>,
    id: u32,
    // The source, once nobody else wants it.
    own: Option<Body>,
}

/// The source while it is polled without the lock.
struct Borrowed<'a> {
    shared: &'a Shared,
    source: Option<Body>,
}

// === impl Replay ===

impl Replay {
    /// Keeps up to `limit` bytes; exactly as many is not too many.
    pub fn new(body: Body, limit: usize) -> Self {
        Self::counted(body, limit, None)
    }

    /// The same, and counts here when a body turns out to be larger.
    pub(crate) fn counted(body: Body, limit: usize, over: Option<&Arc<AtomicU64>>) -> Self {
        let least = body
            .buffered()
            .map_or(body.size_hint().lower(), |bytes| bytes as u64);
        if least > limit as u64 {
            if let Some(over) = over {
                over.fetch_add(1, crate::core::sync::Ordering::Relaxed);
            }
            return Self(Kept::Once(Some(body)));
        }
        Self(if body.buffered().is_some() {
            Kept::Whole(body)
        } else if body.is_end_stream() {
            Kept::Whole(Body::empty())
        } else {
            let tape = Tape::new(body, limit, over.cloned());
            Kept::Tape(Arc::new(Shared(Mutex::new(tape))))
        })
    }

    /// The body for the next attempt; those of earlier ones end with [`ReplayError::Dismissed`]. None if there is none
    /// that is whole: it was larger than the limit, or broke.
    pub fn attempt(&mut self) -> Option<Body> {
        match &self.0 {
            Kept::Tape(shared) => shared.restart(),
            Kept::Whole(_) | Kept::Once(_) => self.race(),
        }
    }

    /// A body for an attempt at the same time as the others: none of them has to wait for another, but what one has read
    /// beyond the limit the others never see.
    pub fn race(&mut self) -> Option<Body> {
        match &mut self.0 {
            Kept::Whole(body) => body.try_clone(),
            Kept::Once(body) => body.take(),
            Kept::Tape(shared) => shared.join(),
        }
    }

    /// The body for an attempt that no other follows: nothing is kept any longer.
    pub fn last(mut self) -> Option<Body> {
        match &mut self.0 {
            Kept::Whole(body) => Some(std::mem::take(body)),
            Kept::Once(body) => body.take(),
            Kept::Tape(shared) => {
                let body = shared.restart()?;
                let untouched = lock(&shared.0).take_untouched();
                untouched.or(Some(body))
            }
        }
    }

    /// Ends the bodies of all attempts: they are over, whether or not their connections know.
    pub fn release(&mut self) {
        if let Kept::Tape(shared) = &self.0 {
            shared.dismiss();
        }
    }

    /// Whether there is a body for another attempt, as far as it was read.
    pub fn is_replayable(&self) -> bool {
        match &self.0 {
            Kept::Whole(_) => true,
            Kept::Once(_) => false,
            Kept::Tape(shared) => lock(&shared.0).is_replayable(),
        }
    }

    /// Whether all of it is kept: it was read to its end within the limit.
    pub fn is_complete(&self) -> bool {
        match &self.0 {
            Kept::Whole(_) => true,
            Kept::Once(_) => false,
            Kept::Tape(shared) => lock(&shared.0).is_complete(),
        }
    }

    /// Whether it turned out to be larger than the limit.
    pub fn is_too_large(&self) -> bool {
        match &self.0 {
            Kept::Whole(_) => false,
            Kept::Once(_) => true,
            Kept::Tape(shared) => lock(&shared.0).is_over(),
        }
    }

    /// Bytes of a stream that are kept now.
    pub fn kept_bytes(&self) -> usize {
        match &self.0 {
            Kept::Whole(_) | Kept::Once(_) => 0,
            Kept::Tape(shared) => lock(&shared.0).bytes(),
        }
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        if let Kept::Tape(shared) = &self.0 {
            lock(&shared.0).seal();
        }
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Kept::Whole(_) => "whole",
            Kept::Once(_) => "once",
            Kept::Tape(_) => "tape",
        };
        f.debug_struct("Replay")
            .field("kind", &kind)
            .field("is_replayable", &self.is_replayable())
            .field("kept_bytes", &self.kept_bytes())
            .finish()
    }
}

// === impl Shared ===

impl Shared {
    fn join(self: &Arc<Self>) -> Option<Body> {
        let id = lock(&self.0).join()?;
        Some(self.body(id))
    }

    fn body(self: &Arc<Self>, id: u32) -> Body {
        Body::new(Attempt {
            shared: Arc::clone(self),
            id,
            own: None,
        })
    }

    fn restart(self: &Arc<Self>) -> Option<Body> {
        let (id, wakers) = lock(&self.0).restart()?;
        wake(wakers);
        Some(self.body(id))
    }

    fn dismiss(&self) {
        let wakers = lock(&self.0).dismiss(None);
        wake(wakers);
    }
}

// Outside the lock: a waker is somebody else's code.
fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
}

// === impl Attempt ===

impl HttpBody for Attempt {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = &mut *self;
        if let Some(source) = &mut this.own {
            return Pin::new(source).poll_frame(cx);
        }
        let turn = lock(&this.shared.0).next(this.id, cx.waker());
        match turn {
            Turn::Frame(frame) => Poll::Ready(Some(Ok(frame))),
            Turn::End => Poll::Ready(None),
            Turn::Error(error) => Poll::Ready(Some(Err(error.into()))),
            Turn::Wait => Poll::Pending,
            Turn::Own(source) => Pin::new(this.own.insert(source)).poll_frame(cx),
            Turn::Poll(source) => {
                let mut borrowed = Borrowed {
                    shared: &this.shared,
                    source: Some(source),
                };
                borrowed.poll_frame(this.id, cx)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.own {
            Some(source) => source.is_end_stream(),
            None => lock(&self.shared.0).is_end_stream(self.id),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.own {
            Some(source) => source.size_hint(),
            None => lock(&self.shared.0).size_hint(self.id),
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let wakers = lock(&self.shared.0).leave(self.id);
        wake(wakers);
    }
}

// === impl Borrowed ===

impl Borrowed<'_> {
    fn poll_frame(&mut self, id: u32, cx: &mut Context<'_>) -> Polled {
        let Some(source) = &mut self.source else {
            return Poll::Pending;
        };
        let polled = Pin::new(source).poll_frame(cx);
        if let Some(source) = self.source.take() {
            let wakers = lock(&self.shared.0).put_back(id, source, &polled, cx.waker());
            wake(wakers);
        }
        polled
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        if self.source.take().is_some() {
            let wakers = lock(&self.shared.0).lost();
            wake(wakers);
        }
    }
}
