//! A service mesh's outbound data plane, inside the process that makes the calls.
//!
//! `tower-mesh` reads the policy that a Linkerd mesh reads, the YAML that people apply to their cluster, and does with
//! it what the mesh's proxy would do: routes, bounds requests in time, retries them within a budget, balances them by
//! peak EWMA over endpoints, and ejects endpoints that fail. No sidecar, no extra hop, and in a test with paused time and
//! a seed it decides the same every time.
//!
//! ```
//! use http::Request;
//! use tower_mesh::policy::{Budget, ClientPolicy, FailureAccrual, Retry, Timeouts};
//! use tower_mesh::{Body, BoxError, Client};
//! # use std::time::Duration;
//! # use bytes::Bytes;
//! # use http_body_util::Full;
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! # let leaf = |_: &tower_mesh::Endpoint| tower::service_fn(|_: Request<Body>| async {
//! #     Ok::<_, BoxError>(http::Response::new(Full::new(Bytes::new())))
//! # });
//!
//! // With feature `kubernetes`: Manifests::from_path("deploy/")?.resolve("payments.shop:8080")?
//! let policy = ClientPolicy::http()
//!     .timeouts(Timeouts::request(Duration::from_secs(2)))
//!     .retry(Retry::on(502..=504).limit(2).budget(Budget::percent(20)))
//!     .failure_accrual(FailureAccrual::consecutive(5))
//!     .build()?;
//! let client = Client::builder(policy)
//!     .endpoints(["10.0.0.7:8080", "10.0.0.8:8080"])
//!     .build(leaf)?; // any tower service; with feature `hyper`, `.build_http()?`
//!
//! let request = Request::get("http://payments.shop:8080/quote").body(Body::empty())?;
//! let response = client.request(request).await?;
//! # assert!(response.status().is_success());
//! # Ok(())
//! # }
//! ```
//!
//! # Rooms
//!
//! | room | what |
//! |---|---|
//! | [`policy`] | what to do: the mesh's client policy as plain values |
//! | `source` | where policy comes from: Kubernetes manifests (feature `kubernetes`), the control plane's messages (feature `linkerd`) |
//! | [`client`] | the [`Client`]: a policy, compiled and walked |
//! | [`discover`] | which endpoints exist |
//! | [`endpoint`] | one endpoint, and the [`Connect`] that makes its leaf |
//! | `connect` | leaves over hyper (feature `hyper`), and over tonic's channels (feature `tonic`) |
//! | [`balance`] | endpoints, and the choice among them; on its own a [`Balance`](balance::Balance) over any services |
//! | [`route`] | match, precedence, filters |
//! | [`breaker`], [`load`], [`budget`] | the state machines: pure, told events and the time; the breaker is a layer, too |
//! | [`retry`] | what is tried again, and the layer that does it alone |
//! | [`verdict`] | how an exchange ended, and who is told |
//! | [`body`] | the one erased [`Body`], and [`Replay`](body::Replay), which sends one again |
//! | [`telemetry`] | what is going on |
//! | `sim` | a seeded world in virtual time: scripted endpoints, load, a report (feature `sim`) |
//! | [`error`] | the one error of a client |
//! | [`core`] | words that all share: time, chance, decisions |
//!
//! # Features
//!
//! None is on by default: the default build is policy, client and state machines, over any tower service.
//!
//! * **`dns`**: endpoints from DNS (`discover::dns`): A, AAAA and SRV, asked again when their time is up.
//! * **`hyper`**: leaves over hyper 1.x: TCP, HTTP/1.1 with pooled connections, HTTP/2. Without it, bring your own.
//! * **`kubernetes`**: policy from manifests, with errors that name file, line and key. Without it, policy is written in
//!   Rust.
//! * **`linkerd`**: policy from and to the protobuf messages of Linkerd's control plane (`source::linkerd`). What is not valid
//!   is named by its field and does the least harm, where the mesh's proxy gives the whole policy up.
//! * **`reload`**: a folder of manifests that is followed as it changes (`source::kubernetes::reload`); a bad edit keeps the
//!   last good policy. Without it, they are read once, or a `tokio::sync::watch` brings policies.
//! * **`sim`**: what a policy does to traffic, in virtual time: a `World` of scripted endpoints and callers around the
//!   real client, for `#[test]`s and scenario files. It turns tokio's `test-util` on, so it belongs among the
//!   dev-dependencies.
//! * **`tonic`**: endpoints over tonic's own channels, and errors that carry a `tonic::Status`. Generated clients run over a
//!   [`Client`] without it, too: `hyper` is enough for `build_grpc`.
//! * **`full`**: all of them.

pub mod balance;
pub mod body;
pub mod breaker;
pub mod budget;
pub mod client;
#[cfg(feature = "hyper")]
pub mod connect;
pub mod core;
pub(crate) mod deadline;
pub mod discover;
pub(crate) mod distribute;
pub mod endpoint;
pub mod error;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
pub mod load;
#[cfg(all(test, tower_mesh_loom))]
mod loom_tests;
mod options;
pub mod policy;
pub mod retry;
pub mod route;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(any(feature = "kubernetes", feature = "linkerd"))]
pub mod source;
pub mod telemetry;
pub mod verdict;

pub use self::body::Body;
pub use self::client::Client;
pub use self::core::BoxError;
pub use self::endpoint::{Connect, Endpoint};
pub use self::error::{Error, ErrorKind};
pub use self::options::{RequestOptions, Served};
pub use self::verdict::Verdict;

/// The README's examples are tests.
#[cfg(all(doctest, feature = "hyper", feature = "kubernetes"))]
#[doc = include_str!("../README.md")]
struct Readme;
