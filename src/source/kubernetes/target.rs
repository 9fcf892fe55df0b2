use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use super::diagnostic::{Diagnostic, Severity};
use super::error::{Error, ErrorKind};
use super::place::{Origin, quoted};

/// A port of a Service, by name: `payments.shop:8080`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    namespace: String,
    name: String,
    port: Option<NonZeroU16>,
}

/// What may stand after `name.namespace`. The mesh's default cluster domain.
const SUFFIXES: [&str; 3] = ["", "svc", "svc.cluster.local"];

// === impl Target ===

impl Target {
    pub(super) fn new(namespace: &str, name: &str, port: Option<NonZeroU16>) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            port,
        }
    }

    /// The Service's namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The Service's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port. None stands for the only port of a Service that has one.
    pub fn port(&self) -> Option<NonZeroU16> {
        self.port
    }
}

impl FromStr for Target {
    type Err = Error;

    /// From `name.namespace:port`, `name.namespace.svc:port` or `name.namespace.svc.cluster.local:port`; the port may be
    /// left out where the Service has one only.
    ///
    /// # Errors
    /// Anything else, with [`ErrorKind::Target`].
    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |remedy: Option<String>| {
            let message = format!(
                "found {}, expected name.namespace:port, such as payments.shop:8080",
                quoted(text)
            );
            let diagnostic = Diagnostic::new(Severity::Error, &Origin::default(), message);
            let error = Error::new(ErrorKind::Target, diagnostic.key("target"));
            match remedy {
                Some(remedy) => error.remedy(remedy),
                None => error,
            }
        };
        if let Some((_, rest)) = text.split_once("://") {
            let authority = rest.split('/').next().unwrap_or_default();
            return Err(refuse(Some(format!(
                "leave scheme and path away: {authority}"
            ))));
        }
        let (host, port) = match text.rsplit_once(':') {
            None => (text, None),
            Some((host, port)) => match port.parse::<NonZeroU16>() {
                Ok(number) if port.bytes().all(|b| b.is_ascii_digit()) => (host, Some(number)),
                _ => {
                    let remedy = "the port is a number from 1 to 65535, not a name";
                    return Err(refuse(Some(remedy.to_owned())));
                }
            },
        };
        let label = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let mut parts = host.splitn(3, '.');
        let name = parts.next().unwrap_or_default();
        let namespace = parts.next().unwrap_or_default();
        let suffix = parts.next().unwrap_or_default();
        if label(name) && !host.contains('.') {
            let remedy = format!("name the namespace too: {name}.default");
            return Err(refuse(Some(remedy)));
        }
        if !label(name) || !label(namespace) || host.ends_with('.') {
            return Err(refuse(None));
        }
        if !SUFFIXES.contains(&suffix) {
            let remedy =
                format!("write {name}.{namespace} or {name}.{namespace}.svc.cluster.local");
            return Err(refuse(Some(remedy)));
        }
        Ok(Self::new(namespace, name, port))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}
