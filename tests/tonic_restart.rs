//! A rolling restart of three tonic servers under load: one retry is enough, gracefully or not.

mod grpc;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use grpc::{BOTH, Over, Server, hyper_leaf, in_time, server_of, tonic_leaf, unary};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tonic::Status;
use tower_mesh::Client;
use tower_mesh::core::observe::{Decision, Observer};
use tower_mesh::policy::{
    ClientPolicy, Codes, ConsecutiveFailures, ExponentialBackoff, FailureAccrual, Ratio, Retry,
};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// A server on a runtime of its own: its end can be as sudden as a process's.
struct Process {
    address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
    stop: mpsc::Sender<()>,
    stopped: tokio::task::JoinHandle<()>,
}

impl Process {
    async fn start(name: &'static str, address: Option<SocketAddr>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let address = address.unwrap_or_else(|| ([127, 0, 0, 1], 0).into());
        let (stop, mut told) = mpsc::channel(1);
        let (started, address) = runtime
            .spawn(async move {
                let listener = TcpListener::bind(address).await.unwrap();
                let server = Server::on(listener, name);
                let address = server.address;
                (server, address)
            })
            .await
            .unwrap();
        let stopped = runtime.spawn(async move {
            let _ = told.recv().await;
            started.stop().await;
        });
        Self {
            address,
            runtime: Some(runtime),
            stop,
            stopped,
        }
    }

    async fn end(mut self, graceful: bool) {
        if graceful {
            self.stop.send(()).await.unwrap();
            self.stopped.await.unwrap();
        }
        // Everything it has is gone at once.
        let runtime = self.runtime.take().unwrap();
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(5)))
            .await
            .unwrap();
    }
}

#[derive(Default)]
struct Load {
    done: AtomicUsize,
    failed: std::sync::Mutex<Vec<Status>>,
    by_server: std::sync::Mutex<std::collections::BTreeMap<String, usize>>,
}

impl Load {
    // 500 calls a second, whatever becomes of them; not more where the machine was busy with something else.
    async fn run(self: Arc<Self>, client: Client, stop: Arc<AtomicUsize>) {
        let mut calls = tokio::task::JoinSet::new();
        let mut ticks = tokio::time::interval(Duration::from_millis(2));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.load(Ordering::SeqCst) == 0 {
            ticks.tick().await;
            let (load, client) = (Arc::clone(&self), client.clone());
            calls.spawn(async move {
                match in_time(unary(client, "/test.Echo/Unary", b"x")).await {
                    Ok(answer) => {
                        let mut by_server = load.by_server.lock().unwrap();
                        *by_server.entry(server_of(&answer)).or_default() += 1;
                    }
                    Err(status) => load.failed.lock().unwrap().push(status),
                }
                load.done.fetch_add(1, Ordering::SeqCst);
            });
        }
        while let Some(call) = calls.join_next().await {
            call.unwrap();
        }
    }

    async fn more(&self, calls: usize) {
        let until = self.done.load(Ordering::SeqCst) + calls;
        in_time(async {
            while self.done.load(Ordering::SeqCst) < until {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

/// What came of the attempts, and why requests were not tried again.
#[derive(Clone, Default)]
struct Tally(Arc<std::sync::Mutex<std::collections::BTreeMap<String, usize>>>);

impl Observer for Tally {
    fn observe(&self, _: Instant, decision: &Decision) {
        let what = match decision {
            Decision::Answered {
                answer, attempt, ..
            } => format!("{attempt}: {answer:?}"),
            Decision::NotRetried { why, .. } => format!("not again: {why:?}"),
            _ => return,
        };
        *self.0.lock().unwrap().entry(what).or_default() += 1;
    }
}

fn watched(over: Over, policy: ClientPolicy, endpoints: &[SocketAddr], tally: &Tally) -> Client {
    let builder = Client::builder(policy)
        .endpoints(endpoints.to_vec())
        .observer(tally.clone());
    match over {
        Over::Hyper => builder.build(hyper_leaf()),
        Over::Channel => builder.build(tonic_leaf()),
    }
    .unwrap()
}

async fn rolling(over: Over, graceful: bool) {
    let backoff = ExponentialBackoff::try_new(
        Duration::from_millis(20),
        Duration::from_millis(100),
        Ratio::ONE,
    );
    let accrual = ConsecutiveFailures {
        max_failures: 3,
        backoff: backoff.unwrap(),
        extensions: Default::default(),
    };
    let policy = ClientPolicy::grpc()
        // One retry, within the default budget: 20 % of what succeeds, and 10 a second.
        .retry(Retry::on_codes([Codes::UNAVAILABLE]))
        .failure_accrual(FailureAccrual::from(accrual))
        .build()
        .unwrap();
    let mut servers = Vec::new();
    for name in NAMES {
        servers.push(Process::start(name, None).await);
    }
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let tally = Tally::default();
    let client = watched(over, policy, &addresses, &tally);
    let (load, stop) = (Arc::<Load>::default(), Arc::<AtomicUsize>::default());
    let running = tokio::spawn(Arc::clone(&load).run(client.clone(), Arc::clone(&stop)));
    // A second of traffic: the budget is what it is in service, and not yet full.
    load.more(500).await;
    for name in NAMES {
        let server = servers.remove(0);
        let address = server.address;
        server.end(graceful).await;
        load.more(150).await;
        servers.push(Process::start(name, Some(address)).await);
        load.more(150).await;
    }
    stop.store(1, Ordering::SeqCst);
    in_time(running).await.unwrap();
    let failed = std::mem::take(&mut *load.failed.lock().unwrap());
    let done = load.done.load(Ordering::SeqCst);
    assert!(
        failed.is_empty(),
        "{over:?}: {} of {done}: {:?}; {:?}; {}",
        failed.len(),
        failed[0],
        tally.0.lock().unwrap(),
        client.snapshot().budgets[0],
    );
    let budget = client.snapshot().budgets[0];
    assert_eq!(budget.refusals, 0);
    println!(
        "{over:?}, graceful {graceful}: {done} calls, {} retries: {:?}",
        budget.withdrawals,
        tally.0.lock().unwrap()
    );
    assert_eq!(client.snapshot().in_flight, 0);
    // All have come back.
    load.by_server.lock().unwrap().clear();
    in_time(async {
        while load.by_server.lock().unwrap().len() < 3 {
            let answer = unary(client.clone(), "/test.Echo/Unary", b"x")
                .await
                .unwrap();
            let mut by_server = load.by_server.lock().unwrap();
            *by_server.entry(server_of(&answer)).or_default() += 1;
        }
    })
    .await;
    for server in servers {
        server.end(false).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graceful() {
    for over in BOTH {
        rolling(over, true).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abrupt() {
    for over in BOTH {
        rolling(over, false).await;
    }
}
