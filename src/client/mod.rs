//! The client: a policy compiled to a plan, and the future that walks it.
//!
//! A [`Client`] is one target's: it routes, bounds in time, retries, balances and ejects as its policy says, over leaves of
//! any kind. One is made by a [`ClientBuilder`], from a policy that stays or one that is
//! [watched](PolicySource). What a single request wants otherwise goes along as [`RequestOptions`]; who answered comes back
//! as [`Served`].
//!
//! ```
//! use tokio::sync::watch;
//! use tower_mesh::client::Served;
//! use tower_mesh::policy::{ClientPolicy, Retry};
//! use tower_mesh::{Body, BoxError, Client, RequestOptions};
//! # use http::{Request, Response};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! # let leaf = |_: &tower_mesh::Endpoint| tower::service_fn(|_: Request<Body>| async {
//! #     Ok::<_, BoxError>(Response::builder().status(503).body(Body::empty())?)
//! # });
//!
//! let (policies, watched) = watch::channel(ClientPolicy::http().build()?);
//! let client = Client::builder(watched).endpoints(["10.0.0.7:8080"]).build(leaf)?; // it answers 503
//! # client.ready(std::time::Duration::from_secs(1)).await?;
//! # tokio::task::yield_now().await;
//!
//! let request = || Request::get("http://payments.shop/quote");
//! let response = client.request(request().body(Body::empty())?).await?;
//! assert_eq!(response.extensions().get::<Served>().unwrap().attempts, 1);
//!
//! // Another policy, as soon as the client's task has seen it. What was learned stays.
//! policies.send(ClientPolicy::http().retry(Retry::on(500..=599)).build()?)?;
//! # tokio::task::yield_now().await;
//! let response = client.request(request().body(Body::empty())?).await?;
//! assert_eq!(response.extensions().get::<Served>().unwrap().attempts, 2);
//!
//! let once = request().extension(RequestOptions::new().no_retries());
//! let response = client.request(once.body(Body::empty())?).await?;
//! assert_eq!(response.extensions().get::<Served>().unwrap().attempts, 1);
//! # Ok(())
//! # }
//! ```

mod attempt;
mod backends;
mod breakers;
mod builder;
mod future;
mod origin;
mod overrides;
mod plan;
mod ready;
mod respond;
#[cfg(feature = "tonic")]
mod status;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;
use tower_service::Service;

pub use self::breakers::{ClientBreakers, EndpointBreaker};
pub use self::builder::{BuildError, ClientBuilder, PolicySource};
pub use self::future::ResponseFuture;
pub use self::ready::NotReady;
pub use self::respond::{AnswerErrors, AnswerErrorsLayer, AnswerFuture};
pub use crate::options::{RequestOptions, Served};

use self::backends::Backends;
use self::origin::Origin;
#[cfg(any(test, fuzzing))]
pub(crate) use self::overrides::drive as fuzz_overrides;
use self::plan::{Budgets, Paces, Plan};
use crate::body::Body;
use crate::core::BoxError;
use crate::core::driver::Driver;
use crate::core::in_flight::InFlight;
use crate::core::observe::Decision;
use crate::core::sync::{AtomicBool, AtomicU64, Ordering};
use crate::endpoint::ErasedConnect;
use crate::error::Error;
use crate::policy::ClientPolicy;
use crate::telemetry::{BackendSnapshot, Snapshot};

/// A client of one target, made from a policy.
///
/// It routes, bounds in time, retries within a budget, spreads over backends, balances over endpoints and ejects those
/// that fail, all as its policy says. Clones share everything and cost one reference count. It is always ready; requests
/// that find no endpoint wait inside their future, in a bounded line.
///
/// It can be built anywhere, and must be called within a tokio runtime with time enabled, for `build_http` and `build_grpc` with
/// I/O, too. Elsewhere its future panics, as tokio's own timers and sockets do. Real sockets and paused time do not go together:
/// time jumps to the next timeout before anything has arrived. Bring leaves of your own then, or use the simulator.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use tower_mesh::policy::{ClientPolicy, Retry};
/// use tower_mesh::{Body, BoxError, Client, Endpoint};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), BoxError> {
/// // Any tower service can be the leaf; with feature `hyper`, `.build_http()` makes real connections.
/// let connect = |endpoint: &Endpoint| {
///     let name = endpoint.to_string();
///     tower::service_fn(move |_: Request<Body>| {
///         let response = Response::new(Full::new(Bytes::from(name.clone())));
///         async move { Ok::<_, BoxError>(response) }
///     })
/// };
/// let policy = ClientPolicy::http().retry(Retry::on(502..=504)).build()?;
/// let client = Client::builder(policy)
///     .endpoints(["10.0.0.7:8080", "10.0.0.8:8080"])
///     .build(connect)?;
///
/// let request = Request::get("http://payments.shop:8080/quote").body(Body::empty())?;
/// let response = client.request(request).await?;
/// assert!(response.status().is_success());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// What the clones of a client share.
pub(crate) struct Shared {
    pub(crate) backends: Backends,
    budgets: Budgets,
    paces: Paces,
    connector: Box<dyn ErasedConnect>,
    in_flight: Arc<InFlight>,
    plan: ArcSwapOption<Plan>,
    plan_changed: Arc<Notify>,
    policy_driver: Option<Driver>,
    // Whether the policy's source has ended: what is in force stays, and nothing else comes.
    policy_ended: AtomicBool,
    requests: AtomicU64,
    // What requests are for that name no host, if the builder was told; or else the policy says it.
    origin: Option<Origin>,
    counts: Counts,
    // Whether gRPC requests are answered with a status instead of an error.
    answer_grpc_errors: bool,
}

