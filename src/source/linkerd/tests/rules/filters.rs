//! Filters.

use super::*;

/// A filter must not be skipped.
#[test]
fn filters() {
    use api::http_route::filter::Kind;
    let check = |path: &str, kind: Option<Kind>| {
        let filter = api::http_route::Filter { kind };
        let path = format!("filters[0].{path}");
        rule(&path, Effect::Refused, |rule| rule.filters = vec![filter])
    };
    let refused = |path: &str, kind| {
        let rules = check(path, kind);
        assert!(refuses(&rules[0], "rules[0].filters[0]"), "{path}");
        assert_eq!(rules[0].policy.filters.len(), 1);
    };
    refused("kind", None);
    let redirect = |change: fn(&mut hr::RequestRedirect)| {
        let mut redirect = hr::RequestRedirect::default();
        change(&mut redirect);
        Some(Kind::Redirect(redirect))
    };
    refused("redirect.status", redirect(|it| it.status = 200));
    refused("redirect.status", redirect(|it| it.status = 65_836));
    refused("redirect.port", redirect(|it| it.port = 65_536));
    refused(
        "redirect.scheme",
        redirect(|it| it.scheme = Some(http_types::Scheme::default())),
    );
    let header = |name: &str, value: &[u8]| {
        Some(http_types::Headers {
            headers: vec![http_types::headers::Header {
                name: name.to_owned(),
                value: value.to_vec(),
            }],
        })
    };
    let mut change = hr::RequestHeaderModifier {
        set: header("a b", b"v"),
        ..hr::RequestHeaderModifier::default()
    };
    let path = "request_header_modifier.set.headers[0].name";
    refused(path, Some(Kind::RequestHeaderModifier(change.clone())));
    (change.set, change.add) = (None, header("k", b"\n"));
    let path = "request_header_modifier.add.headers[0].value";
    refused(path, Some(Kind::RequestHeaderModifier(change)));
    let change = hr::ResponseHeaderModifier {
        add: header("", b""),
        ..hr::ResponseHeaderModifier::default()
    };
    let path = "response_header_modifier.add.headers[0].name";
    refused(path, Some(Kind::ResponseHeaderModifier(change)));
}

#[test]
fn parts_of_filters() {
    use api::http_route::filter::Kind;
    let check = |path: &str, effect, kind: Kind| {
        let filter = api::http_route::Filter { kind: Some(kind) };
        let path = format!("filters[0].{path}");
        let mut rules = rule(&path, effect, |rule| rule.filters = vec![filter]);
        rules.remove(0).policy.filters.remove(0)
    };
    // Nothing has that header.
    let change = hr::RequestHeaderModifier {
        remove: vec!["a b".to_owned(), "k".to_owned()],
        ..hr::RequestHeaderModifier::default()
    };
    let kind = Kind::RequestHeaderModifier(change);
    let filter = check("request_header_modifier.remove[0]", Effect::LeftOut, kind);
    assert!(matches!(filter, Filter::RequestHeaders(change) if change.remove.len() == 1));
    // The failure stays a failure.
    let injector = |status, numerator, denominator| {
        let ratio = Some(hr::Ratio {
            numerator,
            denominator,
        });
        Kind::FailureInjector(hr::HttpFailureInjector {
            status,
            message: "m".to_owned(),
            ratio,
        })
    };
    let failure = |filter| match filter {
        Filter::InjectFailure(failure) => (failure.status().as_u16(), failure.ratio()),
        other => panic!("{other:?}"),
    };
    let half = Ratio::percent(50);
    for status in [0, 99, 1000, 66_036] {
        let filter = check(
            "failure_injector.status",
            Effect::Default,
            injector(status, 1, 2),
        );
        assert_eq!(failure(filter), (500, half));
    }
    for (numerator, denominator) in [(0, 0), (1, 0), (2, 1), (u32::MAX, 1)] {
        let kind = injector(503, numerator, denominator);
        let filter = check("failure_injector.ratio", Effect::Default, kind);
        assert_eq!(failure(filter), (503, Ratio::ONE));
    }
    // What is sent there gets an internal error from the filter itself.
    let redirect = |change: fn(&mut hr::RequestRedirect)| {
        let mut redirect = hr::RequestRedirect::default();
        change(&mut redirect);
        Kind::Redirect(redirect)
    };
    check(
        "redirect.host",
        Effect::Kept,
        redirect(|it| it.host = "a b".to_owned()),
    );
    let path = redirect(|it| {
        let replace = Some(hr::path_modifier::Replace::Full("a".to_owned()));
        it.path = Some(hr::PathModifier { replace });
    });
    check("redirect.path.full", Effect::Kept, path);
    let path = redirect(|it| it.path = Some(hr::PathModifier { replace: None }));
    check("redirect.path.replace", Effect::LeftOut, path);
}
