//! The paused clock, moved by the world.
//!
//! tokio's timers fire at whole milliseconds; the world's events at any nanosecond. So the clock stops at every whole
//! millisecond for tokio's timers, and between two of them at the world's events.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::Instant;

use super::tasks::Ready;
use crate::core::sync::{Mutex, lock};
use crate::core::time::{after, nanos};
use crate::sim::SimError;
use crate::sim::stage::Stage;

const MILLI: u64 = 1_000_000;

/// Told by the runtime when none of its own tasks can go on.
#[derive(Clone, Default)]
pub(super) struct Idle(Arc<Mutex<Option<Waker>>>);

/// A paused runtime on this thread.
pub(super) fn runtime() -> Result<(Runtime, Idle), SimError> {
    if Handle::try_current().is_ok() {
        return Err(SimError::InsideRuntime);
    }
    let idle = Idle::default();
    let parked = idle.clone();
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .on_thread_park(move || parked.wake())
        .build()
        .map_err(|cause| SimError::Runtime(Arc::new(cause)))?;
    Ok((runtime, idle))
}

/// Moves the clock forward, to `target` at most. It may stop before: at a whole millisecond, or because something was
/// woken there.
pub(super) async fn forward(stage: &Stage, ready: &Ready, target: u64) {
    let now = stage.lock().now;
    let whole = target / MILLI * MILLI;
    if now.is_multiple_of(MILLI) && whole > now + MILLI {
        // Nothing of ours for a while: tokio goes from timer to timer by itself, all of them at whole milliseconds.
        sleep(stage, ready, whole, target).await;
        let now = Instant::now().saturating_duration_since(stage.start);
        stage.lock().now = nanos(now);
        return;
    }
    let next = (now / MILLI + 1).saturating_mul(MILLI).min(target);
    // In this order, for whatever tokio wakes on the way looks at the time.
    stage.lock().now = next;
    tokio::time::advance(Duration::from_nanos(next.saturating_sub(now))).await;
}

async fn sleep(stage: &Stage, ready: &Ready, until: u64, target: u64) {
    let until = after(stage.start, Duration::from_nanos(until));
    let mut sleep = pin!(tokio::time::sleep_until(until));
    std::future::poll_fn(|cx| {
        ready.listen(cx.waker());
        let mut stage = stage.lock();
        if !ready.is_empty() || stage.queue.due().is_some_and(|due| due < target) {
            return Poll::Ready(());
        }
        stage.sleeper = Some(cx.waker().clone());
        drop(stage);
        sleep.as_mut().poll(cx)
    })
    .await;
}

// === impl Idle ===

impl Idle {
    fn wake(&self) {
        let waker = lock(&self.0).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits until every task that was spawned on the runtime waits. No time passes.
    pub(super) async fn reached(&self) {
        if Handle::current().metrics().num_alive_tasks() == 0 {
            return;
        }
        let mut is_asked = false;
        std::future::poll_fn(|cx| {
            let mut slot = lock(&self.0);
            if is_asked && slot.is_none() {
                return Poll::Ready(());
            }
            is_asked = true;
            *slot = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
