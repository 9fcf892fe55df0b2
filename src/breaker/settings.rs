use std::sync::Arc;

use crate::core::draw::entropy;
use crate::core::observe::Observers;
use crate::policy::FailureAccrual;

/// What a breaker is made with; a registry makes many with the same.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) name: Arc<str>,
    pub(super) accrual: FailureAccrual,
    pub(super) seed: u64,
    pub(super) dry_run: bool,
    pub(super) waits: bool,
    pub(super) observers: Observers,
}

// === impl Settings ===

impl Settings {
    pub(super) fn new(accrual: FailureAccrual) -> Self {
        Self {
            name: "breaker".into(),
            accrual,
            seed: entropy(),
            dry_run: false,
            waits: false,
            observers: Observers::default(),
        }
    }
}
