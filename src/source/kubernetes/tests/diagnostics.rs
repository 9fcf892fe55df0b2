use super::super::{Manifests, Severity};
use super::service;
use Severity::*;

fn told(text: &str) -> Vec<(Severity, u32, String, String)> {
    let manifests = Manifests::parse_named("m.yaml", text).unwrap();
    let told = manifests.diagnostics().iter().map(|d| {
        assert_eq!(d.file.as_deref(), Some("m.yaml"));
        let key = d.key.clone().unwrap_or_default();
        (d.severity, d.line.unwrap(), key, d.to_string())
    });
    told.collect()
}

#[test]
fn annotations_without_the_effect_they_seem_to_have() {
    let accrual = "balancer.linkerd.io/failure-accrual";
    let alpha = "balancer.alpha.linkerd.io/failure-accrual";
    #[rustfmt::skip]
    let rows: [(String, Severity, u32, &str); 15] = [
        ("retry.linkerd.io/limti: '3'".into(), Warning, 7, "did you mean retry.linkerd.io/limit?"),
        ("timeout.linkerd.io/requests: 3s".into(), Warning, 7, "did you mean timeout.linkerd.io/request?"),
        ("balancer.linkerd.io/penalize-failures: 't'".into(), Warning, 7,
            "balancer.alpha.linkerd.io/penalize-failures?"),
        (format!("{alpha}-success-rate-treshold: x"), Warning, 7, "success-rate-threshold?"),
        ("timeout.linkerd.io/request: '0'".into(), Warning, 7, "time out at once"),
        ("retry.linkerd.io/http: 5xx\nretry.linkerd.io/limit: '0'".into(), Warning, 8, "not turned off"),
        ("retry.linkerd.io/limit: '0'".into(), Note, 7, "the same as no annotation"),
        ("retry.linkerd.io/limit: '2'".into(), Note, 7, "no status is retried"),
        (format!("{accrual}: consecutive\n{alpha}-honor-retry-after: 'true'"), Warning, 8, "failure-accrual: unified"),
        (format!("{alpha}-honor-retry-after: 'true'"), Warning, 7, "has no effect here"),
        (format!("{accrual}-consecutive-max-failures: '3'"), Warning, 7, "failure-accrual: consecutive"),
        (format!("{accrual}: consecutive\n{alpha}-success-rate-window: 3s"), Warning, 8, "failure-accrual: unified"),
        (format!("{accrual}: consecutive\n{accrual}-consecutive-max-failures: '0'"), Warning, 8,
            "turns the breaker off"),

                   (format!("{accrual}: unified\n{accrual}-consecutive-max-failures: '0'\n{alpha}-success-rate-threshold: '0'" ), Warning, 7, "both turned off"),
        ("balancer.alpha.linkerd.io/load-biaser-penalty: 3s".into(), Warning, 7, "penalize-failures: \"true\""),
    ];
    for (annotations, severity, line, piece) in rows {
        let told = told(&service(&annotations));
        assert_eq!(told.len(), 1, "{told:?}");
        let key = annotations.lines().nth(line as usize - 7).unwrap();
        let key = key.split_once(": ").unwrap().0;
        assert_eq!((told[0].0, told[0].1, &*told[0].2), (severity, line, key));
        assert!(told[0].3.contains(piece), "no {piece:?} in {}", told[0].3);
    }
    assert_eq!(
        told(&service(
            "config.linkerd.io/skip-outbound-ports: '1'\nexample.com/a: b"
        )),
        []
    );
}

#[test]
fn the_words() {
    assert_eq!(
        told(&service("retry.linkerd.io/limti: '3'"))[0].3,
        "m.yaml:7:5: warning: Service shop/payments: retry.linkerd.io/limti: unknown annotation; it has no effect; \
         did you mean retry.linkerd.io/limit?"
    );
}

#[test]
fn one_line_whatever_the_manifest_holds() {
    let text =
        service("retry.linkerd.io/limti: '3'").replace("name: payments", r#"name: "a\nb\e[31m""#);
    let told = told(&text);
    assert!(told.iter().all(|told| !told.3.contains(char::is_control)));
    let line = &told[1].3;
    assert!(
        line.contains(r"Service shop/a\nb\u{1b}[31m: retry"),
        "{line}"
    );
}

#[test]
fn other_kinds() {
    // Others are everyday, whatever is in them.
    assert_eq!(
        told("apiVersion: apps/v1\nkind: Deployment\nmetadata: [3]\nspec: {replicas: yes}\n"),
        []
    );
    assert_eq!(
        told("apiVersion: v1\nkind: ConfigMap\ndata: {1: 2, on: off}\n"),
        []
    );
}

#[test]
fn policy_in_the_wrong_place() {
    let text = service("retry.linkerd.io/http: 5xx").replace(
        "apiVersion: v1\nkind: Service",
        "apiVersion: apps/v1\nkind: Deployment",
    );
    let told = told(&text);
    assert_eq!(
        (told[0].0, told[0].1, &*told[0].2),
        (Warning, 7, "retry.linkerd.io/http")
    );
    assert!(told[0].3.contains(
        "Deployment shop/payments: retry.linkerd.io/http: is read from a Service or a route only"
    ));
    let told = super::diagnostics::told("resources: [a.yaml]\n");
    assert!(told[0].3.contains("without kind"));
}
