//! How often it is wrong, and how soon it is right.

use super::*;
use crate::core::draw::{Purpose, below, draw};

const MILLION: u64 = 1_000_000;

/// Endpoints that have `rate` results a second each, at random.
struct Pool {
    totals: Mutex<Totals>,
    endpoints: Vec<Peers>,
    // Nanoseconds between two results of any.
    gap: u64,
    at: u64,
    number: u64,
    seed: u64,
}

impl Pool {
    fn new(endpoints: usize, rate: f64, allowed: Ratio, seed: u64) -> Self {
        Self {
            totals: Mutex::default(),
            endpoints: vec![Peers::new(allowed); endpoints],
            gap: (SECOND as f64 / (rate * endpoints as f64)) as u64,
            at: 0,
            number: 0,
            seed,
        }
    }

    /// One result: which endpoint it is of, and whether that is ejected for it. `fails` in a million.
    fn step(&mut self, fails: impl Fn(usize) -> u64) -> (usize, Option<String>) {
        self.number += 1;
        let word = |n| draw(self.seed, self.number, Purpose::Simulate, n);
        // Twice the gap at most, so that it is the gap on average.
        self.at += below(word(0), 2 * self.gap);
        let which = below(word(1), self.endpoints.len() as u64) as usize;
        let bad = below(word(2), MILLION) < fails(which);
        let why = self.endpoints[which].record(self.at, bad, &self.totals);
        if why.is_some() {
            self.endpoints[which].parole();
        }
        (which, why)
    }

    fn run(&mut self, seconds: u64, fails: impl Fn(usize) -> u64) -> u64 {
        let end = self.at + seconds * SECOND;
        let mut ejected = 0;
        while self.at < end {
            ejected += u64::from(self.step(&fails).1.is_some());
        }
        ejected
    }
}

const HOURLY: Ratio = Ratio::percent(10);

pub fn explore() {
    for endpoints in [3, 10, 300] {
        for rate in [0.1, 5.0, 100.0] {
            for ambient in [1_000, 10_000, 50_000] {
                let results: u64 = std::env::args().nth(1).unwrap().parse().unwrap();
                let seconds = (results as f64 / rate / endpoints as f64).max(20.0) as u64;
                let mut pool = Pool::new(endpoints, rate, HOURLY, 1);
                let ejected = pool.run(seconds, |_| ambient);
                let hours = seconds as f64 * endpoints as f64 / 3600.0;
                let delay = |failing: u64| {
                    let mut delays: Vec<_> = (0..40)
                        .map(|seed| {
                            let mut pool = Pool::new(endpoints, rate, HOURLY, seed);
                            pool.run(
                                (60.0f64).max(300.0 / rate / endpoints as f64) as u64,
                                |_| ambient,
                            );
                            pool.endpoints.iter_mut().for_each(|e| e.forget());
                            let start = pool.at;
                            let (mut n, mut bad) = (0, 0);
                            let _ = bad;
                            loop {
                                let (which, why) =
                                    pool.step(|i| if i == 0 { failing } else { ambient });
                                n += u64::from(which == 0);
                                if which == 0 && why.is_some() || n > 100_000 {
                                    break;
                                }
                            }
                            bad = (pool.at - start) / 1_000_000;
                            (n, bad)
                        })
                        .collect();
                    delays.sort();
                    delays[20]
                };
                println!(
                    "{endpoints:>4} {rate:>6}/s {:>5} % : {ejected:>5} in {hours:>8.0} h = {:.3}/h; 50 %: {:?} 20 %: {:?}",
                    ambient as f64 / 1e4,
                    ejected as f64 / hours,
                    delay(500_000),
                    delay(200_000),
                );
            }
        }
    }
}
