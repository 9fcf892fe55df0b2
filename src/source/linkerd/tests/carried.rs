use proptest::prelude::*;

use super::super::{api, read, write};
use super::{comes_back, strategy};
use crate::policy::{
    Backend, BackendDispatcher, ClientPolicy, FailureAccrual, MatchHeaderValue, MatchHost,
    MatchPath, Protocol, Ratio, Retry, Timeouts, Unified,
};
use std::time::Duration;

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    /// Policy to message to bytes to message to policy is the identity, for every policy that a message can carry.
    #[test]
    fn every_policy_comes_back(policy in strategy::policy()) {
        comes_back(&policy);
    }
}

/// What the strategy makes, so that nobody has to believe that it makes everything.
#[test]
fn the_strategy_makes_everything() {
    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let strategy = strategy::policy();
    let mut words = String::new();
    for _ in 0..300 {
        let policy = strategy.new_tree(&mut runner).unwrap().current();
        words += &format!("{policy:?}");
    }
    for word in [
        "Detect {",
        "Http1(",
        "Http2(",
        "Grpc(",
        "Opaque(",
        "Tls(",
        "Default {",
        "Resource(",
        "section: Some",
        "port: Some",
        "Exact(",
        "Suffix {",
        "Prefix(",
        "Regex(",
        "MatchHeader {",
        "MatchQueryParam {",
        "method: Some",
        "service: Some",
        "InjectFailure(",
        "Redirect(",
        "RequestHeaders(",
        "ResponseHeaders(",
        "ReplaceFullPath(",
        "ReplacePrefixMatch(",
        "Forbidden",
        "Invalid {",
        "Empty",
        "FirstAvailable(",
        "RandomAvailable(",
        "Forward(",
        "BalanceP2c(",
        "Fail {",
        "PeakEwma(",
        "PenaltyPeakEwma(",
        "retry: Some",
        "backoff: Some",
        "timeout: Some",
        "request: Some",
        "response: Some",
        "idle: Some",
        "Consecutive(",
        "Unified(",
        "ejection: Some",
        "respect_retry_after: true",
        "allow_l5d_request_headers: true",
    ] {
        assert!(words.contains(word), "{word}");
    }
}

/// One policy by hand, field by field: that the two ways agree says nothing if both are wrong.
#[test]
fn one_message_by_hand() {
    let policy = ClientPolicy::http()
        .named("payments.shop:8080")
        .timeouts(Timeouts {
            request: Some(Duration::from_millis(1500)),
            response: None,
            idle: Some(Duration::from_secs(9)),
        })
        .retry(
            Retry::on(502..=504)
                .limit(3)
                .timeout(Duration::from_millis(250)),
        )
        .failure_accrual(
            FailureAccrual::from(Unified::default())
                .respect_retry_after()
                .min_ready_endpoints(2),
        )
        .build()
        .unwrap();
    let written = write(&policy);
    assert_eq!(written.problems, []);
    use api::outbound as wire;
    let seconds = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    let Some(wire::proxy_protocol::Kind::Detect(detect)) = written.message.protocol.unwrap().kind
    else {
        panic!("not detected");
    };
    assert_eq!(detect.timeout, seconds(10, 0));
    assert_eq!(detect.opaque.unwrap().routes, []);
    let http1 = detect.http1.unwrap();
    let accrual = http1.failure_accrual.unwrap();
    assert_eq!(accrual.ejection.unwrap().min_ready_endpoints, 2);
    let Some(wire::failure_accrual::Kind::Unified(unified)) = accrual.kind else {
        panic!("not unified");
    };
    assert_eq!(unified.success_rate_threshold, 0.8);
    assert_eq!(unified.decay, seconds(10, 0));
    assert_eq!(
        (unified.min_requests, unified.max_consecutive_failures),
        (5, 7)
    );
    let backoff = unified.backoff.unwrap();
    assert_eq!(
        (backoff.min_backoff, backoff.max_backoff),
        (seconds(1, 0), seconds(60, 0))
    );
    assert_eq!(
        (backoff.jitter_ratio, backoff.respect_retry_after_hint),
        (0.5, true)
    );
    let route = &http1.routes[0];
    let named = api::meta::metadata::Kind::Default("payments.shop:8080".to_owned());
    assert_eq!(route.metadata.as_ref().unwrap().kind, Some(named.clone()));
    let rule = &route.rules[0];
    let timeouts = rule.timeouts.unwrap();
    assert_eq!(timeouts.request, seconds(1, 500_000_000));
    assert_eq!((timeouts.response, timeouts.idle), (None, seconds(9, 0)));
    let retry = rule.retry.as_ref().unwrap();
    assert_eq!((retry.max_retries, retry.max_request_bytes), (3, 65536));
    assert_eq!(retry.timeout, seconds(0, 250_000_000));
    let range = &retry.conditions.as_ref().unwrap().status_ranges[0];
    assert_eq!((range.start, range.end), (502, 504));
    let backoff = retry.backoff.unwrap();
    assert_eq!(backoff.min_backoff, seconds(0, 25_000_000));
    assert_eq!(backoff.max_backoff, seconds(0, 250_000_000));
    assert_eq!(
        (backoff.jitter_ratio, backoff.respect_retry_after_hint),
        (1.0, false)
    );
    let Some(wire::http_route::distribution::Kind::FirstAvailable(first)) =
        &rule.backends.as_ref().unwrap().kind
    else {
        panic!("not the first");
    };
    let backend = first.backends[0].backend.as_ref().unwrap();
    assert_eq!(backend.metadata.as_ref().unwrap().kind, Some(named));
    let queue = backend.queue.unwrap();
    assert_eq!(
        (queue.capacity, queue.failfast_timeout),
        (100, seconds(3, 0))
    );
    let Some(wire::backend::Kind::Balancer(balancer)) = &backend.kind else {
        panic!("not balanced");
    };
    let discovery = wire::backend::endpoint_discovery::Kind::Dst(
        wire::backend::endpoint_discovery::DestinationGet {
            path: "payments.shop:8080".to_owned(),
        },
    );
    assert_eq!(balancer.discovery.as_ref().unwrap().kind, Some(discovery));
    let ewma = wire::backend::balance_p2c::PeakEwma {
        default_rtt: seconds(0, 30_000_000),
        decay: seconds(10, 0),
    };
    let load = wire::backend::balance_p2c::Load::PeakEwma(ewma);
    assert_eq!(balancer.load, Some(load));
    assert_eq!(detect.http2.unwrap().routes.len(), 1);
}

