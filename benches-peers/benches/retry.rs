//! What retries cost a request that succeeds: ours beside tower's `Retry` with its `TpsBudget` and tower-resilience's, in
//! one run; and the budgets alone, on one thread and on two.
//!
//! `cargo bench --manifest-path benches-peers/Cargo.toml --bench retry`

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use benches_peers::{keep, medians};
use http::{HeaderName, HeaderValue, Request, Response};
use tower::retry::budget::{Budget as _, TpsBudget};
use tower::retry::{Policy, RetryLayer as TheirLayer};
use tower_layer::Layer;
use tower_mesh::budget::RetryBudget;
use tower_mesh::policy::{Budget, Retry};
use tower_mesh::retry::RetryLayer;
use tower_resilience_retry::RetryLayer as ResilienceLayer;
use tower_service::Service;

/// Answers at once.
#[derive(Clone)]
struct Leaf;

impl Service<()> for Leaf {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(()))
    }
}

impl Service<Request<()>> for Leaf {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Ok(Response::new(())))
    }
}

/// What a user of tower's has to write.
#[derive(Clone)]
struct TowersPolicy(Arc<TpsBudget>);

impl<Req: Clone, Res> Policy<Req, Res, Infallible> for TowersPolicy {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut Req, result: &mut Result<Res, Infallible>) -> Option<Ready<()>> {
        match result {
            Ok(_) => {
                self.0.deposit();
                None
            }
            Err(_) => self.0.withdraw().then(|| ready(())),
        }
    }

    fn clone_request(&mut self, request: &Req) -> Option<Req> {
        Some(request.clone())
    }
}

fn call<Req, S: Service<Req>>(service: &mut S, request: Req) {
    let mut cx = Context::from_waker(Waker::noop());
    keep(service.poll_ready(&mut cx).is_ready());
    let mut future = std::pin::pin!(service.call(keep(request)));
    while keep(future.as_mut().poll(&mut cx)).is_pending() {}
}

fn six_headers() -> Request<()> {
    let mut request = Request::get("http://web.shop/quote?id=7").body(()).unwrap();
    for name in [
        "accept",
        "user-agent",
        "x-request-id",
        "authorization",
        "traceparent",
        "host",
    ] {
        let value = HeaderValue::from_static("0123456789abcdef");
        request
            .headers_mut()
            .insert(HeaderName::from_static(name), value);
    }
    request
}

/// The same as a caller makes it, who has the values as text: no two requests share them.
fn made_by_its_caller() -> Request<()> {
    let mut request = Request::get(keep("http://web.shop/quote?id=7"));
    for name in [
        "accept",
        "user-agent",
        "x-request-id",
        "authorization",
        "traceparent",
        "host",
    ] {
        request = request.header(name, keep("0123456789abcdef"));
    }
    request.body(()).unwrap()
}

