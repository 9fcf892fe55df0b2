#[cfg(feature = "reload")]
use std::future::poll_fn;
#[cfg(feature = "reload")]
use std::pin::pin;
use std::sync::{Arc, Weak};
#[cfg(feature = "reload")]
use std::task::Poll;

use arc_swap::ArcSwapOption;
use http::Uri;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::backends::{Backends, Sources};
use super::origin::Origin;
use super::plan::{Budgets, Paces};
use super::{Client, Counts, Shared};
use crate::core::draw;
use crate::core::driver::Driver;
use crate::core::in_flight::InFlight;
use crate::core::observe::{Observer, Observers};
use crate::core::sync::{AtomicBool, AtomicU64};
use crate::core::time::Epoch;
use crate::discover::{Endpoints, InvalidEndpoint, Resolve, backend_names};
use crate::endpoint::Connect;
use crate::policy::{BackendDispatcher, ClientPolicy};
#[cfg(feature = "reload")]
use crate::source::kubernetes::reload::FolderPolicy;

/// Makes a [`Client`]; see [`Client::builder`].
///
/// ```
/// use tower_mesh::client::BuildError;
/// use tower_mesh::policy::ClientPolicy;
/// # use http::{Request, Response};
/// # use tower_mesh::{Body, BoxError, Client};
/// # fn main() -> Result<(), BoxError> {
/// # let leaf = |_: &tower_mesh::Endpoint| tower::service_fn(|_: Request<Body>| async {
/// #     Ok::<_, BoxError>(Response::new(Body::empty()))
/// # });
///
/// let policy = ClientPolicy::http().named("payments.shop:8080").build()?;
/// let builder = || Client::builder(policy.clone());
/// let client = builder()
///     .endpoints_of("payments.shop:8080", ["10.0.0.7:8080", "10.0.0.8:8080"])
///     .seed(7) // the same decisions every time, in a test
///     .build(leaf)?;
/// assert_eq!(client.snapshot().endpoints().count(), 2);
///
/// // What is missing is said when it is built.
/// let error = builder().build(leaf).unwrap_err();
/// assert!(matches!(error, BuildError::NoEndpoints { .. }), "{error}");
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until it is built"]
pub struct ClientBuilder {
    policy: PolicySource,
    sources: Sources,
    observers: Observers,
    seed: Option<u64>,
    server_name: Option<Arc<str>>,
    zone: Option<Arc<str>>,
    origin: Option<Uri>,
    answer_grpc_errors: bool,
}

/// Where a client's policy comes from: one [`ClientPolicy`], a `tokio::sync::watch` of them, or with the feature `reload` a
/// folder of manifests that may change (`source::kubernetes::reload`).
///
/// A watch may start with none; requests then wait for the first, and are refused at once if its sender is gone
/// ([`ErrorKind::PolicyEnded`](crate::ErrorKind::PolicyEnded)). What was learned about endpoints survives every
/// change, and requests that have begun end with the policy they began with.
#[derive(Clone, Debug)]
pub struct PolicySource(Source);

#[derive(Clone, Debug)]
enum Source {
    Fixed(Box<ClientPolicy>),
    Watch(watch::Receiver<ClientPolicy>),
    WatchOption(watch::Receiver<Option<ClientPolicy>>),
    #[cfg(feature = "reload")]
    Folder(FolderPolicy),
}

/// Why a client cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// An endpoint that is none.
    #[error(transparent)]
    Endpoint(#[from] InvalidEndpoint),
    /// A backend whose endpoints nobody knows.
    #[error(
        "nobody knows the endpoints of backend {backend}: give them with `.endpoints([..])`, or with \
         `.endpoints_of({name:?}, [..])`"
    )]
    NoEndpoints {
        /// The backend.
        backend: String,
        /// A name that `endpoints_of` would find it by.
        name: String,
    },
    /// Endpoints for a backend that the policy does not name.
    #[error("endpoints were given for {name:?}, which is no backend of the policy; its backends are {}", backends.join(", "))]
    UnknownBackend {
        /// The name.
        name: String,
        /// The backends that there are.
        backends: Vec<String>,
    },
    /// A policy whose target is not spoken to in requests and responses.
    #[error(
        "the policy of {parent} says that the target speaks {protocol}, which a client does not carry: connect to it \
         yourself, or give its port an appProtocol"
    )]
    NotCarried {
        /// Whose policy it is.
        parent: String,
        /// What it speaks.
        protocol: &'static str,
    },
    /// An origin without an authority.
    #[error("the origin {uri:?} names no host: write it as in `http://payments.shop:50051`")]
    Origin {
        /// What was given.
        uri: String,
    },
    /// One stream of endpoints for several backends.
    #[error(
        "a stream of endpoints can serve one backend, and the policy has several: give each its own with `endpoints_of`"
    )]
    OneStream,
}

// === impl ClientBuilder ===

impl ClientBuilder {
    pub(super) fn new(policy: PolicySource) -> Self {
        Self {
            policy,
            sources: Sources::default(),
            observers: Observers::default(),
            seed: None,
            server_name: None,
            zone: None,
            origin: None,
            answer_grpc_errors: true,
        }
    }

