mod display;
mod json;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::record::{Histogram, Record, SECOND, WITHIN};

/// What happened in a world. Times are virtual, from the start of the run.
///
/// A request is counted at its arrival's second, and as an error if its caller gave it up or it was not answered within
/// ten seconds after the end. What happened before the warm-up was over is not counted. `Display` is a summary.
///
/// ```
/// use tower_mesh::policy::{ClientPolicy, FailureAccrual};
/// use tower_mesh::sim::{World, healthy, ms, per_second, s};
///
/// let world = || World::seeded(7)
///     .policy(ClientPolicy::http().failure_accrual(FailureAccrual::consecutive(5)).build().unwrap())
///     .endpoint("good", healthy(ms(10)))
///     .endpoint("bad", healthy(ms(10)).fails(1.0))
///     .load(per_second(100));
/// let report = world().run_for(s(20));
///
/// assert!(report.endpoints[1].opened > 0, "{report}"); // by its place, or by name:
/// assert!(report.share("bad", s(5)..s(20)) < 0.1, "{report}");
/// assert!(report.latency(0.99) < ms(50));
/// assert!(report.events.iter().any(|event| event.what == "opened"));
/// assert_eq!(report.digest, world().run_for(s(20)).digest); // the same decisions, at the same times
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// How many requests were asked.
    pub requests: u64,
    /// How many attempts reached endpoints.
    pub attempts: u64,
    /// How many requests were not answered with success, by how they ended: `status 503`, `gave up`, the
    /// [name](crate::ErrorKind::name) of an error's kind, ...
    pub errors: BTreeMap<String, u64>,
    /// The endpoints, in the order in which they were given.
    pub endpoints: Vec<EndpointReport>,
    /// Second by second.
    pub timeline: Vec<SecondReport>,
    /// What the clients decided about endpoints. Decisions about single requests are in `decisions`, counted.
    pub events: Vec<Event>,
    /// How many events were left out of `events`, being more than 200 000.
    pub events_left_out: u64,
    /// How often each decision was made, by its [name](crate::core::observe::Decision::name).
    pub decisions: BTreeMap<&'static str, u64>,
    /// A hash of the complete decision log: every decision of every client, in order, with its time and fields. Empty of
    /// meaning for a stack of one's own, which tells no decisions.
    pub digest: String,
    /// How many clients there were.
    pub clients: usize,
    /// How long they asked, and how much of it was not counted.
    pub duration: Duration,
    /// The part of the duration that was not counted.
    pub warmup: Duration,
    within: [u64; WITHIN.len()],
    latency: Histogram,
}

/// One endpoint in a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointReport {
    /// Its name, which several may have.
    pub name: String,
    /// Which of those with its name, from zero.
    pub index: usize,
    /// How many attempts reached it.
    pub attempts: u64,
    /// How many of them it did not answer with success.
    pub errors: u64,
    /// How often a client ejected it; after a failed probe it is ejected again.
    pub opened: u64,
    /// When that was first.
    pub first_opened: Option<Duration>,
    /// When discovery adds it; zero for one that is there from the start.
    pub joins: Duration,
    /// When discovery removes it; none for one that stays.
    pub leaves: Option<Duration>,
}

/// One second in a [`Report`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SecondReport {
    /// Which, from the start of the run.
    pub second: u64,
    /// How many requests arrived.
    pub requests: u64,
    /// How many of these were not answered with success.
    pub errors: u64,
    /// How many attempts reached endpoints, by endpoint.
    pub attempts: Vec<u64>,
    /// How long half of these requests took at most.
    pub p50: Duration,
    /// How long 99 of 100 of these requests took at most.
    pub p99: Duration,
    /// At the end of the second, by endpoint: how many clients have it ejected.
    pub ejected: Vec<u32>,
    /// At the end of the second, over all clients: how many retries the budgets hold, in thousandths.
    pub budget_milli: Option<u64>,
    /// At the end of the second: requests under way.
    pub in_flight: u64,
}

/// What a client decided about an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// When.
    pub at: Duration,
    /// Which client, from zero.
    pub client: u32,
    /// About which endpoint, by its place in [`Report::endpoints`]; none if about several.
    pub endpoint: Option<usize>,
    /// What: the decision's [name](crate::core::observe::Decision::name).
    pub what: &'static str,
    /// Why, in words.
    pub why: String,
}

// === impl Report ===

