use super::super::{ErrorKind, Manifests};
use super::{PAYMENTS, resolve, service};
use crate::policy::Fidelity;
use ErrorKind::*;

const ACCRUAL: &str = "balancer.linkerd.io/failure-accrual";
const UNIFIED: &str = "balancer.linkerd.io/failure-accrual: unified";
const RATE: &str = "balancer.alpha.linkerd.io/failure-accrual-success-rate";

/// What an error must say: line (none: 0), key (none: empty), and pieces of its message.
type Row<'a> = (String, ErrorKind, u32, &'a str, &'a [&'a str]);

fn check(rows: &[Row<'_>]) {
    for (text, kind, line, key, pieces) in rows {
        let error = resolve(text).expect_err(text);
        let said = error.to_string();
        assert_eq!(error.kind(), *kind, "{said}\n{text}");
        assert_eq!(error.line().unwrap_or(0), *line, "{said}\n{text}");
        assert_eq!(error.key().unwrap_or(""), *key, "{said}\n{text}");
        assert!(
            error.column().is_some() == (*line > 0),
            "line and column come together: {said}"
        );
        for piece in *pieces {
            assert!(said.contains(piece), "no {piece:?} in {said}");
        }
        assert!(!said.contains('\n'), "more than one line: {said:?}");
    }
}

#[test]
fn annotations_that_are_not_valid() {
    let max = format!("{ACCRUAL}-consecutive-max-penalty");
    let min = format!("{ACCRUAL}-consecutive-min-penalty");
    let jitter = format!("{ACCRUAL}-consecutive-jitter-ratio");
    let failures = format!("{ACCRUAL}-consecutive-max-failures");
    let threshold = format!("{RATE}-threshold");
    let window = format!("{RATE}-window");
    let requests = format!("{RATE}-min-requests");
    let consecutive = format!("{ACCRUAL}: consecutive");
    let with = |first: &str, key: &str, value: &str| service(&format!("{first}\n{key}: {value}"));
    let alone = |key: &str, value: &str| service(&format!("{key}: {value}"));
    let penalize = "balancer.alpha.linkerd.io/penalize-failures";
    #[rustfmt::skip]
    let rows: Vec<Row<'_>> = vec![
        (alone(ACCRUAL, "Consecutive"), Annotation, 7, ACCRUAL, &["\"Consecutive\"", "write \"consecutive\""]),
        (alone(ACCRUAL, "' unified'"), Annotation, 7, ACCRUAL, &["write \"unified\""]),
        (alone(ACCRUAL, "ewma"), Annotation, 7, ACCRUAL, &["consecutive or unified"]),
        (with(&consecutive, &failures, "'-1'"), Annotation, 8, &failures, &["\"-1\"", "whole number"]),
        (with(&consecutive, &failures, "'4.0'"), Annotation, 8, &failures, &["\"4.0\""]),
        (with(&consecutive, &failures, "4"), Field, 8, &failures, &["the number 4", "a string", "quote it: \"4\""]),
        (with(&consecutive, &jitter, "NaN"), Annotation, 8, &jitter, &["\"NaN\"", "a number from 0 to 100"]),
        (with(&consecutive, &jitter, "'100.5'"), Annotation, 8, &jitter, &["from 0 to 100"]),
        (with(&consecutive, &jitter, "inf"), Annotation, 8, &jitter, &["\"inf\""]),
        (with(&consecutive, &max, "0s"), Annotation, 8, &max, &["above zero"]),
        (with(&consecutive, &max, "500ms"), Annotation, 8, &max, &["\"500ms\"", "at least", "min-penalty (1s)"]),
        (with(&consecutive, &min, "2m"), Annotation, 8, &min, &["\"2m\"", "at most", "max-penalty (60s by default)"]),
        (with(&format!("{consecutive}\n{min}: 10s"), &max, "9s"), Annotation, 9, &max, &["10s"]),
        (with(UNIFIED, &threshold, "'1.5'"), Annotation, 8, &threshold, &["from 0 to 1"]),
        (with(UNIFIED, &threshold, "80%"), Annotation, 8, &threshold, &["write \"0.80\""]),
        (with(UNIFIED, &threshold, "'0.0000001'"), Annotation, 8, &threshold, &["0.000001"]),
        (with(UNIFIED, &window, "5ms"), Annotation, 8, &window, &["at least 10ms"]),
        (with(UNIFIED, &window, "'0'"), Annotation, 8, &window, &["at least 10ms"]),
        (with(&format!("{UNIFIED}\n{threshold}: '0'"), &window, "0s"), Annotation, 9, &window, &["above zero"]),
        (with(UNIFIED, &requests, "'1000001'"), Annotation, 8, &requests, &["at most 1000000"]),
        (alone(&format!("{RATE}-window"), "[]"), Field, 7, &window, &["a list", "a string"]),
        (alone("balancer.alpha.linkerd.io/failure-accrual-honor-retry-after", "maybe"), Annotation, 7,
            "balancer.alpha.linkerd.io/failure-accrual-honor-retry-after", &["\"true\" or \"false\""]),
        (alone(penalize, "''"), Annotation, 7, penalize, &["found \"\""]),
        (alone(penalize, "true"), Field, 7, penalize, &["the boolean true", "quote it: \"true\""]),
        (with(&format!("{penalize}: 't'"), "balancer.alpha.linkerd.io/load-biaser-penalty", "50d"), Annotation, 8,
            "balancer.alpha.linkerd.io/load-biaser-penalty", &["49 days"]),
        (alone("retry.linkerd.io/http", "5xx, 404"), Annotation, 7, "retry.linkerd.io/http", &["\" 404\"",
            "write \"5xx,404\""]),
        (alone("retry.linkerd.io/http", "''"), Annotation, 7, "retry.linkerd.io/http", &["5xx, gateway-error"]),
        (alone("retry.linkerd.io/http", "600"), Field, 7, "retry.linkerd.io/http", &["quote it: \"600\""]),
        (alone("retry.linkerd.io/http", "'99'"), Annotation, 7, "retry.linkerd.io/http", &["100 to 599"]),
        (alone("retry.linkerd.io/http", "504-500"), Annotation, 7, "retry.linkerd.io/http", &["504-500"]),
        (alone("retry.linkerd.io/grpc", "unknown"), Annotation, 7, "retry.linkerd.io/grpc", &["unavailable"]),
        (alone("retry.linkerd.io/limit", "' 3'"), Annotation, 7, "retry.linkerd.io/limit", &["write \"3\""]),
        (alone("retry.linkerd.io/limit", "'65536'"), Annotation, 7, "retry.linkerd.io/limit", &["65535"]),
        (alone("retry.linkerd.io/limit", "0x3"), Field, 7, "retry.linkerd.io/limit", &["quote it: \"0x3\""]),
        (alone("timeout.linkerd.io/request", "1000"), Field, 7, "timeout.linkerd.io/request", &["with its unit: \"1000ms\" or \"1000s\""]),
        // What it means is for others to say.
        (alone("example.com/ttl", "60"), Field, 7, "example.com/ttl", &["quote it: \"60\""]),
        (alone("retry.linkerd.io/timeout", "fast"), Annotation, 7, "retry.linkerd.io/timeout", &["(ms, s, m, h, d)"]),
        (alone("timeout.linkerd.io/request", "1h30m"), Annotation, 7, "timeout.linkerd.io/request", &["write \"90m\""]),
        (alone("timeout.linkerd.io/request", "'5'"), Annotation, 7, "timeout.linkerd.io/request",
            &["\"5s\" or \"5ms\""]),
        (alone("timeout.linkerd.io/idle", "-1s"), Annotation, 7, "timeout.linkerd.io/idle", &["not negative"]),
        (alone("timeout.linkerd.io/idle", ""), Field, 7, "timeout.linkerd.io/idle", &["found nothing"]),
        (alone("config.linkerd.io/opaque-ports", "99999-1"), Annotation, 7, "config.linkerd.io/opaque-ports",
            &["1 to 65535"]),
        // Any annotation, not only ours: the API server refuses the object.
        (alone("example.com/replicas", "3"), Field, 7, "example.com/replicas", &["quote it"]),
    ];
    check(&rows);
}

