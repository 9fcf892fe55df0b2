use super::{Row, WEB, http, object, route, service, web};

const ASK: &str = "web.shop:80";

fn profile(namespace: &str, spec: &str) -> String {
    object(
        "linkerd.io/v1alpha2",
        "ServiceProfile",
        namespace,
        "web.shop.svc.cluster.local",
        "",
        spec,
    )
}

fn egress(namespace: &str, name: &str, spec: &str) -> String {
    object(
        "policy.linkerd.io/v1alpha1",
        "EgressNetwork",
        namespace,
        name,
        "",
        spec,
    )
}

fn traffic(constraint: &str) -> String {
    let spec = format!(
        "targetRefs: [{{group: '', kind: Service, name: web}}], retryConstraint: {constraint}"
    );
    web("retry.linkerd.io/http: 5xx")
        + &object(
            "gateway.networking.x-k8s.io/v1alpha1",
            "XBackendTrafficPolicy",
            "shop",
            "x",
            "",
            &spec,
        )
}

pub(super) fn rows() -> Vec<Row> {
    let budget = "retryBudget: {retryRatio: 0.5, minRetriesPerSecond: 3, ttl: 30s}";
    let quote = "name: q, condition: {pathRegex: '/quote/.*', method: get}";
    let both = |first: &str, second: &str| {
        web("")
            + &profile(
                "shop",
                &format!(
                    "routes: [{{name: a, condition: {first}}}, {{name: b, condition: {second}}}]"
                ),
            )
    };
    let classes = |classes: &str| {
        let route = format!("{quote}, isRetryable: true, responseClasses: [{classes}]");
        web("") + &profile("shop", &format!("routes: [{{{route}}}]"))
    };
    let parent =
        "parentRefs: [{name: out, kind: EgressNetwork, group: policy.linkerd.io, port: 443}]";
    vec![
        (
            "2.8 a profile takes the place of routes",
            web("retry.linkerd.io/http: 5xx; balancer.linkerd.io/failure-accrual: consecutive")
                + &http("", "{}")
                + &profile("shop", &format!("routes: [{{{quote}}}]")),
            "web.shop:80 as GET /quote/1",
            &[
                "breaker   none",
                "retries   none",
                "!httproute.shop.r\n",
                "takes the place of everything else",
                "meets rule 1 of route 1 (serviceprofile.shop.web.shop.svc.cluster.local)",
            ],
        ),
        (
            "2.8 a profile without routes",
            web("retry.linkerd.io/http: 5xx") + &profile("shop", budget),
            ASK,
            &[
                "default.http",
                "at most 1, of 500-599",
                "has neither routes nor dstOverrides",
            ],
        ),
        (
            "3 conditions",
            both("{pathRegex: '/a.*'}", "{method: GET}"),
            "web.shop:80 as GET /ab",
            &["meets rule 1 of route 1"],
        ),
        (
            "3 conditions",
            both("{pathRegex: '/a.*'}", "{method: GET}"),
            "web.shop:80 as GET /b",
            &["meets rule 2 of route 1"],
        ),
        (
            "3 conditions",
            both("{pathRegex: '/a.*'}", "{method: GET}"),
            "web.shop:80 as POST /b",
            &["meets rule 1 of route 2"],
        ),
        (
            "3 conditions",
            both(
                "{any: [{method: put}, {all: [{method: POST}, {pathRegex: '/x'}]}]}",
                "{all: []}",
            ),
            "web.shop:80 as POST /x",
            &["meets rule 1 of route 1"],
        ),
        (
            "3 conditions",
            both(
                "{any: [{method: put}, {all: [{method: POST}, {pathRegex: '/x'}]}]}",
                "{all: []}",
            ),
            "web.shop:80 as POST /y",
            &["meets rule 2 of route 1"],
        ),
        (
            "3 conditions",
            both("{not: {method: GET}}", "{method: GET}"),
            "web.shop:80 as GET /a",
            &["meets rule 2 of route 1", "rule 1: not GET", "0 errors"],
        ),
        (
            "3 conditions",
            both("{not: {method: GET}}", "{method: GET}"),
            "web.shop:80 as POST /a",
            &["meets rule 1 of route 1"],
        ),
        // Several parts are all of them, nested as one likes; two patterns at once.
        (
            "3 conditions",
            both(
                "{pathRegex: '/a/.*', not: {any: [{pathRegex: '.*/b'}, {all: [{method: PUT}, {pathRegex: '.*/c'}]}]}}",
                "{all: []}",
            ),
            "web.shop:80 as PUT /a/d",
            &["meets rule 1 of route 1"],
        ),
        (
            "3 conditions",
            both(
                "{pathRegex: '/a/.*', not: {any: [{pathRegex: '.*/b'}, {all: [{method: PUT}, {pathRegex: '.*/c'}]}]}}",
                "{all: []}",
            ),
            "web.shop:80 as PUT /a/c",
            &["meets rule 2 of route 1"],
        ),
        (
            "3 conditions",
            both(
                "{pathRegex: '/a/.*', not: {any: [{pathRegex: '.*/b'}, {all: [{method: PUT}, {pathRegex: '.*/c'}]}]}}",
                "{all: []}",
            ),
            "web.shop:80 as GET /a/b",
            &["meets rule 2 of route 1"],
        ),
        // The first that matches, with a method that nobody has heard of, too; any of nothing is nothing.
        (
            "3 conditions",
            both("{pathRegex: '/a'}", "{method: brew}"),
            "web.shop:80 as BREW /a",
            &["meets rule 1 of route 1"],
        ),
        (
            "3 conditions",
            both("{any: []}", "{pathRegex: '/a'}"),
            "web.shop:80 as GET /a",
            &["meets rule 2 of route 1"],
        ),
        // ^ and $ are written around the text.
        (
            "3 conditions",
            both("{pathRegex: '/a|/b'}", "{all: []}"),
            "web.shop:80 as GET /ab",
            &[
                "meets rule 1 of route 1",
                "reads it as ^/a|/b$",
                "in parentheses: (/a|/b)",
            ],
        ),
        (
            "3 conditions",
            both("{pathRegex: '(/a|/b)'}", "{all: []}"),
            "web.shop:80 as GET /ab",
            &["meets rule 2 of route 1", "!parentheses"],
        ),
        // The first class that matches; what none matches is as ever; no isFailure is no failure.
        (
            "3 response classes",
            classes(
                "{condition: {status: {min: 503, max: 503}}}, {condition: {status: {min: 429, max: 503}}, isFailure: true}",
            ),
            ASK,
            &["statuses  429-502 fail; 503 do not", "of 429-502, 504-599"],
        ),
        (
            "3 response classes",
            classes(
                "{condition: {all: [{status: {min: 400, max: 599}}, {not: {any: [{status: {min: 404, max: 404}}, {status: {min: 500, max: 599}}]}}]}, isFailure: true}",
            ),
            ASK,
            &["statuses  400-403, 405-499 fail\n", "of 400-403, 405-599"],
        ),
        (
            "3 response classes",
            classes(
                "{condition: {status: {min: 404}}, isFailure: true}, {condition: {all: []}, isFailure: true}",
            ),
            ASK,
            &[
                "!statuses",
                "of 500-599",
                "write both: {min: 404, max: 404}",
            ],
        ),
        (
            "3 response classes",
            classes("{condition: {status: {min: 600, max: 700}}, isFailure: true}"),
            "web.shop:80 extended",
            &["600", "1 error,"],
        ),
        (
            "3 retryable routes and the budget",
            web("")
                + &profile(
                    "shop",
                    &format!("routes: [{{{quote}, isRetryable: true, timeout: 1.5s}}], {budget}"),
                ),
            ASK,
            &[
                "timeouts  request 1.5s",
                "as often as the budget pays for, of 500-599; at once; paid by 50 % of the successes, and 3 a second",
            ],
        ),
        (
            "3 retryable routes and the budget",
            web("") + &profile("shop", &format!("routes: [{{{quote}, isRetryable: true}}]")),
            ASK,
            &["paid by 20 % of the successes, and 10 a second"],
        ),
        (
            "3 a budget beyond the limits",
            web("")
                + &profile(
                    "shop",
                    &format!(
                        "routes: [{{{quote}, isRetryable: true}}], retryBudget: {{retryRatio: 0.5, minRetriesPerSecond: 3, ttl: 2m}}"
                    ),
                ),
            ASK,
            &["retries   none", "retries are off"],
        ),
        (
            "3 weights of overrides",
            web("")
                + &service("v2", "shop", "")
                + &profile(
                    "shop",
                    "dstOverrides: [{authority: 'web.shop.svc.cluster.local:80', weight: 500m}, {authority: v2.shop.svc.cluster.local, weight: 1}]",
                ),
            ASK,
            &[
                "web.shop.svc.cluster.local:80, 33 % (weight 5000)",
                "v2.shop.svc.cluster.local:80, 67 % (weight 10000)",
            ],
        ),
        (
            "3 whose profile",
            web("")
                + &profile("shop", "routes: [{name: a, condition: {method: GET}}]")
                + &profile("b", "routes: [{name: b, condition: {method: GET}}]"),
            "web.shop:80 from b",
            &["serviceprofile.b.", "!serviceprofile.shop"],
        ),
        (
            "3 whose profile",
            web("") + &profile("b", "routes: [{name: b, condition: {method: GET}}]"),
            "web.shop:80 from c",
            &["default.http"],
        ),
        (
            "4 durations of GEP-2257",
            web("") + &http("", "{timeouts: {request: 1d}}"),
            ASK,
            &["default.http", "one to four whole numbers"],
        ),
        (
            "4 budgets of GEP-3388",
            traffic(
                "{budget: {percent: 40, interval: 10s}, minRetryRate: {count: 30, interval: 10s}}",
            ),
            "web.shop:80 extended",
            &[
                "paid by 40 % of the successes, and 3 a second",
                "beyond the mesh (traffic-policy)",
            ],
        ),
        (
            "4 budgets of GEP-3388",
            traffic("{budget: {percent: 40}}"),
            ASK,
            &["without a budget"],
        ),
        (
            "4 budgets of GEP-3388",
            traffic("{minRetryRate: {count: 3}}"),
            "web.shop:80 extended",
            &[
                "paid by 20 % of the successes, and 3 a second",
                "no interval, which has no default",
            ],
        ),
        (
            "4 defaults of the API server",
            web("") + &route("HTTPRoute", "shop", "r", "", WEB),
            ASK,
            &[
                "httproute.shop.r",
                "rule 1: every request",
                "backend   web.shop.svc.cluster.local:80\n",
            ],
        ),
        (
            "4 defaults of the API server",
            web("")
                + &http(
                    "",
                    "{matches: [{path: {value: /a}, headers: [{name: x, value: v}], queryParams: [{name: q, value: z}]}, {path: {type: Exact}}]}",
                ),
            ASK,
            &["rule 1: path /a and below, header x: v, query q=z; or path /"],
        ),
        (
            "5 an EgressNetwork that allows",
            egress("shop", "out", "trafficPolicy: Allow"),
            "203.0.113.7:443 from shop",
            &[
                "egressnetwork.shop.out:443, HTTP",
                "http-egress-allow",
                "backend   203.0.113.7:443",
                "!fails",
            ],
        ),
        (
            "5 an EgressNetwork that allows",
            egress("shop", "out", "trafficPolicy: Allow")
                + &route(
                    "HTTPRoute",
                    "shop",
                    "r",
                    "",
                    &format!(
                        "{parent}, hostnames: [api.example], rules: [{{timeouts: {{request: 3s}}}}]"
                    ),
                ),
            "203.0.113.7:443 from shop",
            &[
                "route 1: httproute.shop.r",
                "for hosts api.example",
                "request 3s",
                "route 2: default.http-egress-allow",
            ],
        ),
        (
            "5 an EgressNetwork that allows",
            egress(
                "shop",
                "out",
                "trafficPolicy: Allow, networks: [{cidr: 0.0.0.0/0}]",
            ) + &route(
                "HTTPRoute",
                "shop",
                "r",
                "",
                &format!("{parent}, rules: [{{}}]"),
            ),
            "203.0.113.7:443 from shop",
            &[
                "route 1: default.http-egress-allow",
                "has addresses of the cluster's own",
            ],
        ),
        // Ports are opaque as a Service's are: its own list, else the cluster's.
        (
            "5 an EgressNetwork that allows",
            egress("shop", "out", "trafficPolicy: Allow"),
            "203.0.113.7:5432 from shop",
            &["opaque TCP", "default.tcp-egress-allow"],
        ),
        (
            "5 an EgressNetwork that allows",
            egress("shop", "out", "trafficPolicy: Allow").replace(
                "name: out, namespace: shop",
                "name: out, namespace: shop, annotations: {config.linkerd.io/opaque-ports: 400-500}",
            ),
            "203.0.113.7:443 from shop",
            &["opaque TCP", "default.tcp-egress-allow"],
        ),
        (
            "5 an EgressNetwork that allows",
            egress("shop", "out", "trafficPolicy: Allow").replace(
                "name: out, namespace: shop",
                "name: out, namespace: shop, annotations: {config.linkerd.io/opaque-ports: '1'}",
            ),
            "203.0.113.7:5432 from shop",
            &["egressnetwork.shop.out:5432, HTTP", "http-egress-allow"],
        ),
        (
            "5 an EgressNetwork that allows",
            egress("shop", "out", "trafficPolicy: Allow"),
            "203.0.113.7:5432 from shop extended",
            &["does not resolve", "that every cluster has by default"],
        ),
        (
            "5 an EgressNetwork that denies",
            egress("shop", "out", "trafficPolicy: Deny"),
            "203.0.113.7:3306 from shop",
            &["opaque TCP", "tcp-egress-deny"],
        ),
        (
            "5 an EgressNetwork that denies",
            egress("shop", "out", "trafficPolicy: Deny"),
            "203.0.113.7:443 from shop",
            &["http-egress-deny", "fails with 403: traffic not allowed"],
        ),
        (
            "5 the smallest block",
            egress("shop", "out", "trafficPolicy: Allow")
                + &egress(
                    "shop",
                    "near",
                    "trafficPolicy: Deny, networks: [{cidr: 203.0.113.0/24, except: [203.0.113.9/32]}]",
                ),
            "203.0.113.7:443 from shop",
            &["egressnetwork.shop.near:443"],
        ),
        (
            "5 the smallest block",
            egress("shop", "out", "trafficPolicy: Allow")
                + &egress(
                    "shop",
                    "near",
                    "trafficPolicy: Deny, networks: [{cidr: 203.0.113.0/24, except: [203.0.113.9/32]}]",
                ),
            "203.0.113.9:443 from shop",
            &["egressnetwork.shop.out:443"],
        ),
        (
            "5 whose network",
            egress("linkerd-egress", "all", "trafficPolicy: Allow")
                + &egress("shop", "out", "trafficPolicy: Deny"),
            "203.0.113.7:443 from shop",
            &["egressnetwork.shop.out:443"],
        ),
        (
            "5 whose network",
            egress("linkerd-egress", "all", "trafficPolicy: Allow")
                + &egress("shop", "out", "trafficPolicy: Deny"),
            "203.0.113.7:443 from b",
            &["egressnetwork.linkerd-egress.all:443"],
        ),
        (
            "5 the fallback",
            web(""),
            "203.0.113.7:443",
            &[
                "default.egress-fallback",
                "backend   203.0.113.7:443",
                "breaker   none",
            ],
        ),
        (
            "5 the fallback",
            web(""),
            "10.0.0.7:443",
            &["does not resolve", "inside the cluster"],
        ),
        (
            "5 an undefined port by address",
            web("").replace("spec: {", "spec: {clusterIP: 10.0.0.7, "),
            "10.0.0.7:81",
            &[
                "opaque TCP",
                "default.undefined-port",
                "filter    Forbidden",
                "every request is refused",
            ],
        ),
        (
            "5 an undefined port by address",
            web("").replace("spec: {", "spec: {clusterIP: 10.0.0.7, "),
            "10.0.0.7:80",
            &["default.http"],
        ),
        (
            "5 ExternalName",
            web("").replace("spec: {", "spec: {type: ExternalName, "),
            ASK,
            &["does not resolve", "ExternalName"],
        ),
        (
            "10.1 three grammars of durations",
            web("timeout.linkerd.io/idle: 1d") + &http("", "{timeouts: {request: 1h30m}}"),
            ASK,
            &["idle 86400s", "write \"90m\""],
        ),
        (
            "10.1 three grammars of durations",
            web("") + &profile("shop", &format!("routes: [{{{quote}, timeout: 1d}}]")),
            ASK,
            &["timeouts  none", "a duration such as 1m30s"],
        ),
        (
            "10.2 family-wise and route-wise",
            web("timeout.linkerd.io/idle: 1h30m; retry.linkerd.io/http: 5xx")
                + &http(", annotations: {timeout.linkerd.io/idle: 1h30m}", "{}"),
            ASK,
            &["default.http", "timeouts  none", "of 500-599", "2 errors"],
        ),
        (
            "10.3 limit 0 does not turn retries off",
            web("retry.linkerd.io/http: 5xx")
                + &http(", annotations: {retry.linkerd.io/limit: '0'}", "{}"),
            ASK,
            &[
                "httproute.shop.r",
                "at most 1, of 500-599",
                "they cannot be turned off for a route",
            ],
        ),
        (
            "10.4 timeouts of zero",
            web("timeout.linkerd.io/request: '0'"),
            ASK,
            &["timeouts  request 0ns", "time out at once"],
        ),
        (
            "10.4 timeouts of zero",
            web("") + &http("", "{timeouts: {request: 0s}}"),
            ASK,
            &["timeouts  none"],
        ),
        (
            "10.5 status lists without spaces",
            web("retry.linkerd.io/http: '500, 503'"),
            ASK,
            &["retries   none", "write \"500,503\""],
        ),
        (
            "10.6 defaults of parents",
            web("") + &http("", "{}").replace(", group: core", ", group: ''"),
            ASK,
            &["httproute.shop.r"],
        ),
        (
            "10.6 defaults of parents",
            web("")
                + &object(
                    "policy.linkerd.io/v1beta3",
                    "HTTPRoute",
                    "shop",
                    "l",
                    "",
                    "parentRefs: [{name: web, kind: Service}]",
                ),
            ASK,
            &["default.http", "fills in policy.linkerd.io"],
        ),
        (
            "10.7 namespaces of consumers",
            web("")
                + &service("v2", "shop", "")
                + &route(
                    "HTTPRoute",
                    "b",
                    "c",
                    "",
                    &format!("{WEB}, rules: [{{backendRefs: [{{name: v2, port: 80}}]}}]"),
                ),
            "web.shop:80 from b",
            &[
                "v2.shop.svc.cluster.local:80",
                "the namespace of the parent",
            ],
        ),
        (
            "10.8 appProtocol grpc",
            web("").replace("port: 80", "port: 80, appProtocol: grpc"),
            ASK,
            &["opaque TCP"],
        ),
        (
            "10.8 appProtocol grpc",
            web("").replace("port: 80", "port: 80, appProtocol: grpc"),
            "web.shop:80 extended",
            &["does not resolve", "kubernetes.io/h2c for HTTP/2 and gRPC"],
        ),
        (
            "10.9 match order",
            web("")
                + &http(
                    "",
                    "{matches: [{path: {value: /a}}]}, {matches: [{path: {type: Exact, value: /a}}]}",
                ),
            "web.shop:80 as GET /a",
            &[
                "meets rule 1 of route 1",
                "never met",
                "write it before spec.rules[0]",
            ],
        ),
        (
            "10.9 match order",
            web("")
                + &http(
                    "",
                    "{matches: [{method: GET}]}, {matches: [{headers: [{name: x, value: v}]}]}",
                ),
            ASK,
            &["counts headers and query parameters before the method"],
        ),
        (
            "10.10 response modifiers",
            web("")
                + &object(
                    "policy.linkerd.io/v1beta3",
                    "HTTPRoute",
                    "shop",
                    "l",
                    "",
                    &format!(
                        "{WEB}, rules: [{{filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: a, value: b}}]}}}}]}}]"
                    ),
                ),
            ASK,
            &[
                "request headers: set a: b",
                "use an HTTPRoute of gateway.networking.k8s.io/v1",
            ],
        ),
        (
            "10.11 what the mesh does not read",
            web(
                "retry.linkerd.io/http: 5xx; tower-mesh/retry-budget-percent: '7'; balancer.linkerd.io/failure-accrual: consecutive; tower-mesh/failure-accrual-probes: '3'",
            ),
            "web.shop:80 extended",
            &[
                "paid by 7 % of the successes",
                "beyond the mesh (own-annotations)",
                "3 in a row",
            ],
        ),
        (
            "10.11 what the mesh does not read",
            web("retry.linkerd.io/http: 5xx; tower-mesh/retry-budget-percent: '7'"),
            ASK,
            &["without a budget"],
        ),
        (
            "10.11 what the mesh does not read",
            web("tower-mesh/load-extensions: 'false'"),
            "web.shop:80 extended",
            &[
                "nothing else raises it",
                "beyond the mesh (own-annotations)",
            ],
        ),
        (
            "10.11 what the mesh does not read",
            web("tower-mesh/prefer-zone: 'true'"),
            "web.shop:80 extended",
            &[
                "requests stay in their caller's zone",
                "beyond the mesh (own-annotations)",
            ],
        ),
        // Manifests do not say who is behind a Service: an empty one has the same policy.
        (
            "10.12 Services without endpoints",
            web("").replace("spec: {", "spec: {selector: {app: nobody}, "),
            ASK,
            &["default.http", "0 warnings"],
        ),
    ]
}
