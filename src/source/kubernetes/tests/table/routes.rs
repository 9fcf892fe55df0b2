use super::{Row, WEB, http, object, route, service, web};

const ASK: &str = "web.shop:80";

fn backends(refs: &str) -> String {
    web("") + &service("v2", "shop", "") + &http("", &format!("{{backendRefs: [{refs}]}}"))
}

fn linkerd(rules: &str) -> String {
    let spec = format!("{WEB}, rules: [{rules}]");
    web("")
        + &object(
            "policy.linkerd.io/v1beta3",
            "HTTPRoute",
            "shop",
            "l",
            "",
            &spec,
        )
}

fn grpc(rules: &str) -> String {
    web("")
        + &route(
            "GRPCRoute",
            "shop",
            "g",
            "",
            &format!("{WEB}, rules: [{rules}]"),
        )
}

fn port(more: &str) -> String {
    web("").replace("port: 80", &format!("port: 80, {more}"))
}

fn tls() -> String {
    route(
        "TLSRoute",
        "shop",
        "t",
        "",
        &format!(
            "{WEB}, hostnames: [a.example], rules: [{{backendRefs: [{{name: web, port: 80}}]}}]"
        ),
    )
}

fn tcp() -> String {
    route(
        "TCPRoute",
        "shop",
        "c",
        "",
        &format!("{WEB}, rules: [{{backendRefs: [{{name: web, port: 80}}]}}]"),
    )
}

