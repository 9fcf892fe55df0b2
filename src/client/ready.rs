use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::Client;
use crate::core::sync::Ordering;
use crate::core::time::after;
use crate::discover::Absence;

/// What a client still waits for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not ready after {waited:?}: still waiting for {}", missing.join(", "))]
pub struct NotReady {
    waited: Duration,
    missing: Vec<String>,
}

// === impl NotReady ===

impl NotReady {
    /// What has not arrived: the policy, or the endpoints of a backend.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }
}

// === impl Client ===

impl Client {
    /// Waits until there is a policy and every backend of it has an endpoint, `within` at most.
    ///
    /// Makes no connections, and says nothing about whether the endpoints are well.
    ///
    /// # Errors
    /// What has not arrived in time; at once, where it will never arrive because its source has ended.
    pub async fn ready(&self, within: Duration) -> Result<(), NotReady> {
        let begun = Instant::now();
        let until = after(begun, within);
        self.shared.ensure_policy();
        loop {
            // Listens before it looks, to both: another policy may need nothing that is missing.
            let mut policy = pin!(self.shared.plan_changed.notified());
            let mut endpoints = pin!(self.shared.backends.changed.notified());
            policy.as_mut().enable();
            endpoints.as_mut().enable();
            let (missing, in_vain) = self.missing();
            if missing.is_empty() {
                return Ok(());
            }
            if in_vain {
                return Err(NotReady {
                    waited: Instant::now().saturating_duration_since(begun),
                    missing,
                });
            }
            let changed = poll_fn(|cx| match policy.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => endpoints.as_mut().poll(cx),
            });
            if tokio::time::timeout_at(until, changed).await.is_err() {
                return Err(NotReady {
                    waited: within,
                    missing,
                });
            }
        }
    }

    // What is not there, and whether some of it never will be.
    fn missing(&self) -> (Vec<String>, bool) {
        // Before the policy is looked at, whose last word may come in between.
        let ended = self.shared.policy_ended.load(Ordering::Acquire);
        let Some(plan) = self.shared.plan.load_full() else {
            let policy = if ended {
                "a policy, whose source has ended"
            } else {
                "a policy"
            };
            return (vec![policy.to_owned()], ended);
        };
        let (mut missing, mut in_vain) = (Vec::new(), false);
        for backend in plan.backends() {
            backend.ensure();
            let mut what = format!("endpoints of {}", backend.balance.pool.name);
            if !backend.balance.members().is_empty() {
                continue;
            }
            if backend.balance.absence() == Some(Absence::Ended) {
                what.push_str(", whose source has ended");
                in_vain = true;
            }
            if !missing.contains(&what) {
                missing.push(what);
            }
        }
        (missing, in_vain)
    }
}
