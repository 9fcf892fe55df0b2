//! Every body, and what it must keep to.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::Body as _;
use tower::Layer;
use tower::Service;
use tower_mesh::Body;
use tower_mesh::body::Replay;
use tower_mesh::breaker::{BreakerLayer, Gate};
use tower_mesh::policy::{FailureAccrual, MethodKind};

use crate::checks::run;
use crate::clients::{ClientSubject, Through, make_client};
use crate::inner::{Slow, Strict};
use crate::support::get;
use crate::{Script, Subject, grpc};

/// A body of ours around `Slow`, as it is given to a caller.
type Wrap = fn() -> Pin<Box<dyn Future<Output = Body>>>;

const BODIES: &[(&str, Wrap)] = &[
    ("erased", || {
        Box::pin(async { Body::new(Slow::new(Arc::default())) })
    }),
    ("erased twice", || {
        Box::pin(async { Body::new(Body::new(Slow::new(Arc::default()))) })
    }),
    ("replayed, the first time", || {
        Box::pin(async {
            let body = Body::new(Slow::new(Arc::default()));
            let mut replay = Replay::new(body, 5);
            replay.attempt().unwrap()
        })
    }),
    ("replayed, after an attempt that read nothing", || {
        Box::pin(async {
            let mut replay = Replay::new(Body::new(Slow::new(Arc::default())), 5);
            drop(replay.attempt());
            replay.last().unwrap()
        })
    }),
    ("replayed, over the limit", || {
        Box::pin(async {
            let mut replay = Replay::new(Body::new(Slow::new(Arc::default())), 1);
            let body = replay.attempt().unwrap();
            // Kept, so that it is the limit that ends it.
            std::mem::forget(replay);
            body
        })
    }),
    ("held, and handed over before its first frame", || {
        Box::pin(async {
            let inner = Strict::new(|_| StatusCode::OK);
            let client = make_client(Script::Held(MethodKind::Streaming), &inner);
            client.request(grpc()).await.unwrap().into_body()
        })
    }),
    ("settling a breaker alone", || {
        Box::pin(async {
            let layer = BreakerLayer::new(FailureAccrual::consecutive(1)).settling_bodies();
            let mut service = layer.layer(Strict::new(|_| StatusCode::OK));
            std::future::poll_fn(|cx| service.poll_ready(cx))
                .await
                .unwrap();
            // Not boxed: what is watched is the body itself, behind an erased one that has no opinion.
            Body::new(service.call(get()).await.unwrap().into_body())
        })
    }),
    ("settling", || {
        Box::pin(async {
            let client = make_client(Script::Healthy, &Strict::new(|_| StatusCode::OK));
            client.request(get()).await.unwrap().into_body()
        })
    }),
    ("settling a failure", || {
        Box::pin(async {
            let client = make_client(Script::Healthy, &Strict::new(|_| StatusCode::BAD_GATEWAY));
            client.request(get()).await.unwrap().into_body()
        })
    }),
];

#[derive(Debug, PartialEq)]
enum Seen {
    Pending,
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

/// Everything that can be seen of a body, poll by poll.
fn watch<B>(mut body: Pin<&mut B>) -> Vec<(Seen, bool, Option<u64>, u64)>
where
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut all = Vec::new();
    loop {
        let hint = body.size_hint();
        let end = body.is_end_stream();
        let seen = match body.as_mut().poll_frame(&mut cx) {
            Poll::Pending => Seen::Pending,
            Poll::Ready(None) => Seen::End,
            Poll::Ready(Some(Err(error))) => panic!("{error:?}"),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => Seen::Data(data),
                Err(frame) => Seen::Trailers(frame.into_trailers().unwrap_or_default()),
            },
        };
        let done = seen == Seen::End;
        all.push((seen, end, hint.upper(), hint.lower()));
        if done {
            return all;
        }
    }
}

#[test]
fn bodies_come_through_untouched() {
    let bare = watch(std::pin::pin!(Slow::new(Arc::default())));
    assert_eq!(bare.len(), 7);
    for (name, wrap) in BODIES {
        run(async {
            let body = wrap().await;
            let mut seen = watch(std::pin::pin!(body));
            // What a body that is over says of its length is nobody's concern.
            let ((last, ended, ..), (end, is_over, ..)) =
                (seen.pop().unwrap(), bare.last().unwrap());
            assert_eq!((&last, ended), (end, *is_over), "{name}");
            assert_eq!(seen, bare[..bare.len() - 1], "{name}");
        });
    }
}

#[test]
fn bodies_dropped_at_any_frame_leave_nothing_behind() {
    for frames in 0..=6 {
        run(async {
            let inner = Strict::new(|_| StatusCode::OK);
            let client = make_client(Script::Healthy, &inner);
            let mut body = client.request(get()).await.unwrap().into_body();
            let mut cx = Context::from_waker(std::task::Waker::noop());
            for _ in 0..frames {
                let _ = Pin::new(&mut body).poll_frame(&mut cx);
            }
            drop(body);
            let subject = ClientSubject {
                client,
                inner: inner.clone(),
                name: "body",
                through: Through::Client,
                request: get,
            };
            assert_eq!(
                subject.leftovers(),
                Vec::<String>::new(),
                "after {frames} polls"
            );
            // A 200 whose body nobody reads is a success.
            assert_eq!(
                subject.client.snapshot().endpoints().next().unwrap().gate,
                Gate::Closed
            );
        });
    }
}
