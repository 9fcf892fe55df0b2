use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Codes, ExponentialBackoff, InvalidPolicy, Ratio};

/// Which answers are worth another try, how often, and at whose expense.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Retry {
    max_retries: u16,
    max_request_bytes: usize,
    status_ranges: StatusRanges,
    codes: Codes,
    timeout: Option<Duration>,
    backoff: Option<ExponentialBackoff>,
    budget: Option<Budget>,
}

/// Writes a [`Retry`]; nothing is checked before the end, so that it can be written in one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a builder does nothing until it is built"]
pub struct RetryBuilder {
    ranges: Vec<RangeInclusive<u16>>,
    codes: Vec<u16>,
    max_retries: u16,
    max_request_bytes: usize,
    timeout: Option<Duration>,
    backoff: Option<ExponentialBackoff>,
    budget: Option<Budget>,
}

/// Ranges of HTTP statuses, each within 1 to 599.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct StatusRanges(Vec<(u16, u16)>);

/// How many extra attempts successes pay for.
///
/// Every success earns `ratio` of an attempt; beyond that `min_per_sec` attempts a second come for nothing, so that a
/// quiet client may retry too. What is saved up is bounded by the [bank](crate::budget). The mesh has no budget on
/// routes; ServiceProfile and Gateway API have, and their `retryRatio`/`percent` and floor mean the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Extra attempts per success.
    pub ratio: Ratio,
    /// Extra attempts a second whatever happens.
    pub min_per_sec: u32,
}

// === impl Retry ===

impl Retry {
    /// The most of a request body that is kept for another try: 64 KiB, the mesh's fixed value.
    pub const MAX_REQUEST_BYTES: usize = 64 * 1024;

    /// Retries answers with these statuses, once, with the mesh's backoff (25 ms to 250 ms).
    pub fn on(statuses: RangeInclusive<u16>) -> RetryBuilder {
        Self::never_on_status().and_on(statuses)
    }

    /// Retries gRPC answers with these codes, once, with the mesh's backoff: `Retry::on_codes([Codes::UNAVAILABLE])`.
    ///
    /// The mesh knows CANCELLED, DEADLINE_EXCEEDED, INTERNAL, RESOURCE_EXHAUSTED and UNAVAILABLE.
    pub fn on_codes(codes: impl IntoIterator<Item = u16>) -> RetryBuilder {
        Self::never_on_status().and_on_codes(codes)
    }

    /// Retries only what is always worth it: a try that timed out, a connection refused, a request refused
    /// unprocessed.
    pub fn never_on_status() -> RetryBuilder {
        RetryBuilder {
            ranges: Vec::new(),
            codes: Vec::new(),
            max_retries: 1,
            max_request_bytes: Self::MAX_REQUEST_BYTES,
            timeout: None,
            backoff: Some(ExponentialBackoff::RETRY),
            budget: None,
        }
    }

    /// The most attempts after the first.
    pub fn max_retries(&self) -> u16 {
        self.max_retries
    }

    /// A larger request body is sent once.
    pub fn max_request_bytes(&self) -> usize {
        self.max_request_bytes
    }

    /// The statuses that are retried.
    pub fn status_ranges(&self) -> &StatusRanges {
        &self.status_ranges
    }

    /// The gRPC codes that are retried.
    pub fn codes(&self) -> Codes {
        self.codes
    }

    /// How long an attempt may take to answer before it counts as failed, unless it is the last.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// The waits between attempts; none means at once.
    pub fn backoff(&self) -> Option<ExponentialBackoff> {
        self.backoff
    }

    /// What pays for them, if the policy says so.
    pub fn budget(&self) -> Option<Budget> {
        self.budget
    }
}

// === impl RetryBuilder ===

impl RetryBuilder {
    /// These statuses too.
    pub fn and_on(mut self, statuses: RangeInclusive<u16>) -> Self {
        self.ranges.push(statuses);
        self
    }

