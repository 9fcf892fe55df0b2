//! The parts of a policy in words.

use std::time::Duration;

use crate::policy::{
    Backend, BackendDispatcher, Budget, Condition, EndpointDiscovery, ExponentialBackoff,
    FailureAccrual, Filter, GrpcFilter, Load, LoadExtensions, MatchHeader, MatchHeaderValue,
    MatchHost, MatchPath, MatchQueryValue, MatchRequest, MatchRpc, ModifyHeader, ModifyPath,
    PeakEwma, Ratio,
};

/// What can be said in a few words.
pub(super) trait Words {
    fn words(&self) -> String;
}

impl Words for MatchRequest {
    fn words(&self) -> String {
        let mut parts = Vec::new();
        if let Some(method) = &self.method {
            parts.push(method.to_string());
        }
        match &self.path {
            Some(MatchPath::Exact(path)) => parts.push(format!("path {path}")),
            Some(MatchPath::Prefix(path)) if path == "/" => {}
            Some(MatchPath::Prefix(path)) => parts.push(format!("path {path} and below")),
            Some(MatchPath::Regex(pattern)) => parts.push(format!("path like {pattern:?}")),
            Some(MatchPath::Condition(condition)) => parts.push(condition.words()),
            None => {}
        }
        parts.extend(self.headers.iter().map(Words::words));
        for param in &self.query_params {
            parts.push(match &param.value {
                MatchQueryValue::Exact(value) => format!("query {}={value}", param.name),
                MatchQueryValue::Regex(pattern) => format!("query {} like {pattern:?}", param.name),
            });
        }
        if parts.is_empty() {
            return "every request".to_owned();
        }
        parts.join(", ")
    }
}

impl Words for Condition {
    fn words(&self) -> String {
        let join = |list: &[Self], none: &str, word: &str| match list {
            [] => none.to_owned(),
            [one] => one.words(),
            many => {
                let many: Vec<_> = many.iter().map(Self::words).collect();
                format!("({})", many.join(word))
            }
        };
        match self {
            Self::Path(pattern) => format!("path like {pattern:?}"),
            Self::Method(method) => method.to_string(),
            Self::All(all) => join(all, "every request", " and "),
            Self::Any(any) => join(any, "no request", " or "),
            Self::Not(not) => format!("not {}", not.words()),
        }
    }
}

impl Words for MatchRpc {
    fn words(&self) -> String {
        let mut parts = Vec::new();
        match (&self.service, &self.method) {
            (Some(service), Some(method)) => parts.push(format!("{service}/{method}")),
            (Some(service), None) => parts.push(format!("service {service}")),
            (None, Some(method)) => parts.push(format!("method {method} of any service")),
            (None, None) => {}
        }
        parts.extend(self.headers.iter().map(Words::words));
        if parts.is_empty() {
            return "every call".to_owned();
        }
        parts.join(", ")
    }
}

impl Words for MatchHeader {
    fn words(&self) -> String {
        match &self.value {
            MatchHeaderValue::Exact(value) => {
                let value = String::from_utf8_lossy(value.as_bytes());
                format!("header {}: {value}", self.name)
            }
            MatchHeaderValue::Regex(pattern) => format!("header {} like {pattern:?}", self.name),
        }
    }
}

impl Words for MatchHost {
    fn words(&self) -> String {
        match self {
            Self::Exact(host) => host.clone(),
            Self::Suffix { reverse_labels } => {
                let labels: Vec<_> = reverse_labels.iter().rev().map(String::as_str).collect();
                format!("*.{}", labels.join("."))
            }
        }
    }
}

impl Words for Filter {
    fn words(&self) -> String {
        match self {
            Self::InjectFailure(failure) => format!(
                "fails{} with {}: {}",
                share(failure.ratio()),
                failure.status().as_u16(),
                failure.message()
            ),
            Self::Redirect(redirect) => {
                let mut text = format!("redirects with {}", redirect.status().as_u16());
                if let Some(scheme) = &redirect.scheme {
                    text += &format!(", scheme {scheme}");
                }
                if let Some(host) = &redirect.host {
                    text += &format!(", host {host}");
                }
                if let Some(port) = redirect.port {
                    text += &format!(", port {port}");
                }
                match &redirect.path {
                    Some(ModifyPath::ReplaceFullPath(path)) => text += &format!(", path {path}"),
                    Some(ModifyPath::ReplacePrefixMatch(path)) => {
                        text += &format!(", {path} for the matched prefix");
                    }
                    None => {}
                }
                text
            }
            Self::RequestHeaders(change) => format!("request headers: {}", change.words()),
            Self::ResponseHeaders(change) => format!("response headers: {}", change.words()),
        }
    }
}

