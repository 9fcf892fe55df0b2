use crate::core::sync::{AtomicU64, Ordering};
use crate::core::time::nanos;
use crate::policy::{Load, PendingUntil};

/// A load policy in integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What is compared.
    pub kind: Kind,
    /// How fast a latency estimate fades, in nanoseconds.
    pub decay: u64,
    /// Whether failures raise the cost.
    pub failures: bool,
    /// Whether silence does.
    pub silence: bool,
    /// Whether an unknown endpoint gets one request at a time.
    pub one_at_first: bool,
    /// How long a request counts as in flight.
    pub pending_until: PendingUntil,
    /// An endpoint that was not chosen for so many nanoseconds is tried; zero never.
    pub explore: u64,
    /// How long an endpoint takes to its full share, in nanoseconds.
    pub slow_start: u64,
    /// What a failure weighs at least, in nanoseconds.
    pub penalty: u64,
    /// How fast that fades, in nanoseconds; zero is at once.
    pub penalty_decay: u64,
    /// The most that a hint of the endpoint's own weighs, in nanoseconds.
    pub max_retry_after: u64,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Latency times requests in flight.
    PeakEwma,
    /// The same, with a penalty for failures.
    PenaltyPeakEwma,
    /// Requests in flight.
    LeastPending,
    /// Nothing: each has its turn.
    RoundRobin,
}

/// The rules in force, in words that are read without a lock. Who reads while they change may see some of each, once.
pub(crate) struct Dials {
    switches: AtomicU64,
    decay: AtomicU64,
    explore: AtomicU64,
    slow_start: AtomicU64,
    penalty: AtomicU64,
    penalty_decay: AtomicU64,
    max_retry_after: AtomicU64,
}

// === impl Rules ===

impl Rules {
    /// Of a policy.
    pub fn of(load: &Load) -> Self {
        let extensions = load.extensions();
        let mut rules = Self {
            kind: match load {
                Load::PeakEwma(_) => Kind::PeakEwma,
                Load::PenaltyPeakEwma(_) => Kind::PenaltyPeakEwma,
                Load::LeastPending(_) => Kind::LeastPending,
                Load::WeightedRoundRobin(_) => Kind::RoundRobin,
            },
            decay: nanos(load.ewma().decay()),
            failures: extensions.failures,
            silence: extensions.silence,
            one_at_first: extensions.one_at_first,
            pending_until: extensions.pending_until,
            explore: extensions.explore.map_or(0, nanos),
            slow_start: extensions.slow_start.map_or(0, nanos),
            penalty: 0,
            penalty_decay: 0,
            max_retry_after: 0,
        };
        if let Load::PenaltyPeakEwma(policy) = load {
            rules.penalty = nanos(policy.penalty);
            rules.penalty_decay = nanos(policy.penalty_decay);
            rules.max_retry_after = nanos(policy.max_retry_after);
        }
        rules
    }

    /// Whether latency is compared.
    #[inline]
    pub fn counts_latency(&self) -> bool {
        matches!(self.kind, Kind::PeakEwma | Kind::PenaltyPeakEwma)
    }

    /// Whether of endpoints that weigh the same, are known and have not failed of late, latency, silence and the requests in
    /// flight are all that is compared.
    pub(crate) fn are_plain(&self) -> bool {
        self.counts_latency() && self.silence && self.penalty_decay == 0 && self.slow_start == 0
    }

    fn switches(&self) -> u64 {
        let kind = match self.kind {
            Kind::PeakEwma => 0,
            Kind::PenaltyPeakEwma => 1,
            Kind::LeastPending => 2,
            Kind::RoundRobin => 3,
        };
        let until = match self.pending_until {
            PendingUntil::FirstFrame => 0,
            PendingUntil::Head => 1,
            PendingUntil::End => 2,
        };
        let flag = |on: bool, place: u32| u64::from(on) << place;
        kind | until << 2
            | flag(self.failures, 4)
            | flag(self.silence, 5)
            | flag(self.one_at_first, 6)
    }
}

// === impl Dials ===

impl Dials {
    pub(crate) fn new(rules: &Rules) -> Self {
        Self {
            switches: AtomicU64::new(rules.switches()),
            decay: AtomicU64::new(rules.decay),
            explore: AtomicU64::new(rules.explore),
            slow_start: AtomicU64::new(rules.slow_start),
            penalty: AtomicU64::new(rules.penalty),
            penalty_decay: AtomicU64::new(rules.penalty_decay),
            max_retry_after: AtomicU64::new(rules.max_retry_after),
        }
    }

