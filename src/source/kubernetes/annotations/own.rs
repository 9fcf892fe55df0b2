//! This crate's own annotations, for what the mesh has no word for.

use std::time::Duration;

use super::reader::{Invalid, Reader};
use crate::policy::{
    AccrualExtensions, Budget, Difference, Ejection, FailureAccrual, Load, PreferZone, Ratio,
};
use crate::source::kubernetes::diagnostic::Severity;
use crate::source::kubernetes::grammar::{self, Mistake, expected};
use crate::source::kubernetes::keys;

/// What they say. Only [`Fidelity::Extended`](crate::policy::Fidelity) hears it.
#[derive(Clone, Debug, Default)]
pub(in crate::source::kubernetes) struct Own {
    pub(in crate::source::kubernetes) budget: Option<Budget>,
    pub(super) accrual: AccrualExtensions,
}

// === impl Own ===

impl Own {
    /// What is said here, put on top of what a breaker has.
    pub(in crate::source::kubernetes) fn extend(
        &self,
        mut accrual: FailureAccrual,
    ) -> FailureAccrual {
        let extensions = accrual.extensions_mut();
        let own = &self.accrual;
        extensions.ejection = own.ejection.or(extensions.ejection);
        extensions.slow_call = own.slow_call.or(extensions.slow_call);
        extensions.memory = own.memory.or(extensions.memory);
        extensions.probes = extensions.probes.max(own.probes);
        extensions.worse_than_peers = own.worse_than_peers.or(extensions.worse_than_peers);
        extensions.dry_run |= own.dry_run;
        accrual
    }
}

// === impl Reader ===

impl Reader<'_> {
    /// The budget, of a Service or a route.
    pub(super) fn own_budget(&mut self) -> Result<Option<Budget>, Invalid> {
        let percent = self.read(keys::OWN_BUDGET_PERCENT, |text| {
            match grammar::count(text)?.try_into() {
                Ok(percent @ 0..=100_u8) => Ok(percent),
                _ => Err(expected("a whole number from 0 to 100")),
            }
        });
        let floor = self.read(keys::OWN_BUDGET_MIN, grammar::count);
        let (percent, floor) = (percent?, floor?);
        if percent.is_none() && floor.is_none() {
            return Ok(None);
        }
        let mut budget = Budget::default();
        if let Some(percent) = percent {
            budget.ratio = Ratio::percent(percent);
        }
        if let Some(floor) = floor {
            budget.min_per_sec = floor;
        }
        Ok(Some(budget))
    }

    /// The breaker's, of a Service.
    pub(super) fn own_accrual(&mut self, no_breaker: bool) -> Result<AccrualExtensions, Invalid> {
        let floor = self.read(keys::OWN_MIN_READY, grammar::count);
        let slow = self.read(keys::OWN_SLOW_CALL, |text| {
            above_zero(grammar::duration(text)?)
        });
        let memory = self.read(keys::OWN_MEMORY, |text| {
            above_zero(grammar::duration(text)?)
        });
        let probes = self.read(keys::OWN_PROBES, |text| match grammar::count(text)? {
            0 => Err(expected("a whole number, at least 1")),
            probes => Ok(probes),
        });
        let peers = self.read(keys::OWN_PEERS, peers);
        let share = self.read(keys::OWN_MAX_EJECTED, |text| {
            ratio(grammar::share(text)?, 1)
        });
        let panic = self.read(keys::OWN_PANIC_AFTER, |text| match grammar::count(text)? {
            pairs @ 1..=64 => Ok(pairs),
            _ => Err(expected("a whole number from 1 to 64")),
        });
        let dry_run = self.read(keys::OWN_DRY_RUN, grammar::boolean);
        let mut extensions = AccrualExtensions::default();
        let mut ejection = Ejection::NONE;
        ejection.min_ready_endpoints = floor?.unwrap_or(ejection.min_ready_endpoints);
        ejection.max_ejected = share?.unwrap_or(ejection.max_ejected);
        ejection.panic_after = panic?;
        extensions.ejection = (ejection != Ejection::NONE).then_some(ejection);
        extensions.worse_than_peers = peers?.flatten();
        extensions.dry_run = dry_run?.unwrap_or(false);
        extensions.slow_call = slow?;
        extensions.memory = memory?;
        extensions.probes = probes?.unwrap_or(1);
        if no_breaker {
            self.without_effect(
                &[
                    keys::OWN_MIN_READY,
                    keys::OWN_SLOW_CALL,
                    keys::OWN_MEMORY,
                    keys::OWN_PROBES,
                    keys::OWN_PEERS,
                    keys::OWN_MAX_EJECTED,
                    keys::OWN_PANIC_AFTER,
                    keys::OWN_DRY_RUN,
                ],
                &format!("add {}: consecutive", keys::ACCRUAL),
            );
        }
        Ok(extensions)
    }

    /// The load of a Service, without what goes beyond the mesh if that is said, and within zones if that is.
    pub(super) fn own_load(&mut self, load: Load) -> Result<Load, Invalid> {
        let extended = self.read(keys::OWN_LOAD, grammar::boolean)?;
        let prefer_zone = self.read(keys::OWN_ZONE, grammar::boolean)?;
        let load = match extended {
            Some(false) => load.into_the_meshs(),
            Some(true) | None => load,
        };
        Ok(match prefer_zone {
            Some(true) => load.prefer_zone(PreferZone::DEFAULT),
            Some(false) | None => load,
        })
    }

    /// Says of each that the mesh does not know it.
    pub(super) fn mark_own(&mut self) {
        for found in self.annotations() {
            if keys::is_own(&found.key) {
                self.say_beyond(Severity::Note, found, Difference::OwnAnnotations);
            }
        }
    }
}

// Whether, or at how many false ejections an hour.
fn peers(text: &str) -> Result<Option<Ratio>, Mistake> {
    if let Ok(hourly) = grammar::single(text, 1000.0) {
        return ratio(hourly, 1000).map(Some);
    }
    match grammar::boolean(text) {
        Ok(on) => Ok(on.then_some(AccrualExtensions::FALSE_EJECTIONS_PER_HOUR)),
        Err(_) => Err(expected(
            "true, false, or false ejections an hour from 0 to 1000",
        )),
    }
}

fn ratio(value: f64, most: u16) -> Result<Ratio, Mistake> {
    Ratio::try_from_f64("ratio", value, most).map_err(|e| expected(e.expected()))
}

fn above_zero(duration: Duration) -> Result<Duration, Mistake> {
    if duration.is_zero() {
        return Err(expected("a duration above zero"));
    }
    Ok(duration)
}
