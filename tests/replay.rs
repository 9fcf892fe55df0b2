//! What is sent again, byte for byte, and what a failed attempt leaves behind. Scripted endpoints in virtual time.

mod support;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt;
use support::frames::{
    Answering, Arrived, Frames, Part, Sink, attempts, client, message, observed, on_unavailable,
    post, retrying, trailers, upload, wait,
};
use support::{Log, address, addresses, ms, s};
use tokio::time::Instant;
use tower_mesh::core::observe::Decision;
use tower_mesh::policy::{Budget, FailureAccrual, Load, Retry, RetryBuilder};
use tower_mesh::verdict::{Sent, TransportError, TransportFailure};
use tower_mesh::{Body, Client, Endpoint, RequestOptions};

// === what is sent again ===

#[tokio::test(start_paused = true)]
async fn a_retry_sends_every_byte_once_wherever_the_first_try_left_off() {
    // Frames read before it fails: none, some, all, all and the trailers, the end.
    for (has_trailers, failing_with) in [(false, 503), (true, 503), (true, 0)] {
        for read in 0..7 {
            let sink = Sink::default();
            let body = upload(&["ab", "c", "", "def"], has_trailers);
            let to = sink.clone();
            let retry = Retry::on(503..=503).limit(2).max_request_bytes(6);
            let client = client(retrying(retry), 3, move |_, _, request| {
                let sink = to.clone();
                Box::pin(async move {
                    let n = sink.begin();
                    let mut body = request.into_body();
                    sink.read(n, &mut body, if n < 2 { read } else { 100 })
                        .await;
                    let (broken, unknown) = (TransportFailure::Broken, Sent::Unknown);
                    match n {
                        2 => Ok(Response::new(Body::from("thanks"))),
                        _ if failing_with == 0 => Err(TransportError::new(broken, unknown, "x")),
                        _ => Ok(Response::builder().status(503).body(Body::empty()).unwrap()),
                    }
                })
            });
            let mut request = post(body.body());
            let options = RequestOptions::new().safe_to_repeat();
            request.extensions_mut().insert(options);
            let response = client.request(request).await.unwrap();
            assert_eq!((response.status().as_u16(), attempts(&response)), (200, 3));
            let all = sink.all();
            assert!(
                all[..2]
                    .iter()
                    .all(|one| b"abcdef".starts_with(&one.bytes[..])),
                "{all:?}"
            );
            let whole = Arrived {
                bytes: b"abcdef".into(),
                trailers: has_trailers,
                ended: true,
            };
            assert_eq!(all[2], whole, "after {read} frames");
            drop(response);
            assert_eq!(body.alive(), 0);
            assert_eq!(client.snapshot().bodies_too_large, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_over_the_limit_is_sent_once_and_counted() {
    for (limit, bodies_too_large, expected) in [(6, 0, 200), (5, 1, 503), (0, 1, 503)] {
        let sink = Sink::default();
        let (to, log) = (sink.clone(), Log::default());
        let policy = retrying(Retry::on(503..=503).max_request_bytes(limit));
        let client = observed(policy, 2, &log, move |_, n, request| {
            let sink = to.clone();
            Box::pin(async move {
                let at = sink.begin();
                sink.read(at, &mut request.into_body(), 100).await;
                let status = if n == 0 { 503 } else { 200 };
                Ok(Response::builder()
                    .status(status)
                    .body(Body::from("why"))
                    .unwrap())
            })
        });
        let body = upload(&["ab", "c", "def"], true);
        let response = client.request(post(body.body())).await.unwrap();
        assert_eq!(response.status(), expected);
        // The answer that stands is whole.
        let answer = response.into_body().collect().await.unwrap();
        assert_eq!(answer.to_bytes(), "why");
        for arrived in sink.all() {
            assert_eq!(arrived.bytes, b"abcdef");
        }
        let snapshot = client.snapshot();
        assert_eq!(snapshot.bodies_too_large, bodies_too_large);
        assert_eq!(
            snapshot.to_string().contains("too large"),
            bodies_too_large > 0
        );
        assert_eq!(log.count("not_retried"), bodies_too_large as usize);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_becomes_unretryable_has_no_time_limit_of_a_try() {
    let policy = retrying(Retry::on(503..=503).max_request_bytes(3).timeout(ms(50)));
    let slow = |_, _, request: Request<Body>| -> Answering {
        Box::pin(async move {
            request.into_body().collect().await.unwrap();
            tokio::time::sleep(ms(200)).await;
            Ok(Response::new(Body::empty()))
        })
    };
    let client = client(policy, 2, slow);
    for (body, fails) in [
        (upload(&["abcd"], false), false),
        (upload(&["abc"], false), true),
    ] {
        let mut request = post(body.body());
        request
            .extensions_mut()
            .insert(RequestOptions::new().safe_to_repeat());
        let result = client.request(request).await;
        // The second try of the smaller one has all the time it wants, being the last.
        let response = result.unwrap();
        assert_eq!(attempts(&response), if fails { 2 } else { 1 });
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_try_reads_on_after_its_answer_has_begun() {
    // The answer comes before the request has ended; what is left of it goes on, and nothing is kept for it.
    let sink = Sink::default();
    let to = sink.clone();
    let client = client(retrying(Retry::on(503..=503)), 2, move |_, _, request| {
        let sink = to.clone();
        Box::pin(async move {
            let n = sink.begin();
            let mut body = request.into_body();
            sink.read(n, &mut body, 1).await;
            tokio::spawn(async move { sink.read(n, &mut body, 100).await });
            Ok(Response::new(Body::empty()))
        })
    });
    let body = upload(&["ab", "cd", "ef"], true);
    let response = client.request(post(body.body())).await.unwrap();
    assert_eq!(response.status(), 200);
    tokio::time::sleep(s(1)).await;
    let whole = Arrived {
        bytes: b"abcdef".into(),
        trailers: true,
        ended: true,
    };
    assert_eq!(sink.all(), [whole]);
    assert_eq!(body.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_for_a_call_that_is_over() {
    // Its request is still being sent, and somebody keeps its future.
    let sink = Sink::default();
    let to = sink.clone();
    let policy = retrying(Retry::on(503..=503).max_request_bytes(3));
    let client = client(policy, 2, move |_, _, request| {
        let sink = to.clone();
        Box::pin(async move {
            let n = sink.begin();
            let mut body = request.into_body();
            tokio::spawn(async move { sink.read(n, &mut body, 100).await });
            Ok(Response::new(Body::empty()))
        })
    });
    let body = upload(&["ab", "cd", "ef"], true);
    let mut call = Box::pin(client.request(post(body.body())));
    call.as_mut().await.unwrap();
    tokio::time::sleep(s(1)).await;
    assert_eq!(sink.all()[0].bytes, b"abcdef");
    // What is kept has a limit, and this would be over it.
    assert_eq!(client.snapshot().bodies_too_large, 0);
    drop(call);
}

#[tokio::test(start_paused = true)]
async fn a_try_that_was_given_up_reads_nothing_more() {
    // As a connection does that has not noticed yet that its response is over.
    let sink = Sink::default();
    let to = sink.clone();
    let client = client(
        retrying(Retry::on(503..=503).no_backoff()),
        2,
        move |_, first, request| {
            let sink = to.clone();
            Box::pin(async move {
                let n = sink.begin();
                let mut body = request.into_body();
                sink.read(n, &mut body, 1).await;
                let reads_on = async move { sink.read(n, &mut body, 100).await };
                if first == 0 {
                    tokio::spawn(reads_on);
                    return Ok(Response::builder().status(503).body(Body::empty()).unwrap());
                }
                reads_on.await;
                Ok(Response::new(Body::empty()))
            })
        },
    );
    let body = upload(&["ab", "cd", "ef"], false);
    let response = client.request(post(body.body())).await.unwrap();
    assert_eq!(attempts(&response), 2);
    tokio::time::sleep(s(1)).await;
    let all = sink.all();
    assert_eq!((&all[0].bytes[..], all[0].ended), (&b"ab"[..], false));
    assert_eq!((&all[1].bytes[..], all[1].ended), (&b"abcdef"[..], true));
    assert_eq!(body.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn extensions_survive_to_every_attempt() {
    #[derive(Clone, Debug, PartialEq)]
    struct Mine(u32);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&seen);
    let client = client(
        retrying(Retry::on(503..=503).limit(2)),
        3,
        move |_, n, request| {
            to.lock()
                .unwrap()
                .push(request.extensions().get::<Mine>().cloned());
            let status = if n < 2 { 503 } else { 200 };
            Box::pin(async move {
                Ok(Response::builder()
                    .status(status)
                    .body(Body::empty())
                    .unwrap())
            })
        },
    );
    let mut request = post(upload(&["ab"], false).body());
    request.extensions_mut().insert(Mine(7));
    client.request(request).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), vec![Some(Mine(7)); 3]);
}

// === what a failed attempt leaves behind ===

fn failing_first(
    status: u16,
    page: Frames,
) -> impl Fn(SocketAddr, usize, Request<Body>) -> Answering + Clone + Send + Sync {
    move |_, n, _| {
        let page = page.clone();
        Box::pin(async move {
            tokio::time::sleep(ms(20)).await;
            Ok(match n {
                0 => Response::builder()
                    .status(status)
                    .body(page.body())
                    .unwrap(),
                _ => Response::new(Body::from("fine")),
            })
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_attempt_is_settled_and_released_before_the_backoff() {
    // 404 is retried here and no failure of the endpoint: nothing but the retry settles it.
    for status in [404, 503] {
        let pages = [
            (
                "here at once",
                Frames::new().data(ms(0), "a page").end(ms(0)),
                ms(0),
            ),
            (
                "here soon",
                Frames::new().data(ms(5), "a page").end(ms(0)),
                ms(5),
            ),
            (
                "never whole",
                Frames::new().data(ms(0), "a pa").end(s(1000)),
                ms(10),
            ),
            (
                "endless",
                (0..99)
                    .fold(Frames::new(), |body, _| body.data(ms(0), vec![7; 1024]))
                    .end(s(9)),
                ms(0),
            ),
        ];
        for (name, page, released) in pages {
            let retry = Retry::on(status..=status).backoff(wait(s(1)));
            let client = client(retrying(retry), 1, failing_first(status, page.clone()));
            let mut call = std::pin::pin!(client.request(post(Body::empty())));
            let step = ms(1);
            // To the head of the first answer, and a moment on.
            let passed = tokio::time::timeout(ms(20) + released + step, call.as_mut()).await;
            assert!(passed.is_err(), "{name}");
            assert_eq!(page.alive(), 0, "{name}: its body is gone");
            let snapshot = client.snapshot();
            let endpoint = snapshot.endpoints().next().unwrap();
            assert_eq!(endpoint.pending, 0, "{name}");
            tokio::time::sleep(s(1) - ms(50)).await;
            // The wait is nobody's latency.
            let latency = client.snapshot().endpoints().next().unwrap().latency;
            assert!(latency <= ms(30), "{name}: {latency:?}");
            let response = call.await.unwrap();
            assert_eq!(attempts(&response), 2, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_another_try_the_last_answer_stands_whole() {
    // The only endpoint is ejected by its answer, so that after the backoff there is none.
    let long = wait(s(60));
    let policy = |retry: RetryBuilder| {
        retrying(retry).failure_accrual(FailureAccrual::consecutive(1).backoff(long))
    };
    let retry = || Retry::on(503..=503).backoff(wait(ms(100)));
    let page = Frames::new()
        .data(ms(0), "it ")
        .data(ms(3), "is down")
        .with(ms(3), Part::Trailers(trailers("x", "1")));
    let client_ = client(policy(retry()), 1, failing_first(503, page.clone()));
    let response = client_.request(post(Body::empty())).await.unwrap();
    assert_eq!((response.status().as_u16(), attempts(&response)), (503, 1));
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["x"], "1");
    assert_eq!(body.to_bytes(), "it is down");
    // One that does not come is let go; then it is known to be cut off.
    let page = Frames::new().data(ms(0), "it ").data(s(5), "is down");
    let client_ = client(policy(retry()), 1, failing_first(503, page.clone()));
    let response = client_.request(post(Body::empty())).await.unwrap();
    assert_eq!(response.status(), 503);
    let mut body = response.into_body();
    assert_eq!(
        body.frame().await.unwrap().unwrap().into_data().unwrap(),
        "it "
    );
    let error = body.frame().await.unwrap().unwrap_err();
    assert!(
        error.to_string().contains("let go for another try"),
        "{error}"
    );
    assert!(body.frame().await.is_none());
    assert_eq!(client_.snapshot().in_flight, 0);
    // An endless row of frames with nothing in them has an end, too.
    let client_ = client(policy(retry()), 1, |_, _, _| {
        let frame = || Ok::<_, Infallible>(http_body::Frame::data(bytes::Bytes::new()));
        let frames = tokio_stream::iter(std::iter::repeat_with(frame));
        let body = Body::new(http_body_util::StreamBody::new(frames));
        Box::pin(async move { Ok(Response::builder().status(503).body(body).unwrap()) })
    });
    let response = client_.request(post(Body::empty())).await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(response.into_body().frame().await.unwrap().is_err());
    // Where it is known before the wait, it stands as it came, however slow.
    for (name, retry, options) in [
        ("limit", retry(), RequestOptions::new().no_retries()),
        ("deadline", retry(), RequestOptions::new().timeout(ms(100))),
        (
            "budget",
            retry().budget(Budget::percent(0).min_per_sec(0)),
            RequestOptions::new(),
        ),
    ] {
        let page = Frames::new().data(ms(0), "it ").data(ms(30), "is down");
        let client = client(policy(retry), 1, failing_first(503, page));
        let mut request = post(Body::empty());
        request.extensions_mut().insert(options);
        let response = client.request(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "it is down", "{name}");
    }
}

// === dropped at any point ===

#[derive(Clone, Copy, Debug)]
enum Way {
    /// A stream that is sent again after a wait.
    Again,
    /// A stream that is over the limit half-way.
    TooLarge,
    /// A held head: handed over, or retried.
    Held,
    HeldAndAgain,
}

#[tokio::test(start_paused = true)]
async fn dropped_after_any_poll_everything_comes_back() {
    for way in [Way::Again, Way::TooLarge, Way::Held, Way::HeldAndAgain] {
        let mut done = false;
        for polls in 0..200 {
            let body = upload(&["ab", "cd"], true);
            let code = if matches!(way, Way::Held) { "0" } else { "14" };
            let page = match way {
                Way::Again | Way::TooLarge => Frames::new().data(ms(2), "a page").end(ms(1)),
                _ => Frames::new().data(ms(2), message(1)).status(ms(2), code),
            };
            let given = page.clone();
            let is_grpc = matches!(way, Way::Held | Way::HeldAndAgain);
            let retry = match way {
                Way::TooLarge => Retry::on(503..=503).max_request_bytes(3),
                _ if is_grpc => on_unavailable(),
                _ => Retry::on(503..=503),
            };
            let retry = retry
                .backoff(wait(ms(20)))
                .budget(Budget::percent(1).min_per_sec(0));
            let sent = Arc::new(Mutex::new(0));
            let count = Arc::clone(&sent);
            let client = client(retrying(retry), 2, move |_, n, request| {
                *count.lock().unwrap() += 1;
                let (status, page) = (if n == 0 && !is_grpc { 503 } else { 200 }, given.clone());
                Box::pin(async move {
                    let mut body = request.into_body();
                    while let Some(Ok(_)) = body.frame().await {}
                    let body = if n == 0 { page.body() } else { Body::empty() };
                    Ok(Response::builder().status(status).body(body).unwrap())
                })
            });
            let mut request = post(body.body());
            if is_grpc {
                let grpc = HeaderValue::from_static("application/grpc");
                request.headers_mut().insert("content-type", grpc);
            }
            let mut call = Some(Box::pin(client.request(request)));
            let mut polled = 0;
            std::future::poll_fn(|cx| {
                if polled == polls {
                    call = None;
                    return Poll::Ready(());
                }
                polled += 1;
                let Some(running) = &mut call else {
                    return Poll::Ready(());
                };
                if running.as_mut().poll(cx).is_ready() {
                    done = true;
                    call = None;
                    return Poll::Ready(());
                }
                if polled == polls {
                    call = None;
                    return Poll::Ready(());
                }
                Poll::Pending
            })
            .await;
            let what = format!("{way:?} after {polls} polls");
            assert_eq!(
                (body.alive(), page.alive()),
                (0, 0),
                "{what}: bodies and what was kept of them"
            );
            let snapshot = client.snapshot();
            assert_eq!(snapshot.in_flight, 0, "{what}");
            for endpoint in snapshot.endpoints() {
                assert_eq!(endpoint.pending, 0, "{what}");
            }
            // A token is spent by the attempt that was sent with it, and by nothing else.
            let sent = *sent.lock().unwrap();
            if let Some(budget) = snapshot.budgets.first() {
                let milli = budget.balance_milli;
                let expected = 10_000 - 1_000 * (u64::max(sent, 1) - 1);
                // One success pays a hundredth, and a bank leaks a little.
                assert!(
                    (expected - 200..=expected + 10).contains(&milli),
                    "{what}: {sent} sent, {milli}"
                );
            }
            if done {
                assert!(polls > 3, "{what}");
                break;
            }
        }
        assert!(done, "{way:?}");
    }
}

// === the must-show ===

/// What became of one of three endpoints that answers 500, with a body, from 5 s to 25 s, at 200 requests a second.
struct Outage {
    /// Requests that it got meanwhile.
    asked: usize,
    /// Until when it was ejected when it recovered, if it was.
    ejected: Option<Duration>,
    /// When it was first asked again.
    first: Duration,
    /// When it had served ten requests within a second again.
    back: Duration,
}

async fn outage(seed: u64, load: Load) -> Outage {
    let down = s(5)..s(25);
    let start = Instant::now();
    let bad = address(3);
    let served: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let to = Arc::clone(&served);
    let policy = retrying(Retry::on(500..=599)).failure_accrual(FailureAccrual::consecutive(7));
    let log = Log::default();
    let failing = down.clone();
    let client = Client::builder(policy.load(load).build().unwrap())
        .endpoints(addresses(3))
        .seed(seed)
        .observer(log.observer())
        .build(move |endpoint: &Endpoint| {
            let is_bad = endpoint.address() == bad;
            let (served, failing) = (Arc::clone(&to), failing.clone());
            tower::service_fn(move |_: Request<Body>| {
                let at = Instant::now() - start;
                let fails = is_bad && failing.contains(&at);
                if is_bad {
                    served.lock().unwrap().push(at);
                }
                async move {
                    tokio::time::sleep(ms(if fails { 2 } else { 20 })).await;
                    let page = Frames::new().data(ms(0), "it is ");
                    let page = page.data(ms(1), "down").end(ms(0));
                    Ok::<_, Infallible>(match fails {
                        true => Response::builder().status(500).body(page.body()).unwrap(),
                        false => Response::new(Body::from("fine")),
                    })
                }
            })
        })
        .unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..200 * 60 {
        tokio::time::sleep_until(start + ms(5) * n).await;
        let client = client.clone();
        calls.spawn(async move {
            let response = client.request(support::get()).await.unwrap();
            assert_eq!(response.status(), 200, "seed {seed}: a caller saw an error");
            response.into_body().collect().await.unwrap();
        });
        while let Some(done) = calls.try_join_next() {
            done.unwrap();
        }
    }
    while let Some(done) = calls.join_next().await {
        done.unwrap();
    }
    let served = served.lock().unwrap();
    let lines = log.0.lock().unwrap();
    let mut opened = lines.iter().filter_map(|(at, decision)| match decision {
        Decision::Opened { until, .. } if *at < start + down.end => Some(*until - start),
        _ => None,
    });
    // Not a probe alone.
    let since: Vec<_> = served.iter().filter(|at| **at >= down.end).collect();
    let mut tens = since.windows(10);
    let ten = tens.find(|ten| *ten[9] - *ten[0] < s(1));
    Outage {
        asked: served.iter().filter(|at| down.contains(at)).count(),
        ejected: opened.next_back(),
        first: **since.first().expect("it is asked again"),
        back: *ten.expect("it has traffic again")[9],
    }
}

/// With the mesh's load, which knows nothing of failures: it is the breaker that keeps the traffic away.
#[tokio::test(start_paused = true)]
async fn an_endpoint_that_fails_for_20_s_costs_nothing_and_is_back_soon() {
    for seed in 1..=8 {
        let mut load = Load::default();
        load.extensions_mut().failures = false;
        let Outage {
            asked,
            ejected,
            back,
            ..
        } = outage(seed, load).await;
        let ejected = ejected.expect("the breaker trips");
        println!("seed {seed}: asked {asked} times, ejected until {ejected:?}, back at {back:?}");
        assert!(back <= ejected.max(s(25)) + s(6), "seed {seed}: {back:?}");
    }
}

/// With the default load, which keeps nearly all traffic away before the breaker has seen seven failures: it asks every
/// five seconds or so.
#[tokio::test(start_paused = true)]
async fn the_same_where_the_load_knows_of_failures() {
    for seed in 1..=8 {
        let Outage {
            asked,
            ejected,
            first,
            back,
        } = outage(seed, Load::default()).await;
        println!(
            "seed {seed}: asked {asked} times, ejected until {ejected:?}, asked again at {first:?}, back at {back:?}"
        );
        assert!(asked < 12, "seed {seed}: no more than the breaker needs");
        let ejected = ejected.unwrap_or_default().max(s(25));
        assert!(first <= ejected + s(6), "seed {seed}: {first:?}");
        assert!(back <= ejected + s(10), "seed {seed}: {back:?}");
    }
}
