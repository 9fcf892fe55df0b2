//! What a unary call over loopback costs through a `Client`, beside tonic's own `Channel`: one endpoint, call by call in turn, in
//! an order that is another each time.
//!
//! `cargo bench --manifest-path benches-peers/Cargo.toml --bench tonic`
//!
//! With `-- --only <case> --calls <n>` it makes so many calls in one of the cases (0: the channel, then as listed) and prints
//! nothing: to count instructions, twice with different `<n>`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower_mesh::Client;
use tower_mesh::connect::TonicConnector;
use tower_mesh::policy::{ClientPolicy, Codes, FailureAccrual, Retry, Timeouts};

const CALLS: usize = 20_000;
const WARM_UP: usize = 2_000;

fn main() {
    let address = serve();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let channel = Channel::from_shared(format!("http://{address}"))
            .expect("an address")
            .connect_lazy();
        let bare = || ClientPolicy::grpc().named("health.shop:50051");
        // Everything that a policy can switch on, for unary calls.
        let full = bare()
            .timeouts(Timeouts::request(Duration::from_secs(5)))
            .retry(Retry::on_codes([Codes::UNAVAILABLE]))
            .failure_accrual(FailureAccrual::consecutive(7));
        let build = |policy: ClientPolicy| Client::builder(policy).endpoints([address]);
        let hyper = |policy| build(policy).build_grpc().expect("a client");
        let plain = hyper(bare().build().expect("a policy"));
        let full = hyper(full.build().expect("a policy"));
        let over_channel = build(bare().build().expect("a policy"))
            .build(TonicConnector::new())
            .expect("a client");

        let channel = HealthClient::new(channel);
        let cases = [
            ("Client, nothing switched on", HealthClient::new(plain)),
            ("Client, all of it", HealthClient::new(full)),
            (
                "Client over tonic's Channel",
                HealthClient::new(over_channel),
            ),
        ];
        if let Some(only) = option("--only") {
            let calls = option("--calls").unwrap_or(CALLS);
            for _ in 0..calls {
                let answer = match only {
                    0 => {
                        let mut client = channel.clone();
                        client.check(HealthCheckRequest::default()).await
                    }
                    n => {
                        let mut client = cases[n - 1].1.clone();
                        client.check(HealthCheckRequest::default()).await
                    }
                };
                answer.expect("an answer");
            }
            return;
        }
        let mut theirs = Vec::with_capacity(CALLS);
        let mut ours = [(); 3].map(|()| Vec::with_capacity(CALLS));
        let mut word = 1u64;
        for n in 0..WARM_UP + CALLS {
            // In another order each time: what a call leaves to be done on its connection is done in the time of the next.
            let mut order = [0, 1, 2, 3];
            for last in (1..order.len()).rev() {
                word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                order.swap(last, (word >> 33) as usize % (last + 1));
            }
            for case in order {
                // Cloned per call, as generated clients are.
                let (time, times) = match case {
                    0 => {
                        let time = timed(async {
                            let mut client = channel.clone();
                            client.check(HealthCheckRequest::default()).await.map(drop)
                        });
                        (time.await, &mut theirs)
                    }
                    case => {
                        let time = timed(async {
                            let mut client = cases[case - 1].1.clone();
                            client.check(HealthCheckRequest::default()).await.map(drop)
                        });
                        (time.await, &mut ours[case - 1])
                    }
                };
                if n >= WARM_UP {
                    times.push(time);
                }
            }
        }
        let theirs = quantiles(theirs);
        println!("{CALLS} unary calls each, in turn; p50 and p99 in us, and ours to theirs");
        println!(
            "{:<32}{:>10.1}{:>10.1}",
            "tonic's Channel", theirs[0], theirs[1]
        );
        for ((name, _), times) in cases.iter().zip(ours) {
            let [p50, p99] = quantiles(times);
            println!(
                "{name:<32}{p50:>10.1}{p99:>10.1}{:>9.2}x{:>9.2}x",
                p50 / theirs[0],
                p99 / theirs[1]
            );
        }
    });
}

fn option(name: &str) -> Option<usize> {
    let value = std::env::args().skip_while(|arg| arg != name).nth(1)?;
    value.parse().ok()
}

async fn timed(call: impl Future<Output = Result<(), tonic::Status>>) -> f64 {
    let start = Instant::now();
    call.await.expect("an answer");
    start.elapsed().as_secs_f64() * 1e6
}

fn quantiles(mut times: Vec<f64>) -> [f64; 2] {
    times.sort_by(f64::total_cmp);
    [times[times.len() / 2], times[times.len() * 99 / 100]]
}

/// On a thread of its own.
fn serve() -> SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            tell.send(listener.local_addr().expect("an address"))
                .expect("who asked");
            let (_, health) = tonic_health::server::health_reporter();
            let serving = Server::builder().add_service(health);
            serving
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .expect("to serve");
        });
    });
    told.recv().expect("an address")
}
