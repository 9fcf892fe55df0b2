//! `XBackendTrafficPolicy` (GEP-3388): a retry budget for a Service. The mesh does not read it.

use std::time::Duration;

use super::diagnostic::{Diagnostic, Severity};
use super::duration;
use super::error::Error;
use super::field::Field;
use super::metadata::Metadata;
use super::place::{Mark, Origin};
use crate::policy::{Budget, Difference};

/// What its `retryConstraint` comes to, for the Services that it names.
#[derive(Clone, Debug)]
pub(super) struct TrafficPolicy {
    pub(super) origin: Origin,
    pub(super) at: Mark,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) created: Option<String>,
    pub(super) services: Vec<String>,
    pub(super) budget: Option<Budget>,
}

// === impl TrafficPolicy ===

impl TrafficPolicy {
    /// # Errors
    /// What the API server refuses.
    pub(super) fn read(
        document: &Field<'_>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Result<Self, Error> {
        let metadata = Metadata::read(document, "XBackendTrafficPolicy")?;
        let origin = metadata.origin;
        let document = document.within(&origin);
        let spec = document.require("spec", "targetRefs and retryConstraint")?;
        spec.known(
            &["targetRefs", "retryConstraint", "sessionPersistence"],
            diagnostics,
        );
        let mut services = Vec::new();
        let targets = spec.require("targetRefs", "the Services it is for")?;
        for target in targets.list()? {
            let text = |key: &str| -> Result<&str, Error> {
                Ok(match target.get(key)? {
                    Some(field) => field.string()?,
                    None => "",
                })
            };
            if text("kind")? == "Service" && matches!(text("group")?, "" | "core") {
                services.push(
                    target
                        .require("name", "a Service's name")?
                        .name()?
                        .to_owned(),
                );
            }
        }
        let budget = match spec.get("retryConstraint")? {
            Some(constraint) => Some(self::budget(&constraint, diagnostics)?),
            None => None,
        };
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

fn budget(constraint: &Field<'_>, diagnostics: &mut Vec<Diagnostic>) -> Result<Budget, Error> {
    constraint.known(&["budget", "minRetryRate"], diagnostics);
    let mut percent = 20;
    if let Some(budget) = constraint.get("budget")? {
        budget.known(&["percent", "interval"], diagnostics);
        if let Some(field) = budget.get("percent")? {
            percent = u8::try_from(field.integer(0, 100)?).unwrap_or(100);
        }
        if let Some(field) = budget.get("interval")? {
            let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
            let interval = interval(&field)?;
            if interval < second || interval > hour {
                return Err(field.expected("a duration from 1s to 1h"));
            }
        }
    }
    let mut min_per_sec = 10;
    if let Some(rate) = constraint.get("minRetryRate")? {
        rate.known(&["count", "interval"], diagnostics);
        let count = match rate.get("count")? {
            Some(count) => u64::try_from(count.integer(1, 1_000_000)?).unwrap_or(1),
            None => 10,
        };
        // The API has a default for the whole of `minRetryRate` and none for its parts.
        let mut every = Duration::from_secs(1);
        match rate.get("interval")? {
            Some(field) => {
                every = interval(&field)?;
                if every.is_zero() || every > Duration::from_secs(3600) {
                    return Err(field.expected("a duration above zero and at most 1h"));
                }
            }
            None => diagnostics.push(
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
        if count * 1000 % millis != 0 {
            let message =
                format!("{count} in {every:?} is taken for {min_per_sec} a second, a whole number");
            diagnostics.push(
                Diagnostic::new(Severity::Note, rate.origin, message)
                    .key(&rate.path)
                    .at(rate.at()),
            );
        }
    }
    diagnostics.push(
        Diagnostic::new(
            Severity::Note,
            constraint.origin,
            "pays for the retries to its Services",
        )
        .key(&constraint.path)
        .at(constraint.at())
        .mesh("does not read it; its retries have no budget")
        .beyond(Difference::TrafficPolicy),
    );
    Ok(Budget::percent(percent).min_per_sec(min_per_sec))
}

fn interval(field: &Field<'_>) -> Result<Duration, Error> {
    duration::gateway(field.duration()?).map_err(|mistake| field.mistake(mistake))
}
