//! The exact status that a tonic client sees, whatever an endpoint does: `docs/grpc-status.md` is this test's table.

mod grpc;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use grpc::scripted::Scripted;
use grpc::{BOTH, BytesCodec, Over, in_time};
use http::uri::PathAndQuery;
use tokio::net::TcpListener;
use tonic::client::Grpc;
use tonic::{Code, Request, Status};
use tower_mesh::policy::{
    ClientPolicy, Codes, FailureAccrual, GrpcFilter, InjectGrpcFailure, Protocol, Queue, Ratio,
    Timeouts,
};
use tower_mesh::{Client, Error};

fn build(over: Over, policy: ClientPolicy, endpoint: SocketAddr, errors: bool) -> Client {
    let mut builder = Client::builder(policy).endpoints([endpoint]).seed(7);
    if errors {
        builder = builder.return_grpc_errors();
    }
    match over {
        Over::Hyper => builder.build(grpc::hyper_leaf()),
        Over::Channel => builder.build(grpc::tonic_leaf()),
    }
    .unwrap()
}

/// What a caller makes of a call that may stream: the messages, and how it ended.
async fn call(client: &Client, method: &str) -> (usize, Status) {
    let mut grpc = Grpc::new(client.clone());
    let path = PathAndQuery::try_from(format!("/test.Scripted/{method}")).unwrap();
    let request = Request::new(Bytes::from_static(b"ask"));
    let response = match grpc.server_streaming(request, path, BytesCodec).await {
        Ok(response) => response,
        Err(status) => return (0, status),
    };
    let mut messages = response.into_inner();
    let mut count = 0;
    loop {
        match messages.message().await {
            Ok(Some(_)) => count += 1,
            Ok(None) => return (count, Status::ok("")),
            Err(status) => return (count, status),
        }
    }
}

#[tokio::test]
async fn every_code_in_every_place() {
    let server = Scripted::start().await;
    for over in BOTH {
        for errors in [false, true] {
            let policy = ClientPolicy::grpc().build().unwrap();
            let client = build(over, policy, server.address, errors);
            for code in 0..=16u16 {
                for place in ["headers", "trailers-only", "trailers"] {
                    let what = format!("{place}/{code}");
                    let (count, status) = in_time(call(&client, &what)).await;
                    assert_eq!(i32::from(status.code()), i32::from(code), "{over:?} {what}");
                    let message = format!("code \u{e4} {code}");
                    // tonic takes no notice of what a good end says.
                    let message = if code == 0 { "" } else { &message };
                    assert_eq!(status.message(), message, "{over:?} {what}");
                    let one = place == "trailers" || (place == "headers" && code == 0);
                    assert_eq!(count, usize::from(one), "{over:?} {what}");
                }
            }
            assert_eq!(client.snapshot().in_flight, 0);
        }
    }
}

// === the table ===

/// What happens, and the method of the server that does it.
const FAILURES: [(&str, &str); 26] = [
    ("`RST_STREAM(NO_ERROR)` before the head", "reset/0"),
    ("`RST_STREAM(PROTOCOL_ERROR)` before the head", "reset/1"),
    ("`RST_STREAM(INTERNAL_ERROR)` before the head", "reset/2"),
    ("`RST_STREAM(REFUSED_STREAM)`", "reset/7"),
    ("`RST_STREAM(CANCEL)` before the head", "reset/8"),
    (
        "`RST_STREAM(ENHANCE_YOUR_CALM)` before the head",
        "reset/11",
    ),
    (
        "`RST_STREAM(INADEQUATE_SECURITY)` before the head",
        "reset/12",
    ),
    (
        "`RST_STREAM(INTERNAL_ERROR)` after the head",
        "reset-after-head/2",
    ),
    (
        "`RST_STREAM(INTERNAL_ERROR)` after a message",
        "reset-after-message/2",
    ),
    (
        "`RST_STREAM(ENHANCE_YOUR_CALM)` after a message",
        "reset-after-message/11",
    ),
    (
        "`RST_STREAM(CANCEL)` after a message",
        "reset-after-message/8",
    ),
    (
        "the stream ends at the head, without a status",
        "end-at-head",
    ),
    (
        "the stream ends after a message, without a status",
        "end-at-message",
    ),
    ("the stream ends within a message", "end-in-message"),
    ("trailers without a status", "trailers-without-status"),
    ("the connection closes before the head", "close"),
    ("the connection closes after the head", "close-after-head"),
    ("an HTML page with HTTP 200", "page/200"),
    ("an HTML page with HTTP 401", "page/401"),
    ("an HTML page with HTTP 404", "page/404"),
    ("an HTML page with HTTP 500", "page/500"),
    ("an HTML page with HTTP 502", "page/502"),
    ("an HTML page with HTTP 503", "page/503"),
    ("no answer within the policy's request timeout", "hang"),
    (
        "a head and no more within the policy's request timeout",
        "hang-after-head",
    ),
    (
        "a message and no more within the policy's idle timeout",
        "hang-after-message",
    ),
];

