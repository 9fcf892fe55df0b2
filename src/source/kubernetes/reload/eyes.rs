use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{EventKind, MetadataKind, ModifyKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::source::kubernetes::error::Error;

/// Who tells that something has changed, and through what.
pub(super) struct Watching {
    pub(super) changed: Arc<Notify>,
    pub(super) eyes: Box<dyn Eyes>,
}

/// What looks at files. Dropped, it looks no more.
pub(super) trait Eyes: Send {
    /// Looks again for what may have been replaced.
    fn again(&mut self);
}

/// The operating system's own.
struct Open {
    watcher: RecommendedWatcher,
    roots: Vec<PathBuf>,
}

// === what is looked at ===

/// Watches these files and folders.
///
/// # Errors
/// The system has no more watches, or does not let us.
pub(super) fn open(paths: &[PathBuf]) -> Result<Watching, Error> {
    let changed = Arc::new(Notify::new());
    let mut roots = Vec::new();
    for path in paths {
        let absolute = std::path::absolute(path).map_err(|cause| Error::io(path, cause))?;
        // A file that is replaced by a rename is another file of the same name, which its folder tells of.
        let folder = absolute.parent().filter(|_| !absolute.is_dir());
        roots.push(folder.map_or_else(|| absolute.clone(), Path::to_owned));
    }
    let tell = {
        let (changed, roots) = (Arc::clone(&changed), roots.clone());
        move |event: notify::Result<Event>| match event {
            Ok(event) if !concerns(&event, &roots) => {}
            Ok(_) => changed.notify_one(),
            Err(error) => {
                // Events may have been lost.
                tracing::warn!(%error, "manifests are read again, for their watch has failed");
                changed.notify_one();
            }
        }
    };
    let refused = |path: &Path, error: notify::Error| {
        let cause = match error.kind {
            notify::ErrorKind::Io(cause) => cause,
            _ => io::Error::other(error),
        };
        Error::io(path, cause)
    };
    let first = roots.first().map(PathBuf::as_path).unwrap_or(Path::new(""));
    let watcher = notify::recommended_watcher(tell).map_err(|error| refused(first, error))?;
    let mut open = Open { watcher, roots };
    for root in open.roots.clone() {
        open.look(&root).map_err(|error| refused(&root, error))?;
    }
    Ok(Watching {
        changed,
        eyes: Box::new(open),
    })
}

/// Whether something was changed that may be read, not merely read.
fn concerns(event: &Event, roots: &[PathBuf]) -> bool {
    let read = matches!(
        event.kind,
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(MetadataKind::AccessTime))
    );
    let ours = |path: &PathBuf| {
        let mut roots = roots.iter();
        roots.any(|root| path.starts_with(root) || root.starts_with(path))
    };
    // Without a path it is about the watch itself: something was lost.
    !read && (event.paths.is_empty() || event.paths.iter().any(ours))
}

impl Open {
    fn look(&mut self, root: &Path) -> notify::Result<()> {
        // Who tells of a folder that is replaced is the folder above; if that is gone too, the next.
        let above = root.ancestors().skip(1).find(|above| above.is_dir());
        if let Some(above) = above {
            // Not ours to watch, perhaps. Then what is in the folder is all that is seen.
            let _ = self.watcher.watch(above, RecursiveMode::NonRecursive);
        }
        self.watcher.watch(root, RecursiveMode::Recursive)
    }
}

impl Eyes for Open {
    fn again(&mut self) {
        for root in self.roots.clone() {
            // One that is gone is not watched any more, and one of that name is another.
            let _ = self.watcher.unwatch(&root);
            // What cannot be watched now cannot be read either, and that is reported.
            let _ = self.look(&root);
        }
    }
}

/// Nothing, for tests.
#[cfg(test)]
impl Eyes for () {
    fn again(&mut self) {}
}
