//! What every service must keep to.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tower::Service;
use tower_mesh::{Body, BoxError};

use crate::inner::Strict;
use crate::support::{ms, s};
use crate::{Answer, SCRIPTS, SUBJECTS, Script, Subject, statuses};

pub async fn exchange<S, R>(mut service: S, request: Request<Body>) -> Answer
where
    S: Service<Request<Body>, Response = Response<R>, Error: Into<BoxError>>,
    R: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    use http_body_util::BodyExt;
    fn in_words(error: impl Into<BoxError>) -> String {
        error.into().to_string()
    }
    std::future::poll_fn(|cx| service.poll_ready(cx))
        .await
        .map_err(in_words)?;
    let response = service.call(request).await.map_err(in_words)?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(in_words)?;
    Ok((status, body.to_bytes()))
}

pub fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test);
}

/// Polls `inner` so many times and then drops it. None if it was dropped before it was ready.
async fn poll_times<F: Future + Unpin>(inner: F, times: usize) -> Option<F::Output> {
    let mut inner = Some(inner);
    let polls = Cell::new(0);
    std::future::poll_fn(move |cx| {
        if polls.get() == times {
            inner = None;
            return Poll::Ready(None);
        }
        polls.set(polls.get() + 1);
        match inner.as_mut().map(|inner| Pin::new(inner).poll(cx)) {
            Some(Poll::Pending) => {
                if polls.get() == times {
                    inner = None;
                    return Poll::Ready(None);
                }
                Poll::Pending
            }
            Some(Poll::Ready(output)) => Poll::Ready(Some(output)),
            None => Poll::Ready(None),
        }
    })
    .await
}

fn assert_nothing_left(subject: &dyn Subject, inner: &Strict, owners: usize, after: &str) {
    let name = subject.name();
    assert_eq!(subject.leftovers(), Vec::<String>::new(), "{name} {after}");
    if !subject.is_client() {
        return;
    }
    let alive = Arc::strong_count(&inner.alive);
    assert_eq!(
        alive, owners,
        "{name} {after}: calls or bodies of the inner service"
    );
}

#[test]
fn inner_services_are_called_only_when_ready() {
    for make in SUBJECTS {
        for script in SCRIPTS {
            run(async {
                let inner = Strict::new(statuses(script));
                let mut subject = make(script, &inner);
                // Strict panics where the contract is broken.
                for _ in 0..5 {
                    let _ = subject.call().await;
                }
                assert!(
                    inner.calls.load(Ordering::Relaxed) > 0,
                    "{}",
                    subject.name()
                );
            });
        }
    }
}

#[test]
fn a_call_dropped_after_any_poll_leaves_nothing_behind() {
    for make in SUBJECTS {
        for script in SCRIPTS {
            let mut finished = false;
            let mut drops = 0;
            let mut waits = true;
            for polls in 0..200 {
                run(async {
                    let inner = Strict::new(statuses(script));
                    let mut subject = make(script, &inner);
                    if matches!(script, Script::Ejected | Script::Hopeless) {
                        // The one that ejects it.
                        subject.call().await.unwrap();
                        if !subject.waits() {
                            tokio::time::sleep(ms(20)).await;
                        }
                        waits = subject.waits();
                    } else {
                        // Makes the leaves, so that their owners can be counted.
                        let _ = subject.call().await;
                        inner.calls.store(0, Ordering::Relaxed);
                    }
                    let owners = Arc::strong_count(&inner.alive);
                    match poll_times(subject.call(), polls).await {
                        Some(_) => finished = true,
                        None => drops += 1,
                    }
                    if !subject.is_client() {
                        tokio::time::sleep(ms(50)).await;
                    }
                    let after = format!("{script:?}, dropped after {polls} polls");
                    // A leaf of a second endpoint may have been made meanwhile.
                    let made = Arc::strong_count(&inner.alive).saturating_sub(owners);
                    assert!(
                        made <= 1 || !subject.is_client(),
                        "{after}: {made} calls or bodies left"
                    );
                    assert_nothing_left(&*subject, &inner, owners + made, &after);
                    // And it serves on.
                    tokio::time::sleep(s(61)).await;
                    let _ = subject.call().await;
                    assert_nothing_left(&*subject, &inner, owners + made, &after);
                });
                if finished {
                    break;
                }
            }
            assert!(finished, "200 polls are not enough for {script:?}");
            // There is no place within a refusal.
            let refused = matches!(script, Script::Hopeless) && !waits;
            assert!(
                drops >= 2 || refused,
                "{script:?}: only {drops} places to drop it at"
            );
        }
    }
}

#[test]
fn clones_made_at_any_point_serve_and_share_their_state() {
    for make in SUBJECTS {
        run(async {
            // Healthy but for the first answer, which ejects: a clone that shared nothing would not know.
            let inner = Strict::new(statuses(Script::Hopeless));
            let mut original = make(Script::Hopeless, &inner);
            if !original.ejects() {
                return;
            }
            let mut before = original.duplicate();
            original.call().await.unwrap();
            let mut after = original.duplicate();
            for clone in [&mut before, &mut after, &mut original] {
                let error = clone.call().await.unwrap_err();
                let refused = error.contains("ejected") || error.contains("is open");
                assert!(refused, "{error}");
            }
            assert_eq!(inner.calls.load(Ordering::Relaxed), 1);
        });
        run(async {
            let inner = Strict::new(statuses(Script::Healthy));
            let mut original = make(Script::Healthy, &inner);
            let mut clones = Vec::new();
            // Clones made before, during and after a call.
            clones.push(original.duplicate());
            let mut call = original.call();
            let mut done = None;
            while done.is_none() {
                // One poll, and a clone made after it.
                done = poll_times(&mut call, 1).await;
                clones.push(original.duplicate());
                tokio::time::sleep(ms(1)).await;
            }
            assert!(clones.len() > 3);
            assert_eq!(done.unwrap().unwrap().0, StatusCode::OK);
            let calls: Vec<_> = clones.iter_mut().map(|clone| clone.call()).collect();
            for call in calls {
                assert_eq!(call.await.unwrap(), (StatusCode::OK, Bytes::from("hello")));
            }
        });
    }
}
