//! Policy from Kubernetes manifests: the YAML that is in the cluster, read in process.
//!
//! ```
//! use tower_mesh::source::kubernetes::Manifests;
//!
//! let manifests = Manifests::parse(r#"
//! apiVersion: v1
//! kind: Service
//! metadata:
//!   name: payments
//!   namespace: shop
//!   annotations:
//!     balancer.linkerd.io/failure-accrual: consecutive
//!     retry.linkerd.io/http: 5xx
//!     timeout.linkerd.io/request: 2s
//! spec:
//!   ports:
//!     - port: 8080
//! "#)?;
//! let policy = manifests.resolve("payments.shop:8080")?;
//! assert_eq!(policy.parent.to_string(), "service.shop.payments:8080");
//! assert!(manifests.diagnostics().is_empty());
//! # Ok::<(), tower_mesh::source::kubernetes::Error>(())
//! ```
//!
//! A file, or a folder with all that is below it: [`Manifests::from_path`]. To follow a folder as it changes: the module
//! `reload`, with the feature of that name.
//!
//! # What is read
//!
//! What Linkerd's policy controller (2.20) makes policy of, as it does:
//!
//! | kind | for |
//! |---|---|
//! | `Service` | its ports with `appProtocol`, and its annotations (below) |
//! | `HTTPRoute`, of `gateway.networking.k8s.io` and of `policy.linkerd.io` | matches, filters, timeouts, backends, and annotations |
//! | `GRPCRoute` | the same for gRPC |
//! | `TLSRoute`, `TCPRoute` | which protocol a port speaks, and where its connections go |
//! | `EgressNetwork` | addresses outside the cluster: [`Manifests::resolve_address`] |
//! | `ServiceProfile` | takes the place of everything else, where it has routes or `dstOverrides` |
//! | `XBackendTrafficPolicy` | a retry budget, which the mesh does not read |
//!
//! The defaults that an API server fills in are filled in. Routes are attached by `parentRefs`, to all ports or to one; a
//! route in another namespace than its Service's is for the clients of that namespace
//! ([`Manifests::client_namespace`]). Of several kinds of routes on a port one is served: gRPC before HTTP before TLS before
//! TCP. Other kinds may stand in the same files and are left out. `kind: List` is unwrapped.
//!
//! Where the mesh reads otherwise than it seems, or not at all, it is resolved as the mesh does and a [`Diagnostic`] says
//! so. Some things go beyond the mesh unless it is told [not to](Manifests::fidelity); each is a
//! [`Difference`](crate::policy::Difference), and marked as such in the diagnostics. Among them are annotations of this
//! crate's own:
//!
//! | annotation | value | of |
//! |---|---|---|
//! | `tower-mesh/retry-budget-percent` | 0 to 100: retries for so many hundredths of the successes | Services and routes |
//! | `tower-mesh/retry-budget-min-per-second` | a whole number: so many besides | Services and routes |
//! | `tower-mesh/failure-accrual-min-ready-endpoints` | a whole number: so many are never ejected | Services |
//! | `tower-mesh/failure-accrual-slow-call` | duration: longer is a failure | Services |
//! | `tower-mesh/failure-accrual-probes` | a whole number: so many probes in a row re-admit | Services |
//! | `tower-mesh/failure-accrual-worse-than-peers` | boolean, or false ejections an hour from 0 to 1000: by an endpoint's peers | Services |
//! | `tower-mesh/failure-accrual-max-ejected` | 0 to 1: no larger share is ejected, but for one | Services |
//! | `tower-mesh/failure-accrual-panic-after` | 1 to 64: so many pairs of ejected ones, and the next is asked anyway | Services |
//! | `tower-mesh/failure-accrual-dry-run` | boolean: judges, and refuses nothing | Services |
//! | `tower-mesh/failure-accrual-memory` | duration: so much service makes up for an ejection | Services |
//! | `tower-mesh/load-extensions` | boolean: `false` is the mesh's load, which sees latency and requests in flight alone | Services |
//! | `tower-mesh/prefer-zone` | boolean: requests stay in their caller's zone as far as it can carry them, for clients that [know theirs](crate::client::ClientBuilder::zone) | Services |
//!
//! These are Linkerd's. Those of retries and timeouts are read from routes, too; there they take the place of *all* of the
//! Service's retries, or timeouts.
//!
//! | annotation of a Service | value | default |
//! |---|---|---|
//! | `balancer.linkerd.io/failure-accrual` | `consecutive` or `unified` | no breaker |
//! | `…/failure-accrual-consecutive-max-failures` | a whole number; `0` is off | `7` |
//! | `…/failure-accrual-consecutive-min-penalty` | duration | `1s` |
//! | `…/failure-accrual-consecutive-max-penalty` | duration, not zero, not below the least | `60s` |
//! | `…/failure-accrual-consecutive-jitter-ratio` | 0 to 100 | `0.5` |
//! | `balancer.alpha.linkerd.io/failure-accrual-success-rate-threshold` | 0 to 1; `0` is off | `0.8` |
//! | `…/failure-accrual-success-rate-window` | duration, at least `10ms` | `10s` |
//! | `…/failure-accrual-success-rate-min-requests` | a whole number, at most `1000000` | `5` |
//! | `balancer.alpha.linkerd.io/failure-accrual-honor-retry-after` | boolean, with `unified` | `false` |
//! | `balancer.alpha.linkerd.io/penalize-failures` | boolean | `false` |
//! | `balancer.alpha.linkerd.io/load-biaser-penalty` | duration, at most 49 days | `5s` |
//! | `balancer.alpha.linkerd.io/load-biaser-max-retry-after` | duration | `300s` |
//! | `retry.linkerd.io/http` | `5xx`, `gateway-error`, `503`, `500-504`; commas, no spaces | none |
//! | `retry.linkerd.io/grpc` | `cancelled`, `deadline-exceeded`, `internal`, `resource-exhausted`, `unavailable`; commas, no spaces | none |
//! | `retry.linkerd.io/limit` | 0 to 65535; `0` is the same as absent | `1` with another retry key |
//! | `retry.linkerd.io/timeout` | duration; `0` is the same as absent | none |
//! | `timeout.linkerd.io/request`, `/response`, `/idle` | duration; `0` times out at once | none |
//! | `config.linkerd.io/opaque-ports` | ports, ranges, names | the cluster's default |
//!
//! A *duration* is a whole number and one unit (`ms`, `s`, `m`, `h`, `d`), not `1h30m` and not `1.5s`.
//!
//! # Mistakes
//!
//! What is not YAML, or not a Service by its fields, is an [`Error`] when it is read; what else is wrong is looked for all the
//! same, and [`Error::diagnostics`] has all of it. What the API server refuses for its name or its keys is told as an error,
//! and resolves. An annotation whose value is not in
//! its grammar, and a route that the mesh would not apply, is an error when a target that it is about is resolved, and a
//! [`Diagnostic`] before; all other targets resolve. The mesh does less: a line in its controller's log, and the whole family
//! (breaker, retries, timeouts) or the whole route is gone. With [`Fidelity::Mesh`] so it is here. What the mesh's proxy
//! cannot read, so that every request fails, is left out alone. [`Manifests::strict`] takes warnings for errors, and
//! [`Manifests::explain`] says everything at once, for people or for machines.
//!
//! Limits are large but finite: 32 MiB in a file, 100 levels, and two million values of 64 MiB together, what aliases
//! repeat included. Nesting costs no stack, aliases no more memory than that.
//!
//! Every error and every diagnostic names file, line, column and key, what was found, what was expected, and what helps.
//!
//! [`Fidelity::Mesh`]: crate::policy::Fidelity::Mesh

mod annotations;
mod diagnostic;
mod document;
mod duration;
mod egress;
mod error;
mod explain;
mod field;
mod files;
mod grammar;
mod keys;
mod kind;
mod link;
mod links;
mod manifests;
mod metadata;
mod names;
mod objects;
pub(crate) mod place;
mod profile;
mod reading;
#[cfg(feature = "reload")]
pub mod reload;
mod resolve;
mod route;
mod said;
mod scalar;
mod service;
mod target;
#[cfg(test)]
mod tests;
mod traffic;
pub(crate) mod yaml;

pub use self::diagnostic::{Diagnostic, Severity};
pub use self::error::{Error, ErrorKind};
pub use self::explain::Explanation;
pub use self::manifests::Manifests;
pub use self::target::Target;
