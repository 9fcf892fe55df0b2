//! What is written down while the world runs. It grows with the run's seconds and with the breakers' decisions, not
//! with the requests.

mod digest;
mod histogram;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::time::Instant;

pub(crate) use self::digest::Digest;
pub(crate) use self::histogram::Histogram;
use crate::core::observe::Decision;
use crate::sim::address::station_at;

pub(crate) const SECOND: u64 = 1_000_000_000;

/// Within how many seconds answers are counted.
pub(crate) const WITHIN: [(&str, u64); 6] = [
    ("0.1", SECOND / 10),
    ("0.5", SECOND / 2),
    ("1", SECOND),
    ("2", 2 * SECOND),
    ("5", 5 * SECOND),
    ("10", 10 * SECOND),
];

/// The most events that are kept; the rest is counted.
const MAX_EVENTS: usize = 200_000;

/// How a request ended for its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    Error(Cow<'static, str>),
}

#[derive(Clone, Debug)]
pub(crate) struct Record {
    start: Instant,
    // What is before is not counted, and there are no seconds at or after the end.
    pub(crate) warmup: u64,
    pub(crate) end: u64,
    clients: usize,
    pub(crate) requests: u64,
    pub(crate) attempts: u64,
    pub(crate) errors: BTreeMap<Cow<'static, str>, u64>,
    pub(crate) within: [u64; WITHIN.len()],
    pub(crate) latency: Histogram,
    pub(crate) seconds: Vec<Second>,
    pub(crate) stations: Vec<StationRecord>,
    pub(crate) events: Vec<Event>,
    pub(crate) events_left_out: u64,
    pub(crate) decisions: BTreeMap<&'static str, u64>,
    pub(crate) digest: Digest,
    // By client and station: whether it is ejected there.
    ejected: Vec<bool>,
}

/// What happened in one second, requests by their arrival.
#[derive(Clone, Debug)]
pub(crate) struct Second {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    // Of those that arrived in it; the times are dropped when the last of them has ended.
    under_way: u64,
    latency: Option<Histogram>,
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    // By station.
    pub(crate) attempts: Vec<u64>,
    // By station, at the second's end: how many clients have it ejected.
    pub(crate) ejected: Vec<u32>,
    // At the second's end, over all clients, in thousandths of an attempt.
    pub(crate) budget_milli: Option<u64>,
    // At the second's end.
    pub(crate) in_flight: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct StationRecord {
    pub(crate) attempts: u64,
    pub(crate) errors: u64,
    pub(crate) opened: u64,
    pub(crate) first_opened: Option<u64>,
    ejected: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) at: u64,
    pub(crate) client: u32,
    pub(crate) station: Option<usize>,
    pub(crate) what: &'static str,
    pub(crate) why: Cow<'static, str>,
}

// === impl Record ===

impl Record {
    pub(crate) fn new(
        start: Instant,
        (warmup, end): (u64, u64),
        clients: usize,
        stations: usize,
    ) -> Self {
        let seconds = usize::try_from(end.div_ceil(SECOND)).unwrap_or(usize::MAX);
        Self {
            start,
            warmup,
            end,
            clients,
            requests: 0,
            attempts: 0,
            errors: BTreeMap::new(),
            within: [0; WITHIN.len()],
            latency: Histogram::new(11),
            seconds: Vec::with_capacity(seconds.min(1 << 16)),
            stations: vec![StationRecord::default(); stations],
            events: Vec::new(),
            events_left_out: 0,
            decisions: BTreeMap::new(),
            digest: Digest::new(),
            ejected: vec![false; clients * stations],
        }
    }

    // Seconds are made when something happens in them, or at their end.
    fn second(&mut self, at: u64) -> Option<&mut Second> {
        let at = at.min(self.end.saturating_sub(1));
        let index = usize::try_from(at / SECOND).ok()?;
        while self.seconds.len() <= index {
            self.seconds.push(Second::new(self.stations.len()));
        }
        self.seconds.get_mut(index)
    }

    /// An attempt reaches an endpoint.
    pub(crate) fn attempt(&mut self, at: u64, station: usize) {
        if at < self.warmup {
            return;
        }
        self.attempts += 1;
        if let Some(record) = self.stations.get_mut(station) {
            record.attempts += 1;
        }
        if let Some(attempts) = self
            .second(at)
            .and_then(|second| second.attempts.get_mut(station))
        {
            *attempts += 1;
        }
    }

    /// An endpoint did not answer with success.
    pub(crate) fn failed(&mut self, at: u64, station: usize) {
        if at >= self.warmup
            && let Some(record) = self.stations.get_mut(station)
        {
            record.errors += 1;
        }
    }

    /// A request arrives.
    pub(crate) fn arrived(&mut self, at: u64) {
        if at >= self.warmup
            && let Some(second) = self.second(at)
        {
            second.under_way += 1;
        }
    }

