//! Every rule of validity: a good message with one thing wrong, the field that is named, and what became of it.

mod backends;
mod filters;
mod matches;
mod params;
mod protocols;

use super::{Problem, api as wire, paths};
use crate::policy::{
    BackendDispatcher, ClientPolicy, Codes, ConnectionFilter, ExponentialBackoff, FailureAccrual,
    Filter, GrpcFilter, HttpPolicy, Load, MatchPath, Meta, Protocol, Queue, Ratio, Retry, Route,
    Unified,
};
use crate::source::linkerd::api::{http_route as hr, http_types, meta, outbound as api};
use crate::source::linkerd::{Effect, Read, read, write};
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
    let refused = |problem: &Problem| problem.effect > Effect::Kept;
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

/// A message has nothing in it that a line could not hold.
#[test]
fn one_line_each() {
    let read = changed(|http1| {
        http1.routes[0].rules[0].matches = vec![matches::prefix("a\nb\u{7}")];
    });
    let line = read.problems[0].to_string();
    assert!(!line.contains(char::is_control), "{line}");
    let error = read.strict().unwrap_err();
    assert_eq!(error.problems().len(), 1);
    assert!(!error.to_string().contains(char::is_control), "{error}");
    let _: &Route = &http(&changed(|_| {})).routes[0];
}
