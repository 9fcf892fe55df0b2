use http::{HeaderName, HeaderValue, Method};

use crate::policy::{
    InvalidPolicy, MatchHeader, MatchHeaderValue, MatchPath, MatchQueryParam, MatchQueryValue,
    MatchRequest, Pattern,
};
use crate::source::kubernetes::diagnostic::Diagnostic;
use crate::source::kubernetes::error::Error;
use crate::source::kubernetes::field::Field;

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

/// The matches of a rule. Where there are none, the API server fills in every path.
///
/// # Errors
/// What the API server or the mesh refuses: it takes the whole route with it.
pub(super) fn read(
    rule: &Field<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<Vec<MatchRequest>, Error> {
    let Some(list) = rule.get("matches")? else {
        return Ok(vec![every_path()]);
    };
    list.list()?
        .into_iter()
        .map(|field| one(&field, diagnostics))
        .collect()
}

/// What a rule without matches matches.
pub(super) fn every_path() -> MatchRequest {
    MatchRequest {
        path: Some(MatchPath::Prefix("/".to_owned())),
        ..MatchRequest::default()
    }
}

fn one(field: &Field<'_>, diagnostics: &mut Vec<Diagnostic>) -> Result<MatchRequest, Error> {
    field.known(&["path", "headers", "queryParams", "method"], diagnostics);
    let path = match field.get("path")? {
        // The default of the API server, where the match is about something else.
        None => Some(MatchPath::Prefix("/".to_owned())),
        Some(path) => Some(self::path(&path, diagnostics)?),
    };
    let method = match field.get("method")? {
        Some(method) => Some(self::method(&method)?),
        None => None,
    };
    let mut query_params = Vec::new();
    if let Some(list) = field.get("queryParams")? {
        for param in list.list()? {
            query_params.push(query_param(&param, diagnostics)?);
        }
    }
    Ok(MatchRequest {
        path,
        headers: headers(field, diagnostics)?,
        query_params,
        method,
    })
}

fn path(path: &Field<'_>, diagnostics: &mut Vec<Diagnostic>) -> Result<MatchPath, Error> {
    type Make = fn(&str) -> Result<MatchPath, InvalidPolicy>;
    path.known(&["type", "value"], diagnostics);
    let make: Make = match path.get("type")? {
        None => |text| MatchPath::prefix(text),
        Some(kind) => kind.one_of::<Make>(&[
            ("Exact", |text| MatchPath::exact(text)),
            ("PathPrefix", |text| MatchPath::prefix(text)),
            ("RegularExpression", MatchPath::regex),
        ])?,
    };
    match path.get("value")? {
        None => make("/").map_err(|invalid| path.invalid(&invalid)),
        Some(value) => make(value.string()?).map_err(|invalid| value.invalid(&invalid)),
    }
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
///
/// # Errors
/// As [`read`].
pub(super) fn headers(
    field: &Field<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<Vec<MatchHeader>, Error> {
    let Some(list) = field.get("headers")? else {
        return Ok(Vec::new());
    };
    let mut headers: Vec<MatchHeader> = Vec::new();
    for header in list.list()? {
        header.known(&["type", "name", "value"], diagnostics);
        let name = header_name(&header.require("name", "a header's name")?)?;
        let value = header.require("value", "what the header must be")?;
        let value = match compare(&header)? {
            Compare::Exact => MatchHeaderValue::Exact(header_value(&value)?),
            Compare::Regex => MatchHeaderValue::Regex(pattern(&value)?),
        };
        headers.push(MatchHeader { name, value });
    }
    Ok(headers)
}

fn query_param(
    param: &Field<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<MatchQueryParam, Error> {
    param.known(&["type", "name", "value"], diagnostics);
    let name = param.require("name", "a query parameter's name")?.name()?;
    let value = param.require("value", "what the parameter must be")?;
    Ok(MatchQueryParam {
        name: name.to_owned(),
        value: match compare(param)? {
            Compare::Exact => MatchQueryValue::Exact(value.string()?.to_owned()),
            Compare::Regex => MatchQueryValue::Regex(pattern(&value)?),
        },
    })
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
