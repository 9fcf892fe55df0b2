//! The one place that our own atomics and locks come from, so that loom can stand in for them.

#[cfg(not(tower_mesh_loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
#[cfg(not(tower_mesh_loom))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(tower_mesh_loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
#[cfg(tower_mesh_loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard};

/// An `Arc` that is read without a lock and replaced as a whole.
#[cfg(not(tower_mesh_loom))]
pub(crate) use arc_swap::ArcSwap as Swap;

/// The same for what need not be there.
#[cfg(not(tower_mesh_loom))]
pub(crate) use arc_swap::ArcSwapOption as SwapOption;

/// The same for loom, which cannot look into the real one.
#[cfg(tower_mesh_loom)]
#[derive(Debug)]
pub(crate) struct Swap<T>(Mutex<std::sync::Arc<T>>);

#[cfg(tower_mesh_loom)]
impl<T> Swap<T> {
    pub(crate) fn new(value: std::sync::Arc<T>) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn from_pointee(value: T) -> Self {
        Self::new(std::sync::Arc::new(value))
    }

    pub(crate) fn load(&self) -> std::sync::Arc<T> {
        self.load_full()
    }

    pub(crate) fn load_full(&self) -> std::sync::Arc<T> {
        std::sync::Arc::clone(&lock(&self.0))
    }

    pub(crate) fn store(&self, value: std::sync::Arc<T>) {
        let old = std::mem::replace(&mut *lock(&self.0), value);
        drop(old);
    }
}

#[cfg(tower_mesh_loom)]
impl<T: Default> Default for Swap<T> {
    fn default() -> Self {
        Self::from_pointee(T::default())
    }
}

#[cfg(tower_mesh_loom)]
pub(crate) struct SwapOption<T>(Mutex<Option<std::sync::Arc<T>>>);

#[cfg(tower_mesh_loom)]
impl<T> SwapOption<T> {
    pub(crate) fn load(&self) -> Option<std::sync::Arc<T>> {
        lock(&self.0).clone()
    }

    pub(crate) fn store(&self, value: Option<std::sync::Arc<T>>) {
        let old = std::mem::replace(&mut *lock(&self.0), value);
        drop(old);
    }
}

#[cfg(tower_mesh_loom)]
impl<T> Default for SwapOption<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

/// Locks, whether or not somebody panicked while holding it: the data under our locks is valid between any two
/// statements that change it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    }
}
