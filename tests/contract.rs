//! What every Service and every body of the crate must keep to. What is not in the lists here is not there yet.
//!
//! Services: a call to an inner service that was not polled ready panics, fresh clones are never ready, and both become
//! ready only after a while; a call that is dropped after any number of polls leaves nothing behind; clones made at any
//! point serve and share their state. Bodies: frames, trailers, size hints and end of stream come through untouched.

#[path = "contract/again.rs"]
mod again;
#[path = "contract/balance.rs"]
mod balance;
#[path = "contract/bodies.rs"]
mod bodies;
#[path = "contract/breakers.rs"]
mod breakers;
#[path = "contract/checks.rs"]
mod checks;
#[path = "contract/clients.rs"]
mod clients;
#[path = "contract/inner.rs"]
mod inner;
#[path = "contract/leaves.rs"]
mod leaves;
mod support;

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http::{Request, StatusCode};
use tower_mesh::Body;
use tower_mesh::policy::MethodKind;

use again::{hedging, replaying, retrying, retrying_by_trailers};
use balance::balance;
use breakers::{breaker, breakers_by_host, settling_breaker, settling_breakers, waiting_breaker};
use clients::{answering_client, borrowed_client, client, hedged_client};
use inner::Strict;
use leaves::{http_leaf, tonic_leaf};
use support::get;

/// A service under test. What it leaves behind is told in words; nothing is the empty list.
trait Subject {
    fn name(&self) -> &'static str;
    fn call(&mut self) -> Exchange;
    fn duplicate(&self) -> Box<dyn Subject>;
    fn leftovers(&self) -> Vec<String>;

    /// Whether it is a client, which has scripts to go through. A leaf has none, and its connections are tasks that
    /// need a moment to end.
    fn is_client(&self) -> bool {
        true
    }

    /// Whether a call waits while nothing can serve it, instead of being refused.
    fn waits(&self) -> bool {
        true
    }

    /// Whether it learns who fails, and refuses then.
    fn ejects(&self) -> bool {
        self.is_client()
    }
}

/// A whole exchange: readiness, call, body.
type Exchange = Pin<Box<dyn Future<Output = Answer>>>;

/// Status and body, or the error in words.
type Answer = Result<(StatusCode, Bytes), String>;

type Make = fn(Script, &Strict) -> Box<dyn Subject>;

const SUBJECTS: &[Make] = &[
    client,
    borrowed_client,
    answering_client,
    http_leaf,
    tonic_leaf,
    breaker,
    waiting_breaker,
    breakers_by_host,
    hedged_client,
    retrying,
    retrying_by_trailers,
    replaying,
    hedging,
    settling_breaker,
    settling_breakers,
    balance,
];

/// What the inner services do, so that calls take every path.
#[derive(Clone, Copy, Debug)]
enum Script {
    /// All is well.
    Healthy,
    /// The first answer is a failure that is retried.
    Retried,
    /// The only endpoint is ejected: the call waits in line, and is the probe.
    Ejected,
    /// It is ejected and the line is long: fails fast.
    Hopeless,
    /// gRPC, whose response is held back for its trailers, which never say a code.
    Held(MethodKind),
}

const SCRIPTS: [Script; 6] = [
    Script::Healthy,
    Script::Retried,
    Script::Ejected,
    Script::Hopeless,
    Script::Held(MethodKind::Auto),
    Script::Held(MethodKind::Unary),
];

fn statuses(script: Script) -> fn(usize) -> StatusCode {
    match script {
        Script::Healthy | Script::Held(_) => |_| StatusCode::OK,
        Script::Retried | Script::Ejected => |n| match n {
            0 => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::OK,
        },
        Script::Hopeless => |_| StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn grpc() -> Request<Body> {
    let mut request = get();
    let grpc = http::HeaderValue::from_static("application/grpc");
    request.headers_mut().insert("content-type", grpc);
    request
}

fn asks(script: Script) -> fn() -> Request<Body> {
    match script {
        Script::Held(_) => grpc,
        _ => get,
    }
}
