use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use super::super::Manifests;
use super::{PAYMENTS, resolve, service};
use crate::policy::*;

/// What the mesh makes of a bare Service, by section 2 of its control plane, written out.
fn bare() -> HttpPolicy {
    with(Load::default(), Timeouts::default(), None, None)
}

/// What is not HTTP goes to the same endpoints.
fn detect(http: HttpPolicy) -> Protocol {
    let rules = &http.routes[0].rules;
    let (found, _) = rules[0].policy.distribution.backends().next().unwrap();
    let backend = RouteBackend {
        filters: Vec::new(),
        backend: Arc::clone(&found.backend),
    };
    let distribution = RouteDistribution::first_available([backend]).unwrap();
    let opaque = OpaquePolicy {
        route: Some(ConnectionRoute::new(
            Meta::default_named("opaq"),
            distribution,
        )),
    };
    Protocol::Detect {
        timeout: Duration::from_secs(10),
        http1: http.clone(),
        http2: http,
        opaque,
    }
}

fn parent() -> Arc<Meta> {
    Arc::new(Meta::service("shop", "payments", NonZeroU16::new(8080)).unwrap())
}

fn with(
    load: Load,
    timeouts: Timeouts,
    retry: Option<Retry>,
    failure_accrual: Option<FailureAccrual>,
) -> HttpPolicy {
    let backend = Arc::new(Backend {
        meta: parent(),
        queue: Queue {
            capacity: 100,
            failfast_timeout: Duration::from_secs(3),
        },
        dispatcher: BackendDispatcher::BalanceP2c(
            load,
            EndpointDiscovery::DestinationGet {
                path: "payments.shop.svc.cluster.local:8080".to_owned(),
            },
        ),
    });
    let distribution = RouteDistribution::first_available([backend.into()]).unwrap();
    HttpPolicy {
        routes: vec![Route {
            hosts: Vec::new(),
            rules: vec![Rule {
                matches: vec![MatchRequest {
                    path: Some(MatchPath::Prefix("/".to_owned())),
                    ..MatchRequest::default()
                }],
                policy: RoutePolicy {
                    meta: Arc::new(Meta::default_named("http")),
                    filters: Vec::new(),
                    distribution,
                    params: RouteParams {
                        timeouts,
                        retry,
                        ..RouteParams::default()
                    },
                },
            }],
        }],
        failure_accrual,
    }
}

fn policy(protocol: Protocol) -> ClientPolicy {
    ClientPolicy {
        parent: parent(),
        protocol,
        fidelity: Fidelity::Extended,
        failures: None,
    }
}

fn backoff(min: u64, max: u64, jitter: u8) -> ExponentialBackoff {
    let s = Duration::from_secs;
    ExponentialBackoff::try_new(s(min), s(max), Ratio::percent(jitter)).unwrap()
}

#[test]
fn the_example() {
    let manifests = Manifests::parse_named("payments.yaml", PAYMENTS).unwrap();
    assert_eq!(manifests.diagnostics(), []);
    let targets: Vec<_> = manifests.targets().map(|t| t.to_string()).collect();
    assert_eq!(targets, ["payments.shop:8080"]);
    let expected = policy(detect(with(
        Load::PeakEwma(PeakEwma::DEFAULT),
        Timeouts::request(Duration::from_secs(2)),
        Some(Retry::on(500..=599).limit(2).build().unwrap()),
        Some(FailureAccrual::Unified(
            Unified::try_new(
                Ratio::percent(80),
                Duration::from_secs(3),
                2,
                4,
                backoff(1, 4, 50),
            )
            .unwrap(),
        )),
    )));
    for target in [
        "payments.shop:8080",
        "payments.shop.svc:8080",
        "payments.shop.svc.cluster.local:8080",
        "payments.shop",
        "payments.shop.svc.cluster.local",
    ] {
        assert_eq!(manifests.resolve(target).unwrap(), expected, "{target}");
    }
    let mesh = manifests.fidelity(Fidelity::Mesh);
    let expected = expected.with_fidelity(Fidelity::Mesh);
    assert_eq!(mesh.resolve("payments.shop:8080").unwrap(), expected);
}

