//! What the breakers must show in simulated worlds: medians over seeds of the library's scenarios.
//!
//! Of a few seeds in every build, and of all twenty with
//! `cargo test --release --test breaker_scenarios -- --include-ignored --nocapture`.
#![cfg(feature = "sim")]

use std::ops::Range;

use tower_mesh::sim::{Report, Scenario, s};

fn reports(name: &str, seeds: Range<u64>) -> Vec<Report> {
    let scenario = Scenario::from_path(format!("examples/scenarios/{name}.yaml")).unwrap();
    let seeds = seeds.map(|seed| scenario.clone().with_seed(seed).run().unwrap());
    seeds.collect()
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    let half = figures.len() / 2;
    (figures[half] + figures[(figures.len() - 1) / 2]) / 2.0
}

// === gray failure ===

// One of ten fails half of its requests, for twenty clients whose load is plain peak EWMA: the median part that fails.
fn gray(seeds: Range<u64>, policy: &str) -> f64 {
    let name = format!("gray-failure-{policy}");
    let errors = median(reports(&name, seeds).iter().map(Report::error_rate));
    println!("{name}: {:.3} %", 100.0 * errors);
    errors
}

#[test]
fn a_gray_failure_costs_little() {
    assert!(gray(SEEDS, "everything") <= 0.005);
}

#[test]
fn a_gray_failure_among_ambient_errors_costs_little() {
    assert!(gray(SEEDS, "ambient-everything") <= 0.0145);
}

/// With everything on, beside three probes alone and seven failures in a row.
#[test]
#[ignore = "twenty seeds: minutes, in a release build"]
fn a_gray_failure_costs_little_in_twenty_worlds() {
    for (ambient, goal) in [("", 0.005), ("ambient-", 0.0145)] {
        let [everything, probes, consecutive] = ["everything", "probes", "consecutive"]
            .map(|policy| gray(1..21, &format!("{ambient}{policy}")));
        assert!(everything <= goal);
        assert!(everything < probes && probes < consecutive);
    }
}

// === flapping ===

// A cycle is ten seconds good, ten bad; what is late of it counts to it.
fn errors(report: &Report, cycles: Range<u64>) -> f64 {
    let seconds = cycles.start * 20 + 10..cycles.end * 20 + 10;
    let seconds = report
        .timeline
        .iter()
        .filter(|t| seconds.contains(&t.second));
    seconds.map(|t| t.errors).sum::<u64>() as f64
}

fn flapping(seeds: Range<u64>) {
    let ours = reports("flapping", seeds.clone());
    let forgetful = reports("flapping-forgetful", seeds);
    let first = median(ours.iter().map(|report| errors(report, 0..10)));
    let last = median(ours.iter().map(|report| errors(report, 20..30)));
    let of = |reports: &[Report]| median(reports.iter().map(|report| report.failed() as f64));
    let (all, without) = (of(&ours), of(&forgetful));
    println!("first ten cycles {first}, last ten {last}, all {all}; without a memory {without}");
    assert!(last <= first / 2.0, "{last} > {first} / 2");
    assert!(all <= without / 3.0, "{all} > {without} / 3");
}

#[test]
fn what_flaps_is_readmitted_ever_more_slowly() {
    flapping(SEEDS);
}

#[test]
#[ignore = "twenty seeds: minutes, in a release build"]
fn what_flaps_is_readmitted_ever_more_slowly_in_twenty_worlds() {
    flapping(1..21);
}

// === a thousand clients ===

/// They trip together, and probe as widely spread as they can be: in any tenth of the mean interval at most three times
/// the mean.
#[test]
#[ignore = "twenty seeds: minutes, in a release build"]
fn a_thousand_clients_that_trip_together_do_not_probe_together() {
    for seed in 1..21 {
        let [report] = &reports("herd", seed..seed + 1)[..] else {
            unreachable!()
        };
        let probes = report.events.iter().filter(|event| event.what == "probing");
        let mut times: Vec<_> = probes.map(|event| event.at).collect();
        // While it lasts. When one is back, its client probes the others at once, as it should.
        times.retain(|at| *at < s(20));
        times.sort();
        // From 10 s to 20 s all clients probe, each of them its endpoints in turn.
        let during = times.iter().filter(|at| **at >= s(10));
        let interval = s(10) * 1000 / u32::try_from(during.count()).unwrap();
        let mut from = 0;
        let counts = (0..times.len()).map(|to| {
            while times[to] - times[from] > interval / 10 {
                from += 1;
            }
            to - from + 1
        });
        let most = counts.max().unwrap();
        println!("seed {seed}: one in {interval:?}, at most {most} in a tenth of that");
        assert!(
            most <= 300,
            "seed {seed}: {most} in a tenth of {interval:?}"
        );
    }
}

const SEEDS: Range<u64> = if cfg!(debug_assertions) { 1..2 } else { 1..6 };
