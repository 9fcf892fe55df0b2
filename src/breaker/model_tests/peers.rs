//! The same with the policy "worse than its peers" beside all others, as an endpoint's gatekeeper puts them side by side.
//!
//! Its model keeps every result of the pool and what had been told of each when, and works out from its definition what an
//! endpoint knows of the others and whether it is ejected: in floating point. Where that is too close to call, a case ends.

use super::super::peers::{Peers, Totals};
use super::*;
use crate::core::sync::Mutex;
use crate::policy::Ratio;

const CASES: u64 = 110_000;
const EVENTS: u64 = 50;

/// What may not differ by rounding.
const NEAR: f64 = 1e-3;

#[derive(Clone, Copy, Debug)]
enum PoolEvent {
    /// Of the endpoint itself.
    Own(Event),
    /// So many results of one of its peers, of which every so manyth is bad, or none.
    Peer(usize, u32, u32),
    /// How many false ejections an hour are allowed, in millionths.
    Allow(Option<u32>),
}

/// What an endpoint has told the pool, in seconds.
struct Told {
    at: f64,
    endpoint: usize,
    total: f64,
    bad: f64,
}

/// One result of the endpoint, and what it knew then.
#[derive(Clone, Copy)]
struct Own {
    bad: bool,
    /// None: half of what its peers do fails.
    steps: [Option<Steps>; 2],
    threshold: f64,
    /// All that its peers had told.
    peers: (f64, f64),
}

#[derive(Clone, Copy)]
struct Steps {
    failure: f64,
    success: f64,
}

/// The endpoint is number `me`; another number each time that it is measured anew.
struct Pool {
    told: Vec<Told>,
    // Not told yet, by endpoint.
    kept: Vec<Vec<bool>>,
    // When each told something last, in nanoseconds.
    told_at: Vec<u64>,
    me: usize,
    allowed: Option<f64>,
    known: Own,
    // Since it was last ejected or re-admitted; with what suspicion it began, and after what of its peers.
    results: Vec<Own>,
    head: f64,
    began: (f64, f64),
    // Somewhere it was too close to call.
    edge: bool,
}

const UNKNOWN: Own = Own {
    bad: false,
    steps: [None; 2],
    threshold: 0.0,
    peers: (0.0, 0.0),
};

#[allow(clippy::disallowed_methods, reason = "the model")]
impl Steps {
    fn new(kind: usize, peers: f64) -> Option<Self> {
        let most = (1.0 + peers) / 2.0;
        let bad = [most, most.min(5.0 * peers)][kind];
        (peers < 0.5).then(|| Self {
            failure: (bad / peers).ln(),
            success: ((1.0 - bad) / (1.0 - peers)).ln(),
        })
    }

    fn of(&self, bad: f64, total: f64) -> f64 {
        bad * self.failure + (total - bad) * self.success
    }
}

#[allow(clippy::disallowed_methods, reason = "the model")]
impl Pool {
    fn new() -> Self {
        Self {
            told: Vec::new(),
            kept: vec![Vec::new(); 3],
            told_at: vec![0; 3],
            me: 0,
            allowed: None,
            known: UNKNOWN,
            results: Vec::new(),
            head: 0.0,
            began: (0.0, 0.0),
            edge: false,
        }
    }

    fn allow(&mut self, ppm: Option<u32>) {
        if ppm.is_none() || self.allowed.is_none() {
            // What it told before stays with the pool.
            self.me = self.kept.len();
            self.kept.push(Vec::new());
            self.told_at.push(0);
            self.known = UNKNOWN;
            self.forget(0.0);
        }
        self.allowed = ppm.map(f64::from);
    }

    fn forget(&mut self, head: f64) {
        self.results.clear();
        (self.head, self.began) = (head, self.known.peers);
    }