#[test]
fn protocols() {
    let app = |value: &str| {
        let port = format!("{{port: 8080, appProtocol: {value}}}");
        resolve(&service("").replace("port: 8080", &port)).unwrap()
    };
    assert_eq!(resolve(&service("")).unwrap(), policy(detect(bare())));
    assert_eq!(app("null"), policy(detect(bare())));
    assert_eq!(app("HTTP"), policy(Protocol::Http1(bare())));
    assert_eq!(app("kubernetes.io/h2c"), policy(Protocol::Http2(bare())));
}

#[test]
fn every_accrual_annotation() {
    let rate = "balancer.alpha.linkerd.io/failure-accrual-success-rate";
    let text = service(&format!(
        "balancer.linkerd.io/failure-accrual: unified
         balancer.linkerd.io/failure-accrual-consecutive-max-failures: ' 3 '
         balancer.linkerd.io/failure-accrual-consecutive-min-penalty: 2s
         balancer.linkerd.io/failure-accrual-consecutive-max-penalty: 5m
         balancer.linkerd.io/failure-accrual-consecutive-jitter-ratio: ' 1.5 '
         {rate}-threshold: '0.9'
         {rate}-window: 30s
         {rate}-min-requests: ' 100 '"
    ));
    let unified = Unified::try_new(
        Ratio::percent(90),
        Duration::from_secs(30),
        100,
        3,
        backoff(2, 300, 150),
    );
    let accrual = Some(FailureAccrual::from(unified.unwrap()));
    let http = with(Load::default(), Timeouts::default(), None, accrual);
    assert_eq!(resolve(&text).unwrap(), policy(detect(http)));

    let accrual = |annotations: &str| {
        let policy = resolve(&service(annotations)).unwrap();
        policy
            .for_version(http::Version::HTTP_2)
            .failure_accrual
            .clone()
    };
    let mode = "balancer.linkerd.io/failure-accrual";
    let default = FailureAccrual::consecutive(7).backoff(ExponentialBackoff::ACCRUAL);
    assert_eq!(accrual(&format!("{mode}: consecutive")), Some(default));
    assert_eq!(
        accrual(&format!("{mode}: unified")),
        Some(Unified::default().into())
    );
    let honor = "balancer.alpha.linkerd.io/failure-accrual-honor-retry-after";
    for honored in [true, false] {
        let accrual = accrual(&format!("{mode}: unified\n{honor}: '{honored}'")).unwrap();
        assert_eq!(accrual.extensions().respect_retry_after, honored);
    }
    // Below 10 ms the window is good only where the success rate is off.
    let off = accrual(&format!(
        "{mode}: unified\n{rate}-threshold: '0'\n{rate}-window: 1ms"
    ))
    .unwrap();
    assert_eq!(off.max_consecutive_failures(), 7);
    assert_eq!(
        accrual(&format!("{rate}-threshold: wrong, and not read")),
        None
    );
}

#[test]
fn load_retry_and_timeouts() {
    let http = |annotations: &str| {
        let policy = resolve(&service(annotations)).unwrap();
        policy.for_version(http::Version::HTTP_11).clone()
    };
    let params = |annotations: &str| http(annotations).routes[0].rules[0].policy.params.clone();
    let ms = Duration::from_millis;

    let mut load = PenaltyPeakEwma::new(PeakEwma::DEFAULT);
    let penalize = "balancer.alpha.linkerd.io/penalize-failures: 'true'";
    let biased = |load| with(Load::PenaltyPeakEwma(load), Timeouts::default(), None, None);
    assert_eq!(http(penalize), biased(load));
    load.penalty = ms(1500);
    load.max_retry_after = ms(60_000);
    let text = "balancer.alpha.linkerd.io/load-biaser-penalty: 1500ms\nbalancer.alpha.linkerd.io/load-biaser-max-retry-after: 1m";
    assert_eq!(http(&format!("{penalize}\n{text}")), biased(load));
    assert_eq!(http(text), bare());

    let retry = |annotations: &str| params(annotations).retry;
    let built = |retry: RetryBuilder| Some(retry.build().unwrap());
    let on = Retry::on(500..=599)
        .and_on(404..=404)
        .and_on(502..=504)
        .and_on(100..=599);
    assert_eq!(
        retry("retry.linkerd.io/http: 5XX,404,Gateway-Error,100-599"),
        built(on)
    );
    assert_eq!(
        retry("retry.linkerd.io/limit: '3'"),
        built(Retry::never_on_status().limit(3))
    );
    assert_eq!(
        retry("retry.linkerd.io/timeout: 300ms"),
        built(Retry::never_on_status().timeout(ms(300)))
    );
    assert_eq!(
        retry("retry.linkerd.io/http: 5xx\nretry.linkerd.io/limit: '0'"),
        built(Retry::on(500..=599))
    );
    assert_eq!(
        retry("retry.linkerd.io/limit: '0'\nretry.linkerd.io/timeout: '0'"),
        None
    );
    assert_eq!(retry("retry.linkerd.io/grpc: Unavailable,internal"), None);
    let whole = retry("retry.linkerd.io/http: gateway-error").unwrap();
    assert_eq!(
        (whole.max_request_bytes(), whole.max_retries()),
        (65_536, 1)
    );
    assert_eq!(whole.backoff(), Some(ExponentialBackoff::RETRY));

    let text = "timeout.linkerd.io/request: 10s\ntimeout.linkerd.io/response: 5s\ntimeout.linkerd.io/idle: '0'";
    let timeouts = Timeouts {
        request: Some(ms(10_000)),
        response: Some(ms(5_000)),
        idle: Some(Duration::ZERO),
    };
    assert_eq!(params(text).timeouts, timeouts);
}