#[test]
fn the_first_mistake_of_the_text_is_the_error() {
    let text = service(
        "timeout.linkerd.io/idle: soon\nretry.linkerd.io/limit: many\nbalancer.linkerd.io/failure-accrual: on-demand",
    );
    let error = resolve(&text).unwrap_err();
    assert_eq!(error.key(), Some("timeout.linkerd.io/idle"));
    assert_eq!(
        error.to_string(),
        "payments.yaml:7:30: Service shop/payments: timeout.linkerd.io/idle: found \"soon\", expected a whole number and \
         one unit (ms, s, m, h, d)"
    );
    // All of them are told before.
    let manifests = Manifests::parse(&text).unwrap();
    let lines: Vec<_> = manifests.diagnostics().iter().map(|d| d.line).collect();
    assert_eq!(lines, [Some(7), Some(8), Some(9)]);
}

#[test]
fn services_that_are_not_valid() {
    let head = "apiVersion: v1\nkind: Service\n";
    let with = |rest: &str| format!("{head}{rest}");
    let port = |lines: &str| {
        format!(
            "{head}metadata: {{name: payments, namespace: shop}}\nspec:\n  ports:\n    - {lines}\n"
        )
    };
    // The second copy begins after a separator and its own comment.
    let second = PAYMENTS.lines().count() as u32 + 2;
    let twice = format!("{PAYMENTS}---\n{}", service(""));
    #[rustfmt::skip]
    let rows: Vec<Row<'_>> = vec![
        (head.to_owned(), Field, 1, "metadata", &["missing"]),
        (with("metadata: {}\n"), Field, 3, "metadata.name", &["missing"]),
        (with("metadata: payments\n"), Field, 3, "metadata", &["the string \"payments\"", "a mapping"]),
        (with("metadata: {name: 7}\n"), Field, 3, "metadata.name", &["the number 7", "quote it: \"7\""]),
        (with("metadata: {name: ''}\n"), Field, 3, "metadata.name", &["a name"]),
        (with("metadata: {name: a, namespace: on}\n"), Field, 3, "metadata.namespace", &["the boolean on"]),
        (with("metadata:\n  name: a\n  annotations: [b]\n"), Field, 5, "metadata.annotations", &["a list",
            "a mapping"]),
        (with("metadata: {name: a}\nspec: 3\n"), Field, 4, "spec", &["a mapping"]),
        (with("metadata: {name: a}\nspec: {ports: 8080}\n"), Field, 4, "spec.ports", &["a list"]),
        (port("name: http"), Field, 6, "spec.ports[0].port", &["missing"]),
        (port("port: '8080'"), Field, 6, "spec.ports[0].port", &["without quotes: 8080"]),
        (port("port: 70000"), Field, 6, "spec.ports[0].port", &["from 1 to 65535"]),
        (port("port: 0"), Field, 6, "spec.ports[0].port", &["from 1 to 65535"]),
        (port("port: 8080\n      targetPort: []"), Field, 7, "spec.ports[0].targetPort", &["a list"]),
        (port("port: 8080\n      protocol: HTTP"), Field, 7, "spec.ports[0].protocol", &["appProtocol"]),
        (port("port: 8080\n      appProtocol: 1"), Field, 7, "spec.ports[0].appProtocol", &["quote it"]),
        ("kind: Service\nmetadata: {name: a}\n".to_owned(), Field, 1, "apiVersion", &["missing"]),
        ("apiVersion: v1\nmetadata: {name: a}\n".to_owned(), Field, 1, "kind", &["missing"]),
        ("apiVersion: v1\nkind: 3\n".to_owned(), Field, 2, "kind", &["quote it"]),
        ("apiVersion: v1\nkind: List\nitems: {}\n".to_owned(), Field, 3, "items", &["a list"]),
        ("apiVersion: v1\nkind: List\nitems:\n  - kind: Service\n    apiVersion: v1\n".to_owned(), Field, 4,
            "items[0].metadata", &["missing"]),
        (twice, Duplicate, second, "metadata.name", &["defined twice", "payments.yaml:2"]),
    ];
    check(&rows);
}

