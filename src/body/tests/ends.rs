//! How a gRPC response's end is told, if it is no good end.

use std::time::Duration;

use http_body_util::BodyExt;

use super::*;
use crate::body::GrpcEnd;

fn end() -> GrpcEnd {
    GrpcEnd {
        in_trailers: true,
        status_due: true,
        once_begun: None,
        endpoint: ([10, 0, 0, 1], 80).into(),
        attempts: 2,
    }
}

fn acted(acts: &[Act], foretells: bool) -> Body {
    Body::from(Kind::Boxed(Box::pin(Acted {
        acts: acts.iter().cloned().collect(),
        foretells,
        hint: (0, None),
        dead: false,
    })))
}

fn grpc_body(acts: &[Act], foretells: bool, limits: Limits, end: GrpcEnd) -> (Body, Arc<Witness>) {
    let witness = Arc::new(Witness::default());
    let now = Instant::now();
    let mut ticket = Ticket::new(Arc::clone(&witness) as _, Note::new(now, 0, 0, false));
    ticket.head(grpc_head(Fidelity::Extended), now);
    let tail = Tail::new(ticket, limits, None).with_grpc(Some(end));
    (acted(acts, foretells).with_tail(tail), witness)
}

/// Frames of data, and what came last: a status with its message, or an error.
async fn read(mut body: Body) -> (usize, Result<(String, String), String>) {
    let mut data = 0;
    let last = loop {
        match body.frame().await {
            Some(Ok(frame)) if frame.is_data() => data += 1,
            Some(Ok(frame)) => {
                let trailers = frame.into_trailers().unwrap();
                let text = |name: &str| {
                    let value = trailers.get(name).map(HeaderValue::to_str);
                    value.map_or("", Result::unwrap).to_owned()
                };
                break Ok((text("grpc-status"), text("grpc-message")));
            }
            Some(Err(error)) => break Err(error.to_string()),
            None => break Ok(Default::default()),
        }
    };
    assert!(body.frame().await.is_none(), "nothing comes after the end");
    assert!(body.is_end_stream());
    (data, last)
}

fn status(last: &Result<(String, String), String>) -> (&str, &str) {
    let (code, message) = last.as_ref().unwrap();
    (code, message)
}

#[tokio::test(start_paused = true)]
async fn one_that_takes_too_long_ends_with_deadline_exceeded() {
    let now = Instant::now();
    let until = now + Duration::from_millis(100);
    let limits = Limits::new(now, Some(until), None, None, None);
    let acts: Vec<_> = [Act::Data(2)]
        .into_iter()
        .chain(std::iter::repeat_n(Act::Pending, 50))
        .collect();
    let (body, witness) = grpc_body(&acts, false, limits, end());
    let (data, last) = read(body).await;
    let (code, message) = status(&last);
    assert_eq!((data, code), (1, "4"));
    assert!(
        message.starts_with("the request's deadline passed"),
        "{message}"
    );
    assert!(
        message.ends_with("(endpoint 10.0.0.1:80, attempt 2)"),
        "{message}"
    );
    assert_eq!(Instant::now(), until);
    assert_eq!(*witness.settled.lock().unwrap(), [(Verdict::Failure, true)]);
}

