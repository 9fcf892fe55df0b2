//! `ServiceProfile`: Linkerd's older form of routes, which takes the place of all others where it has routes.

mod classes;
mod condition;

use std::time::Duration;

pub(super) use self::classes::retried;
use self::condition::DEPTH;
use super::diagnostic::{Diagnostic, Severity};
use super::duration;
use super::error::{Error, ErrorKind};
use super::field::Field;
use super::metadata::Metadata;
use super::place::{Mark, Origin};
use super::target::Target;
use super::yaml::Value;
use crate::policy::{Budget, Condition, EarnedBy, Ratio, ResponseClasses};

/// A `ServiceProfile`.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    pub(super) origin: Origin,
    pub(super) at: Mark,
    pub(super) namespace: String,
    /// The Service that it is named after.
    pub(super) target: Target,
    pub(super) routes: Vec<ProfileRoute>,
    /// None turns retries off.
    pub(super) budget: Option<Budget>,
    pub(super) overrides: Vec<Override>,
    /// Why the mesh keeps the profile it had before.
    pub(super) errors: Vec<Error>,
}

/// One of its routes.
#[derive(Clone, Debug)]
pub(super) struct ProfileRoute {
    pub(super) name: String,
    pub(super) condition: Condition,
    pub(super) retryable: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) classes: ResponseClasses,
}

/// One of its `dstOverrides`: part of the traffic goes there instead.
#[derive(Clone, Debug)]
pub(super) struct Override {
    pub(super) target: Target,
    pub(super) weight: u32,
    pub(super) path: String,
    pub(super) at: Mark,
}

/// What its own words say where they differ from the annotations'.
const DEFAULT_BUDGET: Budget = Budget::percent(20)
    .bank(Duration::from_secs(10))
    .earned_by(EarnedBy::Requests);

// === impl Profile ===

impl Profile {
    /// # Errors
    /// No name, or one that is not `name.namespace.svc.cluster.local`.
    pub(super) fn read(
        document: &Field<'_>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Result<Self, Error> {
        let metadata = Metadata::read(document, "ServiceProfile")?;
        let origin = metadata.origin;
        let document = document.within(&origin);
        let full = metadata.name.ends_with(".svc.cluster.local");
        let target = metadata.name.parse::<Target>().ok().filter(|_| full);
        let Some(target) = target else {
            let message = "expected the Service's full name, name.namespace.svc.cluster.local";
            return Err(Error::found(
                ErrorKind::Field,
                &origin,
                "metadata.name",
                metadata.at,
                message,
            )
            .mesh("never looks for it by any other name"));
        };
        let mut profile = Self {
            at: metadata.at,
            namespace: metadata.namespace,
            target,
            routes: Vec::new(),
            budget: Some(DEFAULT_BUDGET),
            overrides: Vec::new(),
            errors: Vec::new(),
            origin: origin.clone(),
        };
        let before = diagnostics.len();
        if let Some(spec) = document.get("spec")?
            && let Err(error) = profile.spec(&spec, diagnostics)
        {
            let error = error.or_mesh("refuses the profile, or keeps its last good version");
            diagnostics.push(error.diagnostic().clone());
            profile.errors.push(error);
        }
        if let Some(said) = diagnostics.get_mut(before..) {
            said.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        }
        Ok(profile)
    }

    /// Whether it takes the place of routes and annotations.
    pub(super) fn counts(&self) -> bool {
        !self.routes.is_empty() || !self.overrides.is_empty()
    }

    fn spec(&mut self, spec: &Field<'_>, diagnostics: &mut Vec<Diagnostic>) -> Result<(), Error> {
        spec.known(
            &["routes", "retryBudget", "dstOverrides", "opaquePorts"],
            diagnostics,
        );
        if let Some(budget) = spec.get("retryBudget")? {
            self.budget = self::budget(&budget, diagnostics)?;
        }
        if let Some(list) = spec.get("dstOverrides")? {
            for field in list.list()? {
                let over = Override::read(&field)?;
                if over.weight > 0 {
                    self.overrides.push(over);
                }
            }
        }
        if let Some(list) = spec.get("routes")? {
            for (number, field) in list.list()?.into_iter().enumerate() {
                self.routes.push(route(&field, number, diagnostics)?);
            }
        }
        if let Some(field) = spec.get("opaquePorts")? {
            diagnostics.push(
                Diagnostic::new(Severity::Warning, field.origin, "has no effect")
                    .key(&field.path)
                    .at(field.at())
                    .mesh("takes the annotation's word instead")
                    .remedy("write config.linkerd.io/opaque-ports on the Service"),
            );
        }
        Ok(())
    }
}

