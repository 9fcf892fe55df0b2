//! Matches and paths.

use super::*;

fn path(kind: Option<hr::path_match::Kind>) -> hr::HttpRouteMatch {
    hr::HttpRouteMatch {
        path: Some(hr::PathMatch { kind }),
        ..hr::HttpRouteMatch::default()
    }
}

pub(super) fn prefix(path_: &str) -> hr::HttpRouteMatch {
    path(Some(hr::path_match::Kind::Prefix(path_.to_owned())))
}

pub(super) fn header(name: &str, value: Option<hr::header_match::Value>) -> hr::HttpRouteMatch {
    let mut matched = prefix("/a");
    matched.headers.push(hr::HeaderMatch {
        name: name.to_owned(),
        value,
    });
    matched
}

fn method(r#type: Option<http_types::http_method::Type>) -> hr::HttpRouteMatch {
    let mut matched = prefix("/a");
    matched.method = Some(http_types::HttpMethod { r#type });
    matched
}

fn query(value: Option<hr::query_param_match::Value>) -> hr::HttpRouteMatch {
    let mut matched = prefix("/a");
    matched.query_params.push(hr::QueryParamMatch {
        name: "q".to_owned(),
        value,
    });
    matched
}

/// Nobody knows what such a match was for: what is like all the rest of it is refused, and nothing else.
#[test]
fn matches_that_are_not_understood() {
    let regex = || "(".to_owned();
    let rows = [
        (
            path(Some(hr::path_match::Kind::Regex(regex()))),
            "path.regex",
        ),
        (path(None), "path.kind"),
        (
            header("k", Some(hr::header_match::Value::Regex(regex()))),
            "headers[0].regex",
        ),
        (header("k", None), "headers[0].value"),
        (
            query(Some(hr::query_param_match::Value::Regex(regex()))),
            "query_params[0].regex",
        ),
        (query(None), "query_params[0].value"),
        (method(None), "method.type"),
        (
            method(Some(http_types::http_method::Type::Registered(9))),
            "method.registered",
        ),
    ];
    for (broken, field) in rows {
        let with_another = vec![prefix("/b"), broken.clone()];
        let field_ = format!("matches[1].{field}");
        let rules = rule(&field_, Effect::Refused, |rule| rule.matches = with_another);
        assert_eq!(rules.len(), 2, "{field}");
        assert_eq!(
            rules[0].matches[0].path,
            Some(MatchPath::prefix("/b").unwrap())
        );
        assert!(!refuses(&rules[0], ""), "{field}");
        assert!(refuses(&rules[1], "rules[0].matches[1]"), "{field}");
        // It counts as much as it did, so that it is not overruled by what it would have overruled.
        let within = &rules[1].matches[0];
        assert_eq!(within.path.is_some(), broken.path.is_some(), "{field}");
        assert_eq!(within.headers.len(), broken.headers.len(), "{field}");
        assert_eq!(
            within.query_params.len(),
            broken.query_params.len(),
            "{field}"
        );
        // Alone the rule is refused as a whole.
        let field_ = format!("matches[0].{field}");
        let rules = rule(&field_, Effect::Refused, |rule| rule.matches = vec![broken]);
        assert_eq!(rules.len(), 1);
        assert!(refuses(&rules[0], "rules[0].matches[0]"), "{field}");
    }
}

/// What is not understood is not sent elsewhere, and what it cannot have been for is served.
#[test]
fn a_request_for_what_is_not_understood() {
    let read = changed(|http1| {
        let broken = header(
            "tenant",
            Some(hr::header_match::Value::Regex("(".to_owned())),
        );
        http1.routes[0].rules[0].matches = vec![broken];
    });
    let routes = &http(&read).routes;
    let found = |request: http::request::Builder| {
        let request = request.body(()).unwrap();
        let (method, uri) = (request.method(), request.uri());
        let found = crate::route::find(routes, method, uri, request.headers()).unwrap();
        refuses(found.rule, "matches[0]")
    };
    assert!(found(http::Request::get("/a/b").header("tenant", "blue")));
    assert!(!found(http::Request::get("/a/b")));
    assert!(!found(http::Request::get("/b").header("tenant", "blue")));
}

/// No request is like that: the match is left out, and so is the rule if it has no other.
#[test]
fn matches_that_nothing_can_match() {
    let bytes = |bytes: &[u8]| Some(hr::header_match::Value::Exact(bytes.to_vec()));
    let unregistered = http_types::http_method::Type::Unregistered("a b".to_owned());
    let rows = [
        (header("a b", bytes(b"v")), "headers[0].name"),
        (header("k", bytes(b"a\nb")), "headers[0].exact"),
        (method(Some(unregistered)), "method.unregistered"),
    ];
    for (broken, field) in rows {
        let with_another = vec![broken.clone(), prefix("/b")];
        let field = format!("matches[0].{field}");
        let rules = rule(&field, Effect::LeftOut, |rule| rule.matches = with_another);
        assert_eq!((rules.len(), rules[0].matches.len()), (1, 1), "{field}");
        // A rule without matches would be for everything.
        let rules = rule(&field, Effect::LeftOut, |rule| rule.matches = vec![broken]);
        assert!(rules.is_empty(), "{field}");
    }
}

#[test]
fn paths_that_are_none() {
    for (kind, field) in [
        (hr::path_match::Kind::Exact("a".to_owned()), "exact"),
        (hr::path_match::Kind::Prefix("a".to_owned()), "prefix"),
        (hr::path_match::Kind::Prefix(String::new()), "prefix"),
    ] {
        let field = format!("matches[0].path.{field}");
        let rules = rule(&field, Effect::Kept, |rule| {
            rule.matches = vec![path(Some(kind))]
        });
        assert!(!refuses(&rules[0], ""));
    }
}
