//! Many tasks on many threads, callers that leave, endpoints and policies that come and go: what must hold when all is quiet.

mod support;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use support::ms;
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tower_mesh::breaker::Gate;
use tower_mesh::core::draw::{Purpose, below, draw};
use tower_mesh::policy::{
    Budget, ClientPolicy, ExponentialBackoff, FailureAccrual, Queue, Ratio, Retry, Timeouts,
    Unified,
};
use tower_mesh::{Body, BoxError, Client, Endpoint, ErrorKind, RequestOptions};
use tower_service::Service;

// Chance from a shared count, so that every task has its own.
#[derive(Clone, Default)]
struct Dice(Arc<AtomicU64>);

impl Dice {
    fn below(&self, n: u64) -> u64 {
        let turn = self.0.fetch_add(1, Ordering::Relaxed);
        below(draw(7, turn, Purpose::Pick, 0), n)
    }
}

fn backoff(min: u64, max: u64) -> ExponentialBackoff {
    ExponentialBackoff::try_new(ms(min), ms(max), Ratio::percent(50)).unwrap()
}

fn policy(n: u64) -> ClientPolicy {
    let accrual = match n % 4 {
        0 => FailureAccrual::consecutive(1).backoff(backoff(1, 4)),
        1 => FailureAccrual::consecutive(3)
            .backoff(backoff(0, 2))
            .min_ready_endpoints(2),
        2 => Unified::try_new(Ratio::percent(80), ms(50), 5, 2, backoff(1, 8))
            .unwrap()
            .into(),
        _ => FailureAccrual::consecutive(2)
            .backoff(backoff(1, 2))
            .slow_call(ms(2)),
    };
    let http = ClientPolicy::http()
        .timeouts(Timeouts {
            request: Some(ms(40)),
            response: Some(ms(30)),
            idle: Some(ms(20)),
        })
        .queue(Queue {
            capacity: 50,
            failfast_timeout: ms(20),
        })
        .retry(
            Retry::on(500..=599)
                .limit(2)
                .timeout(ms(10))
                .backoff(backoff(0, 2))
                .budget(Budget::percent(50)),
        );
    let http = if n % 5 == 4 {
        http
    } else {
        http.failure_accrual(accrual)
    };
    http.build().unwrap()
}

// Fails, hangs, breaks, panics or answers, now or later, whole or in pieces.
fn leaf(dice: Dice, well: Arc<AtomicBool>) -> impl tower_mesh::Connect {
    move |_: &Endpoint| {
        let (dice, well) = (dice.clone(), Arc::clone(&well));
        let (moody, mood) = (dice.clone(), Arc::clone(&well));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (dice, well) = (dice.clone(), Arc::clone(&well));
            async move {
                let _request = request;
                let what = if well.load(Ordering::Relaxed) {
                    9
                } else {
                    dice.below(12)
                };
                if dice.below(2) == 0 {
                    tokio::time::sleep(ms(dice.below(4))).await;
                }
                match what {
                    0 => return Err::<_, BoxError>("broken".into()),
                    1 => std::future::pending().await,
                    2 => panic!("a leaf that panics"),
                    _ => {}
                }
                let status = if matches!(what, 3 | 4) { 503 } else { 200 };
                let body = match what {
                    5 | 6 => {
                        let frames = tokio_stream::iter(0..3).then(move |n| async move {
                            tokio::time::sleep(ms(1)).await;
                            match (what, n) {
                                (6, 2) => Err::<_, BoxError>("broken".into()),
                                _ => Ok(Frame::data(Bytes::from_static(b"x"))),
                            }
                        });
                        Body::new(StreamBody::new(Box::pin(frames)))
                    }
                    7 => Body::empty(),
                    _ => Body::from("whole"),
                };
                Ok(Response::builder().status(status).body(body).unwrap())
            }
        });
        Moody {
            service,
            dice: moody,
            well: mood,
            mood: None,
        }
    }
}

// Not ready at once, now and then, or never, or broken.
struct Moody<S> {
    service: S,
    dice: Dice,
    well: Arc<AtomicBool>,
    mood: Option<Pin<Box<Mood>>>,
}

type Mood = dyn Future<Output = Result<(), BoxError>> + Send + Sync;

impl<S: Clone> Clone for Moody<S> {
    fn clone(&self) -> Self {
        Self {
            service: self.service.clone(),
            dice: self.dice.clone(),
            well: Arc::clone(&self.well),
            mood: None,
        }
    }
}

impl<S> Service<Request<Body>> for Moody<S>
where
    S: Service<Request<Body>, Error = BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let (dice, well) = (&self.dice, &self.well);
        let mood = self.mood.get_or_insert_with(|| {
            let what = if well.load(Ordering::Relaxed) {
                9
            } else {
                dice.below(10)
            };
            Box::pin(async move {
                match what {
                    0 => std::future::pending().await,
                    1 => Err("unready".into()),
                    2 | 3 => {
                        tokio::time::sleep(ms(what)).await;
                        Ok(())
                    }
                    _ => Ok(()),
                }
            })
        });
        mood.as_mut().poll(cx)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        self.mood = None;
        self.service.call(request)
    }
}

