use std::cmp::Reverse;

use http::Method;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::policy::{Filter, InjectFailure, ModifyHeader, ModifyPath, Ratio, RedirectRequest};
use crate::route::{Filtered, filter_request, filter_response};

// === the model: every candidate, sorted by the documented key ===

fn model<B>(routes: &[Route], request: &Request<B>) -> Option<(usize, usize, PathMatched)> {
    let mut candidates = Vec::new();
    for (r, route) in routes.iter().enumerate() {
        let mut hosts: Vec<(u8, usize)> = route
            .hosts
            .iter()
            .filter_map(|host| model_host(host, request))
            .collect();
        if route.hosts.is_empty() {
            hosts.push((0, 0));
        }
        for host in hosts {
            for (u, rule) in route.rules.iter().enumerate() {
                let mut matches = rule.matches.clone();
                if matches.is_empty() {
                    matches.push(MatchRequest::default());
                }
                for (m, wanted) in matches.iter().enumerate() {
                    if let Some((length, path)) = model_match(wanted, request) {
                        let key = (
                            host,
                            length,
                            wanted.headers.len(),
                            wanted.query_params.len(),
                            wanted.method.is_some(),
                            Reverse((r, u, m)),
                        );
                        candidates.push((key, path));
                    }
                }
            }
        }
    }
    candidates.sort_by_key(|(key, _)| *key);
    let ((.., Reverse((r, u, _))), path) = candidates.pop()?;
    Some((r, u, path))
}

fn model_host<B>(wanted: &MatchHost, request: &Request<B>) -> Option<(u8, usize)> {
    let from_header = || {
        let host = request.headers().get("host")?.to_str().ok()?;
        host.parse::<http::uri::Authority>().ok()
    };
    let authority = request.uri().authority().cloned().or_else(from_header)?;
    let full = authority.host().to_ascii_lowercase();
    let short = full.trim_end_matches('.');
    match wanted {
        MatchHost::Exact(wanted) => {
            let wanted = wanted.to_ascii_lowercase();
            (wanted == full || wanted == short).then_some((2, wanted.len()))
        }
        MatchHost::Suffix { reverse_labels } => {
            let mut labels = reverse_labels.clone();
            labels.reverse();
            let end = format!(".{}", labels.join(".").to_ascii_lowercase());
            (full.ends_with(&end) || short.ends_with(&end)).then_some((1, end.len()))
        }
    }
}

fn model_match<B>(wanted: &MatchRequest, request: &Request<B>) -> Option<(usize, PathMatched)> {
    let path = request.uri().path();
    let (length, matched) = match &wanted.path {
        None => (1, PathMatched::Prefix(1)),
        Some(MatchPath::Exact(exact)) if exact == path => (path.len(), PathMatched::Exact),
        Some(MatchPath::Regex(pattern)) if pattern.matches(path) => {
            (path.len(), PathMatched::Regex)
        }
        Some(MatchPath::Prefix(prefix)) => {
            let prefix: Vec<&str> = prefix.trim_matches('/').split('/').collect();
            let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
            if prefix == [""] {
                (1, PathMatched::Prefix(1))
            } else if segments.starts_with(&prefix) {
                let length = prefix.iter().map(|segment| segment.len() + 1).sum();
                (length, PathMatched::Prefix(length))
            } else {
                return None;
            }
        }
        _ => return None,
    };
    let headers = wanted.headers.iter().all(|wanted| {
        let MatchHeaderValue::Exact(value) = &wanted.value else {
            unreachable!()
        };
        let mut all = request.headers().get_all(&wanted.name).iter();
        all.any(|found| found == value)
    });
    let query = wanted.query_params.iter().all(|wanted| {
        let MatchQueryValue::Exact(value) = &wanted.value else {
            unreachable!()
        };
        let mut all = request.uri().query().unwrap_or("").split('&');
        // The strategy encodes one letter only.
        all.any(|pair| pair.replace("%61", "a") == format!("{}={value}", wanted.name))
    });
    let method = wanted.method.as_ref();
    (headers && query && method.is_none_or(|method| method == request.method()))
        .then_some((length, matched))
}

// === strategies: few words, so that things meet ===

