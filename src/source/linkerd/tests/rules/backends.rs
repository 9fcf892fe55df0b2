//! Backends and distributions.

use super::*;

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
        Some(Kind::Forward(wire::destination::WeightedAddr {
            addr,
            ..Default::default()
        }))
    };
    let address = |port| {
        let mut addr = wire::net::TcpAddress::from(std::net::SocketAddr::from(([10, 0, 0, 7], 1)));
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
