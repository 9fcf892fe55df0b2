use http::Version;

use super::*;

fn program() -> ClientPolicyBuilder<Methods> {
    ClientPolicy::grpc()
        .named("payments.shop:50051")
        .timeouts(Timeouts::request(2 * S))
        .retry(Retry::on_codes([Codes::UNAVAILABLE]).limit(2))
}

fn rules(policy: &ClientPolicy) -> &[GrpcRule] {
    let Protocol::Grpc(grpc) = &policy.protocol else {
        panic!("{policy:?}")
    };
    let [route] = &grpc.routes[..] else {
        panic!("{grpc:?}")
    };
    &route.rules
}

#[test]
fn settings_of_methods_and_services() {
    let policy = program()
        .method("shop.Payments/Charge", Method::new().unary().no_retries())
        .service("shop.Reports", Method::new().streaming())
        .service(
            "shop.Slow",
            Method::new()
                .timeouts(Timeouts::default())
                .retry(Retry::never_on_status()),
        )
        .failure_accrual(FailureAccrual::consecutive(5))
        .build()
        .unwrap();
    let Protocol::Grpc(grpc) = &policy.protocol else {
        panic!()
    };
    assert_eq!(grpc.failure_accrual, Some(FailureAccrual::consecutive(5)));
    let [charge, reports, slow, rest] = rules(&policy) else {
        panic!()
    };
    let matched = |rule: &GrpcRule| rule.matches.clone();
    assert_eq!(
        matched(charge),
        [MatchRpc::method("shop.Payments/Charge").unwrap()]
    );
    assert_eq!(
        matched(reports),
        [MatchRpc::service("shop.Reports").unwrap()]
    );
    assert!(rest.matches.is_empty());

    let params = |rule: &GrpcRule| rule.policy.params.clone();
    let common = params(rest);
    assert_eq!(common.timeouts, Timeouts::request(2 * S));
    assert_eq!(common.kind, MethodKind::Auto);
    let retry = common.retry.clone().unwrap();
    assert_eq!(retry.codes().to_string(), "UNAVAILABLE");
    assert!(retry.status_ranges().is_empty());
    assert_eq!(
        params(charge),
        RouteParams {
            retry: None,
            kind: MethodKind::Unary,
            ..common.clone()
        }
    );
    assert_eq!(
        params(reports),
        RouteParams {
            kind: MethodKind::Streaming,
            ..common.clone()
        }
    );
    assert_eq!(params(slow).timeouts, Timeouts::default());
    assert!(params(slow).retry.unwrap().codes().is_empty());
    // One backend, whatever the methods are.
    assert_eq!(policy.backends(), [backend("payments.shop:50051")]);
    assert!(policy.for_version(Version::HTTP_2).routes.is_empty());
}

#[test]
fn what_is_not_valid() {
    for (method, field) in [
        ("shop.Payments", "match.rpc"),
        ("/Charge", "match.rpc.service"),
        ("shop.Payments/", "match.rpc.method"),
        ("/shop.Payments/Charge", "match.rpc.service"),
        ("shop.Payments/Charge/x", "match.rpc.method"),
        ("", "match.rpc"),
    ] {
        check(MatchRpc::method(method), Some(field));
        check(program().method(method, Method::new()).build(), Some(field));
    }
    for service in ["", "a/b"] {
        check(
            program().service(service, Method::new()).build(),
            Some("match.rpc.service"),
        );
    }
    let retry = |code| Method::new().retry(Retry::on_codes([code]));
    check(
        program().method("a/b", retry(0)).build(),
        Some("retry.codes"),
    );
    check(
        program().retry(Retry::on_codes([17])).build(),
        Some("retry.codes"),
    );
    let inject = |code, ratio| InjectGrpcFailure::new(code, "x", ratio);
    for code in [1, 16, InjectGrpcFailure::MESH_INVALID_BACKEND] {
        check(inject(code, Ratio::ONE), None);
    }
    for code in [0, 17, 499, 501, u16::MAX] {
        check(inject(code, Ratio::ONE), Some("filter.inject_failure.code"));
    }
    let much = Ratio::percent(101);
    check(inject(14, much), Some("filter.inject_failure.ratio"));
}