pub(super) fn rows() -> Vec<Row> {
    let filter = |filter: &str| format!("{{filters: [{filter}]}}");
    let modify = |kind: &str, key: &str| {
        filter(&format!(
            "{{type: {kind}, {key}: {{add: [{{name: x-a, value: '1'}}], remove: [x-b]}}}}"
        ))
    };
    let request = modify("RequestHeaderModifier", "requestHeaderModifier");
    let response = modify("ResponseHeaderModifier", "responseHeaderModifier");
    let redirect = filter(
        "{type: RequestRedirect, requestRedirect: {hostname: b.example, path: {type: ReplaceFullPath, replaceFullPath: /b}}}",
    );
    let both = web("") + &http("", "{}") + &grpc("{}").replace(&web(""), "");
    let consumer = |refs: &str| {
        service("other", "shop", "")
            + &service("other", "b", "")
            + &web("")
            + &route(
                "HTTPRoute",
                "b",
                "consumer",
                "",
                &format!("{WEB}, rules: [{{backendRefs: [{refs}]}}]"),
            )
    };
    let aged = |name: &str, age: &str| {
        route(
            "HTTPRoute",
            "shop",
            name,
            &format!(", creationTimestamp: '{age}'"),
            &format!("{WEB}, rules: [{{}}]"),
        )
    };
    vec![
        (
            "2.1 appProtocol http",
            port("appProtocol: HTTP") + &grpc("{}").replace(&web(""), ""),
            ASK,
            &["HTTP/1", "route 1: default.http"],
        ),
        (
            "2.1 appProtocol h2c",
            port("appProtocol: kubernetes.io/h2c") + &http("", "{}"),
            ASK,
            &["HTTP/2", "httproute.shop.r"],
        ),
        (
            "2.1 appProtocol h2c",
            port("appProtocol: kubernetes.io/h2c") + &both.replace(&web(""), ""),
            ASK,
            &["gRPC", "grpcroute.shop.g"],
        ),
        (
            "2.1 appProtocol opaque or unknown",
            port("appProtocol: linkerd.io/opaque") + &http("", "{}"),
            ASK,
            &["opaque TCP", "default.opaq"],
        ),
        (
            "2.1 appProtocol opaque or unknown",
            port("appProtocol: https") + &tcp(),
            ASK,
            &["opaque TCP", "tcproute.shop.c"],
        ),
        (
            "2.1 appProtocol opaque or unknown",
            port("appProtocol: http") + "",
            "web.shop:80",
            &["!opaque TCP"],
        ),
        (
            "2.1 appProtocol opaque or unknown",
            port("appProtocol: linkerd.io/tcp") + &tls(),
            ASK,
            &["opaque TCP", "default.opaq", "!tlsroute"],
        ),
        (
            "2.1 appProtocol opaque or unknown",
            port("appProtocol: kubernetes.io/ws") + &tcp() + &tcp().replace("name: c,", "name: b,"),
            ASK,
            // By name, and the first alone.
            &["opaque TCP", "tcproute.shop.b", "!tcproute.shop.c\n"],
        ),
        (
            "2.1 no appProtocol",
            web("") + &tls() + &tcp(),
            ASK,
            &["80, TLS that passes through", "!tcproute.shop.c\n"],
        ),
        (
            "2.1 no appProtocol",
            web(""),
            ASK,
            &["80, HTTP\n", "route 1: default.http"],
        ),
        (
            "2.1 no appProtocol",
            web("") + &http("", "{}"),
            ASK,
            &["80, HTTP\n", "httproute.shop.r"],
        ),
        (
            "2.1 no appProtocol",
            grpc("{}"),
            ASK,
            &["80, gRPC\n", "grpcroute.shop.g", "every request"],
        ),
        (
            "2.1 no appProtocol",
            web("") + &tls(),
            ASK,
            &["80, TLS that passes through", "for hosts a.example"],
        ),
        (
            "2.1 no appProtocol",
            web("") + &tcp(),
            ASK,
            &["80, opaque TCP", "tcproute.shop.c"],
        ),
        (
            "2.1 no appProtocol",
            web("") + &tcp(),
            "web.shop:80 extended",
            &["does not resolve", "forwards TCP"],
        ),
        (
            "2.1 default route only without routes",
            web("") + &http("", "{matches: [{path: {value: /a}}]}"),
            "web.shop:80 as GET /b",
            &["meets no rule: it is refused with 404", "!default.http"],
        ),
        (
            "2.2 no backends",
            web("") + &http("", "{}"),
            ASK,
            &["backend   web.shop.svc.cluster.local:80\n"],
        ),
        (
            "2.2 weights",
            backends(
                "{name: web, port: 80, weight: 3}, {name: v2, port: 80}, {name: v2, port: 80, weight: 0}",
            ),
            ASK,
            &["75 % (weight 3)", "25 % (weight 1)", "0 % (weight 0)"],
        ),
        (
            "2.2 weights",
            backends("{name: v2, port: 80, weight: 0}"),
            ASK,
            &["backend   v2.shop", "weighs 0, and gets all requests"],
        ),
        (
            "2.2 Service not found",
            backends("{name: web, port: 80}, {name: gone, port: 80}"),
            ASK,
            &[
                "50 % (weight 1)",
                "fails: Service not found gone",
                "error: HTTPRoute shop/r: spec.rules[0].backendRefs[1]",
            ],
        ),
        (
            "2.2 missing port",
            backends("{name: v2}"),
            ASK,
            &["fails: missing port for backend Service v2"],
        ),
        (
            "2.2 unsupported backend type",
            backends("{name: v2, kind: Bucket, group: s3.example, port: 80}"),
            ASK,
            &["fails: unsupported backend type s3.example Bucket"],
        ),
        (
            "2.2 EgressNetwork behind a Service",
            backends("{name: all, kind: EgressNetwork, group: policy.linkerd.io, port: 80}")
                + &object(
                    "policy.linkerd.io/v1alpha1",
                    "EgressNetwork",
                    "shop",
                    "all",
                    "",
                    "trafficPolicy: Allow",
                ),
            ASK,
            &["fails: EgressNetwork backends attach to EgressNetwork parents only"],
        ),
        (
            "2.2 the core group by its names",
            backends("{name: v2, port: 80, group: ''}, {name: v2, port: 80, group: Core}"),
            ASK,
            &["backend   v2.shop.svc.cluster.local:80, 50 %", "!fails"],
        ),
        (
            "2.2 a backend without a namespace",
            consumer("{name: other, port: 80}"),
            "web.shop:80 from b",
            &[
                "other.shop.svc.cluster.local:80",
                "goes to other in shop",
                "write namespace: b",
            ],
        ),
        (
            "2.2 a backend without a namespace",
            consumer("{name: other, namespace: b, port: 80}"),
            "web.shop:80 from b",
            &["other.b.svc.cluster.local:80", "0 errors, 0 warnings"],
        ),
        (
            "2.3 a parent without a group",
            web("") + &http("", "{}").replace(", group: core", ""),
            ASK,
            &[
                "default.http",
                "the API server fills in gateway.networking.k8s.io",
                "write group: core",
            ],
        ),
        (
            "2.3 ports",
            web("") + &http("", "{}").replace("group: core", "group: core, port: 80"),
            ASK,
            &["httproute.shop.r"],
        ),
        (
            "2.3 ports",
            web("") + &http("", "{}").replace("group: core", "group: core, port: 8080"),
            ASK,
            &[
                "default.http",
                "port 8080 is none of Service shop/web, which has 80",
                "write port: 80",
            ],
        ),
        (
            "2.3 section names",
            web("") + &http("", "{}").replace("group: core", "group: core, sectionName: x"),
            ASK,
            &["httproute.shop.r", "the mesh ignores it"],
        ),
        (
            "2.3 headless parents",
            web("").replace("spec: {", "spec: {clusterIP: None, ") + &http("", "{}"),
            ASK,
            &["default.http", "is headless"],
        ),
        (
            "2.3 conflicts between kinds",
            both.clone(),
            ASK,
            &[
                "gRPC",
                "conflicts with GRPCRoute shop/g",
                "!httproute.shop.r\n",
            ],
        ),
        (
            "2.3 conflicts between kinds",
            both.replacen("group: core", "group: core, port: 80", 1),
            ASK,
            &[
                "gRPC",
                "not served on port 80 of Service shop/web, where GRPCRoutes are",
            ],
        ),
        (
            "2.3 producers and consumers",
            consumer("{name: web, port: 80}"),
            ASK,
            &["default.http"],
        ),
        (
            "2.3 producers and consumers",
            consumer("{name: web, port: 80}"),
            "web.shop:80 from c",
            &["default.http"],
        ),
        (
            "2.3 producers and consumers",
            consumer("{name: web, port: 80}") + &http("", "{}"),
            "web.shop:80 from b",
            &[
                "httproute.b.consumer",
                "httproute.shop.r",
                "the mesh merges the two",
            ],
        ),
        (
            "2.4 route order",
            web("")
                + &aged("b", "2026-01-01T00:00:00Z")
                + &aged("a", "2026-01-02T00:00:00Z")
                + &http("", "{}"),
            ASK,
            &[
                "route 1: httproute.shop.b",
                "route 2: httproute.shop.a",
                "route 3: httproute.shop.r",
            ],
        ),
        (
            "2.4 route order",
            web("") + &http("", "{}") + &http("", "{}").replace("name: r", "name: q"),
            ASK,
            &["route 1: httproute.shop.q", "route 2: httproute.shop.r"],
        ),
        (
            "2.4 hostnames",
            web("")
                + &http("", "{}").replace("rules", "hostnames: ['*.x.example', y.example], rules"),
            ASK,
            &["for hosts *.x.example, y.example"],
        ),
        (
            "2.4 a bad pattern costs the route",
            web("")
                + &http(
                    "",
                    "{}, {matches: [{path: {type: RegularExpression, value: '('}}]}",
                ),
            ASK,
            &[
                "default.http",
                "spec.rules[1].matches[0].path.value",
                "leaves the whole route out",
            ],
        ),
        (
            "2.4 a gRPC match by headers only",
            grpc(
                "{matches: [{headers: [{name: x-a, value: '1'}]}, {method: {service: a.B}}]}, {matches: [{headers: [{name: x-b, value: '1'}]}]}",
            ),
            ASK,
            &[
                "rule 1: service a.B",
                "!x-a",
                "!rule 2",
                "a match without a method; it is left out",
                "2 errors",
            ],
        ),
        (
            "2.4 a gRPC match by headers only",
            grpc("{matches: [{method: {type: RegularExpression, service: a}}]}"),
            ASK,
            &["default.http", "error: GRPCRoute shop/g"],
        ),
        (
            "2.5 RequestHeaderModifier",
            web("") + &http("", &request),
            ASK,
            &["filter    request headers: add x-a: 1, remove x-b"],
        ),
        (
            "2.5 RequestHeaderModifier",
            linkerd(&request),
            ASK,
            &["filter    request headers: add x-a: 1, remove x-b"],
        ),
        (
            "2.5 RequestHeaderModifier",
            grpc(&request),
            ASK,
            &["filter    request metadata: add x-a: 1, remove x-b"],
        ),
        (
            "2.5 ResponseHeaderModifier",
            web("") + &http("", &response),
            ASK,
            &["filter    response headers: add x-a: 1, remove x-b"],
        ),
        (
            "2.5 ResponseHeaderModifier",
            linkerd(&response),
            ASK,
            &["filter    request headers: add x-a: 1", "1 warning"],
        ),
        (
            "2.5 ResponseHeaderModifier",
            grpc(&response),
            ASK,
            &["grpcroute.shop.g", "!filter  ", "1 error,"],
        ),
        (
            "2.5 RequestRedirect",
            web("") + &http("", &redirect),
            ASK,
            &["redirects with 302, host b.example, path /b"],
        ),
        (
            "2.5 RequestRedirect",
            linkerd(&redirect),
            ASK,
            &["redirects with 302, host b.example, path /b"],
        ),
        (
            "2.5 RequestRedirect",
            grpc(&redirect),
            ASK,
            &["default.http", "error: GRPCRoute shop/g"],
        ),
        (
            "2.5 other filters",
            web("") + &http("", &filter("{type: URLRewrite, urlRewrite: {hostname: x}}")),
            ASK,
            &[
                "default.http",
                "found \"URLRewrite\"",
                "the mesh leaves the whole route out",
            ],
        ),
        (
            "2.5 other filters",
            web("") + &http("", &filter("{type: CORS, cors: {}}")),
            ASK,
            &["default.http", "1 error,"],
        ),
        (
            "2.5 other filters",
            backends(
                "{name: v2, port: 80, filters: [{type: RequestMirror}]}, {name: web, port: 80}",
            ),
            ASK,
            &[
                "httproute.shop.r",
                "fails: unsupported backend filter: RequestMirror), 50 %",
                "1 error,",
            ],
        ),
        (
            "2.6 timeouts.request of Gateway API",
            web("timeout.linkerd.io/idle: 5s")
                + &http(
                    "",
                    "{timeouts: {request: 90s}}, {timeouts: {request: 1m30s}}, {timeouts: {request: 0s}}",
                ),
            ASK,
            &[
                "timeouts  request 90s\n",
                "timeouts  idle 5s",
                "1m30s is no timeout at all",
                "write \"90s\"",
            ],
        ),
        (
            "2.6 timeouts.request of Linkerd",
            linkerd("{timeouts: {request: 1m30s}}"),
            ASK,
            &["timeouts  request 90s", "0 errors, 0 warnings"],
        ),
        (
            "2.6 timeouts.request of Linkerd",
            linkerd("{timeouts: {request: -1s}}"),
            ASK,
            &["default.http", "not negative"],
        ),
        (
            "2.6 timeouts.backendRequest",
            web("") + &http("", "{timeouts: {request: 9s, backendRequest: 2s}}"),
            ASK,
            &["timeouts  request 9s\n", "the mesh does not read it"],
        ),
        (
            "2.6 timeouts.backendRequest",
            web("") + &http("", "{timeouts: {request: 9s, backendRequest: 2s}}"),
            "web.shop:80 extended",
            &[
                "timeouts  request 9s, response 2s\n",
                "beyond the mesh (backend-request)",
            ],
        ),
        (
            "2.6 timeouts.backendRequest",
            web("") + &http("", "{timeouts: {request: 1s, backendRequest: 2s}}"),
            ASK,
            &["default.http", "longer than the rule's timeouts.request"],
        ),
        (
            "2.6 retry of GEP-1731",
            web("")
                + &http(
                    "",
                    "{retry: {codes: [500, 503], attempts: 2, backoff: 50ms}}",
                ),
            ASK,
            &["retries   none", "beyond the mesh (gateway-retry)"],
        ),
        (
            "2.6 retry of GEP-1731",
            web("")
                + &http(
                    "",
                    "{retry: {codes: [500, 503], attempts: 2, backoff: 50ms}}",
                ),
            "web.shop:80 extended",
            &["at most 2, of 500, 503; after 50ms to 500ms"],
        ),
    ]
}
