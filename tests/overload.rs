//! Retries that cannot make it worse, in the simulator: the reference overload, total failure, random errors.
//!
//! The long form, with its table: `cargo test --release --test overload -- --ignored --nocapture`.
#![cfg(feature = "sim")]

mod support;

use std::time::Duration;

use support::{Mesh, Reply, addresses, get};
use tower_mesh::policy::{Budget, ClientPolicy, EarnedBy, FailureAccrual, Load, Retry, Timeouts};
use tower_mesh::sim::{Report, World, healthy, ms, per_second, s};

/// A server for 300 requests a second stands still for `stall`; then it works through its line, wanted or not. A try has a
/// second, and who may retry tries once more.
fn overload(
    seed: u64,
    rate: u32,
    stall: Duration,
    length: Duration,
    retry: Option<Retry>,
) -> Report {
    let policy = match retry {
        Some(retry) => ClientPolicy::http()
            .timeouts(Timeouts::request(s(2)))
            .retry(retry),
        None => ClientPolicy::http().timeouts(Timeouts::request(s(1))),
    };
    World::seeded(seed)
        .policy(policy.build().unwrap())
        .endpoint(
            "server",
            healthy(Duration::from_nanos(3_333_333))
                .workers(1)
                .pauses()
                .between(s(20), s(20) + stall),
        )
        .load(per_second(rate))
        .run_for(length)
}

type Make = fn() -> Retry;

fn one_retry() -> tower_mesh::policy::RetryBuilder {
    Retry::on(500..=599).timeout(s(1))
}

/// Seconds from the end of the stall to the last second in which more than one request in a hundred failed; none if it
/// never came back.
fn recovery(report: &Report, stall: Duration) -> Option<f64> {
    let bad = |second: &&tower_mesh::sim::SecondReport| second.errors * 100 > second.requests;
    let last = report.timeline.iter().rfind(bad)?.second;
    (last + 1 < report.duration.as_secs()).then(|| (last + 1 - 20 - stall.as_secs()) as f64)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    (values[middle] + values[(values.len() - 1) / 2]) / 2.0
}

#[test]
fn an_overload_ends_no_later_with_a_retry() {
    let (stall, length) = (s(5), s(60));
    let ratios = (1..=3).map(|seed| {
        let none = overload(seed, 240, stall, length, None);
        let ours = overload(seed, 240, stall, length, Some(one_retry().build().unwrap()));
        recovery(&ours, stall).unwrap() / recovery(&none, stall).unwrap()
    });
    let ratio = median(ratios.collect());
    assert!(ratio <= 1.10, "{ratio}");
    // What the test would see otherwise.
    let unlimited = one_retry().unlimited().build().unwrap();
    let never = overload(1, 240, stall, length, Some(unlimited));
    assert_eq!(recovery(&never, stall), None);
}

#[test]
#[ignore = "minutes in a debug build; run it in a release build"]
fn the_reference_overload() {
    let stall = s(10);
    for (rate, length) in [(280, s(300)), (240, s(150))] {
        let policies: [(&str, Make); 4] = [
            ("default", || one_retry().build().unwrap()),
            ("20 % and 10/s, bank 10 s", || {
                one_retry()
                    .budget(Budget::default().bank(s(10)))
                    .build()
                    .unwrap()
            }),
            ("20 % of requests", || {
                let budget = Budget::default().earned_by(EarnedBy::Requests);
                one_retry().budget(budget).build().unwrap()
            }),
            ("unlimited", || one_retry().unlimited().build().unwrap()),
        ];
        let seeds = 1..=20;
        let none: Vec<_> = seeds
            .clone()
            .map(|seed| recovery(&overload(seed, rate, stall, length, None), stall).unwrap())
            .collect();
        println!("{rate}/s: without retries {} s", median(none.clone()));
        for (name, retry) in policies {
            let few = if name == "default" { 20 } else { 3 };
            let ratios: Vec<_> = seeds
                .clone()
                .take(few)
                .zip(&none)
                .map(|(seed, none)| {
                    let report = overload(seed, rate, stall, length, Some(retry()));
                    recovery(&report, stall).map_or(f64::INFINITY, |seconds| seconds / none)
                })
                .collect();
            let worst = ratios.iter().copied().fold(0.0, f64::max);
            let ratio = median(ratios);
            println!("{rate}/s: {name}: x{ratio:.3} of it, at worst x{worst:.3}");
            if name == "default" {
                assert!(ratio <= 1.10);
            }
        }
    }
}

