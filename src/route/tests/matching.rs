use http::Method;

use super::*;

// === MatchRequest ===

#[test]
fn empty_match() {
    let root = Some(PathMatched::Prefix(1));
    let head = Request::head("/").body(()).unwrap();
    let options = Request::options("*").body(()).unwrap();
    let connect = Request::connect("example.com:443").body(()).unwrap();
    for request in [Request::new(()), get("/"), head, options, connect] {
        assert_eq!(matched(MatchRequest::default(), &request), root);
        let found = find_in(&[route(&[], [rule([])])], &request).map(|f| f.path);
        assert_eq!(found, root, "a rule without matches");
    }
}

#[test]
fn method() {
    let wanted = MatchRequest {
        method: Some(Method::GET),
        ..MatchRequest::default()
    };
    assert!(matched(wanted.clone(), &get("http://example.com/foo")).is_some());
    let head = Request::head("http://example.com/").body(()).unwrap();
    assert_eq!(matched(wanted, &head), None);
}

#[test]
fn headers_of_a_match() {
    let wanted = MatchRequest {
        headers: vec![header("x-foo", "bar"), header_regex("x-baz", "qu+x")],
        ..MatchRequest::default()
    };
    for (values, expected) in [
        (&[][..], false),
        (&[("x-foo", &b"bar"[..])][..], false),
        (&[("x-foo", b"bar"), ("x-baz", b"zab")], false),
        (&[("x-foo", b"bar"), ("x-baz", b"quuuux")], true),
        (&[("x-foo", b"bar"), ("x-baz", b"quxa")], false),
    ] {
        let mut request = get("http://example.com/");
        *request.headers_mut() = headers(values);
        assert_eq!(
            matched(wanted.clone(), &request).is_some(),
            expected,
            "{values:?}"
        );
    }
}

#[test]
fn path() {
    let wanted = exact("/foo/bar");
    assert_eq!(matched(wanted.clone(), &get("http://h/foo")), None);
    assert_eq!(
        matched(wanted, &get("https://h/foo/bar")),
        Some(PathMatched::Exact)
    );
}

#[test]
fn multiple() {
    let wanted = MatchRequest {
        path: Some(MatchPath::exact("/foo/bar").unwrap()),
        headers: vec![header("x-foo", "bar")],
        query_params: vec![param("foo", "bar")],
        method: Some(Method::GET),
    };
    let request = |method, uri, value| {
        Request::builder()
            .method(method)
            .uri(uri)
            .header("x-foo", value)
            .body(())
            .unwrap()
    };
    let uri = "https://example.org/foo/bar?foo=bar";
    let all = request(Method::GET, uri, "bar");
    assert_eq!(matched(wanted.clone(), &all), Some(PathMatched::Exact));
    for one_wrong in [
        request(Method::HEAD, uri, "bar"),
        request(Method::GET, "https://example.org/foo?foo=bar", "bar"),
        request(Method::GET, "https://example.org/foo/bar?foo=bah", "bar"),
        request(Method::GET, uri, "bah"),
    ] {
        assert_eq!(matched(wanted.clone(), &one_wrong), None, "{one_wrong:?}");
    }
}

// === hosts ===

#[test]
fn hosts() {
    let table: [(&str, &[&str], &[&str]); 5] = [
        // Exact.
        (
            "example.com",
            &["example.com", "example.com.", "EXAMPLE.com", "ExAmPlE.CoM."],
            &["foo.example.com", "example.org", "xexample.com", "com"],
        ),
        // Exact, case-insensitive.
        (
            "Example.COM",
            &["example.com", "EXAMPLE.com"],
            &["foo.EXAMPLE.com"],
        ),
        ("example.com.", &["example.com."], &["example.com"]),
        // Suffix, case-insensitive.
        (
            "*.Example.com",
            &[
                "foo.example.com",
                "foo.example.com.",
                "bar.foo.example.com",
                "FOO.ExAmPlE.CoM",
            ],
            &["example.com", "EXAMPLE.com.", "xexample.com", "foo.com"],
        ),
        (
            "*.example.com.",
            &["foo.example.com.", "bar.foo.example.com."],
            &["bar.foo.example.com", "example.com."],
        ),
    ];
    for (host, yes, no) in table {
        for (names, expected) in [(yes, true), (no, false)] {
            for name in names {
                let with_port = format!("{name}:8080");
                for name in [*name, &with_port] {
                    let by_uri = get(&format!("https://{name}/foo/bar"));
                    assert_eq!(for_host(host, &by_uri), expected, "{host} {name}");
                    let by_header = Request::get("/foo").header("host", name);
                    let by_header = by_header.body(()).unwrap();
                    assert_eq!(for_host(host, &by_header), expected, "{host} {name}");
                }
            }
        }
    }
}

