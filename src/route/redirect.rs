use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Uri};

use super::{InvalidFilter, PathMatched, host};
use crate::policy::{ModifyPath, RedirectRequest};

/// Where the redirect leads; `None` if to where the request goes anyway.
///
/// Where the request's URI is not complete, `http` and the `Host` header complete it.
pub(super) fn location(
    redirect: &RedirectRequest,
    uri: &Uri,
    headers: &HeaderMap,
    matched: PathMatched,
) -> Result<Option<Uri>, InvalidFilter> {
    let from_scheme = uri.scheme().unwrap_or(&Scheme::HTTP);
    let from = uri.authority().cloned().or_else(|| {
        let host = host::header(headers)?;
        host.parse::<Authority>().ok()
    });
    let from = from.filter(|from| !from.host().is_empty());
    // `*` and the empty path of a CONNECT name nothing below the root.
    let from_path = Some(uri.path()).filter(|path| path.starts_with('/'));
    let from_path = from_path.unwrap_or("/");

    let scheme = redirect.scheme.as_ref().unwrap_or(from_scheme);
    let authority = authority(redirect, scheme, from.as_ref())?;
    let path = path_and_query(redirect.path.as_ref(), from_path, uri.query(), matched)?;

    // Piece by piece, since an absent path and `/` are the same.
    if scheme == from_scheme
        && Some(&authority) == from.as_ref()
        && (path.path(), path.query()) == (from_path, uri.query())
    {
        return Ok(None);
    }
    Uri::builder()
        .scheme(scheme.clone())
        .authority(authority)
        .path_and_query(path)
        .build()
        .map(Some)
        .map_err(|_| InvalidFilter::Location)
}

/// The request's own unless host or port are given. The port of the request survives a new host; the scheme's default
/// port is left out.
fn authority(
    redirect: &RedirectRequest,
    scheme: &Scheme,
    from: Option<&Authority>,
) -> Result<Authority, InvalidFilter> {
    // Zero is how the mesh's protocol says none.
    let port = redirect.port.filter(|port| *port != 0);
    let host = redirect.host.as_deref();
    if let (None, None, Some(from)) = (host, port, from) {
        return Ok(from.clone());
    }
    let host = host
        .or_else(|| from.map(Authority::host))
        .ok_or(InvalidFilter::NoHost)?;
    let port = port
        .or_else(|| from.and_then(Authority::port_u16))
        .filter(|port| Some(*port) != default_port(scheme));
    let text = match port {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    // The host of a redirect may have been written without `with_host`, which checks this.
    text.parse()
        .ok()
        .filter(|authority: &Authority| authority.host() == host && !host.is_empty())
        .ok_or(InvalidFilter::Host { host: text })
}

fn default_port(scheme: &Scheme) -> Option<u16> {
    if *scheme == Scheme::HTTP {
        Some(80)
    } else if *scheme == Scheme::HTTPS {
        Some(443)
    } else {
        None
    }
}

/// A full path brings its own query or none; otherwise the request's query stays.
fn path_and_query(
    change: Option<&ModifyPath>,
    path: &str,
    query: Option<&str>,
    matched: PathMatched,
) -> Result<PathAndQuery, InvalidFilter> {
    let (path, query) = match change {
        None => (path.to_owned(), query),
        Some(ModifyPath::ReplaceFullPath(path)) => (path.clone(), None),
        Some(ModifyPath::ReplacePrefixMatch(prefix)) => {
            (replace_prefix(path, matched, prefix)?, query)
        }
    };
    let text = match query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    if !text.starts_with('/') {
        return Err(InvalidFilter::Path { path: text });
    }
    // By way of `Uri`, whose limit on the length is as old as the crate `http`.
    let parsed = Uri::try_from(text.as_str()).ok().map(Uri::into_parts);
    let path = parsed.and_then(|parts| parts.path_and_query);
    path.ok_or(InvalidFilter::Path { path: text })
}

/// With one `/` between the new prefix and what is below the old one.
fn replace_prefix(path: &str, matched: PathMatched, prefix: &str) -> Result<String, InvalidFilter> {
    let PathMatched::Prefix(length) = matched else {
        return Err(InvalidFilter::NoPrefixMatched);
    };
    let below = path.get(length..).ok_or(InvalidFilter::NoPrefixMatched)?;
    if below.is_empty() {
        let root = prefix.is_empty();
        return Ok(if root { "/" } else { prefix }.to_owned());
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let below = below.strip_prefix('/').unwrap_or(below);
    Ok(format!("{prefix}/{below}"))
}
