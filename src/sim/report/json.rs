//! A report as JSON. Written by hand: its numbers are few, and a serializer would be one more dependency.

use std::time::Duration;

use super::display::PERCENTILES;
use super::{Report, part};
use crate::core::json::Out;

// === impl Report ===

impl Report {
    /// One JSON object in one line: the figures, the endpoints, the timeline, the events, the digest.
    ///
    /// Times are virtual seconds, or milliseconds where the name ends in `_ms`.
    pub fn to_json(&self) -> String {
        let mut out = Out(String::with_capacity(4096));
        out.open('{');
        out.number("requests", self.requests as f64);
        out.number("attempts", self.attempts as f64);
        out.number("success", (self.requests - self.failed()) as f64);
        out.number("errors", self.failed() as f64);
        out.number("error_rate", self.error_rate());
        out.number("amplification", self.amplification());
        out.key("latency_ms");
        out.open('{');
        for (name, quantile) in PERCENTILES {
            out.number(name, millis(self.latency(quantile)));
        }
        out.number("max", millis(self.slowest()));
        out.close('}');
        out.key("within_s");
        out.open('{');
        for (name, share) in self.within() {
            out.number(name, share);
        }
        out.close('}');
        out.key("errors_by_kind");
        out.open('{');
        for (why, count) in &self.errors {
            out.number(why, *count as f64);
        }
        out.close('}');
        out.number("clients", self.clients as f64);
        out.number("duration_s", self.duration.as_secs_f64());
        out.number("warmup_s", self.warmup.as_secs_f64());
        self.endpoints_json(&mut out);
        self.timeline_json(&mut out);
        self.events_json(&mut out);
        out.number("events_left_out", self.events_left_out as f64);
        out.key("decisions");
        out.open('{');
        for (name, count) in &self.decisions {
            out.number(name, *count as f64);
        }
        out.close('}');
        out.key("digest");
        out.text(&self.digest);
        out.close('}');
        out.0
    }

    fn endpoints_json(&self, out: &mut Out) {
        out.key("endpoints");
        out.open('[');
        for endpoint in &self.endpoints {
            out.item();
            out.open('{');
            out.key("name");
            out.text(&endpoint.name);
            out.number("index", endpoint.index as f64);
            out.number("attempts", endpoint.attempts as f64);
            out.number("share", part(endpoint.attempts, self.attempts));
            out.number("errors", endpoint.errors as f64);
            out.number("opened", endpoint.opened as f64);
            out.key("first_opened_s");
            match endpoint.first_opened {
                Some(at) => out.value(at.as_secs_f64()),
                None => out.0.push_str("null"),
            }
            out.close('}');
        }
        out.close(']');
    }

    fn timeline_json(&self, out: &mut Out) {
        out.key("timeline");
        out.open('[');
        for second in &self.timeline {
            let attempts = second.attempts.iter().sum();
            out.item();
            out.open('{');
            out.number("t", second.second as f64);
            out.number("requests", second.requests as f64);
            out.number("errors", second.errors as f64);
            out.number("attempts", attempts as f64);
            out.number("p50_ms", millis(second.p50));
            out.number("p99_ms", millis(second.p99));
            out.key("shares");
            out.open('[');
            for count in &second.attempts {
                out.item();
                out.value(part(*count, attempts));
            }
            out.close(']');
            out.key("ejected");
            out.open('[');
            for count in &second.ejected {
                out.item();
                out.value(f64::from(*count));
            }
            out.close(']');
            if let Some(milli) = second.budget_milli {
                out.number("budget", milli as f64 / 1e3);
            }
            out.number("in_flight", second.in_flight as f64);
            out.close('}');
        }
        out.close(']');
    }

    fn events_json(&self, out: &mut Out) {
        out.key("events");
        out.open('[');
        for event in &self.events {
            out.item();
            out.open('{');
            out.number("t", event.at.as_secs_f64());
            out.number("client", f64::from(event.client));
            out.key("endpoint");
            let endpoint = event.endpoint.and_then(|index| self.endpoints.get(index));
            match endpoint {
                Some(endpoint) => out.text(&endpoint.label(self)),
                None => out.0.push_str("null"),
            }
            out.key("what");
            out.text(event.what);
            out.key("why");
            out.text(&event.why);
            out.close('}');
        }
        out.close(']');
    }
}

fn millis(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e6
}
