//! Manifests that are read again when they change.
//!
//! ```no_run
//! use tower_mesh::source::kubernetes::reload::Folder;
//! use tower_mesh::{BoxError, Client};
//!
//! # #[cfg(feature = "hyper")]
//! # fn example() -> Result<(), BoxError> {
//! let folder = Folder::watch(["/etc/mesh"])?;
//! let client = Client::builder(folder.policy("payments.shop:8080")?)
//!     .endpoints(["10.0.0.7:8080", "10.0.0.8:8080"])
//!     .build_http()?;
//! // What was wrong with the last edit, if you want to know. It is logged (`tracing`), too.
//! let mut reports = folder.subscribe();
//! tokio::spawn(async move {
//!     while reports.changed().await.is_ok() {
//!         for kept in &reports.borrow_and_update().kept {
//!             eprintln!("{}", kept.error);
//!         }
//!     }
//! });
//! # Ok(())
//! # }
//! ```
//!
//! # A bad edit
//!
//! Clients keep the policy they have, and are told nothing: what cannot be read changes no policy; a target that does not
//! resolve any more (an annotation that is not valid, a Service or its file taken away, the folder gone) keeps its own last
//! one, and the others follow. Each reading ends in a [`Reloaded`] that says what changed, what was kept and why, and every
//! diagnostic; the next good edit takes effect as if nothing had happened.
//!
//! # When it is read
//!
//! Changes are gathered: it is read when nothing has changed for 100 ms ([`Options::quiet`]), and at the latest after ten
//! times that. Seen are writes, files that are replaced by a rename (as editors do), folders that are taken away and
//! come back, and the swap of `..data` by which Kubernetes updates a mounted ConfigMap. Only where the file system tells of
//! changes: most network file systems do not.
//!
//! # What it costs
//!
//! A thread of the crate [`notify`](https://docs.rs/notify) that sleeps, and a task that sleeps, started by the first
//! call of a client or by [`Folder::subscribe`]. Files are read on tokio's threads for blocking work. All of it ends
//! with the last of the folder's clones, policies, and clients that were built with them.

mod eyes;
mod follow;
mod gather;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use self::eyes::Watching;
use self::follow::{Core, Read};
use super::{Diagnostic, Error, Manifests};
use crate::core::driver::Driver;
use crate::core::sync::lock;
use crate::policy::ClientPolicy;

/// Files and folders that are read again when they change. See the [module](self). Clones are the same folder.
#[derive(Clone)]
pub struct Folder(Arc<Inner>);

struct Inner {
    driver: Driver,
    core: Arc<Core>,
}

/// How a [`Folder`] is read.
#[derive(Clone)]
#[must_use = "options do nothing until something is watched"]
pub struct Options {
    quiet: Duration,
    with: Arc<dyn Fn(Manifests) -> Manifests + Send + Sync>,
}

/// The policy of one target, as it is now and as it becomes: what [`Client::builder`](crate::Client::builder) takes.
#[derive(Clone)]
pub struct FolderPolicy {
    folder: Folder,
    target: Arc<str>,
    receiver: watch::Receiver<ClientPolicy>,
}

/// What came of one reading.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Reloaded {
    /// The how manieth reading it was; the first is 0.
    pub number: u64,
    /// The targets whose policy has changed, as they were given.
    pub updated: Vec<String>,
    /// What did not take effect. Empty if all is well.
    pub kept: Vec<Kept>,
    /// What the author should know; where they cannot be read, everything that is wrong.
    pub diagnostics: Vec<Diagnostic>,
}

/// A policy that stays in use because there is no new one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Kept {
    /// Whose; none is everybody's: nothing could be read.
    pub target: Option<String>,
    /// Why.
    pub error: Error,
}

// === impl Folder ===

