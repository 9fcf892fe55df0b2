//! What an answer leads to: another try, or its way to the caller.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use tokio::time::Instant;

use super::{Next, Step, Walk};
use crate::body::{Body, GrpcEnd, Tail};
use crate::budget::RetryBudget;
use crate::client::attempt::{Answered, Prior};
use crate::client::plan::Routed;
use crate::core::observe::{Decision, NotRetried};
use crate::deadline::Limits;
use crate::error::{Error, ErrorKind};
use crate::options::Served;
use crate::policy::MethodKind;
use crate::retry::{self, Again, Attempted, Bounds, Judgement, Rules};
use crate::verdict::grpc::{GRPC_STATUS, is_grpc};

// === impl Walk ===

impl Walk {
    pub(super) fn judge(&self, routed: &Routed, attempted: Attempted<'_>) -> Judgement {
        match &self.retry {
            Some(retry) => {
                let rules = Rules {
                    retry: &retry.retry,
                    fidelity: routed.plan.fidelity,
                    repeatable: self.repeatable,
                    grpc: self.grpc,
                };
                retry::judge(&rules, attempted)
            }
            None => Judgement::Final,
        }
    }

    /// Another try, if something pays for it; otherwise `prior` stands.
    pub(super) fn again(
        &mut self,
        routed: &Routed,
        endpoint: SocketAddr,
        prior: Prior,
        again: Again,
        now: Instant,
    ) -> Next {
        // Difference::AvoidTried.
        if !routed.is_mesh() {
            self.tried(endpoint);
        }
        self.prior = Some(prior);
        let Some(retry) = self.retry.clone() else {
            return self.stand(routed, now, NotRetried::Limit);
        };
        let bounds = Bounds {
            retry: &retry.retry,
            max_retries: self.max_retries(&retry.retry),
            whole: self.template.is_replayable(),
            deadline: self.deadline,
            budget: retry.budget.as_ref(),
            seed: self.shared.backends.seed,
            number: self.number,
        };
        // Difference::ConnectRetry.
        let again = Again {
            untouched: again.untouched && !routed.is_mesh(),
            ..again
        };
        let planned = match self.tries.again(again, &bounds, now) {
            Ok(planned) => planned,
            Err(why) => return self.stand(routed, now, why),
        };
        self.token = planned.token;
        match &mut self.prior {
            // It is kept in case there is no endpoint for another try; it is no load meanwhile.
            Some(Prior::Response(answered)) => answered.keep(now),
            _ => self.template.release(),
        }
        let (number, attempts) = (self.number, self.tries.sent());
        self.tell(now, || Decision::Retried {
            request: number,
            attempt: attempts,
            backoff: planned.backoff,
        });
        let until = planned.until;
        self.go(Step::Backoff { until })
    }

    /// The answer that was kept stands, because there is no other try.
    pub(super) fn stand(&mut self, routed: &Routed, now: Instant, why: NotRetried) -> Next {
        let (number, attempts) = (self.number, self.tries.sent());
        self.tell(now, || Decision::NotRetried {
            request: number,
            attempt: attempts,
            why,
        });
        self.token = None;
        match self.prior.take() {
            Some(Prior::Response(answered)) => self.answer(routed, *answered),
            Some(Prior::Error(error)) => self.done(Err(error)),
            None => self.fail(ErrorKind::NoBackend),
        }
    }

    /// Gives up for `kind`, unless there is an answer that can stand.
    pub(super) fn give_up(&mut self, routed: &Routed, kind: ErrorKind) -> Next {
        if self.prior.is_some() {
            let why = if kind == ErrorKind::RequestTimeout {
                NotRetried::Deadline
            } else {
                NotRetried::NoEndpoint
            };
            return self.stand(routed, Instant::now(), why);
        }
        self.fail(kind)
    }

    /// Other endpoints are preferred from now on.
    pub(super) fn tried(&mut self, endpoint: SocketAddr) {
        if !self.avoid.contains(&endpoint) {
            self.avoid.push(endpoint);
        }
    }

    // What pays for its retries.
    pub(super) fn budget(&self) -> Option<&RetryBudget> {
        self.retry.as_ref()?.budget.as_ref()
    }

    pub(super) fn answer(&mut self, routed: &Routed, answered: Answered) -> Next {
        // Difference::GrpcMissingStatus: a page that is not gRPC is told in gRPC's own words.
        if self.grpc && !routed.is_mesh() && !speaks_grpc(&answered.response) {
            let status = answered.response.status();
            let error = Error::new(ErrorKind::NotGrpc { status });
            let error = error.with_endpoint(answered.endpoint);
            return self.done(Err(error.with_attempts(self.tries.sent())));
        }
        self.hand_over(routed, answered)
    }

    fn hand_over(&mut self, routed: &Routed, answered: Answered) -> Next {
        let rule = &*routed.rule;
        let (endpoint, backend) = (answered.endpoint, answered.backend);
        let (verdict, late) = (answered.verdict, answered.late);
        let status_due = answered.status_due;
        let (mut response, ticket, mut limits) = answered.into_response();
        let backend = &rule.backends[backend];
        backend.filters.response(response.headers_mut());
        rule.filters.response(response.headers_mut());
        response.extensions_mut().insert(Served {
            endpoint,
            backend: Arc::clone(&backend.state.balance.pool.name),
            attempts: self.tries.sent(),
            waited: self.waited,
            verdict,
        });
        let budgets = {
            let mut due = self.budgets().filter(|_| verdict.is_none()).cloned();
            [due.next(), due.next()]
        };
        let grpc = (self.grpc).then(|| self.grpc_end(routed, &mut limits, endpoint, status_due));
        let tail = Tail::new(ticket, limits, self.in_flight.take());
        let mut tail = tail.with_budgets(budgets).with_grpc(grpc);
        if let Some(retry) = self.retry.as_ref().filter(|_| late) {
            let count = Arc::clone(&self.shared.counts.trailers_too_late);
            tail = tail.with_late_codes(retry.retry.codes(), count);
        }
        self.done(Ok(response.map(|body| body.with_tail(tail))))
    }

    // How the end of a gRPC response is told, and by which limits.
    fn grpc_end(
        &self,
        routed: &Routed,
        limits: &mut Limits,
        endpoint: SocketAddr,
        status_due: bool,
    ) -> GrpcEnd {
        // Difference::StreamDeadline.
        let outlives = !routed.is_mesh() && self.own_deadline != self.deadline;
        let mut once_begun = None;
        match self.kind(&routed.rule) {
            MethodKind::Auto if outlives => {
                once_begun = Some(self.own_deadline);
                limits.let_request_move();
            }
            MethodKind::Streaming if outlives => limits.set_request(self.own_deadline),
            _ => {}
        }
        GrpcEnd {
            in_trailers: self.shared.answer_grpc_errors,
            // Difference::GrpcMissingStatus.
            status_due: status_due && !routed.is_mesh(),
            once_begun,
            endpoint,
            attempts: self.tries.sent(),
        }
    }
}

fn speaks_grpc(response: &Response<Body>) -> bool {
    let headers = response.headers();
    // The common case first.
    let page = || !is_grpc(headers) && headers.contains_key(CONTENT_TYPE);
    (response.status() == StatusCode::OK && !page()) || headers.contains_key(GRPC_STATUS)
}