impl Words for GrpcFilter {
    fn words(&self) -> String {
        match self {
            Self::InjectFailure(failure) => format!(
                "fails{} with code {}: {}",
                share(failure.ratio()),
                failure.code(),
                failure.message()
            ),
            Self::RequestHeaders(change) => format!("request metadata: {}", change.words()),
            Self::ResponseHeaders(change) => format!("response metadata: {}", change.words()),
        }
    }
}

fn share(ratio: Ratio) -> String {
    match ratio {
        Ratio::ONE => String::new(),
        part => format!(" {part} of the requests"),
    }
}

impl Words for ModifyHeader {
    fn words(&self) -> String {
        let mut parts = Vec::new();
        for (what, headers) in [("add", &self.add), ("set", &self.set)] {
            for (name, value) in headers {
                let value = String::from_utf8_lossy(value.as_bytes());
                parts.push(format!("{what} {name}: {value}"));
            }
        }
        parts.extend(self.remove.iter().map(|name| format!("remove {name}")));
        parts.join(", ")
    }
}

impl Words for ExponentialBackoff {
    fn words(&self) -> String {
        format!("{:?} to {:?}", self.min(), self.max())
    }
}

impl Words for Budget {
    fn words(&self) -> String {
        format!(
            "{} % of the successes, and {} a second besides",
            percent(self.ratio),
            self.min_per_sec
        )
    }
}

/// A ratio in hundredths, as short as can be.
pub(super) fn percent(ratio: Ratio) -> f64 {
    f64::from(ratio.ppm()) / 10_000.0
}

impl Words for FailureAccrual {
    fn words(&self) -> String {
        let mut parts = Vec::new();
        match self.max_consecutive_failures() {
            0 => {}
            1 => parts.push("a failure".to_owned()),
            n => parts.push(format!("{n} failures in a row")),
        }
        if let Self::Unified(unified) = self
            && unified.threshold() > Ratio::ZERO
        {
            parts.push(format!(
                "less than {} % successes in {:?} of at least {} requests",
                percent(unified.threshold()),
                unified.window(),
                unified.min_requests()
            ));
        }
        if parts.is_empty() {
            return "never ejects".to_owned();
        }
        let mut text = format!(
            "ejects an endpoint after {}; probes it after {}",
            parts.join(" or "),
            self.probe_backoff().words()
        );
        let extensions = self.extensions();
        if extensions.probes > 1 {
            text += &format!(", {} in a row", extensions.probes);
        }
        if let Some(slow) = extensions.slow_call {
            text += &format!("; slower than {slow:?} is a failure");
        }
        if extensions.worse_than_peers.is_some() {
            text += "; and one that is worse than its peers";
        }
        if let Some(floor) = extensions.ejection {
            if floor.min_ready_endpoints > 0 {
                text += &format!("; at least {} stay in", floor.min_ready_endpoints);
            }
            if floor.max_ejected < Ratio::ONE {
                text += &format!("; at most {} % are out", percent(floor.max_ejected));
            }
            if let Some(pairs) = floor.panic_after {
                text += &format!("; one is taken anyway after {pairs} pairs that are out");
            }
        }
        if extensions.dry_run {
            text += "; only told, not done";
        }
        if let Some(memory) = extensions.memory {
            text += &format!("; {memory:?} in service make up for an ejection");
        }
        if extensions.respect_retry_after {
            text += "; not before its Retry-After";
        }
        text
    }
}

impl Words for Load {
    fn words(&self) -> String {
        let mut text = match self {
            Self::PeakEwma(ewma) => latency(ewma),
            Self::PenaltyPeakEwma(penalty) => format!(
                "{}; a failure weighs {:?}, a Retry-After {:?} at most",
                latency(&penalty.ewma()),
                penalty.penalty,
                penalty.max_retry_after
            ),
            other => format!("{other:?}"),
        };
        if *self.extensions() == LoadExtensions::MESH {
            text += "; nothing else raises it or gives a turn";
        }
        if self.extensions().prefer_zone.is_some() {
            text += "; requests stay in their caller's zone as far as it can carry them";
        }
        text
    }
}

fn latency(ewma: &PeakEwma) -> String {
    format!(
        "peak EWMA: latency over {:?}, {:?} at first",
        ewma.decay(),
        ewma.default_rtt()
    )
}

impl Words for Backend {
    fn words(&self) -> String {
        match &self.dispatcher {
            BackendDispatcher::Forward(address) => address.to_string(),
            BackendDispatcher::BalanceP2c(_, EndpointDiscovery::DestinationGet { path }) => {
                path.clone()
            }
            BackendDispatcher::Fail { message } => format!("{} (fails: {message})", self.meta),
        }
    }
}

/// Milliseconds, for data.
pub(super) fn millis(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e6
}
