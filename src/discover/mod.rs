//! Which endpoints exist: a fixed list, a watch, any stream of updates, or DNS (feature `dns`).
//!
//! All of them become [`Endpoints`], for a client, for one of its backends, or for a
//! [`Balance`](crate::balance::Balance). What comes from a list stays; the others say later who joins and who leaves, and
//! what was learned about an endpoint is kept for a while after it left.
//!
//! ```
//! use tower_mesh::balance::Balance;
//! use tower_mesh::discover::{Endpoints, Update};
//! use tower_mesh::{BoxError, Endpoint};
//!
//! let endpoint = |last| Endpoint::new(([10, 0, 0, last], 8080).into());
//!
//! // Fixed.
//! let fixed: Endpoints = ["10.0.0.7:8080", "10.0.0.8:8080"].into();
//! // Whoever has the sender says which there are.
//! let (sender, receiver) = tokio::sync::watch::channel(vec![endpoint(7)]);
//! let watched: Endpoints = receiver.into();
//! sender.send(vec![endpoint(7), endpoint(8)])?;
//! // Joins and leaves, as the mesh's own destination service tells them.
//! let updates = [Update::Add(vec![endpoint(7)]), Update::Remove(vec![endpoint(7).address()])];
//! let stream = Endpoints::stream(tokio_stream::iter(updates.map(Ok::<_, BoxError>)));
//!
//! let balance = Balance::builder().endpoints(fixed).build(|endpoint| endpoint.address())?;
//! assert_eq!(balance.endpoints(), 2);
//! // An address, not a name: names are for `dns`.
//! let builder = Balance::builder().endpoints(["payments.shop:8080"]);
//! assert!(builder.build(|endpoint| endpoint.address()).is_err());
//! # let _ = (watched, stream);
//! # Ok::<(), BoxError>(())
//! ```

mod address;
#[cfg(feature = "dns")]
mod dns;
mod source;

pub use self::address::{InvalidEndpoint, ToEndpoint};
#[cfg(feature = "dns")]
pub use self::dns::{Dns, Family, Looked, Lookup, LookupError, Records, Service, dns};
pub use self::source::{Endpoints, Resolve, backend_names};
pub(crate) use self::source::{Said, Source};

use std::net::SocketAddr;

use crate::endpoint::Endpoint;

/// A change of a backend's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// These, and no others. If it is empty, requests are refused at once; where the last one is
    /// [removed](Self::Remove) they wait, for others may be about to come.
    Reset(Vec<Endpoint>),
    /// These too; one that is known by its address gets the new metadata.
    Add(Vec<Endpoint>),
    /// No longer these.
    Remove(Vec<SocketAddr>),
    /// There is nothing of that name: no endpoints, and requests are refused at once, until another update says otherwise.
    DoesNotExist,
}

/// That there are no endpoints, by the source's own word. Requests need not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// The last update was an empty [`Update::Reset`].
    Empty,
    /// The last update was [`Update::DoesNotExist`].
    Missing,
    /// The source has ended, and has left no endpoint behind.
    Ended,
}

impl Absence {
    /// In words, for an error.
    pub(crate) fn why(self) -> &'static str {
        match self {
            Self::Empty => "its endpoint source says that there are none; is it scaled to zero?",
            Self::Ended => {
                "its endpoint source has ended, so that none will come; keep its sender for as long as the client"
            }
            Self::Missing => "its endpoint source says that it does not exist; check its name",
        }
    }
}
