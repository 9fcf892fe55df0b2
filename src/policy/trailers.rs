use std::time::Duration;

/// When a gRPC response whose code is in its trailers is handed over, on a route that retries on [codes](super::Retry::codes).
///
/// A code in the trailers comes after the head and the messages, and what the caller has cannot be tried again. So the head
/// is held back for a while. How long depends on what the method is, which cannot be seen on the wire: the
/// [route](super::RouteParams::kind) says it, or the [request](crate::RequestOptions::method).
///
///
/// | what | held back | lost when it is wrong |
/// |---|---|---|
/// | [`Auto`](super::MethodKind::Auto) | until the first frame, 10 ms at most; after exactly one whole message another 10 ms | a code that comes later is not retried |
/// | [`Unary`](super::MethodKind::Unary) | all of it until the trailers, up to the policy's limit for bodies | a stream arrives all at once |
/// | [`Streaming`](super::MethodKind::Streaming) | nothing | a code in trailers is never retried |
///
/// Nothing is held back on any other route, in any other protocol, or when no retry could follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Trailers {
    /// How long the head waits for the first frame. Default: 10 ms.
    pub first_frame: Duration,
    /// How long a message that has begun may take to be whole, and, after exactly one, how long the next frame may.
    /// Default: 10 ms.
    pub next_frame: Duration,
}

// === impl Trailers ===

impl Trailers {
    /// With another wait for the first frame. Default: 10 ms.
    #[must_use]
    pub const fn first_frame(mut self, wait: Duration) -> Self {
        self.first_frame = wait;
        self
    }

    /// With another wait for what follows the first frame. Default: 10 ms.
    #[must_use]
    pub const fn next_frame(mut self, wait: Duration) -> Self {
        self.next_frame = wait;
        self
    }
}

impl Default for Trailers {
    fn default() -> Self {
        Self {
            first_frame: Duration::from_millis(10),
            next_frame: Duration::from_millis(10),
        }
    }
}
