use proptest::prelude::*;

use super::*;

/// The same in floating point, from all results that there ever were.
#[derive(Default)]
struct Model {
    // (time in seconds, endpoint, bad)
    results: Vec<(f64, usize, bool)>,
    tests: [ModelTest; 2],
}

#[derive(Clone, Copy, Default)]
struct ModelTest {
    sum: f64,
    total: f64,
    bad: f64,
    // How many results there were when it began.
    began: usize,
}

const TAU: f64 = 10.0;

#[allow(clippy::disallowed_methods, reason = "the model")]
impl Model {
    // Of the others than endpoint 0, with as much decay as leaves 200 of all.
    fn peers(&self) -> (f64, f64) {
        let (mut all, mut total, mut bad, mut at) = (0.0, 0.0, 0.0, 0.0);
        for &(now, endpoint, failed) in &self.results {
            if all > 200.0 {
                let time = (now - at).min(TAU * (all - 200.0) / all);
                let left = (-time / TAU).exp();
                (all, total, bad) = (all * left, total * left, bad * left);
            }
            at = now;
            all += 1.0;
            if endpoint != 0 {
                total += 1.0;
                bad += f64::from(u8::from(failed));
            }
        }
        (total, bad)
    }

    fn steps(kind: usize, peers: f64) -> Option<(f64, f64)> {
        let most = (1.0 + peers) / 2.0;
        let bad = if kind == 0 {
            most
        } else {
            most.min(5.0 * peers)
        };
        let steps = ((bad / peers).ln(), ((1.0 - bad) / (1.0 - peers)).ln());
        (peers < 0.5).then_some(steps)
    }

    // Of endpoint 0. The sums of both tests, and whether it is ejected.
    fn record(&mut self, at: f64, failed: bool, threshold: f64) -> ([f64; 2], bool) {
        self.results.push((at, 0, failed));
        let (total, bad) = self.peers();
        let upper = (bad + 0.5 + (bad + 0.25).sqrt()) / total.max(1e-9);
        let others = |from: usize| {
            let of = self.results[from..].iter().filter(|(_, n, _)| *n != 0);
            let bad = of.clone().filter(|(.., failed)| *failed).count() as f64;
            let total = of.count() as f64;
            if bad >= total { 1.0 } else { bad / total }
        };
        let mut ejected = false;
        for (kind, test) in self.tests.iter_mut().enumerate() {
            let Some((failure, success)) = Self::steps(kind, upper.clamp(0.01, 1.0)) else {
                *test = ModelTest::default();
                continue;
            };
            if test.sum == 0.0 {
                if !failed {
                    continue;
                }
                test.began = self.results.len();
            }
            test.total += 1.0;
            test.bad += f64::from(u8::from(failed));
            test.sum = (test.sum + if failed { failure } else { success }).min(threshold);
            if test.sum <= 0.0 {
                *test = ModelTest::default();
                continue;
            }
            let over = |(failure, success): (f64, f64)| {
                test.bad * failure + (test.total - test.bad) * success >= threshold
            };
            let meanwhile = Self::steps(kind, others(test.began).max(0.01));
            ejected |= failed
                && test.bad >= 3.0
                && test.sum >= threshold
                && over((failure, success))
                && meanwhile.is_some_and(over);
        }
        (self.tests.map(|test| test.sum), ejected)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the model")]
    fn agrees_with_floating_point(
        own in 0f64..0.6, theirs in 0f64..0.4, endpoints in 2usize..6,
        results in proptest::collection::vec((250u64..600, any::<u16>(), any::<u16>()), 1..400),
    ) {
        let totals = Mutex::default();
        let mut peers = vec![Peers::new(Ratio::percent(10)); endpoints];
        let mut model = Model::default();
        let mut at = 0;
        for (gap, which, fate) in results {
            // Looked at after every result, so that nothing is kept back.
            at += gap * 1_000_000;
            let seconds = at as f64 / 1e9;
            let which = usize::from(which) % endpoints;
            let failed = f64::from(fate) / 65536.0 < if which == 0 { own } else { theirs };
            let why = peers[which].record(at, failed, &totals);
            if which != 0 {
                model.results.push((seconds, which, failed));
                continue;
            }
            let threshold = peers[0].threshold as f64 / NAT as f64;
            let (sums, ejected) = model.record(seconds, failed, threshold);
            let ours = peers[0].tests.map(|test| test.sum as f64 / NAT as f64);
            for (ours, theirs) in ours.into_iter().zip(sums) {
                prop_assert!((ours - theirs).abs() < 0.02, "{ours} {theirs}");
            }
            // On the edge either may be.
            let near = sums.iter().any(|sum| (sum - threshold).abs() < 0.02 && *sum < threshold);
            if !near && why.is_some() != ejected {
                let edge = peers[0].tests.iter().any(|test| test.sum >= (threshold * 0.99 * NAT as f64) as i64);
                prop_assert!(edge, "{why:?} {ejected}");
            }
            if why.is_some() || ejected {
                return Ok(());
            }
        }
    }

    #[test]
    fn no_time_and_no_traffic_is_too_much(
        results in proptest::collection::vec((any::<u64>(), any::<bool>()), 1..50), allowed in 0u32..1_000_000_000,
    ) {
        let totals = Mutex::default();
        let mut peers = vec![Peers::new(Ratio::parts_per_million(allowed).unwrap()); 2];
        for (n, (at, bad)) in results.into_iter().enumerate() {
            peers[n % 2].record(at, bad, &totals);
        }
    }
}

struct Pair {
    totals: Mutex<Totals>,
    peers: [Peers; 2],
    at: u64,
}

impl Pair {
    fn new(allowed: Ratio) -> Self {
        Self {
            totals: Mutex::default(),
            peers: [Peers::new(allowed), Peers::new(allowed)],
            at: 0,
        }
    }

