use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::load::MOST_WEIGHT;

/// Where one endpoint is, and what is known about it.
///
/// Two endpoints are the same endpoint if their addresses are equal: what was learned about one survives a change of its
/// metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Endpoint {
    address: SocketAddr,
    name: Option<Arc<str>>,
    server_name: Option<Arc<str>>,
    labels: BTreeMap<String, String>,
    // In 2^-16ths.
    weight: u32,
}

// As the mesh's destination service calls it.
const ZONE: &str = "zone";

// === impl Endpoint ===

impl Endpoint {
    /// An endpoint without a name and metadata.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            name: None,
            server_name: None,
            labels: BTreeMap::new(),
            weight: 1 << 16,
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

    /// With the zone it is in: the label `zone`, where the mesh puts what Kubernetes says (`topology.kubernetes.io/zone`).
    #[must_use]
    pub fn with_zone(self, zone: impl Into<String>) -> Self {
        self.with_label(ZONE, zone)
    }

    /// The zone it is in, if it was told: its label `zone`.
    pub fn zone(&self) -> Option<&str> {
        self.labels.get(ZONE).map(String::as_str)
    }

    /// With its share of the traffic, as a multiple of an ordinary endpoint's. Default: 1. It is kept in steps of 1/65536,
    /// between that and 64; what is not a number is 1.
    #[must_use]
    pub fn with_weight(mut self, weight: f64) -> Self {
        self.weight = if weight.is_nan() {
            1 << 16
        } else {
            // Within bounds, so that nothing is cut off but the fraction of a step.
            (weight.clamp(0.0, 64.0) * 65536.0) as u32
        };
        self.weight = self.weight.clamp(1, MOST_WEIGHT);
        self
    }

    /// Its share of the traffic, as a multiple of an ordinary endpoint's.
    pub fn weight(&self) -> f64 {
        f64::from(self.weight) / 65536.0
    }

    pub(crate) fn weight_word(&self) -> u32 {
        self.weight
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
