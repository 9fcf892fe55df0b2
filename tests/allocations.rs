//! What a request costs, in allocations: a number that does not depend on the machine.

use std::convert::Infallible;
use std::future::{Future as _, Ready, ready};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Empty, Full};
use tokio_stream::StreamExt as _;
use tower::Layer as _;
use tower_mesh::breaker::{BreakerLayer, Breakers};
use tower_mesh::policy::{ClientPolicy, FailureAccrual, Ratio, Retry, Timeouts};
use tower_mesh::{Body, Client, Endpoint};
use tower_service::Service;

/// Answers at once and allocates nothing.
#[derive(Clone)]
struct Instantly;

impl Service<Request<Body>> for Instantly {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        ready(Ok(Response::new(Full::from("hello"))))
    }
}

fn client(policy: ClientPolicy) -> Client {
    Client::builder(policy)
        .endpoints(["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"])
        .build(|_: &Endpoint| Instantly)
        .unwrap()
}

/// The allocations of one request, head to dropped body, after the first ones.
fn per_request<B>(client: &Client, request: impl Fn() -> Request<B>) -> u64
where
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(async {
            for _ in 0..20 {
                let _ = client.request(request()).await;
            }
            let request = request();
            let mut call = std::pin::pin!(client.request(request));
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let counted = allocation_counter::measure(|| {
                let Poll::Ready(response) = call.as_mut().poll(&mut cx) else {
                    panic!("not ready");
                };
                drop(response);
            });
            counted.count_total
        })
}

fn get() -> Request<Empty<Bytes>> {
    Request::get("http://web.shop/").body(Empty::new()).unwrap()
}

#[test]
fn a_request_allocates_for_its_leaf_and_for_the_extension_that_says_who_served_it() {
    let plain = client(ClientPolicy::http().build().unwrap());
    // One for the leaf's call, three for the response's first extension.
    assert_eq!(per_request(&plain, get), 4);
}

#[test]
fn deadlines_and_breakers_allocate_nothing() {
    let policy = ClientPolicy::http()
        .timeouts(Timeouts::request(std::time::Duration::from_secs(1)))
        .failure_accrual(FailureAccrual::consecutive(5));
    assert_eq!(per_request(&client(policy.build().unwrap()), get), 4);
}

#[test]
fn retries_allocate_only_for_the_copy_of_the_head() {
    let policy = ClientPolicy::http().retry(Retry::on(500..=599));
    let client = client(policy.build().unwrap());
    // The URI is shared, and there are no headers to copy.
    assert_eq!(per_request(&client, get), 4);
    let with_headers = || {
        let mut request = get();
        for name in ["x-a", "x-b", "x-c"] {
            let name = http::HeaderName::from_static(name);
            let value = http::HeaderValue::from_static("1");
            request.headers_mut().insert(name, value);
        }
        request
    };
    // Two more for the copy of the header map.
    assert_eq!(per_request(&client, with_headers), 6);
}

#[test]
fn a_body_in_memory_costs_a_retry_nothing() {
    let plain = client(ClientPolicy::http().build().unwrap());
    let policy = ClientPolicy::http().retry(Retry::on(500..=599));
    let retrying = client(policy.build().unwrap());
    let bytes = Bytes::from(vec![7; 10_000]);
    let post = |bytes: Bytes| {
        move || {
            Request::post("http://web.shop/")
                .body(Full::new(bytes.clone()))
                .unwrap()
        }
    };
    for bytes in [bytes, Bytes::from_static(b"text")] {
        assert_eq!(per_request(&plain, post(bytes.clone())), 4);
        assert_eq!(per_request(&retrying, post(bytes)), 4);
    }
}

