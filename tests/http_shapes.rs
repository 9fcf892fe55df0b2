//! Responses of every shape, from hyper's own servers, through a whole client: what the caller sees, and that nothing is left in
//! flight.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tower_mesh::breaker::Gate;
use tower_mesh::connect::{HttpConnector, Version};
use tower_mesh::policy::{ClientPolicy, FailureAccrual, Retry, Timeouts};
use tower_mesh::{Body, BoxError, Client, Served, Verdict};

// === the server ===

async fn client(version: Version) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let io = TokioIo::new(listener.accept().await.unwrap().0);
            tokio::spawn(async move {
                if version == Version::Http2 {
                    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(io, service_fn(answer))
                        .await;
                } else {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(io, service_fn(answer))
                        .with_upgrades()
                        .await;
                }
            });
        }
    });
    let timeouts = Timeouts {
        request: Some(Duration::from_secs(10)),
        response: Some(Duration::from_secs(10)),
        idle: Some(Duration::from_millis(500)),
    };
    let policy = ClientPolicy::http()
        .failure_accrual(FailureAccrual::consecutive(1))
        .retry(Retry::on(502..=504))
        .timeouts(timeouts)
        .build()
        .unwrap();
    Client::builder(policy)
        .endpoints([address])
        .build(HttpConnector::new().with_version(version))
        .unwrap()
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let response = Response::builder();
    if request.method() == Method::CONNECT || request.uri().path() == "/upgrade" {
        let connect = request.method() == Method::CONNECT;
        let upgraded = hyper::upgrade::on(request);
        tokio::spawn(async move {
            let mut io = TokioIo::new(upgraded.await.unwrap());
            let mut word = [0; 4];
            io.read_exact(&mut word).await.unwrap();
            word.reverse();
            io.write_all(&word).await.unwrap();
            io.shutdown().await.unwrap();
        });
        let response = if connect {
            response
        } else {
            response
                .status(StatusCode::SWITCHING_PROTOCOLS)
                .header("connection", "upgrade")
                .header("upgrade", "reverse")
        };
        return Ok(response.body(Body::empty()).unwrap());
    }
    let response = match request.uri().path() {
        // How long its body was said to be, and what it was.
        "/framing" => {
            let headers = request.headers();
            let said =
                ["content-length", "transfer-encoding"].map(|name| headers.contains_key(name));
            let body = request.into_body().collect().await.unwrap().to_bytes();
            response.body(format!("{said:?} {body:?}").into())
        }
        "/204" => response.status(204).body(Body::empty()),
        "/304" => response
            .status(304)
            .header("etag", "\"x\"")
            .body(Body::empty()),
        "/empty" => response.body(Body::empty()),
        "/trailers" => {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", HeaderValue::from_static("7"));
            let frames = [
                Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"some"))),
                Ok(Frame::trailers(trailers)),
            ];
            let body = StreamBody::new(tokio_stream::iter(frames));
            response.header("trailer", "x-sum").body(Body::new(body))
        }
        "/grpc" => response
            .header("content-type", "application/grpc")
            .header("grpc-status", "5")
            .body(Body::empty()),
        "/endless" => {
            let frame = || Ok::<_, BoxError>(Frame::data(Bytes::from(vec![7; 1024])));
            let body = StreamBody::new(tokio_stream::iter(std::iter::repeat_with(frame)));
            response.body(Body::new(body))
        }
        // hyper's HTTP/2 server would send the body of a HEAD.
        _ if request.method() == Method::HEAD => {
            response.header("content-length", "10").body(Body::empty())
        }
        _ => response.body(Body::from("0123456789")),
    };
    Ok(response.unwrap())
}

fn request(method: Method, path: &str) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(format!("http://web.shop{path}"))
        .body(Body::empty())
        .unwrap()
}

fn assert_quiet(client: &Client, what: &str) {
    let snapshot = client.snapshot();
    assert_eq!(snapshot.in_flight, 0, "{what}");
    for endpoint in snapshot.endpoints() {
        assert_eq!(
            (endpoint.pending, endpoint.gate),
            (0, Gate::Closed),
            "{what}"
        );
    }
}

// === requests ===

