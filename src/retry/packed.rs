//! The text of a request's head as one piece of memory: much cheaper to make and to drop than as many shared values, and
//! hardly ever read.

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

/// A copy of an address and of headers, in their order.
#[derive(Clone)]
pub(super) struct Packed {
    // A word, unless it is a strange one.
    scheme: Option<Scheme>,
    // The lengths of what comes first.
    authority: Option<usize>,
    path: Option<usize>,
    // How many follow. Each is the lengths of its name and value, and both.
    headers: usize,
    bytes: Vec<u8>,
}

const LENGTH: usize = size_of::<usize>();
const LENGTHS: usize = 2 * LENGTH;

// The highest bit of a value's length, which is never so large: it is sensitive.
const SENSITIVE: usize = 1 << (usize::BITS - 1);

// What a header takes, as a rule.
const USUAL: usize = 80;

// === impl Packed ===

impl Packed {
    pub(super) fn of(uri: &Uri, headers: &HeaderMap) -> Self {
        let authority = uri.authority().map(Authority::as_str);
        let path = uri.path_and_query().map(PathAndQuery::as_str);
        let length = |part: Option<&str>| part.map(str::len);
        let (authority_len, path_len) = (length(authority), length(path));
        let uri_len = authority_len.unwrap_or(0) + path_len.unwrap_or(0);
        // A guess: cheaper than to look at all of them twice.
        let usual = headers.len().saturating_mul(USUAL);
        let mut bytes = Vec::with_capacity(usual.saturating_add(uri_len));
        for part in [authority, path].into_iter().flatten() {
            bytes.extend_from_slice(part.as_bytes());
        }
        for (name, value) in headers {
            let name = name.as_str().as_bytes();
            let sensitive = if value.is_sensitive() { SENSITIVE } else { 0 };
            let mut lengths = [0; LENGTHS];
            lengths[..LENGTH].copy_from_slice(&name.len().to_ne_bytes());
            lengths[LENGTH..].copy_from_slice(&(value.len() | sensitive).to_ne_bytes());
            bytes.reserve(LENGTHS + name.len() + value.len());
            bytes.extend_from_slice(&lengths);
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(value.as_bytes());
        }
        Self {
            scheme: uri.scheme().cloned(),
            authority: authority_len,
            path: path_len,
            headers: headers.len(),
            bytes,
        }
    }

    /// The same address. None if it cannot be put together again, which none is known of.
    pub(super) fn uri(&self) -> Option<Uri> {
        let (authority, rest) = self.bytes.split_at_checked(self.authority.unwrap_or(0))?;
        let path = rest.get(..self.path.unwrap_or(0))?;
        let mut parts = http::uri::Parts::default();
        parts.scheme = self.scheme.clone();
        if self.authority.is_some() {
            parts.authority = Some(Authority::try_from(authority).ok()?);
        }
        if self.path.is_some() {
            parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
        }
        Uri::from_parts(parts).ok()
    }

    /// The same headers. Their values share this memory.
    pub(super) fn into_headers(self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.headers);
        let mut rest = Bytes::from(self.bytes);
        let uri = self.authority.unwrap_or(0) + self.path.unwrap_or(0);
        let _ = rest.split_to(uri.min(rest.len()));
        while let Some((name, value)) = next(&mut rest) {
            headers.append(name, value);
        }
        headers
    }
}

// None at the end: all that is in it was a header before.
fn next(rest: &mut Bytes) -> Option<(HeaderName, HeaderValue)> {
    let (lengths, _) = rest.split_first_chunk::<LENGTHS>()?;
    let (name, value) = lengths.split_first_chunk()?;
    let (value, _) = value.split_first_chunk()?;
    let (name, value) = (usize::from_ne_bytes(*name), usize::from_ne_bytes(*value));
    let (sensitive, value) = (value & SENSITIVE != 0, value & !SENSITIVE);
    // It was packed whole.
    let _ = rest.split_to(LENGTHS);
    let name = HeaderName::from_bytes(&rest.split_to(name)).ok()?;
    let mut value = HeaderValue::from_maybe_shared(rest.split_to(value)).ok()?;
    value.set_sensitive(sensitive);
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_address_is_the_same_again(
            scheme in "http://|https://|HTTP://|a+b-c.d:\\/\\/|",
            authority in "([a-z]{1,4}(:[a-z%0-9]{0,3})?@)?([a-zA-Z0-9.-]{1,9}|\\[::1\\])(:[0-9]{0,5})?|",
            path in "(/[!-~]{0,20})?([?][!-~\u{80}-\u{fff}]{0,9})?|[*]",
        ) {
            let Ok(uri) = Uri::try_from(format!("{scheme}{authority}{path}")) else {
                return Ok(());
            };
            let again = Packed::of(&uri, &HeaderMap::new()).uri();
            prop_assert_eq!(again.as_ref(), Some(&uri));
            prop_assert_eq!(again.unwrap().to_string(), uri.to_string());
        }

        #[test]
        fn what_is_unpacked_was_packed(
            given in proptest::collection::vec(
                ("[a-z][a-z0-9!#$%&'*+.^_`|~-]{0,9}|content-type|host", "[ -~\u{80}-\u{ff}\t]{0,40}", any::<bool>()), 0..20,
            ),
        ) {
            let mut headers = HeaderMap::new();
            for (name, value, sensitive) in given {
                let mut value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
                value.set_sensitive(sensitive);
                headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
            }
            let packed = Packed::of(&Uri::default(), &headers);
            let unpacked = packed.into_headers();
            prop_assert_eq!(&unpacked, &headers);
            let sensitive = |headers: &HeaderMap| -> Vec<_> {
                headers.iter().map(|(name, value)| (name.clone(), value.is_sensitive())).collect()
            };
            prop_assert_eq!(sensitive(&unpacked), sensitive(&headers));
        }
    }

    #[test]
    fn addresses_of_all_forms_are_the_same_again() {
        for uri in [
            "http://web.shop/quote?id=7",
            "https://user:pw@[::1]:8443/a/b;c?d=e&f#gone",
            "http://host",
            "http://host?query",
            "gopher+x://host/",
            "host:443",
            "host",
            "/path?query",
            "/",
            "*",
        ] {
            let uri: Uri = uri.parse().unwrap();
            let mut headers = HeaderMap::new();
            headers.insert("host", HeaderValue::from_static("other"));
            let packed = Packed::of(&uri, &headers);
            assert_eq!(packed.uri().as_ref(), Some(&uri));
            assert_eq!(packed.into_headers(), headers);
        }
        // As it is made, not parsed.
        let built = Uri::builder().path_and_query("//a//?").build().unwrap();
        let packed = Packed::of(&built, &HeaderMap::new());
        assert_eq!(packed.uri(), Some(built));
    }
}
