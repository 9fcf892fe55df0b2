use std::cmp::Reverse;

use http::Method;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::policy::{
    GrpcFilter, GrpcRoute, GrpcRule, InjectGrpcFailure, MatchRpc, ModifyHeader, Ratio,
};
use crate::route::{Filtered, filter_request, filter_response};

fn grpc_rule(matches: impl IntoIterator<Item = MatchRpc>) -> GrpcRule {
    Rule {
        matches: matches.into_iter().collect(),
        policy: RoutePolicy::new(Meta::default_named("test"), RouteDistribution::empty()),
    }
}

fn grpc_route(hosts: &[&str], rules: impl IntoIterator<Item = GrpcRule>) -> GrpcRoute {
    Route {
        hosts: hosts.iter().map(|h| MatchHost::parse(h).unwrap()).collect(),
        rules: rules.into_iter().collect(),
    }
}

fn rpc(service: Option<&str>, method: Option<&str>) -> MatchRpc {
    MatchRpc {
        service: service.map(str::to_owned),
        method: method.map(str::to_owned),
        headers: Vec::new(),
    }
}

fn call(path: &str) -> Request<()> {
    Request::post(format!("http://h{path}")).body(()).unwrap()
}

/// Route and rule.
fn find_rpc<B>(routes: &[GrpcRoute], request: &Request<B>) -> Option<(usize, usize)> {
    let found = find(routes, request.method(), request.uri(), request.headers());
    found.map(|found| (found.route_index, found.rule_index))
}

fn takes(wanted: MatchRpc, request: &Request<()>) -> bool {
    find_rpc(&[grpc_route(&[], [grpc_rule([wanted])])], request).is_some()
}

#[test]
fn a_call_is_a_post_to_a_service_and_a_method() {
    let any = || rpc(None, None);
    assert!(takes(any(), &call("/a.B/C")));
    // The mesh does not look at what comes after.
    assert!(takes(rpc(Some("a.B"), Some("C")), &call("/a.B/C/d")));
    for path in ["/a.B", "/"] {
        assert!(!takes(any(), &call(path)), "{path}");
    }
    let get = Request::get("http://h/a.B/C").body(()).unwrap();
    assert!(!takes(any(), &get));
    // A rule that asks for nothing does not even ask for that.
    assert!(find_rpc(&[grpc_route(&[], [grpc_rule([])])], &get).is_some());
}

#[test]
fn names_are_compared_as_they_are_written() {
    let both = || rpc(Some("a.B"), Some("C"));
    assert!(takes(both(), &call("/a.B/C")));
    for path in ["/a.b/C", "/a.B/c", "/a.BB/C", "/a.B/CC", "//C", "/a.B/"] {
        assert!(!takes(both(), &call(path)), "{path}");
    }
    assert!(takes(rpc(None, Some("C")), &call("/x/C")));
    assert!(takes(rpc(Some("a.B"), None), &call("/a.B/x")));
}

#[test]
fn services_before_methods_before_headers_and_hosts_before_all() {
    let with = |mut wanted: MatchRpc, headers: usize| {
        for n in 0..headers {
            wanted.headers.push(header(["x", "y"][n], "1"));
        }
        wanted
    };
    let mut request = call("/aa/bbbb");
    for name in ["x", "y"] {
        let value = HeaderValue::from_static("1");
        request.headers_mut().insert(name, value);
    }
    let ascending = [
        rpc(None, None),
        with(rpc(None, None), 2),
        rpc(None, Some("bbbb")),
        with(rpc(None, Some("bbbb")), 1),
        rpc(Some("aa"), None),
        with(rpc(Some("aa"), None), 2),
        rpc(Some("aa"), Some("bbbb")),
        with(rpc(Some("aa"), Some("bbbb")), 1),
    ];
    for better in 1..ascending.len() {
        for worse in 0..better {
            for swapped in [false, true] {
                let mut pair = [ascending[worse].clone(), ascending[better].clone()];
                if swapped {
                    pair.reverse();
                }
                let rules = pair.map(|wanted| grpc_rule([wanted]));
                let found = find_rpc(&[grpc_route(&[], rules)], &request);
                assert_eq!(found, Some((0, usize::from(!swapped))), "{better} {worse}");
            }
        }
    }
    let general = grpc_route(&["h"], [grpc_rule([rpc(None, None)])]);
    let special = grpc_route(&[], [grpc_rule([rpc(Some("aa"), Some("bbbb"))])]);
    assert_eq!(find_rpc(&[special, general], &request), Some((1, 0)));
}

