//! Every rule of validity: a good message with one thing wrong, the field that is named, and what became of it.

use super::super::api::{http_route as hr, http_types, meta, outbound as api};
use super::super::{Effect, Read, read, write};
use super::paths;
use crate::policy::{
    BackendDispatcher, ClientPolicy, Codes, ConnectionFilter, ExponentialBackoff, FailureAccrual,
    Filter, GrpcFilter, HttpPolicy, Load, MatchPath, Meta, Protocol, Queue, Ratio, Retry, Route,
    Unified,
};
use std::time::Duration;

type Rule = api::http_route::Rule;

fn time(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn named(name: &str) -> Option<meta::Metadata> {
    Some(meta::Metadata {
        kind: Some(meta::metadata::Kind::Default(name.to_owned())),
    })
}

/// HTTP/1 with two routes of one rule each, a breaker, retries, and two weighed backends in the first.
fn http1() -> api::proxy_protocol::Http1 {
    let policy = ClientPolicy::http()
        .retry(Retry::on(500..=599))
        .failure_accrual(FailureAccrual::from(Unified::default()))
        .build()
        .unwrap();
    let message = write(&policy).message;
    let Some(api::proxy_protocol::Kind::Detect(detect)) = message.protocol.unwrap().kind else {
        panic!("not detected");
    };
    let mut http1 = detect.http1.unwrap();
    let mut second = http1.routes[0].clone();
    second.metadata = named("second");
    http1.routes.push(second);
    let rule = &mut http1.routes[0].rules[0];
    let Some(api::http_route::distribution::Kind::FirstAvailable(first)) =
        rule.backends.take().unwrap().kind
    else {
        panic!("not the first");
    };
    let weighed = api::http_route::WeightedRouteBackend {
        backend: Some(first.backends[0].clone()),
        weight: 3,
    };
    spread(rule, vec![weighed.clone(), weighed]);
    http1
}

fn spread(rule: &mut Rule, backends: Vec<api::http_route::WeightedRouteBackend>) {
    let random = api::http_route::distribution::RandomAvailable { backends };
    rule.backends = Some(api::http_route::Distribution {
        kind: Some(api::http_route::distribution::Kind::RandomAvailable(random)),
    });
}

fn message(kind: api::proxy_protocol::Kind) -> api::OutboundPolicy {
    api::OutboundPolicy {
        protocol: Some(api::ProxyProtocol { kind: Some(kind) }),
        metadata: named("parent"),
    }
}

/// What is read when `change` is made, and checked to come back from what is written of it.
fn changed(change: impl FnOnce(&mut api::proxy_protocol::Http1)) -> Read {
    let mut http1 = http1();
    change(&mut http1);
    settled(message(api::proxy_protocol::Kind::Http1(http1)))
}

fn settled(message: api::OutboundPolicy) -> Read {
    let first = read(message);
    let again = read(write(&first.policy).message);
    assert_eq!(again.policy, first.policy);
    let refused = |problem: &super::Problem| problem.effect > Effect::Kept;
    assert!(!again.problems.iter().any(refused), "{:?}", again.problems);
    first
}

fn http(read: &Read) -> &HttpPolicy {
    match &read.policy.protocol {
        Protocol::Http1(policy) => policy,
        other => panic!("{other:?}"),
    }
}

/// One thing wrong, with its field.
#[track_caller]
fn wrong(read: &Read, path: &str, effect: Effect) {
    assert_eq!(paths(&read.problems), [(path, effect)]);
    let line = read.problems[0].to_string();
    assert!(line.starts_with(&format!("{path}: ")), "{line}");
    assert_eq!(
        read.clone().strict().is_ok(),
        effect == Effect::Ignored,
        "{line}"
    );
}

/// A rule, changed; the rules that came of it.
#[track_caller]
fn rule(path: &str, effect: Effect, change: impl FnOnce(&mut Rule)) -> Vec<crate::policy::Rule> {
    let read = changed(|http1| change(&mut http1.routes[0].rules[0]));
    wrong(&read, &format!("http1.routes[0].rules[0].{path}"), effect);
    let routes = &http(&read).routes;
    let second = changed(|_| {});
    // The other route is as it was.
    assert_eq!(routes.last(), http(&second).routes.last());
    if routes.len() < 2 {
        return Vec::new();
    }
    routes[0].rules.clone()
}

/// Whether everything that this is for is refused, and says why.
fn refuses(rule: &crate::policy::Rule, path: &str) -> bool {
    rule.policy.filters.iter().any(|filter| {
        matches!(filter, Filter::InjectFailure(failure)
            if failure.ratio() == Ratio::ONE && failure.status().as_u16() == 500
            && failure.message().contains(path))
    })
}

#[test]
fn nothing_wrong() {
    let read = changed(|_| {});
    assert_eq!(read.problems, []);
    assert_eq!(http(&read).routes.len(), 2);
}

#[test]
fn no_protocol() {
    for protocol in [None, Some(api::ProxyProtocol { kind: None })] {
        let read = settled(api::OutboundPolicy {
            protocol,
            metadata: named("parent"),
        });
        wrong(&read, "protocol", Effect::Refused);
        for version in [http::Version::HTTP_11, http::Version::HTTP_2] {
            let rules = &read.policy.for_version(version).routes[0].rules;
            assert!(refuses(&rules[0], "protocol"));
        }
    }
}

#[test]
fn detect() {
    use api::proxy_protocol::{Detect, Http2, Kind, Opaque};
    let whole = || {
        let http1 = http1();
        Detect {
            timeout: time(10),
            opaque: Some(Opaque::default()),
            http2: Some(Http2 {
                routes: http1.routes.clone(),
                failure_accrual: None,
            }),
            http1: Some(http1),
        }
    };
    assert_eq!(settled(message(Kind::Detect(whole()))).problems, []);
    let check = |path: &str, effect, change: fn(&mut Detect)| {
        let mut detect = whole();
        change(&mut detect);
        let read = settled(message(Kind::Detect(detect)));
        wrong(&read, path, effect);
        read.policy
    };
    let policy = check("detect.timeout", Effect::Default, |it| it.timeout = None);
    let Protocol::Detect { timeout, .. } = policy.protocol else {
        panic!("not detected");
    };
    assert_eq!(timeout, Duration::from_secs(10));
    check("detect.timeout", Effect::Default, |it| {
        it.timeout = time(-1)
    });
    check("detect.opaque", Effect::Refused, |it| it.opaque = None);
    let policy = check("detect.http1", Effect::Refused, |it| it.http1 = None);
    let rules = &policy.for_version(http::Version::HTTP_11).routes[0].rules;
    assert!(refuses(&rules[0], "detect.http1"));
    // The other version is served.
    assert_eq!(policy.for_version(http::Version::HTTP_2).routes.len(), 2);
    check("detect.http2", Effect::Refused, |it| it.http2 = None);
}

#[test]
fn metadata() {
    let default = |meta: &Meta| assert_eq!(meta, &Meta::default_named("unnamed"));
    let mut broken = message(api::proxy_protocol::Kind::Http1(http1()));
    broken.metadata = None;
    let read = settled(broken);
    wrong(&read, "metadata", Effect::Default);
    default(&read.policy.parent);

    let read = changed(|http1| http1.routes[1].metadata = None);
    wrong(&read, "http1.routes[1].metadata", Effect::Default);
    default(&http(&read).routes[1].rules[0].policy.meta);

    let resource = meta::Resource {
        group: "core".to_owned(),
        kind: "Service".to_owned(),
        name: "web".to_owned(),
        namespace: "shop".to_owned(),
        section: String::new(),
        port: 80,
    };
    type Change = fn(&mut meta::Resource);
    let rows: [(&str, Effect, Change); 5] = [
        ("group", Effect::Default, |it| it.group.clear()),
        ("kind", Effect::Default, |it| it.kind.clear()),
        ("name", Effect::Default, |it| it.name.clear()),
        ("namespace", Effect::Default, |it| it.namespace.clear()),
        ("port", Effect::LeftOut, |it| it.port = 65_536),
    ];
    for (field, effect, change) in rows {
        let mut resource = resource.clone();
        change(&mut resource);
        let kind = Some(meta::metadata::Kind::Resource(resource));
        let read = changed(|http1| http1.routes[1].metadata = Some(meta::Metadata { kind }));
        let path = format!("http1.routes[1].metadata.resource.{field}");
        wrong(&read, &path, effect);
    }
    // No port is no port, and nothing is wrong with that.
    let none = meta::Resource {
        port: 0,
        ..resource
    };
    let kind = Some(meta::metadata::Kind::Resource(none));
    let read = changed(|http1| http1.routes[1].metadata = Some(meta::Metadata { kind }));
    assert_eq!(read.problems, []);
}

#[test]
fn a_route_without_rules() {
    let read = changed(|http1| http1.routes[0].rules.clear());
    wrong(&read, "http1.routes[0].rules", Effect::LeftOut);
    assert_eq!(http(&read).routes.len(), 1);
}

#[test]
fn hosts() {
    let host = |name: &str| hr::HostMatch {
        r#match: Some(hr::host_match::Match::Exact(name.to_owned())),
    };
    let read = changed(|http1| http1.routes[0].hosts = vec![host("a"), hr::HostMatch::default()]);
    wrong(&read, "http1.routes[0].hosts[1].match", Effect::Refused);
    // The host that was read is served; what no route names is not sent to what is for others.
    let routes = &http(&read).routes;
    assert_eq!(routes.len(), 3);
    assert_eq!(routes[0].hosts.len(), 1);
    assert!(!refuses(&routes[0].rules[0], ""));
    assert!(routes[1].hosts.is_empty());
    assert!(refuses(&routes[1].rules[0], "http1.routes[0].hosts[1]"));

    // Alone it must not become a route for every host.
    let read = changed(|http1| http1.routes[0].hosts = vec![hr::HostMatch::default()]);
    let routes = &http(&read).routes;
    assert_eq!(routes.len(), 2);
    assert!(refuses(&routes[0].rules[0], "http1.routes[0].hosts[0]"));
}

fn path(kind: Option<hr::path_match::Kind>) -> hr::HttpRouteMatch {
    hr::HttpRouteMatch {
        path: Some(hr::PathMatch { kind }),
        ..hr::HttpRouteMatch::default()
    }
}

fn prefix(path_: &str) -> hr::HttpRouteMatch {
    path(Some(hr::path_match::Kind::Prefix(path_.to_owned())))
}

fn header(name: &str, value: Option<hr::header_match::Value>) -> hr::HttpRouteMatch {
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

type Wire = api::http_route::WeightedRouteBackend;

#[track_caller]
fn backend(
    path: &str,
    effect: Effect,
    change: impl FnOnce(&mut api::Backend),
) -> crate::policy::Backend {
    let path = format!("backends.random_available.backends[1].backend.backend.{path}");
    let rules = rule(&path, effect, |rule| {
        let Some(api::http_route::distribution::Kind::RandomAvailable(random)) =
            &mut rule.backends.as_mut().unwrap().kind
        else {
            panic!("not random");
        };
        let used = random.backends[1].backend.as_mut().unwrap();
        change(used.backend.as_mut().unwrap());
    });
    let backends: Vec<_> = rules[0].policy.distribution.backends().collect();
    // Each keeps its weight.
    assert_eq!((backends[0].1, backends[1].1), (3, 3));
    assert!(matches!(
        backends[0].0.backend.dispatcher,
        BackendDispatcher::BalanceP2c(..)
    ));
    (*backends[1].0.backend).clone()
}

#[test]
fn backends_that_fail() {
    use api::backend::Kind;
    let fails = |path: &str, change: &dyn Fn(&mut api::Backend)| {
        let backend = backend(path, Effect::Refused, change);
        assert!(matches!(backend.dispatcher, BackendDispatcher::Fail { .. }));
    };
    let balancer = |it: &mut api::Backend| match it.kind.take() {
        Some(Kind::Balancer(balancer)) => balancer,
        other => panic!("{other:?}"),
    };
    fails("balancer.discovery", &|it| {
        let mut balancer = balancer(it);
        balancer.discovery = None;
        it.kind = Some(Kind::Balancer(balancer));
    });
    fails("balancer.discovery", &|it| {
        let mut balancer = balancer(it);
        balancer.discovery = Some(api::backend::EndpointDiscovery { kind: None });
        it.kind = Some(Kind::Balancer(balancer));
    });
    fails("balancer.discovery.dst.path", &|it| {
        let mut balancer = balancer(it);
        let dst = api::backend::endpoint_discovery::DestinationGet::default();
        let kind = Some(api::backend::endpoint_discovery::Kind::Dst(dst));
        balancer.discovery = Some(api::backend::EndpointDiscovery { kind });
        it.kind = Some(Kind::Balancer(balancer));
    });
    let forward = |addr| {
        Some(Kind::Forward(super::api::destination::WeightedAddr {
            addr,
            ..Default::default()
        }))
    };
    let address = |port| {
        let mut addr =
            super::api::net::TcpAddress::from(std::net::SocketAddr::from(([10, 0, 0, 7], 1)));
        addr.port = port;
        addr
    };
    fails("forward.addr", &|it| it.kind = forward(None));
    fails("forward.addr.port", &|it| {
        it.kind = forward(Some(address(0)))
    });
    fails("forward.addr.port", &|it| {
        it.kind = forward(Some(address(65_616)))
    });
    fails("forward.addr.ip", &|it| {
        let mut address = address(80);
        address.ip = None;
        it.kind = forward(Some(address));
    });
}

#[test]
fn backends_with_defaults() {
    use api::backend::{Kind, balance_p2c};
    let served = |path: &str, change: &dyn Fn(&mut api::Backend)| {
        let backend = backend(path, Effect::Default, change);
        match backend.dispatcher {
            BackendDispatcher::BalanceP2c(load, _) => (backend.queue, load),
            other => panic!("{other:?}"),
        }
    };
    let default = (Queue::default(), Load::default());
    assert_eq!(served("queue", &|it| it.queue = None), default);
    let queue = |it: &mut api::Backend| it.queue.as_mut().unwrap().failfast_timeout = None;
    assert_eq!(served("queue.failfast_timeout", &queue), default);
    served("metadata", &|it| it.metadata = None);
    let load = |load: Option<balance_p2c::Load>| {
        move |it: &mut api::Backend| match &mut it.kind {
            Some(Kind::Balancer(balancer)) => balancer.load = load,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(served("balancer.load", &load(None)), default);
    let ewma = |default_rtt, decay| {
        Some(balance_p2c::Load::PeakEwma(balance_p2c::PeakEwma {
            default_rtt,
            decay,
        }))
    };
    let rtt = Some(prost_types::Duration {
        seconds: 0,
        nanos: 30_000_000,
    });
    for (wire, field) in [
        (ewma(None, time(10)), "default_rtt"),
        (ewma(rtt, None), "decay"),
        (ewma(rtt, time(0)), "decay"),
        (ewma(rtt, time(-1)), "decay"),
    ] {
        let path = format!("balancer.peak_ewma.{field}");
        assert_eq!(served(&path, &load(wire)), default, "{path}");
    }
    // Of the penalty nothing needs to be there.
    let read = changed(|http1| {
        let rule = &mut http1.routes[0].rules[0];
        let Some(api::http_route::distribution::Kind::RandomAvailable(random)) =
            &mut rule.backends.as_mut().unwrap().kind
        else {
            panic!("not random");
        };
        let used = random.backends[1].backend.as_mut().unwrap();
        let penalty = balance_p2c::Load::PenaltyPeakEwma(Default::default());
        load(Some(penalty))(used.backend.as_mut().unwrap());
    });
    assert_eq!(read.problems, []);
    let penalty = Load::PenaltyPeakEwma(crate::policy::PenaltyPeakEwma::new(Default::default()));
    let backend = http(&read).routes[0].rules[0]
        .policy
        .distribution
        .backends()
        .nth(1)
        .unwrap();
    let BackendDispatcher::BalanceP2c(load, _) = &backend.0.backend.dispatcher else {
        panic!("{backend:?}");
    };
    assert_eq!(*load, penalty);
}

#[test]
fn distributions() {
    let empty = |rules: &[crate::policy::Rule]| {
        assert_eq!(rules[0].policy.distribution.backends().count(), 0);
    };
    empty(&rule("backends", Effect::Refused, |rule| {
        rule.backends = None
    }));
    let none = api::http_route::Distribution { kind: None };
    empty(&rule("backends", Effect::Refused, |rule| {
        rule.backends = Some(none)
    }));
    empty(&rule("backends", Effect::Refused, |rule| {
        spread(rule, Vec::new())
    }));
    let first = api::http_route::distribution::FirstAvailable::default();
    let kind = Some(api::http_route::distribution::Kind::FirstAvailable(first));
    let first = api::http_route::Distribution { kind };
    empty(&rule("backends", Effect::Refused, |rule| {
        rule.backends = Some(first)
    }));
    let weighed = |rule: &mut Rule| -> Vec<Wire> {
        let Some(api::http_route::distribution::Kind::RandomAvailable(random)) =
            rule.backends.take().unwrap().kind
        else {
            panic!("not random");
        };
        random.backends
    };
    empty(&rule("backends", Effect::Refused, |rule| {
        let mut backends = weighed(rule);
        backends.iter_mut().for_each(|backend| backend.weight = 0);
        spread(rule, backends);
    }));
    // One alone is used whatever it weighs, as in the proxy.
    let path = "backends.random_available.backends[0].weight";
    let rules = rule(path, Effect::Ignored, |rule| {
        let mut backends = weighed(rule);
        backends.truncate(1);
        backends[0].weight = 0;
        spread(rule, backends);
    });
    assert_eq!(rules[0].policy.distribution.backends().count(), 1);
    // A place that nobody stands on keeps its weight.
    let path = "backends.random_available.backends[0].backend.backend";
    for change in [(|it: &mut Wire| it.backend = None) as fn(&mut Wire), |it| {
        it.backend.as_mut().unwrap().backend = None
    }] {
        let rules = rule(path, Effect::Refused, |rule| {
            let mut backends = weighed(rule);
            change(&mut backends[0]);
            spread(rule, backends);
        });
        let (used, weight) = rules[0].policy.distribution.backends().next().unwrap();
        assert_eq!(weight, 3);
        assert!(matches!(
            used.backend.dispatcher,
            BackendDispatcher::Fail { .. }
        ));
    }
    // Its filters are not skipped, either.
    let path = "backends.random_available.backends[0].backend.filters[0].kind";
    rule(path, Effect::Refused, |rule| {
        let mut backends = weighed(rule);
        let used = backends[0].backend.as_mut().unwrap();
        used.filters.push(api::http_route::Filter { kind: None });
        spread(rule, backends);
    });
}

#[test]
fn retries_and_timeouts() {
    type Change = fn(&mut api::http_route::Retry);
    let retry = |path: &str, effect, change: Change| {
        let path = format!("retry{path}");
        let rules = rule(&path, effect, |rule| change(rule.retry.as_mut().unwrap()));
        rules[0].policy.params.retry.clone()
    };
    assert_eq!(
        retry("", Effect::LeftOut, |it| it.max_retries = 65_536),
        None
    );
    let left = retry(".conditions", Effect::LeftOut, |it| it.conditions = None);
    assert!(left.unwrap().status_ranges().is_empty());
    for (start, end) in [(0, 1), (500, 600), (504, 502), (66_036, 66_036)] {
        let path = "retry.conditions.status_ranges[1]";
        let range = api::http_route::retry::conditions::StatusRange { start, end };
        let rules = rule(path, Effect::LeftOut, |rule| {
            let retry = rule.retry.as_mut().unwrap();
            retry.conditions.as_mut().unwrap().status_ranges.push(range);
        });
        let retry = rules[0].policy.params.retry.as_ref().unwrap();
        assert_eq!(
            retry.status_ranges().iter().collect::<Vec<_>>(),
            [500..=599]
        );
    }
    let left = retry(".timeout", Effect::LeftOut, |it| it.timeout = time(-1));
    assert_eq!(left.unwrap().timeout(), None);
    let kept = retry(".backoff.respect_retry_after_hint", Effect::Ignored, |it| {
        it.backoff.as_mut().unwrap().respect_retry_after_hint = true;
    });
    assert_eq!(kept.unwrap().backoff(), Some(ExponentialBackoff::RETRY));
    let kept = retry(".backoff.max_backoff", Effect::Default, |it| {
        it.backoff.as_mut().unwrap().max_backoff = time(0);
    });
    assert_eq!(kept.unwrap().backoff(), Some(ExponentialBackoff::RETRY));
    // No waits are no waits.
    let read = changed(|http1| {
        http1.routes[0].rules[0].retry.as_mut().unwrap().backoff = None;
    });
    assert_eq!(read.problems, []);

    for field in ["request", "response", "idle"] {
        let rules = rule(&format!("timeouts.{field}"), Effect::LeftOut, |rule| {
            let mut timeouts = hr::Timeouts {
                request: time(1),
                response: time(2),
                idle: time(3),
            };
            match field {
                "request" => timeouts.request = time(i64::MIN),
                "response" => timeouts.response = time(-1),
                _ => timeouts.idle = time(-1),
            }
            rule.timeouts = Some(timeouts);
        });
        let timeouts = rules[0].policy.params.timeouts;
        let left = [timeouts.request, timeouts.response, timeouts.idle];
        assert_eq!(left.iter().flatten().count(), 2, "{field}");
    }
}

#[test]
#[allow(deprecated, reason = "it is what this is about")]
fn deprecated_timeouts() {
    let request = |read: &Read| http(read).routes[0].rules[0].policy.params.timeouts.request;
    let read = changed(|http1| http1.routes[0].rules[0].request_timeout = time(7));
    assert_eq!(read.problems, []);
    assert_eq!(request(&read), Some(Duration::from_secs(7)));
    let read = changed(|http1| {
        let rule = &mut http1.routes[0].rules[0];
        rule.request_timeout = time(7);
        rule.timeouts = Some(hr::Timeouts {
            request: time(1),
            ..Default::default()
        });
    });
    assert_eq!(request(&read), Some(Duration::from_secs(1)));
    rule("request_timeout", Effect::LeftOut, |rule| {
        rule.request_timeout = time(-7);
    });
    let path = "backends.random_available.backends[0].backend.request_timeout";
    rule(path, Effect::Ignored, |rule| {
        let Some(api::http_route::distribution::Kind::RandomAvailable(random)) =
            &mut rule.backends.as_mut().unwrap().kind
        else {
            panic!("not random");
        };
        random.backends[0].backend.as_mut().unwrap().request_timeout = time(1);
    });
}

#[test]
fn accrual() {
    use api::failure_accrual::{ConsecutiveFailures, Kind};
    let check = |path: &str, effect, change: &dyn Fn(&mut api::FailureAccrual)| {
        let read = changed(|http1| change(http1.failure_accrual.as_mut().unwrap()));
        wrong(&read, &format!("http1.failure_accrual.{path}"), effect);
        http(&read).failure_accrual.clone()
    };
    assert_eq!(check("kind", Effect::LeftOut, &|it| it.kind = None), None);
    let none = ConsecutiveFailures {
        max_failures: 3,
        backoff: None,
    };
    let made = check("consecutive_failures.backoff", Effect::Default, &|it| {
        it.kind = Some(Kind::ConsecutiveFailures(none));
    });
    assert_eq!(made, Some(FailureAccrual::consecutive(3)));
    let unified = |path: &str, effect, change: fn(&mut api::failure_accrual::Unified)| {
        let made = check(
            &format!("unified.{path}"),
            effect,
            &|it| match &mut it.kind {
                Some(Kind::Unified(unified)) => change(unified),
                other => panic!("{other:?}"),
            },
        );
        match made {
            Some(FailureAccrual::Unified(unified)) => unified,
            other => panic!("{other:?}"),
        }
    };
    let default = Unified::default();
    assert_eq!(
        unified("backoff", Effect::Default, |it| it.backoff = None),
        default
    );
    for (field, change) in [
        (
            "success_rate_threshold",
            (|it| it.success_rate_threshold = f64::NAN) as fn(&mut api::failure_accrual::Unified),
        ),
        ("success_rate_threshold", |it| {
            it.success_rate_threshold = 1.001
        }),
        ("success_rate_threshold", |it| {
            it.success_rate_threshold = -0.1
        }),
        ("decay", |it| it.decay = time(0)),
        ("min_requests", |it| it.min_requests = 1_000_001),
    ] {
        // Without a success rate; failures in a row still eject.
        let made = unified(field, Effect::LeftOut, change);
        assert_eq!(made.threshold(), Ratio::ZERO, "{field}");
        assert_eq!(made.max_consecutive_failures(), 7, "{field}");
    }
    // The mesh's control plane sends this one, and its proxy does not accept it.
    let made = unified("min_requests", Effect::Default, |it| {
        it.success_rate_threshold = 0.0;
        it.min_requests = 2_000_000;
    });
    assert_eq!(made.max_consecutive_failures(), 7);
    // Absent is the default; a window of nothing is fine where there is no success rate.
    let read = changed(|http1| {
        let Some(Kind::Unified(it)) = &mut http1.failure_accrual.as_mut().unwrap().kind else {
            panic!("not unified");
        };
        it.decay = None;
    });
    assert_eq!(http(&read).failure_accrual, Some(default.into()));
    assert_eq!(read.problems, []);

    type Change = fn(&mut api::ExponentialBackoff);
    let rows: [(&str, Change); 8] = [
        ("min_backoff", |it| it.min_backoff = None),
        ("min_backoff", |it| it.min_backoff = time(-1)),
        ("max_backoff", |it| it.max_backoff = None),
        ("max_backoff", |it| it.min_backoff = time(61)),
        ("max_backoff", |it| {
            (it.min_backoff, it.max_backoff) = (time(0), time(0))
        }),
        ("jitter_ratio", |it| it.jitter_ratio = f32::NAN),
        ("jitter_ratio", |it| it.jitter_ratio = -0.5),
        ("jitter_ratio", |it| it.jitter_ratio = 100.5),
    ];
    for (field, change) in rows {
        let path = format!("unified.backoff.{field}");
        let made = check(&path, Effect::Default, &|it| match &mut it.kind {
            Some(Kind::Unified(unified)) => change(unified.backoff.as_mut().unwrap()),
            other => panic!("{other:?}"),
        });
        assert_eq!(made, Some(Unified::default().into()), "{path}");
    }
}

#[test]
fn grpc() {
    use api::grpc_route::filter::Kind;
    let policy = ClientPolicy::grpc().build().unwrap();
    let whole = write(&policy).message;
    let changed = |change: &dyn Fn(&mut api::grpc_route::Rule)| {
        let mut message = whole.clone();
        let Some(api::proxy_protocol::Kind::Grpc(grpc)) =
            &mut message.protocol.as_mut().unwrap().kind
        else {
            panic!("not gRPC");
        };
        change(&mut grpc.routes[0].rules[0]);
        let read = settled(message);
        let Protocol::Grpc(grpc) = &read.policy.protocol else {
            panic!("not gRPC");
        };
        let rules = grpc.routes[0].rules.clone();
        (read, rules)
    };
    let internal = |filter: &GrpcFilter| match filter {
        GrpcFilter::InjectFailure(failure) => {
            assert_eq!(
                (failure.code(), failure.ratio()),
                (Codes::INTERNAL, Ratio::ONE)
            );
        }
        other => panic!("{other:?}"),
    };
    // What the control plane sends for a match of headers alone.
    let headers = header(
        "tenant",
        Some(hr::header_match::Value::Exact(b"a".to_vec())),
    )
    .headers;
    let (read, rules) = changed(&|rule| {
        rule.matches = vec![super::api::grpc_route::GrpcRouteMatch {
            rpc: None,
            headers: headers.clone(),
        }];
    });
    wrong(
        &read,
        "grpc.routes[0].rules[0].matches[0].rpc",
        Effect::Refused,
    );
    internal(&rules[0].policy.filters[0]);
    assert_eq!(rules[0].matches[0].headers.len(), 1);
    // And for a change of response headers.
    let (read, rules) = changed(&|rule| {
        rule.filters.push(api::grpc_route::Filter { kind: None });
    });
    wrong(
        &read,
        "grpc.routes[0].rules[0].filters[0].kind",
        Effect::Refused,
    );
    internal(&rules[0].policy.filters[0]);
    for code in [0, 17, 65_537] {
        let (read, rules) = changed(&|rule| {
            let injector = super::api::grpc_route::GrpcFailureInjector {
                code,
                message: "m".to_owned(),
                ratio: None,
            };
            let kind = Some(Kind::FailureInjector(injector));
            rule.filters.push(api::grpc_route::Filter { kind });
        });
        let path = "grpc.routes[0].rules[0].filters[0].failure_injector.code";
        wrong(&read, path, Effect::Default);
        assert!(matches!(&rules[0].policy.filters[0],
            GrpcFilter::InjectFailure(failure) if failure.code() == Codes::UNKNOWN));
    }
    let (read, _) = changed(&|rule| rule.backends = None);
    wrong(&read, "grpc.routes[0].rules[0].backends", Effect::Refused);
}

#[test]
fn connections() {
    use api::proxy_protocol::{Kind, Opaque, Tls};
    let empty = || api::opaque_route::Distribution {
        kind: Some(api::opaque_route::distribution::Kind::Empty(
            api::opaque_route::distribution::Empty {},
        )),
    };
    let opaque = |rules: usize| api::OpaqueRoute {
        metadata: named("opaq"),
        rules: (0..rules)
            .map(|_| api::opaque_route::Rule {
                backends: Some(empty()),
                filters: Vec::new(),
            })
            .collect(),
    };
    let check = |path: &str, routes: Vec<api::OpaqueRoute>| {
        let read = settled(message(Kind::Opaque(Opaque { routes })));
        wrong(&read, path, Effect::Refused);
        let Protocol::Opaque(policy) = read.policy.protocol else {
            panic!("not opaque");
        };
        let route = policy.route.unwrap();
        assert!(matches!(
            &route.filters[0],
            ConnectionFilter::Invalid { .. }
        ));
    };
    let read = settled(message(Kind::Opaque(Opaque {
        routes: vec![opaque(1)],
    })));
    assert_eq!(read.problems, []);
    check("opaque.routes[0]", vec![opaque(1), opaque(1)]);
    check("opaque.routes[0].rules", vec![opaque(0)]);
    check("opaque.routes[0].rules", vec![opaque(2)]);
    let mut route = opaque(1);
    route.rules[0]
        .filters
        .push(api::opaque_route::Filter { kind: None });
    check("opaque.routes[0].rules[0].filters[0].kind", vec![route]);

    let sni = super::api::tls_route::SniMatch {
        r#match: Some(super::api::tls_route::sni_match::Match::Exact(
            "a".to_owned(),
        )),
    };
    let tls = |snis: Vec<_>, rules| {
        let rule = api::tls_route::Rule {
            backends: Some(api::tls_route::Distribution {
                kind: Some(api::tls_route::distribution::Kind::Empty(
                    api::tls_route::distribution::Empty {},
                )),
            }),
            filters: Vec::new(),
        };
        let routes = vec![api::TlsRoute {
            metadata: named("tls"),
            snis,
            rules: vec![rule; rules],
        }];
        let read = settled(message(Kind::Tls(Tls { routes })));
        let Protocol::Tls(policy) = &read.policy.protocol else {
            panic!("not TLS");
        };
        let routes = policy.routes.clone();
        (read, routes)
    };
    let (read, routes) = tls(vec![sni.clone(), Default::default()], 1);
    wrong(&read, "tls.routes[0].snis[1].match", Effect::Refused);
    assert_eq!((routes.len(), routes[0].snis.len()), (2, 1));
    assert!(routes[0].route.filters.is_empty() && !routes[1].route.filters.is_empty());
    let (read, _) = tls(vec![sni], 2);
    wrong(&read, "tls.routes[0].rules", Effect::Refused);
}

/// A message has nothing in it that a line could not hold.
#[test]
fn one_line_each() {
    let read = changed(|http1| {
        http1.routes[0].rules[0].matches = vec![prefix("a\nb\u{7}")];
    });
    let line = read.problems[0].to_string();
    assert!(!line.contains(char::is_control), "{line}");
    let error = read.strict().unwrap_err();
    assert_eq!(error.problems().len(), 1);
    assert!(!error.to_string().contains(char::is_control), "{error}");
    let _: &Route = &http(&changed(|_| {})).routes[0];
}
