/// A window has so many buckets.
pub(super) const BUCKETS: u64 = 10;

const OLDER: usize = BUCKETS as usize - 1;

/// Results over a sliding time, in ten buckets, with their sums. Recording is O(1) whatever it holds.
///
/// How wide the buckets are is the rule's. Times are nanoseconds. Many breakers have one: no byte is there twice, and what
/// a result changes comes first.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub(super) struct Window {
    sums: Counts,
    // When the newest bucket ends. What is in it is the sums less the others.
    end: u64,
    // The youngest first.
    older: [Counts; OLDER],
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    total: u32,
    bad: u32,
}

// === impl Window ===

impl Window {
    /// Its first bucket begins at `now`.
    pub(super) fn new(now: u64, width: u64) -> Self {
        Self {
            end: now.saturating_add(width),
            ..Self::default()
        }
    }

    /// When the newest bucket ends.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// All results in the window, and the bad ones among them, as of the last one.
    pub(super) fn sums(&self) -> (u64, u64) {
        (self.sums.total.into(), self.sums.bad.into())
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

    // A window that is full, of four thousand million, counts no more until some have left it.
    fn add(&mut self, total: u32, bad: u32) {
        let total = total.min(u32::MAX - self.sums.total);
        self.sums.total += total;
        self.sums.bad += bad.min(total);
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
        self.end = self.end.saturating_add(steps.saturating_mul(width));
        if steps >= BUCKETS {
            return self.clear();
        }
        // So many leave; the newest is older now, with empty ones after it if time has passed without results.
        let steps = steps as usize;
        let older = self.older_sums();
        self.older.rotate_right(steps);
        self.older[..steps].fill(Counts::default());
        self.older[steps - 1] = Counts {
            total: self.sums.total - older.total,
            bad: self.sums.bad - older.bad,
        };
        self.sums = self.older_sums();
    }

    fn older_sums(&self) -> Counts {
        let add = |sums: Counts, bucket: &Counts| Counts {
            total: sums.total + bucket.total,
            bad: sums.bad + bucket.bad,
        };
        self.older.iter().fold(Counts::default(), add)
    }

    pub(super) fn clear(&mut self) {
        self.sums = Counts::default();
        self.older = Default::default();
    }
}
