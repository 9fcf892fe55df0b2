//! What a route has of its Service's, and what not.

use std::time::Duration;

use crate::policy::{Retry, Timeouts};
use crate::source::kubernetes::annotations::Settings;
use crate::source::kubernetes::diagnostic::{Diagnostic, Severity};
use crate::source::kubernetes::keys;
use crate::source::kubernetes::resolve::Parent;
use crate::source::kubernetes::route::{Kind, Route, Rule};

/// Everything about one route of a Service.
pub(super) fn all(route: &Route, parent: &Parent<'_>, diagnostics: &mut Vec<Diagnostic>) {
    lost(route, parent, diagnostics);
    for rule in &route.rules {
        never_met(route, parent, rule, diagnostics);
    }
}

/// What a route loses of its Service's, because it says part of it.
fn lost(route: &Route, parent: &Parent<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let timeouts = parent.settings.timeouts;
    let of = format!("Service {}/{}", parent.namespace, parent.name);
    let Some(first) = route
        .rules
        .iter()
        .find(|rule| rule.request.is_some() || route.settings.timeouts != Timeouts::default())
    else {
        return retries(route, &of, parent.settings, diagnostics);
    };
    let own = Timeouts {
        request: route.settings.timeouts.request.or(first.request),
        ..route.settings.timeouts
    };
    let lost = [
        (keys::TIMEOUT_REQUEST, timeouts.request, own.request),
        (keys::TIMEOUT_RESPONSE, timeouts.response, own.response),
        (keys::TIMEOUT_IDLE, timeouts.idle, own.idle),
    ];
    for (key, has, own) in lost {
        if let (Some(has), None) = (has, own) {
            let message = format!(
                "the route has a timeout of its own, so that {key} of {of} ({has:?}) is not its"
            );
            diagnostics.push(
                Diagnostic::new(Severity::Note, &route.origin, message)
                    .key(key)
                    .at(route.at)
                    .mesh("takes all timeouts from the one or the other")
                    .remedy(format!("repeat {key} on the route if it is wanted there")),
            );
        }
    }
    retries(route, &of, parent.settings, diagnostics);
}

// Retries that are repeated whole are nothing to talk about.
fn retries(route: &Route, of: &str, service: &Settings, diagnostics: &mut Vec<Diagnostic>) {
    let service = match route.kind {
        Kind::Grpc => &service.grpc_retry,
        _ => &service.retry,
    };
    let (Some(service), Some(own)) = (service, &route.settings.retry) else {
        return;
    };
    let mut lost = Vec::new();
    if own.status_ranges().is_empty() && !service.status_ranges().is_empty() {
        lost.push(keys::RETRY_HTTP);
    }
    if own.codes().is_empty() && !service.codes().is_empty() {
        lost.push(keys::RETRY_GRPC);
    }
    if own.timeout().is_none() && service.timeout().is_some() {
        lost.push(keys::RETRY_TIMEOUT);
    }
    if lost.is_empty() {
        return;
    }
    let lost = lost.join(" and ");
    let message = format!("the route has retries of its own, so that {lost} of {of} is not its");
    diagnostics.push(
        Diagnostic::new(Severity::Note, &route.origin, message)
            .key("metadata.annotations")
            .at(route.at)
            .mesh("takes all retry annotations from the one or the other")
            .remedy(format!("repeat {lost} on the route if it is wanted there")),
    );
}

/// A try of which the time is up after the whole request's. Where the same annotations say both it has been said.
fn never_met(route: &Route, parent: &Parent<'_>, rule: &Rule, diagnostics: &mut Vec<Diagnostic>) {
    let own = route.settings.timeouts;
    let (limit, of_limit) = match (own.request, rule.request) {
        (Some(limit), _) => (limit, "annotation"),
        (None, Some(limit)) => (limit, "rule"),
        (None, None) if own == Timeouts::default() => match parent.settings.timeouts.request {
            Some(limit) => (limit, "Service"),
            None => return,
        },
        _ => return,
    };
    let of_service = match route.kind {
        Kind::Grpc => &parent.settings.grpc_retry,
        _ => &parent.settings.retry,
    };
    let (retry, of_retry) = match &route.settings.retry {
        Some(retry) => (Some(retry), "annotation"),
        None => (of_service.as_ref(), "Service"),
    };
    let Some(per_try) = retry.and_then(Retry::timeout) else {
        return;
    };
    if of_limit == of_retry || per_try < limit || limit == Duration::ZERO {
        return;
    }
    let whose = |of| match of {
        "Service" => format!(" of Service {}/{}", parent.namespace, parent.name),
        _ => String::new(),
    };
    let name = match of_limit {
        "rule" => "timeouts.request",
        _ => keys::TIMEOUT_REQUEST,
    };
    let message = format!(
        "no try is given up for the next one: {} is {per_try:?}{}, and {name}{} ends the whole request after {limit:?}",
        keys::RETRY_TIMEOUT,
        whose(of_retry),
        whose(of_limit)
    );
    let remedy = format!("make {} the shorter of the two", keys::RETRY_TIMEOUT);
    diagnostics.push(route.warning(&rule.path, rule.at, message).remedy(remedy));
}
