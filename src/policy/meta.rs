use std::fmt;
use std::num::NonZeroU16;

use super::InvalidPolicy;

/// Where a piece of policy comes from: a Kubernetes resource, or a default of the control plane.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Meta {
    /// Nothing the user wrote: a default by this name.
    Default {
        /// For instance `http` for the route of a Service that has none of its own.
        name: String,
    },
    /// A resource.
    Resource(Resource),
}

/// A Kubernetes resource, by name. Group, kind, name and namespace are never empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    group: String,
    kind: String,
    namespace: String,
    name: String,
    section: Option<String>,
    port: Option<NonZeroU16>,
}

// === impl Meta ===

impl Meta {
    /// A default of the control plane.
    pub fn default_named(name: impl Into<String>) -> Self {
        Self::Default { name: name.into() }
    }

    /// A port of a core `Service`.
    ///
    /// # Errors
    /// An empty name or namespace.
    pub fn service(
        namespace: impl Into<String>,
        name: impl Into<String>,
        port: Option<NonZeroU16>,
    ) -> Result<Self, InvalidPolicy> {
        let resource = Resource::new("core", "Service", namespace, name)?;
        Ok(Self::Resource(match port {
            Some(port) => resource.with_port(port),
            None => resource,
        }))
    }

    /// The name without kind and namespace.
    pub fn name(&self) -> &str {
        match self {
            Self::Default { name } => name,
            Self::Resource(resource) => &resource.name,
        }
    }
}

impl fmt::Display for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default { name } => write!(f, "default.{name}"),
            Self::Resource(resource) => resource.fmt(f),
        }
    }
}

// === impl Resource ===

impl Resource {
    /// A resource without section and port. The core group is written `core`.
    ///
    /// # Errors
    /// An empty string.
    pub fn new(
        group: impl Into<String>,
        kind: impl Into<String>,
        namespace: impl Into<String>,
        name: impl Into<String>,
    ) -> Result<Self, InvalidPolicy> {
        let resource = Self {
            group: group.into(),
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
            section: None,
            port: None,
        };
        for (field, value) in [
            ("meta.group", &resource.group),
            ("meta.kind", &resource.kind),
            ("meta.namespace", &resource.namespace),
            ("meta.name", &resource.name),
        ] {
            if value.is_empty() {
                return Err(InvalidPolicy::new(field, "an empty string", "a name"));
            }
        }
        Ok(resource)
    }

    /// The same resource, one section of it. An empty section is none.
    #[must_use]
    pub fn with_section(mut self, section: impl Into<String>) -> Self {
        self.section = Some(section.into()).filter(|s| !s.is_empty());
        self
    }

    /// The same resource, one port of it.
    #[must_use]
    pub fn with_port(mut self, port: NonZeroU16) -> Self {
        self.port = Some(port);
        self
    }

    /// API group; `core` for the core group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Kind, such as `Service`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Section, where the policy is about one.
    pub fn section(&self) -> Option<&str> {
        self.section.as_deref()
    }

    /// Port, where the policy is about one.
    pub fn port(&self) -> Option<NonZeroU16> {
        self.port
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.to_ascii_lowercase();
        write!(f, "{kind}.{}.{}", self.namespace, self.name)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}
