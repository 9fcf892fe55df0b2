use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use tokio::sync::oneshot;

use crate::core::sync::{AtomicBool, AtomicUsize, Ordering};

/// A connection's transport, watched: whether its peer speaks HTTP/2, and when it is closed.
pub(super) struct Wire<I> {
    io: I,
    greeting: Option<Greeting>,
    // Dropped with the transport, so that the count is of sockets, not of tasks that might hold one.
    _socket: Arc<Socket>,
}

/// The head of the first frame. hyper takes requests before the peer has said a word; a peer that does not speak HTTP/2
/// would fail them with nothing known about how far they got.
struct Greeting {
    head: [u8; FRAME_HEAD],
    len: usize,
    tell: oneshot::Sender<bool>,
}

/// Counted as open from `land` until it is dropped.
pub(super) struct Socket {
    open: Arc<AtomicUsize>,
    landed: AtomicBool,
}

const FRAME_HEAD: usize = 9;
const SETTINGS: u8 = 4;
const ACK: u8 = 1;

// === impl Wire ===

impl<I> Wire<I> {
    pub(super) fn new(io: I, socket: Arc<Socket>) -> Self {
        Self {
            io,
            greeting: None,
            _socket: socket,
        }
    }

    /// Tells once whether the first frame is SETTINGS; tells nothing if the transport ends before.
    pub(super) fn greeting(&mut self) -> oneshot::Receiver<bool> {
        let (tell, told) = oneshot::channel();
        self.greeting = Some(Greeting {
            head: [0; FRAME_HEAD],
            len: 0,
            tell,
        });
        told
    }
}

impl<I: Read + Unpin> Read for Wire<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(greeting) = &mut this.greeting else {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        };
        // A cursor does not show what was read, so the first few bytes take a way round.
        let mut bytes = [0; FRAME_HEAD];
        let want = (FRAME_HEAD - greeting.len).min(buf.remaining());
        let mut few = ReadBuf::new(&mut bytes[..want]);
        ready!(Pin::new(&mut this.io).poll_read(cx, few.unfilled()))?;
        let read = few.filled();
        buf.put_slice(read);
        if read.is_empty() && want > 0 {
            this.greeting = None;
        } else if greeting.read(read)
            && let Some(greeting) = this.greeting.take()
        {
            greeting.done();
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: Write + Unpin> Write for Wire<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}

// === impl Greeting ===

impl Greeting {
    /// Whether the head is complete now.
    fn read(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            if let Some(slot) = self.head.get_mut(self.len) {
                *slot = *byte;
                self.len += 1;
            }
        }
        self.len == FRAME_HEAD
    }

    fn done(self) {
        let [_, _, _, kind, flags, stream @ ..] = self.head;
        // Who waited may have left.
        let _ = self
            .tell
            .send(kind == SETTINGS && flags & ACK == 0 && stream == [0; 4]);
    }
}

// === impl Socket ===

impl Socket {
    pub(super) fn new(open: Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self {
            open,
            landed: AtomicBool::new(false),
        })
    }

    pub(super) fn land(&self) {
        if !self.landed.swap(true, Ordering::AcqRel) {
            self.open.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.landed.load(Ordering::Acquire) {
            self.open.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
