//! Endpoints from DNS.

mod follow;
mod lookup;
mod system;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use self::lookup::{Family, Looked, Lookup, LookupError, Records, Service};

use self::follow::Follow;
use super::address::InvalidEndpoint;
use super::source::{Endpoints, Source};
use crate::endpoint::Endpoint;

/// The endpoints that DNS has for a name: `dns("payments.shop.svc:50051")` for its addresses (A and AAAA) with that port,
/// or `dns("_grpc._tcp.payments.shop.svc")` for its services (SRV). See [`Dns`].
pub fn dns(name: impl Into<String>) -> Dns {
    Dns {
        name: name.into(),
        ttl: (Duration::from_secs(1), Duration::from_secs(300)),
        lookup: None,
    }
}

/// Endpoints from DNS (feature `dns`), made by [`dns`].
///
/// It is asked again whenever an answer's time is up. A lookup that fails degrades nothing: what was known stays in use,
/// family by family and target by target, `Decision::DiscoveryFailed` tells, and the next is made after a second, or twice
/// as long as the last time, up to 30 s. A name that does not exist (NXDOMAIN) is
/// [`Update::DoesNotExist`](super::Update::DoesNotExist), one without records an empty list: requests are refused at once.
///
/// Every address is an endpoint, of either family. Where a server listens on one only of those that its name has, as
/// development servers do on `localhost`, the other refuses connections: write its address instead.
///
/// Of SRV records those of the lowest priority are used that have addresses; their weights become the endpoints' own.
#[must_use]
pub struct Dns {
    name: String,
    ttl: (Duration, Duration),
    lookup: Option<Arc<dyn Lookup>>,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Literal(SocketAddr),
    Host { host: String, port: u16 },
    Service(String),
}

// === impl Dns ===

impl Dns {
    /// No answer is used for less time or more than these, whatever its TTL. Default: one second and five minutes.
    pub fn ttl_between(mut self, least: Duration, most: Duration) -> Self {
        // Never in a loop without a pause.
        let least = least.max(Duration::from_millis(1));
        self.ttl = (least, most.max(least));
        self
    }

    /// Asks `lookup`. Default: the servers that the operating system is configured with, after its hosts file.
    pub fn lookup(mut self, lookup: impl Lookup) -> Self {
        self.lookup = Some(Arc::new(lookup));
        self
    }
}

impl From<Dns> for Endpoints {
    fn from(dns: Dns) -> Self {
        let target = match Target::parse(&dns.name) {
            Some(Target::Literal(address)) => {
                return Self(Source::Fixed(Ok(vec![Endpoint::new(address)])));
            }
            Some(target) => target,
            None => {
                return Self(Source::Fixed(Err(InvalidEndpoint::new(
                    &dns.name,
                    "a name and a port, such as payments.shop.svc:50051, or a service, such as _grpc._tcp.payments.shop.svc",
                ))));
            }
        };
        // One for each backend, and another if the runtime goes away that carried its timers and sockets.
        Self(Source::Made(Arc::new(move || {
            Box::pin(Follow::new(target.clone(), dns.ttl, dns.lookup.clone()))
        })))
    }
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns")
            .field("name", &self.name)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

// === impl Target ===

impl Target {
    fn parse(name: &str) -> Option<Self> {
        if let Ok(address) = name.parse() {
            return Some(Self::Literal(address));
        }
        // At most 253 characters, in labels of at most 63.
        let is_name = |name: &str| {
            let name = name.strip_suffix('.').unwrap_or(name);
            let fits = |label: &str| {
                let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
                (1..=63).contains(&label.len()) && label.chars().all(is_part)
            };
            name.len() <= 253 && name.split('.').all(fits)
        };
        match name.split_once(':') {
            None => {
                let mut labels = name.split('.');
                let mut is_marked = || labels.next().is_some_and(|label| label.starts_with('_'));
                (is_marked() && is_marked() && is_name(name))
                    .then(|| Self::Service(name.to_owned()))
            }
            Some((host, port)) => {
                let port = port.parse().ok().filter(|port| *port != 0)?;
                let host = is_name(host).then(|| host.to_owned())?;
                Some(Self::Host { host, port })
            }
        }
    }
}
