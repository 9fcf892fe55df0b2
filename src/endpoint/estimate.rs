use crate::core::sync::{AtomicU64, Ordering};
use crate::load::Estimate;

/// An estimate in two words that are read without the lock. A reader that falls between the two writes sees a new value with
/// an old time, once, which is a slightly wrong estimate and nothing worse.
pub(super) struct AtomicEstimate([AtomicU64; 2]);

// === impl AtomicEstimate ===

impl AtomicEstimate {
    pub(super) fn new(estimate: Estimate) -> Self {
        let (value, stamp) = estimate.words();
        Self([AtomicU64::new(value), AtomicU64::new(stamp)])
    }

    #[inline]
    pub(super) fn load(&self) -> Estimate {
        let [value, stamp] = &self.0;
        Estimate::from_words((value.load(Ordering::Relaxed), stamp.load(Ordering::Relaxed)))
    }

    #[inline(always)]
    pub(super) fn store(&self, estimate: Estimate) {
        let (value, stamp) = estimate.words();
        self.0[0].store(value, Ordering::Relaxed);
        self.0[1].store(stamp, Ordering::Relaxed);
    }
}
