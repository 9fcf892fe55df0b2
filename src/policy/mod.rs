//! What to do: the mesh's client policy as plain values.
//!
//! Everything here is data: `Clone + Eq + Debug`, no I/O, no async, no tower. The names are Linkerd's. A value that
//! exists is valid: types whose fields constrain each other are made by constructors that return [`InvalidPolicy`],
//! which names the field, what was found and what was expected.
//!
//! A policy comes from manifests (`source::kubernetes`, feature `kubernetes`) or is written in Rust:
//!
//! ```
//! use std::time::Duration;
//! use tower_mesh::policy::{Budget, ClientPolicy, FailureAccrual, Retry, Timeouts};
//!
//! let policy = ClientPolicy::http()
//!     .timeouts(Timeouts::request(Duration::from_secs(2)))
//!     .retry(Retry::on(502..=504).limit(2).budget(Budget::percent(20)))
//!     .failure_accrual(FailureAccrual::consecutive(5))
//!     .build()?;
//! # Ok::<(), tower_mesh::policy::InvalidPolicy>(())
//! ```

mod accrual;
mod backend;
mod backoff;
mod budget;
mod builder;
mod classes;
mod client_policy;
mod condition;
mod connection;
mod failures;
mod fidelity;
mod filter;
mod grpc;
mod hedge;
mod invalid;
mod load;
mod matches;
mod meta;
mod ratio;
mod retry;
mod route;
#[cfg(test)]
mod tests;
mod trailers;

pub use self::accrual::{
    AccrualExtensions, ConsecutiveFailures, Ejection, FailureAccrual, Unified,
};
pub use self::backend::{Backend, BackendDispatcher, EndpointDiscovery, Queue};
pub use self::backoff::ExponentialBackoff;
pub use self::budget::{Budget, EarnedBy};
pub use self::builder::{ClientPolicyBuilder, Method, Methods};
pub use self::classes::ResponseClasses;
#[cfg(any(feature = "kubernetes", feature = "linkerd"))]
pub(crate) use self::client_policy::DETECT_TIMEOUT;
pub use self::client_policy::{ClientPolicy, HttpPolicy, Protocol};
pub use self::condition::Condition;
pub use self::connection::{ConnectionFilter, ConnectionRoute, OpaquePolicy, TlsPolicy, TlsRoute};
pub use self::failures::{Codes, Failures};
pub use self::fidelity::{Difference, Fidelity};
pub use self::filter::{Filter, InjectFailure, ModifyHeader, ModifyPath, RedirectRequest};
pub use self::grpc::{
    GrpcBackend, GrpcDistribution, GrpcFilter, GrpcPolicy, GrpcRoute, GrpcRoutePolicy, GrpcRule,
    InjectGrpcFailure, MatchRpc, MethodKind,
};
pub use self::hedge::{Hedge, HedgeDelay};
pub use self::invalid::InvalidPolicy;
pub use self::load::{Load, LoadExtensions, PeakEwma, PenaltyPeakEwma, PendingUntil, PreferZone};
pub use self::matches::{
    MatchHeader, MatchHeaderValue, MatchHost, MatchPath, MatchQueryParam, MatchQueryValue,
    MatchRequest, Pattern,
};
pub use self::meta::{Meta, Resource};
pub use self::ratio::Ratio;
pub use self::retry::{Retry, RetryBuilder, StatusRanges};
pub(crate) use self::route::Spread;
pub use self::route::{
    Route, RouteBackend, RouteDistribution, RouteParams, RoutePolicy, Rule, Timeouts,
};
pub use self::trailers::Trailers;
