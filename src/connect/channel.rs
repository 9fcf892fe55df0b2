use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::{Frame, SizeHint};
use tonic::transport::{Channel, Endpoint as Transport};
use tower_service::Service;

use super::outgoing::{Link, Outgoing, Until};
use super::sort::sort_channel;
use crate::body::Body;
use crate::core::sync::{Mutex, lock};
use crate::endpoint::{Connect, Endpoint};
use crate::verdict::{Sent, TransportError, TransportFailure};

/// Makes [`TonicLeaf`]s: one of tonic's own channels for each endpoint, for what only they can do.
///
/// Each is made with a connect timeout of 1 s and a keep-alive on open streams (10 s, 3 s to answer), so that a dead peer is
/// noticed, and at most 1000 calls that wait for their response head; [`with`](Self::with) changes that and everything else that tonic has settings for. It connects when it is
/// first used, and again whenever it was closed. What fails is sorted as by an [`HttpLeaf`](super::HttpLeaf), though with
/// less certainty: a channel does not tell whether a request that broke had left.
///
/// A channel writes an authority of its own over each request's. It is the [`origin`](Self::origin), or else the
/// endpoint's server name, or its address. Routes see the request's.
///
/// ```no_run
/// use tower_mesh::Client;
/// use tower_mesh::connect::TonicConnector;
/// use tower_mesh::policy::ClientPolicy;
///
/// let connector = TonicConnector::new().with(|endpoint| endpoint.tcp_nodelay(true));
/// let client = Client::builder(ClientPolicy::grpc().build()?)
///     .endpoints(["10.0.0.7:50051", "10.0.0.8:50051"])
///     .build(connector)?;
/// # Ok::<(), tower_mesh::BoxError>(())
/// ```
#[derive(Clone, Default)]
pub struct TonicConnector {
    origin: Option<Uri>,
    settings: Option<Arc<Configure>>,
    channel: Option<Arc<Make>>,
}

type Configure = dyn Fn(Transport) -> Transport + Send + Sync;
type Make = dyn Fn(&Transport) -> Channel + Send + Sync;

/// A handle on tonic's channel to one endpoint; its clones share it.
pub struct TonicLeaf {
    shared: Arc<Shared>,
    // The clone that was readied.
    channel: Option<Channel>,
}

/// The future of a [`TonicLeaf`].
#[must_use = "futures do nothing unless polled"]
pub struct TonicCall(Pin<Box<dyn Future<Output = TonicResult> + Send>>);

type TonicResult = Result<Response<TonicBody>, TransportError>;

/// The body of a [`TonicLeaf`]'s response. Dropped before its end, it ends the request, too.
#[derive(Debug)]
pub struct TonicBody {
    body: tonic::body::Body,
    until: Option<Until>,
}

struct Shared {
    endpoint: Endpoint,
    // None where the address cannot be written as a URI.
    transport: Option<Transport>,
    make: Option<Arc<Make>>,
    // Made when it is first used, within a runtime; replaced when its runtime is gone.
    channel: Mutex<Option<Channel>>,
}

/// The endpoint's address is no URI, so that no channel can be made to it.
#[derive(Debug, thiserror::Error)]
#[error("{0} cannot be written as a URI: give an address without a zone")]
struct NoUri(Endpoint);

/// A channel has one connection. Offered several thousand calls at the same moment, it breaks and fails most of them; the
/// line in front of it holds the rest instead.
const AT_ONCE: usize = 1000;

/// The time by which tonic's own clock for `grpc-timeout` may run ahead of the client's.
const GRACE: Duration = Duration::from_millis(5);

// === impl TonicConnector ===

impl TonicConnector {
    /// With the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The scheme and authority of every request: `http://payments.shop:50051`. Default: `http` and the endpoint's server name,
    /// or its address.
    #[must_use]
    pub fn origin(mut self, origin: Uri) -> Self {
        self.origin = Some(origin);
        self
    }

    /// With tonic's settings, its TLS among them.
    #[must_use]
    pub fn with(
        mut self,
        settings: impl Fn(Transport) -> Transport + Send + Sync + 'static,
    ) -> Self {
        self.settings = Some(Arc::new(settings));
        self
    }

    /// With another way to make a channel, such as
    /// [`connect_with_connector_lazy`](Transport::connect_with_connector_lazy) for a transport of your own. It is called
    /// within a runtime, and must not wait. Default: [`connect_lazy`](Transport::connect_lazy).
    #[must_use]
    pub fn with_channel(
        mut self,
        channel: impl Fn(&Transport) -> Channel + Send + Sync + 'static,
    ) -> Self {
        self.channel = Some(Arc::new(channel));
        self
    }

