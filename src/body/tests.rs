use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::Waker;

use http::{HeaderMap, HeaderValue, StatusCode};
use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::core::in_flight::InFlight;
use crate::deadline::Limits;
use crate::policy::{Codes, Fidelity};
use crate::verdict::{
    Classified, ClassifyResponse, GrpcClassifier, HttpClassifier, Issuer, Note, Outcome, Ticket,
    Verdict,
};

mod ends;

/// Writes down what it hears.
#[derive(Default)]
struct Witness {
    answered: Mutex<u32>,
    settled: Mutex<Vec<(Verdict, bool)>>,
}

impl Issuer for Witness {
    fn answered(&self, _: &Note) {
        *self.answered.lock().unwrap() += 1;
    }

    fn unused(&self, _: &Note) {
        panic!("a response was used");
    }

    fn settled(&self, _: &Note, outcome: &Outcome, answered: bool) {
        self.settled
            .lock()
            .unwrap()
            .push((outcome.verdict, answered));
    }
}

/// One thing that a body does when it is polled.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Pending,
    Data(u8),
    Trailers(Option<&'static str>),
    Error,
    End,
}

/// Does what it is told, then ends.
pub(super) struct Acted {
    pub(super) acts: VecDeque<Act>,
    // Whether it says that it has ended before it is polled for it.
    pub(super) foretells: bool,
    pub(super) hint: (u64, Option<u64>),
    pub(super) dead: bool,
}

impl Acted {
    #[cfg(not(tower_mesh_loom))]
    pub(super) fn hinting(acts: impl IntoIterator<Item = Act>, hint: (u64, Option<u64>)) -> Self {
        Self {
            acts: acts.into_iter().collect(),
            foretells: false,
            hint,
            dead: false,
        }
    }
}

impl HttpBody for Acted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.dead {
            return Poll::Ready(None);
        }
        match self.acts.pop_front() {
            Some(Act::Pending) => Poll::Pending,
            Some(Act::Data(size)) => {
                Poll::Ready(Some(Ok(Frame::data(vec![7; size.into()].into()))))
            }
            Some(Act::Trailers(status)) => {
                let mut trailers = HeaderMap::new();
                if let Some(status) = status {
                    trailers.insert("grpc-status", HeaderValue::from_static(status));
                }
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Some(Act::Error) => {
                self.dead = true;
                Poll::Ready(Some(Err("broken".into())))
            }
            Some(Act::End) | None => {
                self.dead = true;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.dead || (self.foretells && matches!(self.acts.front(), None | Some(Act::End)))
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        hint.set_lower(self.hint.0);
        if let Some(upper) = self.hint.1 {
            hint.set_upper(upper);
        }
        hint
    }
}

#[derive(Debug, PartialEq)]
pub(super) enum Seen {
    Pending,
    Data(Bytes),
    Trailers(HeaderMap),
    Error(String),
    End,
}

pub(super) type Glance = (Seen, bool, u64, Option<u64>);

// Polls so many times, and returns all that can be seen.
pub(super) fn watch(
    body: &mut (impl HttpBody<Data = Bytes, Error = BoxError> + Unpin),
    polls: usize,
) -> Vec<Glance> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut seen = Vec::new();
    for _ in 0..polls {
        let (end, hint) = (body.is_end_stream(), body.size_hint());
        let frame = match Pin::new(&mut *body).poll_frame(&mut cx) {
            Poll::Pending => Seen::Pending,
            Poll::Ready(None) => Seen::End,
            Poll::Ready(Some(Err(error))) => Seen::Error(error.to_string()),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => Seen::Data(data),
                Err(frame) => Seen::Trailers(frame.into_trailers().unwrap()),
            },
        };
        seen.push((frame, end, hint.lower(), hint.upper()));
    }
    seen
}

fn grpc_head(fidelity: Fidelity) -> Classified<crate::verdict::grpc::GrpcEos> {
    GrpcClassifier::new(Codes::EXTENDED, fidelity)
        .classify_response(StatusCode::OK, &HeaderMap::new())
}

