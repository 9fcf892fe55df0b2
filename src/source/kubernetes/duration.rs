//! Durations of fields. Annotations have a grammar of their own, see [`grammar`](super::grammar).

use std::time::Duration;

use super::grammar::{Mistake, expected};

/// A duration as Gateway API has it (GEP-2257): one to four whole numbers of at most five digits, each with `h`, `m`, `s` or
/// `ms`. They are added.
pub(super) fn gateway(text: &str) -> Result<Duration, Mistake> {
    let mistake = || {
        expected("one to four whole numbers with their units (h, m, s, ms), such as 1h30m or 500ms")
    };
    let mut rest = text;
    let mut sum = Duration::ZERO;
    for part in 0.. {
        if rest.is_empty() && part > 0 {
            return Ok(sum);
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at_checked(digits).ok_or_else(mistake)?;
        if part == 4 || digits == 0 || digits > 5 {
            break;
        }
        let number: u64 = number.parse().map_err(|_| mistake())?;
        // `ms` before `m`.
        let (millis, tail) = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)]
            .into_iter()
            .find_map(|(unit, millis)| Some((millis, tail.strip_prefix(unit)?)))
            .ok_or_else(mistake)?;
        // At most 99999 hours, four times.
        sum = sum.saturating_add(Duration::from_millis(number.saturating_mul(millis)));
        rest = tail;
    }
    Err(mistake())
}

/// A duration as Go has it: a sign, then numbers that may have fractions, each with `ns`, `us`, `ms`, `s`, `m` or `h`.
/// A bare `0` needs no unit. Negative ones are none here.
pub(super) fn go(text: &str) -> Result<Duration, Mistake> {
    let mistake = || expected("a duration such as 1m30s, 1.5s or 300ms (ns, us, ms, s, m, h)");
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned == "0" {
        return Ok(Duration::ZERO);
    }
    if unsigned.is_empty() {
        return Err(mistake());
    }
    let mut rest = unsigned;
    let mut nanos = 0_u128;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, tail) = rest
            .split_at_checked(end.unwrap_or(rest.len()))
            .ok_or_else(mistake)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && part.is_empty()) || part.contains('.') {
            return Err(mistake());
        }
        let units = [
            ("ns", 1),
            ("us", 1_000),
            ("\u{b5}s", 1_000),
            ("\u{3bc}s", 1_000),
            ("ms", 1_000_000),
            ("s", 1_000_000_000),
            ("m", 60_000_000_000),
            ("h", 3_600_000_000_000),
        ];
        let (scale, tail) = units
            .into_iter()
            .find_map(|(unit, nanos)| Some((nanos, tail.strip_prefix(unit)?)))
            .ok_or_else(mistake)?;
        let whole: u64 = if whole.is_empty() {
            0
        } else {
            whole.parse().map_err(|_| mistake())?
        };
        nanos = nanos.saturating_add(u128::from(whole).saturating_mul(scale));
        // More digits than nanoseconds have say nothing.
        let mut unit = scale;
        for digit in part.bytes() {
            unit /= 10;
            nanos = nanos.saturating_add(u128::from(digit - b'0') * unit);
        }
        rest = tail;
    }
    if nanos > i64::MAX as u128 {
        return Err(expected("at most 292 years"));
    }
    if text.starts_with('-') && nanos > 0 {
        return Err(expected("a duration that is not negative"));
    }
    // In range, checked above.
    Ok(Duration::from_nanos(nanos as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways() {
        let ms = |text| gateway(text).ok().map(|d| d.as_millis());
        let rows = [
            ("0s", Some(0)),
            ("1h30m", Some(5_400_000)),
            ("1s500ms", Some(1_500)),
            ("5s5s5s5s", Some(20_000)),
            ("99999ms", Some(99_999)),
            ("5s5s5s5s5s", None),
            ("100000s", None),
            ("1.5s", None),
            ("1d", None),
            ("0", None),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("1s ", None),
            ("1us", None),
        ];
        for (text, expected) in rows {
            assert_eq!(ms(text), expected, "{text:?}");
        }
    }

    #[test]
    fn gos() {
        let us = |text| go(text).ok().map(|d| d.as_micros());
        let rows = [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("1m30s", Some(90_000_000)),
            ("1.5s", Some(1_500_000)),
            (".5s", Some(500_000)),
            ("1.s", Some(1_000_000)),
            ("+2us", Some(2)),
            ("3\u{b5}s", Some(3)),
            ("1h0.25m", Some(3_615_000_000)),
            ("", None),
            (".", None),
            ("5", None),
            ("1d", None),
            ("-1s", None),
            ("1..5s", None),
            (" 1s", None),
            ("9999999999h", None),
            ("99999999999999999999999s", None),
        ];
        for (text, expected) in rows {
            assert_eq!(us(text), expected, "{text:?}");
        }
    }
}
