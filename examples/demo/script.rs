//! What happens when: the same for both clients.

use std::time::Duration;

use tokio::time::Instant;
use tower_mesh::core::draw::{Purpose, below, draw};

/// Requests a second, for each client.
pub const RATE: u64 = 200;

// What is left to chance. The servers add their index to theirs.
const ARRIVAL: u64 = 0;
pub const FAILURE: u64 = 100;
pub const SERVICE_TIME: u64 = 200;

#[derive(Clone, Copy)]
pub struct Script {
    pub start: Instant,
    pub length: Duration,
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Third {
    First,
    Bad,
    Last,
}

// === impl Script ===

impl Script {
    pub fn third_at(&self, at: Instant) -> Third {
        self.third(at.saturating_duration_since(self.start))
    }

    /// In which third a moment is that is `since` after the start.
    pub fn third(&self, since: Duration) -> Third {
        if since < self.length / 3 {
            Third::First
        } else if since < self.length / 3 * 2 {
            Third::Bad
        } else {
            Third::Last
        }
    }

    /// A random word for the `n`th time that `what` is left to chance. The clients draw for purposes of their own.
    pub fn chance(&self, n: u64, what: u64) -> u64 {
        draw(self.seed, n, Purpose::Inject, what)
    }

    /// When requests arrive, whether or not earlier ones have been answered: from nought to two mean gaps apart.
    pub fn arrivals(&self) -> Vec<Duration> {
        let two_gaps = 2_000_000 / RATE;
        let mut at = Duration::ZERO;
        let mut arrivals = Vec::new();
        for n in 0.. {
            at += Duration::from_micros(below(self.chance(n, ARRIVAL), two_gaps));
            if at >= self.length {
                break;
            }
            arrivals.push(at);
        }
        arrivals
    }
}
