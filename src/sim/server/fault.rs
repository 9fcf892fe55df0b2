use std::time::Duration;

use crate::sim::chance::Latency;

/// Something that goes wrong for a time. Times in nanoseconds from the start of the world.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) fail: f64,
    pub(crate) status: u16,
    pub(crate) grpc_status: u16,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) latency: Option<Latency>,
    pub(crate) slow: f64,
    pub(crate) hang: bool,
    pub(crate) down: bool,
    pub(crate) reset: f64,
    pub(crate) truncate: f64,
    pub(crate) pause: bool,
}

/// What becomes of a request at an endpoint, once it is served.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fate {
    pub(crate) takes: u64,
    pub(crate) end: End,
}

/// How an exchange ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    Success,
    Failure {
        status: u16,
        grpc_status: u16,
        retry_after: Option<Duration>,
    },
    /// The body does not come to its end.
    Truncated,
    Reset,
    Refused,
    /// Until the fault is over nothing else is done by this worker; there is no answer even then.
    Never {
        until: u64,
    },
}

// === impl Fault ===

impl Default for Fault {
    fn default() -> Self {
        Self {
            from: 0,
            to: u64::MAX,
            fail: 0.0,
            status: 503,
            grpc_status: 14,
            retry_after: None,
            latency: None,
            slow: 1.0,
            hang: false,
            down: false,
            reset: 0.0,
            truncate: 0.0,
            pause: false,
        }
    }
}

impl Fault {
    // Whether it hits some and spares others.
    pub(super) fn has_chance(&self) -> bool {
        self.fail > 0.0 || self.reset > 0.0 || self.truncate > 0.0
    }

    pub(super) fn invalid(&self) -> Option<String> {
        for part in [self.fail, self.reset, self.truncate] {
            if !(0.0..=1.0).contains(&part) {
                return Some(format!(
                    "{part} is no part of the requests: it is from 0 to 1"
                ));
            }
        }
        if !(self.slow.is_finite() && self.slow > 0.0) {
            return Some(format!("{} times as slow is not above zero", self.slow));
        }
        if !(200..=599).contains(&self.status) {
            return Some(format!("{} is no status from 200 to 599", self.status));
        }
        if self.to <= self.from {
            return Some("a fault ends before it begins".into());
        }
        let latency = self.latency.as_ref();
        latency.and_then(|latency| latency.invalid().map(str::to_owned))
    }
}
