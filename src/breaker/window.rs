use super::rules::Rate;

/// A window has so many buckets.
pub(super) const BUCKETS: u64 = 10;

// What a bucket holds, so that the sums fit in as many bits.
const MOST: u32 = u32::MAX / BUCKETS as u32;

/// Results over a sliding time, in ten buckets, with their sums. Recording is O(1) whatever it holds.
///
/// How wide the buckets are is the rule's. Times are nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct Window {
    // When the newest bucket ends.
    end: u64,
    newest: u32,
    total: u32,
    bad: u32,
    buckets: [Bucket; BUCKETS as usize],
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    total: u32,
    bad: u32,
}

// === impl Window ===

impl Window {
    /// Its first bucket begins at `now`.
    pub(super) fn new(now: u64, width: u64) -> Self {
        Self {
            end: now.saturating_add(width),
            newest: 0,
            total: 0,
            bad: 0,
            buckets: Default::default(),
        }
    }

    /// When the newest bucket ends.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// All results in the window, and the bad ones among them, as of the last one.
    pub(super) fn sums(&self) -> (u64, u64) {
        (self.total.into(), self.bad.into())
    }

    pub(super) fn record(&mut self, now: u64, width: u64, bad: bool) {
        // A late result belongs to the newest bucket: time does not go back.
        if now >= self.end {
            self.slide(now, width);
        }
        self.add(1, u32::from(bad));
    }

    /// Adds successes from before the newest bucket's end.
    pub(super) fn credit(&mut self, successes: u32) {
        self.add(successes, 0);
    }

    // A bucket that is full counts no more, so that the sums are those of the buckets for ever.
    fn add(&mut self, total: u32, bad: u32) {
        let bucket = &mut self.buckets[self.newest as usize];
        let total = total.min(MOST - bucket.total);
        let bad = bad.min(total);
        bucket.total += total;
        bucket.bad += bad;
        self.total += total;
        self.bad += bad;
    }

    #[cold]
    fn slide(&mut self, now: u64, width: u64) {
        let passed = now - self.end;
        // Most often the next bucket follows, and a division is slow.
        let steps = if passed < width {
            1
        } else {
            passed / width + 1
        };
        for _ in 0..steps.min(BUCKETS) {
            self.newest = (self.newest + 1) % BUCKETS as u32;
            let gone = std::mem::take(&mut self.buckets[self.newest as usize]);
            self.total -= gone.total;
            self.bad -= gone.bad;
        }
        self.end = self.end.saturating_add(steps.saturating_mul(width));
    }

    /// Whether successes change nothing but the sums, until the newest bucket ends: the rate is not too low, and there
    /// are enough results, or only good ones.
    pub(super) fn is_calm(&self, rate: &Rate) -> bool {
        let enough = self.total >= rate.min_requests;
        self.bad == 0 || (enough && !rate.is_low(self.total.into(), self.bad.into()))
    }

    pub(super) fn clear(&mut self) {
        self.buckets = Default::default();
        self.total = 0;
        self.bad = 0;
    }
}
