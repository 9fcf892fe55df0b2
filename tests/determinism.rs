//! With a paused clock and a seed the same calls make the same decisions, at the same times, everywhere.

mod support;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::process::Command;

use support::{Log, Mesh, Reply, addresses, get, ms, s};
use tokio::time::Instant;
use tower_mesh::Client;
use tower_mesh::policy::{ClientPolicy, FailureAccrual, Load, Queue, Retry, Timeouts};
use tower_mesh::verdict::{Sent, TransportFailure};

const REQUESTS: u32 = 2_000;

// Ten endpoints with all that can go wrong: failures, refused connections, hangs, a total outage in the middle.
fn script(address: std::net::SocketAddr, n: usize) -> Reply {
    let std::net::IpAddr::V4(ip) = address.ip() else {
        unreachable!()
    };
    let last = ip.octets()[3];
    let latency = ms(5 + u64::from(last) * 3 + (n as u64 * 7) % 11);
    match (last, n) {
        (1, n) if n % 2 == 0 => Reply::Status(503, ms(1)),
        (2, 20..) => Reply::Fail(TransportFailure::Connect, Sent::NotSent, ms(1)),
        (3, n) if n % 17 == 16 => Reply::Hang,
        (4, n) if n % 5 == 0 => Reply::Fail(TransportFailure::Broken, Sent::Unknown, ms(3)),
        (_, 60..=75) => Reply::Status(500, ms(2)),
        _ => Reply::Status(200, latency),
    }
}

fn run(seed: u64) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        // One that sees failures would leave the breaker little to do.
        let mut load = Load::default();
        load.extensions_mut().failures = false;
        let policy = ClientPolicy::http()
            .load(load)
            .timeouts(Timeouts::request(s(1)))
            .retry(Retry::on(500..=599).limit(2).timeout(ms(200)))
            .failure_accrual(FailureAccrual::consecutive(3))
            .queue(Queue {
                capacity: 20,
                failfast_timeout: ms(500),
            })
            .build()
            .unwrap();
        let mesh = Mesh::new(script);
        let log = Log::default();
        let start = Instant::now();
        let client = Client::builder(policy)
            .endpoints(addresses(10))
            .seed(seed)
            .observer(log.observer())
            .build(mesh.connect())
            .unwrap();
        let mut callers = tokio::task::JoinSet::new();
        for n in 0..REQUESTS {
            let client = client.clone();
            callers.spawn(async move {
                let call = client.request(get());
                if n % 13 == 0 {
                    // Some callers leave.
                    let _ = tokio::time::timeout(ms(15), call).await;
                } else {
                    let _ = call.await;
                }
            });
            tokio::time::sleep(ms(2)).await;
        }
        while callers.join_next().await.is_some() {}
        log.lines(start)
    })
}

fn digest(lines: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    lines.hash(&mut hasher);
    hasher.finish()
}

#[test]
fn the_same_seed_makes_the_same_decisions_at_the_same_times() {
    let first = run(1);
    if let Ok(path) = std::env::var("TOWER_MESH_DIGEST_FILE") {
        // The other process: says what it saw, and leaves the comparing to the one that asked.
        std::fs::write(path, digest(&first).to_string()).unwrap();
        return;
    }
    // It is worth comparing: everything that can be decided was decided.
    for name in [
        "picked",
        "answered",
        "retried",
        "not_retried",
        "opened",
        "probing",
        "closed",
        "refused",
    ] {
        let count = first
            .iter()
            .filter(|line| line.to_lowercase().contains(&name.replace('_', "")))
            .count();
        assert!(count > 0, "no {name} in {} decisions", first.len());
    }
    assert!(first.len() > 3 * REQUESTS as usize);
    for _ in 1..20 {
        let again = run(1);
        for (a, b) in first.iter().zip(&again) {
            assert_eq!(a, b);
        }
        assert_eq!(first.len(), again.len());
    }
    assert_ne!(first, run(2), "another seed");

    let file = std::env::temp_dir().join(format!("tower-mesh-digest-{}", std::process::id()));
    let status = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "the_same_seed_makes_the_same_decisions_at_the_same_times",
        ])
        .env("TOWER_MESH_DIGEST_FILE", &file)
        .status()
        .unwrap();
    assert!(status.success());
    let other = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(other, digest(&first).to_string(), "another process");
}
