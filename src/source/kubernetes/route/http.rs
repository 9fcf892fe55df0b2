use std::time::Duration;

use super::{Backend, Group, Kind, backend, filter, matches, note};
use crate::policy::{Difference, ExponentialBackoff, Filter, MatchRequest, MatchRpc, Ratio, Retry};
use crate::source::kubernetes::diagnostic::Severity;
use crate::source::kubernetes::field::Field;
use crate::source::kubernetes::place::Mark;
use crate::source::kubernetes::said::Said;
use crate::source::kubernetes::{duration, grammar};

/// A rule of a route of any kind. What a kind does not have is at its default.
#[derive(Clone, Debug, Default)]
pub(in crate::source::kubernetes) struct Rule {
    pub(in crate::source::kubernetes) matches: Vec<MatchRequest>,
    /// Of a GRPCRoute, in place of the matches.
    pub(in crate::source::kubernetes) rpcs: Vec<MatchRpc>,
    /// Whether all of its matches had to be left out.
    pub(in crate::source::kubernetes) never: bool,
    pub(in crate::source::kubernetes) filters: Vec<Filter>,
    pub(in crate::source::kubernetes) backends: Vec<Backend>,
    /// `timeouts.request`, as the mesh reads it.
    pub(in crate::source::kubernetes) request: Option<Duration>,
    /// `timeouts.backendRequest`, which the mesh does not read.
    pub(in crate::source::kubernetes) backend_request: Option<Duration>,
    /// `retry`, which the mesh does not read.
    pub(in crate::source::kubernetes) retry: Option<Retry>,
    pub(in crate::source::kubernetes) path: String,
    pub(in crate::source::kubernetes) at: Mark,
}

// === rules ===

/// The rules. Where there are none, the API server fills in one for every path.
pub(super) fn rules(spec: &Field<'_>, group: Group, said: &mut Said) -> Vec<Rule> {
    let Some(list) = said.get(spec, "rules") else {
        return vec![Rule {
            matches: vec![matches::every_path()],
            path: spec.child("rules"),
            at: spec.at(),
            ..Rule::default()
        }];
    };
    let list = said.keep(list.list()).unwrap_or_default();
    list.iter().map(|rule| one(rule, group, said)).collect()
}

fn one(rule: &Field<'_>, group: Group, said: &mut Said) -> Rule {
    let known: &[&str] = match group {
        Group::Gateway => &[
            "name",
            "matches",
            "filters",
            "backendRefs",
            "timeouts",
            "retry",
            "sessionPersistence",
        ],
        Group::Linkerd => &["matches", "filters", "backendRefs", "timeouts"],
    };
    said.known(rule, known);
    let filters = filter::of_rule(rule, Kind::Http, group, said);
    let (mut request, mut backend_request, mut retry) = (None, None, None);
    if let Some(timeouts) = said.get(rule, "timeouts") {
        said.known(&timeouts, &["request", "backendRequest"]);
        (request, backend_request) = self::timeouts(&timeouts, group, said);
    }
    if group == Group::Gateway
        && let Some(field) = said.get(rule, "retry")
    {
        retry = self::retry(&field, said);
    }
    if let Some(session) = said.get(rule, "sessionPersistence") {
        said.push(
            note(
                &session,
                Severity::Warning,
                "sessions are not kept on one endpoint",
            )
            .mesh("does not read it, nor does this crate")
            .remedy("take it away"),
        );
    }
    Rule {
        matches: matches::read(rule, group, said),
        filters,
        backends: backend::read(rule, Kind::Http, group, said),
        request,
        backend_request,
        retry,
        path: rule.path.clone(),
        at: rule.at(),
        ..Rule::default()
    }
}

type Limits = (Option<Duration>, Option<Duration>);

fn timeouts(timeouts: &Field<'_>, group: Group, said: &mut Said) -> Limits {
    let parse = match group {
        Group::Gateway => duration::gateway,
        Group::Linkerd => duration::go,
    };
    let mut read = |key: &str| {
        said.read(timeouts, key, |field| {
            let text = field.duration()?;
            let duration = parse(text).map_err(|mistake| field.mistake(mistake))?;
            Ok((field.clone(), text.to_owned(), duration))
        })
    };
    let request = read("request");
    let backend = read("backendRequest");
    let mut good = true;
    if let (Some((_, _, request)), Some((field, _, backend))) = (&request, &backend)
        && !request.is_zero()
        && backend > request
    {
        good = false;
        said.wrong(
            field
                .error("longer than the rule's timeouts.request")
                .mesh("never sees the route: the API server refuses it")
                .remedy("make it the shorter of the two"),
        );
    }
    let mut limit = None;
    if let Some((field, text, duration)) = request {
        // The mesh reads Gateway API's durations by the grammar of its own annotations, and says nothing when it cannot.
        let lost = match group {
            Group::Gateway => grammar::duration(&text).err(),
            Group::Linkerd => None,
        };
        limit = Some(duration).filter(|limit| lost.is_none() && !limit.is_zero());
        if let Some(mistake) = lost {
            said.push(
                note(&field, Severity::Warning, format!("{text} is no timeout at all: more than one unit"))
                    .mesh("reads one whole number and one unit only, and drops the rest silently")
                    .remedy(mistake.remedy.unwrap_or_else(|| {
                        "write one whole number and one unit, or the annotation timeout.linkerd.io/request".to_owned()
                    })),
            );
        }
    }
    if let Some((field, ..)) = backend.as_ref().filter(|_| good) {
        said.push(
            note(field, Severity::Note, "bounds each attempt")
                .mesh("does not read it")
                .beyond(Difference::BackendRequest)
                .remedy("write timeout.linkerd.io/response for what both do"),
        );
    }
    let backend = backend.map(|(.., duration)| duration);
    (limit, backend.filter(|limit| !limit.is_zero()))
}

/// `retry` of GEP-1731: statuses, how often, and the least wait.
fn retry(field: &Field<'_>, said: &mut Said) -> Option<Retry> {
    said.known(field, &["codes", "attempts", "backoff"]);
    let before = said.errors.len();
    let mut retry = Retry::never_on_status();
    for code in said.list(field, "codes") {
        let code = said.keep(code.integer(400, 599));
        if let Some(status) = code.and_then(|code| u16::try_from(code).ok()) {
            retry = retry.and_on(status..=status);
        }
    }
    let attempts = said.read(field, "attempts", |field| field.integer(1, i64::MAX));
    if let Some(attempts) = attempts {
        retry = retry.limit(u16::try_from(attempts).unwrap_or(u16::MAX));
    }
    let waits = said.read(field, "backoff", |backoff| {
        let min =
            duration::gateway(backoff.duration()?).map_err(|mistake| backoff.mistake(mistake))?;
        // From the least wait to ten times that, as the mesh's own are.
        let waits = ExponentialBackoff::try_new(min, min.saturating_mul(10), Ratio::ONE);
        match min.is_zero() {
            true => Ok(None),
            false => waits.map(Some).map_err(|invalid| backoff.invalid(&invalid)),
        }
    });
    retry = match waits {
        Some(Some(waits)) => retry.backoff(waits),
        Some(None) => retry.no_backoff(),
        None => retry,
    };
    if said.errors.len() > before {
        return None;
    }
    said.push(
        note(field, Severity::Note, "retries of Gateway API (GEP-1731)")
            .mesh("does not read them")
            .beyond(Difference::GatewayRetry)
            .remedy("write retry.linkerd.io/http and retry.linkerd.io/limit for what both do"),
    );
    said.keep(retry.build().map_err(|invalid| field.invalid(&invalid)))
}
