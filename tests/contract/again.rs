//! Retries and hedges that stand alone.

use std::sync::atomic::Ordering;

use http::Request;
use tower::Layer;
use tower_mesh::Body;
use tower_mesh::budget::RetryBudget;
use tower_mesh::policy::{Hedge, Retry};
use tower_mesh::retry::{
    ByMethod, ByPolicy, HedgeLayer, HedgeService, ReplayingService, RetryLayer, RetryService,
    TrailersService,
};

use crate::checks::exchange;
use crate::inner::Strict;
use crate::support::{get, ms, s, steady};
use crate::{Exchange, Script, Subject, grpc};

type CopyRequest = fn(&Request<Body>) -> Option<Request<Body>>;

/// Retries or hedges around the inner service.
#[derive(Clone)]
enum Again {
    Retry(RetryService<Strict, ByPolicy, CopyRequest>),
    Replay(ReplayingService<Strict>),
    Hedge(HedgeService<Strict, ByMethod, CopyRequest>),
    Trailers(RetryService<TrailersService<Strict>, ByPolicy, CopyRequest>),
}

#[derive(Clone)]
struct AgainSubject {
    name: &'static str,
    service: Again,
    budget: RetryBudget,
    inner: Strict,
}

fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let body = request.body().try_clone()?;
    let mut copy = Request::new(body);
    *copy.uri_mut() = request.uri().clone();
    Some(copy)
}

fn retry_policy() -> RetryLayer {
    let wait = steady(ms(20));
    RetryLayer::new(Retry::on(503..=503).backoff(wait).timeout(s(1)))
}

fn again(name: &'static str, service: Again, inner: &Strict) -> Box<dyn Subject> {
    let budget = match &service {
        Again::Retry(service) => service.budget().unwrap(),
        Again::Trailers(service) => service.budget().unwrap(),
        Again::Replay(service) => service.budget().unwrap(),
        Again::Hedge(service) => service.budget(),
    };
    Box::new(AgainSubject {
        name,
        budget: budget.clone(),
        service,
        inner: inner.clone(),
    })
}

pub fn retrying(_: Script, inner: &Strict) -> Box<dyn Subject> {
    let layer = retry_policy().clone_request(copy as fn(&Request<Body>) -> _);
    again(
        "RetryService",
        Again::Retry(layer.layer(inner.clone())),
        inner,
    )
}

// Holds what it is answered, as a gRPC call of one message.
pub fn retrying_by_trailers(_: Script, inner: &Strict) -> Box<dyn Subject> {
    let wait = steady(ms(20));
    let policy = Retry::on(503..=503).and_on_codes([14]).backoff(wait);
    let layer = RetryLayer::new(policy).clone_request(copy as fn(&Request<Body>) -> _);
    let service = layer.layer(layer.trailers().layer(inner.clone()));
    again("TrailersService", Again::Trailers(service), inner)
}

pub fn replaying(_: Script, inner: &Strict) -> Box<dyn Subject> {
    let service = retry_policy().replaying(100).layer(inner.clone());
    again("ReplayingService", Again::Replay(service), inner)
}

pub fn hedging(_: Script, inner: &Strict) -> Box<dyn Subject> {
    // While the first is on its way.
    let layer = HedgeLayer::new(Hedge::after(ms(2)));
    let layer = layer.clone_request(copy as fn(&Request<Body>) -> _);
    again(
        "HedgeService",
        Again::Hedge(layer.layer(inner.clone())),
        inner,
    )
}

impl Subject for AgainSubject {
    fn name(&self) -> &'static str {
        self.name
    }

    fn call(&mut self) -> Exchange {
        let service = self.service.clone();
        Box::pin(async move {
            match service {
                Again::Retry(service) => exchange(service, get()).await,
                Again::Trailers(service) => exchange(service, grpc()).await,
                Again::Replay(service) => exchange(service, get()).await,
                Again::Hedge(service) => exchange(service, get()).await,
            }
        })
    }

    fn duplicate(&self) -> Box<dyn Subject> {
        Box::new(self.clone())
    }

    fn leftovers(&self) -> Vec<String> {
        // What was drawn and not returned has been sent.
        let (drawn, calls) = (
            self.budget.withdrawals(),
            self.inner.total.load(Ordering::Relaxed),
        );
        let tokens = (drawn > calls as u64).then(|| format!("{drawn} tokens for {calls} calls"));
        tokens.into_iter().collect()
    }

    fn ejects(&self) -> bool {
        false
    }
}
