use http::StatusCode;
use http::uri::Scheme;

use super::*;
use crate::policy::{Filter, ModifyPath, RedirectRequest};
use crate::route::{Filtered, InvalidFilter, filter_request};

/// Where a request goes that falls under `wanted`; `None` if nowhere else.
fn redirected<B>(
    redirect: RedirectRequest,
    wanted: MatchRequest,
    request: &Request<B>,
) -> Result<Option<(u16, String)>, InvalidFilter> {
    let path = matched(wanted, request).expect("must match");
    let mut headers = request.headers().clone();
    let filters = [Filter::Redirect(redirect)];
    match filter_request(&filters, request.uri(), &mut headers, path, || 0) {
        Ok(()) => Ok(None),
        Err(Filtered::Redirect { status, location }) => {
            Ok(Some((status.as_u16(), location.to_string())))
        }
        Err(Filtered::Invalid(why)) => Err(why),
        Err(other) => panic!("{other:?}"),
    }
}

fn moved(redirect: RedirectRequest, uri: &str) -> Option<String> {
    moved_under(redirect, MatchRequest::default(), uri)
}

fn moved_under(redirect: RedirectRequest, wanted: MatchRequest, uri: &str) -> Option<String> {
    let (status, location) = redirected(redirect, wanted, &get(uri)).expect("must apply")?;
    assert_eq!(status, 301);
    Some(location)
}

fn to() -> RedirectRequest {
    RedirectRequest::new()
}

fn with(
    mut redirect: RedirectRequest,
    change: impl FnOnce(&mut RedirectRequest),
) -> RedirectRequest {
    change(&mut redirect);
    redirect
}

fn to_host(host: &str) -> RedirectRequest {
    to().with_host(host).unwrap()
}

fn to_port(port: u16) -> RedirectRequest {
    with(to(), |redirect| redirect.port = Some(port))
}

fn to_path(path: &str) -> RedirectRequest {
    with(to(), |redirect| {
        redirect.path = Some(ModifyPath::ReplaceFullPath(path.to_owned()))
    })
}

fn to_prefix(prefix: &str) -> RedirectRequest {
    with(to(), |redirect| {
        redirect.path = Some(ModifyPath::ReplacePrefixMatch(prefix.to_owned()))
    })
}

fn https(redirect: RedirectRequest) -> RedirectRequest {
    with(redirect, |redirect| redirect.scheme = Some(Scheme::HTTPS))
}

#[track_caller]
fn leads(location: Option<String>, expected: &str) {
    assert_eq!(location.as_deref(), Some(expected));
}

#[test]
fn default_noop() {
    for uri in [
        "http://example.com/foo",
        "http://example.com",
        "http://example.com?a",
        "https://user@example.com:443/foo?",
    ] {
        assert_eq!(moved(to(), uri), None, "{uri}");
    }
}

#[test]
fn noop_where_the_location_is_the_requests_own() {
    for redirect in [
        to_host("example.com"),
        to_host("EXAMPLE.com"),
        to_port(80),
        to_path("/foo?a=b"),
        to_prefix("/"),
        with(to(), |redirect| redirect.scheme = Some(Scheme::HTTP)),
    ] {
        let uri = "http://example.com/foo?a=b";
        assert_eq!(moved(redirect.clone(), uri), None, "{redirect:?}");
        // A URI that is not complete is completed first.
        let request = Request::get("/foo?a=b").header("host", "example.com");
        let request = request.body(()).unwrap();
        let outcome = redirected(redirect, MatchRequest::default(), &request);
        assert_eq!(outcome, Ok(None));
    }
}

#[test]
fn host() {
    let query = "http://example.com/foo?a=b&c";
    leads(
        moved(to_host("example.org"), query),
        "http://example.org/foo?a=b&c",
    );
    leads(
        moved(to_host("example.org"), "http://user@example.com:8080/"),
        "http://example.org:8080/",
    );
    leads(
        moved(to_host("example.org"), "http://example.com:80/"),
        "http://example.org/",
    );
    leads(
        moved(to_host("[::1]"), "http://example.com:81/"),
        "http://[::1]:81/",
    );
}

#[test]
fn port() {
    leads(
        moved(to_port(8080), "http://example.com/foo?a=b&c"),
        "http://example.com:8080/foo?a=b&c",
    );
    assert_eq!(moved(to_port(8080), "http://example.com:8080/"), None);
    assert_eq!(moved(to_port(0), "http://example.com:8080/"), None);
    let both = with(to_host("example.org"), |redirect| {
        redirect.port = Some(8080)
    });
    leads(
        moved(both, "http://example.com:81/"),
        "http://example.org:8080/",
    );
}

#[test]
fn port_default_is_omitted() {
    let uri = "http://example.com:8080/foo?a=b&c";
    leads(moved(to_port(80), uri), "http://example.com/foo?a=b&c");
    leads(
        moved(https(to_port(443)), uri),
        "https://example.com/foo?a=b&c",
    );
    leads(
        moved(https(to_port(80)), uri),
        "https://example.com:80/foo?a=b&c",
    );
    // The mesh writes the port out here, and redirects the request that comes of it once more, for ever.
    let both = with(to_host("example.org"), |redirect| redirect.port = Some(80));
    leads(moved(both.clone(), uri), "http://example.org/foo?a=b&c");
    assert_eq!(moved(both, "http://example.org/foo?a=b&c"), None);
}

#[test]
fn replace_path_full() {
    leads(
        moved(to_path("/bar"), "http://example.com/foo"),
        "http://example.com/bar",
    );
}

