//! An attempt that was sent: what it comes to, and who hears of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Response;
use tokio::time::Instant;

use super::hedge::Raced;
use super::{Next, Step, Walk};
use crate::body::Body;
use crate::client::attempt::{Answered, Attempt, Prior};
use crate::client::plan::Routed;
use crate::core::BoxError;
use crate::core::observe::{Answer, Decision, NotRetried};
use crate::deadline::earlier;
use crate::error::{Error, ErrorKind};
use crate::options::Served;
use crate::retry::{Attempted, Judgement};
use crate::verdict::grpc::GrpcEos;
use crate::verdict::{
    Classified, ClassifyResponse, Outcome, Sent, TransportError, TransportFailure, Verdict,
    judge_head,
};

// === impl Walk ===

impl Walk {
    /// Waits for the answer, beside which there may be a second attempt.
    pub(super) fn call(
        &mut self,
        cx: &mut Context<'_>,
        routed: &Routed,
        backend: usize,
        mut attempt: Attempt,
    ) -> Next {
        let polled = attempt.call.as_mut().poll_response(cx);
        let now = Instant::now();
        match polled {
            Poll::Ready(Ok(response)) if self.has_rival() && !self.wins(routed, &response) => {
                self.lost(routed, attempt, &response, now);
                self.promote(now)
            }
            Poll::Ready(Ok(response)) => {
                self.end_race(now);
                self.answered(routed, backend, attempt, response, now)
            }
            Poll::Ready(Err(error)) if self.has_rival() => {
                self.settle_failed(attempt, error, now);
                self.promote(now)
            }
            Poll::Ready(Err(error)) => {
                self.end_race(now);
                self.failed(routed, attempt, error, now)
            }
            Poll::Pending => self.unanswered(cx, routed, backend, attempt, now),
        }
    }

    // It goes on waiting, unless its time is over or the second attempt is there first.
    fn unanswered(
        &mut self,
        cx: &mut Context<'_>,
        routed: &Routed,
        backend: usize,
        attempt: Attempt,
        now: Instant,
    ) -> Next {
        self.limits.wake_when_sent(cx.waker());
        // Over its limit, the request's body makes this the only try.
        if self.limits.is_try() && !self.template.is_replayable() {
            self.limits.only_try();
        }
        let Some(timeout) = self.limits.passed(now) else {
            let first = (backend, attempt.endpoint());
            return match self.race(cx, routed, first, now) {
                Raced::Wait(until) => {
                    let until = earlier(self.limits.next(), until);
                    self.sleep(Step::Call { backend, attempt }, until)
                }
                Raced::Won(won) => {
                    let (backend, winner, response) = *won;
                    // What it waited is evidence.
                    drop(attempt);
                    self.answered(routed, backend, winner, response, now)
                }
            };
        };
        // It had its time: that is evidence against the endpoint, unless it waited for the caller.
        let mut outcome = match attempt.waits_for_caller() {
            true => Outcome::NEUTRAL,
            false => Outcome::FAILURE,
        };
        outcome.sent = Some(Sent::Unknown);
        let error = Error::new(timeout.into());
        if self.has_rival() && !self.is_late(now) {
            self.settled(attempt, error, &outcome, now);
            return self.promote(now);
        }
        self.end_race(now);
        self.ended(routed, attempt, error, &outcome, now)
    }

    fn answered(
        &mut self,
        routed: &Routed,
        backend: usize,
        attempt: Attempt,
        response: Response<Body>,
        now: Instant,
    ) -> Next {
        let endpoint = attempt.endpoint();
        let status = response.status();
        let head = self.classify(routed, &response);
        self.told_answer(endpoint, Answer::Status(status.as_u16()), now);
        let Some(mut ticket) = attempt.into_ticket() else {
            return self.fail(ErrorKind::InvalidRequest);
        };
        ticket.head(head, now);
        let mut limits = std::mem::take(&mut self.limits);
        limits.head(now, self.timeouts.idle);
        let judged = self.judge(routed, Attempted::Head(status, response.headers()));
        // What the policy would try again has not succeeded, whoever is to blame for it.
        if let Classified::Ready(outcome) = head
            && outcome.verdict == Verdict::Success
            && judged == Judgement::Final
        {
            self.budgets().for_each(|budget| budget.success(now));
        }
        let verdict = match head {
            Classified::Ready(outcome) => Some(outcome.verdict),
            Classified::AtEnd(_) => None,
        };
        let answered = Answered::new(response, ticket, endpoint, backend, limits, verdict);
        if verdict.is_none() && judged == Judgement::Final {
            return self.hold_or_answer(routed, answered, now);
        }
        self.decide(routed, answered, judged, now)
    }

