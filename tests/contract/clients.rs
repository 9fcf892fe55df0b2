//! Clients, whole.

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tower::Service;
use tower_mesh::breaker::Gate;
use tower_mesh::client::AnswerErrors;
use tower_mesh::policy::{ClientPolicy, Codes, FailureAccrual, Fidelity, Hedge, Queue, Retry};
use tower_mesh::{Body, BoxError, Client, Endpoint};

use crate::checks::exchange;
use crate::inner::{Slow, Strict};
use crate::support::{addresses, get, ms, s, steady};
use crate::{Exchange, Script, Subject, asks};

pub fn make_client(script: Script, inner: &Strict) -> Client {
    make_client_with(script, inner, None)
}

fn make_client_with(script: Script, inner: &Strict, hedge: Option<Hedge>) -> Client {
    let inner = inner.clone();
    let wait = steady(ms(20));
    let long = steady(s(60));
    let policy = ClientPolicy::http().queue(Queue {
        capacity: 3,
        failfast_timeout: ms(100),
    });
    let (policy, endpoints) = match script {
        Script::Healthy => (policy.failure_accrual(FailureAccrual::consecutive(1)), 1),
        Script::Retried => (policy.retry(Retry::on(503..=503).backoff(wait)), 2),
        Script::Ejected => {
            let accrual = FailureAccrual::consecutive(1).backoff(wait);
            (policy.failure_accrual(accrual), 1)
        }
        Script::Held(method) => {
            let codes = Codes::of([Codes::UNKNOWN]).unwrap();
            let retry = Retry::never_on_status().codes(codes);
            (policy.kind(method).retry(retry.backoff(wait)), 2)
        }
        Script::Hopeless => {
            // In the mesh they wait, however long it is until the next probe.
            let accrual = FailureAccrual::consecutive(1).backoff(long);
            let policy = policy.fidelity(Fidelity::Mesh);
            (policy.failure_accrual(accrual), 1)
        }
    };
    let (policy, endpoints) = match (hedge, script) {
        (Some(hedge), Script::Healthy | Script::Retried) => (policy.hedge(hedge), 2),
        _ => (policy, endpoints),
    };
    Client::builder(policy.build().unwrap())
        .endpoints(addresses(endpoints))
        .seed(1)
        .build(move |_: &Endpoint| inner.clone())
        .unwrap()
}

pub struct ClientSubject {
    pub client: Client,
    pub inner: Strict,
    pub name: &'static str,
    pub through: Through,
    pub request: fn() -> Request<Body>,
}

#[derive(Clone, Copy)]
pub enum Through {
    Client,
    Borrowed,
    Answering,
}

pub fn called(
    through: Through,
    name: &'static str,
    script: Script,
    inner: &Strict,
) -> Box<dyn Subject> {
    Box::new(ClientSubject {
        client: make_client(script, inner),
        inner: inner.clone(),
        name,
        through,
        request: asks(script),
    })
}

pub fn client(script: Script, inner: &Strict) -> Box<dyn Subject> {
    called(Through::Client, "Client", script, inner)
}

pub fn borrowed_client(script: Script, inner: &Strict) -> Box<dyn Subject> {
    called(Through::Borrowed, "&Client", script, inner)
}

pub fn answering_client(script: Script, inner: &Strict) -> Box<dyn Subject> {
    called(Through::Answering, "AnswerErrors<Client>", script, inner)
}

pub fn hedged_client(script: Script, inner: &Strict) -> Box<dyn Subject> {
    Box::new(ClientSubject {
        client: make_client_with(script, inner, Some(Hedge::after(ms(2)))),
        inner: inner.clone(),
        name: "Client, hedging",
        through: Through::Client,
        request: asks(script),
    })
}

impl Subject for ClientSubject {
    fn name(&self) -> &'static str {
        self.name
    }

    fn call(&mut self) -> Exchange {
        let client = self.client.clone();
        let (through, request) = (self.through, (self.request)());
        Box::pin(async move {
            match through {
                Through::Client => exchange(client, request).await,
                Through::Borrowed => exchange(&client, request).await,
                Through::Answering => {
                    let answered = exchange(AnswerErrors::new(client), request).await;
                    answered.and_then(|(status, body)| match status {
                        // What it says in the body is what the others return.
                        StatusCode::SERVICE_UNAVAILABLE if body != "hello" => {
                            Err(String::from_utf8_lossy(&body).into_owned())
                        }
                        _ => Ok((status, body)),
                    })
                }
            }
        })
    }

    fn duplicate(&self) -> Box<dyn Subject> {
        Box::new(Self {
            client: self.client.clone(),
            inner: self.inner.clone(),
            ..*self
        })
    }

    fn leftovers(&self) -> Vec<String> {
        let snapshot = self.client.snapshot();
        let mut left = Vec::new();
        if snapshot.in_flight > 0 {
            left.push(format!("{} in flight", snapshot.in_flight));
        }
        for backend in &snapshot.backends {
            if backend.waiting > 0 {
                left.push(format!("{} places in line", backend.waiting));
            }
            for endpoint in &backend.endpoints {
                if endpoint.pending > 0 {
                    left.push(format!(
                        "{} pending at {}",
                        endpoint.pending, endpoint.endpoint
                    ));
                }
                if matches!(endpoint.gate, Gate::HalfOpen { .. }) {
                    left.push(format!("a probe of {}", endpoint.endpoint));
                }
            }
        }
        left
    }
}

/// The inner service, behind a connection.
pub fn serving(
    inner: Strict,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response<Slow>,
    Error = BoxError,
    Future: Send + 'static,
> {
    hyper::service::service_fn(move |_| {
        let mut inner = inner.clone();
        async move {
            std::future::poll_fn(|cx| inner.poll_ready(cx)).await?;
            inner.call(get()).await
        }
    })
}
