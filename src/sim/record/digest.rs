use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::core::draw::mix;
use crate::core::observe::{Answer, Decision};
use crate::core::time::nanos;

/// A hash of decisions, one after the other. The same on every platform and in every version of the compiler, which the
/// standard library's hashes do not promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(u64);

// === impl Digest ===

impl Digest {
    pub(crate) fn new() -> Self {
        Self(0)
    }

    fn word(&mut self, word: u64) {
        self.0 = mix(self.0 ^ word).rotate_left(29).wrapping_add(word);
    }

    // With its length, so that two texts cannot be taken for two others.
    fn text(&mut self, text: &str) {
        self.word(text.len() as u64);
        for chunk in text.as_bytes().chunks(8) {
            let mut bytes = [0; 8];
            for (byte, from) in bytes.iter_mut().zip(chunk) {
                *byte = *from;
            }
            self.word(u64::from_le_bytes(bytes));
        }
    }

    fn time(&mut self, time: Duration) {
        self.word(nanos(time));
    }

    // None is later than any.
    fn moment(&mut self, at: Option<Instant>, start: Instant) {
        self.time(at.map_or(Duration::MAX, |at| at.saturating_duration_since(start)));
    }

    fn address(&mut self, address: &SocketAddr) {
        match address {
            SocketAddr::V4(v4) => self.word(u64::from(v4.ip().to_bits()) << 16),
            SocketAddr::V6(v6) => {
                let bits = v6.ip().to_bits();
                self.word((bits >> 64) as u64);
                self.word(bits as u64);
            }
        }
        self.word(address.port().into());
    }

    /// One decision of one client, with every field it has. `start` is when the world began.
    pub(crate) fn decision(&mut self, client: u32, at: u64, start: Instant, decision: &Decision) {
        self.word(client.into());
        self.word(at);
        self.text(decision.name());
        match decision {
            Decision::Routed { request, route } => {
                self.word(*request);
                self.text(route);
            }
            Decision::Waiting { request, backend } => {
                self.word(*request);
                self.text(backend);
            }
            Decision::Picked {
                request,
                attempt,
                endpoint,
                probe,
            } => {
                self.word(*request);
                self.word(u64::from(*attempt) << 1 | u64::from(*probe));
                self.address(endpoint);
            }
            Decision::Answered {
                request,
                attempt,
                endpoint,
                answer,
            } => {
                self.word(*request);
                self.word((*attempt).into());
                self.address(endpoint);
                match answer {
                    Answer::Status(status) => self.word((*status).into()),
                    Answer::Error(kind) => self.text(kind),
                }
            }
            Decision::Retried {
                request,
                attempt,
                backoff,
            } => {
                self.word(*request);
                self.word((*attempt).into());
                self.time(*backoff);
            }
            Decision::Hedged { request, attempt } => {
                self.word(*request);
                self.word((*attempt).into());
            }
            Decision::NotRetried {
                request,
                attempt,
                why,
            } => {
                self.word(*request);
                self.word((*attempt).into());
                self.word(*why as u64);
            }
            Decision::HandedOver {
                request,
                attempt,
                held,
            } => {
                self.word(*request);
                self.word((*attempt).into());
                self.time(*held);
            }
            Decision::Refused { request, why } => {
                self.word(*request);
                self.text(why);
            }
            Decision::Opened {
                endpoint,
                why,
                until,
            } => {
                self.address(endpoint);
                self.text(why);
                self.time(until.saturating_duration_since(start));
            }
            Decision::EjectionRefused { endpoint, why } => {
                self.address(endpoint);
                self.text(why);
            }
            Decision::ByHand { endpoint, what } => {
                self.address(endpoint);
                self.text(what);
            }
            Decision::Probing { endpoint, request } | Decision::Panicked { endpoint, request } => {
                self.address(endpoint);
                self.word(*request);
            }
            Decision::ProbePassed { endpoint }
            | Decision::ProbeReturned { endpoint }
            | Decision::Closed { endpoint } => self.address(endpoint),
            Decision::Endpoints {
                backend,
                joined,
                left,
            } => {
                self.text(backend);
                self.word(*joined as u64);
                self.word(*left as u64);
            }
            Decision::DiscoveryFailed { backend, error } => {
                self.text(backend);
                self.text(error);
            }
            Decision::BreakerOpened {
                breaker,
                why,
                until,
            } => {
                self.text(breaker);
                self.text(why);
                self.moment(*until, start);
            }
            Decision::BreakerProbing { breaker }
            | Decision::BreakerProbePassed { breaker }
            | Decision::BreakerProbeReturned { breaker }
            | Decision::BreakerClosed { breaker } => {
                self.text(breaker);
            }
            Decision::BreakerRefused {
                breaker,
                retry_at,
                dry_run,
            } => {
                self.text(breaker);
                self.moment(*retry_at, start);
                self.word((*dry_run).into());
            }
            Decision::Swapped => {}
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn is_pinned_and_sees_every_difference() {
        let start = Instant::now();
        let digest = |client, at, decision: Decision| {
            let mut digest = Digest::new();
            digest.decision(client, at, start, &decision);
            digest.to_string()
        };
        let answered = |status| Decision::Answered {
            request: 1,
            attempt: 1,
            endpoint: ([10, 0, 0, 1], 80).into(),
            answer: Answer::Status(status),
        };
        let pinned = digest(0, 0, answered(200));
        // A change here changes every committed digest.
        assert_eq!(pinned, "7af789adff6f59b8");
        assert_ne!(pinned, digest(0, 0, answered(201)));
        assert_ne!(pinned, digest(1, 0, answered(200)));
        assert_ne!(pinned, digest(0, 1, answered(200)));
        let opened = |wait| Decision::Opened {
            endpoint: ([10, 0, 0, 1], 80).into(),
            why: "because".into(),
            until: start + wait,
        };
        let wait = Duration::from_nanos;
        assert_ne!(digest(0, 0, opened(wait(1))), digest(0, 0, opened(wait(2))));
    }
}
