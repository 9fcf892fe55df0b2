use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Method, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::sync::oneshot;
use tower_service::Service;

use super::body::HttpBody;
use super::lease::{Lease, Stream};
use super::outgoing::{Link, Outgoing};
use super::pool::{Connections, Pool};
use super::request::{Unsendable, for_http1, for_http2};
use super::sort::{DialError, sort};
use crate::body::Body;
use crate::verdict::grpc::is_grpc;
use crate::verdict::{Sent, TransportError, TransportFailure};

/// A handle on the connections to one endpoint; its clones share them.
///
/// Nothing is held before the call's future is polled, inside a tokio runtime. It is ready at once, but for one case:
/// while another request finds out by a dial whether an endpoint is there whose last dial failed, or whose one HTTP/2
/// connection is gone. It is ready then when that dial is over, and fails with it: so that few requests go to an endpoint
/// that has left, where a balancer has another. Dropping the future
/// takes the request out of the line for a connection, resets its HTTP/2 stream, or closes the HTTP/1.1 connection that
/// it is on; the same goes for the response body. A dial goes on without the request that started it, for the next one.
///
/// When the last clone and the last response body are dropped, the connections are closed.
pub struct HttpLeaf {
    pool: Arc<Pool>,
    // Another request's dial, which is waited for.
    trial: Option<oneshot::Receiver<DialError>>,
}

/// The future of an [`HttpLeaf`].
#[must_use = "futures do nothing unless polled"]
pub struct HttpCall(Pin<Box<dyn Future<Output = HttpResult> + Send>>);

type HttpResult = Result<Response<HttpBody>, TransportError>;

/// How often a connection may give a request back before it is reported: from the second time on, only a new
/// connection will do.
const HANDED_BACK: u32 = 2;

enum Sending {
    Answered(Response<(Incoming, Option<Stream>)>),
    HandedBack(HandedBack),
    Failed(TransportError),
}

/// Not one byte was sent, because connection `number` was closed before.
struct HandedBack {
    request: Box<Request<Outgoing>>,
    error: hyper::Error,
    number: u64,
    fresh: bool,
}

// === impl HttpLeaf ===

impl HttpLeaf {
    pub(super) fn new(pool: Arc<Pool>) -> Self {
        Self { pool, trial: None }
    }

    /// How many connections there are now.
    pub fn connections(&self) -> Connections {
        self.pool.connections()
    }

    // The request in a box: the states of these futures have a place for it each, which made them three kilobytes.
    async fn send(self, mut request: Box<Request<Outgoing>>) -> HttpResult {
        let uri = request.uri().clone();
        let link = request.body().link();
        // Dropped before there is a response, too.
        let mut until = link.clone().map(|link| {
            let duplex = is_grpc(request.headers());
            link.until(duplex)
        });
        let mut newer_than = None;
        let mut handed_back = 0;
        loop {
            let lease = self.pool.acquire(newer_than).await?;
            match self.send_on(lease, request, &uri, link.as_deref()).await {
                Sending::Answered(response) => {
                    return Ok(
                        response.map(|(body, stream)| HttpBody::new(body, stream, until.take()))
                    );
                }
                Sending::Failed(error) => return Err(error),
                Sending::HandedBack(back) => {
                    if back.fresh || handed_back == HANDED_BACK {
                        let (broken, sent) = (TransportFailure::Broken, Sent::NotSent);
                        return Err(TransportError::new(broken, sent, back.error));
                    }
                    handed_back += 1;
                    let any_newer = handed_back < HANDED_BACK;
                    newer_than = Some(if any_newer { back.number } else { u64::MAX });
                    request = back.request;
                }
            }
        }
    }

    async fn send_on(
        &self,
        lease: Lease,
        mut request: Box<Request<Outgoing>>,
        uri: &Uri,
        link: Option<&Link>,
    ) -> Sending {
        // A request that was handed back may have had the other version's form.
        request.uri_mut().clone_from(uri);
        match lease {
            Lease::Http1(mut lease) => {
                if let Err(unsendable) = for_http1(&mut request, &self.pool.fallback) {
                    return Sending::unsendable(unsendable);
                }
                let number = lease.number();
                let Some(sent) = lease.send(*request) else {
                    return Sending::unsendable(Unsendable::NoHost);
                };
                match sent.await {
                    Ok(response) => {
                        lease.answered();
                        Sending::Answered(response.map(|body| (body, None)))
                    }
                    Err(error) => Sending::failed(error, number, lease.fresh, link),
                }
            }
            Lease::Http2(mut lease) => {
                let card = lease.http2.card;
                if let Err(unsendable) =
                    for_http2(&mut request, &self.pool.fallback, card.encrypted)
                {
                    return Sending::unsendable(unsendable);
                }
                match lease.http2.sender.try_send_request(*request).await {
                    Ok(response) => {
                        let stream = lease.stream;
                        Sending::Answered(response.map(|body| (body, Some(stream))))
                    }
                    Err(error) => Sending::failed(error, card.number, lease.fresh, link),
                }
            }
        }
    }
}

impl Clone for HttpLeaf {
    fn clone(&self) -> Self {
        Self {
            pool: Arc::clone(&self.pool),
            trial: None,
        }
    }
}

impl Service<Request<Body>> for HttpLeaf {
    type Response = Response<HttpBody>;
    type Error = TransportError;
    type Future = HttpCall;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        if self.trial.is_none() {
            self.trial = self.pool.look_on();
        }
        let Some(trial) = &mut self.trial else {
            return Poll::Ready(Ok(()));
        };
        let told = ready!(Pin::new(trial).poll(cx));
        self.trial = None;
        // Dropped, it has landed.
        Poll::Ready(told.map_or(Ok(()), |error| Err(error.into())))
    }

    fn call(&mut self, request: Request<Body>) -> HttpCall {
        let request = match *request.method() {
            // A stream that turns out to be empty is not announced.
            Method::GET | Method::HEAD => request.map(Body::at_hand),
            _ => request,
        };
        let request = Box::new(request.map(Outgoing::new));
        HttpCall(Box::pin(self.clone().send(request)))
    }
}

impl fmt::Debug for HttpLeaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpLeaf")
            .field("endpoint", &self.pool.endpoint)
            .field("connections", &self.connections())
            .finish()
    }
}

// === impl HttpCall ===

impl Future for HttpCall {
    type Output = HttpResult;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<HttpResult> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for HttpCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCall").finish_non_exhaustive()
    }
}

// === impl Sending ===

impl Sending {
    fn unsendable(why: Unsendable) -> Self {
        let (request, sent) = (TransportFailure::Request, Sent::NotSent);
        Self::Failed(TransportError::new(request, sent, why))
    }

    fn failed(
        mut error: TrySendError<Request<Outgoing>>,
        number: u64,
        fresh: bool,
        link: Option<&Link>,
    ) -> Self {
        match error.take_message() {
            Some(request) => Self::HandedBack(HandedBack {
                request: Box::new(request),
                error: error.into_error(),
                number,
                fresh,
            }),
            None => Self::Failed(sort(error.into_error(), link)),
        }
    }
}