#[test]
fn a_stream_that_may_be_sent_again_is_not_copied() {
    use tower_mesh::body::Replay;
    const FRAMES: usize = 16;
    const SIZE: usize = 4096;
    let frame = Bytes::from(vec![7; SIZE]);
    let stream = || {
        let frames = vec![frame.clone(); FRAMES].into_iter();
        let frames = frames.map(|frame| Ok::<_, Infallible>(http_body::Frame::data(frame)));
        Body::new(http_body_util::StreamBody::new(tokio_stream::iter(frames)))
    };
    let whole = frame.clone();
    let read = |mut body: Body| {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut frames = 0;
        while let Poll::Ready(Some(frame)) =
            http_body::Body::poll_frame(std::pin::Pin::new(&mut body), &mut cx)
        {
            let data = frame.unwrap().into_data().unwrap();
            assert_eq!(data.as_ptr(), whole.as_ptr(), "the caller's own bytes");
            frames += 1;
        }
        frames
    };
    let body = stream();
    let mut replay = None;
    let kept = allocation_counter::measure(|| {
        let replay = replay.insert(Replay::new(body, FRAMES * SIZE));
        assert_eq!(read(replay.attempt().unwrap()), FRAMES);
    });
    let mut replay = replay.unwrap();
    assert_eq!(replay.kept_bytes(), FRAMES * SIZE);
    // The tape, its reader, a body around it, and a row of frames that grows to 16 in three steps.
    assert_eq!(kept.count_total, 6);
    assert!(kept.bytes_total < 2048, "{} bytes", kept.bytes_total);
    let again = allocation_counter::measure(|| {
        assert_eq!(read(replay.attempt().unwrap()), FRAMES);
    });
    // The body.
    assert_eq!(again.count_total, 1);
    // The last attempt of one that nobody has read is the stream itself.
    let body = stream();
    let last = allocation_counter::measure(|| {
        let replay = Replay::new(body, FRAMES * SIZE);
        assert_eq!(read(replay.last().unwrap()), FRAMES);
    });
    assert!(last.count_total <= 3, "{}", last.count_total);
}

#[test]
fn settling_an_erased_body_allocates_nothing() {
    use http_body_util::{BodyExt, StreamBody};
    use tower_mesh::verdict::{Classified, Issuer, Note, Outcome, Ticket};

    struct Deaf;
    impl Issuer for Deaf {
        fn answered(&self, _: &Note) {}
        fn unused(&self, _: &Note) {}
        fn settled(&self, _: &Note, _: &Outcome, _: bool) {}
    }

    let issuer: std::sync::Arc<dyn Issuer> = std::sync::Arc::new(Deaf);
    let frames = tokio_stream::iter([1, 2])
        .map(|_| Ok::<_, Infallible>(http_body::Frame::data(Bytes::from_static(b"x"))));
    let body = Body::new(StreamBody::new(frames));
    let counted = allocation_counter::measure(|| {
        let now = tokio::time::Instant::now();
        let mut ticket = Ticket::new(issuer, Note::new(now, 0, 0, false));
        ticket.head(Classified::Ready(Outcome::SUCCESS), now);
        let mut body = body.settling(ticket);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut frame = std::pin::pin!(body.frame());
        assert!(frame.as_mut().poll(&mut cx).is_ready());
    });
    assert_eq!(counted.count_total, 0);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_allocates_nothing_per_call() {
    fn allocations<S: Service<Request<Body>>>(service: &mut S) -> u64 {
        let request = Request::get("http://web.shop:80/")
            .body(Body::empty())
            .unwrap();
        let mut request = Some(request);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let counted = allocation_counter::measure(|| {
            let request = request.take().unwrap();
            let mut call = std::pin::pin!(service.call(request));
            assert!(call.as_mut().poll(&mut cx).is_ready());
        });
        counted.count_total
    }
    let accrual = FailureAccrual::consecutive(3).slow_call(std::time::Duration::from_secs(1));
    let layer = BreakerLayer::new(accrual.clone());
    let mut service = layer.layer(Instantly);
    let mut by_host = Breakers::by_host(accrual).layer(Instantly);
    allocations(&mut by_host); // makes the host's breaker
    assert_eq!(allocations(&mut service), 0);
    assert_eq!(allocations(&mut by_host), 0);
    let rate = FailureAccrual::success_rate(Ratio::percent(80));
    let mut window = BreakerLayer::new(rate).layer(Instantly);
    assert_eq!(allocations(&mut window), 0);
    let mut at_end = layer.clone().settling_bodies().layer(Instantly);
    assert_eq!(allocations(&mut at_end), 0, "the body is not boxed");
    layer.handle().force_open();
    assert_eq!(allocations(&mut service), 0, "a refusal");
}

/// The allocations of one call, driven to its end without a runtime.
fn per_call<Req, S: Service<Req>>(service: &mut S, request: impl Fn() -> Req) -> u64 {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    for _ in 0..20 {
        let mut call = std::pin::pin!(service.call(request()));
        assert!(call.as_mut().poll(&mut cx).is_ready());
    }
    let request = request();
    let counted = allocation_counter::measure(|| {
        let mut call = std::pin::pin!(service.call(request));
        assert!(call.as_mut().poll(&mut cx).is_ready());
    });
    counted.count_total
}

#[test]
fn standalone_retries_and_hedges_allocate_only_for_the_copy_of_the_request() {
    use tower_mesh::policy::Hedge;
    use tower_mesh::retry::{HedgeLayer, RetryLayer};

    #[derive(Clone)]
    struct Leaf;

    impl<Req> Service<Req> for Leaf {
        type Response = Response<()>;
        type Error = Infallible;
        type Future = Ready<Result<Response<()>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Req) -> Self::Future {
            ready(Ok(Response::new(())))
        }
    }

    let policy = || Retry::on(500..=599).timeout(std::time::Duration::from_secs(1));
    let unit = RetryLayer::new(policy()).when(|_: &Result<Response<()>, Infallible>| false);
    assert_eq!(per_call(&mut unit.layer(Leaf), || ()), 0);
    let six = || {
        let mut request = Request::get("http://web.shop/").body(()).unwrap();
        for name in ["a", "b", "c", "d", "e", "f"] {
            let name = http::HeaderName::from_static(name);
            let value = http::HeaderValue::from_static("1");
            request.headers_mut().insert(name, value);
        }
        request
    };
    // One for the headers.
    let copies = [
        per_call(&mut RetryLayer::new(policy()).layer(Leaf), six),
        per_call(
            &mut HedgeLayer::new(Hedge::after(std::time::Duration::from_secs(1))).layer(Leaf),
            six,
        ),
    ];
    assert_eq!(copies, [1, 1]);
}

