use std::sync::Arc;

use super::{InvalidPolicy, MatchHost, Meta, RouteDistribution};

/// The route of a target whose bytes nobody looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct OpaquePolicy {
    /// The route. None: every connection is refused.
    pub route: Option<ConnectionRoute>,
}

/// The routes of a target that speaks TLS which the mesh does not terminate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct TlsPolicy {
    /// The routes. The most specific match of a server name wins, the first among equals.
    pub routes: Vec<TlsRoute>,
}

/// What to do with connections to some server names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsRoute {
    /// The server names it is for, by SNI; none means every one.
    pub snis: Vec<MatchHost>,
    /// What to do.
    pub route: ConnectionRoute,
}

/// What to do with a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionRoute {
    /// Where this comes from.
    pub meta: Arc<Meta>,
    /// Applied in order before a backend is chosen.
    pub filters: Vec<ConnectionFilter>,
    /// Where to.
    pub distribution: RouteDistribution<ConnectionFilter>,
}

/// Why a connection is refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionFilter {
    /// The policy forbids it.
    Forbidden,
    /// The policy names a backend that does not exist.
    Invalid {
        /// Why, in words.
        message: String,
    },
}

// === impl ConnectionRoute ===

impl ConnectionRoute {
    /// Everything to one distribution, without filters.
    pub fn new(
        meta: impl Into<Arc<Meta>>,
        distribution: RouteDistribution<ConnectionFilter>,
    ) -> Self {
        Self {
            meta: meta.into(),
            filters: Vec::new(),
            distribution,
        }
    }
}

// === impl TlsRoute ===

impl TlsRoute {
    /// For these server names, each as in manifests: `example.com` or `*.example.com`.
    ///
    /// # Errors
    /// What is no such name.
    pub fn new<'a>(
        snis: impl IntoIterator<Item = &'a str>,
        route: ConnectionRoute,
    ) -> Result<Self, InvalidPolicy> {
        Ok(Self {
            snis: snis
                .into_iter()
                .map(MatchHost::parse)
                .collect::<Result<_, _>>()?,
            route,
        })
    }
}
