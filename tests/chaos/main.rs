//! Real servers on loopback that misbehave in every way we know, callers that do, too, several threads, and endpoints and
//! policies that come and go: nobody may hang, nothing may be left behind, nothing may be done twice that must not be.
//!
//! The seed decides what is tried, not how it comes out: this is no deterministic test. The wall clock is used for one thing
//! only, to tell a hang from a slow machine, a minute later.
//!
//! By hand, for longer: `CHAOS_SECONDS=600 CHAOS_SEED=1 cargo test --release --test chaos -- --nocapture`,
//! and `CHAOS_OVER=Http1` (or another leaf) for that one alone.

mod answer;
mod caller;
mod given;
mod ledger;
mod node;
mod raw;
mod upload;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::Instant;
use tower_mesh::Client;
use tower_mesh::breaker::Gate;
use tower_mesh::connect::{Connections, HttpConnector, Settings, TonicConnector, Version};
use tower_mesh::policy::ClientPolicy;

use caller::{Callers, Went};
use given::{Leaves, Recorded, discovery, policy};
use ledger::{Dice, Ledger, Living};
use node::{Phase, Town, node, settles};

/// Far beyond what anything here takes, on any machine.
const STUCK: Duration = Duration::from_secs(60);

/// Over which leaf, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Http1,
    Http2,
    Grpc,
    Tonic,
}

const ALL: [Over; 4] = [Over::Http1, Over::Http2, Over::Grpc, Over::Tonic];

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

static PANICS: AtomicUsize = AtomicUsize::new(0);

#[test]
fn nothing_hangs_and_nothing_is_left() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let what = text.or(payload.downcast_ref().copied()).unwrap_or_default();
        // Of a timer in a caller's body, whose runtime has ended: tokio's word to that caller.
        if !what.contains("is being shutdown") {
            PANICS.fetch_add(1, Ordering::SeqCst);
            told(panic);
        }
    }));
    let seed = number("CHAOS_SEED").unwrap_or(1);
    let began = Instant::now();
    let long = number("CHAOS_SECONDS").map(Duration::from_secs);
    let mut rounds = 0;
    loop {
        let only = std::env::var("CHAOS_OVER").ok();
        let wanted = |over: &Over| {
            only.as_ref()
                .is_none_or(|only| *only == format!("{over:?}"))
        };
        for over in ALL.into_iter().filter(wanted) {
            round(over, seed.wrapping_mul(1000) + rounds);
        }
        rounds += 1;
        if long.is_none_or(|long| (Instant::now() - began) > long) {
            break;
        }
    }
    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "somebody panicked");
}

// === one round ===

fn round(over: Over, seed: u64) {
    let mut dice = Dice::new(seed, over as u64);
    let threads = 1 + dice.below(4) as usize;
    let (ours, theirs): (Runtime, Runtime) = (runtime(threads), runtime(2));
    let ledger = Arc::<Ledger>::default();
    let began = Instant::now();
    let (phases, phase) = watch::channel(Phase::Bad);
    let town = Town {
        seed,
        http2: over != Over::Http1,
        ledger: Arc::clone(&ledger),
        // A channel of tonic's never gives up a connection that takes no streams at all, not even when it is dropped.
        streams: match over {
            Over::Tonic => &[Some(200), Some(200), Some(1), Some(3)],
            _ => &[Some(200), Some(200), Some(1), Some(3), Some(0)],
        },
        phase,
        connections: Arc::default(),
    };
    let mut nodes = Vec::new();
    for n in 0..1 + dice.below(5) {
        let (address, living) = theirs.block_on(node(town.clone(), n));
        theirs.spawn(living);
        nodes.push(address);
    }
    let bodies = Living::default();
    let summary = ours.block_on(chaos(over, seed, dice, &town, nodes, &bodies, &phases));
    // The client is dropped.
    let metrics = ours.metrics();
    // Its tasks have its sockets.
    let left = || (metrics.num_alive_tasks(), bodies.count());
    if !ours.block_on(settles(STUCK, || left() == (0, 0))) {
        let (tasks, bodies) = left();
        ledger.wrong(format!(
            "left of the client: {tasks} tasks, {bodies} request bodies"
        ));
    }
    let _ = phases.send(Phase::Gone);
    println!(
        "{over:?} seed {seed}, {threads} threads, {:.1?}, {} kB: {summary}\n  {}",
        (Instant::now() - began),
        resident(),
        ledger.counts()
    );
    let wrong = ledger.all_wrong();
    assert!(wrong.is_empty(), "{over:?}, seed {seed}: {wrong:#?}");
}

fn runtime(threads: usize) -> Runtime {
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.worker_threads(threads.max(1));
    builder.enable_all().build().unwrap()
}

