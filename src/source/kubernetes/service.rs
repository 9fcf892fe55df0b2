use std::net::IpAddr;
use std::num::NonZeroU16;

use super::annotations::Settings;
use super::error::Error;
use super::field::Field;
use super::metadata::Metadata;
use super::names::{self, Form};
use super::place::{Mark, Origin};
use super::said::Said;
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

/// What its `spec` may hold.
const FIELDS: [&str; 20] = [
    "allocateLoadBalancerNodePorts",
    "clusterIP",
    "clusterIPs",
    "externalIPs",
    "externalName",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "internalTrafficPolicy",
    "ipFamilies",
    "ipFamilyPolicy",
    "loadBalancerClass",
    "loadBalancerIP",
    "loadBalancerSourceRanges",
    "ports",
    "publishNotReadyAddresses",
    "selector",
    "sessionAffinity",
    "sessionAffinityConfig",
    "trafficDistribution",
    "type",
];
const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

// === impl Service ===

impl Service {
    /// # Errors
    /// No mapping as metadata. Everything else that is wrong is said.
    pub(super) fn read(document: &Field<'_>, said: &mut Said) -> Result<Self, Error> {
        let Metadata {
            origin,
            at,
            namespace,
            name,
            annotations,
            ..
        } = Metadata::read(document, "Service", said)?;
        let mut external_name = None;
        let (mut headless, mut cluster_ips) = (None, Vec::new());
        let mut ports = Vec::new();
        if let Some(spec) = said.get(&document.within(&origin), "spec") {
            said.known(&spec, &FIELDS);
            if let Some(selector) = said.get(&spec, "selector") {
                names::labels(&selector, said);
            }
            if let Some(kind) = said.get(&spec, "type")
                && let Some(text) = said.keep(kind.string())
            {
                external_name = (text == "ExternalName").then_some(kind.at());
                let known = kind.one_of(&TYPES.map(|known| (known, ())));
                let told = known.map_err(|error| error.mesh(names::REFUSED));
                said.diagnostics
                    .extend(told.err().map(|error| error.diagnostic().clone()));
            }
            (headless, cluster_ips) = addresses(&spec, said);
            let list = said.list(&spec, "ports");
            let read = list.iter().map(|port| Port::read(port, said));
            let read: Vec<Option<Port>> = read.collect();
            // Of ports that are half known nothing can be said to others.
            let whole: Option<Vec<Port>> = read.into_iter().collect();
            ports = whole.unwrap_or_default();
        }
        Ok(Self {
            at,
            namespace,
            name,
            external_name,
            headless,
            cluster_ips,
            ports,
            settings: Settings::read(&annotations, &origin, said),
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

    /// None where it has no number.
    fn read(field: &Field<'_>, said: &mut Said) -> Option<Self> {
        let number = said.need(field, ("port", "a whole number from 1 to 65535"), |port| {
            Ok((port.port()?, port.at()))
        });
        let known = [
            "appProtocol",
            "name",
            "nodePort",
            "port",
            "protocol",
            "targetPort",
        ];
        said.known(field, &known);
        let name = said.read(field, "name", |name| {
            name.string().map(|text| (name.clone(), text))
        });
        if let Some((name, _)) = &name {
            Form::Label.check(name, said);
        }
        let name = name.map(|(_, text)| text).filter(|text| !text.is_empty());
        let transport = said.read(field, "protocol", transport);
        if let Some(target) = said.get(field, "targetPort") {
            let number = target.port();
            match (&target.node.value, number) {
                // In quotes it is a name, and a number is none.
                (Value::String(text), Err(error)) if text.parse::<NonZeroU16>().is_ok() => {
                    said.push(error.mesh(names::REFUSED).diagnostic().clone());
                }
                (Value::String(_), _) => Form::PortName.check(&target, said),
                (_, number) => {
                    said.keep(number);
                }
            }
        }
        let app_protocol = said.read(field, "appProtocol", |protocol| {
            Ok((protocol.string()?.to_owned(), protocol.at()))
        });
        let (number, at) = number?;
        Some(Self {
            number,
            name: name.map(str::to_owned),
            transport: transport.unwrap_or(Transport::Tcp),
            app_protocol,
            at,
            path: field.path.clone(),
        })
    }
}

fn transport(protocol: &Field<'_>) -> Result<Transport, Error> {
    Ok(match protocol.string()? {
        "TCP" => Transport::Tcp,
        "UDP" => Transport::Udp,
        "SCTP" => Transport::Sctp,
        _ => {
            let error = protocol.expected("TCP, UDP or SCTP");
            return Err(error.remedy("what is spoken over TCP goes into appProtocol"));
        }
    })
}

/// `clusterIP` and `clusterIPs`: where it says None, and the addresses.
fn addresses(spec: &Field<'_>, said: &mut Said) -> (Option<Mark>, Vec<IpAddr>) {
    let mut headless = None;
    let mut found = Vec::new();
    let one = said.get(spec, "clusterIP");
    for field in one.into_iter().chain(said.list(spec, "clusterIPs")) {
        match said.keep(field.string()) {
            Some("None") => headless = headless.or(Some(field.at())),
            Some("") | None => {}
            Some(text) => match text.parse() {
                Ok(address) if found.contains(&address) => {}
                Ok(address) => found.push(address),
                Err(_) => said.wrong(field.expected("an IP address or None")),
            },
        }
    }
    (headless, found)
}