    /// One result of each, a tenth of a second later.
    fn both(&mut self, first: bool, second: bool) -> [Option<String>; 2] {
        self.at += SECOND / 10;
        let [a, b] = &mut self.peers;
        [
            a.record(self.at, first, &self.totals),
            b.record(self.at, second, &self.totals),
        ]
    }
}

#[test]
fn it_takes_three_failures_and_says_what_it_saw() {
    let mut pair = Pair::new(Ratio::percent(10));
    for _ in 0..1000 {
        assert_eq!(pair.both(false, false), [None, None]);
    }
    let mut failures = 0;
    let why = loop {
        failures += 1;
        if let [Some(why), None] = pair.both(true, false) {
            break why;
        }
    };
    assert!((3..=4).contains(&failures), "{failures}");
    assert!(
        why.starts_with(&format!(
            "worse than its peers: {failures} of {failures} failed, and 0 of their "
        )),
        "{why}"
    );
}

#[test]
fn on_parole_fewer_results_decide_but_never_fewer_than_three() {
    let after = |parole: bool| {
        let mut pair = Pair::new(Ratio::percent(10));
        for n in 0..1000 {
            // One in fifty.
            pair.both(n % 50 == 0, n % 50 == 25);
        }
        for peers in &mut pair.peers {
            peers.forget();
            if parole {
                peers.parole();
            }
        }
        let mut results = 0;
        loop {
            results += 1;
            // Every other one.
            if pair.both(results % 2 == 1, false)[0].is_some() {
                return results;
            }
        }
    };
    assert!(
        after(true) < after(false),
        "{} {}",
        after(true),
        after(false)
    );
    assert!(after(true) >= 5);
}

#[test]
fn alone_or_with_nothing_allowed_nobody_is_ejected() {
    let totals = Mutex::default();
    let mut alone = Peers::new(Ratio::percent(10));
    assert!((0..1000).all(|n| alone.record(n * SECOND / 10, true, &totals).is_none()));
    let mut off = Pair::new(Ratio::ZERO);
    assert!((0..1000).all(|_| off.both(true, false) == [None, None]));
}
