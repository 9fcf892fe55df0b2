use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use super::error::BalanceError;
use super::{Place, PlaceKind, Set};

pin_project! {
    /// A call that waits in the line. In a box, as few do.
    pub(super) struct Waiting {
        place: Option<Place>,
        #[pin]
        alarm: Option<Sleep>,
    }
}

// === impl Waiting ===

impl Waiting {
    pub(super) fn begin<S>(set: &Set<S>, now: Instant) -> Option<Pin<Box<Self>>> {
        let kind = PlaceKind {
            counted: true,
            any: true,
        };
        let place = set.line.enter(kind, now)?;
        Some(Box::pin(Self {
            place: Some(place),
            alarm: None,
        }))
    }

    // Looks when it is its turn, and a last time before it is refused.
    pub(super) fn poll<S, T>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        set: &Set<S>,
        mut choose: impl FnMut(Instant) -> Option<T>,
    ) -> Poll<Result<T, BalanceError>> {
        loop {
            let mut this = self.as_mut().project();
            let Some(place) = this.place.as_ref() else {
                return Poll::Pending;
            };
            let now = Instant::now();
            let mut looks = 0;
            loop {
                let mine = place.may_look(cx, now);
                let late = || now >= set.line.unready(&set.pool.epoch, now);
                if !mine && (looks > 0 || !late()) {
                    break;
                }
                if let Some(found) = choose(now) {
                    let place = this.place.take();
                    place
                        .into_iter()
                        .for_each(|place| place.leave(!mine || set.is_able(now)));
                    return Poll::Ready(Ok(found));
                }
                if mine {
                    place.looked(false, now);
                }
                looks += 1;
            }
            let failfast = set.line.unready(&set.pool.epoch, now);
            let until = set.hopeless_until(now);
            if let (1.., Some(until)) = (looks, until) {
                place.hopeless(until);
            }
            let hopeless = until.is_some_and(|until| until >= failfast);
            if now >= failfast || hopeless || set.absence().is_some() {
                return Poll::Ready(Err(BalanceError::Unavailable {
                    balance: Arc::clone(&set.pool.name),
                    why: set.why_unready(now, None),
                    retry_at: set.next_probe(now, None),
                }));
            }
            let due = set.keep_time(place, failfast, now);
            let until = due.map_or(failfast, |due| due.min(failfast));
            let alarm = this.alarm.as_mut();
            match alarm.as_pin_mut().filter(|alarm| alarm.deadline() == until) {
                Some(_) => {}
                None => this.alarm.set(Some(sleep_until(until))),
            }
            match this.alarm.as_mut().as_pin_mut() {
                Some(alarm) => ready!(alarm.poll(cx)),
                None => return Poll::Pending,
            }
        }
    }
}
