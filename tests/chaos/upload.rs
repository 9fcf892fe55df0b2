//! A caller's request body.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tokio::time::{Sleep, sleep};
use tower_mesh::BoxError;

use super::ledger::{Alive, Dice, bytes};

/// Bytes in pieces, with pauses.
pub struct Upload {
    pub id: u64,
    pub at: usize,
    pub len: usize,
    pub ends: UploadEnds,
    pub pause: Option<Pin<Box<Sleep>>>,
    pub slow: bool,
    pub dice: Dice,
    pub _alive: Alive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadEnds {
    Whole,
    Trailers,
    Breaks,
    /// For so many milliseconds, and then well.
    Stalls(u64),
    StallsForEver,
    Over,
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some(pause) = &mut this.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            this.pause = None;
        } else if this.slow && this.dice.percent(30) {
            this.pause = Some(Box::pin(sleep(Duration::from_millis(this.dice.below(10)))));
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.at < this.len {
            let most = this.dice.one_of(&[7, 900, 20_000]);
            let len = (this.len - this.at).min(most);
            let data = bytes(this.id, this.at, len);
            this.at += len;
            return Poll::Ready(Some(Ok(Frame::data(data.into()))));
        }
        match std::mem::replace(&mut this.ends, UploadEnds::Over) {
            UploadEnds::Whole | UploadEnds::Over => Poll::Ready(None),
            UploadEnds::Trailers => {
                let mut trailers = HeaderMap::new();
                trailers.insert("x-sum", this.len.into());
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            UploadEnds::Breaks => Poll::Ready(Some(Err("the caller's disk".into()))),
            UploadEnds::Stalls(ms) => {
                this.ends = UploadEnds::Whole;
                this.pause = Some(Box::pin(sleep(Duration::from_millis(ms))));
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            UploadEnds::StallsForEver => {
                this.ends = UploadEnds::StallsForEver;
                Poll::Pending
            }
        }
    }
}
