use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;
use tower_service::Service;

use super::error::BalanceError;
use super::future::BalanceFuture;
use super::shared::Local;
use crate::breaker::ClassifyResult;
use crate::core::BoxError;
use crate::discover::Update;
use crate::verdict::Outcome;

/// A balanced service over endpoints of any kind, for requests of any type.
///
/// ```
/// use tower::{Service, ServiceExt};
/// use tower_mesh::{Endpoint, balance::Balance, policy::FailureAccrual};
/// # #[derive(Clone)] struct Database(std::net::SocketAddr);
/// # impl Database { fn lazy(at: std::net::SocketAddr) -> Self { Self(at) } }
/// # impl Service<&'static str> for Database {
/// #     type Response = Vec<u64>; type Error = std::io::Error;
/// #     type Future = std::future::Ready<Result<Vec<u64>, std::io::Error>>;
/// #     fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), std::io::Error>> {
/// #         std::task::Poll::Ready(Ok(()))
/// #     }
/// #     fn call(&mut self, _: &'static str) -> Self::Future { std::future::ready(Ok(vec![1])) }
/// # }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), tower_mesh::BoxError> {
///
/// let mut replicas = Balance::builder()
///     .failure_accrual(FailureAccrual::consecutive(5))
///     .endpoints(["10.0.0.7:5432", "10.0.0.8:5432"])
///     .build(|endpoint: &Endpoint| Database::lazy(endpoint.address()))?;
///
/// let rows = replicas.call("SELECT 1").await?;
/// # assert_eq!(rows, [1]);
/// # Ok(())
/// # }
/// ```
///
/// **Clones** share their endpoints and all that is known of them. A clone is one small allocation; it makes the calls of
/// one task cost the others less, so give each its own.
///
/// **Readiness**: always, so that a `LoadShed` outside never sheds. A call waits, within its future, for an endpoint (in a
/// bounded line, for a bounded time) and for a fresh clone of its service. Services are *handles*: clones share their
/// connection. One that is not ready does not block others: another is waited for beside it.
///
/// **Verdicts**: an error is a failure, and nothing else, unless [`classify`](super::BalanceBuilder::classify) says otherwise. A
/// call that is dropped is neutral, and its endpoint counts as silent until it answers something.
pub struct Balance<S, C = Errors> {
    pub(super) local: Arc<Local<S>>,
    pub(super) classify: C,
}

/// Judges a call of any type: an error is a failure, unless it says itself that it is nobody's or the caller's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errors;

// === impl Errors ===

impl<T, E> ClassifyResult<T, E> for Errors {
    fn classify_result(&self, result: &Result<T, E>) -> Outcome {
        match result {
            Ok(_) => Outcome::SUCCESS,
            Err(_) => Outcome::FAILURE,
        }
    }
}

// === impl Balance ===

impl<S: Send + Sync + 'static, C> Balance<S, C> {
    /// How many endpoints it has now.
    pub fn endpoints(&self) -> usize {
        self.local.shared.set.members().count()
    }

    /// How many calls have no answer yet.
    pub fn pending(&self) -> usize {
        let members = self.local.shared.set.members();
        members.iter().map(|member| member.cell.pending()).sum()
    }

    /// How many calls wait for an endpoint.
    pub fn waiting(&self) -> usize {
        self.local.shared.set.line.waiting()
    }

    /// Changes the endpoints by hand. What was learned about one is kept for ten minutes after it left.
    pub fn update(&self, update: Update) {
        self.local.shared.set.update(update, Instant::now());
    }
}

impl<S, C: Clone> Balance<S, C> {
    fn numbered<Req>(&self, number: u64, request: Req) -> BalanceFuture<S, Req, C>
    where
        S: Service<Req>,
    {
        let (local, classify) = (Arc::clone(&self.local), self.classify.clone());
        BalanceFuture::new(local, number, request, classify)
    }
}

impl<S, C: Clone> Clone for Balance<S, C> {
    fn clone(&self) -> Self {
        let local = Local::new(Arc::clone(&self.local.shared));
        Self {
            local: Arc::new(local),
            classify: self.classify.clone(),
        }
    }
}

impl<S, C> fmt::Debug for Balance<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = &self.local.shared.set;
        f.debug_struct("Balance")
            .field("name", &set.pool.name)
            .field("endpoints", &set.members().count())
            .finish_non_exhaustive()
    }
}

impl<S, C, Req> Service<Req> for Balance<S, C>
where
    S: Service<Req, Error: Into<BoxError>> + Clone + Send + Sync + 'static,
    C: ClassifyResult<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = BalanceError;
    type Future = BalanceFuture<S, Req, C>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BalanceError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        // Nobody else has this clone while it is borrowed so.
        let number = self.local.only_number();
        self.numbered(number, request)
    }
}

impl<S, C, Req> Service<Req> for &Balance<S, C>
where
    S: Service<Req, Error: Into<BoxError>> + Clone + Send + Sync + 'static,
    C: ClassifyResult<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = BalanceError;
    type Future = BalanceFuture<S, Req, C>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BalanceError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let number = self.local.number();
        self.numbered(number, request)
    }
}