#[test]
fn what_is_not_a_manifest() {
    let laughs = (1..12).fold(
        String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"),
        |text, i| {
            let again = vec![format!("*a{}", i - 1); 10].join(", ");
            format!("{text}a{i}: &a{i} [{again}]\n")
        },
    );
    let wide = format!(
        "a: &a {}\nb: [{}]\n",
        "y".repeat(1 << 20),
        vec!["*a"; 99].join(", ")
    );
    #[rustfmt::skip]
    let rows: Vec<Row<'_>> = vec![
        (String::new(), Empty, 0, "", &["payments.yaml", "no documents", "expected at least one"]),
        ("# nothing\n---\n---\n".to_owned(), Empty, 0, "", &["no documents"]),
        ("payments".to_owned(), Field, 1, "the document", &["the string \"payments\"", "kind"]),
        ("- a\n".to_owned(), Field, 1, "the document", &["a list"]),
        ("kind: Service\nmetadata:\n  name: \"pay".to_owned(), Syntax, 3, "", &["not YAML"]),
        ("kind: Service\nmetadata: {name: a".to_owned(), Syntax, 2, "", &["not YAML"]),
        ("kind: Service\nmetadata:\n\tname: a\n".to_owned(), Syntax, 3, "", &["tab", "indent with spaces"]),
        ("metadata:\n  name: a\n name: b\n".to_owned(), Syntax, 3, "", &["not YAML"]),
        ("a: *b\n".to_owned(), Syntax, 1, "", &["anchor"]),
        ("a: &a [*a]\n".to_owned(), Syntax, 1, "", &["alias"]),
        ("a: {{ .Values.name }}\n".to_owned(), Syntax, 1, "", &["helm template"]),
        ("a: 1\nb:\n  c: 1\n  c: 2\n".to_owned(), Duplicate, 4, "c", &["twice", "keep one"]),
        ("a: 1\n<<: 3\n".to_owned(), Syntax, 2, "", &["a mapping"]),
        (laughs, Limit, 6, "", &["2000000 values"]),
        (wide, Limit, 2, "", &["64 MiB"]),
        ("[".repeat(200_000), Limit, 1, "", &["100 levels"]),
        ((0..500).map(|i| format!("{}a:\n", " ".repeat(i))).collect(), Limit, 101, "", &["100 levels"]),
        (" ".repeat(33 << 20), Limit, 0, "", &["32 MiB", "split"]),
        ("\0".to_owned(), Syntax, 1, "", &["not YAML"]),
    ];
    check(&rows);
}

