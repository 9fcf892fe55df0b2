//! The index gives the answer of the linear search, and looks at few matches for it.

use http::Method;
use http::uri::PathAndQuery;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::policy::{Condition, GrpcFilter, GrpcRoute, MatchRpc, Pattern};
use crate::route::{Index, Match};

/// The answer of every index that could be made of these routes.
fn same<M, F>(routes: &[Route<M, F>], requests: &[Request<()>])
where
    M: Match + std::fmt::Debug + PartialEq,
    F: std::fmt::Debug + PartialEq,
{
    let indexes = [Index::with(routes, 0, 0), Index::with(routes, 0, 4)];
    let usual = Index::new(routes);
    for request in requests {
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        let expected = find(routes, method, uri, headers);
        for index in &indexes {
            let (found, _) = index.search(routes, method, uri, headers);
            assert_eq!(found, expected, "{request:?} of {routes:?}");
        }
        assert_eq!(usual.find(routes, method, uri, headers), expected);
    }
}

// === strategies: words that meet, hosts and paths that are odd ===

fn hosts() -> impl Strategy<Value = Vec<MatchHost>> {
    let parsed = select(vec![
        "h", "H.", "a.h", "A.h.", "b.a.h", "*.h", "*.H.", "*.a.h", "*.b.a.h",
    ]);
    let odd = select(vec![
        MatchHost::Exact(String::new()),
        MatchHost::Exact(".".to_owned()),
        MatchHost::Suffix {
            reverse_labels: Vec::new(),
        },
        MatchHost::Suffix {
            reverse_labels: vec![String::new(), "h".to_owned()],
        },
        MatchHost::Suffix {
            reverse_labels: vec!["h".to_owned(), String::new()],
        },
        MatchHost::Suffix {
            reverse_labels: vec!["a.h".to_owned()],
        },
    ]);
    let host = prop_oneof![
        6 => parsed.prop_map(|host| MatchHost::parse(host).unwrap()),
        1 => odd,
    ];
    vec(host, 0..3)
}

fn path() -> impl Strategy<Value = Option<MatchPath>> {
    let prefixes = vec![
        "/", "/a", "/a/", "/a//", "/a/b", "/a/b/c", "/b", "//", "/ab",
    ];
    let exact = vec!["/", "/a", "/a/", "/a/b", "/ab", "/a/b/c", "//"];
    let patterns = vec![
        "/.*",
        "/a|/a/b",
        "/[ab]",
        "/a.*",
        ".*",
        ".*b",
        "/(a|b)/.+",
        "(?i)/A",
        "/a/[^/]+/c",
        "()",
        "/ab?",
        "/[a-z]+/b",
        "/a$",
        "(?x) /a # and nothing more",
        "[^a]*",
        "/\\w+/b/c",
        "/a{0}",
        "/a{2,}",
    ];
    let odd = vec![
        MatchPath::Exact(String::new()),
        MatchPath::Exact("*".to_owned()),
        MatchPath::Prefix("*".to_owned()),
        MatchPath::Prefix("a".to_owned()),
        MatchPath::Prefix(String::new()),
    ];
    prop_oneof![
        2 => Just(None),
        5 => select(prefixes).prop_map(|path| MatchPath::prefix(path).ok()),
        5 => select(exact).prop_map(|path| MatchPath::exact(path).ok()),
        5 => select(patterns).prop_map(|path| Some(MatchPath::regex(path).unwrap())),
        1 => select(odd).prop_map(Some),
        2 => condition().prop_map(|condition| Some(MatchPath::Condition(condition))),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    let pattern = select(vec!["/a.*", "/a/b", ".*/b", "/c|/a"]);
    let leaf = prop_oneof![
        3 => pattern.prop_map(|text| Condition::Path(Pattern::new(text).unwrap())),
        2 => select(vec![Method::GET, Method::PUT]).prop_map(Condition::Method),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Condition::All),
            vec(inner.clone(), 0..3).prop_map(Condition::Any),
            inner.prop_map(|not| Condition::Not(Box::new(not))),
        ]
    })
}

fn headers() -> impl Strategy<Value = Vec<MatchHeader>> {
    let exact = (select(vec!["x", "y", "z"]), select(vec!["1", "2"]));
    let one = prop_oneof![
        3 => exact.prop_map(|(name, value)| header(name, value)),
        1 => select(vec!["x", "y"]).prop_map(|name| header_regex(name, "[12]")),
    ];
    vec(one, 0..3)
}

