//! What a message does not say: a policy with one thing of it, and the field that is named.

use std::sync::Arc;
use std::time::Duration;

use super::super::{Effect, read, write};
use super::paths;
use crate::policy::*;

const S: Duration = Duration::from_secs(1);
const RULE: &str = "http1.routes[0].rules[0]";

/// HTTP/1 with one rule.
fn http1() -> HttpPolicy {
    let policy = ClientPolicy::http()
        .named("web")
        .retry(Retry::on(500..=599))
        .failure_accrual(FailureAccrual::consecutive(7))
        .build()
        .unwrap();
    match policy.protocol {
        Protocol::Detect { http1, .. } => http1,
        other => panic!("{other:?}"),
    }
}

fn client(protocol: Protocol) -> ClientPolicy {
    ClientPolicy {
        parent: Arc::new(Meta::default_named("web")),
        protocol,
        fidelity: Fidelity::default(),
        failures: None,
    }
}

#[track_caller]
fn names(policy: &ClientPolicy, path: &str, effect: Effect) {
    let written = write(policy);
    assert_eq!(paths(&written.problems), [(path, effect)]);
    // It is named because it does not come back; what is kept does.
    let back = read(written.message);
    assert_eq!(back.policy == *policy, effect == Effect::Kept, "{path}");
}

#[track_caller]
fn rule(path: &str, effect: Effect, change: impl FnOnce(&mut Rule)) {
    let mut http1 = http1();
    change(&mut http1.routes[0].rules[0]);
    names(
        &client(Protocol::Http1(http1)),
        &format!("{RULE}.{path}"),
        effect,
    );
}

#[track_caller]
fn backend(path: &str, effect: Effect, change: impl FnOnce(&mut Backend)) {
    let path = format!("backends.first_available.backends[0].backend.{path}");
    rule(&path, effect, |rule| {
        let mut backend = (*rule
            .policy
            .distribution
            .backends()
            .next()
            .unwrap()
            .0
            .backend)
            .clone();
        change(&mut backend);
        let backend = RouteBackend::from(Arc::new(backend));
        rule.policy.distribution = RouteDistribution::first_available([backend]).unwrap();
    });
}

#[test]
fn of_the_whole() {
    super::comes_back(&client(Protocol::Http1(http1())));
    let policy = client(Protocol::Http1(http1())).with_fidelity(Fidelity::Mesh);
    names(&policy, "fidelity", Effect::LeftOut);
    let mut policy = client(Protocol::Http1(http1()));
    policy.failures = Some(Failures::by(Fidelity::Mesh));
    names(&policy, "failures", Effect::LeftOut);
    let detect = Protocol::Detect {
        timeout: Duration::MAX,
        http1: http1(),
        http2: http1(),
        opaque: OpaquePolicy::default(),
    };
    names(&client(detect), "detect.timeout", Effect::LeftOut);
}

#[test]
fn of_routes() {
    let mut http1 = http1();
    let mut second = http1.routes[0].rules[0].clone();
    second.policy.meta = Arc::new(Meta::default_named("other"));
    http1.routes[0].rules.push(second);
    let path = "http1.routes[0].rules[1].metadata";
    names(
        &client(Protocol::Http1(http1.clone())),
        path,
        Effect::LeftOut,
    );
    http1.routes[0].rules.clear();
    let path = "http1.routes[0].rules";
    names(&client(Protocol::Http1(http1)), path, Effect::LeftOut);
}

#[test]
fn of_params() {
    rule("hedge", Effect::LeftOut, |rule| {
        rule.policy.params.hedge = Some(Hedge::after(S));
    });
    rule("kind", Effect::LeftOut, |rule| {
        rule.policy.params.kind = MethodKind::Streaming;
    });
    rule("timeouts.idle", Effect::LeftOut, |rule| {
        rule.policy.params.timeouts.idle = Some(Duration::MAX);
    });
    let retry = |path: &str, effect, retry: RetryBuilder| {
        rule(&format!("retry.{path}"), effect, |rule| {
            rule.policy.params.retry = Some(retry.build().unwrap());
        });
    };
    let on = || Retry::on(500..=599);
    retry("budget", Effect::LeftOut, on().budget(Budget::default()));
    retry("budget", Effect::LeftOut, on().unlimited());
    let trailers = Trailers::default().first_frame(S);
    retry("trailers", Effect::LeftOut, on().trailers(trailers));
    retry(
        "codes",
        Effect::LeftOut,
        on().and_on_codes([Codes::UNAVAILABLE]),
    );
    retry("timeout", Effect::LeftOut, on().timeout(Duration::MAX));
    let bytes = usize::try_from(u32::MAX).unwrap() + 1;
    retry(
        "max_request_bytes",
        Effect::LeftOut,
        on().max_request_bytes(bytes),
    );
    // 24 bits.
    let jitter = Ratio::parts_per_million(16_777_217).unwrap();
    let backoff = ExponentialBackoff::try_new(S, S, jitter).unwrap();
    retry(
        "backoff.jitter_ratio",
        Effect::Default,
        on().backoff(backoff),
    );
}