impl Folder {
    /// Reads files and folders, as [`Manifests::from_paths`] does, and watches them.
    ///
    /// # Errors
    /// As `from_paths`; and ([`ErrorKind::Io`](super::ErrorKind::Io)) where they cannot be watched.
    pub fn watch(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<Self, Error> {
        Options::default().watch(paths)
    }

    /// How it is read, if not by default.
    pub fn options() -> Options {
        Options::default()
    }

    /// The policy of a target, written as for [`Manifests::resolve`].
    ///
    /// # Errors
    /// As `resolve`, of the manifests as they are now.
    pub fn policy(&self, target: &str) -> Result<FolderPolicy, Error> {
        let receiver = self.0.core.policy(target)?;
        Ok(FolderPolicy {
            folder: self.clone(),
            target: target.into(),
            receiver,
        })
    }

    /// The manifests as they were last read without an error, or at first.
    pub fn manifests(&self) -> Arc<Manifests> {
        self.0.core.manifests()
    }

    /// What comes of each reading: the last one, and a notice of every one that follows. It ends with the folder.
    ///
    /// Within a runtime this starts the following, as a client's first call does.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Reloaded>> {
        self.follow();
        self.0.core.subscribe()
    }

    /// Follows the changes, from now on if not already.
    fn follow(&self) {
        self.0.driver.ensure();
    }

    fn new(read: Arc<Read>, watching: Watching, quiet: Duration) -> Result<Self, Error> {
        let manifests = read()?;
        let core = Arc::new(Core::new(manifests, read, watching, quiet));
        let driver = {
            let core = Arc::clone(&core);
            Driver::new(move || Box::pin(follow::follow(Arc::clone(&core))))
        };
        Ok(Self(Arc::new(Inner { driver, core })))
    }

    /// Something to watch that a test brings, and how it is read.
    #[cfg(test)]
    pub(super) fn of_test(
        read: Arc<Read>,
        changed: &Arc<tokio::sync::Notify>,
        quiet: Duration,
    ) -> Result<Self, Error> {
        let watching = Watching {
            changed: Arc::clone(changed),
            eyes: Box::new(()),
        };
        Self::new(read, watching, quiet)
    }
}

impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0.core.subscribe();
        let report = report.borrow();
        f.debug_struct("Folder")
            .field("readings", &report.number.saturating_add(1))
            .field("kept", &report.kept)
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Now, and not when the runtime comes to drop the task: the thread ends here.
        drop(lock(&self.core.eyes).take());
    }
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(100),
            with: Arc::new(|manifests| manifests),
        }
    }
}

impl Options {
    /// For how long nothing must have changed before it is read again. Default: 100 ms. However often something
    /// changes, it is read after ten times as long.
    pub fn quiet(mut self, quiet: Duration) -> Self {
        self.quiet = quiet;
        self
    }

    /// What is done to the manifests each time they have been read: `|m| m.client_namespace("shop")`.
    pub fn manifests(
        mut self,
        with: impl Fn(Manifests) -> Manifests + Send + Sync + 'static,
    ) -> Self {
        self.with = Arc::new(with);
        self
    }

    /// Reads, and watches from then on.
    ///
    /// # Errors
    /// As [`Folder::watch`].
    pub fn watch(self, paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<Folder, Error> {
        let paths = paths
            .into_iter()
            .map(|path| path.as_ref().to_owned())
            .collect::<Vec<PathBuf>>();
        // Watched before it is read, so that no change falls between.
        let watching = eyes::open(&paths)?;
        let with = self.with;
        let read = Arc::new(move || Manifests::from_paths(&paths).map(|read| with(read)));
        Folder::new(read, watching, self.quiet)
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("quiet", &self.quiet)
            .finish_non_exhaustive()
    }
}

// === impl FolderPolicy ===

impl FolderPolicy {
    /// The target, as it was given.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The policy as it is now.
    pub fn current(&self) -> ClientPolicy {
        self.receiver.borrow().clone()
    }

    /// The policies, for uses other than a client's. They end with the folder, which this does not keep.
    ///
    /// Within a runtime this starts the following, as a client's first call does.
    pub fn subscribe(&self) -> watch::Receiver<ClientPolicy> {
        self.folder.follow();
        self.receiver.clone()
    }

    /// Follows the folder, in turn with others: a client does, so that it needs nobody else's runtime.
    pub(crate) fn following(&self) -> impl Future<Output = ()> + Send + use<> {
        follow::follow(Arc::clone(&self.folder.0.core))
    }

    pub(crate) fn receiver(&self) -> &watch::Receiver<ClientPolicy> {
        &self.receiver
    }
}

impl fmt::Debug for FolderPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FolderPolicy").field(&self.target).finish()
    }
}

// === impl Reloaded ===

impl Reloaded {
    /// Whether everything took effect.
    pub fn is_ok(&self) -> bool {
        self.kept.is_empty()
    }
}
