use http::header::HOST;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Uri};

use crate::policy::ClientPolicy;

/// What a request is for that does not say: a generated gRPC client sends a path and no more.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    scheme: Scheme,
    authority: Authority,
}

// === impl Origin ===

impl Origin {
    pub(super) fn of(policy: &ClientPolicy) -> Option<Self> {
        Some(Self {
            scheme: Scheme::HTTP,
            authority: policy.authority()?,
        })
    }

    /// None if the URI has no authority.
    pub(super) fn from_uri(uri: Uri) -> Option<Self> {
        let parts = uri.into_parts();
        Some(Self {
            scheme: parts.scheme.unwrap_or(Scheme::HTTP),
            authority: parts.authority?,
        })
    }

    /// Completes a request that names no host, neither in its URI nor in a header.
    pub(super) fn complete(&self, request: &mut Parts) {
        let uri = &request.uri;
        let path = uri.path_and_query().map_or("", PathAndQuery::as_str);
        // `*` and what CONNECT asks for are no paths.
        let silent = uri.authority().is_none() && path.starts_with('/');
        if !silent || request.method == Method::CONNECT || request.headers.contains_key(HOST) {
            return;
        }
        let mut parts = std::mem::take(&mut request.uri).into_parts();
        let path = parts.path_and_query.clone();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        request.uri =
            Uri::from_parts(parts).unwrap_or_else(|_| path.map(Uri::from).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(request: http::request::Builder) -> String {
        let origin = Origin::from_uri(Uri::from_static("https://shop:1")).unwrap();
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        origin.complete(&mut parts);
        parts.uri.to_string()
    }

    #[test]
    fn only_who_names_no_host() {
        let request = || http::Request::builder();
        assert_eq!(completed(request().uri("/a?b")), "https://shop:1/a?b");
        assert_eq!(completed(request().uri("http://h/a")), "http://h/a");
        assert_eq!(completed(request().uri("/a").header("host", "h")), "/a");
        assert_eq!(completed(request().uri("*").method("OPTIONS")), "*");
        assert_eq!(completed(request().uri("h:1").method("CONNECT")), "h:1");
    }

    #[test]
    fn what_a_policy_says() {
        let of = |policy: ClientPolicy| Origin::of(&policy).map(|o| o.authority.to_string());
        let named = |name: &str| of(ClientPolicy::grpc().named(name).build().unwrap());
        assert_eq!(named("payments.shop:50051").unwrap(), "payments.shop:50051");
        assert_eq!(named("payments"), None);
        assert_eq!(named("two words:1"), None);
        assert!(Origin::from_uri(Uri::from_static("/path")).is_none());
    }
}
