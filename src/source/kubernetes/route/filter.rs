use std::collections::BTreeSet;
use std::num::NonZeroU16;

use http::uri::Scheme;
use http::{HeaderName, HeaderValue, StatusCode};

use super::matches::{header_name, header_value, twice};
use super::{Group, Kind, note};
use crate::policy::{Filter, ModifyHeader, ModifyPath, RedirectRequest};
use crate::source::kubernetes::diagnostic::Severity;
use crate::source::kubernetes::error::Error;
use crate::source::kubernetes::field::Field;
use crate::source::kubernetes::names::REFUSED;
use crate::source::kubernetes::place::quoted;
use crate::source::kubernetes::said::Said;

/// One filter, read.
pub(super) enum Read {
    Filter(Filter),
    /// The mesh sends it and its proxy takes the whole policy for invalid: left out, alone.
    LeftOut(Error),
    /// The mesh does not do this, under this name.
    Unsupported(Error, String),
}

/// The filters of a rule or of a backend, in order.
pub(super) fn read(holder: &Field<'_>, kind: Kind, group: Group, said: &mut Said) -> Vec<Read> {
    let list = said.list(holder, "filters");
    once(&list, group, said);
    let read = |filter: &Field<'_>| one(filter, kind, group, said);
    list.iter().filter_map(read).collect()
}

/// Those of a rule, without what has to be left out. One that the mesh does not do is an error.
pub(super) fn of_rule(rule: &Field<'_>, kind: Kind, group: Group, said: &mut Said) -> Vec<Filter> {
    let mut filters = Vec::new();
    for filter in read(rule, kind, group, said) {
        match filter {
            Read::Filter(filter) => filters.push(filter),
            Read::LeftOut(error) => said.push(error.diagnostic().clone()),
            Read::Unsupported(error, _) => said.wrong(error),
        }
    }
    redirected(rule, &filters, group, said);
    filters
}

/// Who is sent elsewhere is sent nowhere here.
fn redirected(rule: &Field<'_>, filters: &[Filter], group: Group, said: &mut Said) {
    let redirects = |filter: &Filter| matches!(filter, Filter::Redirect(_));
    let Some(backends) = said.get(rule, "backendRefs") else {
        return;
    };
    if !filters.iter().any(redirects) || backends.list().is_ok_and(|list| list.is_empty()) {
        return;
    }
    let message = "backends beside a RequestRedirect: nothing is ever sent to them";
    match group {
        Group::Gateway => said.wrong(
            backends
                .error(message)
                .mesh(REFUSED)
                .remedy("take the backends away, or the filter"),
        ),
        Group::Linkerd => said.push(
            note(&backends, Severity::Warning, message)
                .remedy("take the backends away, or the filter"),
        ),
    }
}

