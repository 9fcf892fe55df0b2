use http::uri::{Authority, Scheme};
use http::{HeaderName, HeaderValue, StatusCode};

use super::{InvalidPolicy, Ratio};

/// Something done to a request, or to the response it gets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Filter {
    /// Answers some requests with a failure instead of sending them.
    InjectFailure(InjectFailure),
    /// Answers with a redirect instead of sending the request.
    Redirect(RedirectRequest),
    /// Changes the request's headers.
    RequestHeaders(ModifyHeader),
    /// Changes the response's headers.
    ResponseHeaders(ModifyHeader),
}

/// A failure made on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InjectFailure {
    status: StatusCode,
    message: String,
    ratio: Ratio,
}

/// Header changes, done in this order: add, set, remove.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct ModifyHeader {
    /// Values added beside those that are there.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Values that replace those that are there.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Headers taken away.
    pub remove: Vec<HeaderName>,
}

/// A redirect. Parts that are not given are the request's. Nothing is done where the result is the request's own URI.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RedirectRequest {
    /// Another scheme.
    pub scheme: Option<Scheme>,
    /// Another host, without a port.
    pub host: Option<String>,
    /// Another path.
    pub path: Option<ModifyPath>,
    /// Another port.
    pub port: Option<u16>,
    status: StatusCode,
}

/// A change to a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModifyPath {
    /// The whole path.
    ReplaceFullPath(String),
    /// The part that a prefix match matched.
    ReplacePrefixMatch(String),
}

// === impl InjectFailure ===

impl InjectFailure {
    /// Fails this share of the requests.
    ///
    /// # Errors
    /// A share beyond one.
    pub fn new(
        status: StatusCode,
        message: impl Into<String>,
        ratio: Ratio,
    ) -> Result<Self, InvalidPolicy> {
        if ratio > Ratio::ONE {
            return Err(InvalidPolicy::new(
                "filter.inject_failure.ratio",
                ratio,
                "a ratio from 0 to 1",
            ));
        }
        Ok(Self {
            status,
            message: message.into(),
            ratio,
        })
    }

    /// Fails every request.
    #[cfg(feature = "linkerd")]
    pub(crate) fn always(status: StatusCode, message: String) -> Self {
        Self {
            status,
            message,
            ratio: Ratio::ONE,
        }
    }

    /// The status answered.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Why.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The share of requests.
    pub fn ratio(&self) -> Ratio {
        self.ratio
    }
}

// === impl RedirectRequest ===

impl RedirectRequest {
    /// A redirect that changes nothing yet, with 301 (the mesh's default).
    pub fn new() -> Self {
        Self {
            scheme: None,
            host: None,
            path: None,
            port: None,
            status: StatusCode::MOVED_PERMANENTLY,
        }
    }

    /// With another status.
    ///
    /// # Errors
    /// Not from 300 to 399.
    pub fn with_status(mut self, status: StatusCode) -> Result<Self, InvalidPolicy> {
        if !status.is_redirection() {
            return Err(InvalidPolicy::new(
                "filter.redirect.status",
                status.as_u16(),
                "a status from 300 to 399",
            ));
        }
        self.status = status;
        Ok(self)
    }

    /// With another host.
    ///
    /// # Errors
    /// Not a host name, or one with a port.
    pub fn with_host(mut self, host: &str) -> Result<Self, InvalidPolicy> {
        match host.parse::<Authority>() {
            Ok(authority) if authority.host() == host => {
                self.host = Some(host.to_owned());
                Ok(self)
            }
            _ => Err(InvalidPolicy::new(
                "filter.redirect.host",
                format!("{host:?}"),
                "a host name without a port",
            )),
        }
    }

    /// The status answered.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl Default for RedirectRequest {
    fn default() -> Self {
        Self::new()
    }
}
