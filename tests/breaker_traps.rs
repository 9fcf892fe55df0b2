//! The named traps of a breaker, in a client: where a probe is dropped, what its body says, who leaves. The table of all
//! of them is in `breaker_bodies.rs`.

mod support;

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use support::{Mesh, Reply, address, addresses, ejected, get, ms, ok, s, updates};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tower::service_fn;
use tower_mesh::breaker::Gate;
use tower_mesh::discover::Update;
use tower_mesh::policy::{ClientPolicy, ExponentialBackoff, FailureAccrual, Queue, Ratio};
use tower_mesh::{Body, BoxError, Client, Endpoint};

fn accrual(max_failures: u32) -> FailureAccrual {
    let backoff = ExponentialBackoff::try_new(s(1), s(60), Ratio::ZERO).unwrap();
    FailureAccrual::consecutive(max_failures).backoff(backoff)
}

fn gate(client: &Client) -> Gate {
    let snapshot = client.snapshot();
    snapshot.endpoints().next().unwrap().gate
}

fn is_ejected(client: &Client) -> bool {
    matches!(gate(client), Gate::Open { .. })
}

type Frames = mpsc::UnboundedSender<Result<Frame<Bytes>, Infallible>>;

/// One endpoint, whose answers have these statuses and bodies that the test writes, after the last of which it answers 200
/// and nothing.
struct Bench {
    client: Client,
    next: Arc<Mutex<Vec<(u16, bool)>>>,
    bodies: mpsc::UnboundedReceiver<Frames>,
}

fn bench() -> Bench {
    let next: Arc<Mutex<Vec<(u16, bool)>>> = Arc::default();
    let (to_test, bodies) = mpsc::unbounded_channel();
    let script = Arc::clone(&next);
    let leaf = move |_: &Endpoint| {
        let (script, to_test) = (Arc::clone(&script), to_test.clone());
        service_fn(move |_: Request<Body>| {
            let answer = script.lock().unwrap().pop();
            let to_test = to_test.clone();
            async move {
                let (status, grpc) = answer.unwrap_or((200, false));
                let mut response = Response::builder().status(status);
                if grpc {
                    response = response.header("content-type", "application/grpc");
                }
                let (frames, body) = mpsc::unbounded_channel();
                if answer.is_some() {
                    to_test.send(frames).unwrap();
                }
                let body = StreamBody::new(UnboundedReceiverStream::new(body));
                Ok::<_, BoxError>(response.body(body)?)
            }
        })
    };
    let policy = ClientPolicy::http().failure_accrual(accrual(1));
    let client = Client::builder(policy.build().unwrap())
        .endpoints(addresses(1))
        .build(leaf)
        .unwrap();
    Bench {
        client,
        next,
        bodies,
    }
}

fn grpc() -> Request<Body> {
    let request = Request::post("http://web.shop/pay.Payments/Quote");
    let request = request.header("content-type", "application/grpc");
    request.body(Body::empty()).unwrap()
}

