//! Streams: how long they last, what they cost, and what is left of them.

mod grpc;
mod support;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::{Buf, Bytes};
use grpc::scripted;
use grpc::{BOTH, BytesCodec, Over, Server, in_time, path, plain, server_of, unary};
use hyper_util::rt::TokioIo;
use support::ms;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::{Code, Request, Response, Status, Streaming};
use tower_mesh::connect::Dialed;
use tower_mesh::policy::{ClientPolicy, GrpcFilter, Method, ModifyHeader, Protocol, Timeouts};
use tower_mesh::{Client, Endpoint};

fn numbers(count: u64) -> Bytes {
    Bytes::copy_from_slice(&count.to_be_bytes())
}

fn pending(client: &Client) -> usize {
    client.snapshot().endpoints().map(|e| e.pending).sum()
}

/// Until it is so; a task of the runtime's has to see something first.
async fn until(mut so: impl FnMut() -> bool) {
    in_time(async {
        while !so() {
            tokio::time::sleep(ms(1)).await;
        }
    })
    .await;
}

/// A stream in both directions: its open end, and what comes back.
async fn both(client: &Client) -> (mpsc::Sender<Bytes>, Response<Streaming<Bytes>>) {
    let (sender, receiver) = mpsc::channel(1);
    let mut grpc = Grpc::new(client.clone());
    let request = Request::new(ReceiverStream::new(receiver));
    let call = grpc.streaming(request, path("/test.Echo/Both"), BytesCodec);
    (sender, in_time(call).await.unwrap())
}

async fn echo(sender: &mpsc::Sender<Bytes>, messages: &mut Streaming<Bytes>) {
    sender.send(Bytes::from_static(b"x")).await.unwrap();
    let message = in_time(messages.message()).await.unwrap();
    assert_eq!(message.unwrap(), "x");
}

#[tokio::test]
async fn a_stream_survives_policies_and_endpoints_and_is_waited_for() {
    let (one, two) = (Server::start("one").await, Server::start("two").await);
    let policy = |header: Option<&'static str>| {
        let mut policy = ClientPolicy::grpc().build().unwrap();
        let Protocol::Grpc(grpc) = &mut policy.protocol else {
            panic!()
        };
        if let Some(header) = header {
            let value = http::HeaderValue::from_static(header);
            let text = ModifyHeader {
                set: vec![(http::HeaderName::from_static("x-text"), value)],
                ..ModifyHeader::default()
            };
            let filter = GrpcFilter::RequestHeaders(text);
            grpc.routes[0].rules[0].policy.filters.push(filter);
        }
        policy
    };
    for over in BOTH {
        let (policies, receiver) = watch::channel(policy(None));
        let (endpoints, discovered) = watch::channel(vec![Endpoint::new(one.address)]);
        let builder = Client::builder(receiver).endpoints(discovered);
        let client = match over {
            Over::Hyper => builder.build(grpc::hyper_leaf()),
            Over::Channel => builder.build(grpc::tonic_leaf()),
        }
        .unwrap();
        let (sender, stream) = both(&client).await;
        assert_eq!(server_of(&stream), "one");
        let mut messages = stream.into_inner();
        echo(&sender, &mut messages).await;
        // It is there, and it is no load.
        assert_eq!((client.snapshot().in_flight, pending(&client)), (1, 0));

        policies.send(policy(Some("new"))).unwrap();
        endpoints.send(vec![Endpoint::new(two.address)]).unwrap();
        until(|| {
            client
                .snapshot()
                .endpoints()
                .any(|e| e.endpoint.address() == two.address)
        })
        .await;
        let answer = in_time(unary(client.clone(), "/test.Echo/Unary", b"x"))
            .await
            .unwrap();
        assert_eq!(server_of(&answer), "two", "{over:?}");
        until_new_policy(&client).await;
        echo(&sender, &mut messages).await;

        // Nothing new is taken, and what there is is waited for.
        let mut closing = pin!(client.close());
        let closed = poll_fn(|cx| Poll::Ready(closing.as_mut().poll(cx).is_ready())).await;
        assert!(!closed);
        let refused = in_time(unary(client.clone(), "/test.Echo/Unary", b"x")).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable);
        assert!(refused.message().starts_with("the client is closed"));
        echo(&sender, &mut messages).await;
        drop(sender);
        assert!(in_time(messages.message()).await.unwrap().is_none());
        in_time(closing).await;
        assert_eq!(client.snapshot().in_flight, 0);
        until(|| one.echo.open.load(Ordering::SeqCst) == 0).await;
    }
}

async fn until_new_policy(client: &Client) {
    in_time(async {
        loop {
            let answer = unary(client.clone(), "/test.Echo/Unary", b"x")
                .await
                .unwrap();
            if answer.metadata().get("x-text").is_some() {
                return;
            }
            tokio::time::sleep(ms(1)).await;
        }
    })
    .await;
}

