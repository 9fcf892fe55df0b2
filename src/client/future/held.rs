//! A gRPC response that is held back until its trailers have come, or for as long as that is worth it.

use std::task::{Context, Poll};

use http::HeaderMap;
use tokio::time::Instant;

use super::{Next, Step, Walk};
use crate::body::Arrived;
use crate::client::attempt::Answered;
use crate::client::plan::Routed;
use crate::core::observe::Decision;
use crate::deadline::earlier;
use crate::error::{Error, ErrorKind};
use crate::retry::{Attempted, Hold, Judgement};
use crate::verdict::{Outcome, Sent, Verdict};

/// What is held back.
pub(super) struct Holding {
    answered: Answered,
    hold: Hold,
    since: Instant,
    // Whether the next frame is waited for.
    awaited: bool,
}

// === impl Walk ===

impl Walk {
    /// The head has no code: holds it back if one in the trailers could be retried.
    pub(super) fn hold_or_answer(
        &mut self,
        routed: &Routed,
        mut answered: Answered,
        now: Instant,
    ) -> Next {
        let Some(hold) = self.hold(routed, now) else {
            return self.answer(routed, answered);
        };
        answered.hold();
        self.go(Step::Held(Box::new(Holding {
            answered,
            hold,
            since: now,
            awaited: false,
        })))
    }

    fn hold(&self, routed: &Routed, now: Instant) -> Option<Hold> {
        let retry = &self.retry.as_ref()?.retry;
        let limit = self.max_retries(retry);
        let may_retry = self.tries.may_cut(limit) && self.template.is_replayable();
        if !self.grpc || retry.codes().is_empty() || !may_retry {
            return None;
        }
        Hold::new(
            retry.trailers(),
            self.kind(&routed.rule),
            routed.plan.fidelity,
            retry.max_request_bytes(),
            now,
        )
    }

    pub(super) fn held(
        &mut self,
        cx: &mut Context<'_>,
        routed: &Routed,
        mut holding: Box<Holding>,
    ) -> Next {
        loop {
            let Holding {
                answered,
                hold,
                awaited,
                ..
            } = &mut *holding;
            let now = Instant::now();
            let held = answered.hold();
            match held.poll_next(cx) {
                Poll::Ready(Arrived::Data(data)) => {
                    let on = hold.data(&data, held.cost(), now);
                    *awaited = false;
                    answered.ticket.frame(true);
                    if !on {
                        return self.too_late(routed, *holding);
                    }
                }
                Poll::Ready(Arrived::Trailers(trailers)) => {
                    let trailers = trailers.clone();
                    return self.ended_with(routed, *holding, Some(&trailers), now);
                }
                Poll::Ready(Arrived::Ended) => {
                    return self.ended_with(routed, *holding, None, now);
                }
                Poll::Ready(Arrived::Broke) => {
                    answered.ticket.settle_in_place(&Outcome::FAILURE);
                    answered.verdict = Some(Verdict::Failure);
                    // Nobody has seen any of it.
                    let broken = Attempted::Failed(&ErrorKind::Broken, Sent::Unknown);
                    let judged = self.judge(routed, broken);
                    return self.decide(routed, holding.answered, judged, now);
                }
                Poll::Pending if !hold.waits(now) => return self.too_late(routed, *holding),
                Poll::Pending => {
                    let limits = &mut answered.limits;
                    if !std::mem::replace(awaited, true) {
                        limits.awaited();
                    }
                    limits.wake_when_sent(cx.waker());
                    if let Some(timeout) = limits.passed(now) {
                        answered.ticket.settle_in_place(&Outcome::FAILURE);
                        let error = Error::new(timeout.into()).with_endpoint(answered.endpoint);
                        return self.done(Err(error.with_attempts(self.tries.sent())));
                    }
                    let until = earlier(hold.until(), limits.next());
                    return self.sleep(Step::Held(holding), until);
                }
            }
        }
    }

    // It was held for long enough, or is a stream: the code in its trailers, whatever it is, comes too late.
    fn too_late(&mut self, routed: &Routed, holding: Holding) -> Next {
        let (number, attempts) = (self.number, self.tries.sent());
        let now = Instant::now();
        self.tell(now, || Decision::HandedOver {
            request: number,
            attempt: attempts,
            held: now.saturating_duration_since(holding.since),
        });
        let mut answered = holding.answered;
        answered.late = true;
        self.answer(routed, answered)
    }

    fn ended_with(
        &mut self,
        routed: &Routed,
        holding: Holding,
        trailers: Option<&HeaderMap>,
        now: Instant,
    ) -> Next {
        let mut answered = holding.answered;
        let outcome = answered.ticket.end_in_place(trailers);
        answered.verdict = Some(outcome.verdict);
        let judged = self.judge(routed, Attempted::Trailers(trailers));
        // What the policy would try again has not succeeded, whoever is to blame for it.
        if outcome.verdict == Verdict::Success && judged == Judgement::Final {
            self.budgets().for_each(|budget| budget.success(now));
        }
        self.decide(routed, answered, judged, now)
    }
}
