//! What the API server refuses, and what is never met: told, with what to write.

use super::super::{Manifests, Severity};
use super::service;

/// What is said of a text: severity, key, the word that it points at, and what helps.
fn told(text: &str) -> Vec<String> {
    let (all, manifests);
    let diagnostics = match Manifests::parse_named("m.yaml", text) {
        Ok(read) => {
            manifests = read;
            manifests.diagnostics()
        }
        Err(error) => {
            all = error;
            all.diagnostics()
        }
    };
    let line = |d: &super::super::Diagnostic| {
        let (line, column) = (d.line.unwrap() as usize, d.column.unwrap() as usize);
        let there: String = text
            .trim_start_matches('\u{feff}')
            .lines()
            .nth(line - 1)
            .unwrap()
            .chars()
            .skip(column - 1)
            .collect();
        let word = there.split([' ', ',', '}', ']', ')']).next().unwrap();
        format!(
            "{} {} at {word} | {}",
            d.severity,
            d.key.as_deref().unwrap_or_default(),
            d.remedy.as_deref().unwrap_or_default()
        )
    };
    diagnostics.iter().map(line).collect()
}

/// One thing is said of each, and it is this.
fn check(rows: &[(String, &str)]) {
    for (text, said) in rows {
        assert_eq!(told(text), [*said], "{text}");
    }
}

fn named(metadata: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{{metadata}}}\nspec: {{ports: [{{port: 80}}]}}\n"
    )
}

fn ports(ports: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{ports: [{ports}]}}\n")
}

/// A route of `payments.shop` in lines 11 to 15, the rule in column 11 of line 15.
fn rule(version: &str, head: &str, rule: &str) -> String {
    service("")
        + &format!(
            "---\napiVersion: {version}\nkind: HTTPRoute\nmetadata: {{name: r, namespace: shop{head}}}\nspec:\n  parentRefs: \
             [{{name: payments, kind: Service, group: core}}]\n  rules: [{{{rule}}}]\n"
        )
}

const GATEWAY: &str = "gateway.networking.k8s.io/v1";
const LINKERD: &str = "policy.linkerd.io/v1beta3";

fn gateway(text: &str) -> String {
    rule(GATEWAY, "", text)
}

#[test]
fn names() {
    let long = "a".repeat(64);
    #[rustfmt::skip]
    check(&[
        (named("name: Payments"), "error metadata.name at Payments | write payments"),
        (named("name: pay_ments.v1"), "error metadata.name at pay_ments.v1 | write pay-ments-v1"),
        (named("name: 1st"), "error metadata.name at 1st | "),
        (named(&format!("name: {long}")), &format!("error metadata.name at {long} | ")),
        (named("name: a, namespace: Shop_1"), "error metadata.namespace at Shop_1 | write shop-1"),
        (named("name: '{{ .Values.name }}'"),
            "error metadata.name at '{{ | a template has to be rendered first (helm template, envsubst)"),
        (named("name: a, namespace: '${NS}'"),
            "error metadata.namespace at '${NS | a template has to be rendered first (helm template, envsubst)"),
        (named("name: a, labels: {version: 2}"), "error metadata.labels.version at 2 | quote it: \"2\""),
        (named("name: a, labels: {app: 'a b'}"), "error metadata.labels.app at 'a | "),
        (named("name: a, labels: {'a/b/c': d}"), "error metadata.labels at 'a/b/c': | "),
        (named("name: a, annotations: {'a b': c}"), "error metadata.annotations at 'a | "),
        (named("name: a, annotation: {retry.linkerd.io/http: 5xx}"),
            "warning metadata.annotation at annotation: | did you mean annotations?"),
        (ports("{port: 80, name: Http}"), "error spec.ports[0].name at Http | write http"),
        (ports("{port: 80, targetPort: '80'}"), "error spec.ports[0].targetPort at '80' | write it without quotes: 80"),
        (ports("{port: 80, targetPort: my_port}"), "error spec.ports[0].targetPort at my_port | write my-port"),
        (ports("{port: 80, name: a}, {port: 81, name: a}"),
            "error spec.ports[1].name at 81 | give each port a name of its own"),
        (ports("{port: 80, name: a}, {port: 81}"), "error spec.ports[1].name at 81 | write name: http or the like"),
        (ports("{port: 80, nane: tcp}"), "warning spec.ports[0].nane at nane: | did you mean name?"),
        (ports("{port: http}"), "error spec.ports[0].port at http | write the port's number, not its name"),
        (ports("{port: 80}], type: clusterIP, externalIPs: ["), "error spec.type at clusterIP | write ClusterIP"),
        (ports("{port: 80}], port: [80"), "warning spec.port at port: | did you mean ports?"),
    ]);
    // As the API server does.
    for good in [
        "name: a-1, namespace: '1-b'",
        "name: a, labels: {app.kubernetes.io/name: A_b.c, empty: '', x: '1'}",
        "name: a, annotations: {Example.com/A_b: 'x y', b: ''}",
    ] {
        assert_eq!(told(&named(good)), [""; 0], "{good}");
    }
}

