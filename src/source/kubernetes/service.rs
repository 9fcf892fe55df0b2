use std::num::NonZeroU16;

use super::annotations::{Annotation, Settings};
use super::diagnostic::Diagnostic;
use super::error::Error;
use super::field::Field;
use super::place::{Mark, Origin};
use super::yaml::Value;

/// A core `Service`, as far as outbound policy is concerned.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) origin: Origin,
    pub(super) at: Mark,
    pub(super) namespace: String,
    pub(super) name: String,
    /// Where it says `type: ExternalName`.
    pub(super) external_name: Option<Mark>,
    pub(super) ports: Vec<Port>,
    pub(super) settings: Settings,
}

/// One port of a Service.
#[derive(Clone, Debug)]
pub(super) struct Port {
    pub(super) path: String,
    pub(super) at: Mark,
    pub(super) number: NonZeroU16,
    pub(super) name: Option<String>,
    pub(super) transport: Transport,
    /// As it was written, and where.
    pub(super) app_protocol: Option<(String, Mark)>,
}

/// What a port is of. HTTP goes over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
    Sctp,
}

// === impl Service ===

impl Service {
    /// # Errors
    /// A field of the wrong type, or no name.
    pub(super) fn read(
        document: &Field<'_>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Result<Self, Error> {
        let metadata = document.require("metadata", "a mapping with the Service's name")?;
        let name = metadata.require("name", "the Service's name")?.name()?;
        let namespace = match metadata.get("namespace")? {
            Some(namespace) => namespace.name()?,
            None => "default",
        };
        let origin = document
            .origin
            .resource(format!("Service {namespace}/{name}"));
        // From here on errors say which Service they are about.
        let annotations = annotations(&metadata.within(&origin))?;
        let spec = document.within(&origin).get("spec")?;
        let mut ports = Vec::new();
        let mut external_name = None;
        if let Some(spec) = spec {
            if let Some(kind) = spec.get("type")? {
                external_name = (kind.string()? == "ExternalName").then_some(kind.at());
            }
            if let Some(list) = spec.get("ports")? {
                for port in list.list()? {
                    ports.push(Port::read(port)?);
                }
            }
        }
        Ok(Self {
            at: document.at(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            external_name,
            ports,
            settings: Settings::read(&annotations, &origin, diagnostics),
            origin,
        })
    }
}

// === impl Port ===

impl Port {
    fn read(field: Field<'_>) -> Result<Self, Error> {
        let number = field.require("port", "a whole number from 1 to 65535")?;
        let name = field.get("name")?.map(|name| name.string()).transpose()?;
        let transport = match field.get("protocol")? {
            None => Transport::Tcp,
            Some(protocol) => match protocol.string()? {
                "TCP" => Transport::Tcp,
                "UDP" => Transport::Udp,
                "SCTP" => Transport::Sctp,
                other => {
                    let found = super::place::quoted(other);
                    let message = format!("found {found}, expected TCP, UDP or SCTP");
                    return Err(protocol
                        .error(message)
                        .remedy("what is spoken over TCP goes into appProtocol"));
                }
            },
        };
        if let Some(target) = field.get("targetPort")?
            && !matches!(target.node.value, Value::String(_))
        {
            target.port()?;
        }
        let app_protocol = match field.get("appProtocol")? {
            Some(protocol) => Some((protocol.string()?.to_owned(), protocol.at())),
            None => None,
        };
        Ok(Self {
            number: number.port()?,
            name: name.map(str::to_owned),
            transport,
            app_protocol,
            at: number.at(),
            path: field.path,
        })
    }
}

/// The annotations of any object. Their errors name the annotation instead of the path that leads to it.
///
/// # Errors
/// A value that is not a string.
fn annotations(metadata: &Field<'_>) -> Result<Vec<Annotation>, Error> {
    let Some(annotations) = metadata.get("annotations")? else {
        return Ok(Vec::new());
    };
    let read = |entry: &super::yaml::Entry| {
        let value = Field::root(&entry.value, entry.key.clone(), metadata.origin);
        Ok(Annotation {
            key: entry.key.clone(),
            value: value.string()?.to_owned(),
            key_at: entry.key_at,
            at: value.at(),
        })
    };
    annotations.entries()?.iter().map(read).collect()
}
