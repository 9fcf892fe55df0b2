//! Headers as one piece of memory: much cheaper to make and to drop than as many shared values, and hardly ever read.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// A copy of headers, in their order. Each is the lengths of its name and value, whether it is sensitive, and both.
#[derive(Clone)]
pub(super) struct Packed {
    count: usize,
    bytes: Vec<u8>,
}

const LENGTH: usize = size_of::<usize>();
const HEAD: usize = 2 * LENGTH + 1;

// What a header takes, as a rule.
const USUAL: usize = 80;

// === impl Packed ===

impl Packed {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        // A guess: cheaper than to look at all of them twice.
        let mut bytes = Vec::with_capacity(headers.len().saturating_mul(USUAL));
        for (name, value) in headers {
            let name = name.as_str().as_bytes();
            let mut head = [0; HEAD];
            head[..LENGTH].copy_from_slice(&name.len().to_ne_bytes());
            head[LENGTH..2 * LENGTH].copy_from_slice(&value.len().to_ne_bytes());
            head[2 * LENGTH] = value.is_sensitive().into();
            bytes.extend_from_slice(&head);
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(value.as_bytes());
        }
        Self {
            count: headers.len(),
            bytes,
        }
    }

    /// The same headers. Their values share this memory.
    pub(super) fn unpack(self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.count);
        let mut rest = Bytes::from(self.bytes);
        while let Some((name, value)) = next(&mut rest) {
            headers.append(name, value);
        }
        headers
    }
}

// None at the end: all that is in it was a header before.
fn next(rest: &mut Bytes) -> Option<(HeaderName, HeaderValue)> {
    let (head, _) = rest.split_first_chunk::<HEAD>()?;
    let (name, head) = head.split_first_chunk()?;
    let (value, sensitive) = head.split_first_chunk()?;
    let (name, value) = (usize::from_ne_bytes(*name), usize::from_ne_bytes(*value));
    let sensitive = sensitive == [1];
    // It was packed whole.
    let _ = rest.split_to(HEAD);
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
            let packed = Packed::of(&headers);
            let unpacked = packed.unpack();
            prop_assert_eq!(&unpacked, &headers);
            let sensitive = |headers: &HeaderMap| -> Vec<_> {
                headers.iter().map(|(name, value)| (name.clone(), value.is_sensitive())).collect()
            };
            prop_assert_eq!(sensitive(&unpacked), sensitive(&headers));
        }
    }
}
