//! What goes along with one request, and with its response.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::policy::MethodKind;
use crate::verdict::Verdict;

/// What one request wants otherwise than the policy. An extension of the request; it wins over the policy.
///
/// ```
/// use tower_mesh::RequestOptions;
///
/// let once = RequestOptions::new().no_retries().timeout(std::time::Duration::from_secs(1));
/// let order = http::Request::post("http://shop/order").extension(once).body("{}")?;
/// assert!(order.extensions().get::<RequestOptions>().is_some());
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestOptions {
    pub(crate) timeout: Option<Duration>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) max_retries: Option<u16>,
    pub(crate) safe_to_repeat: bool,
    pub(crate) only: Option<SocketAddr>,
    pub(crate) avoid: Vec<SocketAddr>,
    pub(crate) method: Option<MethodKind>,
}

/// Who answered, and what it took. An extension of the response: `response.extensions().get::<Served>()`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Served {
    /// The endpoint.
    pub endpoint: SocketAddr,
    /// Its backend, by the name of the policy.
    pub backend: Arc<str>,
    /// Attempts sent, this one included.
    pub attempts: u32,
    /// The time spent in line for an endpoint.
    pub waited: Duration,
    /// What the response head says of the endpoint; none if only the end will tell (gRPC).
    pub verdict: Option<Verdict>,
}

// === impl RequestOptions ===

impl RequestOptions {
    /// Nothing otherwise.
    pub fn new() -> Self {
        Self::default()
    }

    /// The request's deadline, from the call on. Instead of the policy's request timeout.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The request's deadline, absolutely; the earlier counts if there is a timeout, too. Instead of the policy's request
    /// timeout.
    #[must_use]
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// One attempt, whatever happens.
    #[must_use]
    pub fn no_retries(self) -> Self {
        self.max_retries(0)
    }

    /// At most so many attempts after the first, on a route that retries. Default: the route's own limit.
    #[must_use]
    pub fn max_retries(mut self, max_retries: u16) -> Self {
        self.max_retries = Some(max_retries);
        self
    }

    /// Processing it twice does no harm, whatever its method: it may be sent again after a connection broke.
    #[must_use]
    pub fn safe_to_repeat(mut self) -> Self {
        self.safe_to_repeat = true;
        self
    }

    /// What the gRPC method is, instead of what the route says. Decides all that the route's [kind](MethodKind) does: until
    /// when the policy's request timeout holds, which `grpc-timeout` is sent, and how long the response is held back for the
    /// code in its [trailers](crate::policy::Trailers), on a route that retries on codes.
    #[must_use]
    pub fn method(mut self, method: MethodKind) -> Self {
        self.method = Some(method);
        self
    }

    /// Only this endpoint. The request waits for it, and fails fast if it cannot serve.
    #[must_use]
    pub fn pin(mut self, endpoint: SocketAddr) -> Self {
        self.only = Some(endpoint);
        self
    }

    /// Not this endpoint, if there is another that can serve. May be called for several.
    #[must_use]
    pub fn avoid(mut self, endpoint: SocketAddr) -> Self {
        self.avoid.push(endpoint);
        self
    }
}
