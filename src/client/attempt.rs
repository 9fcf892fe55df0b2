use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use http::request::Parts;
use http::{Method, Request, Response};
use http_body::Body as _;
use tokio::time::Instant;

use crate::body::{Body, Held, Replay};
use crate::core::sync::AtomicU64;
use crate::core::time::after;
use crate::deadline::{Limits, Progress};
use crate::endpoint::{ErasedConnect, Leaf, LeafCall, Site};
use crate::error::Error;
use crate::verdict::{Outcome, Settle, Ticket, Verdict};

/// An endpoint that was chosen, and the call to it.
///
/// Dropped before the request was sent it gives its ticket back as if nothing had been; dropped after that it settles: as a
/// wait in vain, unless the endpoint was waiting for the rest of the request.
pub(super) struct Attempt {
    endpoint: SocketAddr,
    pub(super) call: Pin<Box<dyn LeafCall>>,
    // How far its request's body is, if it is a stream.
    progress: Option<Arc<Progress>>,
    // None once it was taken out to settle.
    ticket: Option<Ticket>,
    sent: bool,
}

/// What is needed to send a request, and to send it again.
pub(super) struct Template {
    parts: Option<Parts>,
    body: Outbound,
}

enum Outbound {
    Once(Option<Body>),
    Again(Replay),
}

/// An answer that is kept while another try is prepared, and stands if that comes to nothing.
pub(super) enum Prior {
    Response(Box<Answered>),
    Error(Error),
}

/// A response, with what it takes to hand it over.
pub(super) struct Answered {
    pub(super) response: Response<Body>,
    pub(super) ticket: Ticket,
    pub(super) endpoint: SocketAddr,
    /// Which of the rule's backends.
    pub(super) backend: usize,
    /// How long its body may take.
    pub(super) limits: Limits,
    /// What its head says, if that is enough, or else its trailers, if they are here.
    pub(super) verdict: Option<Verdict>,
    /// Whether its head has no gRPC status, so that its trailers owe one, whether they are here or not.
    pub(super) status_due: bool,
    /// Its body, instead of the response's own, once some of it was read here.
    pub(super) held: Option<Box<Held>>,
    /// Whether it is handed over although a code in its trailers may still be one that is retried.
    pub(super) late: bool,
    // Until when the rest of a body is read that is kept while another try is prepared.
    let_go_at: Option<Instant>,
}

/// How much of a failed attempt's body is kept, and how long is waited for it, in case another try cannot be made. An error
/// page is here with its head, or a moment later; what is not is let go, so that its connection does not wait for the
/// backoff.
const KEPT_BYTES: u64 = 64 * 1024;
const KEPT_WAIT: Duration = Duration::from_millis(10);

// === impl Attempt ===

impl Attempt {
    pub(super) fn new(
        site: &Site<Box<dyn Leaf>>,
        ticket: Ticket,
        connector: &dyn ErasedConnect,
    ) -> Self {
        Self {
            endpoint: site.endpoint().address(),
            call: site.start(connector),
            progress: None,
            ticket: Some(ticket),
            sent: false,
        }
    }

    pub(super) fn endpoint(&self) -> SocketAddr {
        self.endpoint
    }

    pub(super) fn is_probe(&self) -> bool {
        self.ticket
            .as_ref()
            .is_some_and(|ticket| ticket.note().probe)
    }

    pub(super) fn send(
        &mut self,
        request: Request<Body>,
        progress: Option<Arc<Progress>>,
        now: Instant,
    ) {
        self.sent = true;
        if let Some(ticket) = &mut self.ticket {
            ticket.sent(now);
        }
        self.progress = progress;
        self.call.as_mut().call(request);
    }

    /// Its endpoint is not ready yet: nothing goes out.
    pub(super) fn delayed(&mut self) {
        if let Some(ticket) = &mut self.ticket {
            ticket.delayed();
        }
    }

    /// Whether the endpoint waits for the next frame of the request's body, which the caller does not have yet.
    pub(super) fn waits_for_caller(&self) -> bool {
        self.progress
            .as_ref()
            .is_some_and(|progress| progress.asked())
    }

    /// The endpoint failed, or not, without a response.
    pub(super) fn settle(mut self, outcome: &Outcome) {
        if let Some(ticket) = self.ticket.take() {
            ticket.settle(outcome);
        }
    }

    /// The response's part of the ticket.
    pub(super) fn into_ticket(mut self) -> Option<Ticket> {
        self.ticket.take()
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else {
            return;
        };
        if !self.sent {
            ticket.give_back();
        } else if self.waits_for_caller() {
            ticket.settle(&Outcome::NEUTRAL);
        }
    }
}

// === impl Answered ===

impl Answered {
    pub(super) fn new(
        response: Response<Body>,
        ticket: Ticket,
        endpoint: SocketAddr,
        backend: usize,
        limits: Limits,
        verdict: Option<Verdict>,
    ) -> Self {
        Self {
            response,
            ticket,
            endpoint,
            backend,
            limits,
            verdict,
            status_due: verdict.is_none(),
            held: None,
            late: false,
            let_go_at: None,
        }
    }