#[test]
fn filters() {
    let inject = |ratio| {
        let failure = InjectGrpcFailure::new(14, "away", ratio).unwrap();
        GrpcFilter::InjectFailure(failure)
    };
    let change = |name: &'static str| ModifyHeader {
        set: vec![(HeaderName::from_static(name), HeaderValue::from_static("1"))],
        ..ModifyHeader::default()
    };
    let uri = http::Uri::from_static("/a/b");
    let apply = |filters: &[GrpcFilter], headers: &mut HeaderMap, word| {
        filter_request(filters, &uri, headers, PathMatched::Exact, || word)
    };
    let filters = [
        GrpcFilter::RequestHeaders(change("to")),
        GrpcFilter::ResponseHeaders(change("from")),
        inject(Ratio::percent(50)),
    ];
    let mut headers = HeaderMap::new();
    assert_eq!(apply(&filters, &mut headers, u64::MAX), Ok(()));
    assert_eq!((headers.len(), headers.contains_key("to")), (1, true));
    assert_eq!(
        apply(&filters, &mut headers, 0),
        Err(Filtered::FailGrpc {
            code: 14,
            message: "away".to_owned()
        })
    );
    let mut headers = HeaderMap::new();
    filter_response(&filters, &mut headers);
    assert_eq!((headers.len(), headers.contains_key("from")), (1, true));
}

// === the model: every candidate, sorted by the documented key ===

fn model(routes: &[GrpcRoute], request: &Request<()>) -> Option<(usize, usize)> {
    let mut candidates = Vec::new();
    for (r, route) in routes.iter().enumerate() {
        let name = request.uri().host().unwrap_or("");
        let mut hosts: Vec<(u8, usize)> = Vec::new();
        for host in &route.hosts {
            match host {
                MatchHost::Exact(wanted) if wanted == name => hosts.push((2, wanted.len())),
                MatchHost::Suffix { reverse_labels } => {
                    let mut labels = reverse_labels.clone();
                    labels.reverse();
                    let end = format!(".{}", labels.join("."));
                    if name.ends_with(&end) {
                        hosts.push((1, end.len()));
                    }
                }
                _ => {}
            }
        }
        if route.hosts.is_empty() {
            hosts.push((0, 0));
        }
        for host in hosts {
            for (u, rule) in route.rules.iter().enumerate() {
                if rule.matches.is_empty() {
                    candidates.push((host, 0, 0, 0, Reverse((r, u))));
                }
                for wanted in &rule.matches {
                    let parts: Vec<&str> = request.uri().path().split('/').collect();
                    let is = |wanted: &Option<String>, n: usize| match (wanted, parts.get(n)) {
                        (_, None) => false,
                        (None, Some(_)) => true,
                        (Some(wanted), Some(part)) => wanted == part,
                    };
                    let headers = wanted.headers.iter().all(|wanted| {
                        let MatchHeaderValue::Exact(value) = &wanted.value else {
                            unreachable!()
                        };
                        request
                            .headers()
                            .get_all(&wanted.name)
                            .iter()
                            .any(|v| v == value)
                    });
                    let post = request.method() == Method::POST;
                    if post && headers && is(&wanted.service, 1) && is(&wanted.method, 2) {
                        let length = |name: &Option<String>| name.as_ref().map_or(0, String::len);
                        let (service, method) = (length(&wanted.service), length(&wanted.method));
                        let key = (host, service, method, wanted.headers.len(), Reverse((r, u)));
                        candidates.push(key);
                    }
                }
            }
        }
    }
    candidates.sort_unstable();
    let (.., Reverse(place)) = candidates.pop()?;
    Some(place)
}

fn wanted() -> impl Strategy<Value = MatchRpc> {
    let name = || select(vec![None, Some("a"), Some("bb"), Some("cc")]);
    let headers = vec((select(vec!["x", "y"]), select(vec!["1", "2"])), 0..3);
    (name(), name(), headers).prop_map(|(service, method, headers)| MatchRpc {
        headers: headers.into_iter().map(|(n, v)| header(n, v)).collect(),
        ..rpc(service, method)
    })
}

fn routes() -> impl Strategy<Value = Vec<GrpcRoute>> {
    let host = select(vec!["h", "a.h", "b.a.h", "*.h", "*.a.h"]);
    let rules = vec(vec(wanted(), 0..4).prop_map(grpc_rule), 0..4);
    vec(
        (vec(host, 0..3), rules).prop_map(|(hosts, rules)| grpc_route(&hosts, rules)),
        0..5,
    )
}

fn request() -> impl Strategy<Value = Request<()>> {
    let host = select(vec!["h", "a.h", "b.a.h", "other"]);
    let part = || select(vec!["/a", "/bb", "/cc", "/", ""]);
    let headers = vec((select(vec!["x", "y"]), select(vec!["1", "2"])), 0..4);
    let method = select(vec![Method::POST, Method::POST, Method::POST, Method::GET]);
    (host, part(), part(), part(), headers, method).prop_map(
        |(host, service, name, more, headers, method)| {
            let uri = format!("http://{host}{service}{name}{more}");
            let mut builder = Request::builder().method(method).uri(uri);
            for (name, value) in headers {
                builder = builder.header(name, value);
            }
            builder.body(()).unwrap()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn find_equals_the_model(routes in routes(), request in request()) {
        prop_assert_eq!(find_rpc(&routes, &request), model(&routes, &request));
    }
}
