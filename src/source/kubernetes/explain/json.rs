//! An explanation as data. Keys are not renamed or taken away; new ones may come.

use std::time::Duration;

use super::tree::{Fit, Placed, RetryNode, RouteNode, RuleNode, Tree};
use super::words::{Words, millis, percent};
use super::{Explanation, Outcome};
use crate::core::json::Out;
use crate::policy::{ClientPolicy, Fidelity};
use crate::source::kubernetes::diagnostic::Diagnostic;

impl Explanation {
    /// One JSON object in one line. Times are milliseconds where a key ends in `_ms`; what is not there is null.
    pub fn to_json(&self) -> String {
        let mut out = Out(String::new());
        out.open('{');
        out.key("target");
        out.text(&self.target);
        out.key("client");
        maybe(&mut out, self.client.as_deref());
        let policy = match &self.outcome {
            Outcome::Policy(policy) => {
                out.key("resolves");
                out.0.push_str("true");
                Some(policy)
            }
            Outcome::Lenient(policy, error) => {
                out.key("resolves");
                out.0.push_str("false");
                out.key("error");
                self::diagnostic(&mut out, error.diagnostic());
                Some(policy)
            }
            Outcome::None(error) => {
                out.key("resolves");
                out.0.push_str("false");
                out.key("error");
                self::diagnostic(&mut out, error.diagnostic());
                None
            }
        };
        out.key("policy");
        match policy {
            Some(policy) => self::policy(&mut out, policy),
            None => out.0.push_str("null"),
        }
        out.key("request");
        match (policy, &self.request) {
            (Some(policy), Some(asked)) => {
                out.open('{');
                out.key("method");
                out.text(asked.method.as_str());
                out.key("uri");
                out.text(&asked.uri.to_string());
                let placed = Placed::of(policy, asked);
                out.key("meets");
                match placed.as_ref().and_then(|placed| placed.found.as_ref()) {
                    Some(found) => fit(&mut out, found),
                    None => out.0.push_str("null"),
                }
                out.key("also_fits");
                out.open('[');
                for other in placed.iter().flat_map(|placed| &placed.others) {
                    out.item();
                    fit(&mut out, other);
                }
                out.close(']');
                out.close('}');
            }
            _ => out.0.push_str("null"),
        }
        out.key("diagnostics");
        out.open('[');
        for diagnostic in &self.diagnostics {
            out.item();
            self::diagnostic(&mut out, diagnostic);
        }
        out.close(']');
        let (errors, warnings) = self.counts();
        out.number("errors", errors as f64);
        out.number("warnings", warnings as f64);
        out.close('}');
        out.0
    }
}

fn maybe(out: &mut Out, text: Option<&str>) {
    match text {
        Some(text) => out.text(text),
        None => out.0.push_str("null"),
    }
}

fn texts(out: &mut Out, key: &str, texts: impl IntoIterator<Item = impl AsRef<str>>) {
    out.key(key);
    out.open('[');
    for text in texts {
        out.item();
        out.text(text.as_ref());
    }
    out.close(']');
}

fn duration(out: &mut Out, key: &str, duration: Option<Duration>) {
    out.key(key);
    match duration {
        Some(duration) => out.value(millis(duration)),
        None => out.0.push_str("null"),
    }
}

fn policy(out: &mut Out, policy: &ClientPolicy) {
    let tree = Tree::of(policy);
    out.open('{');
    out.key("parent");
    out.text(&tree.parent);
    out.key("protocol");
    out.text(tree.protocol);
    out.key("fidelity");
    out.text(match policy.fidelity {
        Fidelity::Mesh => "mesh",
        Fidelity::Extended => "extended",
    });
    out.key("routes");
    out.open('[');
    for one in &tree.routes {
        out.item();
        route(out, one);
    }
    out.close(']');
    out.key("breaker");
    match &tree.accrual {
        Some(accrual) => {
            out.open('{');
            let failures = accrual.max_consecutive_failures();
            out.number("max_consecutive_failures", f64::from(failures));
            let backoff = accrual.probe_backoff();
            duration(out, "probe_min_ms", Some(backoff.min()));
            duration(out, "probe_max_ms", Some(backoff.max()));
            out.key("words");
            out.text(&accrual.words());
            out.close('}');
        }
        None => out.0.push_str("null"),
    }
    out.key("load");
    maybe(out, tree.load.map(|load| load.words()).as_deref());
    out.close('}');
}

