//! `grpc-timeout`: at most eight digits and a unit.

use std::time::Duration;

use http::HeaderValue;

const UNITS: [(u8, u64); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60 * 1_000_000_000),
    (b'H', 3_600 * 1_000_000_000),
];

/// The time that a call has. None if the header is not as the specification says; the call then has what the policy
/// gives it.
pub(crate) fn parse(value: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = value.as_bytes().split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let (_, nanos) = UNITS.iter().find(|(name, _)| name == unit)?;
    // At most 10^8 hours: 3.6 x 10^20 ns do not fit in 64 bits.
    Some(Duration::from_nanos(*nanos).saturating_mul(u32::try_from(count).ok()?))
}

/// The header for so much time, in the finest unit that holds it, rounded down.
pub(crate) fn format(time: Duration) -> HeaderValue {
    let nanos = time.as_nanos();
    let (unit, count) = UNITS
        .iter()
        .map(|(name, size)| (*name, nanos / u128::from(*size)))
        .find(|(_, count)| *count < 100_000_000)
        .unwrap_or((b'H', 99_999_999));
    let text = format!("{count}{}", char::from(unit));
    // Digits and a letter.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("0n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_grammar() {
        let parse = |text: &str| parse(&HeaderValue::from_str(text).unwrap());
        assert_eq!(parse("1S"), Some(Duration::from_secs(1)));
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(
            parse("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
        assert_eq!(parse("0n"), Some(Duration::ZERO));
        for bad in [
            "",
            "S",
            "1",
            "1s",
            "1h",
            "+1S",
            "-1S",
            "1.5S",
            "123456789n",
            " 1S",
            "1 S",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_finest_unit_that_fits() {
        let format = |time| super::format(time).to_str().unwrap().to_owned();
        assert_eq!(format(Duration::from_millis(99)), "99000000n");
        assert_eq!(format(Duration::from_millis(100)), "100000u");
        assert_eq!(format(Duration::from_secs(100)), "100000m");
        assert_eq!(format(Duration::from_secs(100_000)), "100000S");
        assert_eq!(format(Duration::MAX), "99999999H");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_never_more(secs in any::<u32>(), nanos in 0u32..1_000_000_000) {
            let time = Duration::new(secs.into(), nanos);
            let read = parse(&format(time)).unwrap();
            prop_assert!(read <= time);
            // Eight digits keep seven.
            prop_assert!(read.as_secs_f64() >= time.as_secs_f64() * (1.0 - 1e-4));
        }
    }
}