#[test]
fn limits_that_are_never_met() {
    let shorter = "make it the shorter of the two, or timeout.linkerd.io/request longer";
    let of = |lines: &str| service(&format!("timeout.linkerd.io/request: 2s\n{lines}"));
    for (lines, at) in [
        (
            "timeout.linkerd.io/response: 2s",
            "timeout.linkerd.io/response at timeout.linkerd.io/response:",
        ),
        (
            "timeout.linkerd.io/idle: 1m",
            "timeout.linkerd.io/idle at timeout.linkerd.io/idle:",
        ),
        (
            "retry.linkerd.io/http: 5xx\nretry.linkerd.io/timeout: 3s",
            "retry.linkerd.io/timeout at retry.linkerd.io/timeout:",
        ),
    ] {
        assert_eq!(told(&of(lines)), [format!("warning {at} | {shorter}")]);
    }
    let good = "timeout.linkerd.io/response: 1999ms\nretry.linkerd.io/http: 5xx\nretry.linkerd.io/timeout: 1s";
    assert_eq!(told(&of(good)), [""; 0]);
    // A rule's own limit, with what it inherits.
    let with = |service_: &str, head: &str, timeouts: &str| {
        let route = rule(GATEWAY, head, &format!("timeouts: {timeouts}"));
        route.replace(&service(""), &service(service_))
    };
    let retries = "retry.linkerd.io/http: 5xx\nretry.linkerd.io/timeout: 1s";
    assert_eq!(
        told(&with(retries, "", "{request: 500ms}")),
        [
            "warning spec.rules[0] at {timeouts: | make retry.linkerd.io/timeout the shorter of the two"
        ]
    );
    assert_eq!(told(&with(retries, "", "{request: 2s}")), [""; 0]);
    let head = ", annotations: {retry.linkerd.io/http: 5xx, retry.linkerd.io/timeout: 1s}";
    assert_eq!(
        told(&with("timeout.linkerd.io/request: 1s", head, "{}")),
        [
            "warning spec.rules[0] at {timeouts: | make retry.linkerd.io/timeout the shorter of the two"
        ]
    );
}

#[test]
fn lists_with_something_twice_and_filters() {
    let set = |names: &str| {
        gateway(&format!(
            "filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {names}}}]"
        ))
    };
    let rules = "spec.rules[0]";
    let filter = format!("{rules}.filters[0].requestHeaderModifier");
    let rows = [
        (
            set("{set: [{name: a, value: b}, {name: a, value: c}]}"),
            format!("error {filter}.set[1].name at a | keep one of them"),
        ),
        (
            set("{set: [{name: a, value: b}], remove: [A]}"),
            format!("warning {filter}.set at [{{name: | take it out of set or remove"),
        ),
        (
            set("{set: [{name: a, value: b}], add: [{name: a, value: b}]}"),
            format!("warning {filter}.add at [{{name: | take it out of add or set"),
        ),
        (
            gateway("matches: [{headers: [{name: a, value: b}, {name: a, value: c}]}]"),
            format!("error {rules}.matches[0].headers[1].name at a | keep one of them"),
        ),
        (
            gateway("matches: [{queryParams: [{name: a, value: b}, {name: a, value: c}]}]"),
            format!("error {rules}.matches[0].queryParams[1].name at a | keep one of them"),
        ),
        (
            gateway(
                "filters: [{type: RequestRedirect, requestRedirect: {port: 81}}], backendRefs: [{name: payments, port: 8080}]",
            ),
            format!(
                "error {rules}.backendRefs at [{{name: | take the backends away, or the filter"
            ),
        ),
        (
            rule(
                LINKERD,
                "",
                "filters: [{type: RequestRedirect, requestRedirect: {port: 81}}], backendRefs: [{name: payments, port: 8080}]",
            ),
            format!(
                "warning {rules}.backendRefs at [{{name: | take the backends away, or the filter"
            ),
        ),
        (
            gateway(
                "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [a]}}, {type: RequestHeaderModifier, requestHeaderModifier: {remove: [b]}}]",
            ),
            format!(
                "error {rules}.filters[1].type at RequestHeaderModifier | put the two into one"
            ),
        ),
    ];
    let rows: Vec<_> = rows
        .iter()
        .map(|(text, said)| (text.clone(), said.as_str()))
        .collect();
    check(&rows);
}