    pub(crate) fn set(&self, rules: &Rules) {
        self.switches.store(rules.switches(), Ordering::Relaxed);
        self.decay.store(rules.decay, Ordering::Relaxed);
        self.explore.store(rules.explore, Ordering::Relaxed);
        self.slow_start.store(rules.slow_start, Ordering::Relaxed);
        self.penalty.store(rules.penalty, Ordering::Relaxed);
        self.penalty_decay
            .store(rules.penalty_decay, Ordering::Relaxed);
        self.max_retry_after
            .store(rules.max_retry_after, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn pending_until(&self) -> PendingUntil {
        pending_until(self.switches.load(Ordering::Relaxed))
    }

    /// How fast a latency estimate fades, in nanoseconds.
    #[inline]
    pub(crate) fn decay(&self) -> u64 {
        self.decay.load(Ordering::Relaxed)
    }

    /// How fast a penalty fades, in nanoseconds; zero is at once.
    #[inline]
    pub(crate) fn penalty_decay(&self) -> u64 {
        self.penalty_decay.load(Ordering::Relaxed)
    }

    pub(crate) fn rules(&self) -> Rules {
        let switches = self.switches.load(Ordering::Relaxed);
        let flag = |place: u32| switches >> place & 1 == 1;
        Rules {
            kind: match switches & 3 {
                0 => Kind::PeakEwma,
                1 => Kind::PenaltyPeakEwma,
                2 => Kind::LeastPending,
                _ => Kind::RoundRobin,
            },
            pending_until: pending_until(switches),
            failures: flag(4),
            silence: flag(5),
            one_at_first: flag(6),
            decay: self.decay.load(Ordering::Relaxed),
            explore: self.explore.load(Ordering::Relaxed),
            slow_start: self.slow_start.load(Ordering::Relaxed),
            penalty: self.penalty.load(Ordering::Relaxed),
            penalty_decay: self.penalty_decay.load(Ordering::Relaxed),
            max_retry_after: self.max_retry_after.load(Ordering::Relaxed),
        }
    }
}

#[inline]
fn pending_until(switches: u64) -> PendingUntil {
    match switches >> 2 & 3 {
        0 => PendingUntil::FirstFrame,
        1 => PendingUntil::Head,
        _ => PendingUntil::End,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{LoadExtensions, PeakEwma, PenaltyPeakEwma};
    use std::time::Duration;

    #[test]
    fn the_dials_say_what_they_were_told() {
        let dials = Dials::new(&Rules::of(&Load::default()));
        let penalty = PenaltyPeakEwma::new(PeakEwma::DEFAULT);
        for mut load in [
            Load::PenaltyPeakEwma(penalty),
            Load::least_pending(),
            Load::weighted_round_robin(),
            Load::default(),
        ] {
            for until in [
                PendingUntil::End,
                PendingUntil::Head,
                PendingUntil::FirstFrame,
            ] {
                *load.extensions_mut() = LoadExtensions {
                    pending_until: until,
                    slow_start: Some(Duration::from_secs(3)),
                    silence: until != PendingUntil::Head,
                    ..LoadExtensions::DEFAULT
                };
                dials.set(&Rules::of(&load));
                assert_eq!(dials.rules(), Rules::of(&load));
                let meshs = load.into_the_meshs();
                dials.set(&Rules::of(&meshs));
                assert_eq!(dials.rules(), Rules::of(&meshs));
            }
        }
    }
    #[test]
    fn only_what_compares_latency_and_silence_alone_is_plain() {
        let default = LoadExtensions::DEFAULT;
        let penalty = PenaltyPeakEwma::new(PeakEwma::DEFAULT);
        let slow_start = Some(Duration::from_secs(3));
        for (mut load, extensions, plain) in [
            (Load::default(), default, true),
            (Load::PenaltyPeakEwma(penalty), default, false),
            (Load::least_pending(), default, false),
            (Load::weighted_round_robin(), default, false),
            (
                Load::default(),
                LoadExtensions {
                    slow_start,
                    ..default
                },
                false,
            ),
            (
                Load::default(),
                LoadExtensions {
                    silence: false,
                    ..default
                },
                false,
            ),
        ] {
            *load.extensions_mut() = extensions;
            assert_eq!(Rules::of(&load).are_plain(), plain, "{load:?}");
        }
    }
}
