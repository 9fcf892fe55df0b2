use std::time::Duration;

use tokio::time::Instant;

use crate::core::draw::{Purpose, below, draw};
use crate::core::time::{after, nanos};

/// How the connections to one endpoint are made and kept.
///
/// ```
/// use std::time::Duration;
/// use tower_mesh::connect::Settings;
///
/// let settings = Settings::new()
///     .with_connect_timeout(Duration::from_millis(300))
///     .with_max_age(None);
/// # let _ = settings;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub(super) connect_timeout: Duration,
    pub(super) keep_alive: Option<(Duration, Duration)>,
    pub(super) idle_timeout: Duration,
    pub(super) max_age: Option<Duration>,
    pub(super) streams_per_connection: usize,
    pub(super) max_idle: usize,
    pub(super) seed: u64,
}

// === impl Settings ===

impl Settings {
    /// The defaults, named at each method.
    pub const fn new() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            keep_alive: Some((Duration::from_secs(10), Duration::from_secs(3))),
            idle_timeout: Duration::from_secs(55),
            max_age: Some(Duration::from_secs(600)),
            streams_per_connection: 100,
            max_idle: 32,
            seed: 0,
        }
    }

    /// How long a connection may take to be usable: TCP, TLS and, for HTTP/2, the peer's SETTINGS. Default: 1 s.
    #[must_use]
    pub const fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// HTTP/2: how long a connection with open streams may be silent until it is asked whether it lives, and how long it
    /// has to answer before it is closed. `None` never asks. Default: 10 s and 3 s.
    ///
    /// A connection without streams is not asked: a client that nobody calls sends nothing.
    #[must_use]
    pub const fn with_keep_alive(
        mut self,
        interval_and_timeout: Option<(Duration, Duration)>,
    ) -> Self {
        self.keep_alive = interval_and_timeout;
        self
    }

    /// How long a connection may be unused until it is closed. Zero keeps none for a second request. Default: 55 s,
    /// below the 60 s after which most servers and load balancers close it from their side.
    #[must_use]
    pub const fn with_idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// The age from which a connection takes no new requests; those on it finish. Each connection draws its own from
    /// 90 % to 110 % of this, so that they do not all end at once. `None` keeps them. Default: 10 minutes.
    #[must_use]
    pub const fn with_max_age(mut self, age: Option<Duration>) -> Self {
        self.max_age = age;
        self
    }

    /// HTTP/2: with how many open streams a connection is full, so that another is opened. A lower limit of the peer's
    /// wins. Zero means one. Default: 100.
    #[must_use]
    pub const fn with_streams_per_connection(mut self, streams: usize) -> Self {
        self.streams_per_connection = if streams == 0 { 1 } else { streams };
        self
    }

    /// HTTP/1.1: how many unused connections are kept for one endpoint. Default: 32.
    #[must_use]
    pub const fn with_max_idle(mut self, connections: usize) -> Self {
        self.max_idle = connections;
        self
    }

    /// What the connections' ages are drawn from. Default: 0.
    #[must_use]
    pub const fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// When connection `number`, made at `now`, takes no more requests.
    pub(super) fn retire_at(&self, number: u64, now: Instant) -> Option<Instant> {
        let age = self.max_age?;
        let word = draw(self.seed, number, Purpose::ConnectionAge, 0);
        let jitter = Duration::from_nanos(below(word, nanos(age / 5)));
        Some(after(now, (age - age / 10).saturating_add(jitter)))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ages_are_spread_around_the_maximum_and_pinned_by_the_seed() {
        let now = Instant::now();
        let age = Duration::from_secs(100);
        let ages = |seed| -> Vec<Duration> {
            let settings = Settings::new().with_max_age(Some(age)).with_seed(seed);
            (0..100)
                .map(|n| settings.retire_at(n, now).unwrap() - now)
                .collect()
        };
        let drawn = ages(7);
        assert_eq!(drawn, ages(7));
        assert_ne!(drawn, ages(8));
        let (low, high) = (drawn.iter().min().unwrap(), drawn.iter().max().unwrap());
        assert!(*low >= Duration::from_secs(90) && *low < Duration::from_secs(92));
        assert!(*high <= Duration::from_secs(110) && *high > Duration::from_secs(108));
    }

    #[tokio::test(start_paused = true)]
    async fn no_age_is_too_long() {
        let settings = Settings::new().with_max_age(Some(Duration::MAX));
        assert!(settings.retire_at(0, Instant::now()).is_some());
        assert!(
            settings
                .with_max_age(None)
                .retire_at(0, Instant::now())
                .is_none()
        );
    }
}
