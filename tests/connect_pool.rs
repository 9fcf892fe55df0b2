//! How connections are shared, opened, kept, closed and given back, against hyper's own servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use http::{Request, Version as Wire};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio::time::{sleep, timeout};
use tower_mesh::connect::{Connections, Dialed, HttpConnector, Settings, Tcp, Version};
use tower_mesh::verdict::TransportFailure;
use tower_mesh::{Body, Connect, Endpoint};
use tower_service::Service;

#[allow(dead_code)]
#[path = "connect/server.rs"]
mod server;

use server::*;

// === keeping and sharing ===

#[tokio::test]
async fn one_http1_connection_serves_one_after_the_other() {
    let server = Server::start(Version::Http1).await;
    let leaf = server.leaf(Version::Http1, Settings::new());
    for _ in 0..10 {
        assert_eq!(get(&leaf).await, "HTTP/1.1 payments.shop:8080 /quote?id=7");
    }
    assert_eq!(server.connections(), 1);
    assert_eq!(counts(&leaf), (1, 0, 0, 0));
}

#[tokio::test]
async fn http1_opens_a_connection_for_each_concurrent_request_and_keeps_so_many() {
    let server = Server::start(Version::Http1).await.holding();
    let leaf = server.leaf(Version::Http1, Settings::new().with_max_idle(3));
    let calls = server.pending(&leaf, 5).await;
    assert_eq!(counts(&leaf), (0, 5, 0, 0));
    server.leave.add_permits(5);
    for call in calls {
        call.await.unwrap();
    }
    until(&leaf, |now| now.active == 0).await;
    assert_eq!(counts(&leaf), (3, 0, 0, 0));
    assert_eq!(server.connections(), 5);
}

#[tokio::test]
async fn an_http1_connection_is_free_when_the_response_body_has_ended() {
    let server = Server::start(Version::Http1).await;
    let leaf = server.leaf(Version::Http1, Settings::new());
    // Too long to be on its way as a whole.
    let response = send(&leaf, "/long").await;
    get(&leaf).await;
    assert_eq!(server.connections(), 2);
    assert_eq!(
        response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .len(),
        LONG
    );
    until(&leaf, |now| now.idle == 2).await;
    // Dropped half-way, it costs the connection.
    drop(send(&leaf, "/long").await);
    until(&leaf, |now| (now.idle, now.active) == (1, 0)).await;
}

