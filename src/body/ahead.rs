use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{Body, Kind};
use crate::core::BoxError;

/// What was read ahead of a body, and the rest of it.
struct Ahead {
    first: Option<Frame<Bytes>>,
    then: Option<Result<Frame<Bytes>, BoxError>>,
    rest: Body,
}

// === impl Body ===

impl Body {
    /// The same body. One that has all of one frame at hand, as that of a unary gRPC call, comes back in memory: it is sent
    /// in one piece with its end, and can be sent again. Nothing is waited for, and at most two frames are read.
    pub(crate) fn at_hand(mut self) -> Self {
        if !matches!(self.kind, Kind::Boxed(_)) || self.tail.is_some() {
            return self;
        }
        // Who reads on has a waker of its own.
        let mut cx = Context::from_waker(Waker::noop());
        let first = match Pin::new(&mut self).poll_frame(&mut cx) {
            Poll::Pending => return self,
            Poll::Ready(None) => return Self::empty(),
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => frame,
            Poll::Ready(Some(other)) => return ahead(None, Some(other), self),
        };
        match Pin::new(&mut self).poll_frame(&mut cx) {
            Poll::Pending => ahead(Some(first), None, self),
            Poll::Ready(Some(then)) => ahead(Some(first), Some(then), self),
            Poll::Ready(None) => first.into_data().unwrap_or_default().into(),
        }
    }
}

fn ahead(
    first: Option<Frame<Bytes>>,
    then: Option<Result<Frame<Bytes>, BoxError>>,
    rest: Body,
) -> Body {
    Kind::Boxed(Box::pin(Ahead { first, then, rest })).into()
}

// === impl Ahead ===

impl Ahead {
    fn bytes(&self) -> u64 {
        let then = self.then.as_ref().and_then(|then| then.as_ref().ok());
        let frames = self.first.iter().chain(then);
        let data = frames.filter_map(Frame::data_ref);
        data.map(|data| data.len() as u64).sum()
    }
}

impl HttpBody for Ahead {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        match this.then.take() {
            Some(then) => Poll::Ready(Some(then)),
            None => Pin::new(&mut this.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.then.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (ahead, rest) = (self.bytes(), self.rest.size_hint());
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(ahead)) {
            hint.set_upper(upper);
        }
        hint.set_lower(rest.lower().saturating_add(ahead));
        hint
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http_body_util::StreamBody;
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Act {
        Pending,
        Data(u8),
        Trailers,
        Error,
    }

    type Frames = Vec<Result<Frame<Bytes>, String>>;

    fn body(acts: &[Act]) -> Body {
        let mut acts = std::collections::VecDeque::from(acts.to_vec());
        let stream = std::future::poll_fn(move |cx| {
            let frame: Result<_, BoxError> = match acts.pop_front() {
                Some(Act::Pending) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Act::Data(n)) => Ok(Frame::data(Bytes::from(vec![n; n.into()]))),
                Some(Act::Trailers) => Ok(Frame::trailers(HeaderMap::new())),
                Some(Act::Error) => Err("broken".into()),
                None => return Poll::Ready(None),
            };
            Poll::Ready(Some(frame))
        });
        Body::new(StreamBody::new(Polled(Box::pin(stream))))
    }

    // A stream that is polled again and again.
    struct Polled<F>(Pin<Box<F>>);

    impl<F: Future<Output = Option<T>>, T> futures_core::Stream for Polled<F> {
        type Item = T;

        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
            self.0.as_mut().poll(cx)
        }
    }

    fn read(mut body: Body) -> Frames {
        let mut cx = Context::from_waker(Waker::noop());
        let mut frames = Vec::new();
        loop {
            match Pin::new(&mut body).poll_frame(&mut cx) {
                Poll::Pending => {}
                Poll::Ready(None) => return frames,
                Poll::Ready(Some(frame)) => {
                    let over = frame.is_err();
                    frames.push(frame.map_err(|error| error.to_string()));
                    if over {
                        return frames;
                    }
                }
            }
        }
    }

    fn words(frames: Frames) -> Vec<String> {
        frames.iter().map(|frame| format!("{frame:?}")).collect()
    }

    proptest! {
        #[test]
        fn it_is_the_same_body(acts in prop::collection::vec(prop_oneof![
            Just(Act::Pending), (0u8..4).prop_map(Act::Data), Just(Act::Trailers), Just(Act::Error),
        ], 0..5)) {
            let ahead = body(&acts).at_hand();
            let (hint, empty) = (ahead.size_hint(), ahead.is_end_stream());
            let frames = read(ahead);
            let data = |frame: &Result<Frame<Bytes>, String>| {
                frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len) as u64
            };
            let total: u64 = frames.iter().map(data).sum();
            prop_assert!(hint.lower() <= total && hint.upper().is_none_or(|upper| total <= upper));
            prop_assert!(!empty || frames.is_empty());
            let mut expected = read(body(&acts));
            if let [only] = &expected[..] && only.as_ref().is_ok_and(Frame::is_data) && total == 0 {
                // Nothing is as good as a frame of nothing.
                expected.clear();
            }
            let frames = if expected.is_empty() && total == 0 && frames.len() == 1
                && frames[0].as_ref().is_ok_and(Frame::is_data) { Vec::new() } else { frames };
            prop_assert_eq!(words(frames), words(expected));
        }
    }

    #[test]
    fn one_message_is_in_memory() {
        for (acts, buffered) in [
            (&[Act::Data(3)][..], Some(3)),
            (&[], Some(0)),
            (&[Act::Data(3), Act::Data(1)], None),
            (&[Act::Data(3), Act::Pending], None),
            (&[Act::Data(3), Act::Trailers], None),
            (&[Act::Pending, Act::Data(3)], None),
            (&[Act::Error], None),
        ] {
            assert_eq!(body(acts).at_hand().buffered(), buffered, "{acts:?}");
        }
    }
}