#[test]
fn total_failure_is_not_amplified() {
    for rate in [280, 10] {
        let report = World::seeded(1)
            .policy(
                ClientPolicy::http()
                    .retry(Retry::on(500..=599))
                    .build()
                    .unwrap(),
            )
            .endpoint("a", healthy(ms(5)).fails(1.0).between(s(5), s(60)))
            .endpoint("b", healthy(ms(5)).fails(1.0).between(s(5), s(60)))
            .load(per_second(rate))
            .run_for(s(60));
        // The first window of ten seconds may use what there is.
        let later = report.timeline.iter().filter(|second| second.second >= 15);
        let (requests, attempts) = later.fold((0, 0), |(requests, attempts), second| {
            (
                requests + second.requests,
                attempts + second.attempts.iter().sum::<u64>(),
            )
        });
        let amplification = attempts as f64 / requests as f64;
        println!("{rate}/s in total failure: {amplification:.4} attempts a request");
        assert!(amplification <= 1.01, "{amplification}");
    }
}

#[test]
fn random_errors_are_covered() {
    let report = World::seeded(1)
        .policy(
            ClientPolicy::http()
                .retry(Retry::on(500..=599))
                .build()
                .unwrap(),
        )
        .endpoint("a", healthy(ms(5)).fails(0.01))
        .endpoint("b", healthy(ms(5)).fails(0.01))
        .load(per_second(500))
        .run_for(s(100));
    let success = 1.0 - report.error_rate();
    println!("1 % random errors: {:.4} % success", success * 100.0);
    assert!(success >= 0.9998, "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_fresh_client_retries_its_first_request() {
    for budget in [
        Budget::default(),
        Budget::percent(1).min_per_sec(0),
        Budget::percent(20)
            .min_per_sec(0)
            .earned_by(EarnedBy::Requests),
    ] {
        let policy = ClientPolicy::http().retry(Retry::on(503..=503).budget(budget));
        let fresh = Mesh::new(|_, n| Reply::Status(if n == 0 { 503 } else { 200 }, ms(1)));
        let client = fresh.client(policy.build().unwrap(), addresses(1));
        let response = client.request(get()).await.unwrap();
        assert_eq!(response.status(), 200, "{budget}");
        assert_eq!(client.snapshot().budgets[0].withdrawals, 1);
    }
}

/// One of three answers 500, with a body, from 10 s to 30 s.
fn one_of_three_fails(seed: u64, load: Load) -> Report {
    let policy = ClientPolicy::http()
        .retry(Retry::on(500..=599))
        .failure_accrual(FailureAccrual::consecutive(7))
        .load(load);
    let failing = healthy(ms(20)).fails(1.0).status(500).between(s(10), s(30));
    World::seeded(seed)
        .policy(policy.build().unwrap())
        .endpoint("a", healthy(ms(20)))
        .endpoint("b", healthy(ms(20)))
        .endpoint("c", failing)
        .load(per_second(200))
        .run_for(s(90))
}

#[test]
fn one_of_three_fails_and_nobody_notices() {
    // With the mesh's load, which knows nothing of failures, it is the breaker that keeps the traffic away.
    let mut load = Load::default();
    load.extensions_mut().failures = false;
    for seed in 1..=5 {
        let report = one_of_three_fails(seed, load);
        assert_eq!(report.error_rate(), 0.0, "{report}");
        let of_c = |what: &str| {
            let events = report.events.iter();
            let events = events.filter(|event| event.endpoint == Some(2) && event.what == what);
            events.map(|event| event.at).collect::<Vec<_>>()
        };
        let opened = of_c("opened");
        assert!(
            opened.first().is_some_and(|at| *at < s(20)),
            "it trips: {report}"
        );
        // Its current backoff ends with the next probe; then it has traffic, at least half of its part.
        let probe = of_c("probing").into_iter().find(|at| *at >= s(30)).unwrap();
        let mut seconds = report.timeline.iter();
        let back = seconds
            .find(|second| second.second >= 30 && second.attempts[2] >= 33)
            .unwrap();
        let beyond = (s(back.second + 1)).saturating_sub(probe);
        println!("seed {seed}: probed {probe:?}, traffic {beyond:?} later");
        assert!(beyond <= s(6), "{report}");
        assert!(probe < *opened.last().unwrap() + s(60), "{report}");
    }
}

/// With the default load, which keeps nearly all traffic away before the breaker has seen seven failures in a row.
#[test]
fn the_same_where_the_load_knows_of_failures() {
    for seed in 1..=5 {
        let report = one_of_three_fails(seed, Load::default());
        assert_eq!(report.error_rate(), 0.0, "{report}");
        let asked = |from, to| {
            let seconds = report.timeline.iter();
            let seconds = seconds.filter(move |second| (from..to).contains(&second.second));
            seconds.map(|second| (second.second, second.attempts[2]))
        };
        let meanwhile: u64 = asked(10, 30).map(|(_, attempts)| attempts).sum();
        let first = asked(30, 90).find(|(_, attempts)| *attempts > 0);
        let first = first.expect("it is asked again").0;
        println!("seed {seed}: asked {meanwhile} times, again in second {first}");
        assert!(meanwhile < 30, "{report}");
        assert!(first < 36, "{report}");
    }
}
