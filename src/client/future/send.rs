//! An attempt's way out: what goes to an endpoint that is ready.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Request};
use tokio::time::Instant;

use super::{Next, Step, Walk};
use crate::body::Body;
use crate::client::attempt::Attempt;
use crate::client::plan::Routed;
use crate::core::draw::{Purpose, draw};
use crate::core::observe::Decision;
use crate::core::time::after;
use crate::deadline::{Limits, Progress, grpc_timeout};
use crate::error::ErrorKind;
use crate::policy::{MethodKind, Retry, Timeouts};
use crate::route::Filtered;
use crate::verdict::grpc::{GRPC_PREVIOUS_RPC_ATTEMPTS, GRPC_TIMEOUT};

// === impl Walk ===

impl Walk {
    /// The endpoint is ready: it gets the request, of which the next attempt's copy is kept if there may be one.
    pub(super) fn send(
        &mut self,
        routed: &Routed,
        backend: usize,
        mut attempt: Attempt,
        now: Instant,
    ) -> Next {
        if self.is_late(now) {
            drop(attempt);
            return self.give_up(routed, ErrorKind::RequestTimeout);
        }
        let retry = self.retry.clone();
        let retry = retry.as_ref().map(|retry| &retry.retry);
        // The next attempt, if there is one, needs what this one sends.
        let may_keep = retry.is_some_and(|retry| self.tries.may_follow(self.max_retries(retry)));
        self.tries.send();
        if self.grpc && self.tries.sent() == 1 {
            self.template.read_ahead();
        }
        let keep = retry.is_some_and(|retry| may_keep && self.keep(retry));
        let hedges = self.tries.sent() == 1 && self.hedge.is_some();
        if hedges && !keep {
            let limit = retry.map_or(Retry::MAX_REQUEST_BYTES, Retry::max_request_bytes);
            let too_large = &self.shared.counts.bodies_too_large;
            self.template.keep(limit, too_large);
        }
        let kept = keep || (hedges && self.template.is_replayable());
        let Some(request) = self.template.take(kept) else {
            return self.fail(ErrorKind::InvalidRequest);
        };
        // Cut short is only what can be tried again.
        let again = self.repeatable || routed.is_mesh();
        let try_until = retry
            .filter(|retry| keep && again && self.tries.may_cut(self.max_retries(retry)))
            .and_then(|retry| Some(after(now, retry.timeout()?)));
        let launched = self.launch(routed, backend, &mut attempt, request, try_until, now);
        match launched {
            Ok(limits) => self.limits = limits,
            Err(kind) => return self.fail(kind),
        }
        if hedges && kept {
            self.await_rival(now);
        }
        self.go(Step::Call { backend, attempt })
    }

    /// Sends a request to an endpoint that is ready, and says how long it may take.
    pub(super) fn launch(
        &mut self,
        routed: &Routed,
        backend: usize,
        attempt: &mut Attempt,
        (mut parts, mut body): (Parts, Body),
        try_until: Option<Instant>,
        now: Instant,
    ) -> Result<Limits, ErrorKind> {
        let rule = &*routed.rule;
        let word = self.chance(self.tries.sent());
        let filters = &rule.backends[backend].filters;
        let headers = &mut parts.headers;
        if let Err(filtered) = filters.request(&parts.uri, headers, routed.path, word) {
            self.tries.unsend();
            return Err(filtered.into());
        }
        self.committed(attempt, now);
        let Timeouts { response, idle, .. } = self.timeouts;
        // Difference::IdleHead: in the mesh, a request without a stream in it is never idle before its response.
        let idle_head = idle.filter(|_| !routed.is_mesh());
        let is_stream = body.buffered().is_none();
        let idle_now = if is_stream { idle } else { idle_head };
        let mut limits = Limits::new(now, self.deadline, try_until, response, idle_now);
        // gRPC goes both ways at once: there, a request that is not over says nothing of who waits for whom.
        let duplex = self.grpc;
        let mut following = None;
        if is_stream && (!duplex || limits.follow_request()) {
            let progress = Arc::new(Progress::new(now, duplex));
            body = body.with_progress(Arc::clone(&progress));
            limits = limits.with_progress(Arc::clone(&progress));
            following = Some(progress);
        }
        // Who is told of a deadline keeps it: a stream is told only of one that holds for all of it.
        let told = match self.kind(rule) {
            MethodKind::Unary => self.deadline,
            _ => self.own_deadline,
        };
        if let Some(deadline) = told
            && self.grpc
            && !routed.is_mesh()
        {
            let left = deadline.saturating_duration_since(now);
            parts
                .headers
                .insert(GRPC_TIMEOUT, grpc_timeout::format(left));
        }
        // Difference::PreviousAttempts.
        if self.grpc && self.tries.sent() > 1 && !routed.is_mesh() {
            let previous = HeaderValue::from(self.tries.sent() - 1);
            parts.headers.insert(GRPC_PREVIOUS_RPC_ATTEMPTS, previous);
        }
        attempt.send(Request::from_parts(parts, body), following, now);
        Ok(limits)
    }

    // What the filters that act by chance draw: another row for each attempt, and for the rule itself (0).
    pub(super) fn chance(&self, attempt: u32) -> impl FnMut() -> u64 + use<> {
        let (seed, number) = (self.shared.backends.seed, self.number);
        let mut drawn = u64::from(attempt) << 32;
        move || {
            drawn += 1;
            draw(seed, number, Purpose::Inject, drawn)
        }
    }

    // The attempt that was prepared takes place: it is paid for, and the answer before it is let go.
    pub(super) fn committed(&mut self, attempt: &Attempt, now: Instant) {
        if let Some(token) = self.token.take() {
            token.spend();
        }
        self.prior = None;
        let (number, attempts) = (self.number, self.tries.sent());
        let (endpoint, probe) = (attempt.endpoint(), attempt.is_probe());
        self.tell(now, || Decision::Picked {
            request: number,
            attempt: attempts,
            endpoint,
            probe,
        });
    }
}

impl From<Filtered> for ErrorKind {
    fn from(filtered: Filtered) -> Self {
        match filtered {
            Filtered::Redirect {
                status, location, ..
            } => Self::Redirect { status, location },
            Filtered::Fail {
                status, message, ..
            } => Self::FailureInjected { status, message },
            Filtered::FailGrpc { code, message, .. } => Self::StatusInjected { code, message },
            Filtered::Invalid(invalid) => Self::InvalidFilter(invalid.to_string()),
        }
    }
}