impl Report {
    /// `endpoints` are their names, and when they join and leave.
    pub(crate) fn new(record: Record, endpoints: Vec<(String, u64, u64)>, clients: usize) -> Self {
        let names: Vec<_> = endpoints.iter().map(|(name, ..)| name.as_str()).collect();
        let nth = |n: usize| {
            let name = names.get(n);
            names
                .iter()
                .take(n)
                .filter(|other| Some(*other) == name)
                .count()
        };
        let index: Vec<_> = (0..names.len()).map(nth).collect();
        let stations = record.stations.iter().zip(&endpoints).zip(index);
        let endpoints = stations.map(|((station, (name, joins, leaves)), index)| EndpointReport {
            name: name.clone(),
            index,
            attempts: station.attempts,
            errors: station.errors,
            opened: station.opened,
            first_opened: station.first_opened.map(Duration::from_nanos),
            joins: Duration::from_nanos(*joins),
            leaves: (*leaves != u64::MAX).then(|| Duration::from_nanos(*leaves)),
        });
        let endpoints: Vec<_> = endpoints.collect();
        let first = record.warmup / SECOND;
        let seconds = (0..)
            .zip(&record.seconds)
            .filter(|(second, _)| *second >= first);
        let timeline = seconds.map(|(second, from)| SecondReport {
            second,
            requests: from.requests,
            errors: from.errors,
            attempts: from.attempts.clone(),
            p50: Duration::from_nanos(from.p50),
            p99: Duration::from_nanos(from.p99),
            ejected: from.ejected.clone(),
            budget_milli: from.budget_milli,
            in_flight: from.in_flight,
        });
        let events = record.events.into_iter().map(|event| Event {
            at: Duration::from_nanos(event.at),
            client: event.client,
            endpoint: event.station.filter(|station| *station < endpoints.len()),
            what: event.what,
            why: event.why.into_owned(),
        });
        let errors = record
            .errors
            .into_iter()
            .map(|(why, n)| (why.into_owned(), n));
        Self {
            requests: record.requests,
            attempts: record.attempts,
            errors: errors.collect(),
            timeline: timeline.collect(),
            events: events.collect(),
            events_left_out: record.events_left_out,
            decisions: record.decisions,
            digest: record.digest.to_string(),
            clients,
            duration: Duration::from_nanos(record.end),
            warmup: Duration::from_nanos(record.warmup),
            within: record.within,
            latency: record.latency,
            endpoints,
        }
    }

    /// How many requests were not answered with success.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The part of all requests that was not answered with success, from 0 to 1.
    pub fn error_rate(&self) -> f64 {
        part(self.failed(), self.requests)
    }

    /// The part of all requests that was answered with success, from 0 to 1.
    pub fn success(&self) -> f64 {
        part(self.requests - self.failed(), self.requests)
    }

    /// Attempts for each request.
    pub fn amplification(&self) -> f64 {
        part(self.attempts, self.requests)
    }

    /// The part of the attempts in the seconds of `range` that reached endpoints of this name, from 0 to 1.
    ///
    /// Seconds count as a whole: `s(12)..s(40)` are the twenty-eight from the thirteenth on.
    pub fn share(&self, name: &str, range: Range<Duration>) -> f64 {
        let (mut of_name, mut all) = (0, 0);
        for second in self.seconds(&range) {
            for (endpoint, attempts) in self.endpoints.iter().zip(&second.attempts) {
                all += attempts;
                if endpoint.name == name {
                    of_name += attempts;
                }
            }
        }
        part(of_name, all)
    }

    /// The part of the requests that arrived in the seconds of `range` and were not answered with success, from 0 to 1.
    pub fn error_rate_in(&self, range: Range<Duration>) -> f64 {
        let (mut errors, mut all) = (0, 0);
        for second in self.seconds(&range) {
            errors += second.errors;
            all += second.requests;
        }
        part(errors, all)
    }

    fn seconds(&self, range: &Range<Duration>) -> impl Iterator<Item = &SecondReport> {
        let (start, end) = (range.start, range.end);
        self.timeline.iter().filter(move |second| {
            let at = Duration::from_secs(second.second);
            start < at + Duration::from_secs(1) && at < end
        })
    }

    /// How long this part of the requests (0 to 1) took at most, to one part in two thousand. Every request counts until
    /// its caller was done with it, failed, given up or not.
    pub fn latency(&self, part: f64) -> Duration {
        Duration::from_nanos(self.latency.quantile(part))
    }

    /// How long the slowest request took.
    pub fn slowest(&self) -> Duration {
        Duration::from_nanos(self.latency.max())
    }

    /// The part of all requests (0 to 1) that was answered with success within a time, for each time that is counted, in
    /// seconds as text: `0.1`, `0.5`, `1`, `2`, `5`, `10`.
    pub fn within(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let counts = WITHIN.iter().zip(self.within);
        counts.map(|((name, _), count)| (*name, part(count, self.requests)))
    }
}

// === impl EndpointReport ===

impl EndpointReport {
    /// Its name; with its number, if there are others of that name.
    pub fn label(&self, of: &Report) -> String {
        let alike = of.endpoints.iter().filter(|other| other.name == self.name);
        match alike.count() {
            1 => self.name.clone(),
            _ => format!("{}-{}", self.name, self.index),
        }
    }
}

/// A part of a whole; zero of nothing.
pub(crate) fn part(of: u64, all: u64) -> f64 {
    if all == 0 {
        return 0.0;
    }
    of as f64 / all as f64
}
