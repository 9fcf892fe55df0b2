//! Calls that are dropped: nothing is leaked, and nothing is lost that another could use.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tower_mesh::connect::{Dialed, HttpConnector, Settings, Tcp, Version};
use tower_mesh::{Connect, Endpoint};
use tower_service::Service;

#[allow(dead_code)]
#[path = "connect/server.rs"]
mod server;

use server::*;

/// Drops a call after each number of polls that it can be pending for.
#[tokio::test]
async fn a_call_dropped_at_any_poll_leaves_nothing_behind() {
    for version in [Version::Http1, Version::Http2] {
        let server = Server::start(version).await;
        let leaf = server.leaf(version, Settings::new());
        for polls in 0.. {
            let mut call = pin!(send(&leaf, "/quote?id=7"));
            let mut left = polls;
            let done = std::future::poll_fn(|cx| {
                if left == 0 {
                    return std::task::Poll::Ready(None);
                }
                left -= 1;
                call.as_mut().poll(cx).map(Some)
            });
            let done = done.await.is_some();
            if done {
                break;
            }
            // A connection that was made goes on.
            call.set(send(&leaf, "/quote?id=7"));
            until(&leaf, |now| now.waiting + now.dialing == 0).await;
        }
        until(&leaf, |now| now.active == 0).await;
    }
}

#[tokio::test]
async fn a_dropped_call_frees_its_connection_or_stream() {
    for version in [Version::Http1, Version::Http2] {
        let server = Server::start(version).await.holding();
        let leaf = server.leaf(version, Settings::new());
        let calls = server.pending(&leaf, 4).await;
        for call in calls {
            call.abort();
            assert!(call.await.unwrap_err().is_cancelled());
        }
        until(&leaf, |now| now.active == 0).await;
        // HTTP/1.1 has no other way to say so than to close; HTTP/2 resets the streams.
        let kept = usize::from(version == Version::Http2);
        assert_eq!(counts(&leaf), (kept, 0, 0, 0), "{version:?}");
        server.leave.add_permits(5);
        get(&leaf).await;
    }
}

#[tokio::test]
async fn a_dial_whose_request_left_serves_the_next() {
    for version in [Version::Http1, Version::Http2] {
        let server = Server::start(version).await;
        let (go, gate) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let dialer = {
            let (go, gate) = (go.clone(), gate.clone());
            move |endpoint: Endpoint| {
                let (go, gate) = (go.clone(), gate.clone());
                async move {
                    gate.fetch_add(1, Ordering::SeqCst);
                    let _go = go.acquire().await;
                    let tcp = Tcp::new().connect(endpoint.address()).await?;
                    std::io::Result::Ok(Dialed::plain(TokioIo::new(tcp)))
                }
            }
        };
        let leaf = HttpConnector::new()
            .with_version(version)
            .with_dialer(dialer)
            .with_settings(Settings::new().with_connect_timeout(STUCK))
            .connect(&server.endpoint());
        let first = tokio::spawn({
            let leaf = leaf.clone();
            async move { get(&leaf).await }
        });
        until(&leaf, |now| now.waiting == 1).await;
        first.abort();
        until(&leaf, |now| now.waiting == 0).await;
        assert_eq!(leaf.connections().dialing, 1);
        let second = tokio::spawn({
            let leaf = leaf.clone();
            async move { get(&leaf).await }
        });
        until(&leaf, |now| now.waiting == 1).await;
        go.add_permits(1);
        second.await.unwrap();
        assert_eq!((gate.load(Ordering::SeqCst), server.connections()), (1, 1));
    }
}

#[tokio::test]
async fn a_refused_dial_fails_all_that_waited_for_it() {
    let leaf = HttpConnector::new()
        .with_version(Version::Http2)
        .connect(&Endpoint::new(closed_port().await));
    let calls: Vec<_> = (0..5).map(|_| leaf.clone().call(request("/"))).collect();
    for call in calls {
        assert!(timeout(STUCK, call).await.unwrap().is_err());
    }
    assert_eq!(counts(&leaf), (0, 0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_with_some_that_leave() {
    for version in [Version::Http1, Version::Http2] {
        let server = Server::start(version).await;
        let settings = Settings::new().with_streams_per_connection(3);
        let leaf = server.leaf(version, settings);
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..400u64 {
            let leaf = leaf.clone();
            calls.spawn(async move {
                // A few are gone before they have begun, others in the middle.
                let patience = if n % 3 == 0 { n % 7 } else { 20_000 };
                let answer = timeout(Duration::from_millis(patience), get(&leaf)).await;
                assert!(n % 3 == 0 || answer.is_ok());
            });
        }
        while let Some(call) = calls.join_next().await {
            call.unwrap();
        }
        until(&leaf, |now| now.active + now.waiting + now.dialing == 0).await;
    }
}
