//! What a leaf says about each way that a connection can fail, pinned against servers made of raw bytes.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::io;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tower_mesh::connect::{Dialed, HttpConnector, Version};
use tower_mesh::verdict::{Sent, TransportError, TransportFailure as Failure};
use tower_mesh::{Connect, Endpoint};

#[path = "connect/raw.rs"]
mod raw;

use raw::*;

// === the table ===

const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;
const HTTP_1_1_REQUIRED: u32 = 13;
const MAX_STREAM: u32 = 0x7fff_ffff;

#[rustfmt::skip]
const TABLE: &[(&str, Server, Asks, Failure, Sent)] = {
    use Asks::*;
    use Sends::*;
    use Server::*;
    &[
        ("h1: closed without an answer", Http1(b""), Get, Failure::Broken, Sent::Unknown),
        ("h1: half a head, then closed", Http1(b"HTTP/1.1 200 O"), Get, Failure::Broken, Sent::Unknown),
        ("h1: a head without its end", Http1(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n"), Get, Failure::Broken, Sent::Unknown),
        ("h1: not HTTP", Http1(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), Get, Failure::Broken, Sent::Unknown),
        ("h1: TCP reset", Http1Reset, Get, Failure::Broken, Sent::Unknown),
        ("h1: TCP reset while the body is sent", Http1Reset, Endless, Failure::Broken, Sent::Unknown),
        ("h1: the caller's body breaks", Http1(b""), BodyBreaks, Failure::RequestBody, Sent::Unknown),
        ("h1: the caller's body is shorter than it said", Http1(b""), BodyIsShort, Failure::RequestBody, Sent::Unknown),
        ("h1: CONNECT without a target", Http1(b""), ConnectWithoutTarget, Failure::Request, Sent::NotSent),

        ("h2: the peer speaks HTTP/1.1", Says(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n"), Get, Failure::Connect, Sent::NotSent),
        ("h2: closed before SETTINGS", Says(b""), Get, Failure::Connect, Sent::NotSent),
        ("h2: closed within SETTINGS", Says(b"\0\0\0\x04"), Get, Failure::Connect, Sent::NotSent),
        ("h2: REFUSED_STREAM", Http2Open(&[Reset(REFUSED_STREAM)]), Get, Failure::Refused, Sent::Unprocessed),
        ("h2: REFUSED_STREAM while the body is sent", Http2Open(&[Reset(REFUSED_STREAM)]), Endless, Failure::Refused, Sent::Unprocessed),
        ("h2: INTERNAL_ERROR", Http2Open(&[Reset(INTERNAL_ERROR)]), Get, Failure::Broken, Sent::Unknown),
        ("h2: CANCEL", Http2Open(&[Reset(CANCEL)]), Get, Failure::Broken, Sent::Unknown),
        ("h2: NO_ERROR without an answer", Http2Open(&[Reset(NO_ERROR)]), Get, Failure::Broken, Sent::Unknown),
        ("h2: HTTP_1_1_REQUIRED", Http2Open(&[Reset(HTTP_1_1_REQUIRED)]), Get, Failure::Broken, Sent::Unknown),
        ("h2: GOAWAY below the stream", Http2Open(&[GoAway { last: 0, reason: NO_ERROR }]), Get, Failure::Refused, Sent::Unprocessed),
        ("h2: GOAWAY below the stream, calm", Http2(&[GoAway { last: 0, reason: ENHANCE_YOUR_CALM }]), Get, Failure::Refused, Sent::Unprocessed),
        ("h2: GOAWAY that covers it, then closed", Http2(&[GoAway { last: 1, reason: NO_ERROR }]), Get, Failure::Broken, Sent::Unknown),
        ("h2: GOAWAY with an error that covers it, then closed", Http2(&[GoAway { last: 1, reason: INTERNAL_ERROR }]), Get, Failure::Broken, Sent::Unknown),
        ("h2: a graceful GOAWAY, then one below it", Http2Open(&[GoAway { last: MAX_STREAM, reason: NO_ERROR }, GoAway { last: 0, reason: NO_ERROR }]), Get, Failure::Refused, Sent::Unprocessed),
        ("h2: a graceful GOAWAY, then closed", Http2(&[GoAway { last: MAX_STREAM, reason: NO_ERROR }]), Get, Failure::Broken, Sent::Unknown),
        ("h2: closed without an answer", Http2(&[]), Get, Failure::Broken, Sent::Unknown),
        ("h2: TCP reset", Http2Reset, Get, Failure::Broken, Sent::Unknown),
        ("h2: not HTTP/2 any more", Http2Open(&[Raw(b"HTTP/1.1 500 Internal Server Error\r\n\r\n")]), Get, Failure::Broken, Sent::Unknown),
        ("h2: no answer to a ping", Http2Open(&[]), Get, Failure::Broken, Sent::Unknown),
        ("h2: the caller's body breaks", Http2Open(&[]), BodyBreaks, Failure::RequestBody, Sent::Unknown),
        ("h2: CONNECT without a target", Http2Open(&[]), ConnectWithoutTarget, Failure::Request, Sent::NotSent),
    ]
};

#[tokio::test]
async fn each_failure_is_sorted_and_nothing_is_sent_twice() {
    for (name, server, asks, failure, sent) in TABLE {
        let (leaf, seen) = leaf_to(*server).await;
        let answer = timeout(STUCK, call(&leaf, asks.request())).await;
        let error = answer.expect(name).expect_err(name);
        assert_eq!(
            (error.failure(), error.sent()),
            (*failure, *sent),
            "{name}: {error:?}"
        );
        assert_eq!(seen.load(Ordering::SeqCst), 1, "{name}: connections");
        assert!(std::error::Error::source(&error).is_some(), "{name}");
        quiet(&leaf, name).await;
    }
}

// === rows that need more than one connection, or none ===

#[tokio::test]
async fn refused_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for version in [Version::Http1, Version::Http2, Version::Auto] {
        let leaf = connector(version).connect(&address.into());
        let error = call(&leaf, Asks::Get.request()).await.unwrap_err();
        assert_eq!(
            (error.failure(), error.sent()),
            (Failure::Connect, Sent::NotSent)
        );
        let io: &io::Error = source(&error).unwrap();
        assert_eq!(io.kind(), io::ErrorKind::ConnectionRefused);
    }
}

#[tokio::test(start_paused = true)]
async fn connect_timeout_is_tokios_time() {
    let never = HttpConnector::new()
        .with_dialer(|_: Endpoint| pending::<Result<Dialed<TokioIo<TcpStream>>, Infallible>>());
    let leaf = never.connect(&address().into());
    let before = tokio::time::Instant::now();
    let error = call(&leaf, Asks::Get.request()).await.unwrap_err();
    assert_eq!(
        (error.failure(), error.sent()),
        (Failure::ConnectTimeout, Sent::NotSent)
    );
    assert_eq!(tokio::time::Instant::now() - before, Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn an_http2_peer_that_says_nothing_is_a_connect_timeout() {
    let silent = HttpConnector::new().with_version(Version::Http2);
    let (mut ends, dial) = pipes();
    let leaf = silent.with_dialer(dial).connect(&address().into());
    let error = call(&leaf, Asks::Get.request()).await.unwrap_err();
    assert_eq!(
        (error.failure(), error.sent()),
        (Failure::ConnectTimeout, Sent::NotSent)
    );
    // And it is closed.
    let mut end = ends.recv().await.unwrap();
    let read = timeout(STUCK, end.read_to_end(&mut Vec::new())).await;
    assert!(read.unwrap().is_ok());
    gone(&leaf, "silent").await;
}

#[tokio::test]
async fn the_operating_systems_timeout_is_one_too() {
    let dialer = |_: Endpoint| async {
        Err::<Dialed<TokioIo<TcpStream>>, _>(io::Error::from(io::ErrorKind::TimedOut))
    };
    let leaf = HttpConnector::new()
        .with_dialer(dialer)
        .connect(&address().into());
    let error = call(&leaf, Asks::Get.request()).await.unwrap_err();
    assert_eq!(
        (error.failure(), error.sent()),
        (Failure::ConnectTimeout, Sent::NotSent)
    );
}

#[tokio::test]
async fn a_stale_connection_costs_the_request_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let leaf = HttpConnector::new().connect(&listener.local_addr().unwrap().into());
    let server = tokio::spawn(async move {
        for _ in 0..2 {
            let mut stream = listener.accept().await.unwrap().0;
            read_head(&mut stream).await;
            stream.write_all(OK).await.unwrap();
        }
        listener
    });
    ok(call(&leaf, Asks::Get.request()).await).await;
    gone(&leaf, "stale").await;
    ok(call(&leaf, Asks::Get.request()).await).await;
    // And if there is no other, it was at least not sent.
    drop(server.await.unwrap());
    gone(&leaf, "closed").await;
    let error = call(&leaf, Asks::Get.request()).await.unwrap_err();
    assert_eq!(
        (error.failure(), error.sent()),
        (Failure::Connect, Sent::NotSent)
    );
}

/// Over pipes, where nothing stands between the server's close and the request: the connection's task has not seen it.
#[tokio::test]
async fn what_a_pooled_connection_hands_back_goes_to_a_new_one() {
    let (mut ends, dial) = pipes();
    let leaf = HttpConnector::new()
        .with_dialer(dial)
        .connect(&address().into());
    let first = tokio::spawn({
        let leaf = leaf.clone();
        async move { ok(call(&leaf, Asks::Get.request()).await).await }
    });
    let mut end = ends.recv().await.unwrap();
    read_head(&mut end).await;
    end.write_all(OK).await.unwrap();
    first.await.unwrap();
    assert_eq!((leaf.connections().idle, leaf.connections().active), (1, 0));
    drop(end);
    // Polled here and now, before the connection's task is.
    let second = call(&leaf, Asks::Get.request());
    let serve = async {
        let mut end = ends.recv().await.unwrap();
        read_head(&mut end).await;
        end.write_all(OK).await.unwrap();
        end
    };
    let both = async { tokio::join!(biased; second, serve) };
    let (answer, _end) = timeout(STUCK, both).await.unwrap();
    ok(answer).await;
}

#[tokio::test]
async fn what_a_new_connection_hands_back_was_not_sent() {
    let (mut ends, dial) = pipes();
    let leaf = HttpConnector::new()
        .with_dialer(dial)
        .connect(&address().into());
    let close = async {
        drop(ends.recv().await);
        ends
    };
    let (answer, mut ends) = tokio::join!(call(&leaf, Asks::Get.request()), close);
    let error = answer.unwrap_err();
    assert_eq!(
        (error.failure(), error.sent()),
        (Failure::Broken, Sent::NotSent)
    );
    assert!(ends.try_recv().is_err(), "dialed once");
}

#[tokio::test]
async fn a_connection_that_went_away_is_replaced() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let leaf = connector(Version::Http2).connect(&listener.local_addr().unwrap().into());
    let server = tokio::spawn(async move {
        let mut open = Vec::new();
        for _ in 0..3 {
            let mut stream = listener.accept().await.unwrap().0;
            read_stream(&mut stream).await;
            // The answer, and "no more after this one".
            let mut bytes = frame(1, 5, 1, &[0x88]);
            bytes.extend(frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]));
            stream.write_all(&bytes).await.unwrap();
            open.push(stream);
        }
        open
    });
    for _ in 0..3 {
        ok(call(&leaf, Asks::Get.request()).await).await;
    }
    server.await.unwrap();
    gone(&leaf, "went away").await;
}

#[tokio::test]
async fn what_breaks_after_the_head_is_an_error_of_the_body() {
    let http1 = Server::Http1(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
    let http2 = Server::Http2(&[
        Sends::Raw(&[0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88]),
        Sends::Raw(&[0, 0, 4, 0, 0, 0, 0, 0, 1, b'h', b'a', b'l', b'f']),
        Sends::Reset(INTERNAL_ERROR),
    ]);
    for server in [http1, http2] {
        let (leaf, _) = leaf_to(server).await;
        let response = call(&leaf, Asks::Get.request()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let broken = timeout(STUCK, response.into_body().collect())
            .await
            .unwrap();
        assert!(broken.is_err(), "{server:?}");
        gone(&leaf, "body").await;
    }
}

#[test]
fn outside_a_runtime_it_is_an_error_not_a_panic() {
    let leaf = HttpConnector::new().connect(&address().into());
    let mut call = Box::pin(call(&leaf, Asks::Get.request()));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let Poll::Ready(Err(error)) = call.as_mut().poll(&mut cx) else {
        panic!("it must fail at once");
    };
    assert_eq!(
        (error.failure(), error.sent()),
        (Failure::Connect, Sent::NotSent)
    );
}

#[test]
fn connections_of_a_dead_runtime_are_replaced() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let servers = runtime();
    let listener = servers.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let leaf = HttpConnector::new().connect(&listener.local_addr().unwrap().into());
    std::thread::spawn(move || {
        servers.block_on(async {
            loop {
                let mut stream = listener.accept().await.unwrap().0;
                tokio::spawn(async move {
                    read_head(&mut stream).await;
                    stream.write_all(OK).await.unwrap();
                    pending::<()>().await;
                });
            }
        });
    });
    for _ in 0..3 {
        runtime().block_on(async {
            ok(call(&leaf, Asks::Get.request()).await).await;
            assert_eq!(leaf.connections().idle, 1);
        });
    }
}

#[tokio::test]
async fn a_reset_without_an_error_is_a_good_end_only_after_one() {
    const HEAD: &[u8] = b"\0\0\x01\x01\x04\0\0\0\x01\x88";
    const SOME: &[u8] = b"\0\0\x02\0\0\0\0\0\x01ok";
    const LAST: &[u8] = b"\0\0\x02\0\x01\0\0\0\x01ok";
    for (server, whole) in [
        (
            Server::Http2Open(&[Sends::Raw(HEAD), Sends::Raw(SOME), Sends::Reset(NO_ERROR)]),
            false,
        ),
        (
            Server::Http2Open(&[Sends::Raw(HEAD), Sends::Reset(NO_ERROR)]),
            false,
        ),
        (
            Server::Http2Open(&[Sends::Raw(HEAD), Sends::Raw(LAST), Sends::Reset(NO_ERROR)]),
            true,
        ),
    ] {
        let (leaf, _) = leaf_to(server).await;
        let response = call(&leaf, Asks::Endless.request()).await.unwrap();
        let collected = response.into_body().collect().await;
        match collected {
            Ok(body) => assert!(whole && body.to_bytes() == "ok", "{server:?}"),
            Err(error) => {
                let error: &TransportError = error.downcast_ref().unwrap();
                assert!(!whole && error.failure() == Failure::Broken, "{server:?}");
            }
        }
    }
}
