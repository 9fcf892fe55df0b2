use http::uri::Scheme;
use http::{HeaderName, HeaderValue, StatusCode};
use linkerd2_proxy_api::{http_route, http_types, outbound};

use super::super::family::{Family, Grpc, Http};
use super::super::problem::{At, Effect, Problems};
use super::not_valid;
use crate::policy::{
    Codes, Filter, GrpcFilter, InjectFailure, InjectGrpcFailure, ModifyHeader, ModifyPath, Ratio,
    RedirectRequest,
};

// A filter must not be skipped: what it is for is refused where it stands.

pub(in super::super) fn http_filter(
    problems: &mut Problems,
    at: &At<'_>,
    wire: outbound::http_route::Filter,
) -> Filter {
    use outbound::http_route::filter::Kind;
    let read = match wire.kind {
        Some(Kind::FailureInjector(wire)) => {
            let at = &at.field("failure_injector");
            let ratio = ratio(problems, at, wire.ratio);
            let status = u16::try_from(wire.status).ok();
            let status = status.and_then(|status| StatusCode::from_u16(status).ok());
            let status = status.unwrap_or_else(|| {
                let message = format!("found {}, expected a status from 100 to 999", wire.status);
                problems.add(&at.field("status"), Effect::Default, message);
                StatusCode::INTERNAL_SERVER_ERROR
            });
            let failure = InjectFailure::new(status, wire.message, ratio);
            failure.ok().map(Filter::InjectFailure)
        }
        Some(Kind::RequestHeaderModifier(wire)) => {
            let at = &at.field("request_header_modifier");
            modify(problems, at, wire.add, wire.set, wire.remove).map(Filter::RequestHeaders)
        }
        Some(Kind::ResponseHeaderModifier(wire)) => {
            let at = &at.field("response_header_modifier");
            modify(problems, at, wire.add, wire.set, wire.remove).map(Filter::ResponseHeaders)
        }
        Some(Kind::Redirect(wire)) => {
            redirect(problems, &at.field("redirect"), wire).map(Filter::Redirect)
        }
        None => {
            problems.missing(&at.field("kind"), Effect::Refused);
            None
        }
    };
    read.unwrap_or_else(|| Http::refusing(not_valid(at)))
}

pub(in super::super) fn grpc_filter(
    problems: &mut Problems,
    at: &At<'_>,
    wire: outbound::grpc_route::Filter,
) -> GrpcFilter {
    use outbound::grpc_route::filter::Kind;
    let read = match wire.kind {
        Some(Kind::FailureInjector(wire)) => {
            let at = &at.field("failure_injector");
            let ratio = ratio(problems, at, wire.ratio);
            let message = wire.message;
            let code = u16::try_from(wire.code).unwrap_or(u16::MAX);
            let failure = InjectGrpcFailure::new(code, message.clone(), ratio).or_else(|_| {
                let found = wire.code;
                let text = format!("found {found}, expected a gRPC status code from 1 to 16");
                problems.add(&at.field("code"), Effect::Default, text);
                InjectGrpcFailure::new(Codes::UNKNOWN, message, ratio)
            });
            failure.ok().map(GrpcFilter::InjectFailure)
        }
        Some(Kind::RequestHeaderModifier(wire)) => {
            let at = &at.field("request_header_modifier");
            modify(problems, at, wire.add, wire.set, wire.remove).map(GrpcFilter::RequestHeaders)
        }
        None => {
            problems.missing(&at.field("kind"), Effect::Refused);
            None
        }
    };
    read.unwrap_or_else(|| Grpc::refusing(not_valid(at)))
}

/// A share of requests. None is all of them, and so is one that is not valid.
fn ratio(problems: &mut Problems, at: &At<'_>, wire: Option<http_route::Ratio>) -> Ratio {
    let Some(wire) = wire else {
        return Ratio::ONE;
    };
    let (part, whole) = (u64::from(wire.numerator), u64::from(wire.denominator));
    let ppm = match whole {
        0 => None,
        _ if part > whole => None,
        // To the nearest.
        _ => u32::try_from((part * 1_000_000 + whole / 2) / whole).ok(),
    };
    let ratio = ppm.and_then(|ppm| Ratio::parts_per_million(ppm).ok());
    ratio.unwrap_or_else(|| {
        let message = format!("found {part}/{whole}, expected a ratio from 0 to 1");
        problems.add(&at.field("ratio"), Effect::Default, message);
        Ratio::ONE
    })
}