    /// The endpoints of every backend that none are given for otherwise. See [`Endpoints`] for what can be given.
    pub fn endpoints(mut self, endpoints: impl Into<Endpoints>) -> Self {
        self.sources.default = Some(endpoints.into());
        self
    }

    /// The endpoints of one backend, by any of its [names](crate::discover::backend_names): `web-v1:80`.
    pub fn endpoints_of(
        mut self,
        backend: impl Into<String>,
        endpoints: impl Into<Endpoints>,
    ) -> Self {
        self.sources.named.insert(backend.into(), endpoints.into());
        self
    }

    /// Asks `resolver` for the endpoints of each backend that none were given for by name.
    pub fn resolver(mut self, resolver: impl Resolve) -> Self {
        self.sources.resolver = Some(Box::new(resolver));
        self
    }

    /// The zone the client is in, such as `eu-1a`: where a backend's load is told to
    /// [prefer it](crate::policy::Load::prefer_zone), requests stay there as far as its endpoints can carry them. Default: not
    /// known.
    pub fn zone(mut self, zone: impl Into<Arc<str>>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// The name that endpoints' certificates must have, for those that have none of their own. Default: the backend's
    /// host, such as `payments.shop.svc.cluster.local`.
    pub fn server_name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// What requests are for that name no host, neither in their URI nor in a `host` header, as generated gRPC clients do not:
    /// `http://payments.shop:50051`. Filled in before they are routed. Default: `http` and the policy's own
    /// [authority](ClientPolicy::authority), if it has one; or else the leaf's choice, which routes do not see.
    pub fn origin(mut self, origin: Uri) -> Self {
        self.origin = Some(origin);
        self
    }

    /// Tells every decision to `observer`. Default: nobody.
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observers = Observers::new(observer);
        self
    }

    /// Returns errors of gRPC requests as errors. By default a gRPC request (`content-type: application/grpc`) is
    /// answered with the status that says the same, as gRPC clients expect; the [`Error`](crate::Error) is in the
    /// response's extensions as an `Arc<Error>`.
    pub fn return_grpc_errors(mut self) -> Self {
        self.answer_grpc_errors = false;
        self
    }

    /// What chance is drawn from. With a seed, paused time and a current-thread runtime the same calls make the same
    /// decisions. Default: another one for each client.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The client, over leaves that `connector` makes.
    ///
    /// # Errors
    /// An endpoint that is none; a backend that nobody knows the endpoints of; a policy of opaque TCP or TLS. (One that
    /// comes later, by a watch, refuses every request with [`ErrorKind::NotCarried`](crate::ErrorKind::NotCarried).)
    pub fn build(self, connector: impl Connect) -> Result<Client, BuildError> {
        let first = self.policy.first();
        self.check(first.as_ref())?;
        let origin = match self.origin {
            Some(uri) => {
                let no_authority = BuildError::Origin {
                    uri: uri.to_string(),
                };
                Some(Origin::from_uri(uri).ok_or(no_authority)?)
            }
            None => None,
        };
        let backends = Backends::new(
            self.seed.unwrap_or_else(draw::entropy),
            Epoch::new(Instant::now()),
            self.observers,
            self.server_name,
            self.zone,
            self.sources,
        );
        let source = self.policy;
        let shared = Arc::new_cyclic(|shared: &Weak<Shared>| Shared {
            backends,
            budgets: Budgets::default(),
            paces: Paces::default(),
            connector: Box::new(connector),
            in_flight: Arc::new(InFlight::default()),
            plan: ArcSwapOption::empty(),
            plan_changed: Arc::new(Notify::new()),
            policy_driver: source.driver(Weak::clone(shared)),
            policy_ended: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            origin,
            counts: Counts::default(),
            answer_grpc_errors: self.answer_grpc_errors,
        });
        if let Some(policy) = first {
            shared.swap(policy);
        }
        Ok(Client { shared })
    }

    /// The client, over HTTP/1.1 and TCP with the default [`Settings`](crate::connect::Settings).
    ///
    /// For HTTP/2, TLS or other settings: [`build`](Self::build) with an
    /// [`HttpConnector`](crate::connect::HttpConnector).
    ///
    /// # Errors
    /// As [`build`](Self::build).
    #[cfg(feature = "hyper")]
    pub fn build_http(self) -> Result<Client, BuildError> {
        self.build(crate::connect::HttpConnector::new())
    }

    /// The client for gRPC, over HTTP/2 and TCP with the default [`Settings`](crate::connect::Settings). Generated tonic
    /// clients run over it unchanged: `PaymentsClient::new(client)`.
    ///
    /// For TLS or other settings: [`build`](Self::build) with an [`HttpConnector`](crate::connect::HttpConnector) of
    /// [`Version::Http2`](crate::connect::Version::Http2). Over tonic's own channels: with a `TonicConnector` (feature
    /// `tonic`).
    ///
    /// # Errors
    /// As [`build`](Self::build).
    #[cfg(feature = "hyper")]
    pub fn build_grpc(self) -> Result<Client, BuildError> {
        use crate::connect::{HttpConnector, Version};
        self.build(HttpConnector::new().with_version(Version::Http2))
    }