#[test]
fn a_star_needs_a_label() {
    let by_header = |host| Request::get("/").header("host", host).body(()).unwrap();
    assert!(!for_host("*.example.com", &by_header(".example.com")));
    assert!(!for_host("*.example.com", &by_header("")));
}

#[test]
fn the_uri_goes_before_the_host_header() {
    let request = Request::get("http://a/").header("host", "b");
    let request = request.body(()).unwrap();
    assert!(for_host("a", &request));
    assert!(!for_host("b", &request));
}

#[test]
fn a_request_without_a_host_is_for_routes_without_hosts() {
    let mut unreadable = get("/");
    *unreadable.headers_mut() = headers(&[("host", b"a\xff")]);
    let mut with_user = get("/");
    *with_user.headers_mut() = headers(&[("host", b"x@a")]);
    for request in [get("/"), unreadable, with_user] {
        assert!(!for_host("a", &request));
        assert!(!for_host("*.a", &request));
        assert!(place(&[route(&[], [rule([])])], &request).is_some());
    }
}

#[test]
fn addresses_are_hosts_too() {
    for name in ["[::1]", "[::1]:80"] {
        let by_header = Request::get("/").header("host", name).body(()).unwrap();
        assert!(for_host("[::1]", &by_header));
        assert!(for_host("[::1]", &get(&format!("http://{name}/"))));
    }
}

#[test]
fn a_suffix_without_labels_is_every_host() {
    // Cannot be parsed, but written.
    let mut any = route(&[], [rule([])]);
    any.hosts = vec![MatchHost::Suffix {
        reverse_labels: Vec::new(),
    }];
    assert!(find_in(std::slice::from_ref(&any), &get("http://a/")).is_some());
    assert!(find_in(&[any], &get("/")).is_none());
}

// === headers ===

#[test]
fn headers_exact() {
    let wanted = MatchRequest {
        headers: vec![header("foo", "bar")],
        ..MatchRequest::default()
    };
    for (values, expected) in [
        (&[("foo", &b"bar"[..])][..], true),
        (&[("foo", b"bah"), ("foo", b"bar"), ("foo", b"baz")], true),
        (&[("foo", b"bah")], false),
        (&[("foo", b"bar, baz")], false),
        (&[("bar", b"bar")], false),
    ] {
        let mut request = get("/");
        *request.headers_mut() = headers(values);
        assert_eq!(
            matched(wanted.clone(), &request).is_some(),
            expected,
            "{values:?}"
        );
    }
}

#[test]
fn headers_regex() {
    for (pattern, values, expected) in [
        ("bar*", &[("foo", &b"bar"[..])][..], true),
        (
            "bar*",
            &[("foo", b"bahh"), ("foo", b"barr"), ("foo", b"bazz")],
            true,
        ),
        ("bar*", &[("foo", b"bah")], false),
        ("bar*", &[("foo", b"barro")], false),
        // Anchored as a whole: the mesh's leftmost match would be `a`.
        ("a|ab", &[("foo", b"ab")], true),
        // UTF-8 is text, other bytes are not.
        (".*", &[("foo", "\u{e9}".as_bytes())], true),
        (".*", &[("foo", b"\xff")], false),
    ] {
        let wanted = MatchRequest {
            headers: vec![header_regex("foo", pattern)],
            ..MatchRequest::default()
        };
        let mut request = get("/");
        *request.headers_mut() = headers(values);
        assert_eq!(
            matched(wanted, &request).is_some(),
            expected,
            "{pattern} {values:?}"
        );
    }
}

// === paths ===

#[test]
fn path_exact() {
    for (path, expected) in [
        ("/foo/bar", Some(PathMatched::Exact)),
        ("/foo", None),
        ("/foo/bah", None),
        ("/foo/bar/", None),
        ("/foo/bar/qux", None),
    ] {
        assert_eq!(matched(exact("/foo/bar"), &get(path)), expected, "{path}");
    }
}

