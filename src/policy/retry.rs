use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Budget, Codes, ExponentialBackoff, InvalidPolicy, Trailers};

/// Which answers are worth another try, how often, and at whose expense.
///
/// Whatever the policy lists is retried for every method. What nobody knows the outcome of (a connection that broke, a try
/// that timed out) is retried where that is harmless: idempotent methods, requests with an `Idempotency-Key`, gRPC, and
/// requests whose [options](crate::RequestOptions::safe_to_repeat) say so.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Retry {
    max_retries: u16,
    max_request_bytes: usize,
    status_ranges: StatusRanges,
    codes: Codes,
    trailers: Trailers,
    timeout: Option<Duration>,
    backoff: Option<ExponentialBackoff>,
    paid: Paid,
}

/// Writes a [`Retry`]; nothing is checked before the end, so that it can be written in one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a builder does nothing until it is built"]
pub struct RetryBuilder {
    ranges: Vec<RangeInclusive<u16>>,
    codes: Vec<u16>,
    max_retries: u16,
    max_request_bytes: usize,
    trailers: Trailers,
    timeout: Option<Duration>,
    backoff: Option<ExponentialBackoff>,
    paid: Paid,
}

/// Ranges of HTTP statuses, each within 1 to 599.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct StatusRanges(Vec<(u16, u16)>);

// What pays for extra attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Paid {
    ByDefault,
    By(Budget),
    Unlimited,
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
            trailers: Trailers::default(),
            timeout: None,
            backoff: Some(ExponentialBackoff::RETRY),
            paid: Paid::ByDefault,
        }
    }

    /// The most attempts after the first. One more is made for a request that provably reached nobody, once.
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

    /// The gRPC codes that are retried, wherever they are written.
    pub fn codes(&self) -> Codes {
        self.codes
    }

    /// How long a response is held back for a code in its trailers.
    pub fn trailers(&self) -> Trailers {
        self.trailers
    }

    /// How long an attempt may take to answer before it counts as failed, unless it is the last.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// The waits between attempts; none means at once.
    pub fn backoff(&self) -> Option<ExponentialBackoff> {
        self.backoff
    }

    /// What pays for them, if the policy says so. If it does not, the [default](Budget::default) does, but for the mesh,
    /// where routes have no budget.
    pub fn budget(&self) -> Option<Budget> {
        match self.paid {
            Paid::By(budget) => Some(budget),
            Paid::ByDefault | Paid::Unlimited => None,
        }
    }

    /// Whether nothing needs to pay for them, because the policy says so.
    pub fn is_unlimited(&self) -> bool {
        self.paid == Paid::Unlimited
    }
}

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = match self.max_retries {
            1 => "once".to_owned(),
            n => format!("up to {n} times"),
        };
        write!(f, "retries {times}")?;
        if !self.status_ranges.is_empty() {
            write!(f, " on {}", self.status_ranges)?;
        }
        if !self.codes.is_empty() {
            write!(f, " on {}", self.codes)?;
        }
        if let Some(timeout) = self.timeout {
            write!(f, " after {timeout:?} without an answer")?;
        }
        match self.paid {
            Paid::By(budget) => write!(f, ", within {budget}"),
            Paid::ByDefault => write!(f, ", within the default budget: {}", Budget::default()),
            Paid::Unlimited => f.write_str(", without a budget"),
        }
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

    /// These gRPC codes too, in a response's headers or its trailers.
    pub fn and_on_codes(mut self, codes: impl IntoIterator<Item = u16>) -> Self {
        self.codes.extend(codes);
        self
    }

    /// These gRPC codes and no others.
    pub fn codes(mut self, codes: Codes) -> Self {
        self.codes = codes.iter().collect();
        self
    }

    /// The most attempts after the first, not counting one for a request that provably reached nobody. Default: 1; with 0
    /// there is one attempt, whatever happens.
    pub fn limit(mut self, max_retries: u16) -> Self {
        self.max_retries = max_retries;
        self
    }

    /// The most of a request body that is kept for another try. Default: 64 KiB.
    pub fn max_request_bytes(mut self, bytes: usize) -> Self {
        self.max_request_bytes = bytes;
        self
    }

    /// How long a gRPC response is held back for a code in its trailers, where nobody says of which
    /// [kind](super::MethodKind) its method is. Default: [`Trailers::default`]. Beyond the mesh.
    pub fn trailers(mut self, trailers: Trailers) -> Self {
        self.trailers = trailers;
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

    /// What pays for them. Default: [`Budget::default`], 20 % and 10 a second.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.paid = Paid::By(budget);
        self
    }

    /// Nothing needs to pay for them: as many as the limit allows, in an outage for every request.
    pub fn unlimited(mut self) -> Self {
        self.paid = Paid::Unlimited;
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
            trailers: self.trailers,
            timeout: self.timeout,
            backoff: self.backoff,
            paid: self.paid,
        })
    }
}

impl RetryBuilder {
    // What of it is possible: no response has a status or a code that `build` would refuse.
    pub(crate) fn possible(self) -> Retry {
        let ranges = self.ranges.iter().filter_map(|range| {
            let (start, end) = (*range.start().max(&1), *range.end().min(&599));
            (start <= end).then_some((start, end))
        });
        Retry {
            max_retries: self.max_retries,
            max_request_bytes: self.max_request_bytes,
            status_ranges: StatusRanges(ranges.collect()),
            codes: Codes::of(
                self.codes
                    .into_iter()
                    .filter(|code| (1..=16).contains(code)),
            )
            .unwrap_or_default(),
            trailers: self.trailers,
            timeout: self.timeout,
            backoff: self.backoff,
            paid: self.paid,
        }
    }
}

impl From<Retry> for RetryBuilder {
    fn from(retry: Retry) -> Self {
        Self {
            ranges: retry.status_ranges.iter().collect(),
            codes: retry.codes.iter().collect(),
            max_retries: retry.max_retries,
            max_request_bytes: retry.max_request_bytes,
            trailers: retry.trailers,
            timeout: retry.timeout,
            backoff: retry.backoff,
            paid: retry.paid,
        }
    }
}

// === impl StatusRanges ===

impl StatusRanges {
    /// Each as it is written: `503`, or `500-599`.
    pub(crate) fn words(&self) -> Vec<String> {
        let words = self.0.iter().map(|(start, end)| match start == end {
            true => start.to_string(),
            false => format!("{start}-{end}"),
        });
        words.collect()
    }

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

impl fmt::Display for StatusRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().join(", "))
    }
}