    /// Told at each failure, when there are 32 of them, and four times a second.
    fn keep(&mut self, at: u64, endpoint: usize, bad: bool) -> bool {
        let kept = &mut self.kept[endpoint];
        kept.push(bad);
        let told_at = self.told_at[endpoint];
        let tells = bad || kept.len() >= 32 || at.saturating_sub(told_at) >= 250_000_000;
        if tells {
            let failed = kept.iter().filter(|bad| **bad).count();
            self.told.push(Told {
                at: at as f64 / 1e9,
                endpoint,
                total: kept.len() as f64,
                bad: failed as f64,
            });
            kept.clear();
            self.told_at[endpoint] = at.max(told_at);
        }
        tells
    }

    // Of late: with as much decay over ten seconds as leaves 200 of all.
    fn late_peers(&self) -> (f64, f64) {
        let (mut all, mut total, mut bad, mut at) = (0.0, 0.0, 0.0, 0.0);
        for told in &self.told {
            if told.at - at >= 0.000_999_999 {
                let time = (told.at - at).min(10.0 * (all - 200.0_f64).max(0.0) / all.max(1e-9));
                let left = (-time / 10.0).exp();
                (all, total, bad) = (all * left, total * left, bad * left);
                at = told.at;
            }
            all += told.total;
            if told.endpoint != self.me {
                (total, bad) = (total + told.total, bad + told.bad);
            }
        }
        (total, bad)
    }

    // All that they ever told.
    fn all_peers(&self) -> (f64, f64) {
        let others = self.told.iter().filter(|told| told.endpoint != self.me);
        others.fold((0.0, 0.0), |(total, bad), told| {
            (total + told.total, bad + told.bad)
        })
    }

    // ln(results an hour x tests / false ejections an hour), with the tests' caution.
    fn threshold(&mut self) -> f64 {
        let own: Vec<_> = (self.told.iter().filter(|told| told.endpoint == self.me)).collect();
        let mut now = own[0].at;
        let mut traffic = 0.0;
        for told in &own {
            traffic *= (-(told.at - now).max(0.0) / 60.0).exp();
            traffic += told.total;
            now = now.max(told.at);
        }
        let last = own[own.len() - 1].at;
        let age = (last - own[0].at).clamp(1.0, 60.0);
        // Counted in whole results.
        let whole = (traffic + 1e-6).floor();
        self.edge |= now > own[0].at && (traffic - traffic.round()).abs() < 2e-5;
        let hourly = (whole * 3600.0 / age).max(3600.0);
        (hourly * 2.0 / 8.0).ln() + (1e6 / self.allowed.unwrap_or(1.0).max(1.0)).ln()
    }

    fn near(&mut self, a: f64, b: f64) {
        self.edge |= (a - b).abs() < NEAR;
    }

    /// A result of the endpoint. Whether to eject it: how many of how many failed.
    fn record(&mut self, at: u64, bad: bool) -> Option<(u32, u32)> {
        self.allowed?;
        if self.keep(at, self.me, bad) {
            let (total, failed) = self.late_peers();
            // On the high side; of nothing, all.
            let upper = (failed + 0.5 + (failed + 0.25).sqrt()) / total.max(1e-9);
            let rate = upper.clamp(0.01, 1.0);
            self.near(rate, 0.5);
            self.known.steps = [Steps::new(0, rate), Steps::new(1, rate)];
            self.known.threshold = self.threshold();
            self.known.peers = self.all_peers();
        }
        self.results.push(Own { bad, ..self.known });
        let tests = [self.test(0), self.test(1)];
        if !bad || self.allowed == Some(0.0) {
            return None;
        }
        tests.into_iter().flatten().next()
    }

