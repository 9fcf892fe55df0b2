//! The values of annotations, as the mesh's policy controller reads them.
//!
//! These grammars are Linkerd's own: a duration is neither Go's nor Gateway API's, and lists are not trimmed.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::policy::Codes;

/// Why a value is not in its grammar: what would have been, and what to write instead where that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) expected: String,
    pub(super) remedy: Option<String>,
}

/// How the words of a mistake are put together by those who find it.
pub(super) fn expected(expected: impl Into<String>) -> Mistake {
    Mistake {
        expected: expected.into(),
        remedy: None,
    }
}

// === impl Mistake ===

impl Mistake {
    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// What helps against a template.
pub(super) const RENDER: &str = "a template has to be rendered first (helm template, envsubst)";

/// Whether a text is one of Helm's (`{{ .Values.x }}`) or a shell's (`${X}`), which somebody forgot to render.
pub(super) fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("${")
}

/// Milliseconds of the units there are, the largest first.
const UNITS: [(&str, u64); 5] = [
    ("d", 24 * 60 * 60 * 1000),
    ("h", 60 * 60 * 1000),
    ("m", 60 * 1000),
    ("s", 1000),
    ("ms", 1),
];

/// A whole number and one unit (`ms`, `s`, `m`, `h`, `d`); the unit may be left out for zero only.
///
/// Trimmed. No fractions, no sign but `+`, no second unit: `1h30m` is not a duration here.
pub(super) fn duration(text: &str) -> Result<Duration, Mistake> {
    let text = text.trim();
    let mistake = |text: &str| {
        let mistake = expected("a whole number and one unit (ms, s, m, h, d)");
        match reword_duration(text) {
            Some(better) => mistake.remedy(format!("write \"{better}\"")),
            None => mistake,
        }
    };
    let Some((number, unit)) = text
        .rfind(|c: char| c.is_ascii_digit())
        .and_then(|last| text.split_at_checked(last + 1))
    else {
        return Err(mistake(text));
    };
    if number.starts_with('-') {
        return Err(expected("a duration that is not negative"));
    }
    let Ok(number) = number.parse::<u64>() else {
        return Err(mistake(text));
    };
    if unit.is_empty() && number == 0 {
        return Ok(Duration::ZERO);
    }
    if unit.is_empty() {
        return Err(expected("a duration with its unit (ms, s, m, h, d)")
            .remedy(format!("write \"{number}s\" or \"{number}ms\"")));
    }
    let Some((_, millis)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(mistake(text));
    };
    number
        .checked_mul(*millis)
        .map(Duration::from_millis)
        .ok_or_else(|| expected("at most 18446744073709551615 milliseconds"))
}

/// What was probably meant by a duration that another tool would read: `1h30m` is 90m, `1.5s` is 1500ms, `5S` is 5s.
fn reword_duration(text: &str) -> Option<String> {
    let mut rest = text;
    let mut millis = 0_u64;
    while !rest.is_empty() {
        let unit = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(unit)?;
        let tail = tail.trim_start();
        let end = tail.find(|c: char| c.is_ascii_digit());
        let (unit, tail) = tail.split_at_checked(end.unwrap_or(tail.len()))?;
        let unit = unit.trim_end().to_ascii_lowercase();
        let (_, scale) = UNITS.iter().find(|(name, _)| **name == unit)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let mut sum = whole.parse::<u64>().ok()?.checked_mul(*scale)?;
        if !part.is_empty() {
            let parts = part.parse::<u64>().ok()?.checked_mul(*scale)?;
            let base = 10_u64.checked_pow(u32::try_from(part.len()).ok()?)?;
            if !parts.is_multiple_of(base) {
                return None;
            }
            sum = sum.checked_add(parts / base)?;
        }
        millis = millis.checked_add(sum)?;
        rest = tail;
    }
    let (name, scale) = UNITS
        .iter()
        .find(|(_, scale)| millis.is_multiple_of(*scale))?;
    (millis > 0).then(|| format!("{}{name}", millis / scale))
}

/// What Go's `ParseBool` takes, trimmed.
pub(super) fn boolean(text: &str) -> Result<bool, Mistake> {
    match text.trim() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(expected("\"true\" or \"false\"")),
    }
}

/// A whole number, trimmed.
pub(super) fn count(text: &str) -> Result<u32, Mistake> {
    let text = text.trim();
    text.parse()
        .map_err(|_| expected("a whole number from 0 to 4294967295"))
}

/// A number of retries. **Not** trimmed.
pub(super) fn limit(text: &str) -> Result<u16, Mistake> {
    text.parse().map_err(|_| {
        let mistake = expected("a whole number from 0 to 65535, without spaces");
        match text.trim().parse::<u16>() {
            Ok(number) => mistake.remedy(format!("write \"{number}\"")),
            Err(_) => mistake,
        }
    })
}