fn policy(method: &str) -> ClientPolicy {
    let mut timeouts = Timeouts::default();
    if method == "hang" || method == "hang-after-head" {
        timeouts.request = Some(Duration::from_millis(50));
    }
    if method == "hang-after-message" {
        timeouts.idle = Some(Duration::from_millis(50));
    }
    let policy = ClientPolicy::grpc().named("shop.test:1").timeouts(timeouts);
    policy.build().unwrap()
}

/// A client in the state, and the method that it calls.
async fn ours(what: &str, over: Over, server: &Scripted, errors: bool) -> Client {
    let builder = || ClientPolicy::grpc().named("shop.test:1");
    let on = |policy: ClientPolicy, endpoint| build(over, policy, endpoint, errors);
    match what {
        "no_route" => {
            let mut policy = builder().build().unwrap();
            policy.protocol = Protocol::Grpc(Default::default());
            on(policy, server.address)
        }
        "injected" => {
            let mut policy = builder().build().unwrap();
            let Protocol::Grpc(grpc) = &mut policy.protocol else {
                panic!()
            };
            let failure = InjectGrpcFailure::new(Codes::ABORTED, "a test", Ratio::ONE).unwrap();
            let filter = GrpcFilter::InjectFailure(failure);
            grpc.routes[0].rules[0].policy.filters.push(filter);
            on(policy, server.address)
        }
        "fail_fast" | "queue_full" => {
            let queue = Queue {
                capacity: usize::from(what == "fail_fast"),
                failfast_timeout: Duration::from_millis(10),
            };
            let accrual = FailureAccrual::consecutive(1);
            let policy = builder().queue(queue).failure_accrual(accrual);
            let client = on(policy.build().unwrap(), server.address);
            let (_, status) = call(&client, "trailers-only/14").await;
            assert_eq!(status.code(), Code::Unavailable);
            client
        }
        "closed" => {
            let client = on(builder().build().unwrap(), server.address);
            client.close().await;
            client
        }
        other => panic!("{other}"),
    }
}

const OURS: [(&str, &str); 5] = [
    ("no route of the policy matches", "no_route"),
    ("the policy injects ABORTED", "injected"),
    ("every endpoint is ejected", "fail_fast"),
    ("the line is full", "queue_full"),
    ("the client is closed", "closed"),
];