    fn check(&self, policy: Option<&ClientPolicy>) -> Result<(), BuildError> {
        let Sources {
            named,
            resolver,
            default,
        } = &self.sources;
        for endpoints in named.values().chain(default) {
            endpoints.check()?;
        }
        let Some(policy) = policy else {
            return Ok(());
        };
        if !policy.protocol.is_http() {
            return Err(BuildError::NotCarried {
                parent: policy.parent.to_string(),
                protocol: policy.protocol.name(),
            });
        }
        let backends = policy.backends();
        let known_as = |name: &String| backends.iter().any(|b| backend_names(b).contains(name));
        if let Some(name) = named.keys().find(|name| !known_as(name))
            && matches!(self.policy.0, Source::Fixed(_))
        {
            return Err(BuildError::UnknownBackend {
                name: name.clone(),
                backends: backends.iter().map(|b| b.meta.to_string()).collect(),
            });
        }
        let mut by_default = 0;
        for backend in &backends {
            let names = backend_names(backend);
            let needs_none = !matches!(backend.dispatcher, BackendDispatcher::BalanceP2c(..));
            if needs_none || names.iter().any(|name| named.contains_key(name)) {
                continue;
            }
            match (resolver, default) {
                (None, None) => {
                    return Err(BuildError::NoEndpoints {
                        backend: backend.meta.to_string(),
                        name: names.into_iter().next().unwrap_or_default(),
                    });
                }
                (None, Some(_)) => by_default += 1,
                (Some(_), _) => {}
            }
        }
        if by_default > 1 && default.as_ref().is_some_and(Endpoints::is_stream) {
            return Err(BuildError::OneStream);
        }
        Ok(())
    }
}

// === impl PolicySource ===

impl PolicySource {
    fn first(&self) -> Option<ClientPolicy> {
        match &self.0 {
            Source::Fixed(policy) => Some((**policy).clone()),
            Source::Watch(receiver) => Some(receiver.borrow().clone()),
            Source::WatchOption(receiver) => receiver.borrow().clone(),
            #[cfg(feature = "reload")]
            Source::Folder(policy) => Some(policy.current()),
        }
    }

    fn driver(self, shared: Weak<Shared>) -> Option<Driver> {
        match self.0 {
            Source::Fixed(_) => None,
            Source::Watch(receiver) => Some(Driver::new(move || {
                Box::pin(follow(receiver.clone(), shared.clone(), |policy| {
                    Some(policy.clone())
                }))
            })),
            Source::WatchOption(receiver) => Some(Driver::new(move || {
                Box::pin(follow(receiver.clone(), shared.clone(), Option::clone))
            })),
            // The driver keeps the folder, which lasts as long as its clients do.
            #[cfg(feature = "reload")]
            Source::Folder(policy) => Some(Driver::new(move || {
                let folder = policy.following();
                let policies = follow(
                    policy.receiver().clone(),
                    shared.clone(),
                    |policy: &ClientPolicy| Some(policy.clone()),
                );
                Box::pin(async move {
                    let (mut folder, mut policies) = (pin!(folder), pin!(policies));
                    poll_fn(|cx| match folder.as_mut().poll(cx) {
                        Poll::Ready(()) => Poll::Ready(()),
                        Poll::Pending => policies.as_mut().poll(cx),
                    })
                    .await;
                })
            })),
        }
    }
}

// Each task follows from the policy that was there when the client was built: the first of a watch is compiled twice,
// which costs little and misses nothing that came in between.
async fn follow<T: Send + Sync>(
    mut receiver: watch::Receiver<T>,
    shared: Weak<Shared>,
    policy: impl Fn(&T) -> Option<ClientPolicy> + Send,
) {
    while receiver.changed().await.is_ok() {
        let policy = policy(&receiver.borrow_and_update());
        let Some(shared) = shared.upgrade() else {
            return;
        };
        if let Some(policy) = policy {
            shared.swap(policy);
        }
    }
    if let Some(shared) = shared.upgrade() {
        shared.end_policy();
    }
}

impl From<ClientPolicy> for PolicySource {
    fn from(policy: ClientPolicy) -> Self {
        Self(Source::Fixed(Box::new(policy)))
    }
}

impl From<watch::Receiver<ClientPolicy>> for PolicySource {
    fn from(receiver: watch::Receiver<ClientPolicy>) -> Self {
        Self(Source::Watch(receiver))
    }
}

impl From<watch::Receiver<Option<ClientPolicy>>> for PolicySource {
    fn from(receiver: watch::Receiver<Option<ClientPolicy>>) -> Self {
        Self(Source::WatchOption(receiver))
    }
}

#[cfg(feature = "reload")]
impl From<FolderPolicy> for PolicySource {
    fn from(policy: FolderPolicy) -> Self {
        Self(Source::Folder(policy))
    }
}
