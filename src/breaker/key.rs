//! Which breaker a request belongs to.

use std::borrow::Cow;
use std::fmt::Write;

use http::header::HOST;
use http::uri::{Authority, Scheme};
use http::{Request, Uri};

/// Tells which breaker of [`Breakers`](super::Breakers) a request passes.
///
/// Implemented by [`ByHost`] and by closures `Fn(&Req) -> K` where `K` is a `String` or a `&'static str`. The key is
/// also the breaker's name.
pub trait Key<Req> {
    /// The key; none if the request belongs to no breaker and passes without one.
    fn key<'a>(&self, request: &'a Req) -> Option<Cow<'a, str>>;
}

/// `host:port` of an HTTP request: the URI's, or else the `Host` header's.
///
/// Hosts are the same in upper and lower case, and so are `http://web` and `http://web:80`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByHost;

// === impl Key ===

impl<Req, F, K> Key<Req> for F
where
    F: Fn(&Req) -> K,
    K: Into<Cow<'static, str>>,
{
    fn key<'a>(&self, request: &'a Req) -> Option<Cow<'a, str>> {
        Some(self(request).into())
    }
}

impl<B> Key<Request<B>> for ByHost {
    fn key<'a>(&self, request: &'a Request<B>) -> Option<Cow<'a, str>> {
        let uri = request.uri();
        if let Some(authority) = uri.authority() {
            return Some(canonical(authority.as_str(), default_port(uri)));
        }
        let host = request.headers().get(HOST)?.to_str().ok()?;
        // Only what can be a host and a port may make a key.
        host.parse::<Authority>().ok()?;
        Some(canonical(host, default_port(uri)))
    }
}

fn default_port(uri: &Uri) -> u16 {
    if uri.scheme() == Some(&Scheme::HTTPS) {
        443
    } else {
        80
    }
}

// An authority without its user, in lower case, with a port.
fn canonical(authority: &str, port: u16) -> Cow<'_, str> {
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    // A colon within brackets is an IPv6 address's.
    let (name, given) = match host.rsplit_once(':') {
        Some((name, given)) if !given.ends_with(']') => (name, given),
        _ => (host, ""),
    };
    if !given.is_empty() && !host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Borrowed(host);
    }
    let mut key = String::with_capacity(name.len() + 6);
    key.push_str(name);
    key.make_ascii_lowercase();
    // Writing to a string does not fail.
    let _ = match given {
        "" => write!(key, ":{port}"),
        given => write!(key, ":{given}"),
    };
    Cow::Owned(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_for_one_host_and_port() {
        let key = |uri: &str, host: Option<&str>| {
            let mut request = Request::get(uri);
            if let Some(host) = host {
                request = request.header(HOST, host);
            }
            let request = request.body(()).unwrap();
            ByHost.key(&request).map(Cow::into_owned)
        };
        for (uri, host, expected) in [
            ("http://web/", None, Some("web:80")),
            ("http://WEB:80/x?y=z", None, Some("web:80")),
            ("https://web", Some("other"), Some("web:443")),
            ("http://user:secret@web:8080/", None, Some("web:8080")),
            ("http://[::1]/", None, Some("[::1]:80")),
            ("http://[::1]:81/", None, Some("[::1]:81")),
            ("/path", Some("Web:81"), Some("web:81")),
            ("/path", Some("web"), Some("web:80")),
            ("/path", Some("no host at all"), None),
            ("/path", None, None),
        ] {
            assert_eq!(key(uri, host).as_deref(), expected, "{uri} {host:?}");
        }
    }
}
