//! From the policy to an endpoint that is ready.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::Instant;

use super::wait::{Waits, absent};
use super::{Next, Step, Walk, hedge};
use crate::balance::{PlaceKind, Want};
use crate::client::attempt::Attempt;
use crate::client::overrides::Overrides;
use crate::client::plan::{Plan, Routed, RulePlan};
use crate::core::draw::{Purpose, draw};
use crate::core::observe::{Decision, NotRetried};
use crate::core::sync::Ordering;
use crate::core::time::after;
use crate::deadline::{earlier, grpc_timeout};
use crate::distribute::by_weight;
use crate::error::ErrorKind;
use crate::verdict::grpc::GRPC_TIMEOUT;

/// How long a request waits for the first policy.
const POLICY_TIMEOUT: Duration = Duration::from_secs(3);

/// Which backends were asked. The first 64 in a word; more than that is not what a route has.
#[derive(Default)]
pub(super) struct Asked {
    few: u64,
    many: Vec<usize>,
    first: Option<usize>,
    // One that has nobody behind it was the choice.
    pub(super) fails: Option<usize>,
}

// === impl Walk ===

impl Walk {
    pub(super) fn begin(&mut self) -> Next {
        let Some(guard) = self.shared.in_flight.enter() else {
            return self.fail(ErrorKind::Closed);
        };
        self.in_flight = Some(guard);
        self.shared.ensure_policy();
        self.go(Step::Policy {
            until: after(self.started, POLICY_TIMEOUT),
        })
    }

    pub(super) fn policy(
        &mut self,
        until: Instant,
        changed: Pin<&mut Option<OwnedNotified>>,
    ) -> Next {
        if let Some(plan) = self.shared.plan.load_full() {
            return self.route(plan);
        }
        if listen(&self.shared.plan_changed, changed) {
            return self.go(Step::Policy { until });
        }
        if self.shared.policy_ended.load(Ordering::Acquire) {
            // Its last word may have come between two looks.
            return match self.shared.plan.load_full() {
                Some(plan) => self.route(plan),
                None => self.fail(ErrorKind::PolicyEnded),
            };
        }
        let now = Instant::now();
        if self.is_late(now) {
            return self.fail(ErrorKind::RequestTimeout);
        }
        if now >= until {
            return self.fail(ErrorKind::NoPolicy);
        }
        let until_any = earlier(Some(until), self.deadline);
        self.sleep(Step::Policy { until }, until_any)
    }

    fn route(&mut self, plan: Arc<Plan>) -> Next {
        let word = self.chance(0);
        let Some(parts) = self.template.parts_mut() else {
            return self.fail(ErrorKind::InvalidRequest);
        };
        if let Some(origin) = self.shared.origin.as_ref().or(plan.origin.as_ref()) {
            origin.complete(parts);
        }
        if let Some(protocol) = plan.not_carried() {
            return self.fail(ErrorKind::NotCarried { protocol });
        }
        let found = plan.find(self.version, &parts.method, &parts.uri, &parts.headers);
        let Some(routed) = found else {
            return self.fail(ErrorKind::NoRoute);
        };
        let rule = &*routed.rule;
        let (uri, headers) = (&parts.uri, &mut parts.headers);
        if let Err(filtered) = rule.filters.request(uri, headers, routed.path, word) {
            return self.fail(filtered.into());
        }
        self.timeouts = rule.timeouts;
        self.retry = rule.retry.clone();
        if rule.allow_overrides {
            let overrides = Overrides::take(headers);
            self.timeouts = overrides.timeouts(self.timeouts);
            let budget = routed.plan.default_budget.as_ref();
            self.retry = overrides.retry(self.retry.take(), budget);
        }
        // Difference::GrpcTimeout.
        let asked = (self.grpc && !routed.is_mesh())
            .then(|| headers.get(GRPC_TIMEOUT).and_then(grpc_timeout::parse))
            .flatten();
        self.fix_deadline(asked);
        if rule.backends.is_empty() {
            return self.fail(ErrorKind::NoBackend);
        }
        let now = Instant::now();
        if hedge::is_on(&routed.plan) {
            self.hedge = self.hedges(rule);
        }
        self.budgets().for_each(|budget| budget.request(now));
        let number = self.number;
        self.tell(now, || Decision::Routed {
            request: number,
            route: Arc::clone(&rule.name),
        });
        self.routed = Some(routed);
        self.go(Step::Choose)
    }

