//! The balancer that stands alone.

use tower_mesh::Endpoint;
use tower_mesh::balance::Balance;
use tower_mesh::breaker::ServerErrors;
use tower_mesh::policy::Queue;

use crate::breakers::accrual;
use crate::checks::exchange;
use crate::inner::Strict;
use crate::support::{addresses, get, s};
use crate::{Exchange, Script, Subject};

/// A balance over leaves of the inner service: one, or two where another is to be tried.
struct BalanceSubject {
    balance: Balance<Strict, ServerErrors>,
    waits: bool,
}

pub fn balance(script: Script, inner: &Strict) -> Box<dyn Subject> {
    let inner = inner.clone();
    let endpoints = if matches!(script, Script::Retried) {
        2
    } else {
        1
    };
    let balance = Balance::builder()
        .failure_accrual(accrual(script))
        .classify(ServerErrors)
        .queue(Queue {
            capacity: 3,
            failfast_timeout: s(1),
        })
        .endpoints(addresses(endpoints))
        .seed(1)
        .build(move |_: &Endpoint| inner.clone());
    Box::new(BalanceSubject {
        balance: balance.unwrap(),
        waits: matches!(script, Script::Ejected),
    })
}

impl Subject for BalanceSubject {
    fn name(&self) -> &'static str {
        "Balance"
    }

    fn call(&mut self) -> Exchange {
        Box::pin(exchange(self.balance.clone(), get()))
    }

    fn duplicate(&self) -> Box<dyn Subject> {
        Box::new(Self {
            balance: self.balance.clone(),
            waits: self.waits,
        })
    }

    fn leftovers(&self) -> Vec<String> {
        let counts = [
            (self.balance.pending(), "pending"),
            (self.balance.waiting(), "waiting"),
        ];
        let counts = counts.into_iter().filter(|(count, _)| *count > 0);
        counts
            .map(|(count, what)| format!("{count} {what}"))
            .collect()
    }

    fn waits(&self) -> bool {
        self.waits
    }
}