/// What happened so often.
#[derive(Default)]
struct Counts {
    /// Requests that could not be sent again because their body was larger than the policy keeps.
    bodies_too_large: Arc<AtomicU64>,
    /// Codes in trailers that the policy would have retried, had they come while the response was held back.
    trailers_too_late: Arc<AtomicU64>,
}

// === impl Client ===

impl Client {
    /// A client that does what `policy` says: a [`ClientPolicy`], or a `tokio::sync::watch` of them.
    pub fn builder(policy: impl Into<PolicySource>) -> ClientBuilder {
        ClientBuilder::new(policy.into())
    }

    /// Sends a request, and waits for the head of its response.
    ///
    /// The same as calling the service, without `&mut` and without readiness.
    pub fn request<B>(&self, request: http::Request<B>) -> ResponseFuture
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let number = self.shared.requests.fetch_add(1, Ordering::Relaxed);
        let request = request.map(Body::new);
        ResponseFuture::new(Arc::clone(&self.shared), number, request, Instant::now())
    }

    /// Refuses new requests from now on, and waits until those in flight have ended, their response bodies included. A
    /// connection that was upgraded is its caller's own, and is not waited for.
    pub async fn close(&self) {
        self.shared.in_flight.close().await;
    }

    /// The breakers of its endpoints: to look at, to take in hand, and to subscribe to.
    pub fn breakers(&self) -> ClientBreakers {
        ClientBreakers::new(Arc::clone(&self.shared))
    }

    /// What is going on right now. Takes a short lock for each endpoint.
    pub fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        let plan = self.shared.plan.load_full();
        let backends = plan.iter().flat_map(|plan| plan.backends());
        let budgets = plan.iter().flat_map(|plan| plan.budgets());
        let counts = &self.shared.counts;
        Snapshot {
            in_flight: self.shared.in_flight.count(),
            backends: backends
                .map(|backend| BackendSnapshot::take(&backend.balance, now))
                .collect(),
            budgets: budgets.map(|budget| budget.snapshot(now)).collect(),
            bodies_too_large: counts.bodies_too_large.load(Ordering::Relaxed),
            trailers_too_late: counts.trailers_too_late.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("in_flight", &self.shared.in_flight.count())
            .finish_non_exhaustive()
    }
}

impl<B> Service<http::Request<B>> for Client
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = http::Response<Body>;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> ResponseFuture {
        self.request(request)
    }
}

impl<B> Service<http::Request<B>> for &Client
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = http::Response<Body>;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> ResponseFuture {
        self.request(request)
    }
}

// === impl Shared ===

impl Shared {
    /// Compiles a policy and puts it in force. Requests that have begun keep the plan they began with.
    fn swap(&self, policy: ClientPolicy) {
        let now = Instant::now();
        let (budgets, paces) = (&self.budgets, &self.paces);
        let plan = Plan::compile(Arc::new(policy), &self.backends, budgets, paces, now);
        self.backends.compiled(now);
        let observers = &self.backends.observers;
        if self.plan.swap(Some(Arc::new(plan))).is_some() {
            observers.tell(now, || Decision::Swapped);
        }
        self.plan_changed.notify_waiters();
    }

    /// The policy's source has ended.
    fn end_policy(&self) {
        self.policy_ended.store(true, Ordering::Release);
        self.plan_changed.notify_waiters();
    }

    fn ensure_policy(&self) {
        if let Some(driver) = &self.policy_driver {
            driver.ensure();
        }
    }
}