fn route(
    field: &Field<'_>,
    number: usize,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<ProfileRoute, Error> {
    field.known(
        &[
            "name",
            "condition",
            "responseClasses",
            "isRetryable",
            "timeout",
        ],
        diagnostics,
    );
    let name = field.require("name", "the route's name")?.string()?;
    let condition = field.require("condition", "pathRegex, method, all, any or not")?;
    let retryable = match field.get("isRetryable")? {
        None => false,
        Some(field) => boolean(&field)?,
    };
    let mut timeout = None;
    if let Some(field) = field.get("timeout")? {
        match duration::go(field.duration()?) {
            Ok(limit) => timeout = Some(limit).filter(|limit| !limit.is_zero()),
            Err(mistake) => {
                let error = field
                    .mistake(mistake)
                    .mesh("has no timeout for the route then");
                diagnostics.push(error.diagnostic().clone());
            }
        }
    }
    let classes = match field.get("responseClasses")? {
        Some(field) => classes::read(&field, diagnostics)?,
        None => ResponseClasses::default(),
    };
    Ok(ProfileRoute {
        name: if name.is_empty() {
            number.to_string()
        } else {
            name.to_owned()
        },
        condition: condition::read(&condition, DEPTH, diagnostics)?,
        retryable,
        timeout,
        classes,
    })
}

fn boolean(field: &Field<'_>) -> Result<bool, Error> {
    match &field.node.value {
        Value::Bool(text) => Ok(matches!(
            text.to_ascii_lowercase().as_str(),
            "true" | "yes" | "y" | "on"
        )),
        _ => Err(field.expected("true or false")),
    }
}

/// None where it turns retries off: its parts are beyond what the proxy allows.
fn budget(budget: &Field<'_>, diagnostics: &mut Vec<Diagnostic>) -> Result<Option<Budget>, Error> {
    budget.known(&["retryRatio", "minRetriesPerSecond", "ttl"], diagnostics);
    let ratio = budget.require("retryRatio", "a number, such as 0.2")?;
    let number = match &ratio.node.value {
        Value::Number(text, _) => text.parse::<f64>().ok(),
        _ => None,
    };
    let Some(number) = number.filter(|number| *number >= 0.0) else {
        return Err(ratio.expected("a number, such as 0.2"));
    };
    let floor = budget
        .require("minRetriesPerSecond", "a whole number")?
        .integer(0, i64::from(u32::MAX))?;
    let ttl = budget.require("ttl", "a duration from 1s to 1m")?;
    let keep = duration::go(ttl.duration()?).map_err(|mistake| ttl.mistake(mistake))?;
    let off = |field: &Field<'_>, range: &str| {
        let message = format!(
            "found {}, expected {range}: retries are off",
            field.node.describe()
        );
        Diagnostic::new(Severity::Error, field.origin, message)
            .key(&field.path)
            .at(field.at())
            .mesh("drops the budget, and without one a profile retries nothing")
    };
    let bad = if keep < Duration::from_secs(1) || keep > Duration::from_secs(60) {
        Some(off(&ttl, "a duration from 1s to 1m"))
    } else if number > 1000.0 {
        Some(off(&ratio, "a number from 0 to 1000"))
    } else if floor > i64::from(i32::MAX) {
        Some(off(budget, "at most 2147483647 retries a second"))
    } else {
        None
    };
    if let Some(diagnostic) = bad {
        diagnostics.push(diagnostic);
        return Ok(None);
    }
    let ratio = Ratio::try_from_f64("retryRatio", number, 1000)
        .map_err(|invalid| ratio.invalid(&invalid))?;
    Ok(Some(Budget {
        ratio,
        min_per_sec: u32::try_from(floor).unwrap_or(u32::MAX),
        bank: keep,
        earned_by: EarnedBy::Requests,
    }))
}

// === impl Override ===

impl Override {
    fn read(field: &Field<'_>) -> Result<Self, Error> {
        let authority = field.require("authority", "name.namespace.svc.cluster.local:port")?;
        let weight = field.require("weight", "a quantity, such as 1 or 500m")?;
        let text = match &weight.node.value {
            Value::String(text) | Value::Number(text, _) => text,
            _ => return Err(weight.expected("a quantity, such as 1 or 500m")),
        };
        // Thousandths, then tens of them, as the mesh does: 500m is 5000.
        let milli = match text.strip_suffix('m') {
            Some(milli) => milli.parse::<u64>().ok(),
            None => thousandths(text),
        };
        let weight = milli.and_then(|milli| u32::try_from(milli.checked_mul(10)?).ok());
        Ok(Self {
            target: authority
                .string()?
                .parse()
                .map_err(|error: Error| authority.error(error.diagnostic().message.clone()))?,
            weight: weight
                .ok_or_else(|| field.error("the weight is no quantity such as 1 or 500m"))?,
            path: field.path.clone(),
            at: field.at(),
        })
    }
}

/// A decimal number with at most three places, in thousandths.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 3 || !part.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part: u64 = format!("{part:0<3}").parse().ok()?;
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(1000)?
        .checked_add(part)
}