fn route(out: &mut Out, route: &RouteNode) {
    out.open('{');
    out.key("name");
    out.text(&route.name);
    texts(out, "hosts", &route.hosts);
    out.key("rules");
    out.open('[');
    for one in &route.rules {
        out.item();
        rule(out, one);
    }
    out.close(']');
    out.close('}');
}

fn rule(out: &mut Out, rule: &RuleNode) {
    out.open('{');
    texts(out, "matches", &rule.matches);
    texts(out, "filters", &rule.filters);
    out.key("timeouts");
    out.open('{');
    duration(out, "request_ms", rule.timeouts.request);
    duration(out, "response_ms", rule.timeouts.response);
    duration(out, "idle_ms", rule.timeouts.idle);
    out.close('}');
    out.key("retry");
    match &rule.retry {
        Some(one) => retry(out, one),
        None => out.0.push_str("null"),
    }
    texts(out, "failures", rule.classes.failures.words());
    texts(out, "successes", rule.classes.successes.words());
    out.key("choice");
    out.text(if rule.in_order { "first" } else { "weighted" });
    out.key("backends");
    out.open('[');
    for backend in &rule.backends {
        out.item();
        out.open('{');
        out.key("name");
        out.text(&backend.name);
        out.number("weight", f64::from(backend.weight));
        texts(out, "filters", &backend.filters);
        out.key("fails");
        maybe(out, backend.fails.as_deref());
        out.close('}');
    }
    out.close(']');
    out.close('}');
}

fn retry(out: &mut Out, retry: &RetryNode) {
    out.open('{');
    out.number("limit", f64::from(retry.limit));
    texts(out, "statuses", &retry.statuses);
    out.key("grpc_codes");
    out.open('[');
    for code in &retry.codes {
        out.item();
        out.value(f64::from(*code));
    }
    out.close(']');
    duration(out, "timeout_ms", retry.timeout);
    duration(
        out,
        "backoff_min_ms",
        retry.backoff.map(|backoff| backoff.min()),
    );
    duration(
        out,
        "backoff_max_ms",
        retry.backoff.map(|backoff| backoff.max()),
    );
    out.key("budget");
    match &retry.budget {
        Some(budget) => {
            out.open('{');
            out.number("percent", percent(budget.ratio));
            out.number("min_per_second", f64::from(budget.min_per_sec));
            out.close('}');
        }
        None => out.0.push_str("null"),
    }
    out.close('}');
}

/// Routes and rules are counted from 0 here, as lists are.
fn fit(out: &mut Out, fit: &Fit) {
    out.open('{');
    out.number("route", fit.route as f64);
    out.number("rule", fit.rule as f64);
    texts(out, "by", &fit.by);
    out.close('}');
}

fn diagnostic(out: &mut Out, diagnostic: &Diagnostic) {
    out.open('{');
    out.key("severity");
    out.text(&diagnostic.severity.to_string());
    for (key, text) in [
        ("file", &diagnostic.file),
        ("resource", &diagnostic.resource),
        ("key", &diagnostic.key),
    ] {
        out.key(key);
        maybe(out, text.as_deref());
    }
    for (key, number) in [("line", diagnostic.line), ("column", diagnostic.column)] {
        out.key(key);
        match number {
            Some(number) => out.value(f64::from(number)),
            None => out.0.push_str("null"),
        }
    }
    out.key("message");
    out.text(&diagnostic.message);
    out.key("mesh");
    maybe(out, diagnostic.mesh.as_deref());
    out.key("difference");
    maybe(
        out,
        diagnostic.difference.map(|difference| difference.name()),
    );
    out.key("remedy");
    maybe(out, diagnostic.remedy.as_deref());
    out.close('}');
}