#[tokio::test]
async fn http2_shares_a_connection_until_it_is_full() {
    let server = Server::start(Version::Http2).await.holding();
    let settings = Settings::new().with_streams_per_connection(10);
    let leaf = server.leaf(Version::Http2, settings);
    let first = server.pending(&leaf, 10).await;
    assert_eq!((server.connections(), counts(&leaf)), (1, (0, 1, 0, 0)));
    let second = server.pending(&leaf, 11).await;
    assert_eq!((server.connections(), counts(&leaf)), (3, (0, 3, 0, 0)));
    server.leave.add_permits(21);
    for call in first.into_iter().chain(second) {
        assert_eq!(
            call.await.unwrap(),
            "HTTP/2.0 payments.shop:8080 /quote?id=7"
        );
    }
    until(&leaf, |now| now.active == 0).await;
    server.leave.add_permits(1);
    get(&leaf).await;
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn http2_does_not_open_more_streams_than_the_peer_allows() {
    let mut server = Server::start(Version::Http1).await;
    server.max_streams = Some(2);
    let server = server.restart(Version::Http2).await.holding();
    let leaf = server.leaf(Version::Http2, Settings::new());
    let calls = server.pending(&leaf, 5).await;
    assert_eq!(server.connections(), 3);
    server.leave.add_permits(5);
    for call in calls {
        call.await.unwrap();
    }
}

#[tokio::test]
async fn an_http2_stream_is_free_when_the_response_body_has_ended() {
    let server = Server::start(Version::Http2).await;
    let settings = Settings::new().with_streams_per_connection(1);
    let leaf = server.leaf(Version::Http2, settings);
    let response = send(&leaf, "/long").await;
    get(&leaf).await;
    assert_eq!((server.connections(), counts(&leaf)), (2, (1, 1, 0, 0)));
    let body = Body::new(response.into_body()).collect().await.unwrap();
    assert_eq!(body.to_bytes().len(), LONG);
    assert_eq!(counts(&leaf), (2, 0, 0, 0));
    // Dropped half-way, it costs the stream only.
    drop(send(&leaf, "/long").await);
    assert_eq!(counts(&leaf), (2, 0, 0, 0));
    get(&leaf).await;
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn those_in_line_take_what_becomes_free_before_a_dial_ends() {
    let server = Server::start(Version::Http1).await;
    // The second dial never ends.
    let dials = Arc::new(AtomicUsize::new(0));
    let dialer = move |endpoint: Endpoint| {
        let dial = dials.fetch_add(1, Ordering::SeqCst);
        async move {
            if dial > 0 {
                std::future::pending::<()>().await;
            }
            let tcp = Tcp::new().connect(endpoint.address()).await?;
            std::io::Result::Ok(Dialed::plain(TokioIo::new(tcp)))
        }
    };
    let leaf = HttpConnector::new()
        .with_dialer(dialer)
        .with_settings(Settings::new().with_connect_timeout(STUCK * 10))
        .connect(&server.endpoint());
    let response = send(&leaf, "/long").await;
    let mut second = tokio::spawn({
        let leaf = leaf.clone();
        async move { get(&leaf).await }
    });
    until(&leaf, |now| now.waiting == 1).await;
    assert!(timeout(SHORT, &mut second).await.is_err());
    response.into_body().collect().await.unwrap();
    timeout(STUCK, second).await.unwrap().unwrap();
    assert_eq!(counts(&leaf), (1, 0, 1, 0));
}

// === what ALPN chose ===

#[tokio::test]
async fn what_was_agreed_on_while_dialing_wins() {
    for (alpn, version, want) in [
        (Some(&b"h2"[..]), Version::Auto, Wire::HTTP_2),
        (Some(b"http/1.1"), Version::Auto, Wire::HTTP_11),
        (Some(b"h2"), Version::Http1, Wire::HTTP_2),
        (Some(b"http/1.1"), Version::Http2, Wire::HTTP_11),
        (None, Version::Auto, Wire::HTTP_11),
        (None, Version::Http2, Wire::HTTP_2),
    ] {
        let http2 = want == Wire::HTTP_2;
        let speaks = if http2 {
            Version::Http2
        } else {
            Version::Http1
        };
        let server = Server::start(speaks).await.holding();
        let dialer = move |endpoint: Endpoint| async move {
            let tcp = Tcp::new().connect(endpoint.address()).await?;
            std::io::Result::Ok(Dialed::tls(TokioIo::new(tcp), alpn))
        };
        let leaf = HttpConnector::new()
            .with_version(version)
            .with_dialer(dialer)
            .connect(&server.endpoint());
        let calls = server.pending(&leaf, 3).await;
        // Who expects HTTP/1.1 dials for each.
        let shared = http2 && version != Version::Http1;
        wait(|| server.connections() == if shared { 1 } else { 3 }).await;
        server.leave.add_permits(3);
        for call in calls {
            assert!(call.await.unwrap().starts_with(&format!("{want:?}")));
        }
        // An encrypted connection is `https` unless the request says otherwise.
        server.leave.add_permits(1);
        let relative = Request::get("/scheme").body(Body::empty()).unwrap();
        let response = leaf.clone().call(relative).await.unwrap();
        let scheme = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(scheme, if http2 { "https" } else { "none" });
    }
}

// === an endpoint that may be gone ===

#[tokio::test]
async fn one_request_finds_out_whether_a_lost_endpoint_is_back() {
    let server = Server::start(Version::Http2).await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let refuses = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let dialer = {
        let (gate, refuses) = (Arc::clone(&gate), Arc::clone(&refuses));
        move |endpoint: Endpoint| {
            let (gate, refuses) = (Arc::clone(&gate), Arc::clone(&refuses));
            async move {
                gate.acquire().await.unwrap().forget();
                if refuses.load(Ordering::SeqCst) {
                    return Err(std::io::ErrorKind::ConnectionRefused.into());
                }
                let tcp = Tcp::new().connect(endpoint.address()).await?;
                std::io::Result::Ok(Dialed::plain(TokioIo::new(tcp)))
            }
        }
    };
    // Each connection is gone with its last request.
    let leaf = HttpConnector::new()
        .with_version(Version::Http2)
        .with_settings(Settings::new().with_idle_timeout(Duration::ZERO))
        .with_dialer(dialer)
        .connect(&server.endpoint());
    let ask = || {
        let mut leaf = leaf.clone();
        tokio::spawn(async move {
            std::future::poll_fn(|cx| leaf.poll_ready(cx)).await?;
            leaf.call(request("/quote?id=7")).await.map(drop)
        })
    };
    let dialing = || until(&leaf, |now| now.dialing == 1);
    let waiting = |n| until(&leaf, move |now| now.waiting == n);

    // Nothing speaks against a new endpoint: all wait for its first connection.
    let first = [ask(), ask(), ask()];
    waiting(3).await;
    gate.add_permits(1);
    for asked in first {
        asked.await.unwrap().unwrap();
    }

    // It is lost: one dials, the others are not ready.
    let trial = ask();
    dialing().await;
    let mut other = leaf.clone();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(other.poll_ready(&mut cx).is_pending());
    let others = [ask(), ask()];
    tokio::task::yield_now().await;
    waiting(1).await;
    // Not there: they hear of it together, and the next one tries once more.
    refuses.store(true, Ordering::SeqCst);
    gate.add_permits(1);
    for asked in [trial].into_iter().chain(others) {
        let error = asked.await.unwrap().unwrap_err();
        assert_eq!(error.failure(), TransportFailure::Connect);
    }
    assert!(matches!(other.poll_ready(&mut cx), Poll::Ready(Err(_))));
    assert!(other.poll_ready(&mut cx).is_ready());

    // There again: they are ready when it is.
    refuses.store(false, Ordering::SeqCst);
    let trial = ask();
    dialing().await;
    let others = [ask(), ask()];
    tokio::task::yield_now().await;
    waiting(1).await;
    // Whoever looked on and left is no hindrance.
    assert!(leaf.clone().poll_ready(&mut cx).is_pending());
    gate.add_permits(3);
    for asked in [trial].into_iter().chain(others) {
        asked.await.unwrap().unwrap();
    }
}

// === growing old ===

#[tokio::test]
async fn idle_connections_close_themselves() {
    for version in [Version::Http1, Version::Http2] {
        let server = Server::start(version).await;
        let leaf = server.leaf(version, Settings::new().with_idle_timeout(SHORT));
        get(&leaf).await;
        until(&leaf, |now| now == Connections::default()).await;
        get(&leaf).await;
        assert_eq!(server.connections(), 2, "{version:?}");
    }
}

#[tokio::test]
async fn a_connection_in_use_is_not_idle() {
    for version in [Version::Http1, Version::Http2] {
        let server = Server::start(version).await.holding();
        let leaf = server.leaf(version, Settings::new().with_idle_timeout(SHORT));
        let mut calls = server.pending(&leaf, 1).await;
        sleep(SHORT * 3).await;
        server.leave.add_permits(1);
        calls.remove(0).await.unwrap();
        assert_eq!(server.connections(), 1, "{version:?}");
    }
}

#[tokio::test]
async fn without_an_idle_timeout_each_request_has_its_own() {
    for version in [Version::Http1, Version::Http2] {
        let server = Server::start(version).await;
        let leaf = server.leaf(version, Settings::new().with_idle_timeout(Duration::ZERO));
        for _ in 0..3 {
            get(&leaf).await;
        }
        assert_eq!(server.connections(), 3, "{version:?}");
        until(&leaf, |now| now == Connections::default()).await;
    }
}

#[tokio::test]
async fn an_old_connection_takes_no_more_requests() {
    for version in [Version::Http1, Version::Http2] {
        let server = Server::start(version).await.holding();
        let leaf = server.leaf(version, Settings::new().with_max_age(Some(SHORT)));
        let mut calls = server.pending(&leaf, 1).await;
        sleep(SHORT * 2).await;
        // What is on it finishes.
        server.leave.add_permits(2);
        get(&leaf).await;
        calls.remove(0).await.unwrap();
        assert_eq!(server.connections(), 2, "{version:?}");
        // Unused, it closes by itself.
        until(&leaf, |now| now == Connections::default()).await;
    }
}

#[tokio::test]
async fn an_age_of_nothing_serves_one_request_each() {
    for version in [Version::Http1, Version::Http2] {
        let server = Server::start(version).await;
        let leaf = server.leaf(version, Settings::new().with_max_age(Some(Duration::ZERO)));
        for _ in 0..3 {
            get(&leaf).await;
        }
        assert_eq!(server.connections(), 3, "{version:?}");
    }
}

#[tokio::test]
async fn the_last_handle_closes_the_connections() {
    for version in [Version::Http1, Version::Http2] {
        let (server, mut closed) = Server::start_watched(version).await;
        let leaf = server.leaf(version, Settings::new());
        get(&leaf).await;
        drop(leaf);
        timeout(STUCK, closed.recv()).await.expect("closed");
    }
}

#[tokio::test]
async fn a_connection_that_takes_no_streams_is_closed_nevertheless() {
    // hyper waits for the stream that it was asked for, although nobody wants it any longer.
    let (server, mut closed) = Server::listen(Version::Http2, Some(0)).await;
    for idle_timeout in [STUCK, SHORT] {
        let settings = Settings::new().with_idle_timeout(idle_timeout);
        let leaf = server.leaf(Version::Http2, settings);
        let mut call = leaf.clone().call(request("/never"));
        tokio::select! {
            _ = &mut call => panic!("no stream can be opened"),
            () = until(&leaf, |now| now.active == 1) => {}
        }
        assert!(timeout(SHORT, &mut call).await.is_err());
        drop(call);
        // Nobody can use it any more; or nobody has for long enough.
        let leaf = (idle_timeout != STUCK).then_some(leaf);
        assert_eq!(timeout(STUCK, closed.recv()).await, Ok(Some(())));
        drop(leaf);
    }
}
