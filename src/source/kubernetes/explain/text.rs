//! An explanation for a person.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::tree::{Asked, Fit, Placed, RetryNode, RuleNode, Tree};
use super::words::Words;
use super::{Explanation, Outcome};
use crate::core::spelled_out;
use crate::policy::Timeouts;

/// Writing to a string does not fail.
macro_rules! line {
    ($out:expr, $($arg:tt)*) => {
        { let _ = writeln!($out, $($arg)*); }
    };
}

impl Explanation {
    /// The policy, where the request goes, and every diagnostic with its line underlined.
    ///
    /// `source` gives the text of a file by the name that it was read under.
    pub fn to_text(&self, mut source: impl FnMut(&str) -> Option<String>) -> String {
        let mut out = String::new();
        let client = match &self.client {
            Some(client) => format!(", for clients in {client}"),
            None => String::new(),
        };
        line!(out, "{}{client}", self.target);
        match &self.outcome {
            Outcome::Policy(policy) => {
                let tree = Tree::of(policy);
                write_tree(&mut out, &tree);
                if let Some(asked) = &self.request {
                    request(&mut out, asked, Placed::of(policy, asked), &tree);
                }
            }
            Outcome::Lenient(policy, error) => {
                line!(out, "does not resolve: {error}");
                line!(out, "the mesh goes on without what is not valid:");
                let tree = Tree::of(policy);
                write_tree(&mut out, &tree);
                if let Some(asked) = &self.request {
                    request(&mut out, asked, Placed::of(policy, asked), &tree);
                }
            }
            Outcome::None(error) => {
                line!(out, "does not resolve: {error}");
            }
        }
        // Each file is asked for once, and cut into lines once: a bundle has megabytes, and may have a thousand diagnostics.
        let mut files: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for diagnostic in &self.diagnostics {
            let lines = diagnostic.file.as_deref().map(|file| {
                &*files.entry(file).or_insert_with(|| {
                    let text = source(file).unwrap_or_default();
                    text.lines().map(str::to_owned).collect()
                })
            });
            let number = diagnostic
                .line
                .and_then(|line| usize::try_from(line).ok()?.checked_sub(1));
            let text = lines
                .zip(number)
                .and_then(|(lines, number)| lines.get(number));
            line!(out, "\n{}", diagnostic.with_line(text.map(String::as_str)));
        }
        let (errors, warnings) = self.counts();
        let many = |count: usize| if count == 1 { "" } else { "s" };
        line!(
            out,
            "\n{errors} error{}, {warnings} warning{}",
            many(errors),
            many(warnings)
        );
        // A name that is none may hold anything, and is shown all the same; not so that it writes elsewhere on a terminal.
        spelled_out(&out, |c| c == '\n')
    }
}

fn write_tree(out: &mut String, tree: &Tree) {
    line!(out, "  {}, {}", tree.parent, tree.protocol);
    for (index, route) in tree.routes.iter().enumerate() {
        line!(out, "\n  route {}: {}", index + 1, route.name);
        if !route.hosts.is_empty() {
            line!(out, "    for hosts {}", route.hosts.join(", "));
        }
        for (number, rule) in route.rules.iter().enumerate() {
            line!(out, "    rule {}: {}", number + 1, matches(rule));
            write_rule(out, rule, "      ");
        }
    }
    line!(out, "");
    match &tree.accrual {
        Some(accrual) => line!(out, "  breaker   {}", accrual.words()),
        None => line!(out, "  breaker   none"),
    }
    if let Some(load) = &tree.load {
        line!(out, "  load      {}", load.words());
    }
}

fn matches(rule: &RuleNode) -> String {
    match rule.matches.as_slice() {
        [] => "every request".to_owned(),
        many => many.join("; or "),
    }
}

fn write_rule(out: &mut String, rule: &RuleNode, indent: &str) {
    for filter in &rule.filters {
        line!(out, "{indent}filter    {filter}");
    }
    line!(out, "{indent}timeouts  {}", timeouts(&rule.timeouts));
    match &rule.retry {
        Some(retry) => line!(out, "{indent}retries   {}", retries(retry)),
        None => line!(out, "{indent}retries   none"),
    }
    if !rule.classes.is_empty() {
        line!(out, "{indent}statuses  {}", rule.classes);
    }
    if rule.backends.is_empty() {
        line!(out, "{indent}backends  none: every request is refused");
    }
    let all: u64 = rule
        .backends
        .iter()
        .map(|backend| u64::from(backend.weight))
        .sum();
    for backend in &rule.backends {
        let mut text = backend.name.clone();
        if !rule.in_order && rule.backends.len() > 1 {
            let percent = f64::from(backend.weight) * 100.0 / all.max(1) as f64;
            text += &format!(", {percent:.0} % (weight {})", backend.weight);
        }
        for filter in &backend.filters {
            text += &format!(", {filter}");
        }
        line!(out, "{indent}backend   {text}");
    }
}

fn timeouts(timeouts: &Timeouts) -> String {
    let parts = [
        ("request", timeouts.request),
        ("response", timeouts.response),
        ("idle", timeouts.idle),
    ];
    let parts: Vec<_> = parts
        .into_iter()
        .filter_map(|(name, limit)| limit.map(|limit| format!("{name} {limit:?}")))
        .collect();
    if parts.is_empty() {
        return "none".to_owned();
    }
    parts.join(", ")
}

fn retries(retry: &RetryNode) -> String {
    let mut text = match retry.limit {
        u16::MAX => "as often as the budget pays for".to_owned(),
        limit => format!("at most {limit}"),
    };
    let codes = retry.codes.iter().map(|code| format!("gRPC {code}"));
    let what: Vec<_> = retry.statuses.iter().cloned().chain(codes).collect();
    match what.is_empty() {
        true => text += ", of what was not processed or timed out",
        false => text += &format!(", of {}", what.join(", ")),
    }
    if let Some(timeout) = retry.timeout {
        text += &format!("; a try has {timeout:?}");
    }
    match &retry.backoff {
        Some(backoff) => text += &format!("; after {}", backoff.words()),
        None => text += "; at once",
    }
    match &retry.budget {
        Some(budget) => text += &format!("; paid by {}", budget.words()),
        None => text += "; without a budget",
    }
    text
}

fn request(out: &mut String, asked: &Asked, placed: Option<Placed>, tree: &Tree) {
    line!(out, "\n  {} {}", asked.method, asked.uri);
    let Some(placed) = placed else {
        line!(out, "    is no request of {}", tree.protocol);
        return;
    };
    let name = |fit: &Fit| {
        let route = tree.routes.get(fit.route).map_or("", |route| &route.name);
        format!("rule {} of route {} ({route})", fit.rule + 1, fit.route + 1)
    };
    let Some(found) = &placed.found else {
        line!(out, "    meets no rule: it is refused with 404");
        return;
    };
    line!(
        out,
        "    meets {}: {}",
        name(found),
        found.by.join("; and ")
    );
    for other in &placed.others {
        line!(
            out,
            "    not   {}: {}, which is less specific or comes later",
            name(other),
            other.by.join("; and ")
        );
    }
    if let Some(rule) = tree
        .routes
        .get(found.route)
        .and_then(|route| route.rules.get(found.rule))
    {
        write_rule(out, rule, "    ");
    }
}
