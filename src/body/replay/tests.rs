use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Wake;

use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use http_body_util::BodyExt as _;
use proptest::prelude::*;

use super::*;
use crate::body::tests::{Act, Acted, Seen, watch};
use crate::core::sync::Ordering;

/// A stream that counts how often it is polled, and knows whether it is still there.
struct Stream {
    acts: VecDeque<Act>,
    // Each byte is its number.
    next: u8,
    alive: Arc<()>,
}

impl Stream {
    fn body(acts: impl IntoIterator<Item = Act>) -> (Body, Arc<()>) {
        let alive = Arc::new(());
        let stream = Self {
            acts: acts.into_iter().collect(),
            next: 0,
            alive: Arc::clone(&alive),
        };
        (Body::new(stream), alive)
    }
}

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Polled {
        let _ = &self.alive;
        match self.acts.pop_front() {
            Some(Act::Pending) => Poll::Pending,
            Some(Act::Data(size)) => {
                let from = self.next;
                self.next = from.wrapping_add(size);
                let bytes: Bytes = (0..size).map(|n| from.wrapping_add(n)).collect();
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Some(Act::Trailers(_)) => Poll::Ready(Some(Ok(Frame::trailers(trailers())))),
            Some(Act::Error) => Poll::Ready(Some(Err("broken".into()))),
            Some(Act::End) | None => Poll::Ready(None),
        }
    }
}

fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("7"));
    trailers
}

fn numbers(range: std::ops::Range<u8>) -> Vec<u8> {
    range.collect()
}

/// What one attempt has read.
#[derive(Debug, Default, PartialEq)]
struct Read {
    bytes: Vec<u8>,
    trailers: bool,
    end: bool,
    error: Option<String>,
}

impl Read {
    fn some(&mut self, body: &mut Body, polls: usize) {
        for (seen, ..) in watch(body, polls) {
            match seen {
                Seen::Pending => {}
                Seen::Data(data) => self.bytes.extend(data),
                Seen::Trailers(map) => {
                    assert_eq!(map, trailers());
                    assert!(!std::mem::replace(&mut self.trailers, true), "twice");
                }
                Seen::Error(error) => self.error = Some(error),
                Seen::End => self.end = true,
            }
        }
    }

    fn all(mut body: Body) -> Self {
        let mut read = Self::default();
        read.some(&mut body, 40);
        read
    }
}

fn whole(bytes: Vec<u8>, trailers: bool) -> Read {
    Read {
        bytes,
        trailers,
        end: true,
        error: None,
    }
}

// === one attempt after the other ===

#[test]
fn every_attempt_sends_everything_once_wherever_the_one_before_broke_off() {
    use Act::{Data, End, Pending, Trailers};
    let acts = [
        Pending,
        Data(3),
        Pending,
        Data(4),
        Data(0),
        Data(2),
        Trailers(None),
        End,
    ];
    for broke_off in 0..=acts.len() + 1 {
        let (body, alive) = Stream::body(acts.clone());
        let mut replay = Replay::new(body, 9);
        for _ in 0..3 {
            let mut body = replay.attempt().unwrap();
            let mut read = Read::default();
            read.some(&mut body, broke_off);
            assert!(numbers(0..9).starts_with(&read.bytes));
        }
        assert_eq!(
            Read::all(replay.attempt().unwrap()),
            whole(numbers(0..9), true)
        );
        assert!(replay.is_complete() && replay.kept_bytes() == 9);
        assert_eq!(
            Read::all(replay.last().unwrap()),
            whole(numbers(0..9), true)
        );
        assert_eq!(Arc::strong_count(&alive), 1, "nothing is left of it");
    }
}

#[test]
fn exactly_the_limit_is_kept_and_a_byte_more_is_not() {
    use Act::Data;
    for (limit, fits) in [(6, true), (5, false), (0, false)] {
        let over = Arc::new(AtomicU64::new(0));
        let (body, _alive) = Stream::body([Data(3), Data(3), Data(1)]);
        let mut replay = Replay::counted(body, limit, Some(&over));
        // Before the first frame there is always another try.
        drop(replay.attempt().unwrap());
        let mut body = replay.attempt().unwrap();
        let mut read = Read::default();
        read.some(&mut body, 2);
        assert_eq!(replay.is_replayable(), fits);
        assert_eq!(replay.is_too_large(), !fits);
        assert_eq!(replay.kept_bytes(), if fits { 6 } else { 0 });
        // A refused retry ends nothing: this attempt's answer stands.
        if !fits {
            assert!(replay.attempt().is_none() && replay.race().is_none());
        }
        read.some(&mut body, 2);
        assert_eq!(read, whole(numbers(0..7), false));
        assert!(!replay.is_replayable() || limit > 6);
        assert_eq!(over.load(Ordering::Relaxed), 1, "once");
        assert_eq!(replay.kept_bytes(), 0);
    }
}

