//! What filters, conditions and response classes do to real calls: from the manifest to the endpoint and back.
#![cfg(all(feature = "kubernetes", feature = "linkerd"))]

mod support;

use http::{Method, Request, StatusCode};
use support::{Mesh, Reply, address, ejected, get, ms, ok};
use tower_mesh::policy::{
    ClientPolicy, FailureAccrual, Fidelity, GrpcFilter, InjectGrpcFailure, MatchPath, MatchRequest,
    Protocol, Ratio, StatusRanges,
};
use tower_mesh::source::kubernetes::Manifests;
use tower_mesh::source::linkerd;
use tower_mesh::source::linkerd::api::outbound::{grpc_route, http_route, proxy_protocol};
use tower_mesh::{Body, Client, Error, ErrorKind};

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{port: 80}]}\n";

/// `web.shop` with an HTTPRoute of these rules.
fn route(group: &str, rules: &str) -> Manifests {
    let text = format!(
        "{SERVICE}---\napiVersion: {group}\nkind: HTTPRoute\nmetadata: {{name: r, namespace: shop}}\n\
         spec: {{parentRefs: [{{name: web, kind: Service, group: core}}], rules: [{rules}]}}\n"
    );
    Manifests::parse(&text).unwrap()
}

/// `web.shop` with a profile of these routes.
fn profile(routes: &str) -> Manifests {
    let text = format!(
        "{SERVICE}---\napiVersion: linkerd.io/v1alpha2\nkind: ServiceProfile\n\
         metadata: {{name: web.shop.svc.cluster.local, namespace: shop}}\nspec: {{routes: [{routes}]}}\n"
    );
    Manifests::parse(&text).unwrap()
}

const GATEWAY: &str = "gateway.networking.k8s.io/v1";

fn client(policy: ClientPolicy, mesh: &Mesh) -> Client {
    Client::builder(policy)
        .seed(7)
        .endpoints([address(1)])
        .build(mesh.connect())
        .unwrap()
}

fn of(manifests: &Manifests, mesh: &Mesh) -> Client {
    client(manifests.resolve("web.shop:80").unwrap(), mesh)
}

async fn call(client: &Client, method: Method, path: &str) -> Result<http::Response<Body>, Error> {
    let request = Request::builder()
        .method(method)
        .uri(format!("http://web.shop{path}"))
        .header("x-old", "1")
        .header("x-more", "1");
    client.request(request.body(Body::empty()).unwrap()).await
}

