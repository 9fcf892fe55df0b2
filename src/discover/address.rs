use std::net::{IpAddr, SocketAddr};

use crate::endpoint::Endpoint;

/// Something that is not an endpoint's address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no endpoint: expected {expected}")]
pub struct InvalidEndpoint {
    text: String,
    expected: &'static str,
}

/// Something that names an endpoint.
pub trait ToEndpoint {
    /// The endpoint.
    ///
    /// # Errors
    /// A text that is no address.
    fn to_endpoint(&self) -> Result<Endpoint, InvalidEndpoint>;
}

// === impl InvalidEndpoint ===

impl InvalidEndpoint {
    pub(super) fn new(text: &str, expected: &'static str) -> Self {
        Self {
            text: text.to_owned(),
            expected,
        }
    }
}

// === impl ToEndpoint ===

impl ToEndpoint for Endpoint {
    fn to_endpoint(&self) -> Result<Endpoint, InvalidEndpoint> {
        Ok(self.clone())
    }
}

impl ToEndpoint for SocketAddr {
    fn to_endpoint(&self) -> Result<Endpoint, InvalidEndpoint> {
        Ok(Endpoint::new(*self))
    }
}

impl ToEndpoint for str {
    fn to_endpoint(&self) -> Result<Endpoint, InvalidEndpoint> {
        match self.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => Ok(Endpoint::new(address)),
            _ => Err(InvalidEndpoint::new(self, expected(self))),
        }
    }
}

/// What is expected in place of `text`, by what it looks like.
fn expected(text: &str) -> &'static str {
    let is_name = |text: &str| {
        let one = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        text.contains(|c: char| c.is_ascii_alphabetic()) && text.chars().all(one)
    };
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    if text.contains("://") {
        "an IP address and a port without a scheme, such as 10.0.0.7:8080; TLS is the connector's business"
    } else if text.parse::<IpAddr>().is_ok() {
        "a port, too, such as 10.0.0.7:8080 or [fd00::7]:8080"
    } else if is_name(host) && port.chars().all(|c| c.is_ascii_digit()) {
        "an IP address and a port, such as 10.0.0.7:8080; for a name's there is discover::dns (feature dns), as in \
         .endpoints(dns(\"payments.shop.svc:8080\"))"
    } else if text.parse::<SocketAddr>().is_ok() {
        "a port from 1 to 65535"
    } else {
        "an IP address and a port, such as 10.0.0.7:8080 or [fd00::7]:8080"
    }
}

impl ToEndpoint for String {
    fn to_endpoint(&self) -> Result<Endpoint, InvalidEndpoint> {
        self.as_str().to_endpoint()
    }
}

impl<T: ToEndpoint + ?Sized> ToEndpoint for &T {
    fn to_endpoint(&self) -> Result<Endpoint, InvalidEndpoint> {
        (**self).to_endpoint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_endpoint_and_what_to_write() {
        for (text, piece) in [
            ("10.0.0.7", "a port, too"),
            ("fd00::7", "a port, too"),
            ("http://10.0.0.7:80", "without a scheme"),
            ("payments.shop:8080", "discover::dns"),
            ("payments", "discover::dns"),
            ("localhost:80", "discover::dns"),
            ("10.0.0.7:0", "a port from 1 to 65535"),
            ("10.0.0.7:99999", "an IP address and a port, such as"),
            ("", "an IP address and a port, such as"),
            (" 10.0.0.7:80", "an IP address and a port, such as"),
        ] {
            let invalid = text.to_endpoint().unwrap_err().to_string();
            let start = format!("{text:?} is no endpoint: expected ");
            assert!(
                invalid.starts_with(&start) && invalid.contains(piece),
                "{invalid}"
            );
        }
        for text in ["10.0.0.7:80", "[fd00::7]:80"] {
            assert_eq!(text.to_endpoint().unwrap().to_string(), text);
        }
    }
}
