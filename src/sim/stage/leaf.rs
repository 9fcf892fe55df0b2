use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;
use tower_service::Service;

use super::{Key, Stage};
use crate::body::Body;
use crate::core::time::nanos;
use crate::sim::server::End;
use crate::verdict::{Sent, TransportError, TransportFailure};

/// A simulated endpoint as a tower service: what a connection to it would be.
///
/// Always ready. Answers when and as its script says, in virtual time.
#[derive(Clone)]
pub struct Leaf {
    pub(crate) stage: Arc<Stage>,
    pub(crate) client: usize,
    /// None for an address that is no endpoint's.
    pub(crate) station: Option<usize>,
}

/// A request on its way to a simulated endpoint and back.
#[must_use = "futures do nothing unless polled"]
pub struct Answering {
    stage: Arc<Stage>,
    key: Option<Key>,
    grpc: bool,
}

/// The body of a simulated endpoint's answer: empty, or for gRPC one empty message and the trailers.
#[derive(Debug)]
pub struct ServedBody(Rest);

#[derive(Debug)]
enum Rest {
    Nothing,
    Message { then: Option<HeaderMap> },
    Trailers(HeaderMap),
    Broken,
}

// === impl Leaf ===

impl Service<Request<Body>> for Leaf {
    type Response = Response<ServedBody>;
    type Error = TransportError;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answering {
        let grpc = request
            .headers()
            .get("content-type")
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        let now = nanos(Instant::now().saturating_duration_since(self.stage.start));
        let arrive = |station| self.stage.lock().arrive(now, self.client, station);
        Answering {
            stage: Arc::clone(&self.stage),
            key: self.station.and_then(arrive),
            grpc,
        }
    }
}

// === impl Answering ===

impl Future for Answering {
    type Output = Result<Response<ServedBody>, TransportError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(key) = self.key else {
            let why = "there is no simulated endpoint at this address";
            let (failure, sent) = (TransportFailure::Connect, Sent::NotSent);
            return Poll::Ready(Err(TransportError::new(failure, sent, why)));
        };
        let end = {
            let mut stage = self.stage.lock();
            let Some(exchange) = stage.exchanges.get_mut(key) else {
                // Polled after it was ready.
                return Poll::Pending;
            };
            let Some(end) = exchange.ended else {
                match &mut exchange.waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                return Poll::Pending;
            };
            stage.exchanges.remove(key);
            end
        };
        self.key = None;
        Poll::Ready(answer(end, self.grpc))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            // Dropped when the lock is not held: it has a waker in it, which is others' code.
            let _exchange = self.stage.lock().exchanges.remove(key);
        }
    }
}

fn answer(end: End, grpc: bool) -> Result<Response<ServedBody>, TransportError> {
    let error = |failure, sent, why: &str| Err(TransportError::new(failure, sent, why));
    let rest = match end {
        End::Refused | End::Never { .. } => {
            return error(
                TransportFailure::Connect,
                Sent::NotSent,
                "connection refused",
            );
        }
        End::Reset => {
            return error(
                TransportFailure::Broken,
                Sent::Unknown,
                "connection reset by peer",
            );
        }
        End::Truncated if grpc => Rest::Message { then: None },
        End::Truncated => Rest::Broken,
        End::Success if grpc => Rest::Message {
            then: Some(grpc_status(0)),
        },
        End::Success | End::Failure { .. } => Rest::Nothing,
    };
    let mut response = Response::new(ServedBody(rest));
    if grpc {
        *response.version_mut() = Version::HTTP_2;
        let kind = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert("content-type", kind);
    }
    if let End::Failure {
        status,
        grpc_status: code,
        retry_after,
    } = end
    {
        if grpc {
            // Trailers only.
            response.headers_mut().extend(grpc_status(code));
        } else {
            *response.status_mut() =
                StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        }
        if let Some(wait) = retry_after {
            let headers = response.headers_mut();
            // Whole seconds, and not one too early.
            let seconds = wait
                .as_secs()
                .saturating_add(u64::from(wait.subsec_nanos() > 0));
            headers.insert("retry-after", seconds.into());
            if grpc {
                let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                headers.insert("grpc-retry-pushback-ms", millis.into());
            }
        }
    }
    Ok(response)
}