#[test]
fn what_is_known_to_be_larger_is_not_kept_at_all() {
    let over = Arc::new(AtomicU64::new(0));
    let acted = Acted::hinting([Act::Data(9)], (9, None));
    for body in [Body::from("123456789"), Body::new(acted)] {
        let mut replay = Replay::counted(body, 8, Some(&over));
        assert!(!replay.is_replayable() && replay.is_too_large());
        assert_eq!(Read::all(replay.attempt().unwrap()).bytes.len(), 9);
        assert!(replay.attempt().is_none());
    }
    assert_eq!(over.load(Ordering::Relaxed), 2);
}

#[test]
fn what_is_in_memory_is_the_same_memory_in_each_attempt() {
    let text = Bytes::from_static(b"all of it");
    let mut replay = Replay::new(text.clone().into(), 9);
    for _ in 0..3 {
        let seen = watch(&mut replay.attempt().unwrap(), 1).remove(0).0;
        let Seen::Data(data) = seen else { panic!() };
        assert_eq!(data.as_ptr(), text.as_ptr());
    }
    assert_eq!((replay.kept_bytes(), replay.is_complete()), (0, true));
    let mut empty = Replay::new(Body::empty(), 0);
    assert!(empty.attempt().unwrap().is_end_stream() && empty.is_complete());
}

#[test]
fn a_body_that_broke_is_not_sent_again() {
    let (body, _alive) = Stream::body([Act::Data(2), Act::Error]);
    let mut replay = Replay::new(body, 9);
    let mut first = replay.attempt().unwrap();
    let mut second = replay.race().unwrap();
    let mut read = Read::default();
    read.some(&mut first, 3);
    assert_eq!(read.error.as_deref(), Some("broken"));
    assert!(read.end);
    assert!(replay.attempt().is_none() && !replay.is_complete());
    let mut read = Read::default();
    read.some(&mut second, 3);
    assert_eq!(read.bytes, [0, 1]);
    assert_eq!(read.error, Some(ReplayError::Broken.to_string()));
    assert!(replay.last().is_none());
}

#[test]
fn an_attempt_that_was_given_up_reads_nothing_more() {
    let (body, _alive) = Stream::body([Act::Data(2), Act::Data(2)]);
    let mut replay = Replay::new(body, 9);
    let mut first = replay.attempt().unwrap();
    watch(&mut first, 1);
    replay.release();
    let seen = watch(&mut first, 1).remove(0).0;
    assert_eq!(seen, Seen::Error(ReplayError::Dismissed.to_string()));
    assert!(!first.is_end_stream());
    assert_eq!(
        Read::all(replay.attempt().unwrap()),
        whole(numbers(0..4), false)
    );
}

#[test]
fn without_its_keeper_nothing_is_kept() {
    let (body, alive) = Stream::body([Act::Data(2), Act::Data(3), Act::Data(4), Act::End]);
    let mut replay = Replay::new(body, 9);
    let mut first = replay.attempt().unwrap();
    watch(&mut first, 2);
    let Kept::Tape(shared) = &replay.0 else {
        panic!()
    };
    let shared = Arc::clone(shared);
    assert_eq!(lock(&shared.0).bytes(), 5);
    drop(replay);
    assert_eq!(lock(&shared.0).bytes(), 0);
    let mut read = Read::default();
    read.some(&mut first, 3);
    assert_eq!(read.bytes, numbers(5..9));
    assert_eq!(lock(&shared.0).bytes(), 0);
    assert_eq!(Arc::strong_count(&alive), 2);
    drop(first);
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[test]
fn the_last_attempt_lets_go_of_what_it_has_sent() {
    let (body, _alive) = Stream::body([Act::Data(2), Act::Data(3), Act::Data(4)]);
    let mut replay = Replay::new(body, 9);
    watch(&mut replay.attempt().unwrap(), 2);
    let Kept::Tape(shared) = &replay.0 else {
        panic!()
    };
    let shared = Arc::clone(shared);
    let mut last = replay.last().unwrap();
    let mut kept = Vec::new();
    for _ in 0..4 {
        kept.push(lock(&shared.0).bytes());
        watch(&mut last, 1);
    }
    assert_eq!(kept, [5, 3, 0, 0]);
    // Of a body that nobody has touched there is nothing to keep.
    let (body, _alive) = Stream::body([Act::Data(2)]);
    let last = Replay::new(body, 9).last().unwrap();
    assert_eq!(Read::all(last), whole(numbers(0..2), false));
}

#[test]
fn a_panic_in_the_body_is_its_end() {
    struct Panics;
    impl HttpBody for Panics {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Polled {
            panic!("on purpose")
        }
    }
    let mut replay = Replay::new(Body::new(Panics), 9);
    let mut body = replay.attempt().unwrap();
    let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| watch(&mut body, 1)));
    assert!(polled.is_err());
    assert!(!replay.is_replayable());
    let seen = watch(&mut body, 2);
    assert_eq!(seen[0].0, Seen::Error(ReplayError::Broken.to_string()));
    assert_eq!(seen[1].0, Seen::End);
}