    /// A request that arrived at `arrived` has ended for its caller.
    pub(crate) fn request(&mut self, arrived: u64, now: u64, outcome: Outcome) {
        if arrived < self.warmup {
            return;
        }
        let took = now - arrived;
        self.requests += 1;
        self.latency.add(took);
        let success = outcome == Outcome::Success;
        if success {
            for (count, (_, limit)) in self.within.iter_mut().zip(WITHIN) {
                *count += u64::from(took <= limit);
            }
        }
        if let Outcome::Error(why) = outcome {
            *self.errors.entry(why).or_default() += 1;
        }
        let is_over = now / SECOND > arrived / SECOND;
        if let Some(second) = self.second(arrived) {
            second.requests += 1;
            second.errors += u64::from(!success);
            second.under_way = second.under_way.saturating_sub(1);
            if let Some(latency) = &mut second.latency {
                latency.add(took);
            }
            if is_over {
                second.close();
            }
        }
    }

    /// The second before `at` is over.
    pub(crate) fn second_ends(&mut self, at: u64, in_flight: u64, budget_milli: Option<u64>) {
        let ejected = self.stations.iter().map(|station| station.ejected);
        let ejected = ejected.collect();
        if let Some(second) = self.second(at.saturating_sub(1)) {
            second.ejected = ejected;
            second.in_flight = in_flight;
            second.budget_milli = budget_milli;
            second.close();
        }
    }

    /// A client has decided something.
    pub(crate) fn decision(&mut self, client: u32, at: u64, decision: &Decision) {
        self.digest.decision(client, at, self.start, decision);
        *self.decisions.entry(decision.name()).or_default() += 1;
        let Some((endpoint, why)) = told_of(decision) else {
            return;
        };
        let station = endpoint.and_then(station_at);
        match decision {
            Decision::Opened { .. } => self.set_ejected(client, station, true, at),
            Decision::Closed { .. } => self.set_ejected(client, station, false, at),
            _ => {}
        }
        if at < self.warmup {
            return;
        }
        if self.events.len() == MAX_EVENTS {
            self.events_left_out += 1;
            return;
        }
        self.events.push(Event {
            at,
            client,
            station,
            what: decision.name(),
            why,
        });
    }

    fn set_ejected(&mut self, client: u32, station: Option<usize>, ejected: bool, at: u64) {
        let Some(station) = station else {
            return;
        };
        let index = client as usize + station * self.clients;
        let (Some(record), Some(known)) =
            (self.stations.get_mut(station), self.ejected.get_mut(index))
        else {
            return;
        };
        if ejected && at >= self.warmup {
            record.opened += 1;
            record.first_opened = record.first_opened.or(Some(at));
        }
        match (*known, ejected) {
            (false, true) => record.ejected += 1,
            (true, false) => record.ejected = record.ejected.saturating_sub(1),
            _ => {}
        }
        *known = ejected;
    }
}

// What a report says of a decision: about which endpoint, and why. None of one that it only counts.
fn told_of(decision: &Decision) -> Option<(Option<&SocketAddr>, Cow<'static, str>)> {
    Some(match decision {
        Decision::Opened { endpoint, why, .. } | Decision::EjectionRefused { endpoint, why } => {
            (Some(endpoint), why.clone())
        }
        Decision::ByHand { endpoint, what } => (Some(endpoint), format!("{what} by hand").into()),
        Decision::Probing { endpoint, request } => {
            (Some(endpoint), format!("request {request}").into())
        }
        Decision::ProbePassed { endpoint } => (Some(endpoint), "another one decides".into()),
        Decision::ProbeReturned { endpoint } => {
            (Some(endpoint), "the probe ended without a verdict".into())
        }
        Decision::Closed { endpoint } => (Some(endpoint), "the probe succeeded".into()),
        Decision::Endpoints {
            backend,
            joined,
            left,
        } => (
            None,
            format!("{backend}: {joined} joined, {left} left").into(),
        ),
        Decision::DiscoveryFailed { backend, error } => {
            (None, format!("{backend}: {error}").into())
        }
        // Of a breaker in somebody's own stack, which has no endpoint.
        Decision::BreakerOpened { breaker, why, .. } => (None, format!("{breaker}: {why}").into()),
        Decision::BreakerProbing { breaker }
        | Decision::BreakerProbePassed { breaker }
        | Decision::BreakerProbeReturned { breaker }
        | Decision::BreakerClosed { breaker } => (None, breaker.to_string().into()),
        Decision::Swapped => (None, "".into()),
        // One for each request or attempt: counted, and in the digest.
        _ => return None,
    })
}

// === impl Second ===

impl Second {
    fn new(stations: usize) -> Self {
        Self {
            requests: 0,
            errors: 0,
            under_way: 0,
            latency: Some(Histogram::new(7)),
            p50: 0,
            p99: 0,
            attempts: vec![0; stations],
            ejected: Vec::new(),
            budget_milli: None,
            in_flight: 0,
        }
    }

    // When nothing can be added any more, two numbers are left of all the times.
    fn close(&mut self) {
        if self.under_way > 0 {
            return;
        }
        if let Some(latency) = self.latency.take() {
            self.p50 = latency.quantile(0.5);
            self.p99 = latency.quantile(0.99);
        }
    }
}