#[tokio::test]
async fn a_get_has_the_body_that_it_was_given_and_no_other() {
    let stream = |frames: &[&'static str]| {
        let frames: Vec<_> = (frames.iter())
            .map(|frame| Ok::<_, BoxError>(Frame::data(Bytes::from(*frame))))
            .collect();
        Body::new(StreamBody::new(tokio_stream::iter(frames)))
    };
    let client = client(Version::Http1).await;
    for (frames, expected) in [
        // A stream that turns out to be empty is nothing to announce: not every server takes it well.
        (&[][..], r#"[false, false] b"""#),
        (&["one"], r#"[true, false] b"one""#),
        (&["one", "two"], r#"[false, true] b"onetwo""#),
    ] {
        let get = Request::get("http://web.shop/framing").body(stream(frames));
        let response = client.request(get.unwrap()).await.unwrap();
        let said = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(said, expected);
    }
}

// === without a body ===

#[tokio::test]
async fn responses_without_a_body_are_over_at_their_head() {
    for version in [Version::Http1, Version::Http2] {
        let client = client(version).await;
        for (method, path, status, length) in [
            (Method::HEAD, "/full", 200, Some("10")),
            (Method::GET, "/204", 204, None),
            (Method::GET, "/304", 304, None),
            (Method::GET, "/empty", 200, None),
            (Method::HEAD, "/304", 304, None),
        ] {
            let what = format!("{version:?} {method} {path}");
            let response = client.request(request(method, path)).await.unwrap();
            assert_eq!(response.status(), status, "{what}");
            if length.is_some() {
                let header = response.headers().get("content-length");
                assert_eq!(header.map(|v| v.to_str().unwrap()), length, "{what}");
            }
            assert!(response.body().is_end_stream(), "{what}");
            // Although the caller has it still.
            assert_quiet(&client, &what);
            assert_eq!(
                response.extensions().get::<Served>().unwrap().verdict,
                Some(Verdict::Success)
            );
            let body = response.into_body().collect().await.unwrap();
            assert!(body.to_bytes().is_empty(), "{what}");
        }
    }
}

#[tokio::test]
async fn trailers_only_is_grpcs_whole_answer() {
    let client = client(Version::Http2).await;
    let mut request = request(Method::POST, "/grpc");
    let grpc = HeaderValue::from_static("application/grpc");
    request.headers_mut().insert("content-type", grpc);
    let response = client.request(request).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "5");
    assert!(response.body().is_end_stream());
    assert_quiet(&client, "NOT_FOUND is nobody's failure");
}

// === with one ===

#[tokio::test]
async fn trailers_come_through() {
    for version in [Version::Http1, Version::Http2] {
        let client = client(version).await;
        let mut request = request(Method::GET, "/trailers");
        let te = HeaderValue::from_static("trailers");
        request.headers_mut().insert("te", te);
        let response = client.request(request).await.unwrap();
        assert_eq!(client.snapshot().in_flight, 1);
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["x-sum"], "7", "{version:?}");
        assert_eq!(body.to_bytes(), "some");
        assert_quiet(&client, "trailers");
    }
}

#[tokio::test]
async fn a_body_dropped_half_way_is_over() {
    for version in [Version::Http1, Version::Http2] {
        let client = client(version).await;
        let mut body = client
            .request(request(Method::GET, "/endless"))
            .await
            .unwrap()
            .into_body();
        body.frame().await.unwrap().unwrap();
        assert_eq!(client.snapshot().in_flight, 1);
        drop(body);
        assert_quiet(&client, "dropped");
        let response = client.request(request(Method::GET, "/full")).await.unwrap();
        assert_eq!(response.headers()["content-length"], "10");
        let body = response.into_body();
        assert_eq!(body.size_hint().exact(), Some(10));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "0123456789");
        assert_quiet(&client, "{version:?}");
    }
}

#[tokio::test]
async fn a_body_outlives_its_client() {
    for version in [Version::Http1, Version::Http2] {
        let client = client(version).await;
        let mut body = client
            .request(request(Method::GET, "/endless"))
            .await
            .unwrap()
            .into_body();
        drop(client);
        for _ in 0..1000 {
            body.frame().await.unwrap().unwrap();
        }
    }
}

// === upgrades ===

#[tokio::test]
async fn upgraded_connections_are_the_callers() {
    let client = client(Version::Http1).await;
    let mut upgrade = request(Method::GET, "/upgrade");
    let headers = upgrade.headers_mut();
    headers.insert("connection", HeaderValue::from_static("upgrade"));
    headers.insert("upgrade", HeaderValue::from_static("reverse"));
    let connect = Request::connect("db.shop:5432")
        .body(Body::empty())
        .unwrap();
    for (request, status) in [(upgrade, 101), (connect, 200)] {
        let response = client.request(request).await.unwrap();
        assert_eq!(response.status(), status);
        assert_quiet(&client, "it is no exchange any more");
        let mut io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        // Longer than anything may be idle.
        tokio::time::sleep(Duration::from_millis(600)).await;
        io.write_all(b"four").await.unwrap();
        let mut answer = Vec::new();
        io.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"ruof", "{status}");
        // Its connection is nobody else's.
        let response = client.request(self::request(Method::GET, "/full")).await;
        let body = response.unwrap().into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "0123456789");
        assert_quiet(&client, "after");
    }
}

#[tokio::test]
async fn an_upgraded_connection_outlives_its_client() {
    for version in [Version::Http1, Version::Http2] {
        let client = client(version).await;
        let connect = Request::connect("db.shop:5432")
            .body(Body::empty())
            .unwrap();
        let response = client.request(connect).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_quiet(&client, "a tunnel");
        drop(client);
        let mut io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        io.write_all(b"four").await.unwrap();
        let mut answer = Vec::new();
        io.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"ruof", "{version:?}");
    }
}
