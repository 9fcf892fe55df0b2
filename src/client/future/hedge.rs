//! A second attempt beside one that takes long: the race of the two.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Response;
use tokio::time::Instant;

use super::{Next, Step, Walk};
use crate::body::Body;
use crate::budget::{RetryBudget, Token};
use crate::client::attempt::Attempt;
use crate::client::plan::{HedgePlan, Plan, Routed, RulePlan};
use crate::core::BoxError;
use crate::core::observe::{Answer, Decision};
use crate::core::time::after;
use crate::deadline::Limits;
use crate::error::Error;
use crate::retry::{Attempted, Judgement, hedge::is_safe};

/// How soon it is looked at again whether a request's body was read to its end.
const UNREAD: Duration = Duration::from_millis(10);

/// What a request that may be hedged keeps of its race.
pub(super) struct Hedging {
    plan: Arc<HedgePlan>,
    // When the first attempt was sent, and when the second is due; none once it was, or was not to be.
    sent: Instant,
    due: Option<Instant>,
    rival: Option<Box<Rival>>,
}

/// The second attempt.
struct Rival {
    backend: usize,
    attempt: Attempt,
    limits: Limits,
    // Until it is sent.
    token: Option<Token<'static>>,
    sent: bool,
}

type LeafResult = Result<Response<Body>, BoxError>;

/// What the second attempt comes to while the first is waited for.
pub(super) enum Raced {
    /// The first is still on its way, and so may be the second; look again by then.
    Wait(Option<Instant>),
    /// The second answered first.
    Won(Box<(usize, Attempt, Response<Body>)>),
}

// === impl Walk ===

impl Walk {
    /// The route's hedges, if this request is safe and may go elsewhere.
    pub(super) fn hedges(&self, rule: &RulePlan) -> Option<Arc<HedgePlan>> {
        let plan = rule.hedge.clone()?;
        let method = self.template.method()?;
        let safe = self.options.safe_to_repeat || (!self.grpc && is_safe(method));
        let once = self.options.max_retries == Some(0) || self.options.only.is_some();
        (safe && !once).then_some(plan)
    }

    /// The first attempt was sent.
    pub(super) fn await_rival(&mut self, now: Instant) {
        self.hedging = self.hedge.clone().map(|plan| Hedging {
            due: plan.pace.due(now),
            plan,
            sent: now,
            rival: None,
        });
    }

    /// The first attempt has its answer, or is given up: the second is let go, if there is one.
    pub(super) fn end_race(&mut self, now: Instant) {
        if let Some(hedging) = self.hedging.take() {
            hedging.plan.pace.answered(hedging.sent, now);
        }
    }

    /// Whether a second attempt is on its way.
    pub(super) fn has_rival(&self) -> bool {
        let rival = self.hedging.as_ref().and_then(|it| it.rival.as_ref());
        rival.is_some_and(|rival| rival.sent)
    }

    /// The first attempt failed: the second takes its place.
    pub(super) fn promote(&mut self, now: Instant) -> Next {
        let Some(rival) = self.hedging.as_mut().and_then(|it| it.rival.take()) else {
            return self.go(Step::Choose);
        };
        self.end_race(now);
        self.limits = rival.limits;
        let (backend, attempt) = (rival.backend, rival.attempt);
        self.go(Step::Call { backend, attempt })
    }

    /// Whether this answer ends the race.
    pub(super) fn wins(&self, routed: &Routed, response: &Response<Body>) -> bool {
        let head = Attempted::Head(response.status(), response.headers());
        let status = response.status();
        let failed = routed.rule.classes.is_failure(status);
        !failed.unwrap_or_else(|| status.is_server_error())
            && self.judge(routed, head) == Judgement::Final
    }

    /// An answer that did not win while the other attempt is still on its way.
    pub(super) fn lost(
        &mut self,
        routed: &Routed,
        attempt: Attempt,
        response: &Response<Body>,
        now: Instant,
    ) {
        let (endpoint, status) = (attempt.endpoint(), response.status());
        self.tried(endpoint);
        self.told_answer(endpoint, Answer::Status(status.as_u16()), now);
        if let Some(mut ticket) = attempt.into_ticket() {
            ticket.head(self.classify(routed, response), now);
        }
    }

