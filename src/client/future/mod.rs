//! The future that walks the plan: one step after the other, each in a file of its own.

mod again;
mod choose;
mod exchange;
mod hedge;
mod held;
mod send;
mod wait;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, Version};
use pin_project_lite::pin_project;
use tokio::sync::futures::OwnedNotified;
use tokio::time::Instant;

use self::hedge::Hedging;
use self::held::Holding;
use self::wait::Waits;
use super::Shared;
use super::attempt::{Attempt, Prior, Template};
use super::plan::{HedgePlan, RetryPlan, Routed, RulePlan};
use super::respond::grpc_response;
use crate::body::Body;
use crate::budget::Token;
use crate::core::in_flight::InFlightGuard;
use crate::core::observe::Decision;
use crate::core::time::after;
use crate::deadline::{Alarm, Limits, earlier};
use crate::error::{Error, ErrorKind};
use crate::options::RequestOptions;
use crate::policy::{MethodKind, Retry, Timeouts};
use crate::retry::{self, Tries};
use crate::verdict::grpc::is_grpc;

pin_project! {
    /// A request on its way: [`Client::request`](super::Client::request).
    ///
    /// Dropped, it leaves nothing behind but what was learned.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture {
        walk: Walk,
        // The one timer, for whatever is waited for.
        #[pin]
        alarm: Alarm,
        // A change that is waited for.
        #[pin]
        changed: Option<OwnedNotified>,
    }
}

/// What goes along with a request.
struct Walk {
    shared: Arc<Shared>,
    // Once it is known; a step has it for as long as it takes.
    routed: Option<Routed>,
    in_flight: Option<InFlightGuard>,
    template: Template,
    options: RequestOptions,
    version: Version,
    repeatable: bool,
    grpc: bool,
    // The rule's, or what the request's own headers say instead.
    timeouts: Timeouts,
    retry: Option<Arc<RetryPlan>>,
    number: u64,
    started: Instant,
    deadline: Option<Instant>,
    // What of it the caller itself asked for.
    own_deadline: Option<Instant>,
    tries: Tries,
    hedge: Option<Arc<HedgePlan>>,
    hedging: Option<Hedging>,
    // Of the attempt that was sent.
    limits: Limits,
    // Counts picks, so that each draws anew.
    round: u64,
    avoid: Vec<SocketAddr>,
    waited: Duration,
    token: Option<Token<'static>>,
    prior: Option<Prior>,
    result: Option<ClientResult>,
    step: Step,
}

enum Step {
    Begin,
    /// No policy yet.
    Policy {
        until: Instant,
    },
    /// Find an endpoint.
    Choose,
    /// None can serve.
    Wait {
        places: Waits,
        since: Instant,
    },
    /// Its leaf is not ready yet, and neither is the other one's, if there is one.
    Ready {
        backend: usize,
        first: Attempt,
        // Rare, and as large as the first.
        second: Option<Box<Attempt>>,
        until: Instant,
    },
    /// It was sent.
    Call {
        backend: usize,
        attempt: Attempt,
    },
    /// Its response is held back for its trailers.
    Held(Box<Holding>),
    /// It will be sent again.
    Backoff {
        until: Instant,
    },
    Done,
}

// === impl Step ===

impl Step {
    fn listens(&self) -> bool {
        matches!(self, Self::Policy { .. })
    }
}

type ClientResult = Result<Response<Body>, Error>;

// What a step asks for.
enum Next {
    /// Go on with the step that is now set.
    Go,
    /// Wait for this moment, or for the change that is listened for.
    Sleep(Option<Instant>),
    /// The walk has its result.
    Done,
}

// === impl ResponseFuture ===

impl ResponseFuture {
    pub(super) fn new(
        shared: Arc<Shared>,
        number: u64,
        mut request: Request<Body>,
        now: Instant,
    ) -> Self {
        let options: RequestOptions = request.extensions_mut().remove().unwrap_or_default();
        let timeout = options.timeout.map(|timeout| after(now, timeout));
        let version = request.version();
        let grpc = is_grpc(request.headers());
        let idempotent = || retry::is_idempotent(request.method(), request.headers());
        let repeatable = options.safe_to_repeat || grpc || idempotent();
        Self {
            walk: Walk {
                shared,
                routed: None,
                in_flight: None,
                deadline: earlier(options.deadline, timeout),
                own_deadline: earlier(options.deadline, timeout),
                avoid: options.avoid.clone(),
                template: Template::new(request),
                options,
                version,
                repeatable,
                grpc,
                timeouts: Timeouts::default(),
                retry: None,
                number,
                started: now,
                tries: Tries::default(),
                hedge: None,
                hedging: None,
                limits: Limits::default(),
                round: 0,
                waited: Duration::ZERO,
                token: None,
                prior: None,
                result: None,
                step: Step::Begin,
            },
            alarm: Alarm::default(),
            changed: None,
        }
    }
}

