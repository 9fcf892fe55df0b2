use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use http::request::Parts;
use http::{Request, Response};
use tokio::time::Instant;

use crate::body::Body;
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
    body: Option<Body>,
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
    /// What its head says, if that is enough.
    pub(super) verdict: Option<Verdict>,
}

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

// === impl Template ===

impl Template {
    pub(super) fn new(request: Request<Body>) -> Self {
        let (parts, body) = request.into_parts();
        Self {
            parts: Some(parts),
            body: Some(body),
        }
    }

    /// None once the request was given away.
    pub(super) fn parts(&self) -> Option<&Parts> {
        self.parts.as_ref()
    }

    pub(super) fn parts_mut(&mut self) -> Option<&mut Parts> {
        self.parts.as_mut()
    }

    /// Whether it can be sent and kept: it is empty or in memory, with at most so many bytes.
    pub(super) fn is_replayable(&self, max_bytes: usize) -> bool {
        self.body
            .as_ref()
            .and_then(Body::buffered)
            .is_some_and(|bytes| bytes <= max_bytes)
    }

    /// The request; what remains is enough for another only if `keep`.
    pub(super) fn take(&mut self, keep: bool) -> Option<Request<Body>> {
        let (parts, body) = if keep {
            let body = self.body.as_ref().and_then(Body::try_clone)?;
            (self.parts.clone()?, body)
        } else {
            (self.parts.take()?, self.body.take()?)
        };
        Some(Request::from_parts(parts, body))
    }
}