fn endpoints(dice: &Dice) -> Vec<Endpoint> {
    let count = dice.below(9);
    (0..count)
        .map(|_| Endpoint::new(([10, 0, 0, 1 + dice.below(8) as u8], 80).into()))
        .collect()
}

fn all() -> Vec<Endpoint> {
    (1..=8)
        .map(|n| Endpoint::new(([10, 0, 0, n], 80).into()))
        .collect()
}

async fn one(client: &Client, dice: &Dice) {
    let mut request = Request::get("http://web/").body(Body::empty()).unwrap();
    match dice.below(12) {
        0 => {
            let pin = ([10, 0, 0, 1 + dice.below(8) as u8], 80).into();
            request
                .extensions_mut()
                .insert(RequestOptions::new().pin(pin));
        }
        1 => {
            let headers = request.headers_mut();
            headers.insert("content-type", "application/grpc".parse().unwrap());
        }
        _ => {}
    }
    let patience = ms(if dice.below(3) == 0 {
        dice.below(6)
    } else {
        1000
    });
    let call = client.request(request);
    let Ok(Ok(response)) = tokio::time::timeout(patience, call).await else {
        return;
    };
    match dice.below(3) {
        0 => {}
        1 => {
            let _ = response.into_body().frame().await;
        }
        _ => {
            let _ = response.into_body().collect().await;
        }
    }
}

#[test]
fn nothing_is_left_behind_when_all_is_quiet() {
    std::panic::set_hook(Box::new(|_| {}));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        for round in 0..3 {
            storm(round).await;
        }
    });
    let _ = std::panic::take_hook();
}

// One endpoint that comes and goes, fails its probes half the time, loses its policy; requests that may wait for ever.
#[test]
fn nobody_who_waits_is_forgotten() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let dice = Dice::default();
        let policy = |n: u64| {
            let policy = ClientPolicy::http().queue(Queue {
                capacity: usize::MAX,
                failfast_timeout: Duration::MAX,
            });
            let accrual = FailureAccrual::consecutive(1).backoff(backoff(0, 2));
            let policy = match n % 3 {
                0 => policy,
                _ => policy.failure_accrual(accrual),
            };
            policy.build().unwrap()
        };
        let (policies, watched) = watch::channel(policy(1));
        let one = vec![Endpoint::new(([10, 0, 0, 1], 80).into())];
        let (lists, list) = watch::channel(one.clone());
        let flaky = {
            let dice = dice.clone();
            move |_: &Endpoint| {
                let dice = dice.clone();
                tower::service_fn(move |_: Request<Body>| {
                    let dice = dice.clone();
                    async move {
                        if dice.below(2) == 0 {
                            tokio::task::yield_now().await;
                        }
                        let status = if dice.below(2) == 0 { 500 } else { 200 };
                        let response = Response::builder().status(status);
                        Ok::<_, BoxError>(response.body(Body::empty()).unwrap())
                    }
                })
            }
        };
        let client = Client::builder(watched)
            .endpoints(list)
            .seed(1)
            .build(flaky)
            .unwrap();
        for round in 0..200 {
            let calls: Vec<_> = (0..50)
                .map(|n| {
                    let call = client.request(Request::new(Body::empty()));
                    let patience = if n % 5 == 0 { ms(1) } else { ms(20_000) };
                    tokio::spawn(tokio::time::timeout(patience, call))
                })
                .collect();
            if round % 2 == 0 {
                lists.send(vec![]).unwrap();
                tokio::task::yield_now().await;
                lists.send(one.clone()).unwrap();
            }
            if round % 7 == 0 {
                policies.send(policy(round)).unwrap();
            }
            for (n, call) in calls.into_iter().enumerate() {
                let call = call.await.unwrap();
                assert!(call.is_ok() || n % 5 == 0, "{n} {}", client.snapshot());
                if let Ok(Err(error)) = call {
                    // Those who came while the list said that there are none.
                    assert!(
                        matches!(error.kind(), ErrorKind::NoEndpoints { .. }),
                        "{error}"
                    );
                }
            }
        }
        let snapshot = client.snapshot();
        assert_eq!(
            snapshot.backends.iter().map(|b| b.waiting).sum::<usize>(),
            0
        );
    });
}

