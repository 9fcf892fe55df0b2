use std::time::Duration;

use super::filter::Read;
use super::{Backend, Group, Kind, backend, filter, keep, matches, note};
use crate::policy::{Difference, ExponentialBackoff, Filter, MatchRequest, MatchRpc, Ratio, Retry};
use crate::source::kubernetes::diagnostic::{Diagnostic, Severity};
use crate::source::kubernetes::error::Error;
use crate::source::kubernetes::field::Field;
use crate::source::kubernetes::place::Mark;
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
pub(super) fn rules(
    spec: &Field<'_>,
    group: Group,
    errors: &mut Vec<Error>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Rule> {
    let list = spec.get("rules").and_then(|rules| match rules {
        Some(rules) => rules.list().map(Some),
        None => Ok(None),
    });
    let Some(list) = keep(list, errors) else {
        return vec![Rule {
            matches: vec![matches::every_path()],
            path: spec.child("rules"),
            at: spec.at(),
            ..Rule::default()
        }];
    };
    let read = |rule: Field<'_>| keep(one(&rule, group, diagnostics), errors);
    list.into_iter().map(read).collect()
}

fn one(rule: &Field<'_>, group: Group, diagnostics: &mut Vec<Diagnostic>) -> Result<Rule, Error> {
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
    rule.known(known, diagnostics);
    let mut filters = Vec::new();
    for filter in filter::read(rule, Kind::Http, group, diagnostics)? {
        match filter {
            Read::Filter(filter) => filters.push(filter),
            Read::LeftOut(error) => diagnostics.push(error.diagnostic().clone()),
            Read::Unsupported(error, _) => return Err(error),
        }
    }
    let (mut request, mut backend_request, mut retry) = (None, None, None);
    if let Some(timeouts) = rule.get("timeouts")? {
        timeouts.known(&["request", "backendRequest"], diagnostics);
        (request, backend_request) = self::timeouts(&timeouts, group, diagnostics)?;
    }
    if let (Group::Gateway, Some(field)) = (group, rule.get("retry")?) {
        retry = Some(self::retry(&field, diagnostics)?);
    }
    if let Some(session) = rule.get("sessionPersistence")? {
        diagnostics.push(
            note(
                &session,
                Severity::Warning,
                "sessions are not kept on one endpoint",
            )
            .mesh("does not read it, nor does this crate")
            .remedy("take it away"),
        );
    }
    Ok(Rule {
        matches: matches::read(rule, diagnostics)?,
        filters,
        backends: backend::read(rule, Kind::Http, group, diagnostics)?,
        request,
        backend_request,
        retry,
        path: rule.path.clone(),
        at: rule.at(),
        ..Rule::default()
    })
}

type Limits = (Option<Duration>, Option<Duration>);

fn timeouts(
    timeouts: &Field<'_>,
    group: Group,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<Limits, Error> {
    let parse = match group {
        Group::Gateway => duration::gateway,
        Group::Linkerd => duration::go,
    };
    let read = |key: &str| -> Result<Option<(Field<'_>, Duration)>, Error> {
        let Some(field) = timeouts.get(key)? else {
            return Ok(None);
        };
        let duration = parse(field.duration()?).map_err(|mistake| field.mistake(mistake))?;
        Ok(Some((field, duration)))
    };
    let request = read("request")?;
    let backend = read("backendRequest")?;
    if let (Some((_, request)), Some((field, backend))) = (&request, &backend)
        && !request.is_zero()
        && backend > request
    {
        return Err(field
            .error("longer than the rule's timeouts.request")
            .mesh("never sees the route: the API server refuses it")
            .remedy("make it the shorter of the two"));
    }
    let mut limit = None;
    if let Some((field, duration)) = request {
        let text = field.string()?;
        // The mesh reads Gateway API's durations by the grammar of its own annotations, and says nothing when it cannot.
        let lost = group == Group::Gateway && grammar::duration(text).is_err();
        if lost {
            let better = grammar::duration(text)
                .err()
                .and_then(|mistake| mistake.remedy);
            diagnostics.push(
                note(&field, Severity::Warning, format!("{text} is no timeout at all: more than one unit"))
                    .mesh("reads one whole number and one unit only, and drops the rest silently")
                    .remedy(better.unwrap_or_else(|| {
                        "write one whole number and one unit, or the annotation timeout.linkerd.io/request".to_owned()
                    })),
            );
        }
        limit = Some(duration).filter(|limit| !lost && !limit.is_zero());
    }
    if let Some((field, _)) = &backend {
        diagnostics.push(
            note(field, Severity::Note, "bounds each attempt")
                .mesh("does not read it")
                .beyond(Difference::BackendRequest)
                .remedy("write timeout.linkerd.io/response for what both do"),
        );
    }
    let backend = backend.map(|(_, duration)| duration);
    Ok((limit, backend.filter(|limit| !limit.is_zero())))
}

/// `retry` of GEP-1731: statuses, how often, and the least wait.
fn retry(field: &Field<'_>, diagnostics: &mut Vec<Diagnostic>) -> Result<Retry, Error> {
    field.known(&["codes", "attempts", "backoff"], diagnostics);
    let mut retry = Retry::never_on_status();
    if let Some(codes) = field.get("codes")? {
        for code in codes.list()? {
            let status = u16::try_from(code.integer(400, 599)?).unwrap_or(599);
            retry = retry.and_on(status..=status);
        }
    }
    if let Some(attempts) = field.get("attempts")? {
        let attempts = attempts.integer(1, i64::MAX)?;
        retry = retry.limit(u16::try_from(attempts).unwrap_or(u16::MAX));
    }
    if let Some(backoff) = field.get("backoff")? {
        let min =
            duration::gateway(backoff.duration()?).map_err(|mistake| backoff.mistake(mistake))?;
        retry = if min.is_zero() {
            retry.no_backoff()
        } else {
            // From the least wait to ten times that, as the mesh's own are.
            let waits = ExponentialBackoff::try_new(min, min.saturating_mul(10), Ratio::ONE);
            retry.backoff(waits.map_err(|invalid| backoff.invalid(&invalid))?)
        };
    }
    diagnostics.push(
        note(field, Severity::Note, "retries of Gateway API (GEP-1731)")
            .mesh("does not read them")
            .beyond(Difference::GatewayRetry)
            .remedy("write retry.linkerd.io/http and retry.linkerd.io/limit for what both do"),
    );
    retry.build().map_err(|invalid| field.invalid(&invalid))
}
