//! An open loop: requests leave when they are due, however the earlier ones fare.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::clients::Caller;
use crate::script::Script;

/// How one request went.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When it was due, from the start.
    pub due: Duration,
    /// From then to the last byte of the answer, or to the error: what a late start costs counts as well.
    pub latency: Duration,
    /// Answered in full, and with no server error.
    pub success: bool,
}

/// What a progress bar shows.
#[derive(Debug, Default)]
pub struct Tally {
    pub failed: AtomicU64,
}

/// Sends a request at each of `arrivals`, and returns when all have ended.
pub async fn run(
    script: Script,
    arrivals: &[Duration],
    tally: &Tally,
    caller: impl Caller,
) -> Result<Vec<Sample>, JoinError> {
    let mut calls = JoinSet::new();
    let mut samples = Vec::with_capacity(arrivals.len());
    for (n, due) in arrivals.iter().copied().enumerate() {
        let at = script.start + due;
        sleep_until(at).await;
        calls.spawn(one(caller.clone(), n, due, at));
        while let Some(ended) = calls.try_join_next() {
            samples.push(tally.count(ended?));
        }
    }
    while let Some(ended) = calls.join_next().await {
        samples.push(tally.count(ended?));
    }
    Ok(samples)
}

async fn one(caller: impl Caller, n: usize, due: Duration, at: Instant) -> Sample {
    let answer = caller.call(n).await;
    Sample {
        due,
        latency: Instant::now().saturating_duration_since(at),
        success: answer.is_ok_and(|status| !status.is_server_error()),
    }
}

// === impl Tally ===

impl Tally {
    fn count(&self, sample: Sample) -> Sample {
        if !sample.success {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        sample
    }
}
