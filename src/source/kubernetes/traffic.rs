//! `XBackendTrafficPolicy` (GEP-3388): a retry budget for a Service. The mesh does not read it.

use std::time::Duration;

use super::diagnostic::{Diagnostic, Severity};
use super::duration;
use super::error::Error;
use super::field::Field;
use super::metadata::Metadata;
use super::place::{Mark, Origin};
use super::said::Said;
use crate::policy::{Budget, Difference};

/// What its `retryConstraint` comes to, for the Services that it names.
#[derive(Clone, Debug)]
pub(super) struct TrafficPolicy {
    pub(super) origin: Origin,
    pub(super) at: Mark,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) created: Option<String>,
    /// By name.
    pub(super) services: Vec<(String, Mark)>,
    pub(super) budget: Option<Budget>,
}

// === impl TrafficPolicy ===

impl TrafficPolicy {
    /// # Errors
    /// No mapping as metadata. Everything else that is wrong is said.
    pub(super) fn read(document: &Field<'_>, said: &mut Said) -> Result<Self, Error> {
        let metadata = Metadata::read(document, "XBackendTrafficPolicy", said)?;
        let origin = metadata.origin;
        let document = document.within(&origin);
        let mut services = Vec::new();
        let mut budget = None;
        if let Some(spec) = said.keep(document.require("spec", "targetRefs and retryConstraint")) {
            said.known(
                &spec,
                &["targetRefs", "retryConstraint", "sessionPersistence"],
            );
            let targets = ("targetRefs", "the Services it is for");
            for target in said.need(&spec, targets, Field::list).unwrap_or_default() {
                let kind = said.read(&target, "kind", Field::string);
                let group = said.read(&target, "group", Field::string);
                if kind == Some("Service") && matches!(group, None | Some("" | "core")) {
                    let name = said.need(&target, ("name", "a Service's name"), |name| {
                        Ok((name.name()?.to_owned(), name.at()))
                    });
                    services.extend(name);
                }
            }
            let constraint = said.get(&spec, "retryConstraint");
            budget = constraint.map(|constraint| self::budget(&constraint, said));
        }
        Ok(Self {
            at: metadata.at,
            namespace: metadata.namespace,
            name: metadata.name,
            created: metadata.created,
            services,
            budget,
            origin,
        })
    }

    /// The older counts, then the first by name.
    pub(super) fn before(&self, other: &Self) -> bool {
        let key = |policy: &Self| {
            (
                policy.created.is_none(),
                policy.created.clone(),
                policy.name.clone(),
            )
        };
        key(self) < key(other)
    }
}

fn budget(constraint: &Field<'_>, said: &mut Said) -> Budget {
    let hour = Duration::from_secs(3600);
    let before = said.errors.len();
    said.known(constraint, &["budget", "minRetryRate"]);
    let mut percent = None;
    if let Some(budget) = said.get(constraint, "budget") {
        said.known(&budget, &["percent", "interval"]);
        percent = said.read(&budget, "percent", |field| field.integer(0, 100));
        said.read(&budget, "interval", |field| {
            let interval = interval(field)?;
            if interval < Duration::from_secs(1) || interval > hour {
                return Err(field.expected("a duration from 1s to 1h"));
            }
            Ok(())
        });
    }
    let mut min_per_sec = 10;
    if let Some(rate) = said.get(constraint, "minRetryRate") {
        said.known(&rate, &["count", "interval"]);
        let count = said.read(&rate, "count", |field| field.integer(1, 1_000_000));
        let count = count.map_or(10, i64::unsigned_abs);
        // The API has a default for the whole of `minRetryRate` and none for its parts.
        let mut every = Duration::from_secs(1);
        match said.get(&rate, "interval") {
            Some(field) => match said.keep(interval(&field)) {
                Some(found) if found.is_zero() || found > hour => {
                    said.wrong(field.expected("a duration above zero and at most 1h"));
                }
                found => every = found.unwrap_or(every),
            },
            None => said.push(
                Diagnostic::new(
                    Severity::Warning,
                    rate.origin,
                    "no interval, which has no default; taken for 1s",
                )
                .key(rate.child("interval"))
                .at(rate.at())
                .remedy("write interval: 1s"),
            ),
        }
        let millis = u64::try_from(every.as_millis()).unwrap_or(u64::MAX).max(1);
        let rounded = (count * 1000 + millis / 2) / millis;
        min_per_sec = u32::try_from(rounded).unwrap_or(u32::MAX);
        if !(count * 1000).is_multiple_of(millis) {
            let message =
                format!("{count} in {every:?} is taken for {min_per_sec} a second, a whole number");
            said.push(
                Diagnostic::new(Severity::Note, rate.origin, message)
                    .key(&rate.path)
                    .at(rate.at()),
            );
        }
    }
    let good = said.errors.len() == before;
    said.diagnostics.extend(good.then(|| {
        Diagnostic::new(
            Severity::Note,
            constraint.origin,
            "pays for the retries to its Services",
        )
        .key(&constraint.path)
        .at(constraint.at())
        .mesh("does not read it; its retries have no budget")
        .beyond(Difference::TrafficPolicy)
    }));
    let percent = percent.and_then(|percent| u8::try_from(percent).ok());
    Budget::percent(percent.unwrap_or(20)).min_per_sec(min_per_sec)
}

fn interval(field: &Field<'_>) -> Result<Duration, Error> {
    duration::gateway(field.duration()?).map_err(|mistake| field.mistake(mistake))
}
