//! Others in the same world: the same endpoints, arrivals and fates.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;
use tower::Service;
use tower::balance::p2c::Balance;
use tower::buffer::Buffer;
use tower::discover::Change;
use tower::load::{CompleteOnResponse, PeakEwmaDiscover};
use tower::retry::budget::{Budget, TpsBudget};
use tower::retry::{Policy, Retry};
use tower::util::rng::Rng;
use tower_mesh::core::draw::{Purpose, draw};
use tower_mesh::sim::{Leaf, Scenario, ServedBody, Site, World};
use tower_mesh::verdict::{Sent, TransportError, TransportFailure};
use tower_mesh::{Body, BoxError, Endpoint};

/// Somebody to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// One after the other, and nothing else.
    RoundRobin,
    /// tower's `Balance` by `PeakEwma`, and one `Retry` of failures within its `TpsBudget`, as they come.
    Tower,
}

// === impl Peer ===

impl Peer {
    /// The scenario's world with this peer instead of our client. The policy is not read: timeouts, retries and breakers
    /// are what the peer has of its own.
    pub fn world(self, scenario: &Scenario) -> World {
        self.instead(scenario.world())
    }

    /// A world with this peer instead of our client.
    pub fn instead(self, world: World) -> World {
        match self {
            Self::RoundRobin => world.stack(RoundRobin::new),
            Self::Tower => world.stack(tower_stack),
        }
    }
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "round-robin" => Ok(Self::RoundRobin),
            "tower" => Ok(Self::Tower),
            _ => Err(format!(
                "nobody is called {name:?}; there are round-robin and tower"
            )),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::RoundRobin => "round-robin",
            Self::Tower => "tower",
        })
    }
}

/// Plain round robin over what discovery knows. Each client begins somewhere else.
#[derive(Clone)]
struct RoundRobin {
    site: Site,
    endpoints: watch::Receiver<Vec<Endpoint>>,
    next: Arc<AtomicUsize>,
}

// === impl RoundRobin ===

impl RoundRobin {
    fn new(site: &Site) -> Self {
        Self {
            endpoints: site.endpoints(),
            next: Arc::new(AtomicUsize::new(site.client())),
            site: site.clone(),
        }
    }
}

impl Service<Request<Body>> for RoundRobin {
    type Response = Response<ServedBody>;
    type Error = TransportError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, TransportError>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let endpoints = self.endpoints.borrow();
        match endpoints.get(next % endpoints.len().max(1)) {
            Some(endpoint) => Box::pin(self.site.leaf(endpoint).call(request)),
            None => {
                let (failure, sent) = (TransportFailure::Connect, Sent::NotSent);
                let error = TransportError::new(failure, sent, "there are no endpoints");
                Box::pin(ready(Err(error)))
            }
        }
    }
}

// With the defaults that tower's documentation shows: 30 ms fading over 10 s; a budget of a fifth of the requests and
// ten retries a second. The buffer is what makes a balancer clonable.
fn tower_stack(site: &Site) -> Retry<Again, Buffer<Request<Body>, Balanced>> {
    let joins = Joins {
        endpoints: WatchStream::new(site.endpoints()),
        known: Vec::new(),
        changes: VecDeque::new(),
        site: site.clone(),
    };
    let completion = CompleteOnResponse::default();
    let (rtt, decay) = (Duration::from_millis(30), Duration::from_secs(10));
    let loaded = PeakEwmaDiscover::new::<Request<Body>>(joins, rtt, decay, completion);
    let dice = Dice {
        seed: site.seed(),
        count: 0,
    };
    let balance = Balance::from_rng(loaded, dice);
    let budget = TpsBudget::new(Duration::from_secs(10), 10, 0.2);
    Retry::new(
        Again {
            budget: Arc::new(budget),
            tries: 1,
        },
        Buffer::new(balance, 10_000),
    )
}

type Balanced = <Balance<PeakEwmaDiscover<Joins>, Request<Body>> as Service<Request<Body>>>::Future;

/// Discovery in tower's words.
struct Joins {
    endpoints: WatchStream<Vec<Endpoint>>,
    known: Vec<SocketAddr>,
    changes: VecDeque<Change<SocketAddr, Leaf>>,
    site: Site,
}

impl Stream for Joins {
    type Item = Result<Change<SocketAddr, Leaf>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(change) = this.changes.pop_front() {
                return Poll::Ready(Some(Ok(change)));
            }
            let Some(now) = std::task::ready!(Pin::new(&mut this.endpoints).poll_next(cx)) else {
                return Poll::Ready(None);
            };
            let there: Vec<_> = now.iter().map(Endpoint::address).collect();
            let gone = this.known.iter().filter(|known| !there.contains(known));
            this.changes.extend(gone.map(|gone| Change::Remove(*gone)));
            for endpoint in &now {
                if !this.known.contains(&endpoint.address()) {
                    let leaf = this.site.leaf(endpoint);
                    this.changes
                        .push_back(Change::Insert(endpoint.address(), leaf));
                }
            }
            this.known = there;
        }
    }
}

/// One more try of what failed, within tower's budget.
#[derive(Clone)]
struct Again {
    budget: Arc<TpsBudget>,
    tries: u32,
}

impl Policy<Request<Body>, Response<ServedBody>, BoxError> for Again {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<Body>,
        result: &mut Result<Response<ServedBody>, BoxError>,
    ) -> Option<Ready<()>> {
        let failed = match result {
            Ok(response) => {
                let grpc = response.headers().get("grpc-status");
                response.status().is_server_error() || grpc.is_some_and(|status| status != "0")
            }
            Err(_) => true,
        };
        if !failed {
            self.budget.deposit();
            return None;
        }
        if self.tries == 0 || !self.budget.withdraw() {
            return None;
        }
        self.tries -= 1;
        Some(ready(()))
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        let mut copy = Request::new(request.body().try_clone()?);
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.version_mut() = request.version();
        *copy.headers_mut() = request.headers().clone();
        Some(copy)
    }
}

/// tower's chance, from this client's seed.
struct Dice {
    seed: u64,
    count: u64,
}

impl Rng for Dice {
    fn next_u64(&mut self) -> u64 {
        self.count += 1;
        draw(self.seed, self.count, Purpose::Pick, 0)
    }
}