impl Bench {
    /// Ejects the endpoint, and waits until its probe is due. The probe will be answered like this.
    async fn probation(&mut self, status: u16, grpc: bool) {
        self.next
            .lock()
            .unwrap()
            .extend([(status, grpc), (500, false)]);
        drop(self.client.request(get()).await.unwrap());
        self.bodies.recv().await.unwrap();
        assert!(is_ejected(&self.client));
        tokio::time::sleep(s(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_probes_head_says_stands_whatever_becomes_of_its_body() {
    // A 200 closes when its head is there; dropped unread, and in mid-body.
    for frames in 0..2 {
        let mut b = bench();
        b.probation(200, false).await;
        let response = b.client.request(get()).await.unwrap();
        assert_eq!(gate(&b.client), Gate::Closed);
        let body = b.bodies.recv().await.unwrap();
        body.send(Ok(Frame::data("some".into()))).unwrap();
        let mut response = response.into_body();
        for _ in 0..frames {
            response.frame().await.unwrap().unwrap();
        }
        drop(response);
        assert_eq!(gate(&b.client), Gate::Closed);
    }
    // A 503 opens it again, unread.
    let mut b = bench();
    b.probation(503, false).await;
    drop(b.client.request(get()).await.unwrap());
    assert!(is_ejected(&b.client));
    tokio::time::sleep(ms(1999)).await;
    assert!(is_ejected(&b.client), "twice as long");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_a_server_stream_closes_at_its_first_message() {
    let mut b = bench();
    b.probation(200, true).await;
    let response = b.client.request(grpc()).await.unwrap();
    let body = b.bodies.recv().await.unwrap();
    assert!(matches!(gate(&b.client), Gate::HalfOpen { .. }));
    body.send(Ok(Frame::data("message".into()))).unwrap();
    let mut stream = response.into_body();
    stream.frame().await.unwrap().unwrap();
    assert_eq!(gate(&b.client), Gate::Closed, "and the stream goes on");
    // One that ends without a message is judged by its trailers.
    let mut b = bench();
    b.probation(200, true).await;
    let response = b.client.request(grpc()).await.unwrap();
    let body = b.bodies.recv().await.unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "14".parse().unwrap());
    body.send(Ok(Frame::trailers(trailers))).unwrap();
    drop(body);
    response.into_body().collect().await.unwrap();
    assert!(is_ejected(&b.client));
    // One that is dropped before it said anything was nothing: the next may follow at once.
    let mut b = bench();
    b.probation(200, true).await;
    drop(b.client.request(grpc()).await.unwrap());
    assert!(is_ejected(&b.client));
    let before = tokio::time::Instant::now();
    drop(b.client.request(get()).await.unwrap());
    assert_eq!(tokio::time::Instant::now(), before);
    assert_eq!(gate(&b.client), Gate::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_removed_while_it_is_probed() {
    let mesh = Mesh::new(|at, n| match (at == address(1), n) {
        (true, 0) => Reply::Status(500, ms(1)),
        (true, 1) => Reply::Status(200, s(5)),
        _ => ok(),
    });
    let (send, endpoints) = updates();
    let policy = ClientPolicy::http().failure_accrual(accrual(1));
    let client = mesh.client(policy.build().unwrap(), endpoints);
    let add = |n| Update::Add(vec![Endpoint::new(address(n))]);
    send(add(1));
    client.request(get()).await.unwrap();
    tokio::time::sleep(s(1)).await;
    let probe = tokio::spawn(client.request(get()));
    tokio::time::sleep(ms(100)).await;
    assert!(matches!(gate(&client), Gate::HalfOpen { .. }));
    send(Update::Remove(vec![address(1)]));
    send(add(2));
    tokio::time::sleep(ms(1)).await;
    // The other serves, the probe ends as it would have, and nothing is left of either.
    for _ in 0..10 {
        assert_eq!(client.request(get()).await.unwrap().status(), 200);
    }
    assert_eq!(probe.await.unwrap().unwrap().status(), 200);
    assert_eq!(mesh.count(address(1)), 2);
    assert_eq!(client.snapshot().in_flight, 0);
    // Back in the set it is as its probe has left it: closed.
    send(add(1));
    tokio::time::sleep(ms(1)).await;
    assert_eq!(client.snapshot().endpoints().count(), 2);
    assert_eq!(ejected(&client), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hang_whose_callers_leave_trips_a_policy_of_slow_calls() {
    let hangs = |accrual: FailureAccrual, patience: Duration| async move {
        let mesh = Mesh::new(|_, _| Reply::Hang);
        let policy = ClientPolicy::http().failure_accrual(accrual);
        let client = mesh.client(policy.build().unwrap(), addresses(1));
        for _ in 0..3 {
            let _ = tokio::time::timeout(patience, client.request(get())).await;
        }
        !matches!(gate(&client), Gate::Closed)
    };
    let slow = accrual(2).slow_call(ms(500));
    assert!(
        hangs(slow.clone(), ms(600)).await,
        "they waited long enough"
    );
    assert!(!hangs(slow, ms(400)).await, "they did not");
    assert!(!hangs(accrual(2), ms(600)).await, "nobody asked for it");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_when_the_probe_is_due_leaves_it_to_the_next() {
    let mesh = Mesh::fails_first(500);
    let policy = ClientPolicy::http()
        .failure_accrual(accrual(1))
        .queue(Queue {
            capacity: 10,
            failfast_timeout: s(60),
        });
    let client = mesh.client(policy.build().unwrap(), addresses(1));
    drop(client.request(get()).await.unwrap());
    let start = Instant::now();
    let first = client.request(get());
    let first = tokio::spawn(async move {
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(start + s(1)) => {}
            _ = first => panic!("it was to leave before it looks"),
        }
    });
    let second = tokio::spawn(client.request(get()));
    first.await.unwrap();
    let response = second.await.unwrap().unwrap();
    assert_eq!(
        (response.status().as_u16(), start.elapsed()),
        (200, s(1) + ms(10))
    );
}
