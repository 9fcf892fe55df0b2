//! What was measured, in numbers.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::load::Sample;
use crate::script::{Script, Third};
use crate::servers::Served;
use crate::timeline::Event;

pub struct Report {
    pub script: Script,
    pub plain: Measured,
    pub mesh: Measured,
    pub ejections: Vec<Event>,
}

/// One client's day. Latencies are those of all requests, failed ones included.
pub struct Measured {
    pub all: Part,
    pub healthy: Part,
    pub bad: Part,
    pub attempts_per_request: f64,
    pub shares: Vec<Share>,
}

/// Some of the requests, by when they were due.
#[derive(Debug, PartialEq)]
pub struct Part {
    pub requests: usize,
    pub failed: usize,
    pub p50: Duration,
    pub p99: Duration,
    pub max: Duration,
}

/// An endpoint's share of the attempts, as the servers counted them.
pub struct Share {
    pub name: &'static str,
    pub all: f64,
    pub bad: f64,
}

// === impl Report ===

impl Report {
    pub fn to_json(&self) -> Value {
        let event = |event: &Event| {
            json!({
                "t_s": rounded(event.at.as_secs_f64()),
                "endpoint": event.endpoint,
                "what": event.what.name(),
                "why": event.why,
            })
        };
        json!({
            "plain": self.plain.to_json(),
            "mesh": self.mesh.to_json(),
            "ejections": self.ejections.iter().map(event).collect::<Vec<_>>(),
        })
    }
}

// === impl Measured ===

impl Measured {
    pub fn new(
        script: Script,
        samples: &[Sample],
        served: impl IntoIterator<Item = (&'static str, Served)> + Clone,
    ) -> Self {
        let within = |third| Part::new(samples.iter().filter(|s| script.third(s.due) == third));
        let all = Part::new(samples);
        let sum = |of: fn(&Served) -> u64| served.clone().into_iter().map(|(_, n)| of(&n)).sum();
        let every: fn(&Served) -> u64 = |served| served.iter().sum();
        let bad: fn(&Served) -> u64 = |served| served[Third::Bad as usize];
        let (attempts, attempts_bad) = (sum(every), sum(bad));
        Self {
            attempts_per_request: ratio(attempts, all.requests as u64),
            all,
            healthy: within(Third::First),
            bad: within(Third::Bad),
            shares: served
                .into_iter()
                .map(|(name, served)| Share {
                    name,
                    all: ratio(every(&served), attempts),
                    bad: ratio(bad(&served), attempts_bad),
                })
                .collect(),
        }
    }

    fn to_json(&self) -> Value {
        let shares = self.shares.iter();
        let shares: Map<_, _> = shares
            .map(|share| (share.name.to_owned(), json!(share.all)))
            .collect();
        json!({
            "requests": self.all.requests,
            "success_rate": self.all.success_rate(),
            "p50_ms": millis(self.all.p50),
            "p99_ms": millis(self.all.p99),
            "max_ms": millis(self.all.max),
            "healthy_p99_ms": millis(self.healthy.p99),
            "attempts_per_request": self.attempts_per_request,
            "bad_third_success_rate": self.bad.success_rate(),
            "shares": shares,
        })
    }
}

// === impl Part ===

impl Part {
    fn new<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Self {
        let mut latencies = Vec::new();
        let mut failed = 0;
        for sample in samples {
            latencies.push(sample.latency);
            failed += usize::from(!sample.success);
        }
        latencies.sort_unstable();
        Self {
            requests: latencies.len(),
            failed,
            p50: percentile(&latencies, 50),
            p99: percentile(&latencies, 99),
            max: percentile(&latencies, 100),
        }
    }

    /// One, if nothing was asked: nothing was lost.
    pub fn success_rate(&self) -> f64 {
        1.0 - ratio(self.failed as u64, self.requests as u64)
    }
}

/// The least of the sorted latencies that at least so many percent do not exceed; zero if there are none.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 / whole as f64
}

pub fn millis(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1000.0)
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_latencies_that_were_measured() {
        let sorted: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        let at = |percent| percentile(&sorted, percent).as_millis();
        assert_eq!((at(50), at(99), at(100)), (100, 198, 200));
        assert_eq!(percentile(&sorted[..1], 50), Duration::from_millis(1));
        assert_eq!(percentile(&[], 99), Duration::ZERO);
    }

    #[test]
    fn nothing_asked_is_nothing_lost() {
        assert_eq!(Part::new([]).success_rate(), 1.0);
    }
}
