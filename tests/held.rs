//! gRPC responses that are held back for the code in their trailers: how long, and what becomes of them. Scripted endpoints in
//! virtual time.

mod support;

use std::time::Duration;

use http::Response;
use http_body::Frame;
use http_body_util::BodyExt;
use support::frames::{
    Answering, Frames, Part, attempts, client, grpc, grpc_answers, message, observed,
    on_unavailable, post, retrying, trailers,
};
use support::{Log, ms, s};
use tokio::time::Instant;
use tower_mesh::policy::{
    Budget, ClientPolicy, Codes, FailureAccrual, Fidelity, Hedge, MethodKind, Retry, Timeouts,
    Trailers,
};
use tower_mesh::{Body, Client, Error, ErrorKind, RequestOptions};

#[tokio::test(start_paused = true)]
async fn the_table_of_held_responses() {
    use MethodKind::{Auto, Streaming, Unary};
    let m = || message(4);
    // What the endpoint does first; as which method; attempts, when the head was handed over, and codes too late.
    let rows: Vec<(&str, Frames, MethodKind, u32, Duration, u64)> = vec![
        (
            "trailers alone",
            Frames::new().status(ms(0), "14"),
            Auto,
            2,
            ms(0),
            0,
        ),
        (
            "trailers in time",
            Frames::new().status(ms(9), "14"),
            Auto,
            2,
            ms(9),
            0,
        ),
        (
            "trailers late",
            Frames::new().status(ms(11), "14"),
            Auto,
            1,
            ms(10),
            1,
        ),
        (
            "message and trailers",
            Frames::new().data(ms(9), m()).status(ms(9), "14"),
            Auto,
            2,
            ms(18),
            0,
        ),
        (
            "message, trailers late",
            Frames::new().data(ms(9), m()).status(ms(11), "14"),
            Auto,
            1,
            ms(19),
            1,
        ),
        (
            "another code",
            Frames::new().data(ms(9), m()).status(ms(9), "5"),
            Auto,
            1,
            ms(18),
            0,
        ),
        (
            "another code late",
            Frames::new().status(ms(11), "5"),
            Auto,
            1,
            ms(10),
            0,
        ),
        (
            "two messages",
            Frames::new()
                .data(ms(1), m())
                .data(ms(1), m())
                .status(ms(0), "14"),
            Auto,
            1,
            ms(2),
            1,
        ),
        (
            "two at once",
            Frames::new()
                .data(ms(1), [m(), m()].concat())
                .status(ms(0), "14"),
            Auto,
            1,
            ms(1),
            1,
        ),
        (
            "in parts",
            Frames::new()
                .data(ms(5), m().slice(..3))
                .data(ms(9), m().slice(3..))
                .status(ms(9), "14"),
            Auto,
            2,
            ms(23),
            0,
        ),
        (
            "in parts that drip",
            Frames::new()
                .data(ms(5), m().slice(..3))
                .data(ms(9), m().slice(3..4))
                .data(ms(9), m().slice(4..))
                .status(ms(0), "14"),
            Auto,
            1,
            ms(15),
            1,
        ),
        (
            "reset",
            Frames::new().data(ms(5), m()).with(ms(3), Part::Error),
            Auto,
            2,
            ms(8),
            0,
        ),
        (
            "no trailers",
            Frames::new().data(ms(5), m()).end(ms(3)),
            Auto,
            1,
            ms(8),
            0,
        ),
        (
            "unary",
            Frames::new().data(ms(500), m()).status(ms(500), "14"),
            Unary,
            2,
            ms(1000),
            0,
        ),
        (
            "unary and fine",
            Frames::new().data(ms(500), m()).status(ms(500), "0"),
            Unary,
            1,
            ms(1000),
            0,
        ),
        (
            "unary over the limit",
            Frames::new()
                .data(ms(500), message(96))
                .status(ms(500), "14"),
            Unary,
            1,
            ms(500),
            1,
        ),
        (
            "unary at the limit",
            Frames::new()
                .data(ms(500), message(95))
                .status(ms(500), "14"),
            Unary,
            2,
            ms(1000),
            0,
        ),
        (
            "streaming",
            Frames::new().status(ms(0), "14"),
            Streaming,
            1,
            ms(0),
            0,
        ),
    ];
    for (name, first, method, expected, head_at, late) in rows {
        for by_route in [true, false] {
            let retry = on_unavailable().max_request_bytes(100);
            let policy = if by_route {
                retrying(retry).kind(method)
            } else {
                retrying(retry)
            };
            let client = client(policy, 2, grpc_answers(first.clone()));
            let start = Instant::now();
            let response = client
                .request(grpc((!by_route).then_some(method)))
                .await
                .unwrap();
            assert_eq!(
                (attempts(&response), (Instant::now() - start)),
                (expected, head_at),
                "{name}"
            );
            let mut body = response.into_body();
            let mut read = Vec::new();
            let mut end = None;
            while let Some(frame) = body.frame().await {
                match frame.map(Frame::into_data) {
                    Ok(Ok(data)) => read.extend(data),
                    Ok(Err(trailers)) => end = trailers.into_trailers().ok(),
                    Err(error) => {
                        let error: &Error = error.downcast_ref().unwrap();
                        let missing =
                            (name, error.kind()) == ("no trailers", &ErrorKind::Truncated);
                        assert!(missing, "{name}: {error}");
                    }
                }
            }
            drop(body);
            if expected == 1 {
                // Nothing of what was held is lost, twice, or out of order.
                let sent: Vec<u8> = first
                    .frames
                    .iter()
                    .filter_map(|(_, frame)| match frame {
                        Some(Part::Data(bytes)) => Some(bytes.to_vec()),
                        _ => None,
                    })
                    .flatten()
                    .collect();
                assert_eq!(read, sent, "{name}");
            } else {
                assert_eq!(end.unwrap()["grpc-status"], "0", "{name}");
            }
            let snapshot = client.snapshot();
            assert_eq!(
                (snapshot.trailers_too_late, snapshot.in_flight),
                (late, 0),
                "{name}"
            );
            assert!(
                snapshot.endpoints().all(|endpoint| endpoint.pending == 0),
                "{name}"
            );
            assert_eq!(first.alive(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_waits_are_settings() {
    let trailers = Trailers::default().first_frame(ms(100)).next_frame(ms(50));
    let first = Frames::new().data(ms(90), message(1)).status(ms(40), "14");
    let client = client(
        retrying(on_unavailable().trailers(trailers)),
        2,
        grpc_answers(first),
    );
    let response = client.request(grpc(None)).await.unwrap();
    assert_eq!(attempts(&response), 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_else_is_held() {
    let slow = || Frames::new().data(ms(5), message(1)).status(ms(3), "14");
    let plain = || post(Body::empty());
    let no_retries = || {
        let mut request = grpc(None);
        request
            .extensions_mut()
            .insert(RequestOptions::new().no_retries());
        request
    };
    let unknown = || {
        let mut request = grpc(None);
        *request.body_mut() = Body::from(vec![7; 200]);
        request
    };
    let cases = [
        ("no codes", retrying(Retry::on(503..=503)), grpc(None)),
        ("no retries", ClientPolicy::http(), grpc(None)),
        ("not gRPC", retrying(on_unavailable()), plain()),
        (
            "this request is not retried",
            retrying(on_unavailable()),
            no_retries(),
        ),
        (
            "its body is too large",
            retrying(on_unavailable().max_request_bytes(100)),
            unknown(),
        ),
    ];
    for (name, policy, request) in cases {
        let client = client(policy, 2, grpc_answers(slow()));
        let start = Instant::now();
        let response = client.request(request).await.unwrap();
        assert_eq!(
            (attempts(&response), (Instant::now() - start)),
            (1, ms(0)),
            "{name}"
        );
    }
    // Nor the head of the last try.
    let always = |_, _, _| -> Answering {
        let body = Frames::new()
            .data(ms(5), message(1))
            .status(ms(3), "14")
            .body();
        Box::pin(async move { Ok(Response::new(body)) })
    };
    let client = client(retrying(on_unavailable()), 2, always);
    let start = Instant::now();
    let response = client.request(grpc(None)).await.unwrap();
    assert_eq!((attempts(&response), (Instant::now() - start)), (2, ms(8)));
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "14");
}

#[tokio::test(start_paused = true)]
async fn frames_with_nothing_in_them_do_not_hold_it_for_ever() {
    for method in [MethodKind::Auto, MethodKind::Unary] {
        for fidelity in [Fidelity::Extended, Fidelity::Mesh] {
            let empty = |_, _, _| -> Answering {
                let frame = || Ok::<_, std::io::Error>(http_body::Frame::data(bytes::Bytes::new()));
                let frames = tokio_stream::iter(std::iter::repeat_with(frame));
                let body = Body::new(http_body_util::StreamBody::new(frames));
                Box::pin(async move { Ok(Response::new(body)) })
            };
            let client = client(retrying(on_unavailable()).fidelity(fidelity), 2, empty);
            let response = client.request(grpc(Some(method))).await.unwrap();
            assert_eq!(attempts(&response), 1);
        }
    }
    // Nor are they the first frame.
    let first = Frames::new()
        .data(ms(5), "")
        .data(ms(6), message(1))
        .status(ms(0), "14");
    let client = client(retrying(on_unavailable()), 2, grpc_answers(first));
    let start = Instant::now();
    let response = client.request(grpc(None)).await.unwrap();
    assert_eq!((attempts(&response), Instant::now() - start), (1, ms(10)));
}

#[tokio::test(start_paused = true)]
async fn the_mesh_waits_for_the_first_frame_and_looks_once_more() {
    let rows = [
        (Frames::new().status(s(5), "14"), 2, s(5)),
        (
            Frames::new().data(s(5), message(1)).status(ms(0), "14"),
            2,
            s(5),
        ),
        (
            Frames::new().data(s(5), message(1)).status(ms(1), "14"),
            1,
            s(5),
        ),
    ];
    for (first, expected, head_at) in rows {
        let policy = retrying(on_unavailable()).fidelity(Fidelity::Mesh);
        let client = client(policy, 2, grpc_answers(first));
        let start = Instant::now();
        // As whatever the mesh does not ask for.
        let response = client
            .request(grpc(Some(MethodKind::Streaming)))
            .await
            .unwrap();
        assert_eq!(
            (attempts(&response), (Instant::now() - start)),
            (expected, head_at)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_held_back_has_its_limits_in_time() {
    let stalls = Frames::new().data(ms(0), message(1)).status(s(60), "0");
    let policy = |timeouts| {
        retrying(on_unavailable())
            .kind(MethodKind::Unary)
            .timeouts(timeouts)
    };
    let idle = Timeouts {
        idle: Some(ms(300)),
        ..Timeouts::default()
    };
    let response = Timeouts {
        response: Some(ms(400)),
        ..Timeouts::default()
    };
    for (timeouts, kind, after) in [
        (
            Timeouts::request(ms(500)),
            ErrorKind::RequestTimeout,
            ms(500),
        ),
        (idle, ErrorKind::IdleTimeout, ms(300)),
        (response, ErrorKind::ResponseTimeout, ms(400)),
    ] {
        let client = client(policy(timeouts), 2, grpc_answers(stalls.clone()));
        let start = Instant::now();
        let error: Error = client.request(grpc(None)).await.unwrap_err();
        assert_eq!((error.kind(), (Instant::now() - start)), (&kind, after));
        assert!(error.endpoint().is_some());
        let snapshot = client.snapshot();
        assert_eq!(snapshot.in_flight, 0);
        assert!(snapshot.endpoints().all(|endpoint| endpoint.pending == 0));
        assert_eq!(stalls.alive(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_code_in_trailers_is_judged_once_and_pays_as_it_should() {
    // A success that was held pays into the budget once; a code that is retried pays nothing, held or not.
    let now = |client: &Client| {
        let budget = &client.snapshot().budgets[0];
        (budget.deposits, budget.withdrawals)
    };
    let fails = || Frames::new().data(ms(1), message(1)).status(ms(30), "8");
    // RESOURCE_EXHAUSTED is retried here, and no failure of the endpoint's.
    let codes = Codes::of([Codes::RESOURCE_EXHAUSTED]).unwrap();
    let retry = Retry::never_on_status().codes(codes).no_backoff();
    for (method, after_head, after_end) in [
        (MethodKind::Unary, (0, 1), (1, 1)),
        (MethodKind::Auto, (0, 0), (0, 0)),
    ] {
        let client = client(retrying(retry.clone()), 2, grpc_answers(fails()));
        let response = client.request(grpc(Some(method))).await.unwrap();
        assert_eq!(now(&client), after_head, "{method:?}");
        response.into_body().collect().await.unwrap();
        assert_eq!(now(&client), after_end, "{method:?}");
        // One that succeeds: paid when its trailers are here, once.
        let response = client.request(grpc(Some(method))).await.unwrap();
        assert_eq!(now(&client), (after_end.0 + 1, after_end.1), "{method:?}");
        response.into_body().collect().await.unwrap();
        assert_eq!(now(&client), (after_end.0 + 1, after_end.1), "{method:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_held_trailers_trips_the_breaker() {
    let policy =
        retrying(on_unavailable().limit(1)).failure_accrual(FailureAccrual::consecutive(1));
    let log = Log::default();
    let fails = Frames::new().data(ms(1), message(1)).status(ms(1), "14");
    let client = observed(policy, 2, &log, grpc_answers(fails));
    client.request(grpc(None)).await.unwrap();
    assert_eq!(log.count("opened"), 1);
    let late = Frames::new().status(ms(50), "14");
    let log = Log::default();
    let client = observed(retrying(on_unavailable()), 2, &log, grpc_answers(late));
    client.request(grpc(None)).await.unwrap();
    assert_eq!(log.count("handed_over"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_success_known_at_the_end_pays_all_that_it_should() {
    // Hedges have a budget of their own. Held or not, with retries or without: each gets its part, once.
    let hedge = Hedge::after(s(1)).budget(Budget::percent(1));
    let succeeds = || Frames::new().data(ms(1), message(1)).status(ms(30), "0");
    let alone = ClientPolicy::http();
    for (policy, method, deposits) in [
        (retrying(on_unavailable()), MethodKind::Unary, vec![1, 1]),
        (retrying(on_unavailable()), MethodKind::Auto, vec![1, 1]),
        (
            retrying(on_unavailable()),
            MethodKind::Streaming,
            vec![1, 1],
        ),
        (alone, MethodKind::Unary, vec![1]),
    ] {
        let client = client(policy.hedge(hedge), 2, grpc_answers(succeeds()));
        let mut request = grpc(Some(method));
        let options = RequestOptions::new().method(method).safe_to_repeat();
        request.extensions_mut().insert(options);
        let response = client.request(request).await.unwrap();
        response.into_body().collect().await.unwrap();
        let budgets = client.snapshot().budgets;
        let paid: Vec<_> = budgets.iter().map(|budget| budget.deposits).collect();
        assert_eq!(paid, deposits, "{method:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_without_a_status_is_told_held_or_not() {
    for first in [
        Frames::new().end(ms(1)),
        Frames::new().data(ms(1), message(1)).end(ms(1)),
        Frames::new()
            .data(ms(1), message(1))
            .with(ms(1), Part::Trailers(trailers("x-sum", "7"))),
    ] {
        for method in [MethodKind::Unary, MethodKind::Auto, MethodKind::Streaming] {
            let client = client(retrying(on_unavailable()), 2, grpc_answers(first.clone()));
            let response = client.request(grpc(Some(method))).await.unwrap();
            let error = response.into_body().collect().await.unwrap_err();
            let error: &Error = error.downcast_ref().unwrap();
            assert_eq!(*error.kind(), ErrorKind::Truncated, "{method:?}");
        }
    }
}