impl Future for ResponseFuture {
    type Output = ClientResult;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<ClientResult> {
        let mut this = self.project();
        loop {
            match this.walk.step(cx, this.changed.as_mut()) {
                // What is listened to belongs to the step that waits for it.
                Next::Go if this.walk.step.listens() => {}
                Next::Go => this.changed.set(None),
                Next::Done => {
                    this.changed.set(None);
                    if let Some(result) = this.walk.finish() {
                        return Poll::Ready(result);
                    }
                    // Polled again after it was ready: the same as never.
                    return Poll::Pending;
                }
                Next::Sleep(until) => {
                    let changed = this.changed.as_mut().as_pin_mut();
                    if changed.is_some_and(|changed| changed.poll(cx).is_ready()) {
                        this.changed.set(None);
                    } else if this.alarm.as_mut().poll_at(cx, until).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

// === impl Walk ===

impl Walk {
    fn step(&mut self, cx: &mut Context<'_>, changed: Pin<&mut Option<OwnedNotified>>) -> Next {
        let let_go = self.poll_kept(cx);
        match self.walk_on(cx, changed) {
            Next::Sleep(until) => Next::Sleep(earlier(until, let_go)),
            next => next,
        }
    }

    // Reads the rest of an answer that is kept in case it stands. Returns until when, if there may be more.
    fn poll_kept(&mut self, cx: &mut Context<'_>) -> Option<Instant> {
        let Some(Prior::Response(answered)) = &mut self.prior else {
            return None;
        };
        if !answered.is_kept_open() {
            return None;
        }
        let until = answered.poll_kept(cx, Instant::now());
        if until.is_none() {
            // It was sent as far as it was: nobody reads its request's body any longer.
            self.template.release();
        }
        until
    }

    fn walk_on(&mut self, cx: &mut Context<'_>, changed: Pin<&mut Option<OwnedNotified>>) -> Next {
        let Some(routed) = self.routed.take() else {
            return match std::mem::replace(&mut self.step, Step::Done) {
                Step::Begin => self.begin(),
                Step::Policy { until } => self.policy(until, changed),
                _ => Next::Done,
            };
        };
        let next = match std::mem::replace(&mut self.step, Step::Done) {
            Step::Choose => self.choose(&routed),
            Step::Wait { places, since } => self.wait(cx, &routed, places, since),
            Step::Ready {
                backend,
                first,
                second,
                until,
            } => self.ready(cx, &routed, backend, first, second, until),
            Step::Call { backend, attempt } => self.call(cx, &routed, backend, attempt),
            Step::Held(holding) => self.held(cx, &routed, holding),
            Step::Backoff { until } if Instant::now() >= until => self.go(Step::Choose),
            Step::Backoff { until } => self.sleep(Step::Backoff { until }, Some(until)),
            Step::Begin | Step::Policy { .. } | Step::Done => Next::Done,
        };
        self.routed = Some(routed);
        next
    }

    fn go(&mut self, step: Step) -> Next {
        self.step = step;
        Next::Go
    }

    fn done(&mut self, result: ClientResult) -> Next {
        self.result = Some(result);
        Next::Done
    }

    fn fail(&mut self, kind: ErrorKind) -> Next {
        self.done(Err(Error::new(kind)))
    }

    fn sleep(&mut self, step: Step, until: Option<Instant>) -> Next {
        self.step = step;
        Next::Sleep(until)
    }

    fn finish(&mut self) -> Option<ClientResult> {
        let result = self.result.take()?;
        self.step = Step::Done;
        self.in_flight = None;
        self.routed = None;
        // Whoever keeps a future that is over keeps nothing of others.
        self.prior = None;
        self.token = None;
        self.hedging = None;
        self.template.forget();
        if let Err(error) = &result {
            let (number, why) = (self.number, error.kind().name());
            self.tell(Instant::now(), || Decision::Refused {
                request: number,
                why,
            });
        }
        if !self.grpc {
            return Some(result);
        }
        if self.shared.answer_grpc_errors {
            return Some(result.or_else(|error| Ok(grpc_response(error, Instant::now()))));
        }
        #[cfg(feature = "tonic")]
        let result = result.map_err(|error| error.with_status(Instant::now()));
        Some(result)
    }

    // Keeps what is about to be sent, if that can be.
    fn keep(&mut self, retry: &Retry) -> bool {
        let too_large = &self.shared.counts.bodies_too_large;
        self.template.keep(retry.max_request_bytes(), too_large);
        self.template.is_replayable()
    }

    fn max_retries(&self, retry: &Retry) -> u16 {
        self.options.max_retries.unwrap_or(retry.max_retries())
    }

    // Of the gRPC method: what the request says, or else the rule.
    fn kind(&self, rule: &RulePlan) -> MethodKind {
        self.options.method.unwrap_or(rule.kind)
    }

    fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }

    fn tell(&self, now: Instant, decision: impl FnOnce() -> Decision) {
        self.shared.backends.observers.tell(now, decision);
    }
}
