//! TLS to pods: dial the endpoint, verify the name.
//!
//! A server on loopback has a certificate for `payments.shop.svc.cluster.local`, made on the spot. The endpoint is dialed
//! at its address; the certificate must have the endpoint's server name, whatever the address is. A wrong name is refused
//! before a byte of the request is sent.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tower_mesh::connect::{Dial, Dialed, HttpConnector, Tcp, Version};
use tower_mesh::policy::ClientPolicy;
use tower_mesh::verdict::TransportError;
use tower_mesh::{Body, BoxError, Client, Endpoint};

const NAME: &str = "payments.shop.svc.cluster.local";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let (server, tls_config) = certificates()?;
    let address = serve(server).await?;
    println!("a server at https://{address} with a certificate for {NAME}");

    // The name to verify is the target's: a manifest's Service has one, and a policy written in Rust can be given one.
    let policy = ClientPolicy::http().named(format!("{NAME}:443")).build()?;
    let connector = HttpConnector::new()
        .with_version(Version::Auto)
        .with_dialer(tls(tls_config));

    let right = Client::builder(policy.clone())
        .endpoints([address])
        .build(connector.clone())?;
    println!("\nto {address} as {NAME}:");
    for _ in 0..2 {
        println!("  {}", ask(&right).await?);
    }

    let wrong = Client::builder(policy)
        .endpoints([address])
        .server_name("orders.shop.svc.cluster.local")
        .build(connector)?;
    let refused = ask(&wrong).await.err().ok_or("it must be refused")?;
    println!("\nto {address} as orders.shop.svc.cluster.local:");
    explain(&refused);
    Ok(())
}

/// The dialer: TCP to the endpoint's address, then TLS in its name.
fn tls(config: Arc<ClientConfig>) -> impl Dial<Io = TokioIo<TlsStream<TcpStream>>> + Clone {
    let tls = TlsConnector::from(config);
    move |endpoint: Endpoint| {
        let tls = tls.clone();
        async move {
            let name = endpoint
                .server_name()
                .ok_or("the endpoint has no server name to verify")?;
            let name = ServerName::try_from(name.to_owned())?;
            let tcp = Tcp::new().connect(endpoint.address()).await?;
            let stream = tls.connect(name, tcp).await?;
            let alpn = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
            Ok::<_, BoxError>(Dialed::tls(TokioIo::new(stream), alpn.as_deref()))
        }
    }
}

async fn ask(client: &Client) -> Result<String, BoxError> {
    let request = Request::get(format!("https://{NAME}/quote")).body(Body::empty())?;
    let response = client.request(request).await?;
    let version = response.version();
    let body = response.into_body().collect().await?.to_bytes();
    Ok(format!("{} ({version:?})", String::from_utf8_lossy(&body)))
}

fn explain(error: &BoxError) {
    if let Some(transport) = TransportError::find(&**error) {
        println!("  {:?}, {:?}", transport.failure(), transport.sent());
    }
    let mut next: Option<&dyn Error> = Some(&**error);
    while let Some(error) = next {
        println!("  - {error}");
        next = error.source();
    }
}

// === the server, and a certificate that only this program trusts ===

fn certificates() -> Result<(Arc<ServerConfig>, Arc<ClientConfig>), BoxError> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));

    let mut server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];

    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let mut client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((Arc::new(server), Arc::new(client)))
}

async fn serve(config: Arc<ServerConfig>) -> Result<SocketAddr, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let tls = TlsAcceptor::from(config);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                // A client that does not like the certificate ends it here.
                let Ok(stream) = tls.accept(tcp).await else {
                    return;
                };
                let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service_fn(answer))
                    .await;
            });
        }
    });
    Ok(address)
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let uri = request.uri();
    Ok(Response::new(Body::from(format!("42 euros, says {uri}"))))
}