#[test]
fn ports_that_are_not_http() {
    let with =
        |more: &str| service("").replace("port: 8080\n", &format!("port: 8080\n      {more}\n"));
    let protocol = "spec.ports[0].appProtocol";
    let opaque = "config.linkerd.io/opaque-ports";
    #[rustfmt::skip]
    let rows: Vec<Row<'_>> = vec![
        (with("appProtocol: grpc"), Protocol, 10, protocol, &["\"grpc\"", "opaque TCP", "kubernetes.io/h2c"]),
        (with("appProtocol: https"), Protocol, 10, protocol, &["\"https\""]),
        (with("appProtocol: linkerd.io/opaque"), Protocol, 10, protocol, &["opaque"]),
        (with("appProtocol: linkerd.io/tcp"), Protocol, 10, protocol, &["opaque"]),
        (with("protocol: UDP"), Protocol, 9, "spec.ports[0].protocol", &["not TCP"]),
        (service("config.linkerd.io/opaque-ports: 25,8000-9000"), Protocol, 10, opaque, &["8080", "appProtocol: http"]),
        (service("config.linkerd.io/opaque-ports: web").replace("port: 8080", "{name: web, port: 8080}"), Protocol,
            10, opaque, &["8080"]),
        (service("").replace("ports:", "type: ExternalName\n  ports:"), ExternalName, 8, "spec.type",
            &["ExternalName"]),
    ];
    check(&rows);
    // Every cluster has these unless the Service says otherwise.
    let text = service("").replace("8080", "3306");
    let error = Manifests::parse(&text)
        .unwrap()
        .resolve("payments.shop:3306")
        .unwrap_err();
    assert_eq!(error.key(), Some(opaque));
    let text = service("config.linkerd.io/opaque-ports: ''").replace("8080", "3306");
    Manifests::parse(&text)
        .unwrap()
        .resolve("payments.shop:3306")
        .unwrap();
    // appProtocol beats opaque-ports.
    let text = service("config.linkerd.io/opaque-ports: '8080'");
    resolve(&text.replace("port: 8080", "{port: 8080, appProtocol: HTTP}")).unwrap();
}

