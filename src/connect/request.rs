//! A request in the form that each version of HTTP wants it in.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Uri, Version};
use http_body::Body as _;
use hyper::ext::Protocol;

use super::outgoing::Outgoing;
use crate::endpoint::Endpoint;

/// Who is asked, if a request does not say.
#[derive(Clone, Debug)]
pub(super) struct Fallback(Option<Authority>);

/// Why a request cannot be sent as it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsendable {
    #[error("CONNECT needs an authority in its URI, as in `host:port`")]
    NoTarget,
    #[error("neither the request nor the endpoint names a host")]
    NoHost,
    #[error("its Host header is not an authority")]
    Host(#[source] Option<http::uri::InvalidUri>),
    #[error("its URI has no valid form in HTTP/2")]
    Uri(#[from] http::uri::InvalidUriParts),
    #[error("CONNECT over HTTP/2 has no request body")]
    ConnectBody,
}

// === impl Fallback ===

impl Fallback {
    pub(super) fn new(endpoint: &Endpoint) -> Self {
        let name = endpoint.server_name().and_then(|name| name.parse().ok());
        Self(name.or_else(|| endpoint.address().to_string().parse().ok()))
    }

    fn authority(&self) -> Result<&Authority, Unsendable> {
        self.0.as_ref().ok_or(Unsendable::NoHost)
    }
}

/// Origin-form (authority-form for CONNECT) and a Host header, made from the URI unless there is one.
pub(super) fn for_http1(
    request: &mut Request<Outgoing>,
    fallback: &Fallback,
) -> Result<(), Unsendable> {
    let parts = std::mem::take(request.uri_mut()).into_parts();
    let named = parts.authority.as_ref();
    if !request.headers().contains_key(HOST) {
        let host = without_userinfo(match named {
            Some(authority) => authority,
            None => fallback.authority()?,
        });
        let host = HeaderValue::from_str(host).map_err(|_| Unsendable::Host(None))?;
        request.headers_mut().insert(HOST, host);
    }
    *request.uri_mut() = if request.method() == Method::CONNECT {
        parts.authority.ok_or(Unsendable::NoTarget)?.into()
    } else {
        path(parts.path_and_query).into()
    };
    // hyper panics on versions that are not its own.
    if request.version() != Version::HTTP_10 {
        *request.version_mut() = Version::HTTP_11;
        announce_body(request);
    }
    Ok(())
}

/// hyper sends no body of unknown length with a GET or HEAD unless a header says that there is one: it would be lost without
/// a word.
fn announce_body(request: &mut Request<Outgoing>) {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return;
    }
    let body = request.body();
    let unknown = !body.is_end_stream() && body.size_hint().exact().is_none();
    let headers = request.headers_mut();
    if unknown && !headers.contains_key(CONTENT_LENGTH) && !headers.contains_key(TRANSFER_ENCODING)
    {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Absolute-form, and none of the headers that belong to one HTTP/1.1 connection. A Host header is the authority.
pub(super) fn for_http2(
    request: &mut Request<Outgoing>,
    fallback: &Fallback,
    encrypted: bool,
) -> Result<(), Unsendable> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    let connect =
        request.method() == Method::CONNECT && request.extensions().get::<Protocol>().is_none();
    let concerns = Concerns::of(request.headers());
    let host = match concerns.host {
        true => request.headers_mut().remove(HOST),
        false => None,
    };
    let authority = http2_authority(connect, host, parts.authority.take(), fallback)?;
    *request.uri_mut() = if connect {
        if request
            .body()
            .size_hint()
            .exact()
            .is_some_and(|len| len > 0)
        {
            return Err(Unsendable::ConnectBody);
        }
        authority.into()
    } else {
        parts.authority = Some(authority);
        parts.path_and_query = Some(path(parts.path_and_query));
        parts.scheme.get_or_insert(if encrypted {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        });
        Uri::from_parts(parts)?
    };
    *request.version_mut() = Version::HTTP_2;
    if concerns.hop_by_hop {
        remove_hop_by_hop(request.headers_mut());
    }
    if concerns.te {
        only_trailers(request.headers_mut());
    }
    Ok(())
}

// CONNECT names its target; for all others a Host header goes first.
fn http2_authority(
    connect: bool,
    host: Option<HeaderValue>,
    named: Option<Authority>,
    fallback: &Fallback,
) -> Result<Authority, Unsendable> {
    let invalid = |invalid| Unsendable::Host(Some(invalid));
    let authority = match (host, named) {
        (_, None) if connect => return Err(Unsendable::NoTarget),
        (_, Some(target)) if connect => target,
        (Some(host), _) => Authority::try_from(host.as_bytes()).map_err(invalid)?,
        (None, Some(authority)) => authority,
        (None, None) => fallback.authority()?.clone(),
    };
    match without_userinfo(&authority) {
        host if host.len() < authority.as_str().len() => Authority::try_from(host).map_err(invalid),
        _ => Ok(authority),
    }
}

fn path(path: Option<PathAndQuery>) -> PathAndQuery {
    // An empty one calls itself "/", and is written as nothing before http 1.4.2.
    path.filter(|path| !matches!(path.as_str(), "" | "/"))
        .unwrap_or_else(|| PathAndQuery::from_static("/"))
}

fn without_userinfo(authority: &Authority) -> &str {
    let whole = authority.as_str();
    whole.rsplit_once('@').map_or(whole, |(_, host)| host)
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

const HOP_BY_HOP: [HeaderName; 5] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Which headers there are that HTTP/2 has otherwise. Few have one; to look is cheaper than to remove them all.
#[derive(Default)]
struct Concerns {
    host: bool,
    hop_by_hop: bool,
    te: bool,
}

impl Concerns {
    fn of(headers: &HeaderMap) -> Self {
        let mut concerns = Self::default();
        for name in headers.keys() {
            concerns.host |= *name == HOST;
            concerns.te |= *name == TE;
            concerns.hop_by_hop |= HOP_BY_HOP.contains(name);
        }
        concerns
    }
}

fn only_trailers(headers: &mut HeaderMap) {
    let mut values = headers.get_all(TE).iter();
    if values.next().is_some_and(|value| value == "trailers") && values.next().is_none() {
        return;
    }
    let trailers = tokens(headers, &TE).any(|token| token.eq_ignore_ascii_case("trailers"));
    headers.remove(TE);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
        .filter_map(|name| name.parse().ok())
        // `TE` is always named there, and has a rule of its own.
        .filter(|name| name != TE)
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

#[cfg(test)]
mod tests;
