use std::ops::RangeInclusive;

use super::condition::DEPTH;
use crate::policy::{ResponseClasses, StatusRanges};
use crate::source::kubernetes::diagnostic::{Diagnostic, Severity};
use crate::source::kubernetes::error::Error;
use crate::source::kubernetes::field::Field;
use crate::source::kubernetes::said::Said;

/// What a class asks of a response.
enum Status {
    /// This or any other between; the ends belong to it.
    Between(u16, u16),
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
}

/// Reads a route's response classes. Only its status decides of a response, so the classes come to two sets.
///
/// # Errors
/// What the mesh refuses.
pub(super) fn read(classes: &Field<'_>, said: &mut Said) -> Result<ResponseClasses, Error> {
    let mut known = Vec::new();
    for class in classes.list()? {
        said.known(&class, &["condition", "isFailure"]);
        let condition = class.require("condition", "status, all, any or not")?;
        let condition = status(&condition, DEPTH, said)?;
        let failure = match class.get("isFailure")? {
            Some(failure) => super::boolean(&failure)?,
            None => false,
        };
        // One whose condition the proxy does not take is no class.
        known.extend(condition.map(|condition| (condition, failure)));
    }
    let class = |status: u16| {
        let mut first = known.iter().filter(|(condition, _)| condition.has(status));
        first.next().map(|(_, failure)| *failure)
    };
    let set = |failure| {
        let ranges = ranges(|status| class(status) == Some(failure));
        StatusRanges::try_new(ranges).map_err(|invalid| classes.invalid(&invalid))
    };
    Ok(ResponseClasses {
        failures: set(true)?,
        successes: set(false)?,
    })
}

/// The statuses that are retried: all failures.
pub(in crate::source::kubernetes) fn retried(
    classes: &ResponseClasses,
) -> Vec<RangeInclusive<u16>> {
    ranges(|status| {
        let status = http::StatusCode::from_u16(status);
        status.is_ok_and(|status| {
            let class = classes.is_failure(status);
            class.unwrap_or_else(|| status.is_server_error())
        })
    })
}

/// Those from 100 to 599 that are in a set.
fn ranges(has: impl Fn(u16) -> bool) -> Vec<RangeInclusive<u16>> {
    let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
    for status in (100..600).filter(|status| has(*status)) {
        match ranges.last_mut() {
            Some(last) if last.end() + 1 == status => *last = *last.start()..=status,
            _ => ranges.push(status..=status),
        }
    }
    ranges
}

/// None is what the mesh sends and its proxy leaves out.
fn status(field: &Field<'_>, depth: usize, said: &mut Said) -> Result<Option<Status>, Error> {
    said.known(field, &["status", "all", "any", "not"]);
    let Some(deeper) = depth.checked_sub(1) else {
        return Err(field.error("nested deeper than 32 conditions"));
    };
    let mut count = 0;
    let mut parts = Vec::new();
    if let Some(range) = field.get("status")? {
        count += 1;
        parts.extend(between(&range, said)?);
    }
    type Join = fn(Vec<Status>) -> Status;
    for (key, join) in [("all", Status::All as Join), ("any", Status::Any)] {
        let Some(list) = field.get(key)? else {
            continue;
        };
        count += 1;
        let mut known = Vec::new();
        for part in list.list()? {
            known.extend(status(&part, deeper, said)?);
        }
        // Of nothing they are nothing here, unlike those on requests.
        if !known.is_empty() {
            parts.push(join(known));
        }
    }
    if let Some(not) = field.get("not")? {
        count += 1;
        let not = status(&not, deeper, said)?;
        parts.extend(not.map(|not| Status::Not(Box::new(not))));
    }
    if count == 0 {
        return Err(field.error("an empty condition, expected status, all, any or not"));
    }
    Ok((!parts.is_empty()).then_some(Status::All(parts)))
}

fn between(field: &Field<'_>, said: &mut Said) -> Result<Option<Status>, Error> {
    said.known(field, &["min", "max"]);
    let end = |key| match field.get(key)? {
        None => Ok(None),
        Some(end) => match end.integer(0, 599)? {
            0 => Ok(None),
            1..100 => Err(end.expected("a status from 100 to 599")),
            status => Ok(u16::try_from(status).ok()),
        },
    };
    match (end("min")?, end("max")?) {
        (Some(min), Some(max)) if min <= max => Ok(Some(Status::Between(min, max))),
        (Some(_), Some(_)) => Err(field.error("max is less than min")),
        (None, None) => Err(field.error("an empty range, expected min and max")),
        (one, other) => {
            let one = one.or(other).unwrap_or_default();
            said.push(
                Diagnostic::new(
                    Severity::Warning,
                    field.origin,
                    "min or max is missing: the range is left out",
                )
                .key(&field.path)
                .at(field.at())
                .mesh("takes the manifest, and its proxy leaves the range out")
                .remedy(format!("write both: {{min: {one}, max: {one}}}")),
            );
            Ok(None)
        }
    }
}

// === impl Status ===

impl Status {
    fn has(&self, status: u16) -> bool {
        match self {
            Self::Between(min, max) => (*min..=*max).contains(&status),
            Self::All(all) => all.iter().all(|one| one.has(status)),
            Self::Any(any) => any.iter().any(|one| one.has(status)),
            Self::Not(not) => !not.has(status),
        }
    }
}
