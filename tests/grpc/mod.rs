//! tonic's servers and clients without protoc: messages are bytes.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod scripted;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Response, Status, Streaming};
use tower_mesh::connect::{HttpConnector, Settings, TonicConnector, Version};
use tower_mesh::policy::ClientPolicy;
use tower_mesh::{BoxError, Client};
use tower_service::Service;

/// Long enough for anything that happens here; a test that waits for it has failed.
pub const STUCK: Duration = Duration::from_secs(60);

pub async fn in_time<T>(what: impl Future<Output = T>) -> T {
    let in_time = tokio::time::timeout(STUCK, what).await;
    in_time.expect("stuck")
}

// === messages ===

#[derive(Clone, Copy, Debug, Default)]
pub struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let len = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(len)))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

// === the server ===

type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// `test.Echo`: all four kinds. Each answer says in `x-server` who gave it, and carries the metadata it was asked with.
#[derive(Clone, Debug)]
pub struct Echo {
    pub name: &'static str,
    /// Calls whose request or response stream it still has.
    pub open: Arc<AtomicUsize>,
    /// Messages of floods.
    pub flooded: Arc<AtomicUsize>,
}

/// Held as long as a call is.
pub struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl tonic::server::NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

impl Echo {
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            open: Arc::default(),
            flooded: Arc::default(),
        }
    }

    fn open(&self) -> Open {
        self.open.fetch_add(1, Ordering::SeqCst);
        Open(Arc::clone(&self.open))
    }

    fn answer<T>(&self, request: &Request<impl Sized>, message: T) -> Response<T> {
        let mut response = Response::new(message);
        let metadata = response.metadata_mut();
        for name in ["x-text", "authorization"] {
            if let Some(value) = request.metadata().get(name) {
                metadata.insert(name, value.clone());
            }
        }
        if let Some(value) = request.metadata().get_bin("x-data-bin") {
            metadata.insert_bin("x-data-bin", value.clone());
        }
        metadata.insert("x-server", self.name.parse().unwrap());
        response
    }

    async fn unary(self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let message = request.get_ref().clone();
        Ok(self.answer(&request, message))
    }

    /// As many messages as the request says, each with its number.
    async fn count(self, request: Request<Bytes>) -> Result<Response<Messages>, Status> {
        let count = request.get_ref().clone().get_u64();
        let numbers =
            tokio_stream::iter((0..count).map(|n| Ok(Bytes::copy_from_slice(&n.to_be_bytes()))));
        let messages: Messages = Box::pin(numbers);
        Ok(self.answer(&request, messages))
    }

    /// How many there were.
    async fn sum(self, request: Request<Streaming<Bytes>>) -> Result<Response<Bytes>, Status> {
        let answer = self.answer(&request, ());
        let _open = self.open();
        let mut messages = request.into_inner();
        let mut count = 0u64;
        while messages.try_next().await?.is_some() {
            count += 1;
        }
        Ok(answer.map(|()| Bytes::copy_from_slice(&count.to_be_bytes())))
    }

    async fn both(self, request: Request<Streaming<Bytes>>) -> Result<Response<Messages>, Status> {
        let answer = self.answer(&request, ());
        let open = self.open();
        let messages = request.into_inner().map(move |message| {
            let _open = &open;
            message
        });
        let messages: Messages = Box::pin(messages);
        Ok(answer.map(|()| messages))
    }

    /// 64 KiB at a time, for ever.
    async fn flood(self, request: Request<Bytes>) -> Result<Response<Messages>, Status> {
        let (open, flooded) = (self.open(), Arc::clone(&self.flooded));
        let message = Bytes::from(vec![b'x'; 64 * 1024]);
        let messages = tokio_stream::iter(std::iter::repeat_with(move || {
            let _open = &open;
            flooded.fetch_add(1, Ordering::SeqCst);
            Ok(message.clone())
        }));
        let messages: Messages = Box::pin(messages);
        Ok(self.answer(&request, messages))
    }
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let echo = self.clone();
        let path = request.uri().path().to_owned();
        Box::pin(async move {
            use tonic::codec::CompressionEncoding::Gzip;
            let mut grpc = tonic::server::Grpc::new(BytesCodec)
                .accept_compressed(Gzip)
                .send_compressed(Gzip);
            use tower::service_fn;
            Ok(match path.as_str() {
                "/test.Echo/Unary" => {
                    grpc.unary(service_fn(move |r| echo.clone().unary(r)), request)
                        .await
                }
                "/test.Echo/Count" => {
                    grpc.server_streaming(service_fn(move |r| echo.clone().count(r)), request)
                        .await
                }
                "/test.Echo/Sum" => {
                    grpc.client_streaming(service_fn(move |r| echo.clone().sum(r)), request)
                        .await
                }
                "/test.Echo/Flood" => {
                    grpc.server_streaming(service_fn(move |r| echo.clone().flood(r)), request)
                        .await
                }
                "/test.Echo/Both" => {
                    grpc.streaming(service_fn(move |r| echo.clone().both(r)), request)
                        .await
                }
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

/// A tonic server on loopback: [`Echo`], health and reflection.
pub struct Server {
    pub address: SocketAddr,
    pub health: tonic_health::server::HealthReporter,
    pub echo: Echo,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, name)
    }

    pub fn on(listener: TcpListener, name: &'static str) -> Self {
        let address = listener.local_addr().unwrap();
        let (health, health_service) = tonic_health::server::health_reporter();
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .unwrap();
        let (stop, stopped) = oneshot::channel();
        let echo = Echo::new(name);
        let serving = tonic::transport::Server::builder()
            .add_service(health_service)
            .add_service(reflection)
            .add_service(echo.clone())
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
                let _ = stopped.await;
            });
        let task = tokio::spawn(async move {
            let _ = serving.await;
        });
        Self {
            address,
            health,
            echo,
            stop: Some(stop),
            task,
        }
    }

    /// Finishes what it has, and takes nothing new.
    pub async fn stop(mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.task.await;
    }

    /// Starts to finish.
    pub fn begin_to_stop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
    }
}

