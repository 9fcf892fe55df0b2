use std::num::NonZeroU16;
use std::sync::Arc;

use linkerd2_proxy_api::meta as api;

use super::super::problem::{At, Effect, Problems};
use crate::policy::{Meta, Resource};

/// The name of what has none.
pub(super) const UNNAMED: &str = "unnamed";

/// Where something comes from. It decides nothing, so that what is not valid only loses its name.
pub(super) fn meta(problems: &mut Problems, at: &At<'_>, wire: Option<api::Metadata>) -> Arc<Meta> {
    Arc::new(named(problems, at, wire).unwrap_or_else(|| Meta::default_named(UNNAMED)))
}

pub(super) fn named(
    problems: &mut Problems,
    at: &At<'_>,
    wire: Option<api::Metadata>,
) -> Option<Meta> {
    match wire.and_then(|metadata| metadata.kind) {
        Some(api::metadata::Kind::Default(name)) => Some(Meta::Default { name }),
        Some(api::metadata::Kind::Resource(wire)) => resource(problems, at, wire),
        None => {
            problems.missing(at, Effect::Default);
            None
        }
    }
}

fn resource(problems: &mut Problems, at: &At<'_>, wire: api::Resource) -> Option<Meta> {
    let at = &at.field("resource");
    let fields = [
        ("group", &wire.group),
        ("kind", &wire.kind),
        ("name", &wire.name),
        ("namespace", &wire.namespace),
    ];
    for (field, value) in fields {
        if value.is_empty() {
            problems.add(
                &at.field(field),
                Effect::Default,
                "found nothing, expected a name",
            );
        }
    }
    let port = match u16::try_from(wire.port) {
        Ok(port) => NonZeroU16::new(port),
        Err(_) => {
            let message = format!("found {}, expected a port, at most 65535", wire.port);
            problems.add(&at.field("port"), Effect::LeftOut, message);
            None
        }
    };
    let resource = Resource::new(wire.group, wire.kind, wire.namespace, wire.name).ok()?;
    let resource = resource.with_section(wire.section);
    Some(Meta::Resource(match port {
        Some(port) => resource.with_port(port),
        None => resource,
    }))
}