    /// These statuses and no others.
    pub fn statuses(mut self, statuses: &StatusRanges) -> Self {
        self.ranges = statuses.iter().collect();
        self
    }

    /// These gRPC codes too.
    pub fn and_on_codes(mut self, codes: impl IntoIterator<Item = u16>) -> Self {
        self.codes.extend(codes);
        self
    }

    /// These gRPC codes and no others.
    pub fn codes(mut self, codes: Codes) -> Self {
        self.codes = codes.iter().collect();
        self
    }

    /// The most attempts after the first. Default: 1.
    pub fn limit(mut self, max_retries: u16) -> Self {
        self.max_retries = max_retries;
        self
    }

    /// The most of a request body that is kept for another try. Default: 64 KiB.
    pub fn max_request_bytes(mut self, bytes: usize) -> Self {
        self.max_request_bytes = bytes;
        self
    }

    /// How long an attempt may take to answer, unless it is the last. Default: no limit.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The waits between attempts. Default: 25 ms to 250 ms with jitter one.
    pub fn backoff(mut self, backoff: ExponentialBackoff) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// No waits between attempts.
    pub fn no_backoff(mut self) -> Self {
        self.backoff = None;
        self
    }

    /// What pays for them. Default: the client's default budget, 20 % and 10 a second.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// # Errors
    /// A status range that is empty or leaves 1 to 599; a gRPC code that is OK or none.
    pub fn build(self) -> Result<Retry, InvalidPolicy> {
        Ok(Retry {
            max_retries: self.max_retries,
            max_request_bytes: self.max_request_bytes,
            status_ranges: StatusRanges::try_new(self.ranges)?,
            codes: Codes::of(self.codes).map_err(|code| code.in_field("retry.codes"))?,
            timeout: self.timeout,
            backoff: self.backoff,
            budget: self.budget,
        })
    }
}

impl From<Retry> for RetryBuilder {
    fn from(retry: Retry) -> Self {
        Self {
            ranges: retry.status_ranges.iter().collect(),
            codes: retry.codes.iter().collect(),
            max_retries: retry.max_retries,
            max_request_bytes: retry.max_request_bytes,
            timeout: retry.timeout,
            backoff: retry.backoff,
            budget: retry.budget,
        }
    }
}

// === impl StatusRanges ===

impl StatusRanges {
    /// # Errors
    /// A range that is empty or leaves 1 to 599.
    pub fn try_new(
        ranges: impl IntoIterator<Item = RangeInclusive<u16>>,
    ) -> Result<Self, InvalidPolicy> {
        ranges
            .into_iter()
            .map(|range| {
                let (start, end) = range.into_inner();
                if start < 1 || end > 599 || start > end {
                    return Err(InvalidPolicy::new(
                        "status_ranges",
                        format!("{start}-{end}"),
                        "two statuses from 1 to 599, the lower first",
                    ));
                }
                Ok((start, end))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// 500 to 599: what the mesh counts as a failure.
    pub fn server_errors() -> Self {
        Self(vec![(500, 599)])
    }

    /// Whether one of them has this status.
    pub fn contains(&self, status: http::StatusCode) -> bool {
        let status = status.as_u16();
        self.0
            .iter()
            .any(|(start, end)| (*start..=*end).contains(&status))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the order they were given.
    pub fn iter(&self) -> impl Iterator<Item = RangeInclusive<u16>> + '_ {
        self.0.iter().map(|(start, end)| *start..=*end)
    }
}

// === impl Budget ===

impl Budget {
    /// So many extra attempts per hundred successes, and 10 a second besides.
    pub const fn percent(percent: u8) -> Self {
        Self {
            ratio: Ratio::percent(percent),
            min_per_sec: 10,
        }
    }

    /// With another floor.
    #[must_use]
    pub const fn min_per_sec(mut self, min_per_sec: u32) -> Self {
        self.min_per_sec = min_per_sec;
        self
    }
}

impl Default for Budget {
    /// 20 %, and 10 a second: Linkerd's and Finagle's.
    fn default() -> Self {
        Self::percent(20)
    }
}