#[test]
fn paths_and_patterns() {
    let path = |kind: &str, text: &str| {
        gateway(&format!(
            "matches: [{{path: {{type: {kind}, value: '{text}'}}}}]"
        ))
    };
    for (kind, text, severity, remedy) in [
        (
            "PathPrefix",
            "/api/*",
            "warning",
            "write /api, which matches what is below, too",
        ),
        (
            "PathPrefix",
            "/*",
            "warning",
            "write /, which matches what is below, too",
        ),
        (
            "PathPrefix",
            "/api/.*",
            "warning",
            "write /api, which matches what is below, too",
        ),
        (
            "Exact",
            "/api/*",
            "warning",
            "write type: PathPrefix with value: /api",
        ),
        (
            "Exact",
            "/a/*/b",
            "warning",
            "write type: RegularExpression with value: /a/[^/]*/b",
        ),
        (
            "PathPrefix",
            "/users/:id",
            "warning",
            "write type: RegularExpression with value: /users/[^/]+(/.*)?",
        ),
        (
            "Exact",
            "/users/{id}/cart",
            "error",
            "write type: RegularExpression with value: /users/[^/]+/cart",
        ),
        (
            "Exact",
            "/a?b=c",
            "error",
            "put what comes after ? into queryParams",
        ),
        ("Exact", "/a//b", "error", "write one / in its place"),
        (
            "PathPrefix",
            "/a/..",
            "error",
            "write the path that is meant",
        ),
        (
            "Exact",
            "/a b",
            "error",
            "write other characters as % and two digits, or type: RegularExpression",
        ),
        ("RegularExpression", "/api/*", "warning", "write /api/.*"),
        (
            "RegularExpression",
            "^/api",
            "warning",
            "write ^/api.* if that is meant, else ^/api$",
        ),
        (
            "RegularExpression",
            "api/.*",
            "warning",
            "write /api/.*, or .*api/.*",
        ),
    ] {
        let expected = format!("{severity} spec.rules[0].matches[0].path.value at '");
        let said = told(&path(kind, text));
        let [one] = &said[..] else {
            panic!("{text}: {said:?}");
        };
        assert!(one.starts_with(&expected), "{text}: {one}");
        assert!(one.ends_with(&format!(" | {remedy}")), "{text}: {one}");
    }
    for (kind, text) in [
        ("PathPrefix", "/a.b/~c/%20;x=1,2"),
        ("Exact", "/a/b:c@d"),
        ("Exact", "/"),
        ("RegularExpression", "/api/.*"),
        ("RegularExpression", "^/api/v[0-9]+(/.*)?"),
        ("RegularExpression", "/api"),
        ("RegularExpression", ".*\\.png"),
        ("RegularExpression", "^/a|/b$"),
    ] {
        assert_eq!(told(&path(kind, text)), [""; 0], "{kind} {text}");
    }
    // Linkerd's own kind has no such schema.
    let text = rule(LINKERD, "", "matches: [{path: {value: /a//b}}]");
    assert!(told(&text)[0].starts_with("warning spec.rules[0]"));
    let header =
        "matches: [{headers: [{name: a, value: 'v.*'}], queryParams: [{name: b, value: '^x$'}]}]";
    let said = told(&gateway(header));
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said.iter()
            .all(|one| one.ends_with("write type: RegularExpression beside it for a pattern"))
    );
}