// Over a pipe, in virtual time.
#[tokio::test(start_paused = true)]
async fn which_limits_hold_for_a_stream_that_has_begun() {
    let request = Timeouts::request(ms(40));
    let with_idle = Timeouts {
        idle: Some(ms(120)),
        ..request
    };
    const DEADLINE: &str = "the request's deadline passed";
    const IDLE: &str = "nothing was sent or received";
    const RESPONSE: &str = "the response did not end";
    let caller = Some(ms(60));
    // The method's settings; what the caller asks for; the script; what ends it.
    let cases = [
        // Nobody said what it is: its first message says it.
        (
            Method::new().timeouts(with_idle),
            None,
            "hang-after-message",
            IDLE,
        ),
        (
            Method::new().timeouts(with_idle),
            None,
            "hang-after-head",
            DEADLINE,
        ),
        (Method::new().timeouts(with_idle), None, "hang", DEADLINE),
        (
            Method::new().timeouts(with_idle),
            caller,
            "hang-after-message",
            DEADLINE,
        ),
        (
            Method::new().timeouts(with_idle).unary(),
            None,
            "hang-after-message",
            DEADLINE,
        ),
        (
            Method::new().timeouts(with_idle).streaming(),
            None,
            "hang-after-head",
            IDLE,
        ),
        (
            Method::new().timeouts(with_idle).streaming(),
            None,
            "hang-after-message",
            IDLE,
        ),
        (
            Method::new().timeouts(with_idle).streaming(),
            None,
            "hang",
            DEADLINE,
        ),
        (
            Method::new().timeouts(request).streaming(),
            caller,
            "hang-after-head",
            DEADLINE,
        ),
        // What the policy says of the response is said of streams, too.
        (
            Method::new().timeouts(Timeouts {
                response: Some(ms(80)),
                ..request
            }),
            None,
            "hang-after-message",
            RESPONSE,
        ),
    ];
    let calls = cases.map(|(method, timeout, script, ends_by)| {
        let policy = ClientPolicy::grpc().service("test.Scripted", method.clone());
        let client = piped(policy.build().unwrap());
        tokio::spawn(async move {
            let mut request = Request::new(Bytes::from_static(b"x"));
            if let Some(timeout) = timeout {
                request.set_timeout(timeout);
            }
            let to = http::uri::PathAndQuery::try_from(format!("/test.Scripted/{script}")).unwrap();
            let mut grpc = Grpc::new(client.clone());
            let status = match grpc.server_streaming(request, to, BytesCodec).await {
                Err(status) => status,
                Ok(answer) => {
                    let mut messages = answer.into_inner();
                    loop {
                        match messages.message().await {
                            Ok(Some(_)) => {}
                            Ok(None) => panic!("{script} ended"),
                            Err(status) => break status,
                        }
                    }
                }
            };
            assert_eq!(status.code(), Code::DeadlineExceeded, "{script}");
            let message = status.message();
            assert!(
                message.starts_with(ends_by),
                "{script} {method:?}: {message}"
            );
            assert_eq!(client.snapshot().in_flight, 0);
        })
    });
    for call in calls {
        in_time(call).await.unwrap();
    }
}

fn piped(policy: ClientPolicy) -> Client {
    let dial = |_: Endpoint| {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(scripted::serve(theirs, Arc::default()));
        std::future::ready(std::io::Result::Ok(Dialed::plain(TokioIo::new(ours))))
    };
    let connector = grpc::hyper_leaf().with_dialer(dial);
    let builder = Client::builder(policy).endpoints(["10.0.0.1:80"]);
    builder.build(connector).unwrap()
}

// === memory ===

/// The most that was allocated at once while so many messages came: server, client and runtime together, on one thread.
fn most_bytes(over: Over, messages: u64) -> u64 {
    let read = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let server = Server::start("one").await;
            let mut grpc = Grpc::new(plain(over, &[server.address]));
            let request = Request::new(numbers(messages));
            let call = grpc.server_streaming(request, path("/test.Echo/Count"), BytesCodec);
            let mut stream = call.await.unwrap().into_inner();
            for n in 0..messages {
                let message = stream.message().await.unwrap().unwrap();
                assert_eq!(message.clone().get_u64(), n);
            }
            assert!(stream.message().await.unwrap().is_none());
        });
    };
    allocation_counter::measure(read).bytes_max
}

#[test]
fn a_stream_needs_no_more_memory_than_its_windows() {
    for over in BOTH {
        let most = most_bytes(over, 20_000);
        assert!(most < 4 << 20, "{over:?}: {most}");
    }
}

/// `cargo test --release --test tonic_streams -- --ignored --nocapture`
#[test]
#[ignore = "takes its time in a debug build"]
fn a_million_messages_need_as_much_as_a_tenth_of_them() {
    for over in BOTH {
        let few = most_bytes(over, 100_000);
        let many = most_bytes(over, 1_000_000);
        eprintln!("{over:?}: at most {few} bytes for 100 000 messages, {many} for 1 000 000");
        assert!(many <= few + few / 10, "{over:?}: {few} {many}");
    }
}

