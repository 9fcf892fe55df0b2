use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex as Turns, Notify, watch};
use tokio::time::{Instant, timeout_at};

use super::eyes::{Eyes, Watching};
use super::gather::Gathering;
use super::{Kept, Reloaded};
use crate::core::sync::{Mutex, lock};
use crate::policy::ClientPolicy;
use crate::source::kubernetes::{Error, Manifests};

/// How manifests are read.
pub(in crate::source::kubernetes) type Read = dyn Fn() -> Result<Manifests, Error> + Send + Sync;

/// What a folder is, apart from who follows it.
pub(super) struct Core {
    read: Arc<Read>,
    quiet: Duration,
    changed: Arc<Notify>,
    // Whoever has it follows. The next takes over where its runtime ends.
    turn: Turns<()>,
    // None when the folder is gone.
    pub(super) eyes: Mutex<Option<Box<dyn Eyes>>>,
    state: Mutex<State>,
    reports: watch::Sender<Arc<Reloaded>>,
}

struct State {
    manifests: Arc<Manifests>,
    // By the targets as they were given.
    policies: BTreeMap<String, watch::Sender<ClientPolicy>>,
}

// === impl Core ===

impl Core {
    pub(super) fn new(
        manifests: Manifests,
        read: Arc<Read>,
        watching: Watching,
        quiet: Duration,
    ) -> Self {
        let first = Reloaded {
            diagnostics: manifests.diagnostics().to_vec(),
            ..Reloaded::default()
        };
        Self {
            read,
            quiet,
            changed: watching.changed,
            turn: Turns::new(()),
            eyes: Mutex::new(Some(watching.eyes)),
            state: Mutex::new(State {
                manifests: Arc::new(manifests),
                policies: BTreeMap::new(),
            }),
            reports: watch::Sender::new(Arc::new(first)),
        }
    }

    pub(super) fn manifests(&self) -> Arc<Manifests> {
        Arc::clone(&lock(&self.state).manifests)
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<Reloaded>> {
        self.reports.subscribe()
    }

    /// # Errors
    /// It does not resolve, and did not before.
    pub(super) fn policy(&self, target: &str) -> Result<watch::Receiver<ClientPolicy>, Error> {
        let mut state = lock(&self.state);
        if let Some(known) = state.policies.get(target) {
            return Ok(known.subscribe());
        }
        let (sender, receiver) = watch::channel(state.manifests.resolve(target)?);
        state.policies.insert(target.to_owned(), sender);
        Ok(receiver)
    }

    /// What was read takes effect, as far as it is good.
    fn apply(&self, read: Result<Manifests, Error>) {
        let mut report = Reloaded {
            number: self.reports.borrow().number.saturating_add(1),
            ..Reloaded::default()
        };
        match read {
            Err(error) => {
                tracing::warn!(%error, "manifests cannot be read; the policies stay as they are");
                report.diagnostics = error.diagnostics().to_vec();
                report.kept.push(Kept {
                    target: None,
                    error,
                });
            }
            Ok(manifests) => {
                report.diagnostics = manifests.diagnostics().to_vec();
                let mut state = lock(&self.state);
                // Nobody follows them any more.
                state.policies.retain(|_, sender| !sender.is_closed());
                for (target, sender) in &state.policies {
                    // Also where the mesh would have some policy for what is not there any more.
                    let gone = manifests.said_of(target);
                    match gone.map_or_else(|| manifests.resolve(target), Err) {
                        Ok(policy) => {
                            let changed = sender.send_if_modified(|current| {
                                let changed = *current != policy;
                                *current = policy;
                                changed
                            });
                            if changed {
                                tracing::info!(%target, "a policy has changed");
                                report.updated.push(target.clone());
                            }
                        }
                        Err(error) => {
                            tracing::warn!(%target, %error, "a policy stays as it is, for its manifests are not valid");
                            report.kept.push(Kept {
                                target: Some(target.clone()),
                                error,
                            });
                        }
                    }
                }
                if report.kept.is_empty() {
                    state.manifests = Arc::new(manifests);
                }
            }
        }
        self.reports.send_replace(Arc::new(report));
    }
}

/// Reads again whenever something has changed. Never ends; one does it at a time.
pub(super) async fn follow(core: Arc<Core>) {
    let _turn = core.turn.lock().await;
    loop {
        core.changed.notified().await;
        let mut gathering = Gathering::begin(core.quiet, Instant::now());
        while Instant::now() < gathering.due() {
            match timeout_at(gathering.due(), core.changed.notified()).await {
                Ok(()) => gathering.another(Instant::now()),
                Err(_) => break,
            }
        }
        let reader = Arc::clone(&core);
        let read = tokio::task::spawn_blocking(move || {
            // Before it is read, so that what changes in between is seen.
            if let Some(eyes) = lock(&reader.eyes).as_mut() {
                eyes.again();
            }
            (reader.read)()
        });
        // A reader that panicked, or a runtime that ends: the next change is read again.
        if let Ok(read) = read.await {
            core.apply(read);
        }
    }
}