    // The sum from the beginning. The result is of use only if the last was a failure.
    fn test(&mut self, kind: usize) -> Option<(u32, u32)> {
        let (mut sum, mut head, mut began) = (self.head, self.head, self.began);
        let (mut total, mut failed) = (0.0, 0.0);
        let results = std::mem::take(&mut self.results);
        for own in &results {
            let steps = own.steps[kind];
            let clean = sum == 0.0;
            if let Some(steps) = steps
                && (own.bad || !clean)
            {
                if clean {
                    began = own.peers;
                }
                total += 1.0;
                failed += f64::from(u8::from(own.bad));
                sum += if own.bad {
                    steps.failure
                } else {
                    steps.success
                };
                self.near(sum, 0.0);
                let most = own.threshold.max(1.0);
                self.near(sum, most);
                sum = sum.min(most);
            }
            if steps.is_none() || sum <= 0.0 {
                (sum, head, total, failed) = (0.0, 0.0, 0.0, 0.0);
            }
        }
        self.results = results;
        let known = self.known;
        let steps = known.steps[kind]?;
        let meanwhile = (known.peers.0 - began.0, known.peers.1 - began.1);
        let meanwhile = match meanwhile {
            (total, bad) if bad >= total => 1.0,
            (total, bad) => bad / total,
        };
        self.near(meanwhile, 0.5);
        let meanwhile = Steps::new(kind, meanwhile.max(0.01))?;
        for steps in [&steps, &meanwhile] {
            self.near(head + steps.of(failed, total), known.threshold);
        }
        let over = |steps: &Steps| head + steps.of(failed, total) >= known.threshold;
        let trips = failed >= 3.0 && sum >= known.threshold && over(&steps) && over(&meanwhile);
        trips.then_some((failed as u32, total as u32))
    }
}

// === the comparison ===

fn pool_events(case: u64) -> Vec<PoolEvent> {
    let mut dice = Dice(mix(case ^ mix(1)));
    // Half of them without what trips sooner.
    let mut terms = dice.terms();
    if dice.below(2) == 0 {
        (terms.max_failures, terms.threshold_percent) = (0, 0);
    }
    let mut events = vec![
        PoolEvent::Own(Event::Configure(Some(terms))),
        PoolEvent::Allow(Some(dice.one_of(&[100_000, 100_000, 1_000, 10_000_000]))),
        PoolEvent::Peer(1, 96, dice.one_of(&[0, 0, 30])),
    ];
    for _ in 0..dice.below(EVENTS) {
        events.push(match dice.below(24) {
            0..=2 => {
                let many = dice.one_of(&[1, 8, 64]);
                PoolEvent::Peer(
                    1 + dice.below(2) as usize,
                    many,
                    dice.one_of(&[0, 0, 2, 10]),
                )
            }
            3 if dice.below(8) == 0 => {
                PoolEvent::Allow(dice.one_of(&[None, Some(0), Some(100_000)]))
            }
            _ => PoolEvent::Own(dice.event()),
        });
    }
    events
}