// === flow control ===

#[tokio::test]
async fn one_stream_that_nobody_reads_stalls_no_other() {
    for over in BOTH {
        let server = Server::start("one").await;
        let client = plain(over, &[server.address]);
        let mut grpc = Grpc::new(client.clone());
        let request = Request::new(Bytes::new());
        let call = grpc.server_streaming(request, path("/test.Echo/Flood"), BytesCodec);
        let mut unread = in_time(call).await.unwrap().into_inner();
        // Its window is used up when the server has sent nothing more during a hundred calls.
        let flooded = &server.echo.flooded;
        let mut before = usize::MAX;
        while before != flooded.load(Ordering::SeqCst) {
            before = flooded.load(Ordering::SeqCst);
            for _ in 0..100 {
                let answer = in_time(unary(client.clone(), "/test.Echo/Unary", b"x")).await;
                assert_eq!(answer.unwrap().get_ref(), "x", "{over:?}");
            }
        }
        assert!(before > 0);
        // More than fits in any window, beside it.
        let large: &'static [u8] = Vec::leak(vec![b'y'; 200 * 1024]);
        for _ in 0..50 {
            let answer = in_time(unary(client.clone(), "/test.Echo/Unary", large)).await;
            assert_eq!(answer.unwrap().get_ref().len(), large.len(), "{over:?}");
        }
        // It goes on as soon as it is read.
        for _ in 0..2 * before {
            let message = in_time(unread.message()).await.unwrap().unwrap();
            assert_eq!(message.len(), 64 * 1024);
        }
        drop(unread);
        assert_eq!(client.snapshot().in_flight, 0);
        until(|| server.echo.open.load(Ordering::SeqCst) == 0).await;
    }
}

// === dropped after every poll ===

#[derive(Clone, Copy, Debug)]
enum Kind {
    Unary,
    FromServer,
    FromClient,
    Both,
}

/// A whole call, whose request's stream holds `held`.
async fn whole(client: Client, kind: Kind, held: Arc<()>) -> Result<u64, Status> {
    let mut grpc = Grpc::new(client);
    let asked = tokio_stream::iter((0..3).map(move |n| {
        let _held = &held;
        numbers(n)
    }));
    let one = Request::new(numbers(3));
    let mut answers = match kind {
        Kind::Unary => {
            let answer = grpc
                .unary(one, path("/test.Echo/Unary"), BytesCodec)
                .await?;
            return Ok(answer.into_inner().get_u64());
        }
        Kind::FromClient => {
            let asked = Request::new(asked);
            let answer = grpc
                .client_streaming(asked, path("/test.Echo/Sum"), BytesCodec)
                .await?;
            return Ok(answer.into_inner().get_u64());
        }
        Kind::FromServer => {
            let answer = grpc.server_streaming(one, path("/test.Echo/Count"), BytesCodec);
            answer.await?.into_inner()
        }
        Kind::Both => {
            // Its request never ends by itself.
            let asked = Request::new(asked.chain(tokio_stream::pending()));
            let answer = grpc.streaming(asked, path("/test.Echo/Both"), BytesCodec);
            answer.await?.into_inner()
        }
    };
    let mut count = 0;
    while count < 3 && answers.message().await?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// Polls it so often and drops it; or else how it ended.
async fn polled<T>(call: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut call: Pin<Box<dyn Future<Output = T>>> = Box::pin(call);
    let mut left = polls;
    poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match call.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[tokio::test]
async fn dropped_after_every_poll_nothing_is_left() {
    for over in BOTH {
        for kind in [Kind::Unary, Kind::FromServer, Kind::FromClient, Kind::Both] {
            let server = Server::start("one").await;
            let client = plain(over, &[server.address]);
            let held = Arc::new(());
            let mut ended = 0;
            // From a client that knows no connection yet to one that has many behind it.
            for polls in (0..).flat_map(|n| [n, n]) {
                let call = whole(client.clone(), kind, Arc::clone(&held));
                let result = in_time(polled(call, polls)).await;
                assert_eq!(client.snapshot().in_flight, 0, "{over:?} {kind:?} {polls}");
                assert_eq!(pending(&client), 0, "{over:?} {kind:?} {polls}");
                if let Some(result) = result {
                    assert_eq!(result.unwrap(), 3);
                    ended += 1;
                }
                if ended == 10 {
                    break;
                }
            }
            until(|| Arc::strong_count(&held) == 1).await;
            until(|| server.echo.open.load(Ordering::SeqCst) == 0).await;
            // And it is as good as new.
            let answer = in_time(unary(client.clone(), "/test.Echo/Unary", b"x")).await;
            assert_eq!(answer.unwrap().get_ref(), "x");
        }
    }
}