fn wanted() -> impl Strategy<Value = MatchRequest> {
    let path = prop_oneof![
        2 => Just(None),
        2 => select(vec!["/", "/a", "/a/", "/a/b", "/b"]).prop_map(|p| MatchPath::prefix(p).ok()),
        2 => select(vec!["/", "/a", "/a/b"]).prop_map(|p| MatchPath::exact(p).ok()),
        1 => select(vec!["/.*", "/a|/a/b", "/[ab]"]).prop_map(|p| MatchPath::regex(p).ok()),
    ];
    let headers = vec((select(vec!["x", "y"]), select(vec!["1", "2"])), 0..3);
    let query = vec((select(vec!["a", "b"]), select(vec!["a", "b"])), 0..3);
    let method = select(vec![None, Some(Method::GET), Some(Method::PUT)]);
    (path, headers, query, method).prop_map(|(path, headers, query, method)| MatchRequest {
        path,
        headers: headers.into_iter().map(|(n, v)| header(n, v)).collect(),
        query_params: query.into_iter().map(|(n, v)| param(n, v)).collect(),
        method,
    })
}

fn routes() -> impl Strategy<Value = Vec<Route>> {
    let host = select(vec!["h", "a.h", "A.h.", "b.a.h", "*.h", "*.H.", "*.a.h"]);
    let rule_ = vec(wanted(), 0..3).prop_map(rule);
    let route_ = (vec(host, 0..3), vec(rule_, 0..3)).prop_map(|(h, rules)| route(&h, rules));
    vec(route_, 0..5)
}

fn request() -> impl Strategy<Value = Request<()>> {
    let host = select(vec!["", "h", "a.h", "a.h.", "B.a.h", "a.h:80", "other"]);
    let path = select(vec!["/", "/a", "/a/", "/a/b", "/ab", "/b", "/a/b/c"]);
    let query = select(vec!["", "?a=a", "?b=a&a=b", "?%61=%61&b=b", "?a&a=a"]);
    let headers = vec((select(vec!["x", "y"]), select(vec!["1", "2"])), 0..4);
    let method = select(vec![Method::GET, Method::PUT]);
    (host, any::<bool>(), path, query, headers, method).prop_map(
        |(host, in_uri, path, query, headers, method)| {
            let mut builder = Request::builder().method(method);
            builder = if host.is_empty() {
                builder.uri(format!("{path}{query}"))
            } else if in_uri {
                builder.uri(format!("http://{host}{path}{query}"))
            } else {
                let uri = format!("{path}{query}");
                builder.uri(uri).header("host", host)
            };
            for (name, value) in headers {
                builder = builder.header(name, value);
            }
            builder.body(()).unwrap()
        },
    )
}