#[test]
fn of_matches_and_filters() {
    let path = |path| MatchRequest {
        path: Some(path),
        ..MatchRequest::default()
    };
    let none = path(MatchPath::Exact("a".to_owned()));
    rule("matches[0].path.exact", Effect::Kept, |rule| {
        rule.matches = vec![none]
    });
    let none = path(MatchPath::Prefix("a".to_owned()));
    rule("matches[0].path.prefix", Effect::Kept, |rule| {
        rule.matches = vec![none]
    });
    let get = Condition::Not(Box::new(Condition::Method(http::Method::GET)));
    let not = path(MatchPath::Condition(get));
    rule("matches[0].path.condition", Effect::Refused, |rule| {
        rule.matches = vec![not]
    });
    rule("classes", Effect::LeftOut, |rule| {
        rule.policy.params.classes.failures = StatusRanges::server_errors();
    });
    let redirect = |path: &str, effect, change: fn(&mut RedirectRequest)| {
        let mut redirect = RedirectRequest::new();
        change(&mut redirect);
        rule(&format!("filters[0].redirect.{path}"), effect, |rule| {
            rule.policy.filters = vec![Filter::Redirect(redirect)];
        });
    };
    redirect("port", Effect::LeftOut, |it| it.port = Some(0));
    redirect("host", Effect::LeftOut, |it| it.host = Some(String::new()));
    redirect("host", Effect::Kept, |it| it.host = Some("a:80".to_owned()));
    redirect("path.full", Effect::Kept, |it| {
        it.path = Some(ModifyPath::ReplaceFullPath("a".to_owned()));
    });
}

#[test]
fn of_backends() {
    let load = |path: &str, effect, load: Load| {
        backend(&format!("balancer.{path}"), effect, |backend| {
            let BackendDispatcher::BalanceP2c(it, _) = &mut backend.dispatcher else {
                panic!("not balanced");
            };
            *it = load;
        });
    };
    load("load", Effect::Default, Load::least_pending());
    load("load", Effect::Default, Load::weighted_round_robin());
    load(
        "load.extensions",
        Effect::LeftOut,
        Load::default().slow_start(S),
    );
    backend("balancer.discovery.dst.path", Effect::Refused, |backend| {
        let BackendDispatcher::BalanceP2c(_, EndpointDiscovery::DestinationGet { path }) =
            &mut backend.dispatcher
        else {
            panic!("not balanced");
        };
        path.clear();
    });
}

#[test]
fn of_queues_and_addresses() {
    backend("queue.capacity", Effect::LeftOut, |backend| {
        backend.queue.capacity = usize::MAX;
    });
    backend("message", Effect::LeftOut, |backend| {
        let message = "because".to_owned();
        backend.dispatcher = BackendDispatcher::Fail { message };
    });
    backend("forward.addr.port", Effect::Refused, |backend| {
        backend.dispatcher = BackendDispatcher::Forward(([10, 0, 0, 7], 0).into());
    });
    let zoned = std::net::SocketAddrV6::new(std::net::Ipv6Addr::LOCALHOST, 80, 0, 3);
    backend("forward.addr.ip", Effect::LeftOut, |backend| {
        backend.dispatcher = BackendDispatcher::Forward(zoned.into());
    });
}

#[test]
fn of_breakers() {
    let check = |path: &str, accrual: FailureAccrual| {
        let mut http1 = http1();
        http1.failure_accrual = Some(accrual);
        let path = format!("http1.failure_accrual.{path}");
        names(&client(Protocol::Http1(http1)), &path, Effect::LeftOut);
    };
    let plain = || FailureAccrual::consecutive(7);
    check("worse_than_peers", plain().worse_than_peers());
    check("slow_call", plain().slow_call(S));
    check("probes", plain().probes(3));
    check("memory", plain().memory(S));
    check("dry_run", plain().dry_run());
    check(
        "ejection.max_ejected",
        plain().max_ejected(Ratio::percent(50)),
    );
    check("ejection.panic_after", plain().panic_after(4));
}

#[test]
fn of_grpc() {
    let grpc = |change: fn(&mut GrpcRule)| {
        let policy = ClientPolicy::grpc()
            .named("web")
            .retry(Retry::on_codes([Codes::INTERNAL]))
            .build()
            .unwrap();
        let Protocol::Grpc(mut grpc) = policy.protocol else {
            panic!("not gRPC");
        };
        change(&mut grpc.routes[0].rules[0]);
        client(Protocol::Grpc(grpc))
    };
    super::comes_back(&grpc(|_| {}));
    let retry = |rule: &mut GrpcRule, retry: RetryBuilder| {
        rule.policy.params.retry = Some(retry.build().unwrap());
    };
    let path = |path: &str| format!("grpc.routes[0].rules[0].{path}");
    let policy = grpc(|rule| {
        rule.policy.filters = vec![GrpcFilter::ResponseHeaders(ModifyHeader::default())]
    });
    let field = path("filters[0].response_header_modifier");
    names(&policy, &field, Effect::LeftOut);
    let policy = grpc(|rule| {
        rule.matches = vec![MatchRpc {
            service: Some(String::new()),
            ..MatchRpc::default()
        }];
    });
    names(&policy, &path("matches[0].rpc.service"), Effect::LeftOut);
    let policy = grpc(|rule| {
        rule.matches = vec![MatchRpc {
            method: Some(String::new()),
            ..MatchRpc::default()
        }]
    });
    names(&policy, &path("matches[0].rpc.method"), Effect::LeftOut);
    let mut policy = grpc(|_| {});
    let Protocol::Grpc(it) = &mut policy.protocol else {
        panic!("not gRPC");
    };
    retry(
        &mut it.routes[0].rules[0],
        Retry::on_codes([Codes::UNKNOWN, Codes::INTERNAL]),
    );
    names(&policy, &path("retry.codes"), Effect::LeftOut);
    let Protocol::Grpc(it) = &mut policy.protocol else {
        panic!("not gRPC");
    };
    retry(&mut it.routes[0].rules[0], Retry::on(500..=500));
    names(&policy, &path("retry.status_ranges"), Effect::LeftOut);
}
