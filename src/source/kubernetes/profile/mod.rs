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
use super::said::Said;
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
    /// With a name that is not `name.namespace.svc.cluster.local` it is nobody's: its target's name is empty.
    ///
    /// # Errors
    /// No mapping as metadata. Everything else that is wrong is said.
    pub(super) fn read(document: &Field<'_>, said: &mut Said) -> Result<Self, Error> {
        let metadata = Metadata::read(document, "ServiceProfile", said)?;
        let origin = metadata.origin;
        let document = document.within(&origin);
        let full = metadata.name.ends_with(".svc.cluster.local");
        let target = metadata.name.parse::<Target>().ok().filter(|_| full);
        if target.is_none() && !metadata.name.is_empty() {
            let message = "expected the Service's full name, name.namespace.svc.cluster.local";
            said.wrong(
                Error::found(
                    ErrorKind::Field,
                    &origin,
                    "metadata.name",
                    metadata.at,
                    message,
                )
                .mesh("never looks for it by any other name"),
            );
        }
        let mut profile = Self {
            at: metadata.at,
            namespace: metadata.namespace,
            target: target.unwrap_or_else(|| Target::new("", "", None)),
            routes: Vec::new(),
            budget: Some(DEFAULT_BUDGET),
            overrides: Vec::new(),
            errors: Vec::new(),
            origin: origin.clone(),
        };
        let mut mine = Said::default();
        if let Some(spec) = mine.get(&document, "spec") {
            profile.spec(&spec, &mut mine);
        }
        let refused = mine.errors.into_iter();
        let refused = refused
            .map(|error| error.or_mesh("refuses the profile, or keeps its last good version"));
        mine.errors = refused.collect();
        profile.errors = said.add(mine);
        Ok(profile)
    }

    /// Whether it takes the place of routes and annotations.
    pub(super) fn counts(&self) -> bool {
        !self.routes.is_empty() || !self.overrides.is_empty()
    }

    fn spec(&mut self, spec: &Field<'_>, said: &mut Said) {
        said.known(
            spec,
            &["routes", "retryBudget", "dstOverrides", "opaquePorts"],
        );
        if let Some(budget) = said.get(spec, "retryBudget") {
            self.budget = self::budget(&budget, said);
        }
        for field in said.list(spec, "dstOverrides") {
            let over = Override::read(&field, said);
            self.overrides.extend(over.filter(|over| over.weight > 0));
        }
        for (number, field) in said.list(spec, "routes").iter().enumerate() {
            self.routes.extend(route(field, number, said));
        }
        if let Some(field) = said.get(spec, "opaquePorts") {
            said.push(
                Diagnostic::new(Severity::Warning, field.origin, "has no effect")
                    .key(&field.path)
                    .at(field.at())
                    .mesh("takes the annotation's word instead")
                    .remedy("write config.linkerd.io/opaque-ports on the Service"),
            );
        }
    }
}

fn route(field: &Field<'_>, number: usize, said: &mut Said) -> Option<ProfileRoute> {
    said.known(
        field,
        &[
            "name",
            "condition",
            "responseClasses",
            "isRetryable",
            "timeout",
        ],
    );
    let name = said.need(field, ("name", "the route's name"), Field::string);
    let condition = ("condition", "pathRegex, method, all, any or not");
    let condition = said
        .keep(field.require(condition.0, condition.1))
        .and_then(|condition| {
            let read = condition::read(&condition, DEPTH, said);
            said.keep(read)
        });
    let retryable = said.read(field, "isRetryable", boolean);
    let mut timeout = None;
    if let Some(field) = said.get(field, "timeout")
        && let Some(text) = said.keep(field.duration())
    {
        match duration::go(text) {
            Ok(limit) => timeout = Some(limit).filter(|limit| !limit.is_zero()),
            Err(mistake) => {
                let error = field
                    .mistake(mistake)
                    .mesh("has no timeout for the route then");
                said.push(error.diagnostic().clone());
            }
        }
    }
    let classes = said.get(field, "responseClasses").map(|field| {
        let read = classes::read(&field, said);
        said.keep(read).unwrap_or_default()
    });
    let name = name?;
    Some(ProfileRoute {
        name: match name {
            "" => number.to_string(),
            name => name.to_owned(),
        },
        condition: condition?,
        retryable: retryable.unwrap_or(false),
        timeout,
        classes: classes.unwrap_or_default(),
    })
}

fn boolean(field: &Field<'_>) -> Result<bool, Error> {
    match &field.node.value {
        Value::Bool(text) => Ok(matches!(
            text.to_ascii_lowercase().as_str(),
            "true" | "yes" | "y" | "on"
        )),
        Value::String(text) if text == "true" || text == "false" => Err(field
            .expected("true or false")
            .remedy(format!("write it without quotes: {text}"))),
        _ => Err(field.expected("true or false")),
    }
}

/// None where it turns retries off: its parts are beyond what the proxy allows.
fn budget(budget: &Field<'_>, said: &mut Said) -> Option<Budget> {
    said.known(budget, &["retryRatio", "minRetriesPerSecond", "ttl"]);
    let ratio = said.keep(budget.require("retryRatio", "a number, such as 0.2"));
    let number = ratio.as_ref().and_then(|ratio| {
        let number = match &ratio.node.value {
            Value::Number(text, _) => text.parse::<f64>().ok(),
            _ => None,
        };
        let number = number.filter(|number| *number >= 0.0);
        said.keep(number.ok_or_else(|| ratio.expected("a number, such as 0.2")))
    });
    let floor = ("minRetriesPerSecond", "a whole number");
    let floor = said.need(budget, floor, |floor| floor.integer(0, i64::from(u32::MAX)));
    let ttl = said.keep(budget.require("ttl", "a duration from 1s to 1m"));
    let keep = ttl.as_ref().and_then(|ttl| {
        let text = said.keep(ttl.duration())?;
        said.keep(duration::go(text).map_err(|mistake| ttl.mistake(mistake)))
    });
    let (ratio, number, floor, ttl, keep) = (ratio?, number?, floor?, ttl?, keep?);
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
        said.push(diagnostic);
        return None;
    }
    let read = Ratio::try_from_f64("retryRatio", number, 1000);
    Some(Budget {
        ratio: said.keep(read.map_err(|invalid| ratio.invalid(&invalid)))?,
        min_per_sec: u32::try_from(floor).unwrap_or(u32::MAX),
        bank: keep,
        earned_by: EarnedBy::Requests,
    })
}

// === impl Override ===

impl Override {
    fn read(field: &Field<'_>, said: &mut Said) -> Option<Self> {
        let authority = ("authority", "name.namespace.svc.cluster.local:port");
        let target = said.need(field, authority, |authority| {
            let parsed = authority.string()?.parse();
            parsed.map_err(|error: Error| authority.error(error.diagnostic().message.clone()))
        });
        let quantity = "a quantity, such as 1 or 500m";
        let weight = said.need(field, ("weight", quantity), |weight| {
            let (Value::String(text) | Value::Number(text, _)) = &weight.node.value else {
                return Err(weight.expected(quantity));
            };
            // Thousandths, then tens of them, as the mesh does: 500m is 5000.
            let milli = match text.strip_suffix('m') {
                Some(milli) => milli.parse::<u64>().ok(),
                None => thousandths(text),
            };
            let tens = milli.and_then(|milli| u32::try_from(milli.checked_mul(10)?).ok());
            tens.ok_or_else(|| weight.expected(quantity))
        });
        Some(Self {
            target: target?,
            weight: weight?,
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
