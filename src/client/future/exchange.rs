//! One attempt, from a ready endpoint to its answer.

use std::task::{Context, Poll};

use http::{Request, Response};
use tokio::time::Instant;

use super::{Next, Step, Walk};
use crate::body::Body;
use crate::client::attempt::{Answered, Attempt, Prior};
use crate::client::plan::{Plan, RulePlan};
use crate::core::BoxError;
use crate::core::draw::{Purpose, draw};
use crate::core::error::{Error, ErrorKind};
use crate::core::observe::{Answer, Decision, NotRetried};
use crate::core::time::after;
use crate::deadline::earlier;
use crate::retry::{Attempted, Judgement};
use crate::route::{Filtered, filter_request};
use crate::verdict::{Outcome, Sent, TransportError, TransportFailure, Verdict};

// === impl Walk ===

impl Walk {
    // A leaf that fails to become ready has failed an attempt: nothing was sent.
    pub(super) fn unready(
        &mut self,
        rule: &RulePlan,
        attempt: Attempt,
        error: BoxError,
        now: Instant,
    ) -> Next {
        self.attempts += 1;
        self.committed(&attempt, now);
        let error = TransportError::new(
            TransportError::find(&*error)
                .map_or(TransportFailure::Connect, TransportError::failure),
            Sent::NotSent,
            error,
        );
        self.failed(rule, attempt, error.into(), now)
    }

