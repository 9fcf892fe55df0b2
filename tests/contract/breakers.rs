//! Breakers that stand alone.

use tower::Layer;
use tower_mesh::breaker::{
    AtEnd, BreakerHandle, BreakerLayer, BreakerService, Breakers, BreakersService, ByHost, Gate,
    HttpOrGrpc, Wait,
};
use tower_mesh::policy::FailureAccrual;

use crate::checks::exchange;
use crate::inner::Strict;
use crate::support::{get, ms, s, steady};
use crate::{Exchange, Script, Subject};

/// A breaker around the inner service, alone or one of a registry's.
#[derive(Clone)]
struct BreakerSubject {
    name: &'static str,
    service: Guarded,
}

#[derive(Clone)]
enum Guarded {
    One(BreakerService<Strict>, BreakerHandle),
    Many(BreakersService<Strict>, Breakers),
    OneAtEnd(BreakerService<Strict, HttpOrGrpc, AtEnd>, BreakerHandle),
    ManyAtEnd(
        BreakersService<Strict, ByHost, HttpOrGrpc, AtEnd>,
        Breakers<ByHost, HttpOrGrpc, AtEnd>,
    ),
}

pub fn accrual(script: Script) -> FailureAccrual {
    let wait = match script {
        Script::Ejected => ms(20),
        _ => s(60),
    };
    let failures = if matches!(script, Script::Retried) {
        2
    } else {
        1
    };
    FailureAccrual::consecutive(failures).backoff(steady(wait))
}

fn guarded(name: &'static str, layer: BreakerLayer, inner: &Strict) -> Box<dyn Subject> {
    let service = Guarded::One(layer.layer(inner.clone()), layer.handle());
    Box::new(BreakerSubject { name, service })
}

pub fn breaker(script: Script, inner: &Strict) -> Box<dyn Subject> {
    guarded("BreakerService", BreakerLayer::new(accrual(script)), inner)
}

pub fn waiting_breaker(script: Script, inner: &Strict) -> Box<dyn Subject> {
    let layer = BreakerLayer::new(accrual(script));
    // Who waits for a breaker that stays open waits for ever.
    match script {
        Script::Ejected => guarded(
            "BreakerService, waiting",
            layer.wait(Wait::at_most(s(10))),
            inner,
        ),
        _ => guarded("BreakerService", layer, inner),
    }
}

pub fn breakers_by_host(script: Script, inner: &Strict) -> Box<dyn Subject> {
    let breakers = Breakers::by_host(accrual(script));
    Box::new(BreakerSubject {
        name: "BreakersService",
        service: Guarded::Many(breakers.layer(inner.clone()), breakers),
    })
}

pub fn settling_breaker(script: Script, inner: &Strict) -> Box<dyn Subject> {
    let layer = BreakerLayer::new(accrual(script)).settling_bodies();
    Box::new(BreakerSubject {
        name: "BreakerService, judging at the end",
        service: Guarded::OneAtEnd(layer.layer(inner.clone()), layer.handle()),
    })
}

pub fn settling_breakers(script: Script, inner: &Strict) -> Box<dyn Subject> {
    let breakers = Breakers::by_host(accrual(script)).settling_bodies();
    Box::new(BreakerSubject {
        name: "BreakersService, judging at the end",
        service: Guarded::ManyAtEnd(breakers.layer(inner.clone()), breakers),
    })
}

impl Subject for BreakerSubject {
    fn name(&self) -> &'static str {
        self.name
    }

    fn call(&mut self) -> Exchange {
        let service = self.service.clone();
        Box::pin(async move {
            match service {
                Guarded::One(service, _) => exchange(service, get()).await,
                Guarded::Many(service, _) => exchange(service, get()).await,
                Guarded::OneAtEnd(service, _) => exchange(service, get()).await,
                Guarded::ManyAtEnd(service, _) => exchange(service, get()).await,
            }
        })
    }

    fn duplicate(&self) -> Box<dyn Subject> {
        Box::new(self.clone())
    }

    fn leftovers(&self) -> Vec<String> {
        let states = match &self.service {
            Guarded::One(_, handle) | Guarded::OneAtEnd(_, handle) => vec![handle.state()],
            Guarded::Many(_, breakers) => breakers.states(),
            Guarded::ManyAtEnd(_, breakers) => breakers.states(),
        };
        let probing = states
            .iter()
            .filter(|state| matches!(state.gate, Gate::HalfOpen { .. }));
        probing.map(|state| format!("a probe: {state}")).collect()
    }

    fn waits(&self) -> bool {
        self.name == "BreakerService, waiting"
    }
}
