//! Every interleaving of two that read one body: nothing is lost, and nobody waits for ever.

use std::sync::Arc;
use std::task::Wake;

use http_body::Frame;
use loom::sync::Notify;
use loom::thread;

use super::*;

/// Two frames of one byte, each after a wait that is over at once.
struct Source {
    next: u8,
    waits: bool,
}

impl HttpBody for Source {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        self.waits = !self.waits;
        if self.waits && self.next < 2 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.next += 1;
        match self.next {
            n @ 1..=2 => Poll::Ready(Some(Ok(Frame::data(vec![n].into())))),
            _ => Poll::Ready(None),
        }
    }
}

struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify();
    }
}

// All of it, or none if the attempt was given up.
fn read(mut body: Body) -> Option<Vec<u8>> {
    let bell = Arc::new(Bell(Notify::new()));
    let waker = Arc::clone(&bell).into();
    let mut cx = Context::from_waker(&waker);
    let mut bytes = Vec::new();
    loop {
        match Pin::new(&mut body).poll_frame(&mut cx) {
            Poll::Pending => bell.0.wait(),
            Poll::Ready(None) => return Some(bytes),
            Poll::Ready(Some(Err(_))) => return None,
            Poll::Ready(Some(Ok(frame))) => bytes.extend(frame.into_data().unwrap_or_default()),
        }
    }
}

fn check(test: impl Fn(Replay) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let source = Source {
            next: 0,
            waits: false,
        };
        test(Replay::new(Body::new(source), 9));
    });
}

#[test]
fn two_that_race_both_read_all() {
    check(|mut replay| {
        let bodies = [replay.race(), replay.race()];
        let [first, second] = bodies.map(|body| body.unwrap_or_else(|| panic!("whole")));
        let other = thread::spawn(move || read(first));
        assert_eq!(read(second), Some(vec![1, 2]));
        assert_eq!(other.join().ok(), Some(Some(vec![1, 2])));
    });
}

#[test]
fn one_that_is_given_up_takes_nothing_with_it() {
    check(|mut replay| {
        let Some(first) = replay.attempt() else {
            panic!("whole")
        };
        let other = thread::spawn(move || read(first));
        let Some(last) = replay.last() else {
            panic!("whole")
        };
        assert_eq!(read(last), Some(vec![1, 2]));
        // It may have been done before.
        let read = other.join().unwrap_or(None);
        assert!(read.is_none_or(|bytes| bytes == [1, 2]));
    });
}
