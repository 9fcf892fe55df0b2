use std::time::Duration;

use super::super::grammar::*;
use super::super::scalar;
use super::super::yaml::Value;

#[test]
fn durations() {
    let good = [
        ("0", 0),
        ("00", 0),
        ("0s", 0),
        ("+0", 0),
        ("1ms", 1),
        ("10s", 10_000),
        (" 10s\t", 10_000),
        ("+5s", 5_000),
        ("007s", 7_000),
        ("5m", 300_000),
        ("2h", 7_200_000),
        ("1d", 86_400_000),
        ("18446744073709551615ms", u64::MAX),
    ];
    for (text, millis) in good {
        assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    let bad = [
        ("", None),
        ("s", None),
        ("soon", None),
        ("-1s", None),
        ("-0", None),
        ("5", Some("write \"5s\" or \"5ms\"")),
        ("1.5s", Some("write \"1500ms\"")),
        ("0.0s", None),
        ("0.0001ms", None),
        ("1h30m", Some("write \"90m\"")),
        ("1d12h", Some("write \"36h\"")),
        ("2m0s", Some("write \"2m\"")),
        ("10 s", Some("write \"10s\"")),
        ("5S", Some("write \"5s\"")),
        ("1us", None),
        ("1e3s", None),
        ("٣s", None),
        ("1s ٣", None),
        ("999999999999999999d", None),
        ("18446744073709551616ms", None),
        ("99999999999999999999h99999999999999999999h", None),
    ];
    for (text, remedy) in bad {
        let mistake = duration(text).expect_err(text);
        assert_eq!(mistake.remedy.as_deref(), remedy, "{text}");
    }
}

#[test]
fn booleans() {
    for text in ["1", "t", "T", "true", "TRUE", "True", " true\n"] {
        assert_eq!(boolean(text), Ok(true), "{text}");
    }
    for text in ["0", "f", "F", "false", "FALSE", "False"] {
        assert_eq!(boolean(text), Ok(false), "{text}");
    }
    for text in ["", "yes", "on", "tRUE", "2"] {
        assert!(boolean(text).is_err(), "{text}");
    }
}

#[test]
fn lists() {
    assert_eq!(statuses("5xx,429"), Ok(vec![500..=599, 429..=429]));
    assert_eq!(statuses("+500"), Ok(vec![500..=500]));
    for text in [
        "",
        ",",
        "5xx,",
        "4xx",
        " 5xx",
        "500 - 504",
        "500-",
        "-504",
        "500-600",
        "99-200",
        "500-501-502",
    ] {
        assert!(statuses(text).is_err(), "{text}");
    }
    assert_eq!(grpc_codes("INTERNAL,cancelled"), Ok(vec![13, 1]));
    for text in ["", "14", "ok", "deadline_exceeded", "internal, cancelled"] {
        assert!(grpc_codes(text).is_err(), "{text}");
    }
    let named = OpaquePort::Named("web".to_owned());
    assert_eq!(
        opaque_ports(" 25 , 1 - 3,,web"),
        Ok(vec![
            OpaquePort::Range(25..=25),
            OpaquePort::Range(1..=3),
            named
        ])
    );
    assert_eq!(opaque_ports(""), Ok(Vec::new()));
    for text in ["0", "65536", "3-1", "3-", "-"] {
        assert!(opaque_ports(text).is_err(), "{text}");
    }
}

#[test]
fn unquoted_words() {
    let number = |text: &str, n| (text.to_owned(), Value::Number(text.to_owned(), n));
    let rows = [
        number("0", Some(0)),
        number("-17", Some(-17)),
        number("0x1F", Some(31)),
        number("0o17", Some(15)),
        number("017", Some(15)),
        number("0b11", Some(3)),
        number("1_000", Some(1000)),
        number("1.5", None),
        number(".5", None),
        number("1e3", None),
        number("+.inf", None),
        number(".nan", None),
        number("99999999999999999999", None),
    ];
    for (text, value) in rows {
        assert_eq!(scalar::plain(&text), value, "{text}");
    }
    for text in [
        "5xx",
        "2s",
        "--1",
        "0x-1",
        "-",
        ".",
        "inf",
        "NaN",
        "1.2.3",
        "0x",
        "1_",
        "2020-01-01",
        "08x",
    ] {
        assert_eq!(scalar::plain(text), Value::String(text.to_owned()));
    }
    assert_eq!(scalar::plain("off"), Value::Bool("off".to_owned()));
    assert_eq!(scalar::plain("~"), Value::Null);
}