// === lengths ===

#[test]
fn each_attempt_promises_the_same_length() {
    let hints = |acts: &[Act], hint, polls| {
        let acted = Acted::hinting(acts.iter().cloned(), hint);
        let mut replay = Replay::new(Body::new(acted), 99);
        let first = replay.attempt().unwrap().size_hint();
        watch(&mut replay.attempt().unwrap(), polls);
        let again = replay.attempt().unwrap().size_hint();
        [first, again].map(|hint| (hint.lower(), hint.upper()))
    };
    use Act::{Data, End, Trailers};
    // One that knows its length tells it, however much of it is kept.
    let counting = http_body_util::Full::from("1234567").map_err(BoxError::from);
    let mut replay = Replay::new(Body::new(counting), 99);
    assert!(matches!(replay.0, Kept::Tape(_)));
    for polls in [0, 1, 2, 3] {
        let mut body = replay.attempt().unwrap();
        assert_eq!(body.size_hint().exact(), Some(7));
        watch(&mut body, polls);
    }
    // One that does not must not seem to: an exact length would cost HTTP/1.1 its trailers.
    let acts = [Data(3), Trailers(None), End];
    for polls in 0..4 {
        for (_, upper) in hints(&acts, (0, None), polls) {
            assert_eq!(upper, None, "{polls}");
        }
    }
    assert_eq!(hints(&acts, (0, None), 3)[1].0, 3);
}

// === two at once ===

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

fn poll(body: &mut Body, woken: &Arc<Woken>) -> Polled {
    let waker = Arc::clone(woken).into();
    Pin::new(body).poll_frame(&mut Context::from_waker(&waker))
}

#[test]
fn of_two_that_wait_both_are_woken() {
    use Act::{Data, Pending};
    let (body, _alive) = Stream::body([Pending, Pending, Data(1), Pending, Pending]);
    let mut replay = Replay::new(body, 9);
    let (mut first, mut second) = (replay.attempt().unwrap(), replay.race().unwrap());
    let (one, two) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
    assert!(poll(&mut first, &one).is_pending());
    assert!(poll(&mut second, &two).is_pending());
    // The source knows the second's waker only.
    assert!(poll(&mut second, &two).is_ready());
    assert_eq!(one.0.load(Relaxed), 1);
    assert!(poll(&mut first, &one).is_ready());
    assert!(poll(&mut first, &one).is_pending());
    assert!(poll(&mut second, &two).is_pending());
    drop(second);
    assert_eq!(one.0.load(Relaxed), 2, "or it would wait for ever");
    replay.release();
    assert!(matches!(poll(&mut first, &one), Poll::Ready(Some(Err(_)))));
}

#[test]
fn who_waits_hears_that_it_was_given_up() {
    let (body, _alive) = Stream::body([Act::Pending]);
    let mut replay = Replay::new(body, 9);
    let mut first = replay.attempt().unwrap();
    let woken = Arc::new(Woken::default());
    assert!(poll(&mut first, &woken).is_pending());
    let _second = replay.attempt().unwrap();
    assert_eq!(woken.0.load(Relaxed), 1);
}

// === against a model ===

#[derive(Clone, Debug)]
enum Op {
    Attempt,
    Race,
    Poll(usize),
    Drop(usize),
    Release,
    Last,
    Forget,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        2 => Just(Op::Attempt),
        1 => Just(Op::Race),
        12 => (0usize..3).prop_map(Op::Poll),
        1 => (0usize..3).prop_map(Op::Drop),
        1 => Just(Op::Release),
    ];
    let end = prop_oneof![Just(None), Just(Some(Op::Last)), Just(Some(Op::Forget))];
    (proptest::collection::vec(op, 0..60), end, 0usize..12).prop_map(|(mut ops, end, polls)| {
        ops.extend(end);
        ops.extend((0..polls).map(|_| Op::Poll(0)));
        ops
    })
}

fn frames() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![3 => Just(Act::Pending), 5 => (0u8..6).prop_map(Act::Data)];
    (proptest::collection::vec(act, 0..14), any::<bool>()).prop_map(|(mut acts, trailers)| {
        acts.extend(trailers.then_some(Act::Trailers(None)));
        acts
    })
}

