//! Protocols, gRPC and connections.

use super::matches::header;
use super::*;

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
        rule.matches = vec![wire::grpc_route::GrpcRouteMatch {
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
            let injector = wire::grpc_route::GrpcFailureInjector {
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

    let sni = wire::tls_route::SniMatch {
        r#match: Some(wire::tls_route::sni_match::Match::Exact("a".to_owned())),
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
