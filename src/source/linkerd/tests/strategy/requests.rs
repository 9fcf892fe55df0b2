//! What requests look like, and what is done to them.

use http::uri::Scheme;
use http::{Method, StatusCode};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use crate::policy::*;

use super::values::*;
pub(super) fn absolute() -> BoxedStrategy<String> {
    text().prop_map(|path| format!("/{path}")).boxed()
}

pub(super) fn path() -> BoxedStrategy<MatchPath> {
    prop_oneof![
        absolute().prop_map(MatchPath::Exact),
        select(vec!["", "*"]).prop_map(|path| MatchPath::Exact(path.to_owned())),
        absolute().prop_map(MatchPath::Prefix),
        pattern().prop_map(MatchPath::Regex),
    ]
    .boxed()
}

pub(super) fn method() -> BoxedStrategy<Method> {
    let known = vec![
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::PATCH,
        Method::OPTIONS,
        Method::CONNECT,
        Method::HEAD,
        Method::TRACE,
    ];
    prop_oneof![
        select(known),
        "[A-Za-z!#]{1,18}".prop_map(|method| method.parse().unwrap())
    ]
    .boxed()
}

pub(super) fn query_param() -> BoxedStrategy<MatchQueryParam> {
    let matched = prop_oneof![
        text().prop_map(MatchQueryValue::Exact),
        pattern().prop_map(MatchQueryValue::Regex),
    ];
    (text(), matched)
        .prop_map(|(name, value)| MatchQueryParam { name, value })
        .boxed()
}

pub(super) fn request() -> BoxedStrategy<MatchRequest> {
    let parts = (
        of(path()),
        vec(header(), 0..2),
        vec(query_param(), 0..2),
        of(method()),
    );
    parts
        .prop_map(|(path, headers, query_params, method)| MatchRequest {
            path,
            headers,
            query_params,
            method,
        })
        .boxed()
}

pub(super) fn rpc() -> BoxedStrategy<MatchRpc> {
    (of(word()), of(word()), vec(header(), 0..2))
        .prop_map(|(service, method, headers)| MatchRpc {
            service,
            method,
            headers,
        })
        .boxed()
}

pub(super) fn modify() -> BoxedStrategy<ModifyHeader> {
    let headers = || vec((name(), value()), 0..3);
    (headers(), headers(), vec(name(), 0..2))
        .prop_map(|(add, set, remove)| ModifyHeader { add, set, remove })
        .boxed()
}

pub(super) fn redirect() -> BoxedStrategy<RedirectRequest> {
    let scheme = select(vec!["http", "https", "ftp"]).prop_map(|s| s.parse::<Scheme>().unwrap());
    let host = select(vec!["example.com", "10.0.0.1", "[::1]", "a."]);
    let path = prop_oneof![
        absolute().prop_map(ModifyPath::ReplaceFullPath),
        text().prop_map(ModifyPath::ReplacePrefixMatch),
    ];
    let parts = (
        of(scheme),
        of(host),
        of(path),
        of(1..=u16::MAX),
        300..400_u16,
    );
    parts
        .prop_map(|(scheme, host, path, port, status)| {
            let status = StatusCode::from_u16(status).unwrap();
            let mut redirect = RedirectRequest::new().with_status(status).unwrap();
            if let Some(host) = host {
                redirect = redirect.with_host(host).unwrap();
            }
            (redirect.scheme, redirect.path, redirect.port) = (scheme, path, port);
            redirect
        })
        .boxed()
}

pub(super) fn http_filter() -> BoxedStrategy<Filter> {
    let failure = (100..1000_u16, text(), ratio()).prop_map(|(status, message, ratio)| {
        let status = StatusCode::from_u16(status).unwrap();
        InjectFailure::new(status, message, ratio).unwrap()
    });
    prop_oneof![
        failure.prop_map(Filter::InjectFailure),
        redirect().prop_map(Filter::Redirect),
        modify().prop_map(Filter::RequestHeaders),
        modify().prop_map(Filter::ResponseHeaders),
    ]
    .boxed()
}

pub(super) fn grpc_filter() -> BoxedStrategy<GrpcFilter> {
    let code = prop_oneof![1..=16_u16, Just(500)];
    let failure = (code, text(), ratio())
        .prop_map(|(code, message, ratio)| InjectGrpcFailure::new(code, message, ratio).unwrap());
    prop_oneof![
        failure.prop_map(GrpcFilter::InjectFailure),
        modify().prop_map(GrpcFilter::RequestHeaders),
    ]
    .boxed()
}

pub(super) fn connection_filter() -> BoxedStrategy<ConnectionFilter> {
    prop_oneof![
        Just(ConnectionFilter::Forbidden),
        text().prop_map(|message| ConnectionFilter::Invalid { message }),
    ]
    .boxed()
}