    // The caller's own, or else the rule's; and that which the request's headers ask for, if it is earlier.
    fn fix_deadline(&mut self, asked: Option<Duration>) {
        let started = self.started;
        let deadline = |timeout| after(started, timeout);
        if self.deadline.is_none() {
            self.deadline = self.timeouts.request.map(deadline);
        }
        let asked = asked.map(deadline);
        self.deadline = earlier(self.deadline, asked);
        self.own_deadline = earlier(self.own_deadline, asked);
    }

    /// An endpoint that can serve, or a place in the line of the backend that was asked first.
    pub(super) fn choose(&mut self, routed: &Routed) -> Next {
        let now = Instant::now();
        if self.is_late(now) {
            return self.give_up(routed, ErrorKind::RequestTimeout);
        }
        let rule = &*routed.rule;
        // Another try was in line before those who are there now.
        let first = self.prior.is_none();
        let behind =
            |backend: usize| first && rule.backends[backend].state.balance.line.is_crowded();
        let (found, asked) = self.ask(rule, now, |backend| !behind(backend));
        if let Some(backend) = asked.fails {
            return self.nobody_behind(routed, backend);
        }
        if let Some((backend, first)) = found {
            return self.ready_at(rule, backend, first, now);
        }
        // Another try is not worth waiting for: the first one's answer is here.
        if self.prior.is_some() {
            return self.stand(routed, now, NotRetried::NoEndpoint);
        }
        if let Some(absent) = absent(routed, asked.first(), asked.iter()) {
            return self.fail(absent);
        }
        self.line_up(rule, &asked, now)
    }

    // In the lines of those that were asked; it counts in the first, or in that of the backend that has the one endpoint it
    // is for.
    fn line_up(&mut self, rule: &RulePlan, asked: &Asked, now: Instant) -> Next {
        let pinned = self.options.only.and_then(|only| {
            let mut asked = asked.iter();
            asked.find(|index| rule.backends[*index].state.balance.has(only))
        });
        let Some(backend) = pinned.or(asked.first()) else {
            return self.fail(ErrorKind::NoBackend);
        };
        let balance = &rule.backends[backend].state.balance;
        let number = self.number;
        self.tell(now, || Decision::Waiting {
            request: number,
            backend: Arc::clone(&balance.pool.name),
        });
        let any = self.options.only.is_none();
        let kind = PlaceKind { counted: true, any };
        let Some(place) = balance.line.enter(kind, now) else {
            // Better than to be refused is to overtake those who will be served all the same.
            if balance.pool.guard.serves()
                && let Some(first) = self.pick(rule, backend, now, None)
            {
                return self.ready_at(rule, backend, first, now);
            }
            return self.fail(ErrorKind::QueueFull {
                backend: balance.pool.name.to_string(),
                capacity: balance.line.capacity(),
            });
        };
        let others = asked.iter().filter(|other| *other != backend);
        let places = Waits::new(rule, (backend, place), others, any, now);
        self.go(Step::Wait { places, since: now })
    }

    /// An endpoint was chosen: as soon as its leaf is ready, it gets the request.
    pub(super) fn ready_at(
        &mut self,
        rule: &RulePlan,
        backend: usize,
        first: Attempt,
        now: Instant,
    ) -> Next {
        let line = &rule.backends[backend].state.balance.line;
        self.go(Step::Ready {
            backend,
            first,
            second: None,
            until: after(now, line.failfast_timeout()),
        })
    }

    // Asks the backends in turn, each once; of some only whether nobody is behind them.
    pub(super) fn ask(
        &mut self,
        rule: &RulePlan,
        now: Instant,
        may_ask: impl Fn(usize) -> bool,
    ) -> (Option<(usize, Attempt)>, Asked) {
        let mut asked = Asked::default();
        while let Some(backend) = self.next_backend(rule, &asked) {
            asked.add(backend);
            // Always able to serve, in its way: its share of the requests is not given to others.
            if rule.backends[backend].fails.is_some() {
                asked.fails = Some(backend);
                return (None, asked);
            }
            if may_ask(backend)
                && let Some(attempt) = self.pick(rule, backend, now, None)
            {
                return (Some((backend, attempt)), asked);
            }
        }
        (None, asked)
    }

    // The answer of a backend that the policy names and that does not exist.
    pub(super) fn nobody_behind(&mut self, routed: &Routed, backend: usize) -> Next {
        let backend = &routed.rule.backends[backend];
        let Some(parts) = self.template.parts_mut() else {
            return self.fail(ErrorKind::InvalidRequest);
        };
        let (headers, word) = (&mut parts.headers, || 0);
        let filtered = backend
            .filters
            .request(&parts.uri, headers, routed.path, word);
        self.fail(match filtered {
            Err(filtered) => filtered.into(),
            Ok(()) => ErrorKind::FailureInjected {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                message: backend.fails.clone().unwrap_or_default(),
            },
        })
    }

