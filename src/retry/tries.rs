//! How often a request was sent, and when it is sent again: pure, told what came and what time it is.

use std::time::Duration;

use tokio::time::Instant;

use super::judge::{Again, Wait};
use crate::budget::{RetryBudget, Token};
use crate::core::backoff;
use crate::core::draw::{Purpose, draw};
use crate::core::observe::NotRetried;
use crate::core::time::after;
use crate::policy::Retry;

/// The attempts of one request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tries {
    sent: u32,
    // Those made beside another, which do not count.
    beside: u32,
    // One of them reached nobody, and does not count.
    untouched: bool,
}

/// What limits them.
pub(crate) struct Bounds<'a> {
    pub(crate) retry: &'a Retry,
    pub(crate) max_retries: u16,
    /// Whether there is a request for another.
    pub(crate) whole: bool,
    pub(crate) deadline: Option<Instant>,
    pub(crate) budget: Option<&'a RetryBudget>,
    pub(crate) seed: u64,
    /// The request's number, for chance.
    pub(crate) number: u64,
}

/// Another try that is paid for.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) token: Option<Token<'static>>,
    pub(crate) backoff: Duration,
    pub(crate) until: Instant,
}

// === impl Tries ===

impl Tries {
    pub(crate) fn sent(&self) -> u32 {
        self.sent
    }

    /// An attempt is made.
    pub(crate) fn send(&mut self) {
        self.sent = self.sent.saturating_add(1);
    }

    /// It was not made after all.
    pub(crate) fn unsend(&mut self) {
        self.sent = self.sent.saturating_sub(1);
    }

    /// An attempt is made beside one that is out.
    pub(crate) fn send_beside(&mut self) {
        self.send();
        self.beside += 1;
    }

    /// It does not count any longer as one that was beside another.
    pub(crate) fn unsend_beside(&mut self) {
        self.beside = self.beside.saturating_sub(1);
    }

    /// Whether the request that is about to be sent may be needed once more.
    pub(crate) fn may_follow(&self, max_retries: u16) -> bool {
        let free = u32::from(max_retries > 0 && !self.untouched);
        self.counted() < u32::from(max_retries) + free
    }

    /// Whether one that is out may be cut short because another can follow it.
    pub(crate) fn may_cut(&self, max_retries: u16) -> bool {
        self.counted() <= u32::from(max_retries)
    }

    /// Those that the limit counts.
    pub(crate) fn counted(&self) -> u32 {
        self.sent - u32::from(self.untouched) - self.beside
    }