#[test]
fn a_balanced_call_allocates_nothing() {
    use tower_mesh::balance::Balance;
    use tower_mesh::policy::{Load, PeakEwma, PenaltyPeakEwma, Unified};

    /// Answers at once, or fails at once.
    #[derive(Clone)]
    struct Leaf;

    impl Service<u32> for Leaf {
        type Response = u32;
        type Error = std::fmt::Error;
        type Future = Ready<Result<u32, std::fmt::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::fmt::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: u32) -> Self::Future {
            ready(if request == 0 {
                Err(std::fmt::Error)
            } else {
                Ok(request)
            })
        }
    }

    let accruals = [
        FailureAccrual::consecutive(1000),
        FailureAccrual::success_rate(Ratio::percent(80)),
        FailureAccrual::Unified(Unified::default()),
    ];
    let loads = || {
        [
            Load::default(),
            Load::PenaltyPeakEwma(PenaltyPeakEwma::new(PeakEwma::DEFAULT)),
            Load::least_pending(),
            Load::weighted_round_robin(),
        ]
    };
    for accrual in accruals {
        for load in loads() {
            for count in [1u8, 10, 200] {
                let endpoints = (0..count).map(|n| Endpoint::new(([10, 0, 0, n], 80).into()));
                let mut balance = Balance::builder()
                    .failure_accrual(accrual.clone())
                    .load(load)
                    .seed(7)
                    .endpoints(endpoints.collect::<Vec<_>>())
                    .build(|_: &Endpoint| Leaf)
                    .unwrap();
                assert_eq!(per_call(&mut balance, || 1), 0, "{accrual:?} {load:?}");
                assert_eq!(per_call(&mut &balance, || 1), 0, "through a reference");
            }
        }
    }
    // A failure costs what its error does: this one is of no size, and its box is none.
    let leaf = Balance::builder()
        .endpoints(["10.0.0.1:80", "10.0.0.2:80"])
        .build(|_: &Endpoint| Leaf);
    assert_eq!(per_call(&mut leaf.unwrap(), || 0), 0);
}
