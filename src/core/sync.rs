//! The one place that our own atomics and locks come from, so that loom can stand in for them.

#[cfg(not(tower_mesh_loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
#[cfg(not(tower_mesh_loom))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(tower_mesh_loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
#[cfg(tower_mesh_loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard};

/// Locks, whether or not somebody panicked while holding it: the data under our locks is valid between any two
/// statements that change it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    }
}