    /// Another try, or not.
    pub(super) fn decide(
        &mut self,
        routed: &Routed,
        answered: Answered,
        judged: Judgement,
        now: Instant,
    ) -> Next {
        let endpoint = answered.endpoint;
        match judged {
            Judgement::Retry(again) => {
                let prior = Prior::Response(Box::new(answered));
                self.again(routed, endpoint, prior, again, now)
            }
            Judgement::Stop => {
                self.prior = Some(Prior::Response(Box::new(answered)));
                self.stand(routed, now, NotRetried::Pushback)
            }
            // A response cannot be unsafe.
            Judgement::Final | Judgement::Unsafe => self.answer(routed, answered),
        }
    }

    // What a response's head says of its endpoint.
    pub(super) fn classify(
        &self,
        routed: &Routed,
        response: &Response<Body>,
    ) -> Classified<GrpcEos> {
        let status = response.status();
        if let Some(outcome) = judged_inside(response) {
            return Classified::Ready(outcome);
        }
        match routed.rule.classes.is_failure(status) {
            Some(failed) => Classified::Ready(judge_head(failed, status, response.headers())),
            None if self.grpc => routed
                .plan
                .grpc
                .classify_response(status, response.headers()),
            None => Classified::Ready(routed.plan.http.judge(status, response.headers())),
        }
    }

    pub(super) fn told_answer(&self, endpoint: SocketAddr, answer: Answer, now: Instant) {
        let (number, attempts) = (self.number, self.tries.sent());
        self.tell(now, || Decision::Answered {
            request: number,
            attempt: attempts,
            endpoint,
            answer,
        });
    }

    // A leaf that fails to become ready has failed an attempt: nothing was sent.
    pub(super) fn unready(
        &mut self,
        routed: &Routed,
        attempt: Attempt,
        error: BoxError,
        now: Instant,
    ) -> Next {
        self.tries.send();
        self.committed(&attempt, now);
        let error = TransportError::new(
            TransportError::find(&*error)
                .map_or(TransportFailure::Connect, TransportError::failure),
            Sent::NotSent,
            error,
        );
        self.failed(routed, attempt, error.into(), now)
    }

    // A leaf's own error.
    fn failed(
        &mut self,
        routed: &Routed,
        attempt: Attempt,
        source: BoxError,
        now: Instant,
    ) -> Next {
        let (error, outcome) = sort(source);
        self.ended(routed, attempt, error, &outcome, now)
    }

    // The same of an attempt beside which there is another.
    pub(super) fn settle_failed(&mut self, attempt: Attempt, source: BoxError, now: Instant) {
        let (error, outcome) = sort(source);
        self.tried(attempt.endpoint());
        self.settled(attempt, error, &outcome, now);
    }

    // An attempt ended without a response, and its endpoint hears of it.
    fn settled(
        &mut self,
        attempt: Attempt,
        error: Error,
        outcome: &Outcome,
        now: Instant,
    ) -> Error {
        let endpoint = attempt.endpoint();
        self.told_answer(endpoint, Answer::Error(error.kind().name()), now);
        attempt.settle(outcome);
        error
            .with_endpoint(endpoint)
            .with_attempts(self.tries.sent())
    }

    // An attempt that ended without a response.
    fn ended(
        &mut self,
        routed: &Routed,
        attempt: Attempt,
        error: Error,
        outcome: &Outcome,
        now: Instant,
    ) -> Next {
        let endpoint = attempt.endpoint();
        let error = self.settled(attempt, error, outcome, now);
        let sent = outcome.sent.unwrap_or(Sent::Unknown);
        match self.judge(routed, Attempted::Failed(error.kind(), sent)) {
            Judgement::Retry(again) => {
                self.again(routed, endpoint, Prior::Error(error), again, now)
            }
            Judgement::Unsafe => {
                self.prior = Some(Prior::Error(error));
                self.stand(routed, now, NotRetried::Unsafe)
            }
            // An error asks for nothing.
            Judgement::Final | Judgement::Stop => self.done(Err(error)),
        }
    }
}

// What a leaf's error is, and what it says of its endpoint.
fn sort(source: BoxError) -> (Error, Outcome) {
    let sent = TransportError::find(&*source).map_or(Sent::Unknown, TransportError::sent);
    let error = Error::from_leaf(source);
    let mut outcome = match error.kind() {
        ErrorKind::RequestBody | ErrorKind::InvalidRequest => Outcome::NEUTRAL,
        // Another client's refusal: its endpoints have nothing to do with it.
        kind if kind.is_local() => Outcome::NEUTRAL,
        _ => Outcome::FAILURE,
    };
    outcome.sent = Some(sent);
    (error, outcome)
}

// What a client within this one has already said of its own answer. Nobody judges twice, and a refusal made by us is no
// fault of an endpoint's.
fn judged_inside(response: &Response<Body>) -> Option<Outcome> {
    let extensions = response.extensions();
    if let Some(error) = extensions.get::<Arc<Error>>() {
        return error.is_local().then_some(Outcome::NEUTRAL);
    }
    extensions.get::<Served>()?.verdict.map(Outcome::new)
}