/// Whether it ended early, at an edge.
fn compare_pool(events: &[PoolEvent], seen: &mut Seen) -> Result<bool, String> {
    let start = Instant::now();
    let mut now = Duration::ZERO;
    let (mut breaker, mut model) = (Breaker::new(None, start), Model::default());
    let totals: Mutex<Totals> = Mutex::default();
    let mut peers: Option<Peers> = None;
    let mut others = [Peers::new(Ratio::ZERO), Peers::new(Ratio::ZERO)];
    let mut pool = Pool::new();
    let mut flying: Vec<(Admitted, u64)> = Vec::new();
    for (n, event) in events.iter().enumerate() {
        let moment = now;
        let (at, nanos) = (start + now, now.as_nanos() as u64);
        let wrong = |what: String| Err(format!("event {n}, {event:?} at {moment:?}: {what}"));
        let event = match *event {
            PoolEvent::Own(event) => event,
            PoolEvent::Allow(ppm) => {
                let allowed = ppm.map(|ppm| Ratio::parts_per_million(ppm).unwrap());
                match (&mut peers, allowed) {
                    (Some(peers), Some(allowed)) => peers.configure(allowed),
                    (peers, allowed) => *peers = allowed.map(Peers::new),
                }
                pool.allow(ppm);
                continue;
            }
            PoolEvent::Peer(which, count, every) => {
                for n in 1..=count {
                    let bad = every > 0 && n % every == 0;
                    others[which - 1].record(nanos, bad, &totals);
                    pool.keep(nanos, which, bad);
                }
                continue;
            }
        };
        match event {
            Event::Pass(time) => now += time,
            Event::Back(time) => now = now.saturating_sub(time),
            Event::Configure(terms) => {
                breaker.configure(terms.map(|terms| terms.policy()).as_ref(), at);
                model.configure(terms, now);
            }
            Event::Reset => {
                breaker.reset();
                peers.iter_mut().for_each(Peers::forget);
                model.close(None);
                model.trips = 0;
                pool.forget(0.0);
            }
            Event::Admit | Event::AdmitEarly => {
                let early = matches!(event, Event::AdmitEarly);
                let ours = if early {
                    breaker.admit_early(at)
                } else {
                    breaker.admit(at)
                };
                let theirs = model.admit(now, early);
                if ours.map(|admitted| admitted.probe) != theirs {
                    return wrong(format!("{ours:?}, and not {theirs:?}"));
                }
                flying.extend(ours.map(|admitted| (admitted, model.generation)));
            }
            Event::End(..) | Event::Cancel(..) => {
                let Some((which, outcome, may_eject)) = event.ends().filter(|_| !flying.is_empty())
                else {
                    continue;
                };
                let (admitted, issued) = flying.remove(which as usize % flying.len());
                // As the gatekeeper does it.
                let was_closed = breaker.gate() == Gate::Closed;
                let worse = peers.as_mut().and_then(|peers| {
                    let bad = breaker.bad(admitted, &outcome)?;
                    peers.record(nanos, bad, &totals)
                });
                let mut ours = end(&mut breaker, at, admitted, &outcome, may_eject);
                if let (None, Some(why)) = (&ours, worse.clone()) {
                    let nanos = breaker.nanos(at);
                    ours = breaker.eject_as_worse(nanos, why.into(), &outcome, || 0, || may_eject);
                }
                let mut counts = None;
                let issued = (admitted.probe, issued);
                let theirs = model.end(now, issued, &outcome, may_eject, |bad| {
                    counts = pool.record(nanos, bad);
                    counts.is_some()
                });
                if pool.edge {
                    return Ok(true);
                }
                let counted = |(bad, total): (u32, u32)| format!(": {bad} of {total} failed, ");
                if !same(&ours, &theirs, start)
                    || worse.is_some() != counts.is_some()
                    || !counts.is_none_or(|it| worse.is_some_and(|why| why.contains(&counted(it))))
                {
                    return wrong(format!("{ours:?}, and not {theirs:?}, {counts:?}"));
                }
                match theirs {
                    Some(Change::Opened(..)) if was_closed => {
                        peers.iter_mut().for_each(Peers::forget);
                        pool.forget(0.0);
                    }
                    Some(Change::Closed) => {
                        peers.iter_mut().for_each(Peers::parole);
                        pool.forget(pool.known.threshold / 2.0);
                    }
                    _ => {}
                }
                let name = theirs.as_ref().map_or("nothing", Change::name);
                *seen.entry(name).or_default() += 1;
            }
        }
        if let Err(what) = same_state(&breaker, &model, start) {
            return wrong(what);
        }
    }
    Ok(false)
}

#[test]
fn with_its_peers_it_agrees_with_one_that_remembers_them_all() {
    let mut seen = Seen::new();
    let mut edges = 0;
    for case in 0..CASES {
        let mut events = pool_events(case);
        let mut error = match compare_pool(&events, &mut seen) {
            Ok(edge) => {
                edges += u64::from(edge);
                continue;
            }
            Err(error) => error,
        };
        for n in (0..events.len()).rev() {
            let mut fewer = events.clone();
            fewer.remove(n);
            if let Err(still) = compare_pool(&fewer, &mut seen) {
                (events, error) = (fewer, still);
            }
        }
        panic!("case {case}: {error}\n{events:#?}");
    }
    for (name, least) in [
        ("opened: worse", 4_000),
        ("refused: worse", 500),
        ("opened: in a row", 5_000),
        ("opened: success rate", 5_000),
        ("closed", 2_000),
    ] {
        let count = seen.get(name).copied().unwrap_or_default();
        assert!(count > least, "{name}: {seen:?}");
    }
    assert!(edges < CASES / 12, "{edges}");
}