/// The same from the other side: a message as bytes, in the encoding of protobuf.
#[test]
fn one_message_as_bytes() {
    // protocol { http1 { routes { metadata { default: "a" } hosts { exact: "h" } rules { matches { path { prefix: "/x" }
    // headers { name: "k" exact: "v" } } backends { empty {} } allow_l5d_request_headers: true } } } } metadata { default:
    // "p" }
    let field = |number: u8, bytes: &[u8]| {
        let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
        out.extend_from_slice(bytes);
        out
    };
    let path = field(1, &field(2, b"/x"));
    let header = field(2, &[field(1, b"k"), field(2, b"v")].concat());
    let matched = field(1, &[path, header].concat());
    let backends = field(3, &field(1, b""));
    let rule = [matched, backends, vec![7 << 3, 1]].concat();
    let host = field(2, &field(1, b"h"));
    let route = [field(1, &field(1, b"a")), host, field(3, &rule)].concat();
    let http1 = field(3, &field(1, &route));
    let bytes = [field(1, &http1), field(2, &field(1, b"p"))].concat();
    let read = super::Read::from_bytes(&bytes).unwrap();
    assert_eq!(read.problems, []);
    let policy = read.strict().unwrap();
    assert_eq!(policy.parent.name(), "p");
    let Protocol::Http1(http) = &policy.protocol else {
        panic!("{policy:?}");
    };
    let route = &http.routes[0];
    assert_eq!(route.hosts, [MatchHost::Exact("h".to_owned())]);
    let rule = &route.rules[0];
    assert_eq!(rule.policy.meta.name(), "a");
    assert!(rule.policy.params.allow_l5d_request_headers);
    assert_eq!(rule.policy.distribution.backends().count(), 0);
    assert_eq!(rule.matches[0].path, Some(MatchPath::prefix("/x").unwrap()));
    let header = &rule.matches[0].headers[0];
    assert_eq!(header.name, "k");
    assert_eq!(
        header.value,
        MatchHeaderValue::Exact(http::HeaderValue::from_static("v"))
    );
    assert!(super::Read::from_bytes(&bytes[1..]).is_err());
}

/// A backend that does not exist has no kind; why is said by the filter in front of it.
#[test]
fn nobody_is_behind_it() {
    let policy = ClientPolicy::http().build().unwrap();
    let mut message = write(&policy).message;
    let Some(api::outbound::proxy_protocol::Kind::Detect(detect)) =
        &mut message.protocol.as_mut().unwrap().kind
    else {
        panic!("not detected");
    };
    let rule = &mut detect.http1.as_mut().unwrap().routes[0].rules[0];
    let Some(api::outbound::http_route::distribution::Kind::FirstAvailable(first)) =
        &mut rule.backends.as_mut().unwrap().kind
    else {
        panic!("not the first");
    };
    first.backends[0].backend.as_mut().unwrap().kind = None;
    let back = read(message);
    assert_eq!(back.problems, []);
    let http1 = back.policy.for_version(http::Version::HTTP_11);
    let (used, _) = http1.routes[0].rules[0]
        .policy
        .distribution
        .backends()
        .next()
        .unwrap();
    let Backend { dispatcher, .. } = &*used.backend;
    assert_eq!(
        *dispatcher,
        BackendDispatcher::Fail {
            message: "the policy says nobody is behind default.http".to_owned()
        }
    );
    comes_back(&back.policy);
}

/// Shares that are no whole millionths come back rounded, once.
#[test]
fn rounded_once() {
    let mut filter = api::outbound::http_route::Filter::default();
    let injector = api::http_route::HttpFailureInjector {
        status: 503,
        message: String::new(),
        ratio: Some(api::http_route::Ratio {
            numerator: 2,
            denominator: 3,
        }),
    };
    filter.kind = Some(api::outbound::http_route::filter::Kind::FailureInjector(
        injector,
    ));
    let mut problems = super::super::Problems::default();
    let at = super::super::problem::At::Root;
    let read = super::super::read::http_filter(&mut problems, &at, filter);
    let crate::policy::Filter::InjectFailure(failure) = read else {
        panic!("{read:?}");
    };
    assert_eq!(failure.ratio(), Ratio::parts_per_million(666_667).unwrap());
    assert_eq!(problems.into_vec(), []);
}
