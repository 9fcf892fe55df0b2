//! Words and numbers.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use crate::policy::*;

/// Any time that a message can say, with those at the edges more often than not.
pub(super) fn time() -> BoxedStrategy<Duration> {
    let most = i64::MAX.unsigned_abs();
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::from_nanos(1)),
        Just(Duration::new(most, 999_999_999)),
        (0..100_000_u64).prop_map(Duration::from_millis),
        (0..=most, 0..1_000_000_000_u32).prop_map(|(secs, nanos)| Duration::new(secs, nanos)),
    ]
    .boxed()
}

pub(super) fn ratio() -> BoxedStrategy<Ratio> {
    let ppm = |ppm| Ratio::parts_per_million(ppm).unwrap();
    prop_oneof![
        Just(Ratio::ZERO),
        Just(Ratio::ONE),
        (0..=1_000_000_u32).prop_map(ppm)
    ]
    .boxed()
}

/// 24 bits hold every millionth below 16; beyond that whole numbers.
pub(super) fn jitter() -> BoxedStrategy<Ratio> {
    prop_oneof![
        0..16_000_000_u32,
        (0..=100_u32).prop_map(|whole| whole * 1_000_000)
    ]
    .prop_map(|ppm| Ratio::parts_per_million(ppm).unwrap())
    .boxed()
}

pub(super) fn backoff() -> BoxedStrategy<ExponentialBackoff> {
    (time(), time(), jitter())
        .prop_map(|(a, b, jitter)| {
            let max = a.max(b).max(Duration::from_nanos(1));
            ExponentialBackoff::try_new(a.min(b), max, jitter).unwrap()
        })
        .boxed()
}

pub(super) fn word() -> BoxedStrategy<String> {
    prop_oneof!["[a-z0-9.-]{1,6}", "\\PC{1,3}"].boxed()
}

pub(super) fn text() -> BoxedStrategy<String> {
    prop_oneof![Just(String::new()), word(), "\\PC{1,3}\n"].boxed()
}

pub(super) fn meta() -> BoxedStrategy<Arc<Meta>> {
    let resource = (word(), word(), word(), word(), of(word()), any::<u16>());
    let resource = resource.prop_map(|(group, kind, namespace, name, section, port)| {
        let mut resource = Resource::new(group, kind, namespace, name).unwrap();
        if let Some(section) = section {
            resource = resource.with_section(section);
        }
        if let Some(port) = std::num::NonZeroU16::new(port) {
            resource = resource.with_port(port);
        }
        Meta::Resource(resource)
    });
    prop_oneof![text().prop_map(Meta::default_named), resource]
        .prop_map(Arc::new)
        .boxed()
}

pub(super) fn pattern() -> BoxedStrategy<Pattern> {
    select(vec![
        "",
        "a+",
        "/foo/\\d+",
        "(?x) a # b",
        "[^/]*|b",
        "\u{e9}",
    ])
    .prop_map(|text| Pattern::new(text).unwrap())
    .boxed()
}

pub(super) fn host() -> BoxedStrategy<MatchHost> {
    prop_oneof![
        text().prop_map(MatchHost::Exact),
        vec(text(), 0..4).prop_map(|reverse_labels| MatchHost::Suffix { reverse_labels }),
    ]
    .boxed()
}

pub(super) fn name() -> BoxedStrategy<HeaderName> {
    "[a-z][a-z0-9-]{0,5}"
        .prop_map(|name| HeaderName::from_bytes(name.as_bytes()).unwrap())
        .boxed()
}

pub(super) fn value() -> BoxedStrategy<HeaderValue> {
    let byte = prop_oneof![0x20_u8..0x7f, 0x80_u8..=0xff, Just(b'\t')];
    vec(byte, 0..5)
        .prop_map(|bytes| HeaderValue::from_bytes(&bytes).unwrap())
        .boxed()
}

pub(super) fn header() -> BoxedStrategy<MatchHeader> {
    let matched = prop_oneof![
        value().prop_map(MatchHeaderValue::Exact),
        pattern().prop_map(MatchHeaderValue::Regex),
    ];
    (name(), matched)
        .prop_map(|(name, value)| MatchHeader { name, value })
        .boxed()
}