fn http_head(status: u16) -> Classified<crate::verdict::grpc::GrpcEos> {
    let status = StatusCode::from_u16(status).unwrap();
    Classified::Ready(HttpClassifier::default().judge(status, &HeaderMap::new()))
}

// As a client hands a response over.
fn settling(
    body: Acted,
    head: Classified<crate::verdict::grpc::GrpcEos>,
    probe: bool,
) -> (Body, Arc<Witness>) {
    let witness = Arc::new(Witness::default());
    let now = Instant::now();
    let mut ticket = Ticket::new(Arc::clone(&witness) as _, Note::new(now, 0, 0, probe));
    ticket.head(head, now);
    let guard = Arc::new(InFlight::default()).enter().unwrap();
    // Erased as it is, so that there is nothing but the tail between it and the caller.
    let body = Body::from(Kind::Boxed(Box::pin(body)));
    (
        body.with_tail(Tail::new(ticket, Limits::default(), Some(guard))),
        witness,
    )
}

pub(super) fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        2 => Just(Act::Pending),
        3 => (0u8..9).prop_map(Act::Data),
        1 => proptest::sample::select(vec![None, Some("0"), Some("7"), Some("14"), Some("x")]).prop_map(Act::Trailers),
        1 => Just(Act::Error),
        1 => Just(Act::End),
    ];
    proptest::collection::vec(act, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn settles_once_and_changes_nothing(
        acts in acts(), foretells: bool, lower in 0u64..9, upper in proptest::option::of(9u64..99),
        polls in 0usize..16, head in 0usize..4, probe: bool,
    ) {
        // After trailers nothing may follow; bodies that do are not ours to mend.
        let end = acts.iter().position(|act| matches!(act, Act::Trailers(_))).map_or(acts.len(), |at| at + 1);
        let acts: VecDeque<_> = acts.into_iter().take(end).collect();
        let make = || Acted { acts: acts.clone(), foretells, hint: (lower, upper), dead: false };
        let heads = [http_head(200), http_head(503), grpc_head(Fidelity::Extended), grpc_head(Fidelity::Mesh)];
        let (mut ours, witness) = settling(make(), heads[head], probe);
        prop_assert_eq!(watch(&mut ours, polls), watch(&mut make(), polls));
        let outgoing = || Body::from(Kind::Boxed(Box::pin(make()))).with_progress(Arc::new(Progress::new(Instant::now(), false)));
        prop_assert_eq!(watch(&mut outgoing(), polls), watch(&mut make(), polls));
        drop(ours);
        prop_assert_eq!(witness.settled.lock().unwrap().len(), 1);
        prop_assert!(*witness.answered.lock().unwrap() <= 1);
    }
}

// What an exchange comes to: acts, polls, and whether the rest is dropped unread.
fn outcome(
    head: Classified<crate::verdict::grpc::GrpcEos>,
    acts: &[Act],
    probe: bool,
) -> (Verdict, Vec<Glance>) {
    let body = Acted {
        acts: acts.iter().cloned().collect(),
        foretells: false,
        hint: (0, None),
        dead: false,
    };
    let (mut body, witness) = settling(body, head, probe);
    let seen = watch(&mut body, acts.len());
    drop(body);
    let settled = witness.settled.lock().unwrap();
    assert_eq!(settled.len(), 1);
    (settled[0].0, seen)
}