#[test]
fn every_token_is_spent_once_or_back_in_the_bank() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let dice = Dice::default();
        for round in 0..20u64 {
            let seen = Arc::new(Mutex::new(BTreeMap::<String, u64>::new()));
            let leaf = {
                let (dice, seen) = (dice.clone(), Arc::clone(&seen));
                move |_: &Endpoint| {
                    let (dice, seen) = (dice.clone(), Arc::clone(&seen));
                    tower::service_fn(move |request: Request<Body>| {
                        let path = request.uri().path().to_owned();
                        *seen.lock().unwrap().entry(path).or_default() += 1;
                        let wait = dice.below(3);
                        async move {
                            tokio::time::sleep(ms(wait)).await;
                            let response = Response::builder().status(503);
                            Ok::<_, BoxError>(response.body(Body::empty()).unwrap())
                        }
                    })
                }
            };
            let budget = Budget::percent(20).min_per_sec(0);
            let retry = Retry::on(500..=599).limit(3).backoff(backoff(0, 4));
            let accrual = FailureAccrual::consecutive(3).backoff(backoff(0, 3));
            let policy = ClientPolicy::http()
                .retry(retry.budget(budget))
                .failure_accrual(accrual);
            let client = Client::builder(policy.build().unwrap())
                .endpoints(all())
                .seed(round)
                .build(leaf)
                .unwrap();
            let calls: Vec<_> = (0..60)
                .map(|n| {
                    let request = Request::get(format!("http://web/{n}"));
                    let call = client.request(request.body(Body::empty()).unwrap());
                    let patience = ms(if n % 2 == 0 { dice.below(6) } else { 5000 });
                    tokio::spawn(tokio::time::timeout(patience, call))
                })
                .collect();
            for call in calls {
                let _ = call.await.unwrap();
            }
            let extra: u64 = seen.lock().unwrap().values().map(|sent| sent - 1).sum();
            let banks = client.snapshot().budgets;
            assert_eq!(banks.len(), 1);
            assert_eq!(banks[0].balance_milli + extra * 1000, 10_000, "{extra}");
            assert_eq!(banks[0].withdrawals, extra);
        }
    });
}

async fn storm(round: u64) {
    let dice = Dice::default();
    dice.0.store(round << 32, Ordering::Relaxed);
    let well = Arc::new(AtomicBool::new(false));
    let (policies, watched) = watch::channel(policy(0));
    let (lists, list) = watch::channel(all());
    let client = Client::builder(watched)
        .endpoints(list)
        .seed(round)
        .build(leaf(dice.clone(), Arc::clone(&well)))
        .unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for _ in 0..64 {
        let (client, dice, over) = (client.clone(), dice.clone(), Arc::clone(&over));
        let served = Arc::clone(&served);
        tasks.push(tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let (client, dice) = (client.clone(), dice.clone());
                // In a task of its own: leaves panic.
                let call = tokio::spawn(async move { one(&client, &dice).await });
                let abort = call.abort_handle();
                if served.fetch_add(1, Ordering::Relaxed).is_multiple_of(50) {
                    abort.abort();
                }
                let _ = call.await;
            }
        }));
    }
    for n in 0..150 {
        policies.send(policy(n)).unwrap();
        lists.send(endpoints(&dice)).unwrap();
        let _ = client.snapshot();
        tokio::time::sleep(ms(10)).await;
    }
    over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    lists.send(all()).unwrap();
    tokio::time::sleep(ms(20)).await;
    let snapshot = client.snapshot();
    assert_eq!(snapshot.in_flight, 0, "{snapshot}");
    assert!(
        snapshot.backends.iter().all(|b| b.waiting == 0),
        "{snapshot}"
    );
    assert_eq!(snapshot.endpoints().count(), 8);
    for endpoint in snapshot.endpoints() {
        assert_eq!(endpoint.pending, 0, "{snapshot}");
        assert!(
            !matches!(endpoint.gate, Gate::HalfOpen { .. }),
            "{snapshot}"
        );
    }
    // All recover when they are well, and every request is served.
    well.store(true, Ordering::Relaxed);
    policies.send(policy(0)).unwrap();
    tokio::time::sleep(ms(20)).await;
    for _ in 0..2000 {
        let _ = client.request(Request::new(Body::empty())).await.unwrap();
        if client
            .snapshot()
            .endpoints()
            .all(|e| e.gate == Gate::Closed)
        {
            break;
        }
        tokio::time::sleep(ms(1)).await;
    }
    let snapshot = client.snapshot();
    assert!(
        snapshot.endpoints().all(|e| e.gate == Gate::Closed),
        "{snapshot}"
    );
    // The floor still counts right: of eight that fail, five may go and three stay.
    let never = ExponentialBackoff::try_new(Duration::MAX, Duration::MAX, Ratio::ZERO).unwrap();
    let floor = FailureAccrual::consecutive(1)
        .backoff(never)
        .min_ready_endpoints(3)
        .slow_call(Duration::ZERO);
    let floor = ClientPolicy::http().failure_accrual(floor).build().unwrap();
    policies.send(floor).unwrap();
    tokio::time::sleep(ms(20)).await;
    for n in (1..=8).cycle().take(32) {
        let mut request = Request::new(Body::empty());
        let pin = ([10, 0, 0, n], 80).into();
        let options = RequestOptions::new().pin(pin).timeout(ms(5));
        request.extensions_mut().insert(options);
        let _ = client.request(request).await;
    }
    let snapshot = client.snapshot();
    let serving = snapshot.endpoints().filter(|e| e.gate == Gate::Closed);
    assert_eq!(serving.count(), 3, "{snapshot}");
    println!("{} requests", served.load(Ordering::Relaxed));
}
