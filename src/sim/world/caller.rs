//! What requests go through: the client, or a stack of the user's own.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body as HttpBody;
use tokio::sync::watch;
use tower_service::Service;

use super::tasks::Exchange;
use crate::body::Body;
use crate::client::Client;
use crate::core::BoxError;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::sim::address::station_at;
use crate::sim::record::Outcome;
use crate::sim::stage::{Leaf, Stage};
use crate::verdict::TransportError;

/// One client of the world.
pub(super) trait Caller {
    fn exchange(&self, request: Request<Body>) -> Exchange;

    /// What its retry budgets hold, in thousandths of an attempt.
    fn budget_milli(&self) -> Option<u64> {
        None
    }
}

/// What a stack of one's own is built over, once for each client: the simulated endpoints, and chance.
///
/// See [`World::stack`](super::World::stack).
#[derive(Clone)]
pub struct Site {
    pub(super) client: usize,
    pub(super) seed: u64,
    pub(super) members: watch::Receiver<Vec<Endpoint>>,
    pub(super) stage: Arc<Stage>,
}

pub(super) struct Stack<S>(pub(super) S);

// === impl Site ===

impl Site {
    /// Which client, from zero.
    pub fn client(&self) -> usize {
        self.client
    }

    /// This client's own seed: it depends on the world's and on the client's number only.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The endpoints that discovery knows, now and as they join and leave.
    pub fn endpoints(&self) -> watch::Receiver<Vec<Endpoint>> {
        self.members.clone()
    }

    /// The service of an endpoint. Of an address that is no endpoint's, it refuses every request.
    pub fn leaf(&self, endpoint: &Endpoint) -> Leaf {
        Leaf {
            station: station_at(&endpoint.address()),
            client: self.client,
            stage: Arc::clone(&self.stage),
        }
    }
}

// === impl Client ===

impl Caller for Client {
    fn exchange(&self, request: Request<Body>) -> Exchange {
        let answer = self.request(request);
        Box::pin(async move {
            match answer.await {
                Ok(response) => read(response).await,
                Err(error) => Outcome::Error(error.kind().name().into()),
            }
        })
    }

    fn budget_milli(&self) -> Option<u64> {
        let budgets = self.snapshot().budgets;
        (!budgets.is_empty()).then(|| budgets.iter().map(|budget| budget.balance_milli).sum())
    }
}

// === impl Stack ===

impl<S, B> Caller for Stack<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>> + Clone + 'static,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + 'static,
{
    fn exchange(&self, request: Request<Body>) -> Exchange {
        let mut service = self.0.clone();
        Box::pin(async move {
            let ready = std::future::poll_fn(|cx| service.poll_ready(cx)).await;
            let answer = match ready {
                Ok(()) => service.call(request).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(response) => read(response).await,
                Err(error) => Outcome::Error(name(&*error.into())),
            }
        })
    }
}

/// Reads a response to its end, and says whether its caller has what it asked for.
async fn read<B: HttpBody>(response: Response<B>) -> Outcome {
    let (head, body) = response.into_parts();
    let mut body = std::pin::pin!(body);
    let mut grpc = grpc_status(&head.headers);
    while !body.is_end_stream() {
        match std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            None => break,
            Some(Err(_)) => return Outcome::Error("body".into()),
            Some(Ok(frame)) => grpc = frame.trailers_ref().and_then(grpc_status).or(grpc),
        }
    }
    let is_grpc = head
        .headers
        .get("content-type")
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    match (head.status.as_u16(), grpc) {
        (status @ 400.., _) => Outcome::Error(format!("status {status}").into()),
        (_, None) if is_grpc => Outcome::Error("no trailers".into()),
        (_, None | Some(0)) => Outcome::Success,
        (_, Some(code)) => Outcome::Error(format!("grpc status {code}").into()),
    }
}

// One that cannot be read counts as `UNKNOWN`.
fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    let status = headers.get("grpc-status")?;
    Some(
        status
            .to_str()
            .ok()
            .and_then(|s| s.parse().ok())
            .unwrap_or(2),
    )
}

/// The longest words that an error is counted under.
const MAX_NAME: usize = 80;

// By a name that is the same for errors of one kind.
fn name(error: &(dyn std::error::Error + 'static)) -> Cow<'static, str> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<Error>() {
            return error.kind().name().into();
        }
        if let Some(error) = error.downcast_ref::<TransportError>() {
            return error.to_string().into();
        }
        next = error.source();
    }
    error
        .to_string()
        .chars()
        .take(MAX_NAME)
        .collect::<String>()
        .into()
}