    /// Its body, to be read here.
    pub(super) fn hold(&mut self) -> &mut Held {
        let body = self.response.body_mut();
        self.held
            .get_or_insert_with(|| Box::new(Held::new(std::mem::take(body))))
    }

    /// It failed, and another try is prepared. Settles, so that the wait is not booked as the endpoint's.
    pub(super) fn keep(&mut self, now: Instant) {
        self.ticket.let_go();
        self.hold();
        self.let_go_at = Some(after(now, KEPT_WAIT));
    }

    pub(super) fn is_kept_open(&self) -> bool {
        self.let_go_at.is_some()
    }

    /// Reads what there is of a body that is kept. Returns until when there may be more to read, if there may.
    pub(super) fn poll_kept(&mut self, cx: &mut Context<'_>, now: Instant) -> Option<Instant> {
        let (until, held) = (self.let_go_at?, self.held.as_mut()?);
        while held.is_open() && held.cost() <= KEPT_BYTES {
            if held.poll_next(cx).is_pending() {
                if now < until {
                    return Some(until);
                }
                break;
            }
        }
        held.let_go();
        self.let_go_at = None;
        None
    }

    pub(super) fn into_response(mut self) -> (Response<Body>, Ticket, Limits) {
        if let Some(held) = self.held.take() {
            *self.response.body_mut() = held.into_body();
        }
        (self.response, self.ticket, self.limits)
    }
}

// === impl Template ===

impl Template {
    pub(super) fn new(request: Request<Body>) -> Self {
        let (parts, body) = request.into_parts();
        Self {
            parts: Some(parts),
            body: Outbound::Once(Some(body)),
        }
    }

    /// None once the request was given away.
    pub(super) fn parts_mut(&mut self) -> Option<&mut Parts> {
        self.parts.as_mut()
    }

    /// What its body has at hand is read before it is sent: a unary gRPC call's is all of it.
    pub(super) fn read_ahead(&mut self) {
        if let Outbound::Once(body) = &mut self.body {
            *body = body.take().map(Body::at_hand);
        }
    }

    /// Gets ready to send it more than once, as long as its body has at most so many bytes. Larger ones are counted.
    pub(super) fn keep(&mut self, max_bytes: usize, too_large: &Arc<AtomicU64>) {
        if let Outbound::Once(body) = &mut self.body
            && let Some(body) = body.take()
        {
            let replay = Replay::counted(body, max_bytes, Some(too_large));
            self.body = Outbound::Again(replay);
        }
    }

    /// Whether it may turn out so that it can be sent again.
    pub(super) fn may_be_replayable(&self, max_bytes: usize) -> bool {
        match &self.body {
            Outbound::Once(body) => body
                .as_ref()
                .is_some_and(|body| body.size_hint().lower() <= max_bytes as u64),
            Outbound::Again(_) => self.is_replayable(),
        }
    }

    /// Whether it can be sent again, as far as its body was read.
    pub(super) fn is_replayable(&self) -> bool {
        self.parts.is_some()
            && match &self.body {
                Outbound::Once(_) => false,
                Outbound::Again(replay) => replay.is_replayable(),
            }
    }

    /// What it asks for, while it is kept.
    pub(super) fn method(&self) -> Option<&Method> {
        self.parts.as_ref().map(|parts| &parts.method)
    }

    /// Whether more of its body is still to be read and kept.
    pub(super) fn is_unread(&self) -> bool {
        match &self.body {
            Outbound::Once(_) => false,
            Outbound::Again(replay) => replay.is_replayable() && !replay.is_complete(),
        }
    }

    /// The same request for an attempt beside another.
    pub(super) fn race(&mut self) -> Option<(Parts, Body)> {
        let Outbound::Again(replay) = &mut self.body else {
            return None;
        };
        Some((self.parts.clone()?, replay.race()?))
    }

    /// Ends the bodies of the attempts so far.
    pub(super) fn release(&mut self) {
        if let Outbound::Again(replay) = &mut self.body {
            replay.release();
        }
    }

    /// It is not sent again: what is still being sent of it is kept no longer.
    pub(super) fn forget(&mut self) {
        self.parts = None;
        self.body = Outbound::Once(None);
    }

    /// The request; what remains is enough for another only if `again`.
    pub(super) fn take(&mut self, again: bool) -> Option<(Parts, Body)> {
        if again {
            let Outbound::Again(replay) = &mut self.body else {
                return None;
            };
            let body = replay.attempt()?;
            return Some((self.parts.clone()?, body));
        }
        let parts = self.parts.take()?;
        let body = match std::mem::replace(&mut self.body, Outbound::Once(None)) {
            Outbound::Once(body) => body?,
            Outbound::Again(replay) => replay.last()?,
        };
        Some((parts, body))
    }
}
