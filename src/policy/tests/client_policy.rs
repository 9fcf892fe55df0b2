use http::{HeaderName, HeaderValue, StatusCode, Version};

use super::*;

/// Program 3 of those that users will write.
fn program() -> ClientPolicyBuilder {
    ClientPolicy::http()
        .timeouts(Timeouts::request(Duration::from_secs(2)))
        .retry(Retry::on(502..=504).limit(2).budget(Budget::percent(20)))
        .failure_accrual(FailureAccrual::consecutive(5))
}

fn with_routes(routes: Vec<Route>) -> HttpPolicy {
    HttpPolicy {
        routes,
        failure_accrual: None,
    }
}

fn policy(protocol: Protocol) -> ClientPolicy {
    ClientPolicy {
        parent: Arc::new(Meta::default_named("test")),
        protocol,
        fidelity: Fidelity::default(),
        failures: None,
    }
}

fn route(distributions: Vec<RouteDistribution>) -> Route {
    let rule = |distribution| Rule::any(RoutePolicy::new(Meta::default_named("x"), distribution));
    Route {
        hosts: Vec::new(),
        rules: distributions.into_iter().map(rule).collect(),
    }
}

fn first(names: &[&str]) -> RouteDistribution {
    let used = names.iter().map(|name| RouteBackend::from(backend(name)));
    RouteDistribution::first_available(used).unwrap()
}

#[test]
fn a_policy_without_yaml() {
    let policy = program().build().unwrap();
    assert_eq!(policy.fidelity, Fidelity::Extended);
    assert_eq!(policy.parent.name(), "http");
    let (http1, http2) = (
        policy.for_version(Version::HTTP_11),
        policy.for_version(Version::HTTP_2),
    );
    assert_eq!(http1, http2);
    assert_eq!(http1.failure_accrual, Some(FailureAccrual::consecutive(5)));
    let [route] = &http1.routes[..] else {
        panic!("{http1:?}")
    };
    assert!(route.hosts.is_empty());
    let [rule] = &route.rules[..] else {
        panic!("{route:?}")
    };
    assert!(rule.matches.is_empty());
    assert!(rule.policy.filters.is_empty());
    let params = &rule.policy.params;
    assert_eq!(params.timeouts, Timeouts::request(2 * S));
    assert!(!params.allow_l5d_request_headers);
    let retry = params.retry.as_ref().unwrap();
    assert_eq!(retry.max_retries(), 2);
    assert_eq!(retry.budget(), Some(Budget::default()));
    let [backend] = &policy.backends()[..] else {
        panic!("{policy:?}")
    };
    assert_eq!(backend.queue, Queue::default());
    assert_eq!(backend.dispatcher, super::backend("http").dispatcher);
}

#[test]
fn nothing_is_switched_on() {
    let policy = ClientPolicy::http().named("payments").build().unwrap();
    assert_eq!(policy.parent.name(), "payments");
    let http = policy.for_version(Version::HTTP_10);
    assert_eq!(http.failure_accrual, None);
    let params = &http.routes[0].rules[0].policy.params;
    assert_eq!(params, &RouteParams::default());
    assert_eq!(policy.backends(), [backend("payments")]);
}

#[test]
fn a_builder_says_what_is_not_valid() {
    let inverted = Retry::never_on_status().and_on(std::ops::RangeInclusive::new(504, 502));
    check(
        ClientPolicy::http().retry(inverted).build(),
        Some("status_ranges"),
    );
    check(program().build(), None);
}

#[test]
fn every_part_of_a_builder_reaches_the_policy() {
    let penalty = Load::PenaltyPeakEwma(PenaltyPeakEwma::new(PeakEwma::DEFAULT));
    let queue = Queue {
        capacity: 1,
        failfast_timeout: MS,
    };
    let built = [
        program(),
        program().named("other"),
        program().timeouts(Timeouts::default()),
        program().retry(Retry::on(500..=599)),
        program().failure_accrual(Unified::default()),
        program().load(penalty),
        program().queue(queue),
        program().fidelity(Fidelity::Mesh),
    ]
    .map(|builder| builder.build().unwrap());
    assert_eq!(built[0], program().build().unwrap());
    let mesh = built[0].clone().with_fidelity(Fidelity::Mesh);
    assert_eq!(mesh, built[7]);
    all_differ(built);
}

#[test]
fn a_retry_that_is_built_goes_in_too() {
    let retry = Retry::on(502..=504).limit(2).budget(Budget::percent(20));
    let built = retry.clone().build().unwrap();
    assert_eq!(
        program().retry(built).build(),
        program().retry(retry).build()
    );
}

