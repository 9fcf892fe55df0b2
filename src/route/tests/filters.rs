use http::{StatusCode, Uri};

use super::*;
use crate::policy::{Filter, InjectFailure, ModifyHeader, Ratio, RedirectRequest};
use crate::route::{Filtered, filter_request, filter_response};

fn name(name: &'static str) -> HeaderName {
    HeaderName::from_static(name)
}

fn pair(key: &'static str, value: &'static str) -> (HeaderName, HeaderValue) {
    (name(key), HeaderValue::from_static(value))
}

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).iter();
    values.map(|v| v.to_str().unwrap().to_owned()).collect()
}

fn apply(filters: &[Filter], headers: &mut HeaderMap, word: u64) -> Result<(), Filtered> {
    let uri = Uri::from_static("http://example.com/foo");
    filter_request(filters, &uri, headers, PathMatched::Prefix(1), || word)
}

fn fail(ratio: Ratio) -> Filter {
    Filter::InjectFailure(InjectFailure::new(StatusCode::IM_A_TEAPOT, "tea", ratio).unwrap())
}

fn change() -> ModifyHeader {
    ModifyHeader {
        add: vec![pair("a", "2"), pair("s", "added"), pair("r", "added")],
        set: vec![pair("s", "set"), pair("r", "set")],
        remove: vec![name("r"), name("absent")],
    }
}

#[test]
fn add_then_set_then_remove() {
    let before = headers(&[("a", b"1"), ("s", b"1"), ("s", b"2"), ("r", b"1")]);

    let mut request = before.clone();
    let filters = [
        Filter::RequestHeaders(change()),
        Filter::ResponseHeaders(ModifyHeader {
            remove: vec![name("a")],
            ..ModifyHeader::default()
        }),
    ];
    assert_eq!(apply(&filters, &mut request, 0), Ok(()));
    assert_eq!(values(&request, "a"), ["1", "2"]);
    assert_eq!(values(&request, "s"), ["set"]);
    assert_eq!(values(&request, "r"), [""; 0]);

    let mut response = before;
    let filters = [
        Filter::ResponseHeaders(change()),
        Filter::RequestHeaders(ModifyHeader {
            remove: vec![name("a")],
            ..ModifyHeader::default()
        }),
        fail(Ratio::ONE),
    ];
    filter_response(&filters, &mut response);
    assert_eq!(values(&response, "a"), ["1", "2"]);
    assert_eq!(values(&response, "s"), ["set"]);
    assert_eq!(values(&response, "r"), [""; 0]);
}

#[test]
fn filters_are_applied_in_order() {
    let set = |value| {
        Filter::RequestHeaders(ModifyHeader {
            set: vec![pair("x", value)],
            ..ModifyHeader::default()
        })
    };
    let mut seen = HeaderMap::new();
    assert_eq!(apply(&[set("1"), set("2")], &mut seen, 0), Ok(()));
    assert_eq!(values(&seen, "x"), ["2"]);

    let mut seen = HeaderMap::new();
    let outcome = apply(&[set("1"), fail(Ratio::ONE), set("2")], &mut seen, 0);
    let tea = Filtered::Fail {
        status: StatusCode::IM_A_TEAPOT,
        message: "tea".to_owned(),
    };
    assert_eq!(outcome, Err(tea.clone()));
    assert_eq!(values(&seen, "x"), ["1"]);

    let redirect = Filter::Redirect(RedirectRequest::new().with_host("example.org").unwrap());
    let first = apply(&[redirect.clone(), fail(Ratio::ONE)], &mut seen, 0);
    assert!(matches!(first, Err(Filtered::Redirect { .. })));
    let first = apply(&[fail(Ratio::ONE), redirect], &mut seen, 0);
    assert_eq!(first, Err(tea));
}

#[test]
fn the_share_of_failures() {
    let failed = |ratio, word| apply(&[fail(ratio)], &mut HeaderMap::new(), word).is_err();
    for word in [0, 1, u64::MAX / 2, u64::MAX] {
        assert!(failed(Ratio::ONE, word));
        assert!(!failed(Ratio::ZERO, word));
    }
    let half = Ratio::percent(50);
    assert!(failed(half, (1 << 63) - 1));
    assert!(!failed(half, 1 << 63));
    let least = Ratio::parts_per_million(1).unwrap();
    assert!(failed(least, u64::MAX / 1_000_000));
    assert!(!failed(least, u64::MAX / 1_000_000 + 1));

    // One word in each part of a thousand.
    let part = u64::MAX / 1000;
    let words = (0..1000).map(|i| i * part + part / 2);
    let third = Ratio::parts_per_million(333_000).unwrap();
    assert_eq!(words.filter(|word| failed(third, *word)).count(), 333);
}

#[test]
fn one_word_per_failure_that_may_happen() {
    let filters = [fail(Ratio::ZERO), fail(Ratio::ZERO), fail(Ratio::ONE)];
    let uri = Uri::from_static("/");
    let mut drawn = 0;
    let word = || {
        drawn += 1;
        0
    };
    let outcome = filter_request(
        &filters,
        &uri,
        &mut HeaderMap::new(),
        PathMatched::Exact,
        word,
    );
    assert!(outcome.is_err());
    assert_eq!(drawn, 3);
}

#[test]
fn more_headers_than_fit() {
    let add = (0..40_000)
        .map(|i| {
            let name = format!("x-{i}").parse().unwrap();
            (name, HeaderValue::from_static("1"))
        })
        .collect();
    let change = ModifyHeader {
        add,
        ..ModifyHeader::default()
    };
    let outcome = apply(
        &[Filter::RequestHeaders(change.clone())],
        &mut HeaderMap::new(),
        0,
    );
    assert!(matches!(outcome, Err(Filtered::Invalid(_))));
    let mut response = HeaderMap::new();
    filter_response(&[Filter::ResponseHeaders(change)], &mut response);
    assert!(!response.is_empty());
}