/// Every filter, the parts at odds with each other.
fn filters(text: &str, path: &str, port: u16, ppm: u32) -> Vec<Filter> {
    let changes = [
        None,
        Some(ModifyPath::ReplaceFullPath(path.to_owned())),
        Some(ModifyPath::ReplacePrefixMatch(path.to_owned())),
    ];
    let mut filters: Vec<_> = changes
        .into_iter()
        .map(|change| {
            let mut redirect = RedirectRequest::new();
            redirect.host = Some(text.to_owned()).filter(|text| !text.is_empty());
            redirect.port = Some(port);
            redirect.path = change;
            Filter::Redirect(redirect)
        })
        .collect();
    let ratio = Ratio::parts_per_million(ppm).unwrap();
    let failure = InjectFailure::new(http::StatusCode::OK, text, ratio).unwrap();
    filters.push(Filter::InjectFailure(failure));
    if let Ok(value) = HeaderValue::from_str(text) {
        let change = ModifyHeader {
            add: vec![(HeaderName::from_static("x"), value)],
            ..ModifyHeader::default()
        };
        filters.push(Filter::RequestHeaders(change.clone()));
        filters.push(Filter::ResponseHeaders(change));
    }
    filters
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn find_equals_the_model(routes in routes(), request in request()) {
        let found = find_in(&routes, &request);
        let found = found.map(|f| (f.route_index, f.rule_index, f.path));
        prop_assert_eq!(found, model(&routes, &request));
    }

    #[test]
    fn found_is_the_rule_at_its_indices(routes in routes(), request in request()) {
        if let Some(found) = find_in(&routes, &request) {
            let rule = &routes[found.route_index].rules[found.rule_index];
            prop_assert!(std::ptr::eq(rule, found.rule));
        }
    }

    #[test]
    fn nothing_panics(
        uri in prop_oneof![
            "[ -~]{0,40}",
            "(https?://)?[a-zA-Z0-9.:@\\[\\]*-]{0,12}(/[a-z%+.\u{e9}/]{0,8}){0,3}(\\?[a-z%+=&0-9\u{e9}]{0,16})?",
            "\\PC{0,20}",
        ],
        host_header in vec(any::<u8>(), 0..12),
        text in "[a-z.:@\\[\\]/? \u{e9}-]{0,8}",
        path in "/?[a-z/?#% \u{e9}]{0,8}",
        port in any::<u16>(),
        ppm in 0..=1_000_000_u32,
        word in any::<u64>(),
        length in prop_oneof![0..20_usize, Just(usize::MAX)],
    ) {
        let Ok(uri) = uri.parse::<http::Uri>() else { return Ok(()) };
        let mut request = Request::new(());
        *request.uri_mut() = uri;
        if let Ok(value) = HeaderValue::from_bytes(&host_header) {
            request.headers_mut().insert("host", value);
        }
        let mut odd = route(&["h", "*.h", "*.h."], [rule([
            prefix("/"),
            exact("/"),
            regex(".*"),
            MatchRequest { query_params: vec![param("a", "b"), param_regex("a", ".*")], ..prefix("/a") },
        ])]);
        odd.hosts.push(MatchHost::Exact(text.clone()));
        odd.hosts.push(MatchHost::Suffix { reverse_labels: vec![text.clone(), String::new()] });
        odd.rules[0].matches.push(with_path(MatchPath::Prefix(path.clone())));
        let _ = find_in(std::slice::from_ref(&odd), &request);
        odd.hosts.clear();
        let found = find_in(&[odd], &request).map(|found| found.path);

        for filter in filters(&text, &path, port, ppm) {
            for matched in [found, Some(PathMatched::Prefix(length)), Some(PathMatched::Regex)] {
                let Some(matched) = matched else { continue };
                let mut headers = request.headers().clone();
                let filters = std::slice::from_ref(&filter);
                let done = filter_request(filters, request.uri(), &mut headers, matched, || word);
                if let Err(Filtered::Redirect { location, .. }) = done {
                    prop_assert!(location.scheme().is_some());
                    prop_assert!(location.host().is_some_and(|host| !host.is_empty()));
                    prop_assert!(location.path().starts_with('/'));
                    // What a client would be sent can be read back.
                    prop_assert_eq!(location.to_string().parse::<http::Uri>().ok(), Some(location));
                }
                filter_response(filters, &mut headers);
            }
        }
    }

    #[test]
    fn a_redirect_leads_somewhere_else_at_most_once(
        host in "[a-c]{0,1}",
        port in select(vec![None, Some(80), Some(443), Some(8080)]),
        https in any::<bool>(),
        path in select(vec![None, Some("/x"), Some("/x?y")]),
        from in "https?://[a-c](:80|:443|:8080)?/[xy]?(\\?[yz])?",
    ) {
        let mut redirect = RedirectRequest::new();
        redirect.host = Some(host).filter(|host| !host.is_empty());
        redirect.port = port;
        redirect.scheme = https.then_some(http::uri::Scheme::HTTPS);
        redirect.path = path.map(|path| ModifyPath::ReplaceFullPath(path.to_owned()));
        let filters = [Filter::Redirect(redirect)];
        let go = |uri: &http::Uri| {
            let headers = &mut HeaderMap::new();
            match filter_request(&filters, uri, headers, PathMatched::Prefix(1), || 0) {
                Err(Filtered::Redirect { location, .. }) => Some(location),
                other => { assert_eq!(other, Ok(())); None }
            }
        };
        if let Some(location) = go(&from.parse().unwrap()) {
            prop_assert_eq!(go(&location), None);
        }
    }
}