#[test]
fn the_table_of_ends() {
    use Act::{Data, End, Error, Pending, Trailers};
    use Verdict::{Failure, Neutral, Success};
    let (mesh, ours) = (Fidelity::Mesh, Fidelity::Extended);
    // What the body does before it is dropped; HTTP 200, HTTP 503, gRPC in the mesh, gRPC here.
    let rows: [(&[Act], [Verdict; 4]); 11] = [
        (&[], [Success, Failure, Success, Neutral]),
        (&[Pending], [Success, Failure, Success, Neutral]),
        (&[Data(3)], [Success, Failure, Success, Neutral]),
        (&[Data(3), End], [Success, Failure, Success, Failure]),
        (&[End], [Success, Failure, Success, Failure]),
        (&[Data(3), Error], [Failure, Failure, Failure, Failure]),
        (
            &[Data(3), Trailers(None)],
            [Success, Failure, Success, Failure],
        ),
        (
            &[Data(3), Trailers(Some("0"))],
            [Success, Failure, Success, Success],
        ),
        (
            &[Data(3), Trailers(Some("14"))],
            [Success, Failure, Failure, Failure],
        ),
        (&[Trailers(Some("x"))], [Success, Failure, Success, Failure]),
        (
            &[Trailers(Some("99"))],
            [Success, Failure, Failure, Failure],
        ),
    ];
    for (acts, expected) in rows {
        let heads = [
            http_head(200),
            http_head(503),
            grpc_head(mesh),
            grpc_head(ours),
        ];
        let got = heads.map(|head| outcome(head, acts, false).0);
        assert_eq!(got, expected, "{acts:?}");
    }
}

#[test]
fn for_a_probe_the_head_or_the_first_message_is_enough() {
    use Act::{Data, Error, Pending};
    let grpc = || grpc_head(Fidelity::Extended);
    assert_eq!(
        outcome(http_head(200), &[Data(1), Error], true).0,
        Verdict::Success
    );
    assert_eq!(outcome(grpc(), &[Data(1), Error], true).0, Verdict::Success);
    assert_eq!(outcome(grpc(), &[Pending, Error], true).0, Verdict::Failure);
    assert_eq!(outcome(grpc(), &[Pending], true).0, Verdict::Neutral);
}

#[test]
fn a_limited_body_read_outside_a_runtime_has_no_timer_and_does_not_panic() {
    let witness = Arc::new(Witness::default());
    let now = Instant::now();
    let mut ticket = Ticket::new(Arc::clone(&witness) as _, Note::new(now, 0, 0, false));
    ticket.head(http_head(200), now);
    let limits = Limits::new(now, Some(now), None, None, None);
    let acted = Acted {
        acts: VecDeque::from([Act::Pending, Act::Data(1)]),
        foretells: false,
        hint: (0, None),
        dead: false,
    };
    let body = Body::from(Kind::Boxed(Box::pin(acted)));
    let mut body = body.with_tail(Tail::new(ticket, limits, None));
    let seen: Vec<_> = watch(&mut body, 3)
        .into_iter()
        .map(|(seen, ..)| seen)
        .collect();
    assert_eq!(
        seen,
        [
            Seen::Pending,
            Seen::Data(Bytes::from_static(&[7])),
            Seen::End
        ]
    );
}

#[test]
fn one_settling_body_in_another_settles_both() {
    let acts = [Act::Data(1), Act::Pending, Act::Error];
    let body = Acted {
        acts: acts.into_iter().collect(),
        foretells: false,
        hint: (0, None),
        dead: false,
    };
    let (body, inner) = settling(body, http_head(200), false);
    let outer = Arc::new(Witness::default());
    let note = Note::new(Instant::now(), 0, 0, false);
    let mut ticket = Ticket::new(Arc::clone(&outer) as _, note);
    ticket.head(http_head(200), Instant::now());
    let mut body = body.settling(ticket);
    watch(&mut body, 2);
    for witness in [&inner, &outer] {
        assert!(witness.settled.lock().unwrap().is_empty());
    }
    watch(&mut body, 1);
    for witness in [&inner, &outer] {
        assert_eq!(*witness.settled.lock().unwrap(), [(Verdict::Failure, true)]);
    }
}

#[test]
fn what_needs_no_box_has_none() {
    let is = |body: Body, kind: &str| assert_eq!(format!("{body:?}"), format!("Body({kind:?})"));
    is(Body::new(http_body_util::Empty::<Bytes>::new()), "empty");
    is(Body::new(http_body_util::Full::from("x")), "full");
    is(Body::new(http_body_util::Full::from("")), "empty");
    is(Body::new(Body::new(Body::from("x"))), "full");
    is(Body::from(String::new()), "empty");
    let acted = Acted {
        acts: VecDeque::from([Act::Pending]),
        foretells: false,
        hint: (0, None),
        dead: false,
    };
    is(Body::new(acted), "boxed");
}
