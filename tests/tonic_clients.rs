//! tonic's clients run over a `Client` unchanged: all four kinds of calls, cloned for each, generated and written by hand.

mod grpc;

use bytes::{Buf, Bytes};
use grpc::{BOTH, BytesCodec, Over, Server, client, in_time, path, plain, server_of, unary};
use http::Uri;
use tokio_stream::StreamExt;
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::{Code, Request, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tower_mesh::client::BuildError;
use tower_mesh::policy::{
    ClientPolicy, Codes, GrpcFilter, InjectGrpcFailure, MatchHost, Method, Protocol, Queue, Ratio,
};
use tower_mesh::{Client, Served};

fn number(message: &Bytes) -> u64 {
    message.clone().get_u64()
}

fn numbers(count: u64) -> Bytes {
    Bytes::copy_from_slice(&count.to_be_bytes())
}

#[tokio::test]
async fn generated_clients_for_unary_and_streams() {
    for over in BOTH {
        let server = Server::start("one").await;
        let client = plain(over, &[server.address]);
        // A generated client that is cloned for each call, as people do.
        let health = HealthClient::new(client.clone());
        let service = |name: &str| HealthCheckRequest {
            service: name.to_owned(),
        };
        let checked = in_time(health.clone().check(service(""))).await.unwrap();
        assert_eq!(checked.get_ref().status, 1, "{over:?}");
        let served = checked.extensions().get::<Served>().unwrap();
        assert_eq!((served.endpoint, served.attempts), (server.address, 1));
        let unknown = in_time(health.clone().check(service("nobody"))).await;
        assert_eq!(unknown.unwrap_err().code(), Code::NotFound);

        // A stream from the server, which lasts until it is dropped.
        let mut watch = in_time(health.clone().watch(service(""))).await.unwrap();
        let first = in_time(watch.get_mut().message()).await.unwrap().unwrap();
        assert_eq!(first.status, 1);
        let not_serving = ServingStatus::NotServing;
        server.health.set_service_status("", not_serving).await;
        let second = in_time(watch.get_mut().message()).await.unwrap().unwrap();
        assert_eq!(second.status, 2);
        assert_eq!(client.snapshot().in_flight, 1);
        drop(watch);
        assert_eq!(client.snapshot().in_flight, 0);

        // Both directions.
        let mut reflection = ServerReflectionClient::new(client.clone());
        let list = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let asked = tokio_stream::iter([list.clone(), list]);
        let answers = in_time(reflection.server_reflection_info(asked))
            .await
            .unwrap();
        let answers: Vec<_> = in_time(answers.into_inner().collect()).await;
        assert_eq!(answers.len(), 2);
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert_eq!(client.snapshot().in_flight, 0);
    }
}

#[tokio::test]
async fn all_four_kinds_by_hand() {
    for over in BOTH {
        let server = Server::start("one").await;
        let mut grpc = Grpc::new(plain(over, &[server.address]));
        in_time(async {
            let request = Request::new(Bytes::from_static(b"hello"));
            let answer = grpc
                .unary(request, path("/test.Echo/Unary"), BytesCodec)
                .await;
            assert_eq!(answer.unwrap().get_ref(), "hello");

            let request = Request::new(numbers(1000));
            let answer = grpc
                .server_streaming(request, path("/test.Echo/Count"), BytesCodec)
                .await;
            let counted = answer.unwrap().into_inner().map(|n| number(&n.unwrap()));
            assert!(counted.collect::<Vec<_>>().await.into_iter().eq(0..1000));

            let messages = || tokio_stream::iter((0..1000).map(numbers));
            let request = Request::new(messages());
            let answer = grpc
                .client_streaming(request, path("/test.Echo/Sum"), BytesCodec)
                .await;
            assert_eq!(number(answer.unwrap().get_ref()), 1000);

            let request = Request::new(messages());
            let answer = grpc
                .streaming(request, path("/test.Echo/Both"), BytesCodec)
                .await;
            let echoed = answer.unwrap().into_inner().map(|n| number(&n.unwrap()));
            assert!(echoed.collect::<Vec<_>>().await.into_iter().eq(0..1000));
        })
        .await;
    }
}

#[tokio::test]
async fn compression_metadata_interceptors_and_limits() {
    for over in BOTH {
        let server = Server::start("one").await;
        let client = plain(over, &[server.address]);
        let authorize = |mut request: Request<()>| {
            let token = MetadataValue::from_static("Bearer x");
            request.metadata_mut().insert("authorization", token);
            Ok::<_, Status>(request)
        };
        let intercepted = InterceptedService::new(client.clone(), authorize);
        let mut grpc = Grpc::new(intercepted)
            .send_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Gzip);
        let large = Bytes::from(vec![b'a'; 100_000]);
        let mut request = Request::new(large.clone());
        let metadata = request.metadata_mut();
        metadata.insert("x-text", MetadataValue::from_static("plain"));
        metadata.insert_bin("x-data-bin", MetadataValue::from_bytes(&[0, 255, b'\n']));
        let answer = in_time(grpc.unary(request, path("/test.Echo/Unary"), BytesCodec)).await;
        let answer = answer.unwrap();
        assert_eq!(answer.get_ref(), &large);
        let metadata = answer.metadata();
        assert_eq!(metadata.get("x-text").unwrap(), "plain");
        assert_eq!(metadata.get("authorization").unwrap(), "Bearer x");
        assert_eq!(metadata.get("grpc-encoding").unwrap(), "gzip");
        let data = metadata.get_bin("x-data-bin").unwrap().to_bytes().unwrap();
        assert_eq!(&data[..], [0, 255, b'\n']);

        // An interceptor that refuses: nothing is sent.
        let refuse = |_: Request<()>| Err(Status::unauthenticated("who are you?"));
        let refused = InterceptedService::new(client.clone(), refuse);
        let error = in_time(unary(refused, "/test.Echo/Unary", b"x"))
            .await
            .unwrap_err();
        assert_eq!(
            (error.code(), error.message()),
            (Code::Unauthenticated, "who are you?")
        );

        // The caller's own limit: its fault, and it leaves nothing behind.
        let mut small = Grpc::new(client.clone()).max_decoding_message_size(1000);
        let request = Request::new(large);
        let error = in_time(small.unary(request, path("/test.Echo/Unary"), BytesCodec)).await;
        assert_eq!(error.unwrap_err().code(), Code::OutOfRange);
        assert_eq!(client.snapshot().in_flight, 0);
    }
}