/// All that was ever read, and who has had how much of it: what the tape must come to.
struct Model {
    limit: usize,
    total: usize,
    read: usize,
    kept: bool,
    over: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn every_reader_sees_a_prefix_and_a_finished_one_sees_all(
        acts in frames(), ops in ops(), limit in 0usize..30,
    ) {
        let sizes = acts.iter().map(|act| if let Act::Data(size) = act { usize::from(*size) } else { 0 });
        let mut model = Model { limit, total: sizes.sum(), read: 0, kept: true, over: false };
        let has_trailers = matches!(acts.last(), Some(Act::Trailers(_)));
        let all: Vec<u8> = (0..model.total).map(|n| n as u8).collect();
        let over = Arc::new(AtomicU64::new(0));
        let (body, alive) = Stream::body(acts);
        let mut replay = Some(Replay::counted(body, limit, Some(&over)));
        // A reader, what it has had, and whether it was dismissed.
        let mut readers: Vec<(Body, Read, bool)> = Vec::new();
        for op in ops {
            match op {
                Op::Attempt | Op::Race | Op::Release => {
                    let Some(replay) = &mut replay else { continue };
                    let joined = match op {
                        Op::Attempt => replay.attempt(),
                        Op::Race => replay.race(),
                        _ => { replay.release(); None }
                    };
                    let ends = matches!(op, Op::Release) || (matches!(op, Op::Attempt) && joined.is_some());
                    if ends && !model.over {
                        readers.iter_mut().for_each(|reader| reader.2 = true);
                    }
                    prop_assert_eq!(joined.is_some(), !model.over && !matches!(op, Op::Release));
                    readers.extend(joined.map(|body| (body, Read::default(), false)));
                }
                Op::Poll(index) => {
                    let count = readers.len();
                    let others_wait = readers.iter().filter(|reader| !reader.2).count() > 1;
                    let Some((body, read, dismissed)) = (count > 0).then(|| &mut readers[count - 1 - index % count]) else { continue };
                    read.some(body, 1);
                    prop_assert!(all.starts_with(&read.bytes), "{:?}", read);
                    if *dismissed { prop_assert!(read.error.is_some() || model.over); }
                    if read.end && read.error.is_none() {
                        prop_assert_eq!(&read.bytes, &all);
                        prop_assert_eq!(read.trailers, has_trailers);
                    }
                    prop_assert!(read.error.is_none() || *dismissed || model.over || others_wait);
                    model.read = model.read.max(read.bytes.len());
                    if model.kept && model.read > model.limit { model.over = true; model.kept = false; }
                }
                Op::Drop(index) => {
                    if !readers.is_empty() { readers.remove(index % readers.len()); }
                }
                Op::Last => {
                    let body = replay.take().unwrap().last();
                    prop_assert_eq!(body.is_some(), !model.over);
                    if body.is_some() { readers.iter_mut().for_each(|reader| reader.2 = true); }
                    readers.extend(body.map(|body| (body, Read::default(), false)));
                    model.kept = false;
                }
                Op::Forget => { replay = None; model.kept = false; }
            }
            if let Some(replay) = &replay {
                prop_assert_eq!(replay.is_too_large(), model.over);
                prop_assert_eq!(replay.is_replayable(), !model.over);
                prop_assert_eq!(replay.kept_bytes(), if model.over { 0 } else { model.read });
            }
        }
        prop_assert_eq!(over.load(Ordering::Relaxed), u64::from(model.over));
        // Whoever is left and was not dismissed reads on to the end.
        let last_of_all = readers.last().is_some_and(|reader| !reader.2) && !model.over;
        if let Some((mut body, mut read, _)) = readers.pop() {
            read.some(&mut body, 40);
            if last_of_all && replay.is_none() && readers.iter().all(|reader| reader.2) {
                prop_assert_eq!(read, whole(all, has_trailers));
            }
        }
        drop((readers, replay));
        prop_assert_eq!(Arc::strong_count(&alive), 1);
    }

    /// The first attempt sees what it would see without the tape, poll by poll.
    #[test]
    fn the_first_attempt_changes_nothing(
        acts in crate::body::tests::acts(), foretells: bool, lower in 0u64..9,
        upper in proptest::option::of(9u64..99), polls in 0usize..16, limit in 9usize..40, keep: bool,
    ) {
        let end = acts.iter().position(|act| matches!(act, Act::Trailers(_))).map_or(acts.len(), |at| at + 1);
        let acts: VecDeque<_> = acts.into_iter().take(end).collect();
        let make = || Acted { acts: acts.clone(), foretells, hint: (lower, upper), dead: false };
        let mut replay = Replay::new(Body::new(make()), limit);
        let mut body = replay.attempt().unwrap();
        let replay = keep.then_some(replay);
        prop_assert_eq!(watch(&mut body, polls), watch(&mut Body::new(make()), polls));
        drop(replay);
    }
}