fn wanted() -> impl Strategy<Value = MatchRequest> {
    let exact = (select(vec!["a", "b"]), select(vec!["a", "b", "a b"]));
    let query = prop_oneof![
        3 => exact.prop_map(|(name, value)| param(name, value)),
        1 => select(vec!["a", "b"]).prop_map(|name| param_regex(name, "[ab]")),
    ];
    let method = select(vec![None, Some(Method::GET), Some(Method::PUT)]);
    (path(), headers(), vec(query, 0..3), method).prop_map(
        |(path, headers, query_params, method)| MatchRequest {
            path,
            headers,
            query_params,
            method,
        },
    )
}

fn routes() -> impl Strategy<Value = Vec<Route>> {
    let rule_ = vec(wanted(), 0..4).prop_map(rule);
    let one = (hosts(), vec(rule_, 0..4)).prop_map(|(hosts, rules)| Route { hosts, rules });
    vec(one, 0..6)
}

fn grpc_routes() -> impl Strategy<Value = Vec<GrpcRoute>> {
    let name = || option::of(select(vec!["a", "bb", "cc", ""]).prop_map(str::to_owned));
    let wanted = (name(), name(), headers()).prop_map(|(service, method, headers)| MatchRpc {
        service,
        method,
        headers,
    });
    let rule = vec(wanted, 0..4).prop_map(|matches| Rule::<MatchRpc, GrpcFilter> {
        matches,
        policy: RoutePolicy::new(Meta::default_named("test"), RouteDistribution::empty()),
    });
    let one = (hosts(), vec(rule, 0..4)).prop_map(|(hosts, rules)| Route { hosts, rules });
    vec(one, 0..6)
}

fn request(paths: &'static [&'static str]) -> impl Strategy<Value = Request<()>> {
    let host = select(vec![
        "", "h", "a.h", "a.h.", "B.a.h", "a.h:80", "other", "x..h.", "c.b.a.h", ".", "x.h..",
    ]);
    let query = select(vec![
        "",
        "?a=a",
        "?b=a&a=b",
        "?%61=%61&b=b",
        "?a&a=a",
        "?a=a+b",
        "?a=a%20b&&b",
    ]);
    let headers = vec((select(vec!["x", "y", "w"]), select(vec!["1", "2"])), 0..4);
    let method = select(vec![Method::GET, Method::PUT, Method::POST]);
    let parts = (host, any::<bool>(), select(paths), query, headers, method);
    parts.prop_map(|(host, in_uri, path, query, headers, method)| {
        let mut request = Request::new(());
        *request.method_mut() = method;
        let path: PathAndQuery = match path {
            "*" => PathAndQuery::from_static("*"),
            path => format!("{path}{query}").parse().unwrap(),
        };
        let parts = http::Uri::builder().path_and_query(path.clone());
        let uri = if in_uri && !host.is_empty() {
            http::Uri::builder()
                .scheme("http")
                .authority(host)
                .path_and_query(path)
                .build()
        } else {
            parts.build()
        };
        // A few of these hosts are none.
        let Ok(uri) = uri else { return request };
        *request.uri_mut() = uri;
        for (name, value) in headers {
            request
                .headers_mut()
                .append(name, HeaderValue::from_static(value));
        }
        if !in_uri && !host.is_empty() {
            request
                .headers_mut()
                .insert("host", HeaderValue::from_static(host));
        }
        request
    })
}

proptest! {
    // Of each set of routes 32 requests: 131 072 cases for each kind.
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn http_routes_are_found_as_one_by_one(
        routes in routes(),
        requests in vec(request(&["/", "/a", "/a/", "/a//b", "/a/b", "/ab", "/b", "/a/b/c", "//", "*", "/aa"]), 32),
    ) {
        same(&routes, &requests);
    }

    #[test]
    fn grpc_routes_are_found_as_one_by_one(
        routes in grpc_routes(),
        requests in vec(request(&["/a/bb", "/a", "/", "/bb/cc", "/cc/a/b", "//", "//a", "/a/", "*"]), 32),
    ) {
        same(&routes, &requests);
    }
}

// === at scale ===

