use http::{HeaderName, HeaderValue};
use linkerd2_proxy_api::{grpc_route, http_route, http_types, outbound};

use super::super::problem::{At, Effect, Problems};
use super::lost;
use crate::policy::{Filter, GrpcFilter, ModifyHeader, ModifyPath, Ratio, RedirectRequest};

pub(in super::super) fn http_filter(
    problems: &mut Problems,
    at: &At<'_>,
    filter: &Filter,
) -> outbound::http_route::Filter {
    use outbound::http_route::filter::Kind;
    let kind = match filter {
        Filter::InjectFailure(failure) => Kind::FailureInjector(http_route::HttpFailureInjector {
            status: failure.status().as_u16().into(),
            message: failure.message().to_owned(),
            ratio: Some(ratio(failure.ratio())),
        }),
        Filter::Redirect(wanted) => Kind::Redirect(redirect(problems, at, wanted)),
        Filter::RequestHeaders(change) => Kind::RequestHeaderModifier(request(change)),
        Filter::ResponseHeaders(change) => {
            Kind::ResponseHeaderModifier(http_route::ResponseHeaderModifier {
                add: headers(&change.add),
                set: headers(&change.set),
                remove: names(&change.remove),
            })
        }
    };
    outbound::http_route::Filter { kind: Some(kind) }
}

pub(in super::super) fn grpc_filter(
    problems: &mut Problems,
    at: &At<'_>,
    filter: &GrpcFilter,
) -> Option<outbound::grpc_route::Filter> {
    use outbound::grpc_route::filter::Kind;
    let kind = match filter {
        GrpcFilter::InjectFailure(failure) => {
            Kind::FailureInjector(grpc_route::GrpcFailureInjector {
                code: failure.code().into(),
                message: failure.message().to_owned(),
                ratio: Some(ratio(failure.ratio())),
            })
        }
        GrpcFilter::RequestHeaders(change) => Kind::RequestHeaderModifier(request(change)),
        GrpcFilter::ResponseHeaders(_) => {
            let at = &at.field("response_header_modifier");
            lost(problems, at, "changes of a gRPC response's headers");
            return None;
        }
    };
    Some(outbound::grpc_route::Filter { kind: Some(kind) })
}

fn ratio(ratio: Ratio) -> http_route::Ratio {
    http_route::Ratio {
        numerator: ratio.ppm(),
        denominator: Ratio::ONE.ppm(),
    }
}

fn request(change: &ModifyHeader) -> http_route::RequestHeaderModifier {
    http_route::RequestHeaderModifier {
        add: headers(&change.add),
        set: headers(&change.set),
        remove: names(&change.remove),
    }
}

fn headers(headers: &[(HeaderName, HeaderValue)]) -> Option<http_types::Headers> {
    let header = |(name, value): &(HeaderName, HeaderValue)| http_types::headers::Header {
        name: name.as_str().to_owned(),
        value: value.as_bytes().to_owned(),
    };
    (!headers.is_empty()).then(|| http_types::Headers {
        headers: headers.iter().map(header).collect(),
    })
}

fn names(names: &[HeaderName]) -> Vec<String> {
    names.iter().map(|name| name.as_str().to_owned()).collect()
}

fn redirect(
    problems: &mut Problems,
    at: &At<'_>,
    redirect: &RedirectRequest,
) -> http_route::RequestRedirect {
    use http_route::path_modifier::Replace;
    let at = &at.field("redirect");
    let host = redirect.host.as_deref();
    match host {
        Some("") => {
            let message = "found nothing, which the message takes for the request's own";
            problems.add(&at.field("host"), Effect::LeftOut, message);
        }
        Some(host) if RedirectRequest::new().with_host(host).is_err() => {
            let message = format!("found {host:?}, expected a host without a port");
            problems.add(&at.field("host"), Effect::Kept, message);
        }
        _ => {}
    }
    if redirect.port == Some(0) {
        let message = "found 0, which the message takes for the request's own";
        problems.add(&at.field("port"), Effect::LeftOut, message);
    }
    let replace = redirect.path.as_ref().map(|path| match path {
        ModifyPath::ReplaceFullPath(path) => {
            problems.path(&at.field("path").field("full"), path, false);
            Replace::Full(path.clone())
        }
        ModifyPath::ReplacePrefixMatch(prefix) => Replace::Prefix(prefix.clone()),
    });
    http_route::RequestRedirect {
        scheme: redirect.scheme.as_ref().map(http_types::Scheme::from),
        host: host.unwrap_or_default().to_owned(),
        path: replace.map(|replace| http_route::PathModifier {
            replace: Some(replace),
        }),
        port: redirect.port.unwrap_or_default().into(),
        status: redirect.status().as_u16().into(),
    }
}