    // The attempt that was prepared takes place: it is paid for, and the answer before it is let go.
    pub(super) fn committed(&mut self, attempt: &Attempt, now: Instant) {
        if let Some(token) = self.token.take() {
            token.spend();
        }
        self.prior = None;
        let (number, attempts) = (self.number, self.attempts);
        let (endpoint, probe) = (attempt.endpoint(), attempt.is_probe());
        self.tell(now, || Decision::Picked {
            request: number,
            attempt: attempts,
            endpoint,
            probe,
        });
    }

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
        let retry = rule.retry.as_ref().map(|retry| &retry.retry);
        // The next attempt, if there is one, needs what this one sends.
        self.attempts += 1;
        let keep = retry.is_some_and(|retry| self.may_keep(retry));
        let Some(request) = self.template.take(keep) else {
            return self.fail(ErrorKind::InvalidRequest);
        };
        let (mut parts, body) = request.into_parts();
        let plan = self.plan.as_ref().map(|(_, matched)| matched.path);
        let filters = &rule.backends[backend].filters;
        if let Some(path) = plan
            && !filters.is_empty()
        {
            let (seed, number) = (self.shared.backends.seed, self.number);
            let mut drawn = u64::from(self.attempts) << 32;
            let word = || {
                drawn += 1;
                draw(seed, number, Purpose::Inject, drawn)
            };
            let headers = &mut parts.headers;
            if let Err(filtered) = filter_request(filters, &parts.uri, headers, path, word) {
                self.attempts -= 1;
                return self.fail(filtered.into());
            }
        }
        self.committed(&attempt, now);
        let try_until = retry
            .filter(|_| keep)
            .and_then(|retry| Some(after(now, retry.timeout()?)));
        let response_until = rule.timeouts.response.map(|limit| after(now, limit));
        attempt.send(Request::from_parts(parts, body));
        self.go(Step::Call {
            backend,
            attempt,
            try_until,
            response_until,
        })
    }

    pub(super) fn call(
        &mut self,
        cx: &mut Context<'_>,
        backend: usize,
        mut attempt: Attempt,
        try_until: Option<Instant>,
        response_until: Option<Instant>,
    ) -> Next {
        let Some((plan, matched)) = self.plan.clone() else {
            return self.fail(ErrorKind::NoPolicy);
        };
        let rule = plan.rule(&matched);
        let polled = attempt.call.as_mut().poll_response(cx);
        let now = Instant::now();
        match polled {
            Poll::Ready(Ok(response)) => {
                self.answered(&plan, rule, backend, attempt, response, response_until, now)
            }
            Poll::Ready(Err(error)) => self.failed(rule, attempt, error, now),
            Poll::Pending => {
                let passed = |at: Option<Instant>| at.is_some_and(|at| now >= at);
                let kind = if passed(self.deadline) {
                    ErrorKind::RequestTimeout
                } else if passed(response_until) {
                    ErrorKind::ResponseTimeout
                } else if passed(try_until) {
                    ErrorKind::HeadersTimeout
                } else {
                    let until = earlier(earlier(self.deadline, response_until), try_until);
                    return self.sleep(
                        Step::Call {
                            backend,
                            attempt,
                            try_until,
                            response_until,
                        },
                        until,
                    );
                };
                // It had its time: that is evidence against the endpoint.
                let error = Error::new(kind);
                self.ended(rule, attempt, error, &Outcome::FAILURE, Sent::Unknown, now)
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "what one answer consists of")]
    pub(super) fn answered(
        &mut self,
        plan: &Plan,
        rule: &RulePlan,
        backend: usize,
        attempt: Attempt,
        response: Response<Body>,
        response_until: Option<Instant>,
        now: Instant,
    ) -> Next {
        let endpoint = attempt.endpoint();
        let status = response.status();
        let outcome = plan.classifier.judge(status, response.headers());
        let (number, attempts) = (self.number, self.attempts);
        self.tell(now, || Decision::Answered {
            request: number,
            attempt: attempts,
            endpoint,
            answer: Answer::Status(status.as_u16()),
        });
        let Some(mut ticket) = attempt.into_ticket() else {
            return self.fail(ErrorKind::InvalidRequest);
        };
        ticket.head(outcome);
        let budget = rule.retry.as_ref().and_then(|retry| retry.budget.as_ref());
        if let (Verdict::Success, Some(budget)) = (outcome.verdict, budget) {
            budget.deposit();
        }
        let answered = Answered {
            response,
            ticket,
            endpoint,
            backend,
            response_until,
        };
        let judged = self.judge(rule, plan, Attempted::Response(status));
        match judged {
            Judgement::Retry => self.again(
                rule,
                plan,
                endpoint,
                Prior::Response(Box::new(answered)),
                now,
            ),
            // A response cannot be unsafe.
            Judgement::Final | Judgement::Unsafe => self.answer(rule, answered),
        }
    }

    // A leaf's own error.
    pub(super) fn failed(
        &mut self,
        rule: &RulePlan,
        attempt: Attempt,
        source: BoxError,
        now: Instant,
    ) -> Next {
        let sent = TransportError::find(&*source).map_or(Sent::Unknown, TransportError::sent);
        let error = Error::from_leaf(source);
        let outcome = match error.kind() {
            ErrorKind::RequestBody | ErrorKind::InvalidRequest => Outcome::NEUTRAL,
            _ => Outcome::FAILURE,
        };
        self.ended(rule, attempt, error, &outcome, sent, now)
    }

    // An attempt that ended without a response.
    pub(super) fn ended(
        &mut self,
        rule: &RulePlan,
        attempt: Attempt,
        error: Error,
        outcome: &Outcome,
        sent: Sent,
        now: Instant,
    ) -> Next {
        let endpoint = attempt.endpoint();
        let (number, attempts) = (self.number, self.attempts);
        let name = error.kind().name();
        self.tell(now, || Decision::Answered {
            request: number,
            attempt: attempts,
            endpoint,
            answer: Answer::Error(name),
        });
        attempt.settle(outcome);
        let error = error.with_endpoint(endpoint).with_attempts(attempts);
        let Some((plan, _)) = self.plan.clone() else {
            return self.done(Err(error));
        };
        match self.judge(rule, &plan, Attempted::Failed(error.kind(), sent)) {
            Judgement::Retry => self.again(rule, &plan, endpoint, Prior::Error(error), now),
            Judgement::Unsafe => {
                self.prior = Some(Prior::Error(error));
                self.stand(now, NotRetried::Unsafe)
            }
            Judgement::Final => self.done(Err(error)),
        }
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
            Filtered::Invalid(invalid) => Self::InvalidFilter(invalid.to_string()),
        }
    }
}
