use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use crate::core::BoxError;

/// Asks for DNS records. The operating system's servers are asked by default; another one, such as a script in a test, is
/// given with [`Dns::lookup`](super::Dns::lookup).
pub trait Lookup: Send + Sync + 'static {
    /// The addresses of one family that `host` has.
    fn addresses<'a>(&'a self, host: &'a str, family: Family) -> Looked<'a, IpAddr>;

    /// The SRV records of `name`, such as `_grpc._tcp.payments.shop.svc`.
    fn services<'a>(&'a self, name: &'a str) -> Looked<'a, Service>;
}

/// The future of a [`Lookup`].
pub type Looked<'a, T> = Pin<Box<dyn Future<Output = Result<Records<T>, LookupError>> + Send + 'a>>;

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// A records.
    V4,
    /// AAAA records.
    V6,
}

/// What was found. No records: the name exists, and has none of the kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records<T> {
    /// The records.
    pub records: Vec<T>,
    /// How long they are valid: the shortest time of all. None if it was not said.
    pub ttl: Option<Duration>,
}

/// An SRV record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// Those with the lowest one are used, as long as they have addresses.
    pub priority: u16,
    /// Its share among those of its priority.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host that serves.
    pub target: String,
}

/// Why a lookup found nothing.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// There is nothing of that name (NXDOMAIN).
    #[error("there is nothing of that name")]
    DoesNotExist {
        /// How long that is valid, if it was said.
        ttl: Option<Duration>,
    },
    /// It is not known: nobody answered, or somebody could not.
    #[error("the lookup failed")]
    Failed(#[source] BoxError),
}