#[tokio::test(start_paused = true)]
async fn header_changes_of_a_route_and_of_a_backend() {
    let reply = http::Response::builder()
        .header("y-old", "1")
        .header("y-more", "1");
    let reply = std::sync::Arc::new(reply.body(bytes::Bytes::new()).unwrap());
    let mesh = Mesh::new(move |_, _| Reply::Full(reply.clone(), ms(1)));
    let change = |which: &str, header: &str| {
        let modifier = format!("{}{}Modifier", which[..1].to_ascii_lowercase(), &which[1..]);
        format!(
            "{{type: {which}Modifier, {modifier}: {{add: [{{name: {header}, value: a}}, {{name: {0}-more, value: a}}], \
             set: [{{name: {header}, value: b}}], remove: [{0}-old]}}}}",
            &header[..1]
        )
    };
    let (request, response) = (
        change("RequestHeader", "x-new"),
        change("ResponseHeader", "y-new"),
    );
    let on_rule = format!("{{filters: [{request}, {response}]}}");
    let on_backend =
        format!("{{backendRefs: [{{name: web, port: 80, filters: [{request}, {response}]}}]}}");
    for rules in [on_rule, on_backend] {
        let manifests = route(GATEWAY, &rules);
        // That something is added in vain is told, on each side.
        let said = manifests.diagnostics().iter().map(|said| &said.message);
        let said: Vec<_> = said.collect();
        let vain = |header| format!("{header} has no effect: it is in set, which comes after");
        assert_eq!(said, [&vain("x-new"), &vain("y-new")]);
        let answer = call(&of(&manifests, &mesh), Method::GET, "/")
            .await
            .unwrap();
        let seen = mesh.seen().pop().unwrap();
        for (side, headers) in [("x", &seen.headers), ("y", answer.headers())] {
            let values = |name| -> Vec<_> {
                let values = headers.get_all(format!("{side}-{name}"));
                values.iter().cloned().collect()
            };
            // Add, then set, then remove; what is added stands beside what was there.
            assert_eq!(values("new"), ["b"]);
            assert_eq!(values("more"), ["1", "a"]);
            assert!(values("old").is_empty());
        }
    }
    // Linkerd's own HTTPRoute changes the request where the response is meant, and says so.
    let manifests = route(
        "policy.linkerd.io/v1beta3",
        &format!("{{filters: [{response}]}}"),
    );
    let said = manifests.diagnostics()[0].to_string();
    assert!(said.contains("changes the request's headers"), "{said}");
    let answer = call(&of(&manifests, &mesh), Method::GET, "/")
        .await
        .unwrap();
    assert!(!answer.headers().contains_key("y-new") && answer.headers().contains_key("y-old"));
    assert!(mesh.seen().pop().unwrap().headers.contains_key("y-new"));
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_answered_in_place_of_an_endpoint() {
    let mesh = Mesh::new(|_, _| ok());
    let redirect = "{matches: [{path: {value: /old}}], filters: [{type: RequestRedirect, requestRedirect: {scheme: https, \
                    port: 8443, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}, statusCode: 301}}]}";
    let manifests = route(GATEWAY, redirect);
    assert_eq!(manifests.diagnostics(), []);
    let client = of(&manifests, &mesh);
    let error = call(&client, Method::GET, "/old/a?b").await.unwrap_err();
    let expected = ErrorKind::Redirect {
        status: StatusCode::MOVED_PERMANENTLY,
        location: "https://web.shop:8443/new/a?b".parse().unwrap(),
    };
    assert_eq!(error.kind(), &expected);
    assert!(mesh.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn failures_are_injected_by_the_seed() {
    // A backend that is not there keeps its share, and fails it.
    let rules =
        "{backendRefs: [{name: web, port: 80, weight: 3}, {name: gone, port: 80, weight: 1}]}";
    let run = async || {
        let mesh = Mesh::new(|_, _| ok());
        let manifests = route(GATEWAY, rules).fidelity(Fidelity::Mesh);
        let client = of(&manifests, &mesh);
        let mut failed = Vec::new();
        for number in 0..400 {
            if let Err(error) = call(&client, Method::GET, "/").await {
                assert!(
                    error.to_string().contains("Service not found gone"),
                    "{error}"
                );
                failed.push(number);
            }
        }
        (failed, mesh.seen().len())
    };
    let (failed, seen) = run().await;
    assert_eq!(failed.len() + seen, 400);
    assert!((70..130).contains(&failed.len()), "{}", failed.len());
    assert_eq!(run().await.0, failed);
    // A part of the calls, written in Rust: the same of each run, too.
    let run = async || {
        let mesh = Mesh::new(|_, _| ok());
        let mut policy = ClientPolicy::grpc().build().unwrap();
        let Protocol::Grpc(grpc) = &mut policy.protocol else {
            panic!()
        };
        let some = InjectGrpcFailure::new(14, "chaos", Ratio::percent(25)).unwrap();
        let filters = &mut grpc.routes[0].rules[0].policy.filters;
        filters.push(GrpcFilter::InjectFailure(some));
        let client = client(policy, &mesh);
        let mut failed = Vec::new();
        for number in 0..400 {
            if let Err(error) = call(&client, Method::POST, "/a/b").await {
                let chaos = ErrorKind::StatusInjected {
                    code: 14,
                    message: "chaos".into(),
                };
                assert_eq!(error.kind(), &chaos);
                failed.push(number);
            }
        }
        failed
    };
    let failed = run().await;
    assert!((70..130).contains(&failed.len()), "{}", failed.len());
    assert_eq!(run().await, failed);
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_nobody_knows_is_an_internal_error_of_its_rule_alone() {
    let mesh = Mesh::new(|_, _| ok());
    let rules = "{matches: [{path: {value: /a}}]}, {matches: [{path: {value: /b}}]}";
    let manifests = route(GATEWAY, rules).fidelity(Fidelity::Mesh);
    let mut message = linkerd::write(&manifests.resolve("web.shop:80").unwrap()).message;
    let protocol = message.protocol.as_mut().unwrap().kind.as_mut().unwrap();
    let proxy_protocol::Kind::Detect(detect) = protocol else {
        panic!()
    };
    let unknown = http_route::Filter { kind: None };
    let rules = &mut detect.http1.as_mut().unwrap().routes[0].rules;
    rules[0].filters.push(unknown);
    let read = linkerd::read(message);
    assert!(
        read.problems[0]
            .path
            .ends_with("http1.routes[0].rules[0].filters[0].kind"),
        "{:?}",
        read.problems
    );
    let client_ = client(read.policy, &mesh);
    let error = call(&client_, Method::GET, "/a").await.unwrap_err();
    let ErrorKind::FailureInjected { status, .. } = error.kind() else {
        panic!("{error}")
    };
    assert_eq!(status.as_u16(), 500);
    assert!(mesh.seen().is_empty());
    call(&client_, Method::GET, "/b").await.unwrap();

    let policy = ClientPolicy::grpc().named("web").build().unwrap();
    let mut message = linkerd::write(&policy).message;
    let protocol = message.protocol.as_mut().unwrap().kind.as_mut().unwrap();
    let proxy_protocol::Kind::Grpc(grpc) = protocol else {
        panic!()
    };
    let unknown = grpc_route::Filter { kind: None };
    grpc.routes[0].rules[0].filters.push(unknown);
    let client_ = client(linkerd::read(message).policy, &mesh);
    let error = call(&client_, Method::POST, "/a/b").await.unwrap_err();
    let ErrorKind::StatusInjected { code, .. } = error.kind() else {
        panic!("{error}")
    };
    assert_eq!(*code, 13);
}

#[tokio::test(start_paused = true)]
async fn what_the_mesh_refuses_is_told_and_not_done() {
    let mesh = Mesh::new(|_, _| ok());
    let rewrite = "{filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /b}}}]}";
    let mirror =
        "{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: web, port: 80}}}]}";
    for (rules, word) in [(rewrite, "URLRewrite"), (mirror, "RequestMirror")] {
        let manifests = route(GATEWAY, rules).fidelity(Fidelity::Mesh);
        let said = manifests.diagnostics()[0].to_string();
        assert!(
            said.contains(word) && said.contains("whole route"),
            "{said}"
        );
        let before = mesh.seen().len();
        let client = of(&manifests, &mesh);
        call(&client, Method::GET, "/a").await.unwrap();
        // As it was asked for, and once.
        assert_eq!(mesh.seen().len(), before + 1);
        assert_eq!(mesh.seen().pop().unwrap().uri.path(), "/a");
    }
}

#[tokio::test(start_paused = true)]
async fn classes_of_a_profile_say_what_is_retried_and_what_is_not() {
    let routes = "{name: a, condition: {pathRegex: '/a', not: {method: POST}}, isRetryable: true, responseClasses: [\
                  {condition: {status: {min: 503, max: 503}}}, {condition: {status: {min: 429, max: 429}}, isFailure: true}]}, \
                  {name: rest, condition: {all: []}, isRetryable: true}";
    // Path, method, what comes first, and how often it is asked.
    let cases = [
        ("/a", Method::GET, 429, 2),
        ("/a", Method::GET, 503, 1),
        ("/a", Method::GET, 500, 2),
        ("/a", Method::POST, 429, 1),
        ("/a", Method::POST, 503, 2),
        ("/b", Method::GET, 429, 1),
    ];
    for fidelity in [Fidelity::Mesh, Fidelity::Extended] {
        for (path, method, first, asked) in &cases {
            let first = *first;
            let mesh = Mesh::new(move |_, before| match before {
                0 => Reply::Status(first, ms(1)),
                _ => ok(),
            });
            let manifests = profile(routes).fidelity(fidelity);
            assert_eq!(manifests.diagnostics(), []);
            let client = of(&manifests, &mesh);
            let answer = call(&client, method.clone(), path).await.unwrap();
            let status = if *asked == 1 { first } else { 200 };
            assert_eq!(
                (answer.status(), mesh.seen().len()),
                (StatusCode::from_u16(status).unwrap(), *asked)
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn classes_decide_for_the_breaker_of_their_route() {
    let build = |path: &str| {
        let mut policy = ClientPolicy::http()
            .failure_accrual(FailureAccrual::consecutive(3))
            .build()
            .unwrap();
        let Protocol::Detect { http1, .. } = &mut policy.protocol else {
            panic!()
        };
        let mut rule = http1.routes[0].rules[0].clone();
        rule.matches = vec![MatchRequest {
            path: Some(MatchPath::exact(path).unwrap()),
            ..MatchRequest::default()
        }];
        rule.policy.params.classes.failures = StatusRanges::try_new([404..=404]).unwrap();
        rule.policy.params.classes.successes = StatusRanges::try_new([500..=500]).unwrap();
        http1.routes[0].rules.insert(0, rule);
        policy
    };
    for (route, status, out) in [
        ("/", 404, true),
        ("/", 500, false),
        ("/other", 404, false),
        ("/other", 500, true),
    ] {
        let mesh = Mesh::new(move |_, _| Reply::Status(status, ms(1)));
        let client = client(build(route), &mesh);
        for _ in 0..3 {
            client.request(get()).await.unwrap();
        }
        assert_eq!(ejected(&client) > 0, out, "{status} of {route}");
    }
}