#[test]
fn as_the_mesh_a_mistake_costs_its_family() {
    let text = service(
        "balancer.linkerd.io/failure-accrual: consecutive
         balancer.linkerd.io/failure-accrual-consecutive-jitter-ratio: NaN
         retry.linkerd.io/http: 5xx
         retry.linkerd.io/grpc: nonsense
         timeout.linkerd.io/request: 1s
         timeout.linkerd.io/idle: 1h30m
         config.linkerd.io/opaque-ports: 8080,8082-8081",
    );
    let manifests = Manifests::parse(&text).unwrap();
    assert!(manifests.resolve("payments.shop:8080").is_err());
    let mesh = manifests
        .fidelity(Fidelity::Mesh)
        .resolve("payments.shop:8080")
        .unwrap();
    let retry = Some(Retry::on(500..=599).build().unwrap());
    let http = with(Load::default(), Timeouts::default(), retry, None);
    assert_eq!(mesh.protocol, detect(http));
}

#[test]
fn many_forms() {
    let bare = policy(detect(bare()));
    let item = "{apiVersion: v1, kind: Service, metadata: {name: payments, namespace: shop}, spec: {ports: [{port: 8080}]}}";
    let json = r#"{
	"apiVersion": "v1", "kind": "Service",
	"metadata": {"name": "payments", "namespace": "shop", "annotations": null},
	"spec": {"ports": [{"port": 8080, "targetPort": "http", "protocol": "TCP"}]}
}"#;
    for text in [
        format!("apiVersion: v1\nkind: List\nitems:\n  - {item}\n  - {{apiVersion: v1, kind: Pod}}\n"),
        format!("apiVersion: v1\nkind: List\nitems: [{{apiVersion: v1, kind: List, items: [{item}]}}]\n"),
        "apiVersion: v1\nkind: ServiceList\nitems: [{metadata: {name: payments, namespace: shop}, spec: {ports: [{port: 8080}]}}]".to_owned(),
        json.to_owned(),
        format!("\u{feff}{item}"),
        service("").replace('\n', "\r\n"),
        format!("---\n# first\n---\n{item}\n...\n---\n"),
        // Of another group, and so something else.
        format!("{item}\n---\napiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: payments, namespace: shop}}\n"),
        format!("x: &port {{port: 8080}}\ny: *port\n---\n{item}"),
        "apiVersion: v1\nkind: Service\nmetadata: {name: payments, namespace: shop}\nspec:\n  x: &port {port: 9, name: web}\n  ports: [{<<: *port, port: 8080}]".to_owned(),
        // The same number over UDP is another port.
        item.replace("[{port: 8080}]", "[{port: 8080, protocol: UDP, name: u}, {port: 8080, name: t}]"),
    ] {
        assert_eq!(resolve(&text).unwrap(), bare, "{text}");
    }
    let manifests = Manifests::parse(
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80}]}}",
    );
    let policy = manifests.unwrap().resolve("a.default").unwrap();
    assert_eq!(policy.parent.to_string(), "service.default.a:80");
}

#[test]
fn many_documents() {
    let mut text = String::new();
    for i in 0..3_000 {
        text += &format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{i}}}\nspec: {{ports: [{{port: 80}}]}}\n"
        );
    }
    let manifests = Manifests::parse(&text).unwrap();
    assert!(manifests.resolve("s2999.default:80").is_ok());
}