/// None if a header that is to be written cannot be.
fn modify(
    problems: &mut Problems,
    at: &At<'_>,
    add: Option<http_types::Headers>,
    set: Option<http_types::Headers>,
    remove: Vec<String>,
) -> Option<ModifyHeader> {
    let add = headers(problems, &at.field("add"), add);
    let set = headers(problems, &at.field("set"), set);
    let remove = remove.into_iter().enumerate().filter_map(|(n, name)| {
        let read = HeaderName::from_bytes(name.as_bytes()).ok();
        if read.is_none() {
            // No request has it, so that there is nothing to take away.
            let message = format!("found {name:?}, expected a header's name");
            problems.add(&at.item("remove", n), Effect::LeftOut, message);
        }
        read
    });
    let remove = remove.collect();
    Some(ModifyHeader {
        add: add?,
        set: set?,
        remove,
    })
}

fn headers(
    problems: &mut Problems,
    at: &At<'_>,
    wire: Option<http_types::Headers>,
) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let mut valid = true;
    let mut headers = Vec::new();
    for (n, wire) in wire.unwrap_or_default().headers.into_iter().enumerate() {
        let at = &at.item("headers", n);
        let name = HeaderName::from_bytes(wire.name.as_bytes()).ok();
        let value = HeaderValue::from_bytes(&wire.value).ok();
        if name.is_none() {
            let message = format!("found {:?}, expected a header's name", wire.name);
            problems.add(&at.field("name"), Effect::Refused, message);
        }
        if value.is_none() {
            let found = String::from_utf8_lossy(&wire.value);
            let message = format!("found {found:?}, expected a header's value");
            problems.add(&at.field("value"), Effect::Refused, message);
        }
        match (name, value) {
            (Some(name), Some(value)) => headers.push((name, value)),
            _ => valid = false,
        }
    }
    valid.then_some(headers)
}

/// A host or a path that cannot be part of a URI stays: what is sent there gets an internal error, as in the mesh.
fn redirect(
    problems: &mut Problems,
    at: &At<'_>,
    wire: http_route::RequestRedirect,
) -> Option<RedirectRequest> {
    let mut redirect = RedirectRequest::new();
    let status = match wire.status {
        0 => Some(redirect.status()),
        status => u16::try_from(status)
            .ok()
            .and_then(|status| StatusCode::from_u16(status).ok())
            .filter(StatusCode::is_redirection),
    };
    if status.is_none() {
        let message = format!("found {}, expected a status from 300 to 399", wire.status);
        problems.add(&at.field("status"), Effect::Refused, message);
    }
    let port = u16::try_from(wire.port).ok();
    if port.is_none() {
        let message = format!("found {}, expected a port, at most 65535", wire.port);
        problems.add(&at.field("port"), Effect::Refused, message);
    }
    let scheme = match wire.scheme.map(|wire| scheme(problems, at, wire)) {
        Some(None) => return None,
        Some(scheme) => scheme,
        None => None,
    };
    if !wire.host.is_empty() && redirect.clone().with_host(&wire.host).is_err() {
        let message = format!("found {:?}, expected a host without a port", wire.host);
        problems.add(&at.field("host"), Effect::Kept, message);
    }
    redirect = redirect.with_status(status?).ok()?;
    redirect.port = port?.into();
    redirect.port = redirect.port.filter(|port| *port > 0);
    redirect.scheme = scheme;
    redirect.host = Some(wire.host).filter(|host| !host.is_empty());
    redirect.path = wire
        .path
        .and_then(|path| modify_path(problems, &at.field("path"), path));
    Some(redirect)
}

fn scheme(problems: &mut Problems, at: &At<'_>, wire: http_types::Scheme) -> Option<Scheme> {
    let scheme = Scheme::try_from(wire);
    if let Err(error) = &scheme {
        problems.add(&at.field("scheme"), Effect::Refused, error.to_string());
    }
    scheme.ok()
}

/// One without a word about what to replace replaces nothing, as in the proxy.
fn modify_path(
    problems: &mut Problems,
    at: &At<'_>,
    wire: http_route::PathModifier,
) -> Option<ModifyPath> {
    use http_route::path_modifier::Replace;
    match wire.replace {
        Some(Replace::Full(path)) => {
            problems.path(&at.field("full"), &path, false);
            Some(ModifyPath::ReplaceFullPath(path))
        }
        Some(Replace::Prefix(prefix)) => Some(ModifyPath::ReplacePrefixMatch(prefix)),
        None => {
            problems.missing(&at.field("replace"), Effect::LeftOut);
            None
        }
    }
}
