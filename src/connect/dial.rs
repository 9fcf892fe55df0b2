use std::future::Future;
use std::io;
use std::net::SocketAddr;

use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::core::BoxError;
use crate::endpoint::Endpoint;

/// Makes the transport of one connection: TCP, TLS over TCP, a pipe in a test.
///
/// Implemented for closures `Fn(Endpoint) -> impl Future<Output = Result<Dialed<Io>, E>>`; a tower service is dialed
/// with by a closure that clones and calls it. It goes to [`Endpoint::address`], whatever host the requests name, and
/// should verify [`Endpoint::server_name`]: a pool serves all requests to its endpoint, so no request's URI can stand
/// in for a name that is missing (the client fills it in from its target).
///
/// It need not watch the time: the connect timeout drops its future.
pub trait Dial: Send + Sync + 'static {
    /// The transport. What tokio reads and writes becomes one in a [`TokioIo`].
    type Io: Read + Write + Send + Unpin + 'static;

    /// A new transport to `endpoint`. Its errors are reported as failures to connect.
    fn dial(
        &self,
        endpoint: Endpoint,
    ) -> impl Future<Output = Result<Dialed<Self::Io>, BoxError>> + Send;
}

/// A transport, and what was agreed on while it was made.
#[derive(Clone, Debug)]
pub struct Dialed<I> {
    pub(super) io: I,
    pub(super) http2: Option<bool>,
    pub(super) encrypted: bool,
}

/// The default [`Dial`]: plain TCP, with TCP_NODELAY.
#[derive(Clone, Copy, Debug)]
pub struct Tcp {
    nodelay: bool,
}

// === impl Dial ===

impl<F, R, I, E> Dial for F
where
    F: Fn(Endpoint) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Dialed<I>, E>> + Send,
    I: Read + Write + Send + Unpin + 'static,
    E: Into<BoxError>,
{
    type Io = I;

    fn dial(&self, endpoint: Endpoint) -> impl Future<Output = Result<Dialed<I>, BoxError>> + Send {
        let dialed = self(endpoint);
        async move { dialed.await.map_err(Into::into) }
    }
}

// === impl Dialed ===

impl<I> Dialed<I> {
    /// A transport in the clear. Which HTTP it carries is the connector's choice.
    pub fn plain(io: I) -> Self {
        Self {
            io,
            http2: None,
            encrypted: false,
        }
    }

    /// An encrypted transport, and the protocol that ALPN chose: `b"h2"` is spoken to in HTTP/2 and any other in
    /// HTTP/1.1, whatever the connector's version is; `None` leaves it to the connector.
    pub fn tls(io: I, alpn: Option<&[u8]>) -> Self {
        Self {
            io,
            http2: alpn.map(|protocol| protocol == b"h2"),
            encrypted: true,
        }
    }
}

// === impl Tcp ===

impl Tcp {
    /// Plain TCP, with TCP_NODELAY.
    pub const fn new() -> Self {
        Self { nodelay: true }
    }

    /// With TCP_NODELAY or without. Default: with.
    #[must_use]
    pub const fn with_nodelay(mut self, nodelay: bool) -> Self {
        self.nodelay = nodelay;
        self
    }

    /// A connected socket: what a dialer of your own begins with.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(self.nodelay)?;
        Ok(stream)
    }
}

impl Default for Tcp {
    fn default() -> Self {
        Self::new()
    }
}

impl Dial for Tcp {
    type Io = TokioIo<TcpStream>;

    async fn dial(&self, endpoint: Endpoint) -> Result<Dialed<Self::Io>, BoxError> {
        let stream = self.connect(endpoint.address()).await?;
        Ok(Dialed::plain(TokioIo::new(stream)))
    }
}
