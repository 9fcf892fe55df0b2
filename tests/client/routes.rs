//! Which backend a request goes to, and what the request itself says about it.

use http::{Request, StatusCode};
use tower_mesh::discover::Endpoints;
use tower_mesh::policy::{
    Backend, BackendDispatcher, ClientPolicy, Filter, InjectFailure, MatchPath, MatchRequest, Meta,
    ModifyHeader, Queue, Ratio, RouteBackend, RouteDistribution, Timeouts,
};
use tower_mesh::{Body, Client, Endpoint, ErrorKind, RequestOptions};

use crate::backend;
use crate::retry;
use crate::support::routes::{policy_of, policy_to, rule};
use crate::support::{Mesh, Reply, address, addresses, get, ms, ok, s, served, with};

#[tokio::test(start_paused = true)]
async fn options_win_over_the_policy() {
    let mesh = Mesh::new(|at, _| {
        if at == address(1) {
            ok()
        } else {
            Reply::Status(503, ms(1))
        }
    });
    let policy = ClientPolicy::http()
        .retry(retry().limit(5))
        .timeouts(Timeouts::request(s(1)))
        .build()
        .unwrap();
    let client = mesh.client(policy, addresses(3));
    let call = |options| client.request(with(options));
    let response = call(RequestOptions::new().pin(address(2)).no_retries())
        .await
        .unwrap();
    assert_eq!(
        (
            response.status().as_u16(),
            served(&response).endpoint,
            served(&response).attempts
        ),
        (503, address(2), 1)
    );
    let response = call(RequestOptions::new().pin(address(2)).max_retries(2))
        .await
        .unwrap();
    assert_eq!(served(&response).attempts, 3);
    for _ in 0..20 {
        let response = call(RequestOptions::new().avoid(address(2)).avoid(address(3)))
            .await
            .unwrap();
        assert_eq!(served(&response).endpoint, address(1));
    }
    // To avoid all is to avoid none.
    let all = addresses(3)
        .into_iter()
        .fold(RequestOptions::new(), RequestOptions::avoid);
    assert!(call(all).await.is_ok());
    let error = call(RequestOptions::new().pin(address(9)).timeout(s(10)))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("10.0.0.9:80, which is none of its endpoints"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn backends_by_weight_and_those_that_can_serve() {
    let mesh = Mesh::with_failing(3, 500);
    let (v1, v2, v3) = (backend("v1"), backend("v2"), backend("v3"));
    let policy =
        policy_to(RouteDistribution::random_available([(v1, 3), (v2, 1), (v3, 1)]).unwrap());
    let client = Client::builder(policy)
        .endpoints_of("v1:80", [address(1)])
        .endpoints_of("v2.shop:80", [address(2)])
        .endpoints_of("v3", [address(3)])
        .seed(1)
        .build(mesh.connect())
        .unwrap();
    for _ in 0..800 {
        client.request(get()).await.unwrap();
    }
    assert!(
        mesh.count(address(3)) < 10,
        "ejected: {}",
        mesh.count(address(3))
    );
    let (v1, v2) = (mesh.count(address(1)), mesh.count(address(2)));
    assert!((540..660).contains(&v1) && v1 + v2 > 785, "{v1} {v2}");
}

#[tokio::test(start_paused = true)]
async fn a_backend_with_nobody_behind_it_keeps_its_share() {
    let mesh = Mesh::new(|_, _| ok());
    let failing = |message: &str| Backend {
        meta: Meta::service("shop", "gone", std::num::NonZeroU16::new(80))
            .unwrap()
            .into(),
        queue: Queue::default(),
        dispatcher: BackendDispatcher::Fail {
            message: message.to_owned(),
        },
    };
    let gone: RouteBackend = std::sync::Arc::new(failing("Service not found gone")).into();
    let policy =
        policy_to(RouteDistribution::random_available([(backend("v1"), 3), (gone, 1)]).unwrap());
    // Nobody is asked for its endpoints, and nobody waits for them.
    let client = Client::builder(policy)
        .endpoints_of("v1:80", [address(1)])
        .seed(1)
        .build(mesh.connect())
        .unwrap();
    client.ready(ms(1)).await.unwrap();
    let mut failed = 0;
    for _ in 0..400 {
        if let Err(error) = client.request(get()).await {
            failed += 1;
            let said = error.to_string();
            assert!(
                said.contains("Service not found gone") && said.contains("500"),
                "{said}"
            );
        }
    }
    assert!((70..130).contains(&failed), "{failed}");
    assert_eq!(mesh.count(address(1)), 400 - failed);
}

#[tokio::test(start_paused = true)]
async fn the_first_backend_that_can_serve() {
    let mesh = Mesh::with_failing(1, 500);
    let policy =
        policy_to(RouteDistribution::first_available([backend("v1"), backend("v2")]).unwrap());
    let client = Client::builder(policy)
        .endpoints_of("v1:80", [address(1)])
        .endpoints_of("v2:80", [address(2)])
        .build(mesh.connect())
        .unwrap();
    let status = async || client.request(get()).await.unwrap().status().as_u16();
    assert_eq!(
        (status().await, status().await, status().await),
        (500, 200, 200)
    );
}

#[tokio::test(start_paused = true)]
async fn routes_and_filters() {
    let mesh = Mesh::new(|_, _| ok());
    let modify = |name: &'static str| ModifyHeader {
        set: vec![(
            http::HeaderName::from_static(name),
            http::HeaderValue::from_static("1"),
        )],
        ..ModifyHeader::default()
    };
    let mut used = backend("v1");
    used.filters = vec![
        Filter::RequestHeaders(modify("x-backend")),
        Filter::ResponseHeaders(modify("y-backend")),
    ];
    let mut tagged = rule(RouteDistribution::first_available([used]).unwrap());
    tagged.matches = vec![MatchRequest {
        path: Some(MatchPath::prefix("/tagged").unwrap()),
        ..MatchRequest::default()
    }];
    tagged.policy.filters = vec![
        Filter::RequestHeaders(modify("x-rule")),
        Filter::ResponseHeaders(modify("y-rule")),
    ];
    let mut failing = rule(RouteDistribution::empty());
    failing.matches = vec![MatchRequest {
        path: Some(MatchPath::exact("/fail").unwrap()),
        ..MatchRequest::default()
    }];
    failing.policy.filters = vec![Filter::InjectFailure(
        InjectFailure::new(StatusCode::IM_A_TEAPOT, "tea", Ratio::ONE).unwrap(),
    )];
    let mut nowhere = rule(RouteDistribution::empty());
    nowhere.matches = vec![MatchRequest {
        path: Some(MatchPath::exact("/nowhere").unwrap()),
        ..MatchRequest::default()
    }];
    let client = mesh.client(policy_of(vec![tagged, failing, nowhere]), [address(1)]);
    let call = |path: &str| {
        client.request(
            Request::get(format!("http://web.shop{path}"))
                .body(Body::empty())
                .unwrap(),
        )
    };
    let response = call("/tagged/x").await.unwrap();
    assert!(
        response.headers().contains_key("y-rule") && response.headers().contains_key("y-backend")
    );
    let seen = &mesh.seen()[0];
    assert!(seen.headers.contains_key("x-rule") && seen.headers.contains_key("x-backend"));
    assert_eq!(seen.uri, "http://web.shop/tagged/x");
    let injected = ErrorKind::FailureInjected {
        status: StatusCode::IM_A_TEAPOT,
        message: "tea".into(),
    };
    assert_eq!(call("/fail").await.unwrap_err().kind(), &injected);
    assert_eq!(
        call("/nowhere").await.unwrap_err().kind(),
        &ErrorKind::NoBackend
    );
    assert_eq!(call("/").await.unwrap_err().kind(), &ErrorKind::NoRoute);
    assert_eq!(mesh.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_backend_without_weight_gets_nothing_and_one_alone_gets_all() {
    let mesh = Mesh::new(|_, _| ok());
    let refused = RouteDistribution::random_available([(backend("v1"), 0), (backend("v2"), 0)]);
    assert!(refused.is_err() && RouteDistribution::<Filter>::random_available([]).is_err());
    let client = |backends: Vec<(RouteBackend<_>, u32)>, first: Endpoints| {
        let spread = RouteDistribution::random_available(backends).unwrap();
        Client::builder(policy_to(spread))
            .endpoints_of("v1:80", first)
            .endpoints([address(2)])
            .build(mesh.connect())
            .unwrap()
    };
    let both = || vec![(backend("v1"), 7), (backend("v2"), 0)];
    let weighed = client(both(), [address(1)].into());
    let alone = client(vec![(backend("v1"), 7)], [address(1)].into());
    for _ in 0..100 {
        for client in [&weighed, &alone] {
            let response = client.request(get()).await.unwrap();
            assert_eq!(served(&response).endpoint, address(1));
        }
    }
    // Weight zero is out of the question, even where the other cannot serve; it is not even waited for.
    let none = client(both(), Vec::<Endpoint>::new().into());
    let error = none.request(get()).await.unwrap_err();
    assert_eq!(error.kind().name(), "no_endpoints");
    // One that has nobody is passed over, and does not speak for one that has.
    let passed = client(
        vec![(backend("v1"), 7), (backend("v2"), 1)],
        Vec::<Endpoint>::new().into(),
    );
    for _ in 0..100 {
        let response = passed.request(get()).await.unwrap();
        assert_eq!(served(&response).endpoint, address(2));
    }
}
