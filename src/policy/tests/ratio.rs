use proptest::prelude::*;

use super::*;

#[test]
fn text() {
    for (value, expected) in [
        (0, "0"),
        (1, "0.000001"),
        (10, "0.00001"),
        (500_000, "0.5"),
        (123_456, "0.123456"),
        (1_000_000, "1"),
        (1_500_000, "1.5"),
        (10_000_000, "10"),
        (1_000_000_000, "1000"),
    ] {
        assert_eq!(ppm(value).to_string(), expected);
        assert_eq!(format!("{:?}", ppm(value)), format!("Ratio({expected})"));
    }
}

#[test]
fn rounding() {
    for (value, expected) in [
        (0.0, 0),
        (-0.0, 0),
        (0.000_000_4, 0),
        (0.000_000_6, 1),
        (f64::MIN_POSITIVE, 0),
        (0.1 + 0.2, 300_000),
        (1.0 / 3.0, 333_333),
        (2.0 / 3.0, 666_667),
        // As the wire carries it.
        (f64::from(0.8_f32), 800_000),
        (f64::from(0.999_999_9_f32), 1_000_000),
        (1.0, 1_000_000),
        (100.0, 100_000_000),
    ] {
        let made = Ratio::try_from_f64("x", value, 100);
        assert_eq!(made.map(Ratio::ppm), Ok(expected), "{value}");
    }
}

#[test]
fn out_of_range() {
    for (value, max) in [
        (f64::NAN, 1),
        (f64::INFINITY, 1),
        (f64::NEG_INFINITY, 1),
        (-0.1, 1),
        (-f64::MIN_POSITIVE, 1),
        (1.0 + f64::EPSILON, 1),
        (100.1, 100),
        (f64::MAX, u16::MAX),
        // No rule of the mesh allows more, whatever the caller says.
        (1000.1, u16::MAX),
    ] {
        check(
            Ratio::try_from_f64("some.field", value, max),
            Some("some.field"),
        );
    }
    check(Ratio::parts_per_million(1_000_000_001), Some("ratio"));
    check(Ratio::parts_per_million(u32::MAX), Some("ratio"));
    check(Ratio::parts_per_million(1_000_000_000), None);
    check(Ratio::try_from_f64("x", 1000.0, u16::MAX), None);
}

#[test]
fn percent() {
    assert_eq!(Ratio::percent(0), Ratio::ZERO);
    assert_eq!(Ratio::percent(100), Ratio::ONE);
    assert_eq!(Ratio::percent(255).ppm(), 2_550_000);
    assert_eq!(Ratio::default(), Ratio::ZERO);
    assert!(Ratio::percent(99) < Ratio::ONE);
}

proptest! {
    #[test]
    fn what_is_written_reads_back(value in 0..=1_000_000_000_u32) {
        let ratio = ppm(value);
        let float: f64 = ratio.to_string().parse().unwrap();
        prop_assert_eq!(Ratio::try_from_f64("x", float, 1000), Ok(ratio));
    }

    #[test]
    fn no_float_panics(value in any::<f64>(), max in any::<u16>()) {
        let valid = value >= 0.0 && value <= f64::from(max.min(1000));
        prop_assert_eq!(Ratio::try_from_f64("x", value, max).is_ok(), valid);
    }
}
