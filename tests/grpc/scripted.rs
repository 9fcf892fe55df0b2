//! A server that does what the method's name says, right or wrong, over h2 itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

/// One message of three bytes.
pub const MESSAGE: &[u8] = b"\0\0\0\0\x03abc";

#[derive(Clone)]
pub struct Scripted {
    pub address: SocketAddr,
    /// Streams whose request or response is still held by the server.
    pub open: Arc<AtomicUsize>,
}

struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Scripted {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            open: Arc::default(),
        };
        let open = Arc::clone(&server.open);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, Arc::clone(&open)));
            }
        });
        server
    }
}

/// One connection, whatever it is made of.
pub async fn serve<T: AsyncRead + AsyncWrite + Unpin>(socket: T, open: Arc<AtomicUsize>) {
    let Ok(mut connection) = h2::server::handshake(socket).await else {
        return;
    };
    let close = Arc::new(tokio::sync::Notify::new());
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else { return };
                open.fetch_add(1, Ordering::SeqCst);
                let guard = Open(Arc::clone(&open));
                tokio::spawn(act(request, respond, guard, Arc::clone(&close)));
            }
            // The socket is dropped, with whatever is open.
            () = close.notified() => return,
        }
    }
}

fn head() -> http::response::Builder {
    Response::builder().header("content-type", "application/grpc")
}

fn status(code: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("grpc-status", HeaderValue::from_str(code).unwrap());
    let message = format!("code %C3%A4 {code}");
    headers.insert("grpc-message", HeaderValue::from_str(&message).unwrap());
    headers
}

fn with(mut response: Response<()>, headers: HeaderMap) -> Response<()> {
    response.headers_mut().extend(headers);
    response
}

// `/test.Scripted/what/parameter`.
async fn act(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    _open: Open,
    close: Arc<tokio::sync::Notify>,
) {
    let path = request.uri().path().to_owned();
    let mut parts = path.split('/').skip(2);
    let (what, parameter) = (parts.next().unwrap(), parts.next().unwrap_or(""));
    let mut body = request.into_body();
    if what != "unread" {
        while let Some(Ok(data)) = body.data().await {
            let _ = body.flow_control().release_capacity(data.len());
        }
    }
    let message = || Bytes::from_static(MESSAGE);
    let reset = || Reason::from(parameter.parse::<u32>().unwrap_or(0));
    match what {
        // A status in the head, which does not end the stream.
        "headers" => {
            let head = with(head().body(()).unwrap(), status(parameter));
            let mut stream = respond.send_response(head, false).unwrap();
            let data = if parameter == "0" {
                message()
            } else {
                Bytes::new()
            };
            let _ = stream.send_data(data, true);
        }
        "trailers-only" => {
            let head = with(head().body(()).unwrap(), status(parameter));
            let _ = respond.send_response(head, true);
        }
        "trailers" => {
            let mut stream = respond
                .send_response(head().body(()).unwrap(), false)
                .unwrap();
            let _ = stream.send_data(message(), false);
            let _ = stream.send_trailers(status(parameter));
        }
        "reset" => respond.send_reset(reset()),
        "reset-after-head" | "reset-after-message" => {
            let mut stream = respond
                .send_response(head().body(()).unwrap(), false)
                .unwrap();
            if what == "reset-after-message" {
                let _ = stream.send_data(message(), false);
            }
            // What was sent has to be on its way, or the reset overtakes it.
            let _ = std::future::poll_fn(|cx| {
                stream.reserve_capacity(1);
                stream.poll_capacity(cx)
            })
            .await;
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            stream.send_reset(reset());
        }
        "end-at-head" => {
            let _ = respond.send_response(head().body(()).unwrap(), true);
        }
        "end-at-message" | "end-in-message" => {
            let mut stream = respond
                .send_response(head().body(()).unwrap(), false)
                .unwrap();
            let data = if what == "end-in-message" {
                message().slice(..6)
            } else {
                message()
            };
            let _ = stream.send_data(data, true);
        }
        "trailers-without-status" => {
            let mut stream = respond
                .send_response(head().body(()).unwrap(), false)
                .unwrap();
            let _ = stream.send_data(message(), false);
            let _ = stream.send_trailers(HeaderMap::new());
        }
        "close" => {
            close.notify_one();
            // Dropped, it would reset the stream.
            let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
        }
        "close-after-head" => {
            let mut stream = respond
                .send_response(head().body(()).unwrap(), false)
                .unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            close.notify_one();
            let _ = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
        }
        "page" => {
            let head = Response::builder()
                .status(parameter.parse::<u16>().unwrap())
                .header("content-type", "text/html")
                .body(())
                .unwrap();
            let mut stream = respond.send_response(head, false).unwrap();
            let page = Bytes::from_static(b"<html>out of order</html>");
            let _ = stream.send_data(page, true);
        }
        "hang" => {
            let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
        }
        "hang-after-head" | "hang-after-message" => {
            let mut stream = respond
                .send_response(head().body(()).unwrap(), false)
                .unwrap();
            if what == "hang-after-message" {
                let _ = stream.send_data(message(), false);
            }
            let _ = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
        }
        other => panic!("{other}"),
    }
}
