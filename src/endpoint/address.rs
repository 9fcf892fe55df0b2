use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Where one endpoint is, and what is known about it.
///
/// Two endpoints are the same endpoint if their addresses are equal: what was learned about one survives a change of its
/// metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    address: SocketAddr,
    name: Option<Arc<str>>,
    server_name: Option<Arc<str>>,
    labels: BTreeMap<String, String>,
}

// === impl Endpoint ===

impl Endpoint {
    /// An endpoint without a name and metadata.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            name: None,
            server_name: None,
            labels: BTreeMap::new(),
        }
    }

    /// With a name for messages and reports. Default: its address.
    #[must_use]
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// With the name that its certificate must have. Default: the client's.
    #[must_use]
    pub fn with_server_name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// With a label, such as `zone`.
    #[must_use]
    pub fn with_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its name, if it was given one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The name that its certificate must have, if it was given one.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// What else is known about it.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    pub(crate) fn or_server_name(mut self, name: Option<&Arc<str>>) -> Self {
        if self.server_name.is_none() {
            self.server_name = name.cloned();
        }
        self
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::new(address)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => self.address.fmt(f),
        }
    }
}