#[tokio::test]
async fn what_names_no_host_is_for_the_target() {
    let server = Server::start("one").await;
    // Routes see the authority that was filled in.
    let policy = |named: &str, host: &str| {
        let mut policy = ClientPolicy::grpc().named(named).build().unwrap();
        let Protocol::Grpc(grpc) = &mut policy.protocol else {
            panic!()
        };
        grpc.routes[0].hosts = vec![MatchHost::parse(host).unwrap()];
        policy
    };
    let build = |policy, origin: Option<&'static str>| {
        let builder = Client::builder(policy).endpoints([server.address]);
        let builder = match origin {
            Some(origin) => builder.origin(Uri::from_static(origin)),
            None => builder,
        };
        builder.build_grpc()
    };
    for (named, host, origin, found) in [
        ("payments.shop:50051", "payments.shop", None, true),
        ("payments.shop:50051", "other.shop", None, false),
        // Nobody knows what it is for.
        ("payments", "payments", None, false),
        (
            "payments",
            "payments.shop",
            Some("http://payments.shop"),
            true,
        ),
        (
            "payments.shop:1",
            "other.shop",
            Some("https://other.shop:1"),
            true,
        ),
    ] {
        let client = build(policy(named, host), origin).unwrap();
        let answer = in_time(unary(client, "/test.Echo/Unary", b"x")).await;
        let code = answer.map_or_else(|status| status.code(), |_| Code::Ok);
        let expected = if found { Code::Ok } else { Code::NotFound };
        assert_eq!(code, expected, "{named} {host} {origin:?}");
    }
    // A generated client that has an origin keeps it.
    let client = build(policy("payments.shop:1", "mine.shop"), None).unwrap();
    let origin = Uri::from_static("http://mine.shop");
    let mut health = HealthClient::with_origin(client, origin);
    in_time(health.check(HealthCheckRequest::default()))
        .await
        .unwrap();

    let no_host = build(policy("a", "a"), Some("/path"));
    assert!(matches!(no_host, Err(BuildError::Origin { .. })));
}

#[tokio::test]
async fn methods_have_settings_of_their_own() {
    let server = Server::start("one").await;
    let mut policy = ClientPolicy::grpc()
        .method("test.Echo/Unary", Method::new().unary())
        .service("grpc.health.v1.Health", Method::new())
        .build()
        .unwrap();
    let Protocol::Grpc(grpc) = &mut policy.protocol else {
        panic!()
    };
    let filter = |code, text: &str| {
        let failure = InjectGrpcFailure::new(code, text, Ratio::ONE).unwrap();
        GrpcFilter::InjectFailure(failure)
    };
    let rules = &mut grpc.routes[0].rules;
    rules[0]
        .policy
        .filters
        .push(filter(Codes::ABORTED, "Unary"));
    rules[2]
        .policy
        .filters
        .push(filter(Codes::DATA_LOSS, "rest"));
    let client = client(Over::Hyper, policy, &[server.address]);
    let call = |to| in_time(unary(client.clone(), to, b"\0\0\0\0\0\0\0\x01"));
    let aborted = call("/test.Echo/Unary").await.unwrap_err();
    assert_eq!(aborted.code(), Code::Aborted);
    assert_eq!(
        aborted.message(),
        "the policy fails the request on purpose: Unary (ABORTED)"
    );
    let rest = call("/test.Echo/Count").await.unwrap_err();
    assert_eq!(rest.code(), Code::DataLoss);
    let mut health = HealthClient::new(client.clone());
    let request = HealthCheckRequest::default();
    assert!(in_time(health.check(request)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_calls_at_once() {
    for over in BOTH {
        let servers = [
            Server::start("a").await,
            Server::start("b").await,
            Server::start("c").await,
        ];
        let addresses = servers.each_ref().map(|server| server.address);
        // However slow the machine is.
        let queue = Queue {
            capacity: 10_000,
            failfast_timeout: grpc::STUCK,
        };
        let policy = ClientPolicy::grpc().queue(queue).build().unwrap();
        let client = client(over, policy, &addresses);
        let calls: Vec<_> = (0..10_000)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { unary(client, "/test.Echo/Unary", b"x").await })
            })
            .collect();
        let mut by_server = std::collections::BTreeMap::<String, usize>::new();
        for call in calls {
            let answer = in_time(call)
                .await
                .unwrap()
                .unwrap_or_else(|status| panic!("{over:?} {status:?}"));
            assert_eq!(answer.get_ref(), "x");
            *by_server.entry(server_of(&answer)).or_default() += 1;
        }
        assert_eq!(by_server.len(), 3, "{by_server:?}");
        assert_eq!(client.snapshot().in_flight, 0);
    }
}
