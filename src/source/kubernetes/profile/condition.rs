use http::Method;

use crate::policy::{MatchPath, MatchRequest};
use crate::source::kubernetes::diagnostic::Diagnostic;
use crate::source::kubernetes::error::Error;
use crate::source::kubernetes::field::Field;

/// What a condition comes to.
pub(super) enum Matches {
    /// Any of these.
    These(Vec<MatchRequest>),
    /// What routes have no word for (`not`, two patterns at once), and why.
    Beyond(Error),
}

/// The most alternatives that `any` within `all` may come to.
const MOST: usize = 64;
/// Conditions nest as deep as documents may; this reader recurses.
const DEPTH: usize = 32;

/// A conjunction: a pattern for the path, and a method.
#[derive(Clone, Default)]
struct Both {
    path: Option<String>,
    method: Option<Method>,
}

/// Reads a condition.
///
/// In a profile the first route that matches counts, elsewhere the most specific. So every alternative has a pattern for
/// its path, which counts as the whole path, and one without a method stands there with each of the usual methods too: all of
/// them are equally specific then, and the first wins.
///
/// # Errors
/// What the mesh refuses.
pub(super) fn read(
    condition: &Field<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<Matches, Error> {
    let any = match alternatives(condition, DEPTH, diagnostics)? {
        Ok(any) => any,
        Err(error) => return Ok(Matches::Beyond(error)),
    };
    let mut matches = Vec::new();
    for both in any {
        let text = both.path.as_deref().unwrap_or("(?s).*");
        let path = MatchPath::regex(text).map_err(|invalid| condition.invalid(&invalid))?;
        let with = |method| MatchRequest {
            path: Some(path.clone()),
            method,
            ..MatchRequest::default()
        };
        match both.method {
            Some(method) => matches.push(with(Some(method))),
            None => {
                matches.extend(USUAL.map(|method| with(Some(method))));
                matches.push(with(None));
            }
        }
    }
    Ok(Matches::These(matches))
}

const USUAL: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::CONNECT,
    Method::OPTIONS,
    Method::TRACE,
    Method::PATCH,
];

type Alternatives = Result<Result<Vec<Both>, Error>, Error>;

// The inner error is about what cannot be said here, the outer about what is not valid.
fn alternatives(
    field: &Field<'_>,
    depth: usize,
    diagnostics: &mut Vec<Diagnostic>,
) -> Alternatives {
    field.known(&["pathRegex", "method", "all", "any", "not"], diagnostics);
    if depth == 0 {
        return Err(field.error("nested deeper than 32 conditions"));
    }
    let beyond = |field: &Field<'_>, what: &str| {
        Ok(Err(field
            .error(format!("{what} cannot be said here; the route is left out"))
            .mesh("honours it")
            .remedy("write an HTTPRoute instead of the profile")))
    };
    let mut result = vec![Both::default()];
    let mut parts = 0;
    let mut and = |result: &mut Vec<Both>, more: Vec<Both>| {
        parts += 1;
        let mut product = Vec::new();
        for one in result.iter() {
            for two in &more {
                if let (Some(a), Some(b)) = (&one.method, &two.method)
                    && a != b
                {
                    // Never both.
                    continue;
                }
                if one.path.is_some() && two.path.is_some() && one.path != two.path {
                    return false;
                }
                product.push(Both {
                    path: one.path.clone().or_else(|| two.path.clone()),
                    method: one.method.clone().or_else(|| two.method.clone()),
                });
            }
        }
        *result = product;
        result.len() <= MOST
    };
    if let Some(path) = field.get("pathRegex")? {
        let text = path.string()?;
        MatchPath::regex(text).map_err(|invalid| path.invalid(&invalid))?;
        let path = Some(text.to_owned());
        and(&mut result, vec![Both { path, method: None }]);
    }
    if let Some(method) = field.get("method")? {
        let upper = method.string()?.to_ascii_uppercase();
        let method =
            Method::from_bytes(upper.as_bytes()).map_err(|_| method.expected("an HTTP method"))?;
        let method = Some(method);
        and(&mut result, vec![Both { path: None, method }]);
    }
    if let Some(all) = field.get("all")? {
        for part in all.list()? {
            let more = match alternatives(&part, depth - 1, diagnostics)? {
                Ok(more) => more,
                Err(error) => return Ok(Err(error)),
            };
            if !and(&mut result, more) {
                return beyond(&all, "a condition on two patterns at once");
            }
        }
        // All of nothing is true.
        and(&mut result, vec![Both::default()]);
    }
    if let Some(any) = field.get("any")? {
        let mut either = Vec::new();
        for part in any.list()? {
            match alternatives(&part, depth - 1, diagnostics)? {
                Ok(more) => either.extend(more),
                Err(error) => return Ok(Err(error)),
            }
        }
        if either.len() > MOST || !and(&mut result, either) {
            return beyond(&any, "a condition on two patterns at once");
        }
    }
    if let Some(not) = field.get("not")? {
        return beyond(&not, "\"not\"");
    }
    if parts == 0 {
        return Err(field.error("an empty condition, expected pathRegex, method, all, any or not"));
    }
    Ok(Ok(result))
}
