use linkerd2_proxy_api::{grpc_route, http_route, http_types};

use super::super::problem::{At, Effect, Problems};
use crate::policy::{
    MatchHeader, MatchHeaderValue, MatchPath, MatchQueryParam, MatchQueryValue, MatchRequest,
    MatchRpc,
};

pub(in super::super) fn http_match(
    problems: &mut Problems,
    at: &At<'_>,
    matched: &MatchRequest,
) -> http_route::HttpRouteMatch {
    http_route::HttpRouteMatch {
        path: matched
            .path
            .as_ref()
            .map(|matched| path(problems, &at.field("path"), matched)),
        headers: matched.headers.iter().map(header).collect(),
        query_params: matched.query_params.iter().map(query_param).collect(),
        method: matched.method.clone().map(|method| http_types::HttpMethod {
            r#type: Some(method.into()),
        }),
    }
}

pub(in super::super) fn rpc_match(
    problems: &mut Problems,
    at: &At<'_>,
    matched: &MatchRpc,
) -> grpc_route::GrpcRouteMatch {
    let at = &at.field("rpc");
    let mut name = |field: &'static str, name: &Option<String>| {
        if name.as_ref().is_some_and(String::is_empty) {
            // Nothing has this name.
            let message = "found an empty name, which the message takes for any";
            problems.add(&at.field(field), Effect::LeftOut, message);
        }
        name.clone().unwrap_or_default()
    };
    grpc_route::GrpcRouteMatch {
        rpc: Some(grpc_route::GrpcRpcMatch {
            service: name("service", &matched.service),
            method: name("method", &matched.method),
        }),
        headers: matched.headers.iter().map(header).collect(),
    }
}

/// No path is an `a` and a `b`.
const NOTHING: &str = "[a&&b]";

fn path(problems: &mut Problems, at: &At<'_>, path: &MatchPath) -> http_route::PathMatch {
    use http_route::path_match::Kind;
    let mut absolute = |field: &'static str, path: &String| {
        problems.path(&at.field(field), path, field == "exact");
        path.clone()
    };
    http_route::PathMatch {
        kind: Some(match path {
            MatchPath::Exact(path) => Kind::Exact(absolute("exact", path)),
            MatchPath::Prefix(path) => Kind::Prefix(absolute("prefix", path)),
            MatchPath::Regex(pattern) => Kind::Regex(pattern.as_str().to_owned()),
            MatchPath::Condition(_) => {
                let message = "the message has no field for the condition of a profile; nothing meets this match";
                problems.add(&at.field("condition"), Effect::Refused, message);
                Kind::Regex(NOTHING.to_owned())
            }
        }),
    }
}

fn header(header: &MatchHeader) -> http_route::HeaderMatch {
    use http_route::header_match::Value;
    http_route::HeaderMatch {
        name: header.name.as_str().to_owned(),
        value: Some(match &header.value {
            MatchHeaderValue::Exact(value) => Value::Exact(value.as_bytes().to_owned()),
            MatchHeaderValue::Regex(pattern) => Value::Regex(pattern.as_str().to_owned()),
        }),
    }
}

fn query_param(param: &MatchQueryParam) -> http_route::QueryParamMatch {
    use http_route::query_param_match::Value;
    http_route::QueryParamMatch {
        name: param.name.clone(),
        value: Some(match &param.value {
            MatchQueryValue::Exact(value) => Value::Exact(value.clone()),
            MatchQueryValue::Regex(pattern) => Value::Regex(pattern.as_str().to_owned()),
        }),
    }
}