#[test]
fn words_that_are_almost_right() {
    for (text, remedy) in [
        (
            "matches: [{path: {type: Prefix, value: /a}}]",
            "write PathPrefix",
        ),
        (
            "matches: [{headers: [{type: Regex, name: a, value: b}]}]",
            "write RegularExpression",
        ),
        ("matches: [{method: get}]", "write GET"),
        (
            "matches: {path: {value: /a}}",
            "begin it with a dash, for a list of one",
        ),
    ] {
        let said = told(&gateway(text));
        assert!(said.len() == 1 && said[0].ends_with(remedy), "{said:?}");
    }
    let host = gateway("").replace(
        "  rules",
        "  hostnames: [Web.Example.com, '*.A.b']\n  rules",
    );
    let said = told(&host);
    assert_eq!(
        said,
        [
            "error spec.hostnames[0] at Web.Example.com | write web.example.com",
            "error spec.hostnames[1] at '*.A.b' | write *.a.b"
        ]
    );
    let elsewhere = gateway("").replace("name: r, namespace: shop", "name: r");
    assert_eq!(
        told(&elsewhere),
        [
            "warning spec.parentRefs[0] at {name: | there is one in shop: write namespace: shop, in the route's metadata or for this parent"
        ]
    );
}

#[test]
fn whatever_lies_in_the_same_folder() {
    // The parser names the key before a tab.
    let said = told("apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n\tnamespace: b\n");
    assert_eq!(said, ["error  at \tnamespace: | indent with spaces"]);
    let said = told("a: &x 1\n---\nb: *x\n");
    assert!(
        said.iter()
            .any(|one| one.ends_with("an anchor is for aliases in the same document, after it")),
        "{said:?}"
    );
    // A kustomization with its patches, a chart.
    for text in [
        "- op: replace\n  path: /metadata/annotations/x\n  value: '3'\n",
        "apiVersion: v2\nname: payments\nversion: 1.0.0\n",
        "resources: [a.yaml]\n",
    ] {
        let manifests = Manifests::parse(text).unwrap();
        let [one] = manifests.diagnostics() else {
            panic!("{text}");
        };
        assert_eq!(one.severity, Severity::Warning);
    }
    // Other line ends, and what some editors put before a text.
    let text = service("retry.linkerd.io/http: 5xx");
    for text in [
        text.replace('\n', "\r\n"),
        format!("\u{feff}{text}"),
        format!("---\n# only this\n---\n{text}---\n"),
    ] {
        let manifests = Manifests::parse(&text).unwrap();
        assert!(
            manifests.diagnostics().is_empty() && manifests.resolve("payments.shop:8080").is_ok()
        );
    }
}

#[test]
fn routes_of_others_are_their_business() {
    let rules = "matches: [{path: {value: '/a/*'}}], timeouts: {request: 1h30m}, \
                 filters: [{type: URLRewrite, urlRewrite: {}}, {type: CORS, cors: {}}]";
    let mesh = gateway(rules);
    assert_eq!(told(&mesh).len(), 4);
    for parent in [
        "{name: gw, namespace: infra}",
        "{name: gw, kind: Gateway, sectionName: https}",
        "{name: s, kind: Server, group: policy.linkerd.io}",
    ] {
        let text = mesh.replace("{name: payments, kind: Service, group: core}", parent);
        assert_eq!(told(&text), [""; 0], "{parent}");
    }
    // Both: the mesh's part is the mesh's.
    let both = mesh.replace("[{name: payments", "[{name: gw}, {name: payments");
    assert_eq!(told(&both).len(), 4);
}

#[test]
fn what_a_kind_of_route_has_not() {
    let grpc =
        gateway("timeouts: {request: 1s}, retry: {attempts: 1}").replace("HTTPRoute", "GRPCRoute");
    let rule = "warning spec.rules[0]";
    assert_eq!(
        told(&grpc),
        [
            format!(
                "{rule}.timeouts at {{request: | write timeout.linkerd.io/request in the route's annotations"
            ),
            format!(
                "{rule}.retry at {{attempts: | write retry.linkerd.io/grpc in the route's annotations"
            ),
        ]
    );
    let none = gateway("").replace("[{}]", "[]");
    assert_eq!(
        told(&none),
        [
            "warning spec.rules at parentRefs: | take the empty list away for one that every request meets"
        ]
    );
    let said = told(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  annotations:\n  - retry.linkerd.io/http: 5xx\n",
    );
    assert_eq!(
        said,
        ["error metadata.annotations at retry.linkerd.io/http: | take the dash away"]
    );
    let said = told("metadata:\n  a:1\n  b: 2\n");
    assert!(
        said[0].ends_with("look for a `:` without a space after it, here or in the line above"),
        "{said:?}"
    );
}
