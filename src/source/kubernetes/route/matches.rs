use std::collections::BTreeSet;

use http::{HeaderName, HeaderValue, Method};

use super::{Group, looks};
use crate::policy::{
    MatchHeader, MatchHeaderValue, MatchPath, MatchQueryParam, MatchQueryValue, MatchRequest,
    Pattern,
};
use crate::source::kubernetes::error::Error;
use crate::source::kubernetes::field::Field;
use crate::source::kubernetes::names::REFUSED;
use crate::source::kubernetes::place::quoted;
use crate::source::kubernetes::said::Said;

/// How a value is compared.
#[derive(Clone, Copy)]
enum Compare {
    Exact,
    Regex,
}

const COMPARE: [(&str, Compare); 2] = [
    ("Exact", Compare::Exact),
    ("RegularExpression", Compare::Regex),
];

/// The matches of a rule. Where there are none, the API server fills in every path. What it or the mesh refuses takes the
/// whole route with it.
pub(super) fn read(rule: &Field<'_>, group: Group, said: &mut Said) -> Vec<MatchRequest> {
    let Some(list) = said.get(rule, "matches") else {
        return vec![every_path()];
    };
    let list = said.keep(list.list()).unwrap_or_default();
    list.iter().map(|field| one(field, group, said)).collect()
}

/// What a rule without matches matches.
pub(super) fn every_path() -> MatchRequest {
    MatchRequest {
        path: Some(MatchPath::Prefix("/".to_owned())),
        ..MatchRequest::default()
    }
}

fn one(field: &Field<'_>, group: Group, said: &mut Said) -> MatchRequest {
    said.known(field, &["path", "headers", "queryParams", "method"]);
    let path = match said.get(field, "path") {
        // The default of the API server, where the match is about something else.
        None => Some(MatchPath::Prefix("/".to_owned())),
        Some(path) => self::path(&path, group, said),
    };
    let method = said.read(field, "method", method);
    let params = said.list(field, "queryParams");
    twice(&params, said);
    let params = params.iter();
    let query_params = params.filter_map(|param| query_param(param, said));
    MatchRequest {
        path,
        query_params: query_params.collect(),
        headers: headers(field, said),
        method,
    }
}

fn path(path: &Field<'_>, group: Group, said: &mut Said) -> Option<MatchPath> {
    #[derive(Clone, Copy, PartialEq)]
    enum Kind {
        Exact,
        Prefix,
        Regex,
    }
    said.known(path, &["type", "value"]);
    let kinds = [
        ("Exact", Kind::Exact),
        ("PathPrefix", Kind::Prefix),
        ("RegularExpression", Kind::Regex),
    ];
    let kind = match said.get(path, "type") {
        None => Kind::Prefix,
        Some(kind) => said.keep(kind.one_of(&kinds))?,
    };
    let value = said.get(path, "value");
    let text = match &value {
        None => "/",
        Some(value) => said.keep(value.string())?,
    };
    let place = value.as_ref().unwrap_or(path);
    match kind {
        Kind::Regex => looks::pattern(place, text, said),
        _ => looks::path(place, text, kind == Kind::Exact, group, said),
    }
    let made = match kind {
        Kind::Exact => MatchPath::exact(text),
        Kind::Prefix => MatchPath::prefix(text),
        Kind::Regex => MatchPath::regex(text),
    };
    said.keep(made.map_err(|invalid| place.invalid(&invalid)))
}

fn method(method: &Field<'_>) -> Result<Method, Error> {
    method
        .one_of(&[
            ("GET", const { &Method::GET }),
            ("HEAD", const { &Method::HEAD }),
            ("POST", const { &Method::POST }),
            ("PUT", const { &Method::PUT }),
            ("DELETE", const { &Method::DELETE }),
            ("CONNECT", const { &Method::CONNECT }),
            ("OPTIONS", const { &Method::OPTIONS }),
            ("TRACE", const { &Method::TRACE }),
            ("PATCH", const { &Method::PATCH }),
        ])
        .cloned()
}

/// The header matches of an HTTP or gRPC match.
pub(super) fn headers(field: &Field<'_>, said: &mut Said) -> Vec<MatchHeader> {
    let list = said.list(field, "headers");
    twice(&list, said);
    list.iter().filter_map(|one| header(one, said)).collect()
}

/// Says of what stands twice in a list by names that it does: the API server's lists have each name once.
pub(super) fn twice(list: &[Field<'_>], said: &mut Said) {
    let mut seen = BTreeSet::new();
    for one in list {
        let Some(name) = one.get("name").ok().flatten() else {
            continue;
        };
        if let Some(text) = name.text()
            && !seen.insert(text)
        {
            said.wrong(
                name.error(format!("{} stands twice in the list", quoted(text)))
                    .mesh(REFUSED)
                    .remedy("keep one of them"),
            );
        }
    }
}

fn header(header: &Field<'_>, said: &mut Said) -> Option<MatchHeader> {
    said.known(header, &["type", "name", "value"]);
    let name = said.need(header, ("name", "a header's name"), header_name);
    let exact = |value: &Field<'_>| header_value(value).map(MatchHeaderValue::Exact);
    let expected = "what the header must be";
    let value = compared(header, expected, exact, MatchHeaderValue::Regex, said);
    Some(MatchHeader {
        name: name?,
        value: value?,
    })
}

fn query_param(param: &Field<'_>, said: &mut Said) -> Option<MatchQueryParam> {
    said.known(param, &["type", "name", "value"]);
    let name = said.need(param, ("name", "a query parameter's name"), Field::name);
    let exact = |value: &Field<'_>| Ok(MatchQueryValue::Exact(value.string()?.to_owned()));
    let expected = "what the parameter must be";
    let value = compared(param, expected, exact, MatchQueryValue::Regex, said);
    Some(MatchQueryParam {
        name: name?.to_owned(),
        value: value?,
    })
}

/// The `value` of a match, by its `type`.
fn compared<T>(
    holder: &Field<'_>,
    expected: &str,
    exact: impl FnOnce(&Field<'_>) -> Result<T, Error>,
    regex: impl FnOnce(Pattern) -> T,
    said: &mut Said,
) -> Option<T> {
    let how = said.keep(compare(holder));
    let value = said.keep(holder.require("value", expected))?;
    match how? {
        Compare::Exact => {
            looks::literal(&value, said);
            said.keep(exact(&value))
        }
        Compare::Regex => said.keep(pattern(&value)).map(regex),
    }
}

fn compare(field: &Field<'_>) -> Result<Compare, Error> {
    match field.get("type")? {
        None => Ok(Compare::Exact),
        Some(kind) => kind.one_of(&COMPARE),
    }
}

fn pattern(value: &Field<'_>) -> Result<Pattern, Error> {
    Pattern::new(value.string()?).map_err(|invalid| value.invalid(&invalid))
}

/// # Errors
/// Not a header's name.
pub(super) fn header_name(field: &Field<'_>) -> Result<HeaderName, Error> {
    HeaderName::from_bytes(field.name()?.as_bytes())
        .map_err(|_| field.expected("a header's name: letters, digits and dashes"))
}

/// # Errors
/// Not what a header can hold.
pub(super) fn header_value(field: &Field<'_>) -> Result<HeaderValue, Error> {
    HeaderValue::from_bytes(field.string()?.as_bytes())
        .map_err(|_| field.expected("a header's value, without control characters"))
}
