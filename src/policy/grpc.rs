use super::{
    FailureAccrual, InvalidPolicy, MatchHeader, ModifyHeader, Ratio, Route, RouteBackend,
    RouteDistribution, RoutePolicy, Rule,
};

/// Routes and failure accrual for a target that speaks gRPC.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct GrpcPolicy {
    /// The routes. A call that none of them matches is refused.
    pub routes: Vec<GrpcRoute>,
    /// When an endpoint is ejected; none is never.
    pub failure_accrual: Option<FailureAccrual>,
}

/// A set of rules for gRPC calls to some hosts.
pub type GrpcRoute = Route<MatchRpc, GrpcFilter>;
/// What a gRPC call looks like, and what to do with it.
pub type GrpcRule = Rule<MatchRpc, GrpcFilter>;
/// What to do with a gRPC call that matched.
pub type GrpcRoutePolicy = RoutePolicy<GrpcFilter>;
/// How gRPC calls are spread over backends.
pub type GrpcDistribution = RouteDistribution<GrpcFilter>;
/// A backend as one gRPC route uses it.
pub type GrpcBackend = RouteBackend<GrpcFilter>;

/// What a gRPC call looks like; every part that is there must match. One that says nothing is for every call.
///
/// Services and methods are compared as they are written, without a pattern, and an extra path segment says nothing: the
/// mesh's rules.
///
/// ```
/// use tower_mesh::policy::MatchRpc;
///
/// let charge = MatchRpc::method("shop.Payments/Charge")?;
/// assert_eq!(charge.service.as_deref(), Some("shop.Payments"));
/// assert!(MatchRpc::service("shop/Payments").is_err());
/// # Ok::<(), tower_mesh::policy::InvalidPolicy>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct MatchRpc {
    /// Its service with the package, such as `shop.Payments`.
    pub service: Option<String>,
    /// Its method, such as `Charge`.
    pub method: Option<String>,
    /// Its metadata.
    pub headers: Vec<MatchHeader>,
}

/// Something done to a gRPC call, or to the response it gets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GrpcFilter {
    /// Answers some calls with a status instead of sending them.
    InjectFailure(InjectGrpcFailure),
    /// Changes the request's metadata.
    RequestHeaders(ModifyHeader),
    /// Changes the response's metadata. (The mesh has no word for it.)
    ResponseHeaders(ModifyHeader),
}

/// A gRPC status made on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InjectGrpcFailure {
    code: u16,
    message: String,
    ratio: Ratio,
}

/// What kind of gRPC methods a route is for, unless a request's [options](crate::RequestOptions::method) say it. It cannot be seen on the wire, and these depend on it:
///
/// * until when the policy's request timeout holds. For [`Unary`](Self::Unary), until the end; for
///   [`Streaming`](Self::Streaming), until the response head; for [`Auto`](Self::Auto), until the first message, or the
///   end. What the caller itself asked for (`grpc-timeout`, [`RequestOptions`](crate::RequestOptions)) holds until the
///   end, whatever the kind, and so does the idle timeout. In [`Fidelity::Mesh`](super::Fidelity::Mesh) everything does;
/// * which deadline is written on each attempt as `grpc-timeout`: the policy's, too, for [`Unary`](Self::Unary), and else
///   the caller's own alone, for servers keep to what they are told;
/// * how long a response is held back for the code in its [trailers](super::Trailers), where codes are retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum MethodKind {
    /// Nobody said: what comes first tells.
    #[default]
    Auto,
    /// One message there, one back.
    Unary,
    /// A stream in one direction or both.
    Streaming,
}

// === impl MatchRpc ===

impl MatchRpc {
    /// Every method of a service: `shop.Payments`.
    ///
    /// # Errors
    /// An empty name, or one with a `/`.
    pub fn service(service: impl Into<String>) -> Result<Self, InvalidPolicy> {
        Ok(Self {
            service: Some(name("match.rpc.service", service.into())?),
            ..Self::default()
        })
    }

    /// One method of a service: `shop.Payments/Charge`.
    ///
    /// # Errors
    /// Not two names with one `/` between them.
    pub fn method(method: &str) -> Result<Self, InvalidPolicy> {
        let (service, method) = method.split_once('/').ok_or_else(|| {
            InvalidPolicy::new(
                "match.rpc",
                format!("{method:?}"),
                "a service and a method, such as `shop.Payments/Charge`",
            )
        })?;
        Ok(Self {
            service: Some(name("match.rpc.service", service.to_owned())?),
            method: Some(name("match.rpc.method", method.to_owned())?),
            headers: Vec::new(),
        })
    }

    /// The same, of calls with this metadata.
    #[must_use]
    pub fn with_header(mut self, header: MatchHeader) -> Self {
        self.headers.push(header);
        self
    }
}

fn name(field: &'static str, name: String) -> Result<String, InvalidPolicy> {
    if name.is_empty() || name.contains('/') {
        return Err(InvalidPolicy::new(
            field,
            format!("{name:?}"),
            "a name without `/`",
        ));
    }
    Ok(name)
}

// === impl InjectGrpcFailure ===

impl InjectGrpcFailure {
    /// What the mesh's control plane sends for a backend that does not exist. It is no gRPC code: callers read it as
    /// UNKNOWN.
    pub const MESH_INVALID_BACKEND: u16 = 500;

    /// Fails this share of the calls.
    ///
    /// # Errors
    /// A share beyond one; OK, which is no failure, or a number that is no code, but for
    /// [500](Self::MESH_INVALID_BACKEND).
    pub fn new(code: u16, message: impl Into<String>, ratio: Ratio) -> Result<Self, InvalidPolicy> {
        if !matches!(code, 1..=16 | Self::MESH_INVALID_BACKEND) {
            return Err(InvalidPolicy::new(
                "filter.inject_failure.code",
                code,
                "a gRPC status code from 1 to 16",
            ));
        }
        if ratio > Ratio::ONE {
            return Err(InvalidPolicy::new(
                "filter.inject_failure.ratio",
                ratio,
                "a ratio from 0 to 1",
            ));
        }
        Ok(Self {
            code,
            message: message.into(),
            ratio,
        })
    }

    /// Fails every call as INTERNAL.
    #[cfg(feature = "linkerd")]
    pub(crate) fn internal(message: String) -> Self {
        Self {
            code: super::Codes::INTERNAL,
            message,
            ratio: Ratio::ONE,
        }
    }

    /// The code answered.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// Why.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The share of calls.
    pub fn ratio(&self) -> Ratio {
        self.ratio
    }
}
