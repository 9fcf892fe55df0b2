//! Chance as a function: [`draw`] of the same arguments is the same word, in every build and process.
//!
//! There is no generator with a position that a clone would repeat or a lock would guard. The client numbers its
//! requests; each place that needs chance names its purpose and counts its own draws. Adding a draw somewhere shifts no
//! other.

/// What a random word is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
#[non_exhaustive]
pub enum Purpose {
    /// Which endpoints are compared.
    Pick = 1,
    /// Which backend, by weight.
    Weight = 2,
    /// How long a retry waits.
    RetryBackoff = 3,
    /// How long an ejected endpoint waits.
    ProbeBackoff = 4,
    /// Whether a failure is injected.
    Inject = 5,
    /// How long a connection is kept.
    ConnectionAge = 6,
    /// Which endpoints are looked at before one that is ejected is taken.
    Panic = 7,
    /// Whether a request stays in its caller's zone.
    Zone = 8,
    /// What a simulated world throws: arrivals, service times, faults.
    Simulate = 100,
}

/// A random word for the `n`th draw of request `request` for `purpose`.
#[inline]
pub fn draw(seed: u64, request: u64, purpose: Purpose, n: u64) -> u64 {
    Dice::new(seed).draw(request, purpose, n)
}

/// A seed that is drawn from more than once.
#[derive(Clone, Copy, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Those of a seed.
    pub fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// The same as [`draw`] with the seed.
    #[inline]
    pub fn draw(self, request: u64, purpose: Purpose, n: u64) -> u64 {
        // Each argument is mixed in before the next is added, so that neighbours in one cannot cancel out in another.
        let mut word = mix(self.0 ^ request);
        word = mix(word ^ purpose as u64);
        mix(word ^ n)
    }
}

/// A number below `n` from a random word, as even as 64 bits allow; zero if `n` is.
#[inline]
pub fn below(word: u64, n: u64) -> u64 {
    ((u128::from(word) * u128::from(n)) >> 64) as u64
}

/// A seed nobody knows, for clients that were given none.
#[allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the one place where chance may come from outside; a seed given to the builder replaces it"
)]
pub(crate) fn entropy() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

// The finalizer of splitmix64 over a Weyl step: a bijection in which every input bit reaches every output bit.
#[inline]
pub(crate) fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_arguments_draw_the_same_word_for_ever() {
        // Pinned: a change here changes every recorded run.
        assert_eq!(draw(0, 0, Purpose::Pick, 0), 0xd9ee_f7f0_73d3_7c42);
        assert_eq!(draw(7, 3, Purpose::Weight, 1), 0xa580_1e47_e244_e70d);
    }

    #[test]
    fn neighbours_are_spread_evenly() {
        for purpose in [Purpose::Pick, Purpose::RetryBackoff] {
            let mut counts = [0u32; 10];
            for request in 0..10_000 {
                counts[below(draw(1, request, purpose, 0), 10) as usize] += 1;
            }
            // Ten standard deviations of a binomial around 1000.
            assert!(counts.iter().all(|c| (700..1300).contains(c)), "{counts:?}");
        }
    }

    #[test]
    fn below_stays_below() {
        assert_eq!(below(u64::MAX, 3), 2);
        assert_eq!(below(0, 3), 0);
        assert_eq!(below(u64::MAX, 0), 0);
    }
}
