use std::fmt;

use super::{Report, part};

/// The percentiles that are told.
pub(super) const PERCENTILES: [(&str, f64); 6] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
];

// === impl Report ===

impl fmt::Display for Report {
    /// A summary of some lines: requests and errors, latency, endpoints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} requests, {} errors ({:.3} %), {} attempts ({:.3} for each request)",
            self.requests,
            self.failed(),
            self.error_rate() * 100.0,
            self.attempts,
            self.amplification(),
        )?;
        for (n, (why, count)) in self.errors.iter().enumerate() {
            let comma = if n == 0 { "\nerrors: " } else { ", " };
            write!(f, "{comma}{count} {why}")?;
        }
        f.write_str("\nlatency:")?;
        for (name, quantile) in PERCENTILES {
            let millis = self.latency(quantile).as_secs_f64() * 1e3;
            write!(f, " {name} {millis:.1} ms,")?;
        }
        write!(f, " max {:.1} ms", self.slowest().as_secs_f64() * 1e3)?;
        let width = self.endpoints.iter().map(|e| e.label(self).len()).max();
        let width = width.unwrap_or(0).max("endpoint".len());
        write!(
            f,
            "\n{:<width$} {:>9} {:>7} {:>8} {:>6}  first ejected",
            "endpoint", "attempts", "share", "failed", "opened"
        )?;
        for endpoint in &self.endpoints {
            let first = endpoint.first_opened;
            let first = first.map_or("never".to_owned(), |at| {
                format!("{:.3} s", at.as_secs_f64())
            });
            write!(
                f,
                "\n{:<width$} {:>9} {:>5.1} % {:>8} {:>6}  {first}",
                endpoint.label(self),
                endpoint.attempts,
                part(endpoint.attempts, self.attempts) * 100.0,
                endpoint.errors,
                endpoint.opened,
            )?;
        }
        write!(f, "\ndigest {}", self.digest)
    }
}
