use std::net::IpAddr;
use std::num::NonZeroU16;

use super::annotations::Settings;
use super::diagnostic::Diagnostic;
use super::error::Error;
use super::field::Field;
use super::metadata::Metadata;
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
    /// Where it says `clusterIP: None`.
    pub(super) headless: Option<Mark>,
    /// Its addresses, where the manifest comes from a cluster.
    pub(super) cluster_ips: Vec<IpAddr>,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
        let Metadata {
            origin,
            at,
            namespace,
            name,
            annotations,
            ..
        } = Metadata::read(document, "Service")?;
        let spec = document.within(&origin).get("spec")?;
        let mut ports = Vec::new();
        let mut external_name = None;
        let mut headless = None;
        let mut cluster_ips = Vec::new();
        if let Some(spec) = spec {
            if let Some(kind) = spec.get("type")? {
                external_name = (kind.string()? == "ExternalName").then_some(kind.at());
            }
            (headless, cluster_ips) = addresses(&spec)?;
            if let Some(list) = spec.get("ports")? {
                for port in list.list()? {
                    ports.push(Port::read(port)?);
                }
            }
        }
        Ok(Self {
            at,
            namespace,
            name,
            external_name,
            headless,
            cluster_ips,
            ports,
            settings: Settings::read(&annotations, &origin, diagnostics),
            origin,
        })
    }
}

// === impl Port ===

impl Port {
    /// One that no manifest has.
    pub(super) fn undefined(number: NonZeroU16) -> Self {
        Self {
            path: String::new(),
            at: Mark::default(),
            number,
            name: None,
            transport: Transport::Tcp,
            app_protocol: None,
        }
    }

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

/// `clusterIP` and `clusterIPs`: where it says None, and the addresses.
fn addresses(spec: &Field<'_>) -> Result<(Option<Mark>, Vec<IpAddr>), Error> {
    let mut fields = Vec::new();
    fields.extend(spec.get("clusterIP")?);
    if let Some(list) = spec.get("clusterIPs")? {
        fields.extend(list.list()?);
    }
    let mut headless = None;
    let mut found = Vec::new();
    for field in fields {
        match field.string()? {
            "None" => headless = headless.or(Some(field.at())),
            "" => {}
            text => {
                let address = text.parse().map_err(|_| {
                    field.error(format!(
                        "found {}, expected an IP address or None",
                        super::place::quoted(text)
                    ))
                })?;
                if !found.contains(&address) {
                    found.push(address);
                }
            }
        }
    }
    Ok((headless, found))
}
