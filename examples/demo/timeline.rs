//! When the tower-mesh client ejected whom, and why: read off the decisions that it tells.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tower_mesh::core::observe::{Answer, Decision, Observer};

/// One entry of the timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// From the start.
    pub at: Duration,
    pub endpoint: &'static str,
    pub what: What,
    pub why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Ejected,
    /// Ejected it remains.
    ProbeFailed,
    ReAdmitted,
    /// It would have been, but too few would be left.
    Kept,
}

/// Writes down what a timeline is made of.
#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<Vec<(Instant, Decision)>>>);

/// An endpoint that is ejected.
struct Out {
    since: Instant,
    probe: Option<u64>,
    answer: Option<Answer>,
}

// === impl Recorder ===

impl Recorder {
    pub fn observer(&self) -> impl Observer + use<> {
        let decisions = Arc::clone(&self.0);
        move |at, decision: &Decision| {
            if matches!(
                decision,
                Decision::Opened { .. }
                    | Decision::EjectionRefused { .. }
                    | Decision::Probing { .. }
                    | Decision::Answered { .. }
                    | Decision::Closed { .. }
            ) {
                let mut decisions = decisions.lock().unwrap_or_else(PoisonError::into_inner);
                decisions.push((at, decision.clone()));
            }
        }
    }

    pub fn timeline(
        &self,
        start: Instant,
        name_of: impl Fn(SocketAddr) -> Option<&'static str>,
    ) -> Vec<Event> {
        let decisions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        timeline(&decisions, start, name_of)
    }
}

fn timeline(
    decisions: &[(Instant, Decision)],
    start: Instant,
    name_of: impl Fn(SocketAddr) -> Option<&'static str>,
) -> Vec<Event> {
    let mut outs: BTreeMap<SocketAddr, Out> = BTreeMap::new();
    let mut events = Vec::new();
    for (at, decision) in decisions {
        let (address, what, why) = match decision {
            Decision::Opened {
                endpoint,
                why,
                until,
            } => {
                let before = outs.get(endpoint);
                let what = before.map_or(What::Ejected, |_| What::ProbeFailed);
                let answer = before.and_then(|out| out.answer).map(words);
                let since = before.map_or(*at, |out| out.since);
                let why = match answer {
                    Some(answer) => format!("{why}: {answer}"),
                    None => why.to_string(),
                };
                let pause = seconds(until.saturating_duration_since(*at));
                outs.insert(*endpoint, Out::new(since));
                (endpoint, what, format!("{why}; left alone for {pause}"))
            }
            Decision::EjectionRefused { endpoint, why } => (endpoint, What::Kept, why.to_string()),
            Decision::Closed { endpoint } => {
                let out = outs.remove(endpoint);
                let answer = out.as_ref().and_then(|out| out.answer).map(words);
                let mut why = match answer {
                    Some(answer) => format!("the probe succeeded: {answer}"),
                    None => "the probe succeeded".to_owned(),
                };
                if let Some(out) = out {
                    let outage = seconds(at.saturating_duration_since(out.since));
                    why += &format!("; out for {outage}");
                }
                (endpoint, What::ReAdmitted, why)
            }
            Decision::Probing { endpoint, request } => {
                if let Some(out) = outs.get_mut(endpoint) {
                    out.probe = Some(*request);
                }
                continue;
            }
            Decision::Answered {
                endpoint,
                request,
                answer,
                ..
            } => {
                let out = outs.get_mut(endpoint);
                if let Some(out) = out.filter(|out| out.probe == Some(*request)) {
                    out.answer = Some(*answer);
                }
                continue;
            }
            _ => continue,
        };
        events.push(Event {
            at: at.saturating_duration_since(start),
            endpoint: name_of(*address).unwrap_or("?"),
            what,
            why,
        });
    }
    events
}

fn words(answer: Answer) -> String {
    match answer {
        Answer::Status(status) => status.to_string(),
        Answer::Error(kind) => kind.to_owned(),
        _ => "no answer".to_owned(),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

// === impl Out ===

impl Out {
    fn new(since: Instant) -> Self {
        Self {
            since,
            probe: None,
            answer: None,
        }
    }
}

// === impl What ===

impl What {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ejected => "ejected",
            Self::ProbeFailed => "probe failed",
            Self::ReAdmitted => "re-admitted",
            Self::Kept => "kept",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_an_ejection_from_a_failed_probe() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let endpoint = SocketAddr::from(([127, 0, 0, 1], 80));
        let opened = |why: &'static str, until| Decision::Opened {
            endpoint,
            why: why.into(),
            until: at(until),
        };
        let probe = |request, status| {
            let answer = Answer::Status(status);
            let probing = Decision::Probing { endpoint, request };
            let answered = Decision::Answered {
                request,
                attempt: 1,
                endpoint,
                answer,
            };
            [probing, answered]
        };
        let other = probe(9, 500)[1].clone();
        let decisions = [
            (at(1), opened("4 failures in a row", 2)),
            (at(2), probe(7, 503)[0].clone()),
            (at(2), probe(7, 503)[1].clone()),
            (at(2), opened("the probe failed", 4)),
            (at(4), probe(8, 200)[0].clone()),
            (at(4), other),
            (at(5), probe(8, 200)[1].clone()),
            (at(5), Decision::Closed { endpoint }),
            (at(6), opened("4 failures in a row", 7)),
        ];
        let events = timeline(&decisions, start, |_| Some("b"));
        let events: Vec<_> = events
            .iter()
            .map(|e| (e.at.as_secs(), e.what, e.why.as_str()))
            .collect();
        assert_eq!(
            events,
            [
                (
                    1,
                    What::Ejected,
                    "4 failures in a row; left alone for 1.0 s"
                ),
                (
                    2,
                    What::ProbeFailed,
                    "the probe failed: 503; left alone for 2.0 s"
                ),
                (
                    5,
                    What::ReAdmitted,
                    "the probe succeeded: 200; out for 4.0 s"
                ),
                (
                    6,
                    What::Ejected,
                    "4 failures in a row; left alone for 1.0 s"
                ),
            ]
        );
    }
}
