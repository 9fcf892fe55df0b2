//! Every mistake of manifests that cannot be read, in one run.

use super::super::{Error, ErrorKind, Explanation, Manifests, Severity};
use super::folder::Folder;
use super::service;

/// The error, and everything there is to say as (line, key).
fn refused(text: &str) -> (Error, Vec<(u32, String)>) {
    let error = Manifests::parse_named("m.yaml", text).expect_err(text);
    let told = error.diagnostics().iter();
    let told = told.map(|d| (d.line.unwrap_or(0), d.key.clone().unwrap_or_default()));
    let told = told.collect();
    (error, told)
}

fn places(rows: &[(u32, &str)]) -> Vec<(u32, String)> {
    rows.iter()
        .map(|(l, key)| (*l, (*key).to_owned()))
        .collect()
}

#[test]
fn annotations_without_quotes() {
    let text = service(
        "retry.linkerd.io/limit: 3\nretry.linkerd.io/http: 5xx\nbalancer.linkerd.io/failure-accrual-consecutive-max-failures: 7\n\
         timeout.linkerd.io/request: 10\ntimeout.linkerd.io/idle: 1h30m\nbalancer.alpha.linkerd.io/penalize-failures: true\n\
         timeout.linkerd.io/respons: 1s",
    );
    let (error, told) = refused(&text);
    assert_eq!(
        told,
        places(&[
            (7, "retry.linkerd.io/limit"),
            (
                9,
                "balancer.linkerd.io/failure-accrual-consecutive-max-failures"
            ),
            // It is read on: without a mode it has no effect.
            (
                9,
                "balancer.linkerd.io/failure-accrual-consecutive-max-failures"
            ),
            (10, "timeout.linkerd.io/request"),
            (11, "timeout.linkerd.io/idle"),
            (12, "balancer.alpha.linkerd.io/penalize-failures"),
            (13, "timeout.linkerd.io/respons"),
        ])
    );
    assert_eq!((error.kind(), error.line()), (ErrorKind::Field, Some(7)));
    assert_eq!(
        error.to_string(),
        "m.yaml:7:29: Service shop/payments: retry.linkerd.io/limit: found the number 3, expected a string; quote it: \"3\" \
         (and 4 more errors)"
    );
    // To `explain` they are all there is.
    let explanation = Explanation::of_error("payments.shop:8080", &error);
    assert_eq!(explanation.diagnostics().len(), told.len());
    let text = explanation.to_text(|_| Some(text.clone()));
    assert!(text.ends_with("5 errors, 2 warnings\n"), "{text}");
}

#[test]
fn every_field_of_a_service() {
    let (_, told) = refused(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: 7\n  namespace: on\n  annotations: {a/b: [c]}\nspec:\n  type: 3\n  \
         clusterIP: x\n  ports:\n  - port: '80'\n    protocol: HTTP\n  - name: 5\n    targetPort: 0\n",
    );
    assert_eq!(
        told,
        places(&[
            (4, "metadata.name"),
            (5, "metadata.namespace"),
            (6, "a/b"),
            (8, "spec.type"),
            (9, "spec.clusterIP"),
            (11, "spec.ports[0].port"),
            (12, "spec.ports[0].protocol"),
            (13, "spec.ports[1].port"),
            (13, "spec.ports[1].name"),
            (14, "spec.ports[1].targetPort"),
        ])
    );
}

#[test]
fn every_field_of_a_route() {
    let spec = "\
parentRefs:
  - {name: payments, kind: Service, group: core, port: 8080}
  hostnames: [7, a.b]
  rules:
  - matches:
    - path: {type: Prefix, value: /a}
      method: get
      headers: [{name: 'a b', value: c}, {name: d, value: 3}]
      queryParams: [{value: x}]
    filters:
    - {type: URLRewrite, urlRewrite: {}}
    - {type: RequestRedirect, requestRedirect: {port: 0, statusCode: 200, scheme: ftp}}
    timeouts: {request: 1x, backendRequest: 5}
    retry: {attempts: 0, codes: [200], backoff: x}
    backendRefs: [{name: payments, port: 8080, weight: -1}, {port: http}]
  - {matches: 3}
";
    let text = service("")
        + "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: shop}\nspec:\n  "
        + spec;
    let manifests = Manifests::parse(&text).unwrap();
    let told = manifests.diagnostics().iter();
    let told = told.filter(|d| d.severity == Severity::Error);
    let keys: Vec<&str> = told.filter_map(|d| d.key.as_deref()).collect();
    assert_eq!(
        keys,
        [
            "spec.hostnames[0]",
            "spec.rules[0].matches[0].path.type",
            "spec.rules[0].matches[0].method",
            "spec.rules[0].matches[0].headers[0].name",
            "spec.rules[0].matches[0].headers[1].value",
            "spec.rules[0].matches[0].queryParams[0].name",
            "spec.rules[0].filters[0].type",
            "spec.rules[0].filters[1].requestRedirect.port",
            "spec.rules[0].filters[1].requestRedirect.statusCode",
            "spec.rules[0].filters[1].requestRedirect.scheme",
            "spec.rules[0].timeouts.request",
            "spec.rules[0].timeouts.backendRequest",
            "spec.rules[0].retry.attempts",
            "spec.rules[0].retry.codes[0]",
            "spec.rules[0].retry.backoff",
            "spec.rules[0].backendRefs",
            "spec.rules[0].backendRefs[0].weight",
            "spec.rules[0].backendRefs[1].name",
            "spec.rules[0].backendRefs[1].port",
            "spec.rules[1].matches",
        ]
    );
    // The first is why it does not resolve.
    let error = manifests.resolve("payments.shop:8080").unwrap_err();
    assert_eq!(error.key(), Some("spec.hostnames[0]"));
}

