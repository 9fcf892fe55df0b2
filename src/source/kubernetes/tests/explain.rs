use http::Request;

use super::super::{Explanation, Manifests};

const TEXT: &str = "\
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: shop
  annotations:
    retry.linkerd.io/http: 5xx
    balancer.linkerd.io/failure-accrual: consecutive
spec:
  ports: [{port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: quotes
  namespace: shop
spec:
  parentRefs: [{name: web, kind: Service, group: core}]
  rules:
    - matches: [{path: {value: /quote}}]
      timeouts: {request: 1m30s}   # one and a half
      backendRefs:
        - {name: web, port: 80, weight: 3}
        - {name: gone, port: 80}
    - matches: [{method: GET}]
";

fn explained() -> Explanation {
    let manifests = Manifests::parse_named("web.yaml", TEXT).unwrap();
    let request = Request::get("/quote/7").body(()).unwrap();
    manifests.explain("web.shop:80").request(&request)
}

#[test]
fn for_people() {
    let text = explained().to_text(|file| {
        assert_eq!(file, "web.yaml");
        Some(TEXT.to_owned())
    });
    let expected = "\
web.shop:80
  service.shop.web:80, HTTP

  route 1: httproute.shop.quotes
    rule 1: path /quote and below
      timeouts  none
      retries   at most 1, of 500-599; after 25ms to 250ms; paid by 20 % of the successes, and 10 a second besides
      backend   web.shop.svc.cluster.local:80, 75 % (weight 3)
      backend   service.shop.gone:80 (fails: Service not found gone), 25 % (weight 1)
    rule 2: GET
      timeouts  none
      retries   at most 1, of 500-599; after 25ms to 250ms; paid by 20 % of the successes, and 10 a second besides
      backend   web.shop.svc.cluster.local:80

  breaker   ejects an endpoint after 7 failures in a row; probes it after 1s to 60s
  load      peak EWMA: latency over 10s, 30ms at first

  GET http://web.shop.svc.cluster.local:80/quote/7
    meets rule 1 of route 1 (httproute.shop.quotes): path /quote and below
    not   rule 2 of route 1 (httproute.shop.quotes): GET, which is less specific or comes later
    timeouts  none
    retries   at most 1, of 500-599; after 25ms to 250ms; paid by 20 % of the successes, and 10 a second besides
    backend   web.shop.svc.cluster.local:80, 75 % (weight 3)
    backend   service.shop.gone:80 (fails: Service not found gone), 25 % (weight 1)

warning: HTTPRoute shop/quotes: spec.rules[0].timeouts.request: 1m30s is no timeout at all: more than one unit
  --> web.yaml:21:27
   |
21 |       timeouts: {request: 1m30s}   # one and a half
   |                           ^^^^^
   = the mesh reads one whole number and one unit only, and drops the rest silently
   = write \"90s\"

error: HTTPRoute shop/quotes: spec.rules[0].backendRefs[1]: Service not found gone
  --> web.yaml:24:11
   |
24 |         - {name: gone, port: 80}
   |           ^^^^^
   = the mesh answers 500 to the requests that fall to this backend
   = write the manifest of Service shop/gone beside this one, or correct the name

1 error, 1 warning
";
    // Line by line, for a message that can be read.
    for (found, expected) in text.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(text, expected);
}

#[test]
fn for_machines() {
    let explanation = explained();
    assert!(explanation.has_errors(), "a backend that does not exist");
    let json: serde_json::Value = serde_json::from_str(&explanation.to_json()).unwrap();
    let keys = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    // The form is a promise: what is here stays.
    assert_eq!(
        keys(&json),
        [
            "client",
            "diagnostics",
            "errors",
            "policy",
            "request",
            "resolves",
            "target",
            "warnings"
        ]
    );
    assert_eq!(
        keys(&json["policy"]),
        [
            "breaker", "fidelity", "load", "parent", "protocol", "routes"
        ]
    );
    let rule = &json["policy"]["routes"][0]["rules"][0];
    assert_eq!(
        keys(rule),
        [
            "backends",
            "choice",
            "failures",
            "filters",
            "matches",
            "retry",
            "successes",
            "timeouts"
        ]
    );
    assert_eq!(rule["retry"]["backoff_max_ms"], 250);
    assert_eq!(rule["backends"][1]["fails"], "Service not found gone");
    assert_eq!(json["policy"]["breaker"]["max_consecutive_failures"], 7);
    assert_eq!(json["request"]["meets"]["rule"], 0);
    assert_eq!(json["request"]["also_fits"][0]["rule"], 1);
    assert_eq!((&json["errors"], &json["warnings"]), (&1.into(), &1.into()));
    let first = &json["diagnostics"][0];
    assert_eq!(
        keys(first),
        [
            "column",
            "difference",
            "file",
            "key",
            "line",
            "mesh",
            "message",
            "remedy",
            "resource",
            "severity"
        ]
    );
    assert_eq!(
        (&first["line"], &first["remedy"]),
        (&21.into(), &"write \"90s\"".into())
    );
}

#[test]
fn what_does_not_resolve() {
    let text = TEXT.replace("5xx", "'5xx, 404'");
    let manifests = Manifests::parse_named("web.yaml", &text).unwrap();
    let explanation = manifests.explain("web.shop:80");
    assert!(explanation.policy().is_none() && explanation.has_errors());
    let said = explanation.to_text(|_| None);
    assert!(
        said.contains("the mesh goes on without what is not valid"),
        "{said}"
    );
    let json: serde_json::Value = serde_json::from_str(&explanation.to_json()).unwrap();
    assert_eq!(json["resolves"], false);
    assert_eq!(json["error"]["remedy"], "write \"5xx,404\"");
    // The mesh's policy is there all the same.
    assert_eq!(json["policy"]["routes"][0]["name"], "httproute.shop.quotes");

    let nobody = manifests.explain("other.shop:80");
    assert!(
        nobody
            .to_text(|_| None)
            .contains("found no Service for other.shop:80")
    );
    let error = Manifests::parse("a: [").unwrap_err();
    let unreadable = Explanation::of_error("web.shop:80", &error);
    assert!(unreadable.has_errors());
    assert!(unreadable.to_json().contains("not YAML"));
}

// Found by fuzzing: the name of what was asked for went to the terminal as it was.
#[test]
fn names_that_are_none_stay_on_their_line() {
    let yaml = "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: \"a\\tb\\e[2J\"}, spec: {ports: [{port: 80}]}}";
    let manifests = Manifests::parse(yaml).unwrap();
    let target = manifests.targets().next().unwrap().to_string();
    assert!(target.contains('\t'));
    let text = manifests.explain(&target).to_text(|_| None);
    assert!(text.starts_with("web.a\\tb\\u{1b}[2J:80"), "{text}");
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
}

#[test]
fn a_thousand_services_with_five_thousand_routes() {
    let mut text = String::new();
    for i in 0..1_000 {
        text += &format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{i}, namespace: shop}}\nspec: {{ports: [{{port: 80}}]}}\n"
        );
        for r in 0..5 {
            text += &format!(
                "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r{i}-{r}, namespace: shop}}\n\
                 spec: {{parentRefs: [{{name: s{i}, kind: Service, group: core}}], rules: [{{matches: [{{path: {{value: /{r}}}}}]}}]}}\n"
            );
        }
    }
    let manifests = Manifests::parse(&text).unwrap();
    assert_eq!(manifests.diagnostics(), []);
    let policy = manifests.resolve("s999.shop:80").unwrap();
    assert_eq!(policy.for_version(http::Version::HTTP_11).routes.len(), 5);
}
