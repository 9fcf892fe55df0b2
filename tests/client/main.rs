//! What a client does, over scripted endpoints in virtual time.

mod changes;
mod life;
mod outages;
mod retries;
mod routes;
#[path = "../support/mod.rs"]
mod support;

use support::ms;
use support::routes::backend_with;
use tower_mesh::policy::{Queue, Retry, RetryBuilder, RouteBackend};

// Server errors are tried again, at once.
fn retry() -> RetryBuilder {
    Retry::on(500..=599).no_backoff()
}

// Nobody waits for it for long.
fn backend(name: &str) -> RouteBackend {
    let queue = Queue {
        capacity: 10,
        failfast_timeout: ms(100),
    };
    backend_with(name, queue)
}
