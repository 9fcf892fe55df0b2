//! The two that are compared.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tower_mesh::core::observe::Observer;
use tower_mesh::source::kubernetes::Manifests;
use tower_mesh::{Body, BoxError, Client, Endpoint};

use crate::servers::Servers;

const MANIFEST: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/examples/manifests/payments.yaml"
);

/// Something that sends requests.
pub trait Caller: Clone + Send + 'static {
    /// Sends the `n`th request and reads all of the answer.
    fn call(self, n: usize) -> impl Future<Output = Result<StatusCode, BoxError>> + Send;
}

/// hyper's own pooled client, going round the endpoints.
#[derive(Clone)]
pub struct Plain {
    client: legacy::Client<HttpConnector, Empty<Bytes>>,
    addresses: Arc<[SocketAddr]>,
}

/// A tower-mesh client, built from the manifest.
#[derive(Clone)]
pub struct Mesh(Client);

// === impl Plain ===

impl Plain {
    pub fn new(servers: &Servers) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            client: legacy::Client::builder(TokioExecutor::new())
                .retry_canceled_requests(false)
                .build(connector),
            addresses: servers.endpoints().map(|(_, address)| address).collect(),
        }
    }
}

impl Caller for Plain {
    async fn call(self, n: usize) -> Result<StatusCode, BoxError> {
        let address = self.addresses[n % self.addresses.len()];
        let request = Request::get(format!("http://{address}/quote")).body(Empty::new())?;
        read(self.client.request(request).await?).await
    }
}

// === impl Mesh ===

impl Mesh {
    pub fn new(servers: &Servers, seed: u64, observer: impl Observer) -> Result<Self, BoxError> {
        let policy = Manifests::from_path(MANIFEST)?.resolve("payments.shop:8080")?;
        let endpoints: Vec<_> = servers
            .endpoints()
            .map(|(name, address)| Endpoint::new(address).named(name))
            .collect();
        let client = Client::builder(policy)
            .endpoints(endpoints)
            .seed(seed)
            .observer(observer)
            .build_http()?;
        Ok(Self(client))
    }
}

impl Caller for Mesh {
    async fn call(self, _: usize) -> Result<StatusCode, BoxError> {
        let request = Request::get("http://payments.shop:8080/quote").body(Body::empty())?;
        read(self.0.request(request).await?).await
    }
}

async fn read<B>(response: Response<B>) -> Result<StatusCode, BoxError>
where
    B: http_body::Body<Error: Into<BoxError>>,
{
    let (parts, body) = response.into_parts();
    body.collect().await.map_err(Into::into)?;
    Ok(parts.status)
}
