//! A generated tonic client over three servers, one of which is sick.
//!
//! ```sh
//! cargo run --example tonic
//! ```
//!
//! Three real servers on loopback answer health checks; the third refuses nine calls out of ten. A thousand calls through a
//! client made by this crate, and a thousand through tonic's own balanced channel, and who answered what.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::transport::{Channel, Server};
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower_mesh::policy::{ClientPolicy, Codes, FailureAccrual, Retry, Timeouts};
use tower_mesh::{BoxError, Client, Served};

const CALLS: usize = 1000;
const SERVERS: [&str; 3] = ["one", "two", "sick"];

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut endpoints = Vec::new();
    for name in SERVERS {
        endpoints.push(serve(name == "sick").await?);
    }

    // The set-up: what to do, where to, and a client that takes the place of a channel.
    let policy = ClientPolicy::grpc()
        .named("health.shop:50051")
        .timeouts(Timeouts::request(std::time::Duration::from_secs(2)))
        .retry(Retry::on_codes([Codes::UNAVAILABLE]).limit(2))
        .failure_accrual(FailureAccrual::consecutive(5))
        .build()?;
    let client = Client::builder(policy)
        .endpoints(endpoints.clone())
        .build_grpc()?;
    let mesh = calls(HealthClient::new(client.clone()), &endpoints).await;

    let theirs = endpoints.iter().map(|address| {
        let uri = format!("http://{address}");
        Channel::from_shared(uri)
    });
    let theirs = theirs.collect::<Result<Vec<_>, _>>()?;
    let channel = Channel::balance_list(theirs.into_iter());
    let plain = calls(HealthClient::new(channel), &endpoints).await;

    println!("{CALLS} health checks each, by who answered and what:\n");
    println!("{:<28}{:>14}{:>18}", "", "tower-mesh", "tonic's channel");
    let all: BTreeMap<_, ()> = mesh.keys().chain(plain.keys()).map(|k| (k, ())).collect();
    for what in all.into_keys() {
        let count = |by: &BTreeMap<String, usize>| by.get(what).copied().unwrap_or(0);
        println!("{what:<28}{:>14}{:>18}", count(&mesh), count(&plain));
    }
    println!("\nWhat the client knows now:\n\n{}", client.snapshot());
    Ok(())
}

/// Many calls, some at once, with a clone of the generated client for each, as tonic's users do.
async fn calls<S>(health: HealthClient<S>, endpoints: &[SocketAddr]) -> BTreeMap<String, usize>
where
    S: GrpcService<Body> + Clone + Send + 'static,
    S::Future: Send,
    S::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<BoxError> + Send,
{
    let mut answers = BTreeMap::new();
    for _ in 0..CALLS / 20 {
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let mut health = health.clone();
            running.spawn(async move { health.check(HealthCheckRequest::default()).await });
        }
        while let Some(Ok(answer)) = running.join_next().await {
            let what = match answer {
                Ok(answer) => {
                    // Who served a call is in its response's extensions; a channel does not say.
                    let served = answer.extensions().get::<Served>();
                    let at = |served: &Served| {
                        let found = endpoints.iter().position(|e| *e == served.endpoint);
                        found.map_or("?", |n| SERVERS[n])
                    };
                    match served {
                        Some(served) if served.attempts > 1 => {
                            format!("OK of {} after a retry", at(served))
                        }
                        Some(served) => format!("OK of {}", at(served)),
                        None => "OK of somebody".to_owned(),
                    }
                }
                Err(status) => format!("{:?}: {}", status.code(), status.message()),
            };
            *answers.entry(what).or_insert(0) += 1;
        }
    }
    answers
}

/// A tonic server with its health service.
async fn serve(sick: bool) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let service = tonic_health::server::HealthService::from_health_reporter(Default::default());
    let asked = AtomicUsize::new(0);
    let interceptor = move |request: Request<()>| {
        let nth = asked.fetch_add(1, Ordering::Relaxed);
        match sick && nth % 10 != 9 {
            true => Err(Status::unavailable("out of order")),
            false => Ok(request),
        }
    };
    let interceptor = std::sync::Arc::new(interceptor);
    let health =
        tonic_health::pb::health_server::HealthServer::with_interceptor(service, move |request| {
            interceptor(request)
        });
    let serving = Server::builder().add_service(health);
    tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
    Ok(address)
}
