//! How long things may take: one timer for whatever a request waits for, the limits of an attempt, `grpc-timeout`.

pub(crate) mod grpc_timeout;
mod limits;

pub(crate) use self::limits::{BodyLimit, Limits, Progress, Timeout};

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

pin_project! {
    /// A timer that is set again and again. It costs nothing until it is first waited for.
    #[derive(Debug, Default)]
    pub(crate) struct Alarm {
        #[pin]
        sleep: Option<Sleep>,
        at: Option<Instant>,
    }
}

// === impl Alarm ===

impl Alarm {
    /// Ready once `at` has passed; never, without one.
    pub(crate) fn poll_at(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        at: Option<Instant>,
    ) -> Poll<()> {
        let Some(at) = at else {
            return Poll::Pending;
        };
        let mut this = self.project();
        if *this.at != Some(at) {
            *this.at = Some(at);
            match this.sleep.as_mut().as_pin_mut() {
                Some(sleep) => sleep.reset(at),
                None => this.sleep.set(Some(tokio::time::sleep_until(at))),
            }
        }
        match this.sleep.as_pin_mut() {
            Some(sleep) => sleep.poll(cx),
            None => Poll::Pending,
        }
    }
}

/// The earlier of two moments, none being never.
pub(crate) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn rings_when_it_was_last_set_to() {
        let start = Instant::now();
        let at = |ms| Some(start + Duration::from_millis(ms));
        let mut alarm = std::pin::pin!(Alarm::default());
        let mut first = true;
        std::future::poll_fn(|cx| {
            if std::mem::take(&mut first) {
                assert!(alarm.as_mut().poll_at(cx, None).is_pending());
                assert!(alarm.as_mut().poll_at(cx, at(10)).is_pending());
            }
            alarm.as_mut().poll_at(cx, at(50))
        })
        .await;
        assert_eq!(Instant::now() - start, Duration::from_millis(50));
    }

    #[test]
    fn none_is_never() {
        let now = Instant::now();
        assert_eq!(earlier(None, Some(now)), Some(now));
        assert_eq!(earlier(Some(now), None), Some(now));
        assert_eq!(
            earlier(Some(now + Duration::from_secs(1)), Some(now)),
            Some(now)
        );
        assert_eq!(earlier(None, None), None);
    }
}
