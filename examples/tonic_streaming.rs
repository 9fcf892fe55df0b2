//! Streams over a client that changes under them.
//!
//! ```sh
//! cargo run --example tonic_streaming
//! ```
//!
//! A health watch (a stream from the server) and a reflection call (in both directions) on real tonic servers. While they
//! run, the policy is replaced and the endpoint that carries them leaves; they go on until they end by themselves, and
//! `close` waits for them.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::HealthReporter;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tower_mesh::policy::{ClientPolicy, Method, Timeouts};
use tower_mesh::{BoxError, Client, Endpoint, Served};

/// Calls have two seconds; a stream that has begun has as long as it likes, unless it is silent for a minute.
fn policy() -> Result<ClientPolicy, BoxError> {
    let timeouts = Timeouts {
        idle: Some(Duration::from_secs(60)),
        ..Timeouts::request(Duration::from_secs(2))
    };
    let policy = ClientPolicy::grpc()
        .named("shop:50051")
        .timeouts(timeouts)
        .method("grpc.health.v1.Health/Watch", Method::new().streaming());
    Ok(policy.build()?)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let (first, reporter) = serve().await?;
    let (second, _) = serve().await?;
    let (policies, policy_updates) = watch::channel(policy()?);
    let (endpoints, endpoint_updates) = watch::channel(vec![Endpoint::new(first).named("first")]);
    let client = Client::builder(policy_updates)
        .endpoints(endpoint_updates)
        .build_grpc()?;

    // A stream from the server: what it says now, and each time that changes.
    let mut health = HealthClient::new(client.clone());
    let watched = health.watch(HealthCheckRequest::default()).await?;
    println!("the watch is served by {}", served(watched.extensions()));
    let mut watched = watched.into_inner();
    println!("  it says {:?}", status(watched.message().await?));

    // A stream in both directions: questions when we like, an answer to each.
    let (ask, questions) = mpsc::channel(1);
    let mut reflection = ServerReflectionClient::new(client.clone());
    ask.send(question()).await?;
    let answers = reflection.server_reflection_info(ReceiverStream::new(questions));
    let answers = answers.await?;
    println!(
        "the reflection is served by {}",
        served(answers.extensions())
    );
    let mut answers = answers.into_inner();
    println!("  it answers: {}", answers.message().await?.is_some());

    println!("\nanother policy, and the first endpoint leaves");
    policies.send(policy()?)?;
    endpoints.send(vec![Endpoint::new(second).named("second")])?;
    while client
        .snapshot()
        .endpoints()
        .all(|e| e.endpoint.address() == first)
    {
        tokio::task::yield_now().await;
    }
    let check = health.check(HealthCheckRequest::default()).await?;
    println!("a new call is served by {}", served(check.extensions()));
    reporter
        .set_service_status("", ServingStatus::NotServing)
        .await;
    println!("the watch says {:?}", status(watched.message().await?));
    ask.send(question()).await?;
    println!(
        "the reflection answers: {}",
        answers.message().await?.is_some()
    );

    println!(
        "\n{} streams are open; closing waits for them",
        client.snapshot().in_flight
    );
    let closing = tokio::spawn({
        let client = client.clone();
        async move { client.close().await }
    });
    drop(watched);
    drop(ask);
    println!(
        "the reflection ends: {}",
        answers.message().await?.is_none()
    );
    closing.await?;
    println!("closed");
    let refused = health.check(HealthCheckRequest::default()).await;
    if let Err(status) = refused {
        println!("and a call now: {:?}: {}", status.code(), status.message());
    }
    Ok(())
}

fn served(extensions: &tonic::Extensions) -> String {
    let served = extensions.get::<Served>();
    served.map_or_else(String::new, |served| served.endpoint.to_string())
}

fn status(answer: Option<tonic_health::pb::HealthCheckResponse>) -> Option<String> {
    Some(format!("{:?}", answer?.status()))
}

fn question() -> ServerReflectionRequest {
    ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    }
}

async fn serve() -> Result<(SocketAddr, HealthReporter), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let serving = Server::builder()
        .add_service(health)
        .add_service(reflection);
    tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
    Ok((address, reporter))
}
