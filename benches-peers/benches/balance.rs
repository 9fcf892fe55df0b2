//! One balanced call over a service that answers at once: ours beside tower's `Balance`, bare and behind its `Buffer`.
//!
//! `cargo bench --manifest-path benches-peers/Cargo.toml --bench balance`, with `one`, `two` or `changes` after `--` for a
//! part of it. With `calls 10 20000` it only makes so many calls over so many endpoints, for a profiler.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use benches_peers::{keep, medians};
use tower::balance::p2c::Balance as TowerBalance;
use tower::buffer::Buffer;
use tower::discover::ServiceList;
use tower::load::{CompleteOnResponse, PeakEwma};
use tower_mesh::Endpoint;
use tower_mesh::balance::Balance;
use tower_mesh::discover::Update;
use tower_mesh::policy::{FailureAccrual, Unified};
use tower_service::Service;

#[derive(Clone)]
struct Nothing;

impl Service<u32> for Nothing {
    type Response = u32;
    type Error = Infallible;
    type Future = Ready<Result<u32, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u32) -> Self::Future {
        ready(Ok(request))
    }
}

fn poll<F: Future>(future: F) -> F::Output {
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut cx) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("not ready"),
    }
}

fn endpoints(count: u32) -> Vec<Endpoint> {
    let of = |n: u32| {
        let [a, b, c, d] = (0x0a00_0000 + n).to_be_bytes();
        Endpoint::new(([a, b, c, d], 80).into())
    };
    (0..count).map(of).collect()
}

fn ours(count: u32) -> Balance<Nothing> {
    let accrual = FailureAccrual::Unified(Unified::default());
    let balance = Balance::builder().failure_accrual(accrual).seed(1);
    let balance = balance.endpoints(endpoints(count)).build(|_| Nothing);
    let Ok(mut balance) = balance else {
        panic!("addresses");
    };
    // Every endpoint has answered.
    for n in 0..count * 20 {
        keep(poll(balance.call(n)).is_ok());
    }
    balance
}

fn towers(
    count: usize,
) -> TowerBalance<ServiceList<Vec<PeakEwma<Nothing, CompleteOnResponse>>>, u32> {
    let loaded = || {
        let (rtt, decay) = (Duration::from_millis(30), Duration::from_secs(10));
        let decay = decay.as_secs_f64() * 1e9;
        PeakEwma::new(Nothing, rtt, decay, CompleteOnResponse::default())
    };
    TowerBalance::new(ServiceList::new::<u32>(
        (0..count).map(|_| loaded()).collect(),
    ))
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let [what, count, calls] = &wanted[..]
        && what == "calls"
    {
        return calls_only(count.parse().unwrap_or(10), calls.parse().unwrap_or(0));
    }
    let parts: [(&str, fn()); 3] = [("one", one_task), ("two", two_tasks), ("changes", changes)];
    let named = |name: &str| wanted.iter().any(|word| word == name);
    let all = !parts.iter().any(|(name, _)| named(name));
    for (name, part) in parts {
        if all || named(name) {
            part();
        }
    }
}

fn calls_only(count: u32, calls: u32) {
    let mut balance = ours(count);
    for n in 0..calls {
        keep(poll(balance.call(n)).is_ok());
    }
}