    fn transport(&self, endpoint: &Endpoint) -> Option<Transport> {
        let uri = |authority: &str| -> Option<Uri> {
            let uri = Uri::builder().scheme("http").authority(authority);
            uri.path_and_query("/").build().ok()
        };
        let mut transport = Channel::builder(uri(&endpoint.address().to_string())?)
            .connect_timeout(Duration::from_secs(1))
            .concurrency_limit(AT_ONCE)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(3));
        let named = || uri(endpoint.server_name()?);
        if let Some(origin) = self.origin.clone().or_else(named) {
            transport = transport.origin(origin);
        }
        Some(match &self.settings {
            Some(settings) => settings(transport),
            None => transport,
        })
    }
}

impl Connect for TonicConnector {
    type ResponseBody = TonicBody;
    type Leaf = TonicLeaf;

    fn connect(&self, endpoint: &Endpoint) -> TonicLeaf {
        TonicLeaf {
            shared: Arc::new(Shared {
                endpoint: endpoint.clone(),
                transport: self.transport(endpoint),
                make: self.channel.clone(),
                channel: Mutex::new(None),
            }),
            channel: None,
        }
    }
}

impl fmt::Debug for TonicConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TonicConnector")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    fn channel(&self) -> Result<Channel, TransportError> {
        let mut channel = lock(&self.channel);
        if let Some(channel) = &*channel {
            return Ok(channel.clone());
        }
        let made = self.make()?;
        Ok(channel.insert(made).clone())
    }

    /// Its task is gone, with the runtime that carried it. Several may find that out at once; one channel too many costs
    /// one connection, until the last of those who have it is done.
    fn renew(&self) -> Result<Channel, TransportError> {
        let made = self.make()?;
        let old = lock(&self.channel).replace(made.clone());
        // Dropped without the lock.
        drop(old);
        Ok(made)
    }

    fn make(&self) -> Result<Channel, TransportError> {
        let Some(transport) = &self.transport else {
            let (connect, sent) = (TransportFailure::Connect, Sent::NotSent);
            let no_uri = NoUri(self.endpoint.clone());
            return Err(TransportError::new(connect, sent, no_uri));
        };
        Ok(match &self.make {
            Some(make) => make(transport),
            None => transport.connect_lazy(),
        })
    }
}

// === impl TonicLeaf ===

impl Clone for TonicLeaf {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            channel: None,
        }
    }
}

impl Service<Request<Body>> for TonicLeaf {
    type Response = Response<TonicBody>;
    type Error = TransportError;
    type Future = TonicCall;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        let channel = match &mut self.channel {
            Some(channel) => channel,
            none => none.insert(self.shared.channel()?),
        };
        if ready!(channel.poll_ready(cx)).is_ok() {
            return Poll::Ready(Ok(()));
        }
        let channel = self.channel.insert(self.shared.renew()?);
        channel
            .poll_ready(cx)
            .map_err(|error| sort_channel(error, None))
    }

    fn call(&mut self, request: Request<Body>) -> TonicCall {
        let request = request.map(Outgoing::new);
        let link = request.body().link();
        let request = request.map(tonic::body::Body::new);
        // Used as it was readied.
        let calling = self.channel.take().map(|mut channel| channel.call(request));
        TonicCall(Box::pin(async move {
            // Dropped before there is a response, too. A channel carries nothing but gRPC.
            let until = link.clone().map(|link| link.until(true));
            let Some(calling) = calling else {
                let (broken, sent) = (TransportFailure::Broken, Sent::NotSent);
                return Err(TransportError::new(broken, sent, NotReady));
            };
            match calling.await {
                Ok(response) => Ok(response.map(|body| TonicBody { body, until })),
                Err(error) => Err(expired_or_sorted(error, link).await),
            }
        }))
    }
}

async fn expired_or_sorted(
    error: tonic::transport::Error,
    link: Option<Arc<Link>>,
) -> TransportError {
    let error = sort_channel(error, link.as_deref());
    if error.failure() == TransportFailure::Timeout {
        // Whoever wrote the deadline into the request tells of it first, in its own words.
        tokio::time::sleep(GRACE).await;
    }
    error
}

#[derive(Debug, thiserror::Error)]
#[error("the leaf was called before it was ready")]
struct NotReady;

impl fmt::Debug for TonicLeaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TonicLeaf")
            .field("endpoint", &self.shared.endpoint)
            .finish_non_exhaustive()
    }
}

// === impl TonicBody ===

impl http_body::Body for TonicBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.until = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

// === impl TonicCall ===

impl Future for TonicCall {
    type Output = TonicResult;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TonicResult> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for TonicCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TonicCall").finish_non_exhaustive()
    }
}
