//! What is said of a Service by itself.

use std::collections::BTreeMap;

use crate::source::kubernetes::diagnostic::{Diagnostic, Severity};
use crate::source::kubernetes::names::REFUSED;
use crate::source::kubernetes::service::{Port, Service};

pub(super) fn all(service: &Service, diagnostics: &mut Vec<Diagnostic>) {
    protocols(service, diagnostics);
    let before = diagnostics.len();
    ports_twice(service, diagnostics);
    // Who is there twice needs no second name.
    if diagnostics.len() == before {
        names(service, diagnostics);
    }
}

fn refused(service: &Service, port: &Port, key: &str, message: impl Into<String>) -> Diagnostic {
    Diagnostic::new(Severity::Error, &service.origin, message)
        .key(format!("{}.{key}", port.path))
        .at(port.at)
        .mesh(REFUSED)
}

/// Of several ports each has a name, and each another.
fn names(service: &Service, diagnostics: &mut Vec<Diagnostic>) {
    let mut seen = BTreeMap::new();
    for port in &service.ports {
        let Some(name) = port.name.as_deref() else {
            if service.ports.len() > 1 {
                let message = "one of several ports, and without a name";
                diagnostics.push(
                    refused(service, port, "name", message).remedy("write name: http or the like"),
                );
            }
            continue;
        };
        if let Some(first) = seen.insert(name, &port.path) {
            let message = format!("the name {name} is already that of {first}");
            diagnostics.push(
                refused(service, port, "name", message).remedy("give each port a name of its own"),
            );
        }
    }
}

/// Protocols by names that the mesh does not know, and that are HTTP.
fn protocols(service: &Service, diagnostics: &mut Vec<Diagnostic>) {
    for port in &service.ports {
        let Some((protocol, at)) = &port.app_protocol else {
            continue;
        };
        let better = match protocol.to_ascii_lowercase().as_str() {
            "grpc" | "http2" | "h2c" | "http/2" | "kubernetes.io/grpc" => "kubernetes.io/h2c",
            "http1" | "http/1.1" | "kubernetes.io/http" | "kubernetes.io/ws" | "ws" => "http",
            _ => continue,
        };
        let message = format!(
            "{protocol:?} is no protocol that the mesh knows: no retries, timeouts or routes"
        );
        diagnostics.push(
            Diagnostic::new(Severity::Warning, &service.origin, message)
                .key(format!("{}.appProtocol", port.path))
                .at(*at)
                .mesh("forwards it as opaque TCP")
                .remedy(format!("write {better}")),
        );
    }
}

/// A port twice. One number of TCP and one of UDP are two ports.
fn ports_twice(service: &Service, diagnostics: &mut Vec<Diagnostic>) {
    let mut seen = BTreeMap::new();
    for port in &service.ports {
        let Some(first) = seen.insert((port.number, port.transport), &port.path) else {
            continue;
        };
        let message = format!("port {} is already {first}", port.number);
        diagnostics.push(refused(service, port, "port", message).remedy("keep one of them"));
    }
}