    // In order, or by weight of those that were not asked yet.
    fn next_backend(&self, rule: &RulePlan, asked: &Asked) -> Option<usize> {
        let still = |index: usize| !asked.contains(index);
        if rule.in_order {
            return (0..rule.backends.len()).find(|index| still(*index));
        }
        let number = (self.round << 16) | asked.count();
        let word = draw(
            self.shared.backends.seed,
            self.number,
            Purpose::Weight,
            number,
        );
        by_weight(&rule.backends, still, word)
    }

    pub(super) fn pick(
        &mut self,
        rule: &RulePlan,
        backend: usize,
        now: Instant,
        except: Option<SocketAddr>,
    ) -> Option<Attempt> {
        let backend = &rule.backends[backend];
        backend.state.ensure();
        let round = self.round;
        self.round += 1;
        let want = Want {
            now,
            request: self.number,
            round,
            avoid: &self.avoid,
            except,
            only: self.options.only,
            repeatable: backend.state.balance.pool.guard.is_reduced() && self.may_repeat(now),
        };
        let connector = &*self.shared.connector;
        let balance = &backend.state.balance;
        balance.pick(&want, |site, ticket| Attempt::new(site, ticket, connector))
    }

    // Whether another endpoint may be asked, should the next one fail.
    fn may_repeat(&self, now: Instant) -> bool {
        let Some(retry) = self.retry.as_deref().filter(|_| self.repeatable) else {
            return false;
        };
        self.tries.counted() < u32::from(self.max_retries(&retry.retry))
            && self
                .template
                .may_be_replayable(retry.retry.max_request_bytes())
            && retry
                .budget
                .as_ref()
                .is_none_or(|budget| budget.balance_milli(now) >= 1000)
    }

    pub(super) fn ready(
        &mut self,
        cx: &mut Context<'_>,
        routed: &Routed,
        backend: usize,
        mut first: Attempt,
        mut second: Option<Box<Attempt>>,
        until: Instant,
    ) -> Next {
        let rule = &*routed.rule;
        let now = Instant::now();
        match first.call.as_mut().poll_ready(cx) {
            Poll::Ready(Ok(())) => return self.send(routed, backend, first, now),
            Poll::Ready(Err(error)) => return self.unready(routed, first, error, now),
            Poll::Pending => first.delayed(),
        }
        if second.is_none() && self.options.only.is_none() {
            let other = self.pick(rule, backend, now, Some(first.endpoint()));
            second = other.map(Box::new);
        }
        if let Some(mut other) = second.take() {
            match other.call.as_mut().poll_ready(cx) {
                Poll::Ready(Ok(())) => return self.send(routed, backend, *other, now),
                Poll::Ready(Err(error)) => return self.unready(routed, *other, error, now),
                Poll::Pending => {
                    other.delayed();
                    second = Some(other);
                }
            }
        }
        if self.is_late(now) {
            return self.give_up(routed, ErrorKind::RequestTimeout);
        }
        if now >= until {
            let kind = ErrorKind::FailFast {
                backend: rule.backends[backend].state.balance.pool.name.to_string(),
                why: "its endpoints have no room for another request".to_owned(),
            };
            return self.give_up(routed, kind);
        }
        let wake = earlier(Some(until), self.deadline);
        self.sleep(
            Step::Ready {
                backend,
                first,
                second,
                until,
            },
            wake,
        )
    }
}

// Starts to listen, if nobody does: true if it just did, and what is waited for should be looked at once more.
fn listen(notify: &Arc<Notify>, mut changed: Pin<&mut Option<OwnedNotified>>) -> bool {
    if changed.is_some() {
        return false;
    }
    changed.set(Some(Arc::clone(notify).notified_owned()));
    if let Some(changed) = changed.as_pin_mut() {
        changed.enable();
    }
    true
}

// === impl Asked ===

impl Asked {
    fn add(&mut self, index: usize) {
        self.first = self.first.or(Some(index));
        if index < 64 {
            self.few |= 1 << index;
        } else {
            self.many.push(index);
        }
    }

    fn contains(&self, index: usize) -> bool {
        if index < 64 {
            self.few & (1 << index) != 0
        } else {
            self.many.contains(&index)
        }
    }

    fn first(&self) -> Option<usize> {
        self.first
    }

    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..64)
            .filter(|index| self.few & (1 << index) != 0)
            .chain(self.many.iter().copied())
    }

    fn count(&self) -> u64 {
        u64::from(self.few.count_ones()) + self.many.len() as u64
    }
}