#[test]
fn replace_path_full_overwrites_query_params() {
    leads(
        moved(to_path("/bar"), "http://example.com/foo?a=b&c=d"),
        "http://example.com/bar",
    );
}

#[test]
fn replace_path_full_with_query_params() {
    for uri in ["http://example.com/foo", "http://example.com/foo?x=y"] {
        leads(
            moved(to_path("/bar?a=b&c"), uri),
            "http://example.com/bar?a=b&c",
        );
    }
}

#[test]
fn replace_path_prefix() {
    for (wanted, new, path, expected) in [
        ("/foo", "/qux", "/foo/bar", "/qux/bar"),
        ("/foo", "/qux", "/foo", "/qux"),
        ("/foo", "/qux", "/foo/", "/qux/"),
        // replace_path_prefix_with_query_params
        ("/foo", "/qux", "/foo/bar?a=b&c", "/qux/bar?a=b&c"),
        // replace_path_prefix_root_match
        ("/", "/qux", "/foo/bar", "/qux/foo/bar"),
        ("/", "/qux", "/", "/qux"),
        // replace_path_prefix_trailing_slash
        ("/foo/", "/qux", "/foo/bar", "/qux/bar"),
        // One slash at the seam, as Gateway API says.
        ("/foo", "/qux/", "/foo/bar", "/qux/bar"),
        ("/foo", "/", "/foo/bar", "/bar"),
        ("/foo", "", "/foo/bar", "/bar"),
        ("/foo", "", "/foo", "/"),
    ] {
        let uri = format!("http://example.com{path}");
        let expected = format!("http://example.com{expected}");
        leads(moved_under(to_prefix(new), prefix(wanted), &uri), &expected);
    }
}

#[test]
fn replace_path_prefix_default_match() {
    let uri = "http://example.com/foo/bar";
    leads(
        moved(to_prefix("/qux"), uri),
        "http://example.com/qux/foo/bar",
    );
}

#[test]
fn replace_path_prefix_exact_match() {
    let request = get("http://example.com/foo/bar");
    for wanted in [exact("/foo/bar"), regex("/foo/.*")] {
        let outcome = redirected(to_prefix("/qux"), wanted, &request);
        assert_eq!(outcome, Err(InvalidFilter::NoPrefixMatched));
    }
}

#[test]
fn scheme() {
    leads(
        moved(https(to()), "http://example.com/foo?a=b&c"),
        "https://example.com/foo?a=b&c",
    );
}

#[test]
fn status() {
    let redirect = https(to())
        .with_status(StatusCode::TEMPORARY_REDIRECT)
        .unwrap();
    let request = get("http://example.com/foo?a=b&c");
    assert_eq!(
        redirected(redirect, MatchRequest::default(), &request),
        Ok(Some((307, "https://example.com/foo?a=b&c".to_owned())))
    );
}

#[test]
fn a_uri_without_authority_is_completed_by_the_host_header() {
    let request = Request::get("/foo?a=b").header("host", "example.com:8080");
    let request = request.body(()).unwrap();
    assert_eq!(
        redirected(to_path("/bar"), MatchRequest::default(), &request),
        Ok(Some((301, "http://example.com:8080/bar".to_owned())))
    );
}

#[test]
fn forms_without_a_path_are_the_root() {
    let connect = Request::connect("example.com:443").body(()).unwrap();
    let options = Request::options("*").header("host", "example.com:443");
    for request in [connect, options.body(()).unwrap()] {
        assert_eq!(
            redirected(to_prefix("/qux"), MatchRequest::default(), &request),
            Ok(Some((301, "http://example.com:443/qux".to_owned())))
        );
    }
}

#[test]
fn invalid() {
    let any = MatchRequest::default;
    let here = get("http://example.com/foo");
    for path in ["bar", "", "?a", "*"] {
        let outcome = redirected(to_path(path), any(), &here);
        assert!(matches!(outcome, Err(InvalidFilter::Path { .. })), "{path}");
    }
    let spaced = redirected(to_path("/a b"), any(), &here);
    assert!(matches!(spaced, Err(InvalidFilter::Path { .. })));
    let relative = redirected(to_prefix("qux"), any(), &here);
    assert!(matches!(relative, Err(InvalidFilter::Path { .. })));
    // Written without `with_host`.
    for host in ["a b", "a/b", "", "@", "u@a", "a:80", "a:80:90"] {
        let redirect = with(to(), |redirect| redirect.host = Some(host.to_owned()));
        let outcome = redirected(redirect, any(), &here);
        assert!(matches!(outcome, Err(InvalidFilter::Host { .. })), "{host}");
    }
    for redirect in [to(), to_port(80), to_path("/bar")] {
        let outcome = redirected(redirect, any(), &get("/foo"));
        assert_eq!(outcome, Err(InvalidFilter::NoHost));
    }
    leads(moved(to_host("a"), "/foo"), "http://a/foo");
    // A `Host` header that is more than a host leads nowhere.
    for host in ["evil/path", "x@evil", "a b", ""] {
        let request = Request::get("/foo").header("host", host).body(()).unwrap();
        let outcome = redirected(to_path("/bar"), any(), &request);
        assert_eq!(outcome, Err(InvalidFilter::NoHost), "{host}");
    }
    let long = format!("/{}", "a".repeat(70_000));
    let outcome = redirected(to_path(&long), any(), &here);
    assert!(matches!(outcome, Err(InvalidFilter::Path { .. })));
}
