use std::time::Duration;

use tokio::time::Instant;

use crate::core::time::{Epoch, nanos};
use crate::policy::{Ratio, Unified};

const BUCKETS: u64 = 10;

/// A success rate over a sliding time, in ten buckets. Recording is O(1) whatever it holds.
#[derive(Clone, Debug)]
pub(super) struct Window {
    threshold: Ratio,
    min_requests: u32,
    // In nanoseconds.
    width: u64,
    start: Epoch,
    // The number of the newest bucket, counted from `start`.
    newest: u64,
    buckets: [Bucket; BUCKETS as usize],
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    total: u32,
    bad: u32,
}

// === impl Window ===

impl Window {
    /// None if the threshold is zero, which turns it off.
    pub(super) fn new(policy: &Unified, now: Instant) -> Option<Self> {
        (policy.threshold() > Ratio::ZERO).then(|| Self {
            threshold: policy.threshold(),
            min_requests: policy.min_requests().max(1),
            width: (nanos(policy.window().max(Unified::MIN_WINDOW)) / BUCKETS).max(1),
            start: Epoch::new(now),
            newest: 0,
            buckets: Default::default(),
        })
    }

    /// Takes over what was counted over as long a time.
    pub(super) fn inherit(&mut self, old: Self) {
        if old.width == self.width {
            self.start = old.start;
            self.newest = old.newest;
            self.buckets = old.buckets;
        }
    }

    pub(super) fn record(&mut self, now: Instant, bad: bool) {
        let bucket = self.start.nanos(now) / self.width;
        let passed = bucket.saturating_sub(self.newest).min(BUCKETS);
        // A late result belongs to the newest bucket: time does not go back.
        self.newest = self.newest.max(bucket);
        for back in 0..passed {
            self.buckets[((self.newest - back) % BUCKETS) as usize] = Bucket::default();
        }
        let newest = &mut self.buckets[(self.newest % BUCKETS) as usize];
        newest.total = newest.total.saturating_add(1);
        newest.bad = newest.bad.saturating_add(u32::from(bad));
    }

    /// Why to eject, if there is a reason. Only right after a result was recorded.
    pub(super) fn verdict(&self) -> Option<String> {
        let (mut total, mut bad) = (0u64, 0u64);
        for bucket in &self.buckets {
            total += u64::from(bucket.total);
            bad += u64::from(bucket.bad);
        }
        let good = total - bad;
        // good / total < threshold, in whole numbers.
        let low = good * u64::from(Ratio::ONE.ppm()) < total * u64::from(self.threshold.ppm());
        (total >= u64::from(self.min_requests) && low).then(|| {
            let window = Duration::from_nanos(self.width * BUCKETS);
            format!(
                "{good} of {total} succeeded in {window:?}, below {}",
                self.threshold
            )
        })
    }

    pub(super) fn clear(&mut self) {
        self.buckets = Default::default();
    }
}
