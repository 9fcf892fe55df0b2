//! How a request is kept for another attempt.

use std::fmt;

use http::{Extensions, Method, Request, Version};

use super::packed::Packed;

/// How a request is kept for another attempt.
///
/// Implemented by [`Copied`] for HTTP, by [`Cloned`] for whatever is `Clone`, and by closures from `&Req` to `Option<Req>`;
/// none is sent once.
pub trait KeepRequest<Req> {
    /// What is kept.
    type Kept;

    /// Keeps it; none if that cannot be.
    fn keep(&self, request: &Req) -> Option<Self::Kept>;

    /// The same request once more.
    fn renew(&self, kept: Self::Kept) -> Req;

    /// Whether what was kept still is all of it, now that the first was sent.
    fn is_whole(&self, _kept: &Self::Kept) -> bool {
        true
    }
}

/// Requests are cloned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cloned;

/// HTTP requests with a body that is `Clone` are copied, extensions included. Cheaper than a clone: address and headers are
/// one piece of memory, and become what they were only if they are needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied;

/// What [`Copied`] keeps.
#[derive(Clone)]
pub struct HttpCopy<B> {
    method: Method,
    version: Version,
    head: Packed,
    extensions: Extensions,
    pub(super) body: B,
}

// === impl KeepRequest ===

impl<Req: Clone> KeepRequest<Req> for Cloned {
    type Kept = Req;

    fn keep(&self, request: &Req) -> Option<Req> {
        Some(request.clone())
    }

    fn renew(&self, kept: Req) -> Req {
        kept
    }
}

impl<Req, F> KeepRequest<Req> for F
where
    F: Fn(&Req) -> Option<Req>,
{
    type Kept = Req;

    fn keep(&self, request: &Req) -> Option<Req> {
        self(request)
    }

    fn renew(&self, kept: Req) -> Req {
        kept
    }
}

impl<B: Clone> KeepRequest<Request<B>> for Copied {
    type Kept = HttpCopy<B>;

    fn keep(&self, request: &Request<B>) -> Option<HttpCopy<B>> {
        Some(HttpCopy::of(request))
    }

    fn renew(&self, kept: HttpCopy<B>) -> Request<B> {
        kept.into_request()
    }

    fn is_whole(&self, kept: &HttpCopy<B>) -> bool {
        kept.is_whole()
    }
}

// === impl HttpCopy ===

impl<B: Clone> HttpCopy<B> {
    pub(super) fn of(request: &Request<B>) -> Self {
        Self {
            method: request.method().clone(),
            version: request.version(),
            head: Packed::of(request.uri(), request.headers()),
            extensions: request.extensions().clone(),
            body: request.body().clone(),
        }
    }
}

impl<B> HttpCopy<B> {
    /// Whether it can become a request.
    pub(super) fn is_whole(&self) -> bool {
        self.head.uri().is_some()
    }

    pub(super) fn into_request(self) -> Request<B> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        // One that is not whole is never sent.
        *request.uri_mut() = self.head.uri().unwrap_or_default();
        *request.version_mut() = self.version;
        *request.headers_mut() = self.head.into_headers();
        *request.extensions_mut() = self.extensions;
        request
    }
}

// Without the head: some of it is sensitive.
impl<B: fmt::Debug> fmt::Debug for HttpCopy<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCopy")
            .field("method", &self.method)
            .field("version", &self.version)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_copy_is_the_same_request() {
        let mut request = Request::put("http://web.shop/a?b=c")
            .version(Version::HTTP_2)
            .header("x-many", "1")
            .header("x-other", "2")
            .header("x-many", "3")
            .extension(42u8)
            .body("body")
            .unwrap();
        let mut secret = HeaderValue::from_static("secret");
        secret.set_sensitive(true);
        request.headers_mut().insert("authorization", secret);
        let copy = Copied.renew(Copied.keep(&request).unwrap());
        assert_eq!(copy.method(), request.method());
        assert_eq!(copy.uri(), request.uri());
        assert_eq!(copy.version(), request.version());
        assert_eq!(copy.headers(), request.headers());
        let many: Vec<_> = copy.headers().get_all("x-many").iter().collect();
        assert_eq!(many, ["1", "3"]);
        assert!(copy.headers()["authorization"].is_sensitive());
        assert_eq!(copy.extensions().get::<u8>(), Some(&42));
        assert_eq!(copy.body(), request.body());
    }
}