#[tokio::test(start_paused = true)]
async fn one_without_a_status_gets_one_however_it_ends() {
    for foretells in [false, true] {
        for acts in [
            &[Act::Data(2), Act::End][..],
            &[Act::Data(2), Act::Trailers(None)],
            &[Act::End],
        ] {
            let (body, witness) = grpc_body(acts, foretells, Limits::default(), end());
            assert!(!body.is_end_stream());
            let (data, last) = read(body).await;
            let (code, message) = status(&last);
            assert_eq!((data, code), (acts.len() - 1, "13"), "{acts:?} {foretells}");
            assert!(message.contains("without a gRPC status"), "{message}");
            let settled = witness.settled.lock().unwrap().clone();
            let [(verdict, _)] = settled[..] else {
                panic!("{settled:?}")
            };
            assert_eq!(verdict, Verdict::Failure);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_stays_as_it_is() {
    for code in ["0", "7", "99", "x"] {
        let acts = [Act::Data(2), Act::Trailers(Some(code))];
        let (body, _) = grpc_body(&acts, false, Limits::default(), end());
        let (data, last) = read(body).await;
        assert_eq!((data, status(&last)), (1, (code, "")));
    }
    // Nor is one added that the head had already, or that the mesh would not miss.
    let quiet = GrpcEnd {
        status_due: false,
        ..end()
    };
    let (body, _) = grpc_body(&[Act::Data(2), Act::End], true, Limits::default(), quiet);
    assert_eq!(status(&read(body).await.1), ("", ""));
}

#[tokio::test(start_paused = true)]
async fn one_that_breaks_says_so_in_a_status() {
    let (body, witness) = grpc_body(&[Act::Data(2), Act::Error], false, Limits::default(), end());
    let (data, last) = read(body).await;
    let (code, message) = status(&last);
    assert_eq!((data, code), (1, "14"));
    assert!(
        message.starts_with("the connection to the endpoint broke"),
        "{message}"
    );
    assert_eq!(*witness.settled.lock().unwrap(), [(Verdict::Failure, true)]);
}

#[tokio::test(start_paused = true)]
async fn or_in_an_error_where_errors_are_wanted() {
    let wanted = GrpcEnd {
        in_trailers: false,
        ..end()
    };
    for (acts, text) in [
        (
            &[Act::Data(2), Act::Error][..],
            "the connection to the endpoint broke",
        ),
        (&[Act::Data(2), Act::End], "without a gRPC status"),
        (&[Act::Trailers(None)], "without a gRPC status"),
    ] {
        let (body, _) = grpc_body(acts, false, Limits::default(), wanted);
        let error = read(body).await.1.unwrap_err();
        assert!(error.contains(text), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_has_begun_has_another_deadline() {
    let ms = Duration::from_millis;
    let now = Instant::now();
    // What the policy's response timeout, the caller and idle add; until when it lasts, in ms; why it ends.
    for (response, own, idle, lasts, why) in [
        (None, None, None, 0, ""),
        (None, Some(300), None, 300, "deadline"),
        (Some(200), None, None, 200, "response timeout"),
        (Some(400), Some(300), None, 300, "deadline"),
        (None, None, Some(150), 150, "idle"),
        (None, Some(120), Some(150), 120, "deadline"),
    ] {
        let begun = Instant::now();
        let mut limits = Limits::new(
            begun,
            Some(begun + ms(100)),
            None,
            response.map(ms),
            idle.map(ms),
        );
        let once_begun = Some(own.map(|own| begun + ms(own)));
        let acts: Vec<_> = [Act::Data(1)]
            .into_iter()
            .chain(std::iter::repeat_n(Act::Pending, 50))
            .collect();
        let end = GrpcEnd {
            once_begun,
            ..end()
        };
        limits.let_request_move();
        let (body, _) = grpc_body(&acts, false, limits, end);
        let read = tokio::time::timeout(ms(10_000), read(body)).await;
        let took = (Instant::now() - begun).as_millis();
        match read {
            Ok((1, last)) => {
                assert_eq!(took, lasts, "{why}");
                let (code, message) = status(&last);
                assert_eq!(code, "4");
                assert!(message.contains(why), "{message}");
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => assert_eq!(lasts, 0, "{why}"),
        }
    }
    assert!(now < Instant::now());
}

#[tokio::test(start_paused = true)]
async fn one_that_has_not_begun_keeps_the_requests() {
    let begun = Instant::now();
    let ms = Duration::from_millis;
    let limits = Limits::new(begun, Some(begun + ms(100)), None, None, None);
    let end = GrpcEnd {
        once_begun: Some(None),
        ..end()
    };
    let acts: Vec<_> = std::iter::repeat_n(Act::Pending, 50).collect();
    let (body, _) = grpc_body(&acts, false, limits, end);
    assert_eq!(status(&read(body).await.1).0, "4");
    assert_eq!(Instant::now() - begun, ms(100));
}