async fn chaos(
    over: Over,
    seed: u64,
    mut dice: Dice,
    town: &Town,
    nodes: Vec<SocketAddr>,
    bodies: &Living,
    phases: &watch::Sender<Phase>,
) -> String {
    let grpc = matches!(over, Over::Grpc | Over::Tonic);
    let ledger = &town.ledger;
    let patience = ms(100 + dice.below(400));
    let limit = dice.below(3) as u16;
    let policy = |n: u64| policy(&mut Dice::new(seed, 1 << 44 | n), grpc, patience, limit);
    let (policies, watched) = watch::channel(policy(0));
    let leaves = dice.percent(50).then(Leaves::default);
    let (say, source) = discovery(dice.percent(50), &nodes);
    let builder = Client::builder(watched).endpoints(source).seed(seed);
    let settings = Settings::new()
        .with_connect_timeout(ms(300))
        .with_idle_timeout(ms(dice.one_of(&[0, 5, 50, 5000])))
        .with_max_age(dice.one_of(&[None, Some(ms(100))]))
        .with_max_idle(dice.one_of(&[0, 1, 32]))
        .with_streams_per_connection(dice.one_of(&[1, 3, 100]))
        .with_keep_alive(dice.one_of(&[None, Some((ms(100), ms(100)))]));
    let connector = HttpConnector::new().with_settings(settings);
    let client = match over {
        Over::Http1 => builder.build(Recorded(connector, leaves.clone())),
        Over::Http2 | Over::Grpc => {
            let connector = connector.with_version(Version::Http2);
            builder.build(Recorded(connector, leaves.clone()))
        }
        Over::Tonic => {
            let tonic = TonicConnector::new();
            // A connection to somebody who never speaks is found out by its keep-alive alone.
            builder.build(tonic.with(|endpoint| {
                endpoint
                    .connect_timeout(ms(300))
                    .http2_keep_alive_interval(ms(200))
                    .keep_alive_timeout(ms(200))
            }))
        }
    };
    let callers = Arc::new(Callers {
        client: client.unwrap(),
        seed,
        grpc,
        ledger: Arc::clone(ledger),
        bodies: bodies.clone(),
        nodes: nodes.clone(),
        patience,
        // One that is untouched is sent again unasked, and one hedge.
        extra: usize::from(limit) + 2,
        shelf: Mutex::default(),
    });
    let over_now = Arc::<AtomicBool>::default();
    let calls = Arc::<AtomicU64>::default();
    // Some call from a runtime that ends before the others do, with the connections that it carries.
    let mut spare = dice.percent(30).then(|| runtime(2));
    let calling = || {
        let (callers, over) = (Arc::clone(&callers), Arc::clone(&over_now));
        let calls = Arc::clone(&calls);
        async move {
            while !over.load(Ordering::Relaxed) {
                let number = calls.fetch_add(1, Ordering::Relaxed);
                match callers.any(number).await {
                    Went::Well => {}
                    // Refusals are at once: a loop of them would leave no thread for the clock.
                    Went::Otherwise => tokio::time::sleep(ms(1)).await,
                    Went::Closed => return,
                }
            }
        }
    };
    let count = dice.one_of(&[4, 40, 120]);
    let tasks: Vec<_> = (0..count)
        .filter_map(|n| match &spare {
            Some(spare) if n % 2 == 0 => {
                spare.spawn(calling());
                None
            }
            _ => Some(tokio::spawn(calling())),
        })
        .collect();
    // The weather.
    let end = Instant::now() + ms(600 + dice.below(1200));
    let mut n = 0;
    while Instant::now() < end {
        n += 1;
        tokio::time::sleep(ms(dice.below(60))).await;
        match dice.below(10) {
            0..3 => policies.send(policy(n)).unwrap(),
            3..7 => say(&mut dice),
            7 => {
                let some = callers.client.breakers().all();
                if let Some(breaker) = some.get(dice.below(8) as usize) {
                    match dice.below(3) {
                        0 => breaker.force_open(),
                        1 => breaker.force_closed(),
                        _ => breaker.reset(),
                    }
                }
            }
            8 if dice.percent(30) => {
                if let Some(spare) = spare.take() {
                    spare.shutdown_background();
                }
            }
            8 => callers.shelf.lock().unwrap().truncate(3),
            _ => drop(format!("{}", callers.client.snapshot())),
        }
    }
    let closing = dice.percent(30);
    let closed = closing.then(|| {
        let client = callers.client.clone();
        tokio::spawn(async move { client.close().await })
    });
    if let Some(spare) = spare {
        spare.shutdown_background();
    }
    over_now.store(true, Ordering::Relaxed);
    let abrupt = dice.percent(30);
    if abrupt {
        tasks.iter().for_each(|task| task.abort());
    }
    for task in tasks {
        if tokio::time::timeout(2 * STUCK, task).await.is_err() {
            ledger.wrong(format!("a caller hangs: {}", callers.client.snapshot()));
        }
    }
    // Nobody reads these, so that no deadline ends them.
    let mut shelf = std::mem::take(&mut *callers.shelf.lock().unwrap());
    let last = shelf.pop().filter(|_| !closing);
    drop(shelf);
    if let Some(closed) = closed
        && tokio::time::timeout(STUCK, closed).await.is_err()
    {
        ledger.wrong(format!("`close` hangs: {}", callers.client.snapshot()));
    }
    if let Some(last) = last {
        // In flight until it is read, whoever has its connection.
        if callers.client.snapshot().in_flight == 0 && !last.body().is_end_stream() {
            ledger.wrong("an unread response is not in flight".to_owned());
        }
        let reading = last.into_body().collect();
        let _ = tokio::time::timeout(patience, reading).await;
    }
    quiet(&callers, leaves.as_ref(), bodies).await;
    let snapshot = callers.client.snapshot();
    let extra = ledger.close();
    let paid: u64 = snapshot
        .budgets
        .iter()
        .map(|budget| budget.withdrawals)
        .sum();
    if extra > paid {
        ledger.wrong(format!("{extra} sent again, {paid} paid for"));
    }
    for budget in &snapshot.budgets {
        let (ratio, floor) = (budget.policy.ratio.ppm(), budget.policy.min_per_sec);
        let seconds = budget_seconds(end);
        let most = 10_000 + budget.deposits * u64::from(ratio) / 1000 + u64::from(floor) * seconds;
        if budget.withdrawals * 1000 + budget.balance_milli > most + 1 {
            ledger.wrong(format!("more was paid than there was: {budget}"));
        }
    }
    if !closing {
        recover(&callers, &nodes, &say, &policies, policy(0), phases).await;
    }
    format!(
        "{} calls, {extra} sent again",
        calls.load(Ordering::Relaxed)
    )
}

