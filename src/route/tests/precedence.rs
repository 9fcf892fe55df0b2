use http::Method;

use super::*;

#[test]
fn hostname_precedence() {
    let request = get("http://foo.example.com/foo");
    let everywhere = route(&[], [rule([exact("/foo")])]);
    let suffix = route(&["*.example.com"], [rule([exact("/foo")])]);
    let named = route(&["foo.example.com"], [rule([exact("/foo")])]);
    let routes = [everywhere.clone(), suffix.clone(), named.clone()];
    assert_eq!(place(&routes, &request), Some((2, 0)));
    assert_eq!(place(&[named, suffix, everywhere], &request), Some((0, 0)));
}

#[test]
fn the_host_is_compared_before_everything_else() {
    let request = get("http://a.example.com/foo/bar");
    let mut demanding = exact("/foo/bar");
    demanding.method = Some(Method::GET);
    let routes = [
        route(&[], [rule([demanding.clone()])]),
        route(&["*.com"], [rule([demanding])]),
        route(&["*.example.com"], [rule([])]),
    ];
    assert_eq!(place(&routes, &request), Some((2, 0)));
}

#[test]
fn the_best_host_of_a_route_counts() {
    let request = get("http://a.example.com/");
    let routes = [
        route(&["*.example.com"], [rule([])]),
        route(&["*.com", "a.example.com", "*.example.com"], [rule([])]),
    ];
    assert_eq!(place(&routes, &request), Some((1, 0)));
}

#[test]
fn a_long_suffix_loses_to_a_short_name() {
    // Lengths are compared within one kind only.
    let request = get("http://a.b/");
    let routes = [
        route(&["*.b"], [rule([])]),
        route(&["a.b."], [rule([])]),
        route(&["a.b"], [rule([])]),
    ];
    assert_eq!(place(&routes, &request), Some((2, 0)));
    assert_eq!(place(&routes, &get("http://a.b./")), Some((1, 0)));
}

#[test]
fn path_length_precedence() {
    let request = get("http://foo.example.com/foo/bar");
    let routes = [
        route(&[], [rule([prefix("/foo")])]),
        route(&[], [rule([exact("/foo/bar")])]),
    ];
    assert_eq!(place(&routes, &request), Some((1, 0)));
}

#[test]
fn only_the_length_of_a_path_counts() {
    // Gateway API would prefer the exact path; the mesh takes the first.
    let request = get("http://example.com/abc");
    let kinds = [prefix("/abc"), exact("/abc"), regex("/a.*")];
    for first in &kinds {
        for second in &kinds {
            let routes = [route(&[], [rule([first.clone()]), rule([second.clone()])])];
            assert_eq!(place(&routes, &request), Some((0, 0)));
        }
    }
    // A pattern counts as the whole path, however short its text.
    let routes = [route(&[], [rule([prefix("/abc")]), rule([regex("/.*")])])];
    assert_eq!(place(&routes, &get("http://h/abc/def")), Some((0, 1)));
}

#[test]
fn a_trailing_slash_adds_no_length() {
    let routes = [route(
        &[],
        [rule([prefix("/foo")]), rule([prefix("/foo/")])],
    )];
    assert_eq!(place(&routes, &get("http://h/foo/bar")), Some((0, 0)));
}

#[test]
fn header_count_precedence() {
    let request = Request::get("http://www.example.com")
        .header("x-foo", "bar")
        .header("x-baz", "qux")
        .header("x-biz", "qyx")
        .body(())
        .unwrap();
    let two = MatchRequest {
        headers: vec![header("x-foo", "bar"), header("x-baz", "qux")],
        ..MatchRequest::default()
    };
    let mut three = two.clone();
    three.headers.push(header("x-biz", "qyx"));
    let routes = [
        route(&[], [rule([two.clone()])]),
        route(&[], [rule([two, three])]),
    ];
    assert_eq!(place(&routes, &request), Some((1, 0)));
}

#[test]
fn headers_beat_query_beats_method() {
    let request = Request::get("http://h/?a=1&b=2")
        .header("x-foo", "bar")
        .body(())
        .unwrap();
    let method = MatchRequest {
        method: Some(Method::GET),
        ..MatchRequest::default()
    };
    let query = MatchRequest {
        query_params: vec![param("a", "1")],
        ..MatchRequest::default()
    };
    let both = MatchRequest {
        query_params: vec![param("a", "1"), param("b", "2")],
        method: Some(Method::GET),
        ..MatchRequest::default()
    };
    let headers = MatchRequest {
        headers: vec![header("x-foo", "bar")],
        ..MatchRequest::default()
    };
    let ascending = [MatchRequest::default(), method, query, both, headers];
    for (low, lesser) in ascending.iter().enumerate() {
        for greater in &ascending[low + 1..] {
            let rules = [rule([lesser.clone()]), rule([greater.clone()])];
            assert_eq!(
                place(&[route(&[], rules)], &request),
                Some((0, 1)),
                "{lesser:?} {greater:?}"
            );
        }
    }
}

#[test]
fn first_identical_wins() {
    let routes = [
        route(&[], [rule([]), rule([])]),
        route(&[], [rule([MatchRequest::default()])]),
    ];
    assert_eq!(place(&routes, &get("/")), Some((0, 0)));
}

#[test]
fn first_tied_match_in_rule_wins() {
    let request = get("http://www.example.com/abc");
    let matched = |matches| find_in(&[route(&[], [rule(matches)])], &request).map(|f| f.path);
    assert_eq!(
        matched([prefix("/abc"), regex("/abc")]),
        Some(PathMatched::Prefix(4))
    );
    assert_eq!(
        matched([regex("/abc"), prefix("/abc")]),
        Some(PathMatched::Regex)
    );
}

#[test]
fn what_does_not_match_is_passed_over() {
    let routes = [
        route(&["other"], [rule([])]),
        route(&[], [rule([exact("/else")]), rule([prefix("/")])]),
        route(&[], []),
    ];
    assert_eq!(place(&routes, &get("http://h/x")), Some((1, 1)));
    assert_eq!(place(&[], &get("http://h/x")), None);
    assert_eq!(place(&routes[..1], &get("http://h/x")), None);
}
