use std::io;
use std::sync::Arc;

use crate::client::BuildError;
use crate::source::kubernetes;

/// Why a world cannot run.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimError {
    /// Called where a tokio runtime runs already.
    #[error(
        "a World owns its runtime and its clock, and this thread is in another runtime: write `#[test]` and `fn` instead \
         of `#[tokio::test]` and `async fn`, or run the world on a thread of its own (`std::thread::spawn`)"
    )]
    InsideRuntime,
    /// The runtime could not be built.
    #[error("the paused runtime cannot be built: {0}")]
    Runtime(#[source] Arc<io::Error>),
    /// Nobody said what the client is to do.
    #[error(
        "a World needs a policy: give it manifests or a ClientPolicy with `.policy(..)`, or a `.stack(..)` of your own"
    )]
    NoPolicy,
    /// The manifests are not valid.
    #[error("the policy: {0}")]
    Manifests(#[from] kubernetes::Error),
    /// The manifests have several targets.
    #[error("the policy has {} targets ({}): say which with `.target(\"name.namespace:port\")`", targets.len(), targets.join(", "))]
    Targets {
        /// All of them.
        targets: Vec<String>,
    },
    /// Nobody to talk to.
    #[error("a World needs endpoints: add them with `.endpoint(\"a\", healthy(ms(20)))`")]
    NoEndpoints,
    /// The client cannot be built over these endpoints.
    #[error("{0}")]
    Build(#[from] BuildError),
    /// An endpoint that cannot be.
    #[error("endpoint {name}: {why}")]
    Endpoint {
        /// Its name.
        name: String,
        /// Why not.
        why: String,
    },
    /// A load that cannot be.
    #[error("the load: {why}")]
    Load {
        /// Why not.
        why: String,
    },
    /// Something else that cannot be.
    #[error("{what}: {why}")]
    Invalid {
        /// What.
        what: &'static str,
        /// Why not.
        why: String,
    },
}