/// Nanoseconds of one call on each of so many threads: the median of some runs.
fn threads(count: usize, call: impl Fn() + Sync) -> f64 {
    const CALLS: u32 = 500_000;
    let mut times: Vec<f64> = (0..11)
        .map(|_| {
            let barrier = Barrier::new(count);
            let slowest = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..count)
                    .map(|_| {
                        scope.spawn(|| {
                            barrier.wait();
                            let start = Instant::now();
                            for _ in 0..CALLS {
                                call();
                            }
                            start.elapsed()
                        })
                    })
                    .collect();
                let times = threads.into_iter().map(|thread| thread.join().unwrap());
                times.max().unwrap_or_default()
            });
            slowest.as_secs_f64() * 1e9 / f64::from(CALLS)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let now = tokio::time::Instant::now;
    let policy = || Retry::on(500..=599).limit(2);
    let tps = |ratio| Arc::new(TpsBudget::new(Duration::from_secs(10), 10, ratio));
    let resilience = || {
        let budget = tower_resilience_retry::RetryBudgetBuilder::new()
            .token_bucket()
            .build();
        ResilienceLayer::<(), (), Infallible>::builder()
            .max_attempts(3)
            .budget(budget.unwrap())
            .build()
    };

    let ours_unit = RetryLayer::new(policy())
        .when(Result::<(), Infallible>::is_err)
        .layer(Leaf);
    let ours_http = RetryLayer::new(policy()).layer(Leaf);
    let theirs = TheirLayer::new(TowersPolicy(tps(0.2))).layer(Leaf);
    let (mut leaf, mut bare, mut ours_unit, mut ours_http) = (Leaf, Leaf, ours_unit, ours_http);
    let (mut bare_made, mut ours_made, mut theirs_made) = (Leaf, ours_http.clone(), theirs.clone());
    let (mut theirs_unit, mut theirs_http) = (theirs.clone(), theirs);
    let mut resilience_unit = resilience().layer(Leaf);
    let request = six_headers();

    // Each deposit pays for a withdrawal.
    let budget = RetryBudget::new(Budget::percent(100), now());
    let tps_budget = tps(1.0);
    let ours_alone = || {
        budget.success(now());
        keep(budget.withdraw(now()).map(|token| token.spend()).is_some());
    };
    let at = now();
    let ours_at = || {
        budget.success(at);
        keep(budget.withdraw(at).map(|token| token.spend()).is_some());
    };
    let theirs_alone = || {
        tps_budget.deposit();
        keep(tps_budget.withdraw());
    };
    let times = medians(
        500,
        2001,
        [
            &mut || call(&mut leaf, ()),
            &mut || call(&mut ours_unit, ()),
            &mut || call(&mut theirs_unit, ()),
            &mut || call(&mut resilience_unit, ()),
            &mut || call(&mut bare, request.clone()),
            &mut || call(&mut ours_http, request.clone()),
            &mut || call(&mut theirs_http, request.clone()),
            &mut || call(&mut bare_made, made_by_its_caller()),
            &mut || call(&mut ours_made, made_by_its_caller()),
            &mut || call(&mut theirs_made, made_by_its_caller()),
            &mut || ours_at(),
            &mut || ours_alone(),
            &mut || theirs_alone(),
            &mut || {
                keep(now());
            },
        ],
    );
    let names = [
        "unit: the service alone",
        "unit: ours",
        "unit: tower's Retry and TpsBudget",
        "unit: tower-resilience's, with its budget",
        "http: the service alone, and a clone of the request",
        "http: ours, and a clone of the request",
        "http: tower's, and a clone of the request",
        "http, made by its caller: the service alone",
        "http, made by its caller: ours",
        "http, made by its caller: tower's",
        "budget: ours, deposit and withdraw",
        "budget: ours, and the clock for each",
        "budget: TpsBudget, deposit and withdraw",
        "the clock",
    ];
    for (name, time) in names.iter().zip(times) {
        println!("{name:<52} {time:7.1} ns");
    }
    let ratio = |what: &str, ours: f64, theirs: f64, goal: f64| {
        println!("{what:<52} x{:7.2} (goal: {goal})", ours / theirs);
    };
    println!();
    ratio("unit: of tower's", times[1], times[2], 0.75);
    ratio("unit: of tower-resilience's", times[1], times[3], 1.0);
    ratio(
        "http: of tower's, without the bench's clone",
        times[5] - times[4],
        times[6] - times[4],
        0.6,
    );
    ratio("http: of tower's, with it", times[5], times[6], 0.6);
    ratio(
        "http, made by its caller: without its making",
        times[8] - times[7],
        times[9] - times[7],
        0.6,
    );
    ratio("budget: of TpsBudget", times[10], times[12], 0.3);
    println!();
    for (name, call) in [
        ("budget: ours", &ours_at as &(dyn Fn() + Sync)),
        ("budget: ours, and the clock", &ours_alone),
        ("budget: TpsBudget", &theirs_alone),
    ] {
        let (one, two) = (threads(1, call), threads(2, call));
        println!(
            "{name:<28} one thread {one:6.1} ns, two {two:6.1} ns: x{:.2}",
            two / one
        );
    }
}