    /// Another try after one that failed, if it may be and something pays for it. One that reached nobody does not count,
    /// once.
    pub(crate) fn again(
        &mut self,
        again: Again,
        bounds: &Bounds<'_>,
        now: Instant,
    ) -> Result<Planned, NotRetried> {
        let limit = u32::from(bounds.max_retries);
        let free = again.untouched && !self.untouched && limit > 0;
        if self.counted() > limit && !free {
            return Err(NotRetried::Limit);
        }
        if !bounds.whole {
            return Err(NotRetried::Body);
        }
        let nth = self.sent.saturating_sub(1);
        let backoff = bounds.retry.backoff().map_or(Duration::ZERO, |backoff| {
            let purpose = Purpose::RetryBackoff;
            let word = draw(bounds.seed, bounds.number, purpose, self.sent.into());
            backoff::delay(&backoff, nth, word)
        });
        let wait = match again.wait {
            Wait::Backoff => backoff,
            Wait::AtLeast(asked) => backoff.max(asked),
            Wait::Exactly(asked) => asked,
        };
        let until = after(now, wait);
        if bounds.deadline.is_some_and(|deadline| until >= deadline) {
            return Err(NotRetried::Deadline);
        }
        let token = match bounds.budget {
            Some(budget) => {
                let token = budget.withdraw(now).ok_or(NotRetried::Budget)?;
                Some(token.into_owned())
            }
            None => None,
        };
        self.untouched |= free;
        Ok(Planned {
            token,
            backoff: wait,
            until,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Budget, ExponentialBackoff, Ratio};

    const PLAIN: Again = Again {
        untouched: false,
        wait: Wait::Backoff,
    };
    const UNTOUCHED: Again = Again {
        untouched: true,
        wait: Wait::Backoff,
    };

    fn bounds(retry: &Retry) -> Bounds<'_> {
        Bounds {
            retry,
            max_retries: retry.max_retries(),
            whole: true,
            deadline: None,
            budget: None,
            seed: 1,
            number: 7,
        }
    }

    #[test]
    fn one_that_reached_nobody_is_free_once() {
        let now = Instant::now();
        for (limit, came, sent) in [
            (0u16, vec![UNTOUCHED], 1),
            (1, vec![PLAIN, PLAIN], 2),
            (1, vec![UNTOUCHED, PLAIN, PLAIN], 3),
            (1, vec![PLAIN, UNTOUCHED, UNTOUCHED], 3),
            (1, vec![UNTOUCHED, UNTOUCHED, UNTOUCHED], 3),
            (2, vec![UNTOUCHED; 9], 4),
        ] {
            let retry = Retry::on(500..=599).limit(limit).build().unwrap();
            let mut tries = Tries::default();
            for again in came {
                let may = tries.may_follow(limit);
                tries.send();
                let planned = tries.again(again, &bounds(&retry), now);
                assert!(may || planned.is_err(), "what is needed was kept");
                if planned.is_err() {
                    break;
                }
            }
            assert_eq!(tries.sent(), sent, "{limit}");
        }
    }

    #[test]
    fn waits() {
        let ms = Duration::from_millis;
        let now = Instant::now();
        let backoff = ExponentialBackoff::try_new(ms(100), ms(400), Ratio::ZERO).unwrap();
        let retry = Retry::on(500..=599).limit(9).backoff(backoff);
        let retry = retry.build().unwrap();
        let mut tries = Tries::default();
        for (wait, expected) in [
            (Wait::Backoff, 100),
            (Wait::Backoff, 200),
            (Wait::AtLeast(ms(50)), 400),
            (Wait::AtLeast(ms(5000)), 5000),
            (Wait::Exactly(ms(5)), 5),
        ] {
            tries.send();
            let again = Again {
                untouched: false,
                wait,
            };
            let planned = tries.again(again, &bounds(&retry), now).unwrap();
            assert_eq!(planned.backoff, ms(expected));
            assert_eq!(planned.until, now + ms(expected));
        }
        // At the deadline there is nothing left to be tried.
        let deadline = Some(now + ms(400));
        let bounds = Bounds {
            deadline,
            ..bounds(&retry)
        };
        let late = tries.again(PLAIN, &bounds, now);
        assert_eq!(late.unwrap_err(), NotRetried::Deadline);
    }

    #[test]
    fn each_is_paid_for_and_none_that_is_not_made() {
        let now = Instant::now();
        let budget = RetryBudget::new(Budget::percent(1).min_per_sec(0), now);
        let retry = Retry::on(500..=599).limit(2).build().unwrap();
        let mut granted = 0;
        for _ in 0..10 {
            let mut tries = Tries::default();
            let bounds = Bounds {
                budget: Some(&budget),
                ..bounds(&retry)
            };
            loop {
                tries.send();
                match tries.again(PLAIN, &bounds, now) {
                    Ok(planned) => planned.token.into_iter().for_each(Token::spend),
                    Err(why) => {
                        assert!(matches!(why, NotRetried::Limit | NotRetried::Budget));
                        break;
                    }
                }
                granted += 1;
            }
        }
        assert_eq!((granted, budget.withdrawals()), (10, 10));
        // The limit is asked first: who may not try again asks for nothing.
        assert_eq!(budget.refusals(), 5);
    }

    #[test]
    fn the_limit_is_asked_before_the_body() {
        // Who may not try again is told so, whatever its body is like, and a body is the reason only where it is.
        let now = Instant::now();
        for (limit, whole, why) in [
            (0, false, NotRetried::Limit),
            (0, true, NotRetried::Limit),
            (1, false, NotRetried::Body),
        ] {
            let retry = Retry::on(500..=599).limit(limit).build().unwrap();
            let budget = RetryBudget::new(Budget::default(), now);
            let bounds = Bounds {
                whole,
                budget: Some(&budget),
                ..bounds(&retry)
            };
            let mut tries = Tries::default();
            tries.send();
            assert_eq!(tries.again(PLAIN, &bounds, now).unwrap_err(), why);
            assert_eq!((budget.withdrawals(), budget.refusals()), (0, 0));
        }
    }
}
