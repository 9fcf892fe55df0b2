use http::{HeaderName, HeaderValue, Method};
use proptest::prelude::*;

use super::*;

#[test]
fn hosts() {
    let exact = |host: &str| Some(MatchHost::Exact(host.to_owned()));
    let suffix = |labels: &[&str]| {
        Some(MatchHost::Suffix {
            reverse_labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        })
    };
    for (host, expected) in [
        ("example.com", exact("example.com")),
        ("Example.COM", exact("Example.COM")),
        ("example.com.", exact("example.com.")),
        ("localhost", exact("localhost")),
        ("my_service.shop", exact("my_service.shop")),
        ("10.0.0.1", exact("10.0.0.1")),
        ("*.example.com", suffix(&["com", "example"])),
        ("*.example.com.", suffix(&["", "com", "example"])),
        ("*.com", suffix(&["com"])),
        ("", None),
        (".", None),
        ("*", None),
        ("*.", None),
        ("*..", None),
        (".com", None),
        ("a..com", None),
        ("example.com..", None),
        ("*.*.com", None),
        ("a.*.com", None),
        ("*a.com", None),
        ("**.com", None),
        // These would never match, since a port is not part of a host.
        ("example.com:80", None),
        ("example.com:", None),
        ("*.example.com:80", None),
        ("user@example.com", None),
        ("http://example.com", None),
        ("a b.com", None),
        ("a/b", None),
        ("\u{e9}.com", None),
    ] {
        let made = MatchHost::parse(host);
        check(made.clone(), expected.is_none().then_some("hostname"));
        assert_eq!(made.ok(), expected, "{host}");
    }
}

#[test]
fn paths() {
    for (path, valid) in [
        ("/", true),
        ("/a", true),
        ("//", true),
        ("", false),
        ("a", false),
        ("*", false),
        (" /", false),
    ] {
        let exact = MatchPath::exact(path);
        check(exact.clone(), (!valid).then_some("match.path.exact"));
        let prefix = MatchPath::prefix(path);
        check(prefix.clone(), (!valid).then_some("match.path.prefix"));
        if valid {
            assert_eq!(exact, Ok(MatchPath::Exact(path.to_owned())));
            assert_eq!(prefix, Ok(MatchPath::Prefix(path.to_owned())));
        }
    }
    check(MatchPath::regex("/a.*"), None);
    check(MatchPath::regex("("), Some("pattern"));
}

#[test]
fn patterns_match_from_beginning_to_end() {
    for (pattern, yes, no) in [
        ("", &[""][..], &["a", "\n"][..]),
        ("a", &["a"], &["", "aa", "ba", "ab", "a\n"]),
        // The first alternative must not end the search.
        ("a|ab", &["a", "ab"], &["b", "abb", "ba"]),
        ("|a", &["", "a"], &["aa"]),
        ("a*?", &["", "a", "aaa"], &["b"]),
        // Anchors of its own change nothing.
        ("^a$", &["a"], &["ab", "ba", "a\n"]),
        (r"\Aa\z", &["a"], &["ab"]),
        ("(?m)^a$", &["a"], &["a\nb", "b\na"]),
        ("(?m)a$", &["a"], &["a\n", "a\nb"]),
        // Flags end with the pattern.
        ("(?i)a", &["a", "A"], &["AB"]),
        ("a|(?i)b", &["a", "B"], &["A"]),
        ("(?U)a*", &["", "aa"], &["ab"]),
        ("(?s).", &["\n"], &["", "\n\n"]),
        // Verbose mode: white space says nothing, and a comment may stand at the end.
        ("(?x) a b ", &["ab"], &["a b", "ab "]),
        ("(?x)a #comment", &["a"], &["a #comment", "a\n", "ab", "ba"]),
        ("(?x)a|ab # )", &["a", "ab"], &["b", "abb"]),
        ("(?x)a # one\n b # two", &["ab"], &["a", "ab\n"]),
        ("(?x)#", &[""], &["#", "\n"]),
        ("a(?x) #", &["a"], &["a ", "a #"]),
        // A scope that ends takes its comments along.
        ("(?x: a #c\n)#", &["a#"], &["a"]),
        ("a#b", &["a#b"], &["a"]),
        ("\u{e9}+", &["\u{e9}\u{e9}"], &["e"]),
    ] {
        let made = Pattern::new(pattern).unwrap();
        assert_eq!(made.as_str(), pattern);
        for value in yes {
            assert!(made.matches(value), "{pattern:?} {value:?}");
        }
        for value in no {
            assert!(!made.matches(value), "{pattern:?} {value:?}");
        }
    }
}

#[test]
fn invalid_patterns() {
    for pattern in [
        "a)(b",
        "(",
        ")",
        "a)|(?:b",
        "[",
        "*",
        r"\",
        "(?x)( #",
        "(?x: a #comment",
        "(?z)a",
        r"(a)\1",
        "(?=a)",
        // Too large to be compiled.
        "(a{1000}){1000}",
    ] {
        check(Pattern::new(pattern), Some("pattern"));
    }
}

#[test]
fn patterns_are_compared_by_their_text() {
    let pattern = |text| Pattern::new(text).unwrap();
    assert_eq!(pattern("a|b"), pattern("a|b"));
    all_differ([pattern("a|b"), pattern("b|a"), pattern("[ab]")]);
    assert_eq!(format!("{:?}", pattern("a")), "Pattern(\"a\")");
}

#[test]
fn matches_are_values() {
    let name = HeaderName::from_static("x");
    let header = |value| MatchRequest {
        headers: vec![MatchHeader {
            name: name.clone(),
            value,
        }],
        ..MatchRequest::default()
    };
    let param = |value| MatchRequest {
        query_params: vec![MatchQueryParam {
            name: "x".to_owned(),
            value,
        }],
        ..MatchRequest::default()
    };
    let path = |path| MatchRequest {
        path: Some(path),
        ..MatchRequest::default()
    };
    let pattern = Pattern::new("/a").unwrap();
    all_differ([
        MatchRequest::default(),
        MatchRequest {
            method: Some(Method::GET),
            ..MatchRequest::default()
        },
        path(MatchPath::exact("/a").unwrap()),
        path(MatchPath::prefix("/a").unwrap()),
        path(MatchPath::Regex(pattern.clone())),
        header(MatchHeaderValue::Exact(HeaderValue::from_static("/a"))),
        header(MatchHeaderValue::Regex(pattern.clone())),
        param(MatchQueryValue::Exact("/a".to_owned())),
        param(MatchQueryValue::Regex(pattern)),
    ]);
    all_differ(["a.b", "*.a.b", "a.b."].map(|host| MatchHost::parse(host).unwrap()));
}

proptest! {
    #[test]
    fn no_host_panics(host in "\\PC{0,20}") {
        let _ = MatchHost::parse(&host);
    }

    /// Anchoring changes neither what is a pattern nor what it means.
    #[test]
    fn a_pattern_matches_where_a_match_spans_the_value(
        text in "(\\(\\?x\\))?[ab|()?*#\\n \\[\\]]{0,10}",
        value in "[ab#\\n ]{0,4}",
    ) {
        let alone = regex::Regex::new(&text);
        let made = Pattern::new(&text);
        prop_assert_eq!(alone.is_ok(), made.is_ok());
        if let (Ok(alone), Ok(made)) = (alone, made) {
            // Leftmost-first misses some spans, but never invents one.
            let spans = alone.find(&value).is_some_and(|found| found.len() == value.len());
            prop_assert!(!spans || made.matches(&value));
            prop_assert!(!made.matches(&value) || alone.is_match(&value));
        }
    }
}