/// A number from zero to `max`, trimmed. Single precision, as on the wire.
pub(super) fn single(text: &str, max: f32) -> Result<f64, Mistake> {
    match text.trim().parse::<f32>() {
        Ok(value) if (0.0..=max).contains(&value) => Ok(value.into()),
        _ => Err(expected(format!("a number from 0 to {max}"))),
    }
}

/// A number from zero to one, trimmed.
pub(super) fn share(text: &str) -> Result<f64, Mistake> {
    match text.trim().parse::<f64>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => {
            let mistake = expected("a number from 0 to 1");
            let percent = text.trim().trim_end_matches(['%', ' ']);
            match percent.parse::<u8>() {
                Ok(n @ 2..=100) => {
                    Err(mistake.remedy(format!("for {n} % write \"{}.{:02}\"", n / 100, n % 100)))
                }
                _ => Err(mistake),
            }
        }
    }
}

/// Statuses: `5xx`, `gateway-error` (502 to 504), `503`, `500-504`; between commas, without spaces.
pub(super) fn statuses(text: &str) -> Result<Vec<RangeInclusive<u16>>, Mistake> {
    text.split(',')
        .map(|part| {
            status_range(part).ok_or_else(|| {
                list_mistake(text, part, STATUSES, |part| status_range(part).is_some())
            })
        })
        .collect()
}

const STATUSES: &str = "5xx, gateway-error, a status from 100 to 599 or a range of them (500-504), separated by commas without spaces";

fn status_range(part: &str) -> Option<RangeInclusive<u16>> {
    let status = |text: &str| {
        text.parse::<u16>()
            .ok()
            .filter(|code| (100..=599).contains(code))
    };
    if part.eq_ignore_ascii_case("5xx") {
        return Some(500..=599);
    }
    if part.eq_ignore_ascii_case("gateway-error") {
        return Some(502..=504);
    }
    if let Some(code) = status(part) {
        return Some(code..=code);
    }
    let (start, end) = part.split_once('-')?;
    let (start, end) = (status(start)?, status(end)?);
    (start <= end).then_some(start..=end)
}

/// The gRPC codes that may be retried.
const GRPC: [(&str, u16); 5] = [
    ("cancelled", Codes::CANCELLED),
    ("deadline-exceeded", Codes::DEADLINE_EXCEEDED),
    ("internal", Codes::INTERNAL),
    ("resource-exhausted", Codes::RESOURCE_EXHAUSTED),
    ("unavailable", Codes::UNAVAILABLE),
];

/// gRPC codes by name, between commas, without spaces; without regard to case.
pub(super) fn grpc_codes(text: &str) -> Result<Vec<u16>, Mistake> {
    let find = |part: &str| {
        GRPC.into_iter()
            .find(|(name, _)| part.eq_ignore_ascii_case(name))
            .map(|(_, code)| code)
    };
    text.split(',')
        .map(|part| {
            find(part).ok_or_else(|| {
                let list = "cancelled, deadline-exceeded, internal, resource-exhausted or unavailable, separated by \
                            commas without spaces";
                list_mistake(text, part, list, |part| find(part).is_some())
            })
        })
        .collect()
}

// The commonest slip in lists is the space after a comma; nothing else may be wrong for that to be the remedy.
fn list_mistake(text: &str, part: &str, grammar: &str, good: impl Fn(&str) -> bool) -> Mistake {
    let mistake = if text.contains(',') {
        expected(format!(
            "in place of {}: {grammar}",
            super::place::quoted(part)
        ))
    } else {
        expected(grammar)
    };
    if text.split(',').all(|part| good(part.trim())) {
        let trimmed: Vec<_> = text.split(',').map(str::trim).collect();
        return mistake.remedy(format!("write \"{}\"", trimmed.join(",")));
    }
    mistake
}

/// One element of `config.linkerd.io/opaque-ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OpaquePort {
    /// Numbers.
    Range(RangeInclusive<u16>),
    /// The name of one of the Service's ports. The policy controller does not take names, the destination controller
    /// does, and the proxy does what either says.
    Named(String),
}

/// Ports, ranges and names of ports, between commas, trimmed; empty elements are nothing.
pub(super) fn opaque_ports(text: &str) -> Result<Vec<OpaquePort>, Mistake> {
    let number = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
    let mut ports = Vec::new();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let range = match part.split_once('-') {
            Some((first, last)) => number(first).zip(number(last)),
            None => number(part).map(|port| (port, port)),
        };
        match range {
            Some((first, last)) if first <= last => ports.push(OpaquePort::Range(first..=last)),
            // A name has a letter; what has none was meant to be a number.
            None if part.chars().any(|c| c.is_ascii_alphabetic()) => {
                ports.push(OpaquePort::Named(part.to_owned()));
            }
            _ => {
                return Err(expected(format!(
                    "in place of {}: ports from 1 to 65535 or ranges of them (4190-4199), separated by commas",
                    super::place::quoted(part)
                )));
            }
        }
    }
    Ok(ports)
}
