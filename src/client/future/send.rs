//! An attempt's way out: what goes to an endpoint that is ready.

use std::sync::Arc;

use http::{HeaderValue, Request};
use tokio::time::Instant;

use super::{Next, Step, Walk};
use crate::body::Body;
use crate::client::attempt::Attempt;
use crate::client::plan::{Plan, RulePlan};
use crate::core::draw::{Purpose, draw};
use crate::core::observe::Decision;
use crate::core::time::after;
use crate::deadline::{Limits, Progress, grpc_timeout};
use crate::error::ErrorKind;
use crate::policy::{Fidelity, MethodKind, Retry, Timeouts};
use crate::route::{Filtered, PathMatched};
use crate::verdict::grpc::{GRPC_PREVIOUS_RPC_ATTEMPTS, GRPC_TIMEOUT};

// === impl Walk ===

impl Walk {
    /// The endpoint is ready: it gets the request, of which the next attempt's copy is kept if there may be one.
    pub(super) fn send(
        &mut self,
        rule: &RulePlan,
        backend: usize,
        mut attempt: Attempt,
        now: Instant,
    ) -> Next {
        if self.is_late(now) {
            drop(attempt);
            return self.give_up(ErrorKind::RequestTimeout);
        }
        let Some((plan, matched)) = self.plan.clone() else {
            return self.fail(ErrorKind::NoPolicy);
        };
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
        let again = self.repeatable || plan.fidelity == Fidelity::Mesh;
        let try_until = retry
            .filter(|retry| keep && again && self.tries.may_cut(self.max_retries(retry)))
            .and_then(|retry| Some(after(now, retry.timeout()?)));
        let path = matched.path;
        let launched = self.launch(
            &plan,
            rule,
            backend,
            path,
            &mut attempt,
            request,
            try_until,
            now,
        );
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
    #[allow(clippy::too_many_arguments, reason = "all that makes an attempt")]
    pub(super) fn launch(
        &mut self,
        plan: &Plan,
        rule: &RulePlan,
        backend: usize,
        path: PathMatched,
        attempt: &mut Attempt,
        request: Request<Body>,
        try_until: Option<Instant>,
        now: Instant,
    ) -> Result<Limits, ErrorKind> {
        let (mut parts, body) = request.into_parts();
        let (seed, number) = (self.shared.backends.seed, self.number);
        let mut drawn = u64::from(self.tries.sent()) << 32;
        let word = || {
            drawn += 1;
            draw(seed, number, Purpose::Inject, drawn)
        };
        let filters = &rule.backends[backend].filters;
        let filtered = filters.request(&parts.uri, &mut parts.headers, path, word);
        if let Err(filtered) = filtered {
            self.tries.unsend();
            return Err(filtered.into());
        }
        self.committed(attempt, now);
        let Timeouts { response, idle, .. } = self.timeouts;
        // Difference::IdleHead: in the mesh, a request without a stream in it is never idle before its response.
        let idle_head = idle.filter(|_| plan.fidelity != Fidelity::Mesh);
        let is_stream = body.buffered().is_none();
        let idle_now = if is_stream { idle } else { idle_head };
        let mut limits = Limits::new(now, self.deadline, try_until, response, idle_now);
        let mut body = body;
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
            && plan.fidelity != Fidelity::Mesh
        {
            let left = deadline.saturating_duration_since(now);
            parts
                .headers
                .insert(GRPC_TIMEOUT, grpc_timeout::format(left));
        }
        // Difference::PreviousAttempts.
        if self.grpc && self.tries.sent() > 1 && plan.fidelity != Fidelity::Mesh {
            let previous = HeaderValue::from(self.tries.sent() - 1);
            parts.headers.insert(GRPC_PREVIOUS_RPC_ATTEMPTS, previous);
        }
        attempt.send(Request::from_parts(parts, body), following, now);
        Ok(limits)
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
