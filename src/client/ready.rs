use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Client;
use crate::core::time::after;

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
    /// What has not arrived in time.
    pub async fn ready(&self, within: Duration) -> Result<(), NotReady> {
        let until = after(Instant::now(), within);
        self.shared.ensure_policy();
        while let Some((_, changed)) = self.missing().into_iter().next() {
            let changed = changed.notified_owned();
            tokio::pin!(changed);
            changed.as_mut().enable();
            // It may have come between the look and the listening.
            if self.missing().is_empty() {
                break;
            }
            if tokio::time::timeout_at(until, changed).await.is_err() {
                let missing = self.missing();
                if missing.is_empty() {
                    break;
                }
                return Err(NotReady {
                    waited: within,
                    missing: missing.into_iter().map(|(what, _)| what).collect(),
                });
            }
        }
        Ok(())
    }

    // What is missing, and who tells when that changes.
    fn missing(&self) -> Vec<(String, Arc<Notify>)> {
        let Some(plan) = self.shared.plan.load_full() else {
            return vec![("a policy".to_owned(), Arc::clone(&self.shared.plan_changed))];
        };
        let mut missing = Vec::new();
        for backend in plan.backends() {
            backend.ensure();
            let what = format!("endpoints of {}", backend.balance.pool.name);
            if backend.balance.members().is_empty()
                && missing.iter().all(|(known, _)| *known != what)
            {
                missing.push((what, Arc::clone(backend.changed())));
            }
        }
        missing
    }
}
