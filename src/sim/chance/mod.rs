//! Chance of the world: all of it a function of the one seed, by part and number.

mod latency;
mod math;

pub use self::latency::Latency;
pub(crate) use self::math::minus_ln;
use crate::core::draw::{Purpose, draw};

/// What a part of the world draws from. Its draws do not depend on what other parts exist.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dice(u64);

/// The parts of a world that throw dice.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// A client's own seed.
    Client = 1,
    /// When a client's requests arrive.
    Arrivals = 2,
    /// What becomes of a client's requests at an endpoint.
    Fate = 3,
}

// === impl Dice ===

impl Dice {
    pub(crate) fn new(seed: u64, part: Part, number: u64) -> Self {
        Self(draw(seed, part as u64, Purpose::Simulate, number))
    }

    /// The seed as it is, for something that draws on its own.
    pub(crate) fn seed(self) -> u64 {
        self.0
    }

    /// The dice of its `n`th event.
    pub(crate) fn event(self, n: u64) -> Self {
        Self(draw(self.0, n, Purpose::Simulate, 0))
    }

    /// A random word; the same for the same `what`.
    pub(crate) fn word(self, what: u64) -> u64 {
        draw(self.0, what, Purpose::Simulate, 1)
    }

    /// Whether something of this probability happens.
    pub(crate) fn chance(self, what: u64, probability: f64) -> bool {
        probability > 0.0 && unit(self.word(what)) < probability
    }
}

/// A number from 0 to just below 1, from the upper 53 bits.
fn unit(word: u64) -> f64 {
    (word >> 11) as f64 / (1_u64 << 53) as f64
}