// === the client ===

/// Over which leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Hyper,
    Channel,
}

pub const BOTH: [Over; 2] = [Over::Hyper, Over::Channel];

pub fn client(over: Over, policy: ClientPolicy, endpoints: &[SocketAddr]) -> Client {
    let builder = Client::builder(policy)
        .endpoints(endpoints.to_vec())
        .seed(7);
    match over {
        Over::Hyper => builder.build(hyper_leaf()),
        Over::Channel => builder.build(tonic_leaf()),
    }
    .unwrap()
}

// A machine that is busy with something else fails no test.
pub fn hyper_leaf() -> HttpConnector {
    let settings = Settings::new().with_connect_timeout(STUCK);
    let connector = HttpConnector::new().with_version(Version::Http2);
    connector.with_settings(settings)
}

pub fn tonic_leaf() -> TonicConnector {
    TonicConnector::new().with(|endpoint| endpoint.connect_timeout(STUCK))
}

pub fn plain(over: Over, endpoints: &[SocketAddr]) -> Client {
    client(over, ClientPolicy::grpc().build().unwrap(), endpoints)
}

pub fn path(path: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(path)
}

/// One unary call to any service that takes gRPC.
pub async fn unary<S, B>(
    service: S,
    to: &'static str,
    message: &'static [u8],
) -> Result<Response<Bytes>, Status>
where
    S: Service<http::Request<Body>, Response = http::Response<B>>,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let mut grpc = Grpc::new(service);
    grpc.ready()
        .await
        .map_err(|error| Status::from_error(error.into()))?;
    let request = Request::new(Bytes::from_static(message));
    grpc.unary(request, path(to), BytesCodec).await
}

pub fn server_of<T>(response: &Response<T>) -> String {
    let name = response.metadata().get("x-server");
    name.map_or("", |name| name.to_str().unwrap()).to_owned()
}
