//! Four hyper servers on loopback ports, two of which have a bad time in the middle third.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use tower_mesh::core::draw::below;

use crate::script::{FAILURE, SERVICE_TIME, Script, Third};

pub const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// The one that fails half of its requests.
pub const FAILING: &str = "b";
/// The one that is ten times slower.
pub const SLOW: &str = "c";

/// How long an answer takes: this, and up to that much more.
pub const LATENCY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(20));

/// How many requests a server got, in each third: what the client sent, told by the other side.
pub type Served = [u64; 3];

pub struct Servers(Vec<Server>);

struct Server {
    name: &'static str,
    address: SocketAddr,
    behaviour: Arc<Behaviour>,
    accepting: AbortHandle,
}

struct Behaviour {
    script: Script,
    // Which server it is: the `n`th request of each client's `b` has the same fate.
    index: u64,
    name: &'static str,
    requests: AtomicU64,
    served: [AtomicU64; 3],
}

// === impl Servers ===

impl Servers {
    pub async fn start(script: Script) -> io::Result<Self> {
        let mut servers = Vec::new();
        for (index, name) in (0..).zip(NAMES) {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let behaviour = Arc::new(Behaviour {
                script,
                index,
                name,
                requests: AtomicU64::new(0),
                served: Default::default(),
            });
            servers.push(Server {
                name,
                address: listener.local_addr()?,
                behaviour: Arc::clone(&behaviour),
                accepting: tokio::spawn(accept(listener, behaviour)).abort_handle(),
            });
        }
        Ok(Self(servers))
    }

    pub fn endpoints(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        self.0.iter().map(|server| (server.name, server.address))
    }

    pub fn name_of(&self, address: SocketAddr) -> Option<&'static str> {
        let mut endpoints = self.endpoints();
        endpoints.find_map(|(name, at)| (at == address).then_some(name))
    }

    pub fn served(&self) -> Vec<(&'static str, Served)> {
        let served = |server: &Server| {
            let counts = &server.behaviour.served;
            let counts = counts.each_ref().map(|count| count.load(Ordering::Relaxed));
            (server.name, counts)
        };
        self.0.iter().map(served).collect()
    }
}

// === impl Server ===

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, behaviour: Arc<Behaviour>) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(serve(stream, Arc::clone(&behaviour)));
    }
}

async fn serve(stream: TcpStream, behaviour: Arc<Behaviour>) -> hyper::Result<()> {
    let service = service_fn(move |_: Request<Incoming>| {
        let behaviour = Arc::clone(&behaviour);
        async move { Ok::<_, Infallible>(behaviour.answer().await) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    connection.await
}

// === impl Behaviour ===

impl Behaviour {
    async fn answer(&self) -> Response<Full<Bytes>> {
        let third = self.script.third_at(Instant::now());
        self.served[third as usize].fetch_add(1, Ordering::Relaxed);
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let chance = |what| self.script.chance(number, what + self.index);

        let bad = third == Third::Bad;
        if bad && self.name == FAILING && below(chance(FAILURE), 2) == 0 {
            let mut response = Response::new(Full::from("out of order\n"));
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            return response;
        }
        let (least, more) = LATENCY;
        let latency = least + Duration::from_micros(below(chance(SERVICE_TIME), micros(more)));
        let factor = if bad && self.name == SLOW { 10 } else { 1 };
        sleep(latency * factor).await;
        Response::new(Full::from("42.00 EUR\n"))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
