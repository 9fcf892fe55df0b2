//! The kinds of routes, and the APIs that they are written in.

/// Which kind of route. In the order in which they lose to each other: of several kinds for one parent the least is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Grpc,
    Http,
    Tls,
    Tcp,
}

/// Which API a route is written in. They differ in defaults, durations and filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// `gateway.networking.k8s.io`
    Gateway,
    /// `policy.linkerd.io`
    Linkerd,
}

// === impl Kind ===

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Grpc => "GRPCRoute",
            Self::Http => "HTTPRoute",
            Self::Tls => "TLSRoute",
            Self::Tcp => "TCPRoute",
        }
    }
}

// === impl Group ===

impl Group {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway.networking.k8s.io",
            Self::Linkerd => "policy.linkerd.io",
        }
    }
}
