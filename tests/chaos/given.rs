//! What a client is made of: policies, endpoints, leaves.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tower_mesh::connect::{Connections, HttpBody, HttpConnector, HttpLeaf};
use tower_mesh::discover::{Endpoints, Update};
use tower_mesh::policy::{
    Budget, ClientPolicy, ExponentialBackoff, FailureAccrual, Hedge, MethodKind, Queue, Ratio,
    Retry, Timeouts,
};
use tower_mesh::{BoxError, Connect, Endpoint};

use super::ledger::Dice;
use super::ms;

pub fn policy(dice: &mut Dice, grpc: bool, patience: Duration, limit: u16) -> ClientPolicy {
    let backoff = |most| {
        let most = ms(1 + most);
        ExponentialBackoff::try_new(ms(1), most, Ratio::percent(50)).unwrap()
    };
    let some = |dice: &mut Dice, most| dice.percent(50).then(|| ms(5 + dice.below(most)));
    let timeouts = Timeouts {
        request: Some(patience),
        response: some(dice, 300),
        idle: some(dice, 200),
    };
    let mut retry = match grpc {
        true => Retry::on_codes([14, 13]).and_on(500..=599),
        false => Retry::on(500..=599),
    };
    retry = retry
        .limit(limit)
        .backoff(backoff(dice.below(10)))
        .max_request_bytes(dice.one_of(&[0, 1000, 20_000, 64 * 1024]))
        // The same always, so that it is one bank.
        .budget(Budget::percent(50));
    if let Some(timeout) = some(dice, 80) {
        retry = retry.timeout(timeout);
    }
    let queue = Queue {
        capacity: dice.one_of(&[0, 3, 1000]),
        failfast_timeout: ms(dice.one_of(&[1, 20, 400])),
    };
    let accrual = match dice.below(4) {
        0 => None,
        1 => Some(FailureAccrual::consecutive(3).backoff(backoff(30))),
        2 => Some(FailureAccrual::success_rate(Ratio::percent(70)).backoff(backoff(20))),
        _ => Some(
            FailureAccrual::consecutive(5)
                .backoff(backoff(50))
                .slow_call(ms(60))
                .min_ready_endpoints(1)
                .probes(2)
                .memory(ms(200)),
        ),
    };
    let hedge = dice.percent(40).then(|| match dice.percent(50) {
        true => Hedge::after(ms(dice.below(30))),
        false => Hedge::after_percentile(80),
    });
    let kind = dice.one_of(&[MethodKind::Auto, MethodKind::Unary, MethodKind::Streaming]);
    macro_rules! build {
        ($builder:expr) => {{
            let mut builder = $builder.timeouts(timeouts).retry(retry).queue(queue);
            if let Some(accrual) = accrual {
                builder = builder.failure_accrual(accrual);
            }
            if let Some(hedge) = hedge {
                builder = builder.hedge(hedge);
            }
            builder.kind(kind).build().unwrap()
        }};
    }
    match grpc {
        true => build!(ClientPolicy::grpc()),
        false => build!(ClientPolicy::http()),
    }
}

// Says something else whenever it is asked to: some of the nodes, or with a seed of zero all.
pub fn discovery(by_watch: bool, nodes: &[SocketAddr]) -> (impl Fn(&mut Dice) + use<>, Endpoints) {
    let all = nodes.to_vec();
    let list = move |dice: &mut Dice| -> Vec<Endpoint> {
        let everyone = dice.percent(40) || dice.is_fixed();
        let some = all.iter().filter(|_| everyone || dice.percent(50));
        some.map(|address| Endpoint::new(*address)).collect()
    };
    let first: Vec<_> = nodes
        .iter()
        .map(|address| Endpoint::new(*address))
        .collect();
    let (lists, list_source) = watch::channel(first.clone());
    let (updates, update_source) = tokio::sync::mpsc::unbounded_channel();
    updates
        .send(Ok::<_, BoxError>(Update::Reset(first)))
        .unwrap();
    let say = move |dice: &mut Dice| {
        let some = list(dice);
        if by_watch {
            let _ = lists.send(some);
            return;
        }
        let update = match dice.below(6) {
            _ if dice.is_fixed() => Ok(Update::Add(some)),
            0 => Ok(Update::Reset(some)),
            1..3 => Ok(Update::Add(some)),
            3..5 => Ok(Update::Remove(some.iter().map(Endpoint::address).collect())),
            _ => Err("the source stutters".into()),
        };
        let _ = updates.send(update);
    };
    let source = match by_watch {
        true => Endpoints::from(list_source),
        false => {
            let updates = tokio_stream::wrappers::UnboundedReceiverStream::new(update_source);
            Endpoints::stream(updates)
        }
    };
    (say, source)
}

/// Every leaf that was made, so that its connections can be counted. Held, it keeps them.
#[derive(Clone, Default)]
pub struct Leaves(Arc<Mutex<Vec<HttpLeaf>>>);

pub struct Recorded(pub HttpConnector, pub Option<Leaves>);

impl Leaves {
    pub fn all(&self) -> Vec<Connections> {
        let leaves = self.0.lock().unwrap();
        leaves.iter().map(HttpLeaf::connections).collect()
    }
}

impl Connect for Recorded {
    type ResponseBody = HttpBody;
    type Leaf = HttpLeaf;

    fn connect(&self, endpoint: &Endpoint) -> HttpLeaf {
        let leaf = self.0.connect(endpoint);
        if let Some(leaves) = &self.1 {
            leaves.0.lock().unwrap().push(leaf.clone());
        }
        leaf
    }
}