fn one_task() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let Ok(runtime) = runtime else {
        panic!("no runtime");
    };
    let _entered = runtime.enter();
    println!("one call, ns (median of batches that take turns)");
    for count in [1u32, 10, 100, 1000, 10_000, 100_000] {
        let mut balance = ours(count);
        let mut call = || {
            keep(poll(balance.call(7)).is_ok());
        };
        let mut tower = (count <= 1000).then(|| towers(count as usize));
        let mut tower_call = || {
            if let Some(tower) = &mut tower {
                let mut cx = Context::from_waker(Waker::noop());
                keep(
                    Pin::new(&mut *tower)
                        .get_mut()
                        .poll_ready(&mut cx)
                        .is_ready(),
                );
                keep(poll(tower.call(7)).is_ok());
            }
        };
        let mut least = Least::new(count, 1);
        let mut least = || least.call();
        let mut lines = lines(count as usize);
        let [ours, tower, least, floor] = medians(
            2_000,
            101,
            [&mut call, &mut tower_call, &mut least, &mut lines],
        );
        match count {
            ..=1000 => println!(
                "{count:>7} endpoints  ours {ours:6.1}   tower's Balance {tower:6.1}   ratio {:.2}   the least that it takes {least:.1}",
                ours / tower
            ),
            _ => println!(
                "{count:>7} endpoints  ours {ours:6.1}   of it for lines that are in no cache {floor:6.1}"
            ),
        }
    }
    // Behind a Buffer there is a task, which has to run.
    let buffered = runtime.block_on(async {
        let mut buffer = Buffer::new(towers(10), 1024);
        let mut times: Vec<f64> = Vec::new();
        for _ in 0..51 {
            let start = Instant::now();
            for n in 0..2_000 {
                let ready = std::future::poll_fn(|cx| Service::<u32>::poll_ready(&mut buffer, cx));
                keep(ready.await.is_ok());
                keep(buffer.call(n).await.is_ok());
            }
            times.push(start.elapsed().as_secs_f64() * 1e9 / 2_000.0);
        }
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    let mut balance = ours(10);
    let mut times: Vec<f64> = (0..51)
        .map(|_| {
            let start = Instant::now();
            runtime.block_on(async {
                for n in 0..2_000 {
                    keep(balance.call(n).await.is_ok());
                }
            });
            start.elapsed().as_secs_f64() * 1e9 / 2_000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let ours = times[times.len() / 2];
    println!(
        "     10 endpoints, in a task: ours {ours:.1}, tower's behind its Buffer {buffered:.1}, ratio {:.2}",
        ours / buffered
    );
}

// What a choice by latency and requests in flight takes whatever else it does, where clones share the endpoints and the future
// owns what it needs: a snapshot, the clock twice, an endpoint kept alive until the answer, a count up and down again. No
// breaker, no failures, no silence, no decay, no line.
#[derive(Clone)]
struct Least {
    cells: Arc<ArcSwap<Vec<Arc<Cell>>>>,
    word: u64,
}

// In a line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Cell {
    pending: AtomicUsize,
    nanos: AtomicU64,
}

impl Least {
    fn new(count: u32, word: u64) -> Self {
        let cells = (0..count).map(|_| Arc::new(Cell::default())).collect();
        let cells = Arc::new(ArcSwap::from_pointee(cells));
        Self { cells, word }
    }

    fn call(&mut self) {
        let chosen = {
            let cells = self.cells.load();
            let word = &mut self.word;
            let mut next = || {
                *word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                &cells[((u128::from(*word) * cells.len() as u128) >> 64) as usize]
            };
            let (a, b) = (next(), next());
            let cost = |cell: &Cell| {
                let pending = cell.pending.load(Ordering::Relaxed) as u64;
                cell.nanos.load(Ordering::Relaxed) * (pending + 1)
            };
            Arc::clone(if cost(b) < cost(a) { b } else { a })
        };
        chosen.pending.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        keep(poll(Nothing.call(7)).is_ok());
        let nanos = begun.elapsed().as_nanos() as u64;
        let smooth = chosen.nanos.load(Ordering::Relaxed) / 8 * 7 + nanos / 8;
        chosen.nanos.store(smooth, Ordering::Relaxed);
        chosen.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

// The least that a call can touch of so many endpoints: a line of each of two random ones, and of the one it takes another
// to write to and one of its service. The next call's depend on them, as it begins when this one has ended.
fn lines(count: usize) -> impl FnMut() {
    let mut cells = vec![[0u64; 32]; count];
    let sites = vec![[0u64; 16]; count];
    let mut word = 1u64;
    move || {
        let mut next = || {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((u128::from(word) * count as u128) >> 64) as usize
        };
        let (a, b) = (next(), next());
        let chosen = if cells[a][0] <= cells[b][0] { a } else { b };
        cells[chosen][0] += 1;
        cells[chosen][16] += 1;
        word = word.wrapping_add(sites[chosen][0]);
    }
}

// Two threads with one balance, and two with one each, in turns, in short rounds that both begin together. The same for the
// least that a choice takes: what sharing costs that, nobody can spare who looks at what the others do.
fn two_tasks() {
    for count in [10u32, 100, 1000] {
        let shared = ours(count);
        let each = [ours(count), ours(count)];
        let calls = |balance: &Balance<Nothing>| {
            let mut balance = balance.clone();
            move || keep(poll(balance.call(7)).is_ok())
        };
        let ours = times(
            || [calls(&shared), calls(&shared)],
            || [calls(&each[0]), calls(&each[1])],
        );
        let (one, other) = (Least::new(count, 1), Least::new(count, 2));
        let calls = |least: &Least, word| {
            let mut least = Least {
                word,
                ..least.clone()
            };
            move || {
                least.call();
                true
            }
        };
        let least = times(
            || [calls(&one, 1), calls(&one, 2)],
            || [calls(&one, 1), calls(&other, 2)],
        );
        println!(
            "{count:>7} endpoints, two tasks: one balance {:.1} ns, one each {:.1} ns: {:.0} %; the least that it takes: {:.1} and {:.1} ns; a line from the other core {:.0} ns",
            ours[0],
            ours[1],
            ours[1] / ours[0] * 100.0,
            least[0],
            least[1],
            handover()
        );
    }
}

// Of both, the median time of a call.
fn times<F: FnMut() -> bool + Send + 'static>(
    shared: impl Fn() -> [F; 2],
    each: impl Fn() -> [F; 2],
) -> [f64; 2] {
    const ENOUGH: usize = 200;
    let mut times = [Vec::new(), Vec::new()];
    // On a busy machine few rounds begin together.
    for round in 0..200 {
        if round >= 20 && times.iter().all(|times| times.len() >= ENOUGH) {
            break;
        }
        times[0].extend(pair(shared()));
        times[1].extend(pair(each()));
    }
    times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
    })
}

// How long a line takes from one core to the other. It depends on where the host puts the two, which on a shared machine
// changes from one minute to the next, and with it what sharing costs.
fn handover() -> f64 {
    const TURNS: usize = 20_000;
    let turn = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let threads = [0, 1].map(|mine| {
        let turn = Arc::clone(&turn);
        std::thread::spawn(move || {
            for n in (mine..TURNS).step_by(2) {
                while turn.load(Ordering::Acquire) != n {
                    std::hint::spin_loop();
                }
                turn.store(n + 1, Ordering::Release);
            }
        })
    });
    let all = threads.map(|thread| thread.join().is_ok());
    keep(all);
    start.elapsed().as_secs_f64() * 1e9 / TURNS as f64
}

// For each round in which both began together, what a call took the slower one.
fn pair<F: FnMut() -> bool + Send + 'static>(calls: [F; 2]) -> Vec<f64> {
    const ROUNDS: usize = 100;
    const CALLS: u32 = 1_000;
    const TOGETHER: Duration = Duration::from_micros(10);
    let arrived = Arc::new(AtomicUsize::new(0));
    let tasks = calls.map(|mut call| {
        let arrived = Arc::clone(&arrived);
        std::thread::spawn(move || {
            let round = |round: usize| {
                arrived.fetch_add(1, Ordering::AcqRel);
                let mut spins = 0u32;
                while arrived.load(Ordering::Acquire) < 2 * (round + 1) {
                    spins += 1;
                    if spins.is_multiple_of(1000) {
                        std::thread::yield_now();
                    }
                    std::hint::spin_loop();
                }
                let start = Instant::now();
                for _ in 0..CALLS {
                    keep(call());
                }
                (start, start.elapsed())
            };
            (0..ROUNDS).map(round).collect::<Vec<_>>()
        })
    });
    let [a, b] = tasks.map(|task| task.join().unwrap_or_default());
    let together = |a: Instant, b: Instant| a.max(b).duration_since(a.min(b)) < TOGETHER;
    let both = a.iter().zip(&b).filter(|(a, b)| together(a.0, b.0));
    both.map(|(a, b)| a.1.max(b.1).as_secs_f64() * 1e9 / f64::from(CALLS))
        .collect()
}

fn changes() {
    let balance = ours(100_000);
    let all = endpoints(100_010);
    let mut added: Vec<f64> = all[100_000..]
        .iter()
        .map(|one| {
            let start = Instant::now();
            balance.update(Update::Add(vec![one.clone()]));
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    added.sort_by(f64::total_cmp);
    println!(
        "one more of 100 000: {:.3} ms (longest of ten {:.3})",
        added[5], added[9]
    );
    let reset = |endpoints: Vec<Endpoint>| {
        let start = Instant::now();
        balance.update(Update::Reset(endpoints));
        start.elapsed().as_secs_f64() * 1e3
    };
    println!(
        "reset of 100 000 to the same: {:.1} ms",
        reset(endpoints(100_000))
    );
    println!("reset of 100 000 to none: {:.1} ms", reset(Vec::new()));
    println!(
        "reset to 100 000 new ones: {:.1} ms",
        reset(endpoints(100_000))
    );
}