#[test]
fn targets_that_are_not() {
    let manifests = Manifests::parse(PAYMENTS).unwrap();
    let rows = [
        ("", Target, "name.namespace:port"),
        ("payments", Target, "payments.default"),
        ("payments:8080", Target, "payments.default"),
        ("payments.shop:http", Target, "not a name"),
        ("payments.shop:0", Target, "1 to 65535"),
        ("payments.shop:+80", Target, "1 to 65535"),
        ("payments.shop:", Target, "1 to 65535"),
        (".shop:80", Target, "name.namespace:port"),
        (
            "payments.shop.pod:80",
            Target,
            "payments.shop.svc.cluster.local",
        ),
        (
            "http://payments.shop:8080/quote",
            Target,
            "payments.shop:8080",
        ),
        ("päyments.shop:80", Target, "name.namespace:port"),
        (
            "orders.shop:8080",
            ServiceNotFound,
            "there are payments.shop",
        ),
        ("payments.default:8080", ServiceNotFound, "payments.shop"),
        ("payments.shop:80", PortNotFound, "8080 (http)"),
    ];
    for (target, kind, piece) in rows {
        let error = manifests.resolve(target).expect_err(target);
        assert_eq!(error.kind(), kind, "{target}: {error}");
        assert!(error.to_string().contains(piece), "{target}: {error}");
    }
    let none = Manifests::parse("apiVersion: v1\nkind: ConfigMap\n").unwrap();
    let error = none.resolve("a.b:1").unwrap_err();
    assert!(error.to_string().contains("only ConfigMap"), "{error}");
    let two = service("").replace(
        "- port: 8080",
        "- port: 8080\n    - port: 9090\n      name: admin",
    );
    let error = Manifests::parse(&two)
        .unwrap()
        .resolve("payments.shop")
        .unwrap_err();
    assert_eq!((error.kind(), error.line()), (PortNotFound, Some(1)));
    assert!(error.to_string().contains("8080, 9090 (admin)"), "{error}");
}

#[test]
fn the_mesh_has_a_policy_for_what_is_not_there() {
    let manifests = Manifests::parse(PAYMENTS).unwrap();
    for (target, kind) in [
        ("payment.shop:8080", ServiceNotFound),
        ("payments.shop:81", PortNotFound),
    ] {
        assert_eq!(manifests.resolve(target).unwrap_err().kind(), kind);
        let mesh = manifests.clone().fidelity(Fidelity::Mesh);
        let policy = mesh.resolve(target).unwrap();
        let parent = policy.parent.to_string();
        let name = target.split(['.', ':']).next().unwrap();
        assert!(
            parent.starts_with(&format!("service.shop.{name}:")),
            "{parent}"
        );
        assert!(matches!(
            policy.protocol,
            crate::policy::Protocol::Detect { .. }
        ));
        let explanation = mesh.explain(target);
        let said = explanation.diagnostics().last().unwrap();
        assert_eq!(said.severity, super::super::Severity::Warning);
        assert!(
            said.to_string()
                .contains("has a default policy for every name"),
            "{said}"
        );
        assert_eq!(mesh.strict().resolve(target).unwrap_err().kind(), kind);
    }
    let mesh = manifests.fidelity(Fidelity::Mesh);
    let without_port = mesh.resolve("unknown.shop").unwrap();
    assert_eq!(without_port.parent.to_string(), "service.shop.unknown:80");
    // One that is there keeps its annotations on a port that is not.
    assert!(mesh.resolve("payments.shop:81").unwrap() != mesh.resolve("unknown.shop:81").unwrap());
    assert!(mesh.resolve("payments.shop").is_ok());
}