#[test]
fn every_part_counts() {
    let rpc = MatchRpc::method("a/b").unwrap();
    let header = MatchHeader {
        name: http::HeaderName::from_static("x"),
        value: MatchHeaderValue::Regex(Pattern::new("1").unwrap()),
    };
    all_differ([
        MatchRpc::default(),
        MatchRpc::service("a").unwrap(),
        MatchRpc::method("a/c").unwrap(),
        rpc.clone().with_header(header),
        rpc,
    ]);
    let inject = |code, text| InjectGrpcFailure::new(code, text, Ratio::ONE).unwrap();
    all_differ([
        GrpcFilter::InjectFailure(inject(14, "x")),
        GrpcFilter::InjectFailure(inject(13, "x")),
        GrpcFilter::InjectFailure(inject(14, "y")),
        GrpcFilter::RequestHeaders(ModifyHeader::default()),
        GrpcFilter::ResponseHeaders(ModifyHeader::default()),
    ]);
    let retry = Retry::on_codes([14]).build().unwrap();
    let rebuilt = RetryBuilder::from(retry.clone());
    assert_eq!(rebuilt.clone().build(), Ok(retry.clone()));
    let none = rebuilt.clone().codes(Codes::default()).build().unwrap();
    all_differ([
        retry,
        none,
        rebuilt.and_on_codes([Codes::ABORTED]).build().unwrap(),
    ]);
}

#[test]
fn protocols() {
    let to = |name: &str| RouteDistribution::first_available([backend(name).into()]).unwrap();
    let connection = |name| ConnectionRoute::new(Meta::default_named("opaq"), to(name));
    let grpc = Rule::any(RoutePolicy::new(
        Meta::default_named("x"),
        RouteDistribution::first_available([backend("g").into()]).unwrap(),
    ));
    let opaque = |name| OpaquePolicy {
        route: Some(connection(name)),
    };
    let protocols = [
        Protocol::detect(HttpPolicy::default()),
        Protocol::Detect {
            timeout: 10 * S,
            http1: HttpPolicy::default(),
            http2: HttpPolicy::default(),
            opaque: opaque("unseen"),
        },
        Protocol::Http1(HttpPolicy::default()),
        Protocol::Http2(HttpPolicy::default()),
        Protocol::Grpc(GrpcPolicy {
            routes: vec![Route {
                hosts: Vec::new(),
                rules: vec![grpc],
            }],
            failure_accrual: None,
        }),
        Protocol::Opaque(opaque("o")),
        Protocol::Opaque(OpaquePolicy::default()),
        Protocol::Tls(TlsPolicy {
            routes: vec![TlsRoute::new(["*.shop"], connection("t")).unwrap()],
        }),
    ];
    all_differ(protocols.clone());
    let policy = |protocol: &Protocol| ClientPolicy {
        protocol: protocol.clone(),
        ..program().build().unwrap()
    };
    let named: Vec<Vec<_>> = protocols.iter().map(|p| policy(p).backends()).collect();
    let one = |name| vec![backend(name)];
    let none = Vec::new;
    assert_eq!(
        named,
        [
            none(),
            none(),
            none(),
            none(),
            one("g"),
            one("o"),
            none(),
            one("t")
        ]
    );
    let carried = protocols.each_ref().map(Protocol::is_http);
    assert_eq!(carried, [true, true, true, true, true, false, false, false]);
    for protocol in &protocols[4..] {
        let policy = policy(protocol);
        assert!(policy.for_version(Version::HTTP_11).routes.is_empty());
    }
    check(TlsRoute::new(["a:1"], connection("t")), Some("hostname"));
}
