use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::core::sync::{AtomicBool, Mutex, Ordering, lock};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The one task of a source.
///
/// Started by the first call, so that a client can be built outside a runtime; started again if the runtime that
/// carried it is gone; ended when the driver is dropped, or when the source ends.
pub(crate) struct Driver {
    running: Arc<AtomicBool>,
    slot: Mutex<Slot>,
}

struct Slot {
    make: Box<dyn Fn() -> Task + Send>,
    task: Option<AbortHandle>,
}

// Says that the task is gone, in whatever way it went.
struct Running(Arc<AtomicBool>);

// === impl Driver ===

impl Driver {
    /// A driver of the tasks that `make` makes. One that comes to its end on its own is not made again.
    pub(crate) fn new(make: impl Fn() -> Task + Send + 'static) -> Self {
        Self {
            running: Arc::new(AtomicBool::new(false)),
            slot: Mutex::new(Slot {
                make: Box::new(make),
                task: None,
            }),
        }
    }

    /// Starts the task, if it is not running. One load where it is.
    pub(crate) fn ensure(&self) {
        if self.running.load(Ordering::Acquire) {
            return;
        }
        // Outside a runtime there is nothing to start it on; the request will say so itself.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let mut slot = lock(&self.slot);
        if self.running.swap(true, Ordering::AcqRel) {
            return;
        }
        let running = Running(Arc::clone(&self.running));
        let task = (slot.make)();
        let task = runtime.spawn(async move {
            let running = running;
            task.await;
            // The source has ended: nothing to start again.
            std::mem::forget(running);
        });
        slot.task = Some(task.abort_handle());
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.slot).task.take() {
            task.abort();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