/// A filter may stand once for each type, where the API server looks.
fn once(list: &[Field<'_>], group: Group, said: &mut Said) {
    let mut seen: Vec<&str> = Vec::new();
    for filter in list {
        let Some(which) = filter.get("type").ok().flatten() else {
            continue;
        };
        let Some(name @ ("RequestHeaderModifier" | "ResponseHeaderModifier" | "RequestRedirect")) =
            which.text()
        else {
            continue;
        };
        if !seen.contains(&name) {
            seen.push(name);
        } else if group == Group::Gateway {
            said.wrong(
                which
                    .error(format!("a second {name} in one list"))
                    .mesh(REFUSED)
                    .remedy("put the two into one"),
            );
        }
    }
}

fn one(filter: &Field<'_>, kind: Kind, group: Group, said: &mut Said) -> Option<Read> {
    let expected = "RequestHeaderModifier or the like";
    let which = said.keep(filter.require("type", expected))?;
    let name = said.keep(which.string())?;
    let need = |key: &str, said: &mut Said| {
        let expected = "what the filter does, under the name of its type";
        said.keep(filter.require(key, expected))
    };
    Some(match name {
        "RequestHeaderModifier" => {
            let change = need("requestHeaderModifier", said)?;
            Read::Filter(Filter::RequestHeaders(modify(&change, said)))
        }
        "ResponseHeaderModifier" => {
            let change = need("responseHeaderModifier", said)?;
            let change = modify(&change, said);
            match (kind, group) {
                (Kind::Grpc, _) => Read::LeftOut(
                    which
                        .error("changes of response headers do not work on a GRPCRoute; the filter is left out")
                        .mesh("answers every request of the Service with an internal error")
                        .remedy("take the filter away"),
                ),
                (_, Group::Linkerd) => {
                    said.push(
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
            let redirect = need("requestRedirect", said)?;
            Read::Filter(Filter::Redirect(self::redirect(&redirect, group, said)))
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

fn modify(change: &Field<'_>, said: &mut Said) -> ModifyHeader {
    said.known(change, &["add", "set", "remove"]);
    let mut result = ModifyHeader::default();
    for (key, into) in [("add", &mut result.add), ("set", &mut result.set)] {
        let list = said.list(change, key);
        twice(&list, said);
        for header in list {
            said.known(&header, &["name", "value"]);
            let name = said.need(&header, ("name", "a header's name"), header_name);
            let value = said.need(&header, ("value", "a header's value"), header_value);
            into.extend(name.zip(value));
        }
    }
    for name in said.list(change, "remove") {
        result.remove.extend(said.keep(header_name(&name)));
    }
    undone(change, &result, said);
    result
}

/// Changes of one header that cancel each other: what is added is set, what is set is removed.
fn undone(change: &Field<'_>, result: &ModifyHeader, said: &mut Said) {
    fn names(list: &[(HeaderName, HeaderValue)]) -> BTreeSet<&str> {
        list.iter().map(|(name, _)| name.as_str()).collect()
    }
    let (add, set) = (names(&result.add), names(&result.set));
    let remove: BTreeSet<&str> = result.remove.iter().map(HeaderName::as_str).collect();
    let mut say = |key: &str, name: &str, then: &str| {
        let message = format!("{name} has no effect: it is in {then}, which comes after");
        let at = change.get(key).ok().flatten();
        let warning = note(at.as_ref().unwrap_or(change), Severity::Warning, message);
        said.push(
            warning
                .mesh("adds, then sets, then removes")
                .remedy(format!("take it out of {key} or {then}")),
        );
    };
    for name in add {
        if remove.contains(name) {
            say("add", name, "remove");
        } else if set.contains(name) {
            say("add", name, "set");
        }
    }
    for name in set.intersection(&remove) {
        say("set", name, "remove");
    }
}

fn redirect(redirect: &Field<'_>, group: Group, said: &mut Said) -> RedirectRequest {
    said.known(
        redirect,
        &["scheme", "hostname", "path", "port", "statusCode"],
    );
    let mut result = RedirectRequest::new();
    let schemes = [
        ("http", const { &Scheme::HTTP }),
        ("https", const { &Scheme::HTTPS }),
    ];
    let scheme = said.read(redirect, "scheme", |scheme| scheme.one_of(&schemes));
    result.scheme = scheme.cloned();
    if let Some(host) = said.get(redirect, "hostname")
        && let Some(name) = said.keep(host.string())
    {
        let with = result.clone().with_host(name);
        result = said
            .keep(with.map_err(|invalid| host.invalid(&invalid)))
            .unwrap_or(result);
    }
    if let Some(path) = said.get(redirect, "path") {
        result.path = self::path(&path, said);
    }
    let port = said.read(redirect, "port", Field::port);
    result.port = port.map(NonZeroU16::get);
    // What the API server fills in.
    let status = said.read(redirect, "statusCode", |code| status(code, group));
    let with = result
        .clone()
        .with_status(status.unwrap_or(StatusCode::FOUND));
    said.keep(with.map_err(|invalid| redirect.invalid(&invalid)))
        .unwrap_or(result)
}

fn status(code: &Field<'_>, group: Group) -> Result<StatusCode, Error> {
    let known: &[i64] = match group {
        Group::Gateway => &[301, 302, 303, 307, 308],
        Group::Linkerd => &[301, 302],
    };
    let number = code.integer(300, 399)?;
    let status = u16::try_from(number)
        .ok()
        .filter(|_| known.contains(&number));
    let status = status.and_then(|number| StatusCode::from_u16(number).ok());
    status.ok_or_else(|| {
        let known: Vec<_> = known.iter().map(i64::to_string).collect();
        code.expected(&format!("one of {}", known.join(", ")))
    })
}

fn path(path: &Field<'_>, said: &mut Said) -> Option<ModifyPath> {
    said.known(path, &["type", "replaceFullPath", "replacePrefixMatch"]);
    type Make = fn(String) -> ModifyPath;
    let kinds: [(&str, (&str, Make)); 2] = [
        (
            "ReplaceFullPath",
            ("replaceFullPath", ModifyPath::ReplaceFullPath),
        ),
        (
            "ReplacePrefixMatch",
            ("replacePrefixMatch", ModifyPath::ReplacePrefixMatch),
        ),
    ];
    let expected = ("type", "ReplaceFullPath or ReplacePrefixMatch");
    let (key, make) = said.need(path, expected, |kind| kind.one_of(&kinds))?;
    let value = said.need(path, (key, "a path"), Field::string)?;
    Some(make(value.to_owned()))
}