    /// The second attempt, while the first is waited for.
    pub(super) fn race(
        &mut self,
        cx: &mut Context<'_>,
        routed: &Routed,
        first: (usize, SocketAddr),
        now: Instant,
    ) -> Raced {
        let Some(mut hedging) = self.hedging.take() else {
            return Raced::Wait(None);
        };
        if let Some(due) = hedging.due {
            if now < due {
                self.hedging = Some(hedging);
                return Raced::Wait(Some(due));
            }
            hedging.due = None;
            if self.template.is_unread() {
                // It may still turn out to be larger than what is kept.
                hedging.due = Some(after(now, UNREAD));
            } else if self.template.is_replayable() {
                hedging.rival = self.hire(&hedging.plan, &routed.rule, first, now);
            }
        }
        let raced = match hedging.rival.take() {
            None => Raced::Wait(hedging.due),
            Some(mut rival) => {
                match self.poll_rival(cx, routed, &mut rival, now) {
                    Poll::Pending => {
                        let until = rival.sent.then(|| rival.limits.next()).flatten();
                        hedging.rival = Some(rival);
                        Raced::Wait(until)
                    }
                    Poll::Ready(None) => Raced::Wait(None),
                    Poll::Ready(Some(Ok(response))) if self.wins(routed, &response) => {
                        // The first has waited at least that long.
                        hedging.plan.pace.answered(hedging.sent, now);
                        self.limits = rival.limits;
                        let won = (rival.backend, rival.attempt, response);
                        return Raced::Won(Box::new(won));
                    }
                    Poll::Ready(Some(Ok(response))) => {
                        self.lost(routed, rival.attempt, &response, now);
                        Raced::Wait(None)
                    }
                    Poll::Ready(Some(Err(error))) => {
                        self.settle_failed(rival.attempt, error, now);
                        Raced::Wait(None)
                    }
                }
            }
        };
        self.hedging = Some(hedging);
        raced
    }

    // Another endpoint, if something pays for it.
    fn hire(
        &mut self,
        plan: &HedgePlan,
        rule: &RulePlan,
        (backend, first): (usize, SocketAddr),
        now: Instant,
    ) -> Option<Box<Rival>> {
        let token = plan.budget.withdraw_hedge(now)?.into_owned();
        let attempt = self.pick(rule, backend, now, Some(first))?;
        Some(Box::new(Rival {
            backend,
            attempt,
            limits: Limits::default(),
            token: Some(token),
            sent: false,
        }))
    }

    // None: it came to nothing.
    fn poll_rival(
        &mut self,
        cx: &mut Context<'_>,
        routed: &Routed,
        rival: &mut Rival,
        now: Instant,
    ) -> Poll<Option<LeafResult>> {
        if !rival.sent {
            match rival.attempt.call.as_mut().poll_ready(cx) {
                Poll::Pending => {
                    rival.attempt.delayed();
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Ok(())) => {}
            }
            let Some(request) = self.template.race() else {
                return Poll::Ready(None);
            };
            self.token = rival.token.take();
            let (backend, attempt) = (rival.backend, &mut rival.attempt);
            self.tries.send_beside();
            match self.launch(routed, backend, attempt, request, None, now) {
                Ok(limits) => rival.limits = limits,
                Err(_) => {
                    self.token = None;
                    self.tries.unsend_beside();
                    return Poll::Ready(None);
                }
            }
            rival.sent = true;
            let (number, attempts) = (self.number, self.tries.sent());
            self.tell(now, || Decision::Hedged {
                request: number,
                attempt: attempts,
            });
        }
        if let Poll::Ready(result) = rival.attempt.call.as_mut().poll_response(cx) {
            return Poll::Ready(Some(result));
        }
        rival.limits.wake_when_sent(cx.waker());
        match rival.limits.passed(now) {
            None => Poll::Pending,
            Some(timeout) => {
                let error = Error::new(timeout.into());
                Poll::Ready(Some(Err(error.into())))
            }
        }
    }

    /// What a success of this request pays into, and a request, where requests earn.
    pub(super) fn budgets(&self) -> impl Iterator<Item = &RetryBudget> {
        self.budget().into_iter().chain(self.hedge_budget())
    }

    // The hedges' own, if they have one.
    fn hedge_budget(&self) -> Option<&RetryBudget> {
        let hedge = &self.hedge.as_ref()?.budget;
        let shared = self.budget().is_some_and(|budget| budget.is_same(hedge));
        (!shared).then_some(hedge)
    }
}

// Difference::Hedging.
pub(super) fn is_on(plan: &Plan) -> bool {
    !plan.is_mesh()
}
