use http::StatusCode;
use http::uri::Scheme;

use super::matches::{header_name, header_value};
use super::{Group, Kind, note};
use crate::policy::{Filter, ModifyHeader, ModifyPath, RedirectRequest};
use crate::source::kubernetes::diagnostic::{Diagnostic, Severity};
use crate::source::kubernetes::error::Error;
use crate::source::kubernetes::field::Field;
use crate::source::kubernetes::place::quoted;

/// One filter, read.
pub(super) enum Read {
    Filter(Filter),
    /// The mesh sends it and its proxy takes the whole policy for invalid: left out, alone.
    LeftOut(Error),
    /// The mesh does not do this, under this name.
    Unsupported(Error, String),
}

/// The filters of a rule or of a backend, in order.
///
/// # Errors
/// What the API server refuses.
pub(super) fn read(
    holder: &Field<'_>,
    kind: Kind,
    group: Group,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<Vec<Read>, Error> {
    let Some(list) = holder.get("filters")? else {
        return Ok(Vec::new());
    };
    list.list()?
        .into_iter()
        .map(|filter| one(&filter, kind, group, diagnostics))
        .collect()
}

fn one(
    filter: &Field<'_>,
    kind: Kind,
    group: Group,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<Read, Error> {
    let which = filter.require("type", "RequestHeaderModifier or the like")?;
    let need = |key: &str| filter.require(key, "what the filter does, under the name of its type");
    Ok(match which.string()? {
        "RequestHeaderModifier" => Read::Filter(Filter::RequestHeaders(modify(
            &need("requestHeaderModifier")?,
            diagnostics,
        )?)),
        "ResponseHeaderModifier" => {
            let change = need("responseHeaderModifier")?;
            let change = modify(&change, diagnostics)?;
            match (kind, group) {
                (Kind::Grpc, _) => Read::LeftOut(
                    which
                        .error("changes of response headers do not work on a GRPCRoute; the filter is left out")
                        .mesh("answers every request of the Service with an internal error")
                        .remedy("take the filter away"),
                ),
                (_, Group::Linkerd) => {
                    diagnostics.push(
                        note(&which, Severity::Warning, "changes the request's headers, not the response's")
                            .mesh("takes it for a RequestHeaderModifier, and so it is done here")
                            .remedy("use an HTTPRoute of gateway.networking.k8s.io/v1"),
                    );
                    Read::Filter(Filter::RequestHeaders(change))
                }
                (_, Group::Gateway) => Read::Filter(Filter::ResponseHeaders(change)),
            }
        }
        "RequestRedirect" if kind == Kind::Http => {
            let redirect = redirect(&need("requestRedirect")?, group, diagnostics)?;
            Read::Filter(Filter::Redirect(redirect))
        }
        other => {
            let error = which.error(format!(
                "found {}, expected RequestHeaderModifier, ResponseHeaderModifier or RequestRedirect",
                quoted(other)
            ));
            let error = match other {
                "URLRewrite" => error.remedy(
                    "let the server take the path as it is, or answer with a RequestRedirect",
                ),
                "RequestMirror" => error.remedy(
                    "take the filter away; a mesh route sends a request to one backend only",
                ),
                _ => error.remedy("take the filter away"),
            };
            Read::Unsupported(error, other.to_owned())
        }
    })
}

fn modify(change: &Field<'_>, diagnostics: &mut Vec<Diagnostic>) -> Result<ModifyHeader, Error> {
    change.known(&["add", "set", "remove"], diagnostics);
    let mut result = ModifyHeader::default();
    for (key, into) in [("add", &mut result.add), ("set", &mut result.set)] {
        let Some(list) = change.get(key)? else {
            continue;
        };
        for header in list.list()? {
            header.known(&["name", "value"], diagnostics);
            let name = header_name(&header.require("name", "a header's name")?)?;
            let value = header_value(&header.require("value", "a header's value")?)?;
            into.push((name, value));
        }
    }
    if let Some(list) = change.get("remove")? {
        for name in list.list()? {
            result.remove.push(header_name(&name)?);
        }
    }
    Ok(result)
}

fn redirect(
    redirect: &Field<'_>,
    group: Group,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<RedirectRequest, Error> {
    redirect.known(
        &["scheme", "hostname", "path", "port", "statusCode"],
        diagnostics,
    );
    let mut result = RedirectRequest::new();
    if let Some(scheme) = redirect.get("scheme")? {
        let known = [
            ("http", const { &Scheme::HTTP }),
            ("https", const { &Scheme::HTTPS }),
        ];
        result.scheme = Some(scheme.one_of(&known)?.clone());
    }
    if let Some(host) = redirect.get("hostname")? {
        result = result
            .with_host(host.string()?)
            .map_err(|invalid| host.invalid(&invalid))?;
    }
    if let Some(path) = redirect.get("path")? {
        result.path = Some(self::path(&path, diagnostics)?);
    }
    if let Some(port) = redirect.get("port")? {
        result.port = Some(port.port()?.get());
    }
    // What the API server fills in.
    let mut status = StatusCode::FOUND;
    if let Some(code) = redirect.get("statusCode")? {
        let known: &[i64] = match group {
            Group::Gateway => &[301, 302, 303, 307, 308],
            Group::Linkerd => &[301, 302],
        };
        let number = code.integer(300, 399)?;
        if !known.contains(&number) {
            let known: Vec<_> = known.iter().map(i64::to_string).collect();
            return Err(code.expected(&format!("one of {}", known.join(", "))));
        }
        status = u16::try_from(number)
            .ok()
            .and_then(|number| StatusCode::from_u16(number).ok())
            .unwrap_or(status);
    }
    result
        .with_status(status)
        .map_err(|invalid| redirect.invalid(&invalid))
}

fn path(path: &Field<'_>, diagnostics: &mut Vec<Diagnostic>) -> Result<ModifyPath, Error> {
    path.known(
        &["type", "replaceFullPath", "replacePrefixMatch"],
        diagnostics,
    );
    type Make = fn(String) -> ModifyPath;
    let which = path.require("type", "ReplaceFullPath or ReplacePrefixMatch")?;
    let (key, make) = which.one_of::<(&str, Make)>(&[
        (
            "ReplaceFullPath",
            ("replaceFullPath", ModifyPath::ReplaceFullPath),
        ),
        (
            "ReplacePrefixMatch",
            ("replacePrefixMatch", ModifyPath::ReplacePrefixMatch),
        ),
    ])?;
    let value = path.require(key, "a path")?;
    Ok(make(value.string()?.to_owned()))
}
