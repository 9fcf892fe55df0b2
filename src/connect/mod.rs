//! Leaves over hyper: HTTP/1.1 with pooled connections and HTTP/2, over TCP or whatever you dial with.
//!
//! Beside them, with feature `tonic`, over tonic's own channels: `TonicConnector`. The rest of this page is about the others.
//!
//! [`HttpConnector`] makes one [`HttpLeaf`] for an endpoint, and a leaf has one pool. It dials the endpoint's address
//! whatever host a request's URI names; the URI stays what the request is about.
//!
//! # When connections are made and closed
//!
//! A request takes a connection that is there (HTTP/1.1: the idle one used last; HTTP/2: the oldest one that is not
//! full), or waits for the first that is made or becomes free. Each connection is one task, which also makes it: a dial
//! whose request was dropped goes on, and serves the next. A failed dial fails those for whom no other dial is in
//! progress. An HTTP/2 connection is used once the peer's SETTINGS have arrived, within the connect timeout: a peer that
//! speaks something else, or accepts and says nothing, is a failure to connect, and nothing was sent to it. It costs one
//! round trip for each connection.
//!
//! While a dial shows whether an endpoint is there that was lost (its last dial failed, or its one HTTP/2 connection is gone),
//! the leaf is not ready for another request: who has the choice goes elsewhere. When it fails, so do those who waited.
//!
//! Connections are closed after their idle timeout by a timer of their own, retire at their maximum age, and end with
//! the last handle on them. There is no sweeper. HTTP/2 streams of a retired connection finish.
//!
//! # What is reported
//!
//! Every failure is a [`TransportError`](crate::verdict::TransportError). **Nothing that may have been sent is sent
//! again.** A request that a pooled connection gives back untouched, because the peer had closed it meanwhile, goes to
//! another one: at most twice, and after the second time only to a connection that is made for it. One that a new
//! connection gives back is reported as [`Broken`](crate::verdict::TransportFailure::Broken) and
//! [`NotSent`](crate::verdict::Sent::NotSent).
//!
//! | what happened | failure | sent |
//! |---|---|---|
//! | connection refused, unreachable, TLS failed, not HTTP/2 | `Connect` | `NotSent` |
//! | not usable within the connect timeout | `ConnectTimeout` | `NotSent` |
//! | a new connection closed before the request was handed to it | `Broken` | `NotSent` |
//! | RST_STREAM with REFUSED_STREAM | `Refused` | `Unprocessed` |
//! | GOAWAY with a last stream below the request's | `Refused` | `Unprocessed` |
//! | GOAWAY that covers the request, then the connection closed | `Broken` | `Unknown` |
//! | RST_STREAM with any other reason | `Broken` | `Unknown` |
//! | closed, reset or not HTTP after the request was handed over | `Broken` | `Unknown` |
//! | no answer to an HTTP/2 keep-alive | `Broken` | `Unknown` |
//! | the request's body gave an error | `RequestBody` | `Unknown` |
//! | a request without a valid form (CONNECT without target, ...) | `Request` | `NotSent` |
//!
//! An HTTP/1.1 connection that the server closes in the same moment as a request is written to it is `Unknown`: nobody
//! can tell on this side. What fails after the response's head is an error of the response's body.
//!
//! # What a request is made into
//!
//! HTTP/1.1: origin-form and a Host header from the URI's authority, unless it has one. HTTP/2: absolute-form, the Host
//! header (if any) as its authority, without the headers that concern one HTTP/1.1 connection. A request that names no
//! host asks for the endpoint's server name, or else its address. CONNECT has its URI's authority as target. The
//! version follows the connection.

mod body;
#[cfg(feature = "tonic")]
mod channel;
mod connection;
mod dial;
mod handle;
mod leaf;
mod lease;
mod outgoing;
mod pool;
mod request;
mod settings;
mod sort;
mod state;
mod wire;

use std::sync::Arc;

pub use self::body::HttpBody;
#[cfg(feature = "tonic")]
pub use self::channel::{TonicBody, TonicCall, TonicConnector, TonicLeaf};
pub use self::dial::{Dial, Dialed, Tcp};
pub use self::leaf::{HttpCall, HttpLeaf};
pub use self::pool::Connections;
pub use self::settings::Settings;

use self::pool::Pool;
use crate::core::sync::{AtomicU64, Ordering};
use crate::endpoint::{Connect, Endpoint};

/// Makes [`HttpLeaf`]s. Default: HTTP/1.1 over TCP.
///
/// ```
/// use tower_mesh::connect::{HttpConnector, Settings, Version};
///
/// let grpc = HttpConnector::new().with_version(Version::Http2);
/// let patient = HttpConnector::new()
///     .with_settings(Settings::new().with_connect_timeout(std::time::Duration::from_secs(5)));
/// # let _ = (grpc, patient);
/// ```
///
/// For TLS, dial with it: `examples/tls.rs`.
#[derive(Clone, Debug)]
pub struct HttpConnector<D = Tcp> {
    dialer: Arc<D>,
    version: Version,
    settings: Settings,
    // Of connections, over all endpoints: each draws an age of its own.
    numbers: Arc<AtomicU64>,
}

/// Which HTTP is spoken on a connection about which nothing was agreed while it was dialed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Version {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, with prior knowledge.
    Http2,
    /// HTTP/1.1, but the first requests wait for one connection together: it may well be HTTP/2. For dialers that
    /// [report what ALPN chose](Dialed::tls).
    Auto,
}

// === impl HttpConnector ===

impl HttpConnector {
    /// HTTP/1.1 over TCP, with the default [`Settings`].
    pub fn new() -> Self {
        Self {
            dialer: Arc::new(Tcp::new()),
            version: Version::Http1,
            settings: Settings::new(),
            numbers: Arc::default(),
        }
    }
}

impl Default for HttpConnector {
    fn default() -> Self {
        Self::new()
    }
}

impl<D> HttpConnector<D> {
    /// With another version of HTTP. Default: [`Version::Http1`].
    #[must_use]
    pub fn with_version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// With other settings. Default: [`Settings::new`].
    #[must_use]
    pub fn with_settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// With another way to reach an endpoint, such as TLS. Default: [`Tcp`].
    #[must_use]
    pub fn with_dialer<E: Dial>(self, dialer: E) -> HttpConnector<E> {
        HttpConnector {
            dialer: Arc::new(dialer),
            version: self.version,
            settings: self.settings,
            numbers: self.numbers,
        }
    }
}

impl<D: Dial> Connect for HttpConnector<D> {
    type ResponseBody = HttpBody;
    type Leaf = HttpLeaf;

    fn connect(&self, endpoint: &Endpoint) -> HttpLeaf {
        let (dialer, numbers) = (self.dialer.clone(), self.numbers.clone());
        let version = self.version;
        let start = move |runtime: &tokio::runtime::Handle, dialing| {
            let number = numbers.fetch_add(1, Ordering::Relaxed);
            runtime.spawn(connection::run(dialing, dialer.clone(), version, number));
        };
        HttpLeaf::new(Pool::new(
            endpoint.clone(),
            self.settings.clone(),
            version != Version::Http1,
            Box::new(start),
        ))
    }
}
