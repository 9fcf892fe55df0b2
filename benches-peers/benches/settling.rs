//! What it costs that a response's body tells how it ended: ours beside tower-http's `Trace` with its classification.
//!
//! `cargo bench --manifest-path benches-peers/Cargo.toml --bench settling`

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use benches_peers::{keep, medians};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame};
use tokio::time::Instant;
use tower_http::classify::{ServerErrorsAsFailures, ServerErrorsFailureClass, SharedClassifier};
use tower_http::trace::TraceLayer;
use tower_layer::Layer;
use tower_mesh::Body;
use tower_mesh::verdict::{Classified, Issuer, Note, Outcome, Ticket};
use tower_service::Service;

/// Two frames, no end known before it is polled for.
struct Two(u8);

impl HttpBody for Two {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0 += 1;
        Poll::Ready((self.0 <= 2).then(|| Ok(Frame::data(Bytes::from_static(b"hello")))))
    }
}

struct Deaf;

impl Issuer for Deaf {
    fn answered(&self, note: &Note) {
        keep(note);
    }
    fn unused(&self, _: &Note) {}
    fn settled(&self, note: &Note, outcome: &Outcome, _: bool) {
        keep((note, outcome));
    }
}

#[derive(Clone)]
struct Leaf;

impl Service<Request<Body>> for Leaf {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        ready(Ok(Response::new(Body::new(Two(0)))))
    }
}

fn drain<B: HttpBody + Unpin>(mut body: B) {
    let mut cx = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut cx) {
        keep(frame.is_ok());
    }
}

fn poll<F: Future>(future: F) -> F::Output {
    let mut cx = Context::from_waker(Waker::noop());
    match std::pin::pin!(future).poll(&mut cx) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("not ready"),
    }
}

fn main() {
    let issuer: Arc<dyn Issuer> = Arc::new(Deaf);
    let now = Instant::now();
    let mut bare = || drain(Body::new(Two(0)));
    // The ticket is there in any case: somebody must count the request, and hear at least its head.
    let mut beside = || {
        let mut ticket = Ticket::new(Arc::clone(&issuer), Note::new(now, 0, 0, false));
        ticket.head(Classified::Ready(Outcome::SUCCESS), now);
        ticket.frame(true);
        ticket.end(None);
        drain(Body::new(Two(0)));
    };
    let mut settling = || {
        let mut ticket = Ticket::new(Arc::clone(&issuer), Note::new(now, 0, 0, false));
        ticket.head(Classified::Ready(Outcome::SUCCESS), now);
        drain(Body::new(Two(0)).settling(ticket));
    };
    let mut plain = Leaf;
    let mut called = || {
        let Ok(response) = poll(plain.call(Request::new(Body::empty())));
        drain(response.into_body());
    };
    // Everything that it says is thrown away: what is left is the classification and the wrapper.
    let mut trace = TraceLayer::new(SharedClassifier::new(ServerErrorsAsFailures::new()))
        .make_span_with(|_: &Request<Body>| tracing::Span::none())
        .on_request(())
        .on_response(())
        .on_body_chunk(())
        .on_eos(|_: Option<&HeaderMap>, _: Duration, _: &_| {})
        .on_failure(|_: ServerErrorsFailureClass, _: Duration, _: &_| {})
        .layer(Leaf);
    let mut traced = || {
        let Ok(response) = poll(trace.call(Request::new(Body::empty())));
        drain(Box::pin(response.into_body()));
    };
    let [bare, beside, settling, called, traced] = medians(
        20_000,
        101,
        [
            &mut bare,
            &mut beside,
            &mut settling,
            &mut called,
            &mut traced,
        ],
    );
    let line = |what: &str, time: f64, over: f64| {
        println!("{what:<52} {time:7.1} ns  +{:.1}", time - over);
    };
    println!(
        "{:<52} {bare:7.1} ns",
        "an erased body of two frames, drained"
    );
    line("and a ticket, settled beside it", beside, bare);
    line(
        "and the ticket in the body, which settles it",
        settling,
        bare,
    );
    line("  so the wrapper itself costs", settling, beside);
    println!("{:<52} {called:7.1} ns", "the body through a service");
    line("and tower-http's Trace, which says nothing", traced, called);
}