#[tokio::test]
async fn the_documented_table() {
    let server = Scripted::start().await;
    let mut rows = Vec::new();
    for (what, method) in FAILURES {
        let mut seen = Vec::new();
        for over in BOTH {
            for errors in [false, true] {
                let client = build(over, policy(method), server.address, errors);
                let (count, status) = in_time(call(&client, method)).await;
                let after_message = [
                    "reset-after-message",
                    "end-at-message",
                    "hang-after-message",
                ]
                .iter()
                .any(|start| method.starts_with(start))
                    || method == "trailers-without-status";
                assert_eq!(count, usize::from(after_message), "{over:?} {what}");
                assert_eq!(client.snapshot().in_flight, 0, "{over:?} {what}");
                seen.push(words(status, server.address));
            }
        }
        rows.push((what, seen));
    }
    let refused = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let mut seen = Vec::new();
    for over in BOTH {
        for errors in [false, true] {
            let client = build(over, policy("refused"), refused, errors);
            seen.push(words(in_time(call(&client, "x")).await.1, refused));
        }
    }
    rows.push(("the connection is refused", seen));
    for (what, state) in OURS {
        let mut seen = Vec::new();
        for over in BOTH {
            for errors in [false, true] {
                let client = ours(state, over, &server, errors).await;
                let (count, status) = in_time(call(&client, "trailers/0")).await;
                assert_eq!(count, 0);
                seen.push(words(status, server.address));
            }
        }
        rows.push((what, seen));
    }

    let mut table = String::new();
    for (what, seen) in rows {
        // The two leaves may differ in what their own errors say; as errors and as responses they say the same.
        assert_eq!(seen[0], seen[1], "hyper: {what}");
        assert_eq!(seen[2], seen[3], "channel: {what}");
        assert_eq!(seen[0].0, seen[2].0, "{what}: {seen:?}");
        let (code, hyper) = &seen[0];
        let channel = match &seen[2].1 {
            channel if channel == hyper => String::new(),
            channel => format!("; over tonic's channel: {channel}"),
        };
        let ours = !what.contains("HTML page");
        assert!(!ours || *code != Code::Unknown, "{what}: {hyper}");
        let name = Codes::name(i32::from(*code) as u16);
        table.push_str(&format!("| {what} | {name} | {hyper}{channel} |\n"));
    }
    let documented = include_str!("../docs/grpc-status.md");
    if !documented.contains(&table) {
        panic!("docs/grpc-status.md does not have this table:\n{table}");
    }
}

fn words(status: Status, endpoint: SocketAddr) -> (Code, String) {
    let message = status.message().replace(&endpoint.to_string(), "ENDPOINT");
    // What the operating system says, and which of two broken ends is noticed first, differs.
    let io = ["broken pipe", "connection reset", "os error"];
    let message = match message.rsplit_once(": ") {
        Some((before, root)) if io.iter().any(|io| root.contains(io)) => {
            format!("{before}: I/O ERROR")
        }
        _ => message,
    };
    // How long until the next probe depends on when it is asked.
    let message = match message.split_once("due in ") {
        Some((before, _)) => format!("{before}due in TIME"),
        None => message,
    };
    (status.code(), message)
}

#[tokio::test]
async fn an_error_has_a_status_in_its_chain_and_its_own_cause_below() {
    let server = Scripted::start().await;
    let policy = ClientPolicy::grpc().build().unwrap();
    let client = build(Over::Hyper, policy, server.address, true);
    let request = http::Request::post("http://shop/test.Scripted/reset/2")
        .header("content-type", "application/grpc")
        .body(tower_mesh::Body::empty())
        .unwrap();
    let error: Error = in_time(client.request(request)).await.unwrap_err();
    let mut chain: Vec<&(dyn std::error::Error + 'static)> = vec![&error];
    while let Some(source) = chain[chain.len() - 1].source() {
        chain.push(source);
    }
    let status = chain
        .iter()
        .find_map(|e| e.downcast_ref::<Status>())
        .unwrap();
    assert_eq!(status.code(), Code::Internal);
    assert!(chain.last().unwrap().is::<h2::Error>(), "{chain:?}");
    assert_eq!(error.grpc_code(), Codes::INTERNAL);
    // And the other way round.
    let status = Status::from(error);
    assert_eq!(status.code(), Code::Internal);
    let source = std::error::Error::source(&status).unwrap();
    assert!(Error::find(source).is_some());
}

#[tokio::test]
async fn a_refusal_says_when_to_come_back() {
    let server = Scripted::start().await;
    for errors in [false, true] {
        let client = ours("fail_fast", Over::Hyper, &server, errors).await;
        let (_, status) = in_time(call(&client, "trailers/0")).await;
        let pushback = status.metadata().get("grpc-retry-pushback-ms").unwrap();
        let millis: u64 = pushback.to_str().unwrap().parse().unwrap();
        assert!((1..=2000).contains(&millis), "{millis}");
    }
}