#[test]
fn other_kinds_and_keys_twice() {
    let (_, told) = refused(
        "apiVersion: policy.linkerd.io/v1alpha1\nkind: EgressNetwork\nmetadata: {name: all, namespace: b}\nspec:\n  \
         trafficPolicy: allow\n  networks:\n  - cidr: 10/8\n  - cidr: 1.0.0.0/8\n    except: [x, y]\n",
    );
    let keys: Vec<_> = told.iter().map(|(_, key)| &key["spec.".len()..]).collect();
    assert_eq!(
        keys,
        [
            "trafficPolicy",
            "networks[0].cidr",
            "networks[1].except[0]",
            "networks[1].except[1]"
        ]
    );
    let text = "apiVersion: linkerd.io/v1alpha2\nkind: ServiceProfile\nmetadata: {name: payments, namespace: shop}\nspec:\n  \
                retryBudget: {retryRatio: x, ttl: 5}\n  dstOverrides: [{authority: a, weight: b}]\n  routes: [{name: 3}, {}]\n";
    let (_, told) = refused(text);
    let keys: Vec<_> = told.iter().map(|(_, key)| key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "metadata.name",
            "spec.retryBudget.minRetriesPerSecond",
            "spec.retryBudget.retryRatio",
            "spec.retryBudget.ttl",
            "spec.dstOverrides[0].authority",
            "spec.dstOverrides[0].weight",
            "spec.routes[0].condition",
            "spec.routes[0].name",
            "spec.routes[1].name",
            "spec.routes[1].condition",
        ]
    );
    let (error, told) = refused(
        "apiVersion: v1\nkind: Service\nkind: Service\nmetadata:\n  name: a\n  name: b\nspec:\n  ports: 80\n",
    );
    assert_eq!(error.kind(), ErrorKind::Duplicate);
    assert_eq!(told, places(&[(3, "kind"), (6, "name"), (8, "spec.ports")]));
}

#[test]
fn every_document_and_every_file() {
    let folder = Folder::new("many");
    folder.write("a.yaml", "kind: [\n");
    folder.write("b.yaml", service("retry.linkerd.io/limit: 3"));
    folder.write(
        "c.yaml",
        &(service("retry.linkerd.io/limti: 3s") + "---\n" + &service("")),
    );
    folder.write(
        "d.yaml",
        "---\napiVersion: v1\nkind: List\nitems:\n- {kind: 7}\n- {apiVersion: v1, kind: Service}\n",
    );
    let error = Manifests::from_path(&folder.0).unwrap_err();
    let told: Vec<_> = error
        .diagnostics()
        .iter()
        .map(|d| {
            let file = d.file.as_deref().unwrap_or_default();
            (file[file.len() - 6..].to_owned(), d.line.unwrap_or(0))
        })
        .collect();
    let rows = [
        ("a.yaml", 1),
        // The other is a note about what it means.
        ("b.yaml", 7),
        ("b.yaml", 7),
        ("c.yaml", 1),
        ("c.yaml", 7),
        ("c.yaml", 12),
        ("d.yaml", 5),
        ("d.yaml", 6),
    ];
    let rows: Vec<_> = rows.map(|(file, line)| (file.to_owned(), line)).into();
    assert_eq!(told, rows);
    assert_eq!(error.kind(), ErrorKind::Syntax);
}

#[test]
fn what_is_beside_them_is_read_on() {
    // A route is not told that its Service is missing, nor that a port is that cannot be read.
    let text = service("retry.linkerd.io/limit: 3").replace("port: 8080", "port: '8080'")
        + "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: shop}\nspec:\n  \
           parentRefs: [{name: payments, kind: Service, group: core, port: 8080}, {name: payment, kind: Service, group: core}]\n";
    let (_, told) = refused(&text);
    assert_eq!(
        told,
        places(&[
            (7, "retry.linkerd.io/limit"),
            (7, "retry.linkerd.io/limit"),
            (10, "spec.ports[0].port"),
            (16, "spec.parentRefs[1]"),
        ])
    );
}