#[test]
fn path_prefix() {
    for (wanted, length) in [("/", 1), ("/foo", 4), ("/foo/", 4), ("/foo//", 4)] {
        let below = Some(PathMatched::Prefix(length));
        for path in ["/foo", "/foo/", "/foo/bar", "/foo/bar/qux", "/foo?x=y"] {
            assert_eq!(
                matched(prefix(wanted), &get(path)),
                below,
                "{wanted} {path}"
            );
        }
        let beside = (length == 1).then_some(PathMatched::Prefix(1));
        for path in ["/foobar", "/fo", "/FOO", "/"] {
            assert_eq!(
                matched(prefix(wanted), &get(path)),
                beside,
                "{wanted} {path}"
            );
        }
    }
}

#[test]
fn path_regex() {
    let wanted = regex(r"/foo/\d+");
    for path in ["/foo/4", "/foo/4321", "/foo/4?x=y"] {
        assert_eq!(
            matched(wanted.clone(), &get(path)),
            Some(PathMatched::Regex),
            "{path}"
        );
    }
    for path in ["/bar/foo/4", "/foo/4abc", "/foo/4/bar", "/foo/bar"] {
        assert_eq!(matched(wanted.clone(), &get(path)), None, "{path}");
    }
    let either = regex("/a|/ab");
    assert!(
        matched(either, &get("/ab")).is_some(),
        "anchored as a whole"
    );
}

// === query ===

fn query(wanted: MatchQueryParam, uri: &str) -> bool {
    let wanted = MatchRequest {
        query_params: vec![wanted],
        ..MatchRequest::default()
    };
    matched(wanted, &get(uri)).is_some()
}

#[test]
fn query_param_exact() {
    for (name, value, uri, expected) in [
        ("foo", "bar", "/?foo=bar", true),
        ("foo", "bar", "/?foo=bar&fah=bah", true),
        ("foo", "bar", "/?fah=bah&foo=bar", true),
        ("foo", "bar", "/?foo=bah&foo=bar", true),
        ("foo", "bar", "/?&&foo=bar&", true),
        ("foo", "bar", "/?foo=bah", false),
        ("foo", "bar", "/?foo=barr", false),
        ("foo", "bar", "/?foo=ba", false),
        ("foo", "bar", "/", false),
        ("foo", "", "/?foo", true),
        ("foo", "", "/?foo=", true),
        ("foo", "", "/?foo=bah", false),
        ("foo", "", "/?bar=foo", false),
        // Form-decoded, names too; only the first `=` separates.
        ("f o", "b r", "/?f+o=b%20r", true),
        ("foo", "a=b", "/?foo=a=b", true),
        ("foo", "a&b", "/?foo=a%26b", true),
        ("foo", "\u{e9}", "/?foo=%C3%a9", true),
        // What is not an escape stands for itself.
        ("foo", "100%", "/?foo=100%", true),
        ("foo", "%zz", "/?foo=%zz", true),
        ("foo", "%2", "/?foo=%2", true),
        // Not UTF-8.
        ("foo", "\u{fffd}", "/?foo=%ff", false),
    ] {
        assert_eq!(
            query(param(name, value), uri),
            expected,
            "{name}={value} {uri}"
        );
    }
}

#[test]
fn query_param_regex() {
    for (pattern, uri, expected) in [
        ("bar*", "/?foo=bar", true),
        ("bar*", "/?foo=ba&fah=bah", true),
        ("bar*", "/?foo=barr&fah=bah", true),
        ("bar*", "/?bar=foo&foo=bar", true),
        ("bar*", "/?foo=bah&foo=bar", true),
        ("bar*", "/?foo=bah", false),
        ("bar*", "/?bar=foo", false),
        ("bar*", "/?foo=barro", false),
        ("bar/.+", "/?foo=bar%2Fhi", true),
        ("bar/.+", "/?foo=bah%20hi", false),
        ("a b", "/?foo=a+b", true),
        (".*", "/?foo", true),
        (".*", "/", false),
        (".*", "/?foo=%ff", false),
        (".*", "/?foo=%ff&foo=", true),
    ] {
        assert_eq!(
            query(param_regex("foo", pattern), uri),
            expected,
            "{pattern} {uri}"
        );
    }
}