#[test]
fn backends_each_once_in_order() {
    let (b, c) = (
        RouteBackend::from(backend("b")),
        RouteBackend::from(backend("c")),
    );
    let weighed = RouteDistribution::random_available([(c, 0), (b, 5)]).unwrap();
    let one = with_routes(vec![
        route(vec![first(&["b", "a", "b"]), RouteDistribution::empty()]),
        route(vec![weighed, first(&["a"])]),
    ]);
    let expected = ["b", "a", "c"].map(backend);
    for protocol in [
        Protocol::Http1(one.clone()),
        Protocol::Http2(one.clone()),
        Protocol::detect(one.clone()),
    ] {
        assert_eq!(policy(protocol).backends(), expected);
    }
    let two = with_routes(vec![route(vec![first(&["d", "a"])])]);
    let protocol = Protocol::Detect {
        timeout: 10 * S,
        http1: two.clone(),
        http2: one.clone(),
        opaque: OpaquePolicy::default(),
    };
    let both = policy(protocol);
    assert_eq!(both.backends(), ["d", "a", "b", "c"].map(backend));
    assert_eq!(both.for_version(Version::HTTP_11), &two);
    assert_eq!(both.for_version(Version::HTTP_2), &one);
    assert!(
        policy(Protocol::Http1(HttpPolicy::default()))
            .backends()
            .is_empty()
    );
}

#[test]
fn backends_with_the_same_name_differ_by_what_they_are() {
    let plain = backend("a");
    let mut other = Backend::clone(&plain);
    other.queue.capacity = 1;
    let other = Arc::new(other);
    let used = [&plain, &other, &backend("a")].map(|one| RouteBackend::from(Arc::clone(one)));
    let distribution = RouteDistribution::first_available(used).unwrap();
    let http = with_routes(vec![route(vec![distribution])]);
    assert_eq!(policy(Protocol::Http1(http)).backends(), [plain, other]);
}

#[test]
fn differences_are_one_table() {
    let names: HashSet<_> = Difference::ALL.iter().map(|one| one.name()).collect();
    assert_eq!(names.len(), Difference::ALL.len());
    for one in Difference::ALL {
        assert_eq!(one.to_string(), one.name());
        assert_ne!(one.mesh(), one.extended());
    }
}

#[test]
fn everything_is_a_value() {
    fn value<T: Clone + Eq + Hash + Debug + Send + Sync + 'static>() {}
    value::<ClientPolicy>();
    value::<Difference>();
    value::<Filter>();
    value::<Protocol>();
    value::<RouteDistribution>();
    value::<Unified>();

    let change = ModifyHeader {
        add: vec![(HeaderName::from_static("a"), HeaderValue::from_static("1"))],
        ..ModifyHeader::default()
    };
    let redirect = RedirectRequest::new()
        .with_status(StatusCode::FOUND)
        .unwrap();
    let mut to_path = RedirectRequest::new();
    to_path.path = Some(ModifyPath::ReplaceFullPath("/a".to_owned()));
    let mut to_prefix = RedirectRequest::new();
    to_prefix.path = Some(ModifyPath::ReplacePrefixMatch("/a".to_owned()));
    let fail = |ratio| InjectFailure::new(StatusCode::OK, "", ratio).unwrap();
    all_differ([
        Filter::RequestHeaders(change.clone()),
        Filter::ResponseHeaders(change),
        Filter::Redirect(RedirectRequest::new()),
        Filter::Redirect(redirect),
        Filter::Redirect(to_path),
        Filter::Redirect(to_prefix),
        Filter::InjectFailure(fail(Ratio::ONE)),
        Filter::InjectFailure(fail(Ratio::ZERO)),
    ]);
    all_differ([
        RouteDistribution::empty(),
        first(&["a"]),
        first(&["b"]),
        first(&["a", "b"]),
        RouteDistribution::random_available([(backend("a").into(), 1)]).unwrap(),
        RouteDistribution::random_available([(backend("a").into(), 2)]).unwrap(),
    ]);
    all_differ([
        FailureAccrual::consecutive(5),
        FailureAccrual::consecutive(6),
        FailureAccrual::consecutive(5).min_ready_endpoints(0),
        FailureAccrual::consecutive(5).max_ejected(Ratio::percent(50)),
        FailureAccrual::consecutive(5).panic_after(4),
        FailureAccrual::consecutive(5).worse_than_peers(),
        FailureAccrual::consecutive(5).worse_than_peers_at(Ratio::ONE),
        FailureAccrual::consecutive(5).dry_run(),
        FailureAccrual::consecutive(5).backoff(ExponentialBackoff::RETRY),
        Unified::default().into(),
        FailureAccrual::from(Unified::default()).min_ready_endpoints(1),
    ]);
    let http = with_routes(vec![route(vec![first(&["a"])])]);
    all_differ([
        Protocol::Http1(http.clone()),
        Protocol::Http2(http.clone()),
        Protocol::detect(http),
    ]);
    all_differ([Fidelity::Mesh, Fidelity::Extended]);
}