fn grpc_status(code: u16) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(1);
    headers.insert("grpc-status", code.into());
    headers
}

// === impl ServedBody ===

impl HttpBody for ServedBody {
    type Data = Bytes;
    type Error = TransportError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransportError>>> {
        Poll::Ready(match std::mem::replace(&mut self.0, Rest::Nothing) {
            Rest::Nothing => None,
            Rest::Message { then } => {
                if let Some(trailers) = then {
                    self.0 = Rest::Trailers(trailers);
                }
                // Not compressed, no bytes.
                Some(Ok(Frame::data(Bytes::from_static(&[0; 5]))))
            }
            Rest::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
            Rest::Broken => Some(Err(TransportError::new(
                TransportFailure::Broken,
                Sent::Unknown,
                "the connection closed in the middle of the body",
            ))),
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Rest::Nothing)
    }

    fn size_hint(&self) -> SizeHint {
        match self.0 {
            Rest::Nothing | Rest::Trailers(_) => SizeHint::with_exact(0),
            Rest::Message { .. } => SizeHint::with_exact(5),
            Rest::Broken => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(mut body: ServedBody) -> (usize, Option<HeaderMap>, bool) {
        let (mut bytes, mut trailers) = (0, None);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        loop {
            let (hint, ended) = (body.size_hint(), body.is_end_stream());
            match Pin::new(&mut body).poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    assert!(!ended);
                    if let Some(data) = frame.data_ref() {
                        assert_eq!(hint.exact(), Some(data.len() as u64));
                        bytes += data.len();
                    }
                    trailers = frame.into_trailers().ok().or(trailers);
                }
                Poll::Ready(Some(Err(_))) => return (bytes, trailers, true),
                Poll::Ready(None) => {
                    assert!(body.is_end_stream());
                    return (bytes, trailers, false);
                }
                Poll::Pending => panic!("it is all there"),
            }
        }
    }

    #[test]
    fn answers_are_what_their_protocol_says() {
        let failure = End::Failure {
            status: 429,
            grpc_status: 8,
            retry_after: Some(std::time::Duration::from_millis(1500)),
        };
        let head = |end, grpc| answer(end, grpc).unwrap().into_parts();
        let (parts, body) = head(failure, false);
        assert_eq!(
            (parts.status.as_u16(), &parts.headers["retry-after"]),
            (429, &"2".parse().unwrap())
        );
        assert_eq!(frames(body), (0, None, false));
        let (parts, body) = head(failure, true);
        assert_eq!(
            (parts.status.as_u16(), parts.version),
            (200, Version::HTTP_2)
        );
        assert_eq!(parts.headers["grpc-status"], "8");
        assert_eq!(parts.headers["grpc-retry-pushback-ms"], "1500");
        assert_eq!(frames(body), (0, None, false));
        let (parts, body) = head(End::Success, true);
        assert!(!parts.headers.contains_key("grpc-status"));
        assert_eq!(frames(body), (5, Some(grpc_status(0)), false));
        assert_eq!(frames(head(End::Truncated, true).1), (5, None, false));
        assert_eq!(frames(head(End::Truncated, false).1), (0, None, true));
        assert_eq!(frames(head(End::Success, false).1), (0, None, false));
        let refused = answer(End::Refused, true).unwrap_err();
        assert_eq!(
            (refused.failure(), refused.sent()),
            (TransportFailure::Connect, Sent::NotSent)
        );
        let reset = answer(End::Reset, true).unwrap_err();
        assert_eq!(
            (reset.failure(), reset.sent()),
            (TransportFailure::Broken, Sent::Unknown)
        );
    }
}
