//! What an endpoint asks of those who would try again.

use std::time::Duration;

use http::HeaderMap;

use crate::verdict::grpc::GRPC_RETRY_PUSHBACK_MS;
use crate::verdict::retry_after;

/// The longest that a request is kept waiting because an endpoint asks for it: a minute. Whoever wants to be left alone for
/// longer has given its answer, and the caller should have it.
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    None,
    /// `Retry-After`: not before that.
    AtLeast(Duration),
    /// `grpc-retry-pushback-ms`: then.
    Exactly(Duration),
    /// Not again.
    Never,
}

// === impl Hint ===

impl Hint {
    pub(super) fn read(headers: &HeaderMap, grpc: bool) -> Self {
        if grpc && let Some(value) = headers.get(GRPC_RETRY_PUSHBACK_MS) {
            // What cannot be read is taken as what is negative, by gRPC's own rule.
            let text = value.to_str().map(str::trim);
            let millis = text.ok().and_then(|text| text.parse::<u32>().ok());
            return match millis.map(|millis| Duration::from_millis(millis.into())) {
                Some(wait) if wait <= LONGEST => Self::Exactly(wait),
                _ => Self::Never,
            };
        }
        match retry_after(headers) {
            None => Self::None,
            Some(wait) if wait <= LONGEST => Self::AtLeast(wait),
            Some(_) => Self::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushback_and_retry_after() {
        let ms = Duration::from_millis;
        let rows = [
            ("grpc-retry-pushback-ms", "0", Hint::Exactly(ms(0))),
            ("grpc-retry-pushback-ms", " 250 ", Hint::Exactly(ms(250))),
            ("grpc-retry-pushback-ms", "60000", Hint::Exactly(ms(60_000))),
            ("grpc-retry-pushback-ms", "60001", Hint::Never),
            ("grpc-retry-pushback-ms", "-1", Hint::Never),
            ("grpc-retry-pushback-ms", "soon", Hint::Never),
            ("grpc-retry-pushback-ms", "", Hint::Never),
            ("grpc-retry-pushback-ms", "99999999999999", Hint::Never),
            ("retry-after", "3", Hint::AtLeast(ms(3000))),
            ("retry-after", "61", Hint::Never),
            // A date would have to be compared with the wall clock.
            ("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT", Hint::None),
            ("x-other", "3", Hint::None),
        ];
        for (name, value, expected) in rows {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            assert_eq!(Hint::read(&headers, true), expected, "{name}: {value}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("grpc-retry-pushback-ms", "-1".parse().unwrap());
        assert_eq!(Hint::read(&headers, false), Hint::None, "gRPC's own word");
    }
}
