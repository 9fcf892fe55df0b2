//! Waiting for an endpoint, in line.

use std::task::Context;

use tokio::time::Instant;

use super::{Next, Step, Walk};
use crate::balance::{Place, PlaceKind};
use crate::client::plan::{Routed, RulePlan};
use crate::core::time::after;
use crate::deadline::earlier;
use crate::error::{Error, ErrorKind};

/// Places in the lines of all backends that will do. The first is the one that was asked first, or is asked for; it is
/// there that the request counts.
pub(super) struct Waits(Vec<Wait>);

struct Wait {
    backend: usize,
    place: Place,
    // Whether it may look there now.
    turn: bool,
}

// === impl Waits ===

impl Waits {
    pub(super) fn new(
        rule: &RulePlan,
        (backend, place): (usize, Place),
        others: impl Iterator<Item = usize>,
        any: bool,
        now: Instant,
    ) -> Self {
        let wait = |(backend, place)| Wait {
            backend,
            place,
            turn: false,
        };
        let kind = PlaceKind {
            counted: false,
            any,
        };
        // Where it does not count there is always room.
        let others = others.filter_map(|other| {
            let line = &rule.backends[other].state.balance.line;
            Some((other, line.enter(kind, now)?))
        });
        Self(
            std::iter::once((backend, place))
                .chain(others)
                .map(wait)
                .collect(),
        )
    }

    fn first(&self) -> usize {
        self.0.first().map_or(0, |wait| wait.backend)
    }

    fn backends(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().map(|wait| wait.backend)
    }

    // Whether it may look somewhere.
    fn may_look(&mut self, cx: &Context<'_>, now: Instant) -> bool {
        for wait in &mut self.0 {
            wait.turn = wait.place.may_look(cx, now);
        }
        self.0.iter().any(|wait| wait.turn)
    }

    fn has_turn(&self, backend: usize) -> bool {
        let mut with_turn = self.0.iter().filter(|wait| wait.turn);
        with_turn.any(|wait| wait.backend == backend)
    }

    // It has looked in vain where it might. Where it takes only one endpoint, another may be there for others.
    fn looked(&self, rule: &RulePlan, any: bool, now: Instant) {
        for wait in self.0.iter().filter(|wait| wait.turn) {
            let balance = &rule.backends[wait.backend].state.balance;
            wait.place.looked(!any && balance.is_able(now), now);
            if let Some(until) = balance.hopeless_until(now) {
                wait.place.hopeless(until);
            }
        }
    }

    // It found one. The next look if there may be another for them.
    fn leave(self, rule: &RulePlan, now: Instant) {
        for wait in self.0 {
            let balance = &rule.backends[wait.backend].state.balance;
            wait.place.leave(!wait.turn || balance.is_able(now));
        }
    }

    // When the next probe of any is due, if nothing can change before that.
    fn hopeless_until(&self, rule: &RulePlan, now: Instant) -> Option<Instant> {
        let until = |index: usize| rule.backends[index].state.balance.hopeless_until(now);
        self.backends().map(until).min().flatten()
    }

    // Returns when it has to look again, if it keeps the time for a line.
    fn keep_time(&self, rule: &RulePlan, too_late: Instant, now: Instant) -> Option<Instant> {
        let due = self.0.iter().filter_map(|wait| {
            let balance = &rule.backends[wait.backend].state.balance;
            balance.keep_time(&wait.place, too_late, now)
        });
        due.min()
    }
}

// === impl Walk ===

impl Walk {
    /// Waits for an endpoint of any backend that will do.
    pub(super) fn wait(
        &mut self,
        cx: &Context<'_>,
        routed: &Routed,
        mut places: Waits,
        since: Instant,
    ) -> Next {
        let rule = &*routed.rule;
        let now = Instant::now();
        if self.is_late(now) {
            return self.fail(ErrorKind::RequestTimeout);
        }
        let any = self.options.only.is_none();
        let balance = &rule.backends[places.first()].state.balance;
        let line = &balance.line;
        // When it ends in vain.
        let failfast = || match any {
            true => line.unready(&balance.pool.epoch, now),
            // That one endpoint cannot serve says nothing of the backend, and the other way round.
            false => after(since, line.failfast_timeout()),
        };
        let mut looks = 0;
        // After a look it may be its turn again, as something has changed meanwhile; the second is as good as any more.
        while places.may_look(cx, now) || (looks == 0 && now >= failfast()) {
            // Whoever is about to be refused looks a last time, whoever's turn it is.
            let last = now >= failfast();
            let (found, asked) = self.ask(rule, now, |backend| last || places.has_turn(backend));
            if let Some(backend) = asked.fails {
                drop(places);
                return self.nobody_behind(routed, backend);
            }
            if let Some((backend, first)) = found {
                places.leave(rule, now);
                self.waited += now.saturating_duration_since(since);
                return self.ready_at(rule, backend, first, now);
            }
            places.looked(rule, any, now);
            looks += 1;
        }
        if let Some(absent) = absent(routed, Some(places.first()), places.backends()) {
            return self.fail(absent);
        }
        let failfast = failfast();
        // Difference::EarlyRefusal: nothing can help before it is too late.
        let too_late = earlier(Some(failfast), self.deadline).unwrap_or(failfast);
        let early = !routed.is_mesh() && any;
        let hopeless = early && places.hopeless_until(rule, now) >= Some(too_late);
        if now >= failfast || hopeless {
            let why = rule.backends[places.first()]
                .state
                .why_unready(now, self.options.only);
            let kind = ErrorKind::FailFast {
                backend: balance.pool.name.to_string(),
                why,
            };
            let due = places.backends().filter_map(|index| {
                let balance = &rule.backends[index].state.balance;
                balance.next_probe(now, self.options.only)
            });
            return self.done(Err(Error::new(kind).with_retry_at(due.min())));
        }
        let due = places.keep_time(rule, too_late, now);
        self.sleep(Step::Wait { places, since }, earlier(Some(too_late), due))
    }
}

/// That there is nobody to wait for, by the word of all sources. Difference::EarlyRefusal.
pub(super) fn absent(
    routed: &Routed,
    first: Option<usize>,
    mut asked: impl Iterator<Item = usize>,
) -> Option<ErrorKind> {
    if routed.is_mesh() {
        return None;
    }
    let rule = &*routed.rule;
    let first = &rule.backends[first?].state.balance;
    let why = first.absence()?.why();
    let absent = |index: usize| rule.backends[index].state.balance.absence().is_some();
    asked.all(absent).then(|| ErrorKind::NoEndpoints {
        backend: first.pool.name.to_string(),
        why,
    })
}