/// `n` routes of each shape in which people write a thousand, and a request that meets the last of them.
fn shapes(n: usize) -> Vec<(&'static str, Vec<Route>, Request<()>)> {
    let last = n - 1;
    let each = |one: &dyn Fn(usize) -> Route| (0..n).map(one).collect::<Vec<_>>();
    let host = |i: usize| format!("tenant-{i}.shop.example.com");
    let tenant = |i: usize| MatchHeader {
        name: HeaderName::from_static("x-tenant"),
        value: MatchHeaderValue::Exact(HeaderValue::try_from(format!("tenant-{i}")).unwrap()),
    };
    let production = header("x-stage", "production");
    vec![
        (
            "exact paths",
            each(&|i| route(&[], [rule([exact(&format!("/api/v1/resource-{i}"))])])),
            get(&format!("/api/v1/resource-{last}")),
        ),
        (
            "prefixes",
            each(&|i| route(&[], [rule([prefix(&format!("/api/v1/resource-{i}"))])])),
            get(&format!("/api/v1/resource-{last}/items/7?page=2")),
        ),
        (
            "rules of one route",
            vec![route(
                &[],
                (0..n).map(|i| rule([prefix(&format!("/resource-{i}"))])),
            )],
            get(&format!("/resource-{last}/items")),
        ),
        (
            "patterns that begin alike",
            each(&|i| {
                route(
                    &[],
                    [rule([regex(&format!("/api/v[12]/resource-{i}/[0-9]+"))])],
                )
            }),
            get(&format!("/api/v2/resource-{last}/17")),
        ),
        (
            "patterns that end alike",
            each(&|i| route(&[], [rule([regex(&format!("/[a-z]+/resource-{i}"))])])),
            get(&format!("/api/resource-{last}")),
        ),
        (
            "hosts",
            each(&|i| route(&[&host(i)], [rule([prefix("/")])])),
            get(&format!("http://{}/items", host(last))),
        ),
        (
            "hosts below names",
            each(&|i| route(&[&format!("*.{}", host(i))], [rule([prefix("/")])])),
            get(&format!("http://eu.{}/items", host(last))),
        ),
        (
            "a header's values",
            each(&|i| {
                let mut wanted = prefix("/");
                wanted.headers = vec![production.clone(), tenant(i)];
                route(&[], [rule([wanted])])
            }),
            Request::get("/items")
                .header("x-stage", "production")
                .header("x-tenant", format!("tenant-{last}"))
                .body(())
                .unwrap(),
        ),
        (
            "a parameter's values",
            each(&|i| {
                let mut wanted = prefix("/");
                wanted.query_params = vec![param("tenant", &format!("tenant {i}"))];
                route(&[], [rule([wanted])])
            }),
            get(&format!("/items?page=2&tenant=tenant+{last}")),
        ),
        (
            "nobody's",
            each(&|i| route(&[], [rule([exact(&format!("/api/v1/resource-{i}"))])])),
            get("/api/v1/unknown"),
        ),
    ]
}

fn rpc_routes(n: usize) -> (Vec<GrpcRoute>, Request<()>) {
    let one = |i: usize| Route {
        hosts: Vec::new(),
        rules: vec![Rule {
            matches: vec![MatchRpc {
                service: Some(format!("shop.v{}.Payments", i / 10)),
                method: Some(format!("Method{}", i % 10)),
                headers: Vec::new(),
            }],
            policy: RoutePolicy::new(Meta::default_named("test"), RouteDistribution::empty()),
        }],
    };
    let last = n - 1;
    let uri = format!("/shop.v{}.Payments/Method{}", last / 10, last % 10);
    (
        (0..n).map(one).collect(),
        Request::post(uri).body(()).unwrap(),
    )
}

/// Where the answer is, and how many matches were compared for it.
fn compared<M: Match, F>(
    routes: &[Route<M, F>],
    request: &Request<()>,
) -> (Option<(usize, usize)>, usize) {
    let index = Index::with(routes, 0, 4);
    let (found, compared) =
        index.search(routes, request.method(), request.uri(), request.headers());
    (
        found.map(|found| (found.route_index, found.rule_index)),
        compared,
    )
}

#[test]
fn of_a_thousand_routes_as_many_are_compared_as_of_ten() {
    const MOST: usize = 4;
    for (((name, ten, a), (_, thousand, b)), (.., c)) in
        shapes(10).into_iter().zip(shapes(1000)).zip(shapes(5000))
    {
        let (found, few) = compared(&ten, &a);
        let (found_too, many) = compared(&thousand, &b);
        assert_eq!(found.is_some(), name != "nobody's", "{name}");
        assert_eq!(found_too, place(&thousand, &b), "{name}");
        assert!(few <= MOST && many <= MOST, "{name}: {few}, then {many}");
        // One that comes to none of them.
        assert!(compared(&thousand, &c).1 <= MOST, "{name}");
    }
    for n in [10, 1000] {
        let (routes, request) = rpc_routes(n);
        let (found, compared) = compared(&routes, &request);
        assert_eq!(found, Some((n - 1, 0)));
        assert!(compared <= 1, "{compared}");
    }
}