// How long a budget has had an income, in milliseconds, at most.
fn budget_seconds(end: Instant) -> u64 {
    let most = Duration::from_secs(2) + (Instant::now() - end);
    most.as_millis() as u64
}

async fn quiet(callers: &Callers, leaves: Option<&Leaves>, bodies: &Living) {
    let client = &callers.client;
    let none = |connections: Connections| {
        connections.active == 0 && connections.dialing == 0 && connections.waiting == 0
    };
    let quiet = || {
        let snapshot = client.snapshot();
        let probe = |gate| matches!(gate, Gate::HalfOpen { .. });
        snapshot.in_flight == 0
            && snapshot.backends.iter().all(|backend| backend.waiting == 0)
            && snapshot
                .endpoints()
                .all(|at| at.pending == 0 && !probe(at.gate))
            && leaves.is_none_or(|leaves| leaves.all().into_iter().all(none))
            && bodies.count() == 0
    };
    if !settles(STUCK, quiet).await {
        callers.ledger.wrong(format!(
            "it does not come to rest: {}\n{:?}, {} request bodies",
            client.snapshot(),
            leaves.map(Leaves::all),
            bodies.count()
        ));
    }
}

// All servers are well: all requests are served, before long.
async fn recover(
    callers: &Callers,
    nodes: &[SocketAddr],
    say: &impl Fn(&mut Dice),
    policies: &watch::Sender<ClientPolicy>,
    policy: ClientPolicy,
    phases: &watch::Sender<Phase>,
) {
    let _ = phases.send(Phase::Well);
    let _ = policies.send(policy);
    // Zero says: all of them.
    say(&mut Dice::new(0, u64::MAX));
    let well = async {
        let mut in_a_row = 0;
        while in_a_row < 10 * nodes.len() {
            // One that comes back is held as it was when it left.
            callers
                .client
                .breakers()
                .all()
                .iter()
                .for_each(|breaker| breaker.reset());
            let all = callers.client.snapshot().endpoints().count() == nodes.len();
            match callers.plain().await {
                Went::Well if all => in_a_row += 1,
                _ => {
                    in_a_row = 0;
                    tokio::time::sleep(ms(2)).await;
                }
            }
        }
    };
    if tokio::time::timeout(STUCK, well).await.is_err() {
        let snapshot = callers.client.snapshot();
        callers
            .ledger
            .wrong(format!("it does not recover: {snapshot}"));
    }
}

// What the process has in memory; for whoever reads the output.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = line.and_then(|line| line.split_whitespace().next());
    kb.and_then(|kb| kb.parse().ok()).unwrap_or(0)
}
