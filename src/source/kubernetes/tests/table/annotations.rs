use super::{Row, http, service, web};

const MODE: &str = "balancer.linkerd.io/failure-accrual";
const RATE: &str = "balancer.alpha.linkerd.io/failure-accrual-success-rate";
const ALPHA: &str = "balancer.alpha.linkerd.io";
const ASK: &str = "web.shop:80";
const NO_BREAKER: &[&str] = &["breaker   none"];

fn accrual(key: &str, value: &str) -> String {
    web(&format!(
        "{MODE}: consecutive; {MODE}-consecutive-{key}: {value}"
    ))
}

fn rate(key: &str, value: &str) -> String {
    web(&format!("{MODE}: unified; {RATE}-{key}: {value}"))
}

fn retry(annotations: &str) -> String {
    web(annotations)
}

pub(super) fn rows() -> Vec<Row> {
    let penalize = format!("{ALPHA}/penalize-failures: 'true'");
    vec![
        (
            "1 accrual mode",
            web(&format!("{MODE}: consecutive")),
            ASK,
            &["ejects an endpoint after 7 failures in a row; probes it after 1s to 60s"],
        ),
        (
            "1 accrual mode",
            web(&format!("{MODE}: unified")),
            ASK,
            &[
                "after 7 failures in a row or less than 80 % successes in 10s of at least 5 requests",
            ],
        ),
        ("1 accrual mode", web(""), ASK, NO_BREAKER),
        (
            "1 accrual mode",
            web(&format!("{MODE}: Unified")),
            ASK,
            NO_BREAKER,
        ),
        (
            "1 max failures",
            accrual("max-failures", "' 3 '"),
            ASK,
            &["after 3 failures in a row;"],
        ),
        (
            "1 max failures",
            accrual("max-failures", "'0'"),
            ASK,
            &["never ejects"],
        ),
        (
            "1 min penalty",
            accrual("min-penalty", "5s"),
            ASK,
            &["probes it after 5s to 60s"],
        ),
        (
            "1 max penalty",
            accrual("max-penalty", "2m"),
            ASK,
            &["probes it after 1s to 120s"],
        ),
        (
            "1 max penalty",
            accrual("max-penalty", "500ms"),
            ASK,
            NO_BREAKER,
        ),
        (
            "1 max penalty",
            accrual("max-penalty", "'0'"),
            ASK,
            NO_BREAKER,
        ),
        (
            "1 jitter ratio",
            accrual("jitter-ratio", "'100'"),
            ASK,
            &["after 7 failures"],
        ),
        (
            "1 jitter ratio",
            accrual("jitter-ratio", "'100.1'"),
            ASK,
            NO_BREAKER,
        ),
        (
            "1 jitter ratio",
            accrual("jitter-ratio", "NaN"),
            ASK,
            NO_BREAKER,
        ),
        (
            "1 success rate threshold",
            rate("threshold", "'0.95'"),
            ASK,
            &["less than 95 % successes"],
        ),
        (
            "1 success rate threshold",
            rate("threshold", "'0'"),
            ASK,
            &["after 7 failures in a row;"],
        ),
        (
            "1 success rate threshold",
            rate("threshold", "'1.1'"),
            ASK,
            NO_BREAKER,
        ),
        (
            "1 success rate window",
            rate("window", "1m"),
            ASK,
            &["successes in 60s"],
        ),
        (
            "1 success rate window",
            rate("window", "9ms"),
            ASK,
            NO_BREAKER,
        ),
        (
            "1 success rate min requests",
            rate("min-requests", "'20'"),
            ASK,
            &["at least 20 requests"],
        ),
        (
            "1 success rate min requests",
            rate("min-requests", "'1000001'"),
            ASK,
            NO_BREAKER,
        ),
        (
            "1 honor retry-after",
            web(&format!(
                "{MODE}: unified; {ALPHA}/failure-accrual-honor-retry-after: 'maybe'"
            )),
            ASK,
            &[
                "error: Service shop/web: balancer.alpha.linkerd.io/failure-accrual-honor-retry-after",
            ],
        ),
        (
            "1 honor retry-after",
            web(&format!(
                "{MODE}: unified; {ALPHA}/failure-accrual-honor-retry-after: 'true'"
            )),
            "web.shop:80 extended",
            &["not before its Retry-After", "0 errors, 0 warnings"],
        ),
        (
            "1 penalize failures",
            web(&penalize),
            ASK,
            &["a failure weighs 5s, a Retry-After 300s at most"],
        ),
        (
            "1 penalize failures",
            web(&format!("{ALPHA}/penalize-failures: 'no'")),
            ASK,
            &["!a failure weighs"],
        ),
        (
            "1 load biaser penalty",
            web(&format!("{penalize}; {ALPHA}/load-biaser-penalty: 2s")),
            ASK,
            &["a failure weighs 2s"],
        ),
        (
            "1 load biaser penalty",
            web(&format!("{ALPHA}/load-biaser-penalty: 2s")),
            ASK,
            &["!a failure weighs"],
        ),
        (
            "1 load biaser max retry-after",
            web(&format!(
                "{penalize}; {ALPHA}/load-biaser-max-retry-after: 1h"
            )),
            ASK,
            &["a Retry-After 3600s at most"],
        ),
        (
            "1 retry http",
            retry("retry.linkerd.io/http: '5XX,gateway-error,404,408-409'"),
            ASK,
            &[
                "at most 1, of 500-599, 502-504, 404, 408-409; after 25ms to 250ms; without a budget",
            ],
        ),
        (
            "1 retry grpc",
            grpc("retry.linkerd.io/grpc: 'Unavailable,cancelled'"),
            ASK,
            &["at most 1, of gRPC 1, gRPC 14; after 25ms to 250ms; without a budget"],
        ),
        (
            "1 retry limit",
            retry("retry.linkerd.io/http: 5xx; retry.linkerd.io/limit: '3'"),
            ASK,
            &["at most 3, of 500-599"],
        ),
        (
            "1 retry limit",
            retry("retry.linkerd.io/http: 5xx; retry.linkerd.io/limit: ' 3'"),
            ASK,
            &["retries   none"],
        ),
        (
            "1 retry limit",
            retry("retry.linkerd.io/http: 5xx; retry.linkerd.io/limit: '0'"),
            ASK,
            &["at most 1, of 500-599"],
        ),
        (
            "1 retry timeout",
            retry("retry.linkerd.io/http: 5xx; retry.linkerd.io/timeout: 400ms"),
            ASK,
            &["; a try has 400ms;"],
        ),
        (
            "1 retry timeout",
            retry("retry.linkerd.io/timeout: '0'"),
            ASK,
            &["retries   none"],
        ),
        (
            "1 timeouts",
            web(
                "timeout.linkerd.io/request: 3s; timeout.linkerd.io/response: 2s; timeout.linkerd.io/idle: '0'",
            ),
            ASK,
            &["timeouts  request 3s, response 2s, idle 0ns"],
        ),
        (
            "1 opaque ports",
            web("config.linkerd.io/opaque-ports: '1-100'"),
            ASK,
            &["opaque TCP", "default.opaq"],
        ),
        (
            "1 opaque ports",
            web("config.linkerd.io/opaque-ports: '1-100'"),
            "web.shop:80 extended",
            &["does not resolve", "one of the opaque ports"],
        ),
        (
            "1 opaque ports",
            web("config.linkerd.io/opaque-ports: '80,99-1'"),
            ASK,
            &["service.shop.web:80, HTTP"],
        ),
        (
            "1 opaque ports",
            service("db", "shop", "").replace("80", "5432"),
            "db.shop:5432",
            &["opaque TCP"],
        ),
        // What is no port or range takes the cluster's default away, too.
        (
            "1 opaque ports",
            web("config.linkerd.io/opaque-ports: 'mysql'").replace("port: 80", "port: 3306"),
            "web.shop:3306",
            &["service.shop.web:3306, HTTP"],
        ),
        // So does any list without it.
        (
            "1 opaque ports",
            web("config.linkerd.io/opaque-ports: '25'").replace("port: 80", "port: 3306"),
            "web.shop:3306",
            &["service.shop.web:3306, HTTP"],
        ),
        // What the port says goes first.
        (
            "1 opaque ports",
            web("config.linkerd.io/opaque-ports: '80'")
                .replace("port: 80", "port: 80, appProtocol: http"),
            ASK,
            &["service.shop.web:80, HTTP/1\n"],
        ),
        (
            "1 opaque ports",
            web("config.linkerd.io/opaque-ports: '80'") + &http("", "{}"),
            ASK,
            &["opaque TCP", "default.opaq", "!httproute"],
        ),
        // What is explicitly opaque has neither a breaker nor a penalty.
        (
            "1 opaque ports",
            web(&format!(
                "config.linkerd.io/opaque-ports: '80'; {ALPHA}/penalize-failures: 'true'; balancer.linkerd.io/failure-accrual: consecutive"
            )),
            ASK,
            &["opaque TCP", "!a failure weighs", "!7 failures"],
        ),
        (
            "1 duration grammar",
            web("timeout.linkerd.io/request: 1d"),
            ASK,
            &["request 86400s"],
        ),
        (
            "1 duration grammar",
            web("timeout.linkerd.io/request: +5s"),
            ASK,
            &["request 5s"],
        ),
        (
            "1 duration grammar",
            web("timeout.linkerd.io/request: 1h30m"),
            ASK,
            &["timeouts  none", "write \"90m\""],
        ),
        (
            "1 duration grammar",
            web("timeout.linkerd.io/request: 10 s"),
            ASK,
            &["timeouts  none", "write \"10s\""],
        ),
        (
            "1 booleans",
            web(&format!("{ALPHA}/penalize-failures: ' T '")),
            ASK,
            &["a failure weighs"],
        ),
        (
            "1 booleans",
            web(&format!("{ALPHA}/penalize-failures: ''")),
            ASK,
            &["!a failure weighs", "1 error,"],
        ),
        (
            "1 status lists",
            retry("retry.linkerd.io/http: '5xx, 404'"),
            ASK,
            &["retries   none", "write \"5xx,404\""],
        ),
        (
            "1 retries without a list",
            retry("retry.linkerd.io/limit: '2'"),
            ASK,
            &["at most 2, of what was not processed"],
        ),
        (
            "1 a bad value on a Service costs its family",
            web(&format!(
                "timeout.linkerd.io/request: 1s; timeout.linkerd.io/idle: soon; retry.linkerd.io/http: 5xx; {MODE}: consecutive"
            )),
            ASK,
            &["timeouts  none", "of 500-599", "after 7 failures"],
        ),
        (
            "1 a bad value on a Service costs its family",
            web("timeout.linkerd.io/idle: soon"),
            "web.shop:80 extended",
            &["does not resolve: m.yaml:8:30: Service shop/web: timeout.linkerd.io/idle"],
        ),
        (
            "1 a bad value on a route costs the route",
            web("") + &http(", annotations: {retry.linkerd.io/limit: many}", "{}"),
            ASK,
            &[
                "route 1: default.http",
                "error: HTTPRoute shop/r: retry.linkerd.io/limit",
                "the mesh does not apply the route",
            ],
        ),
        (
            "1 a bad value on a route costs the route",
            web("") + &http(", annotations: {retry.linkerd.io/limit: many}", "{}"),
            "web.shop:80 extended",
            &["does not resolve", "the mesh goes on without"],
        ),
        (
            "1 timeouts of a route are all or nothing",
            web("timeout.linkerd.io/request: 9s; timeout.linkerd.io/idle: 8s")
                + &http(", annotations: {timeout.linkerd.io/idle: 7s}", "{}"),
            ASK,
            &[
                "timeouts  idle 7s",
                "!request 9s",
                "timeout.linkerd.io/request of Service shop/web (9s)",
            ],
        ),
        (
            "1 timeouts of a route are all or nothing",
            web("timeout.linkerd.io/request: 9s") + &http("", "{}"),
            ASK,
            &["timeouts  request 9s"],
        ),
        (
            "1 timeouts of a route are all or nothing",
            web("")
                + &http(
                    ", annotations: {timeout.linkerd.io/request: 7s}",
                    "{timeouts: {request: 3s}}",
                ),
            ASK,
            &["timeouts  request 7s"],
        ),
        (
            "1 retries of a route are all or nothing",
            web("retry.linkerd.io/http: 5xx; retry.linkerd.io/limit: '4'")
                + &http(", annotations: {retry.linkerd.io/http: '503'}", "{}"),
            ASK,
            &["at most 1, of 503;"],
        ),
        (
            "1 a backend's own annotations are not read",
            web("")
                + &web(&format!(
                    "retry.linkerd.io/http: 5xx; {MODE}: consecutive; {penalize}"
                ))
                .replace("name: web", "name: v2")
                + &http("", "{backendRefs: [{name: v2, port: 80}]}"),
            ASK,
            &[
                "v2.shop.svc.cluster.local:80",
                "retries   none",
                "breaker   none",
                "!a failure weighs",
            ],
        ),
        ("1 overriding headers", web(""), ASK, &["default.http"]),
    ]
}

fn grpc(annotations: &str) -> String {
    web(annotations)
        + &super::route(
            "GRPCRoute",
            "shop",
            "g",
            "",
            &format!("{}, rules: [{{}}]", super::WEB),
        )
}

#[test]
fn overriding_headers_are_of_converted_routes_only() {
    let allowed = |text: &str| {
        let manifests = super::Manifests::parse(text)
            .unwrap()
            .allow_l5d_request_headers(true);
        let policy = manifests.resolve(ASK).unwrap();
        let http = policy.for_version(::http::Version::HTTP_11).clone();
        http.routes[0].rules[0]
            .policy
            .params
            .allow_l5d_request_headers
    };
    assert!(!allowed(&web("")));
    assert!(allowed(&(web("") + &http("", "{}"))));
}
