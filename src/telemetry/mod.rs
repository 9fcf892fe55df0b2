//! What is going on, for people and programs to read.
//!
//! [`Client::snapshot`](crate::Client::snapshot) is everything at one moment: for a debug page, a log line, a test. What
//! *happens* is told to an [`Observer`](crate::core::observe::Observer) as it does.
//!
//! ```
//! use tower_mesh::policy::{ClientPolicy, FailureAccrual};
//! # use http::{Request, Response};
//! # use tower_mesh::{Body, BoxError, Client};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! # let leaf = |_: &tower_mesh::Endpoint| tower::service_fn(|_: Request<Body>| async {
//! #     Ok::<_, BoxError>(Response::builder().status(500).body(Body::empty())?)
//! # });
//! let policy = ClientPolicy::http().failure_accrual(FailureAccrual::consecutive(1)).build()?;
//! let client = Client::builder(policy)
//!     .endpoints(["10.0.0.7:8080"])
//!     .build(leaf)?; // it answers 500
//! client.request(Request::get("http://payments.shop/").body(Body::empty())?).await?;
//!
//! let snapshot = client.snapshot();
//! let endpoint = snapshot.endpoints().next().unwrap();
//! assert!(endpoint.breaker.is_open());
//! assert_eq!(endpoint.breaker.why.as_deref(), Some("1 failure in a row"));
//! println!("{snapshot}"); // a table
//! # assert!(snapshot.to_string().contains("ejected"), "{snapshot}");
//! # Ok(())
//! # }
//! ```

mod snapshot;

pub use self::snapshot::{BackendSnapshot, EndpointSnapshot, Snapshot};
