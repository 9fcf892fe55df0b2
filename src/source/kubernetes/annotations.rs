use std::time::Duration;

use super::diagnostic::{Diagnostic, Severity};
use super::error::{Error, ErrorKind};
use super::grammar::{self, Mistake, OpaquePort, expected};
use super::keys;
use super::place::{Mark, Origin, quoted};
use crate::policy::{FailureAccrual, Load, PeakEwma, PenaltyPeakEwma, Retry, Timeouts};

/// One annotation and where its key and its value stand.
#[derive(Clone, Debug)]
pub(super) struct Annotation {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) key_at: Mark,
    pub(super) at: Mark,
}

/// What the annotations of a Service say.
///
/// A family (accrual, load, retry, timeouts) of which one value is not valid is at its default here, as in the mesh;
/// the errors say why.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    pub(super) accrual: Option<FailureAccrual>,
    pub(super) load: Load,
    pub(super) retry: Option<Retry>,
    pub(super) timeouts: Timeouts,
    /// None where the annotation is absent, so that the cluster's default applies.
    pub(super) opaque_ports: Option<Vec<OpaquePort>>,
    /// In the order of the text.
    pub(super) errors: Vec<Error>,
    /// Apart, because it matters only for ports without `appProtocol`.
    pub(super) opaque_error: Option<Error>,
}

/// The error has been written down.
pub(super) struct Invalid;

/// Reads one key after the other, so that every mistake is found and not only the first.
pub(super) struct Reader<'a> {
    annotations: &'a [Annotation],
    origin: &'a Origin,
    errors: Vec<Error>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

// === impl Settings ===

impl Settings {
    /// Reads the annotations of a Service. What is said about them is added to `diagnostics`.
    pub(super) fn read(
        annotations: &[Annotation],
        origin: &Origin,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let before = diagnostics.len();
        let mut reader = Reader {
            annotations,
            origin,
            errors: Vec::new(),
            diagnostics,
        };
        let mut accrual = reader.accrual();
        reader.retry_after(&mut accrual);
        let load = reader.load();
        let retry = reader.retry();
        let timeouts = reader.timeouts();
        let mut errors = std::mem::take(&mut reader.errors);
        let opaque_ports = reader.read(keys::OPAQUE_PORTS, grammar::opaque_ports);
        let opaque_error = reader.errors.pop();
        reader.unknown();

        errors.sort_by_key(|error| (error.line(), error.column()));
        diagnostics.extend(errors.iter().map(|error| error.diagnostic().clone()));
        diagnostics.extend(opaque_error.iter().map(|error| error.diagnostic().clone()));
        if let Some(said) = diagnostics.get_mut(before..) {
            said.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        }
        Self {
            accrual: accrual.unwrap_or_default(),
            load: load.unwrap_or_default(),
            retry: retry.unwrap_or_default(),
            timeouts: timeouts.unwrap_or_default(),
            opaque_ports: opaque_ports.unwrap_or_default(),
            errors,
            opaque_error,
        }
    }
}

// === impl Reader ===

impl<'a> Reader<'a> {
    pub(super) fn find(&self, key: &str) -> Option<&'a Annotation> {
        self.annotations.iter().find(|found| found.key == key)
    }

    pub(super) fn read<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, Mistake>,
    ) -> Result<Option<T>, Invalid> {
        let Some(found) = self.find(key) else {
            return Ok(None);
        };
        match parse(&found.value) {
            Ok(value) => Ok(Some(value)),
            Err(mistake) => Err(self.mistake(found, mistake)),
        }
    }

    pub(super) fn mistake(&mut self, found: &Annotation, mistake: Mistake) -> Invalid {
        let message = format!(
            "found {}, expected {}",
            quoted(&found.value),
            mistake.expected
        );
        let error = Error::found(
            ErrorKind::Annotation,
            self.origin,
            &found.key,
            found.at,
            message,
        );
        self.errors.push(match mistake.remedy {
            Some(remedy) => error.remedy(remedy),
            None => error,
        });
        Invalid
    }

    pub(super) fn say(
        &mut self,
        severity: Severity,
        found: &Annotation,
        message: &str,
        remedy: &str,
    ) {
        let diagnostic = Diagnostic::new(severity, self.origin, message)
            .key(&found.key)
            .at(found.key_at);
        self.diagnostics.push(if remedy.is_empty() {
            diagnostic
        } else {
            diagnostic.remedy(remedy)
        });
    }

    pub(super) fn without_effect(&mut self, keys: &[&str], remedy: &str) {
        for key in keys {
            if let Some(found) = self.find(key) {
                self.say(Severity::Warning, found, "has no effect here", remedy);
            }
        }
    }

    pub(super) fn blame(&mut self, key: &str, error: &crate::policy::InvalidPolicy) -> Invalid {
        match self.find(key) {
            Some(found) => self.mistake(found, expected(error.to_string())),
            None => {
                let message = error.to_string();
                let mark = Mark::default();
                let error = Error::found(ErrorKind::Annotation, self.origin, key, mark, message);
                self.errors.push(error);
                Invalid
            }
        }
    }

    fn load(&mut self) -> Result<Load, Invalid> {
        let ewma = PeakEwma::DEFAULT;
        if !self
            .read(keys::PENALIZE, grammar::boolean)?
            .unwrap_or(false)
        {
            let remedy = format!("add {}: \"true\"", keys::PENALIZE);
            self.without_effect(&[keys::PENALTY, keys::MAX_RETRY_AFTER], &remedy);
            return Ok(Load::PeakEwma(ewma));
        }
        let mut load = PenaltyPeakEwma::new(ewma);
        let penalty = self.read(keys::PENALTY, |text| {
            let penalty = grammar::duration(text)?;
            if penalty > Duration::from_millis(u32::MAX.into()) {
                return Err(expected("at most 4294967295ms (49 days)"));
            }
            Ok(penalty)
        });
        let max_retry_after = self.read(keys::MAX_RETRY_AFTER, grammar::duration);
        load.penalty = penalty?.unwrap_or(load.penalty);
        load.max_retry_after = max_retry_after?.unwrap_or(load.max_retry_after);
        Ok(Load::PenaltyPeakEwma(load))
    }

    fn retry(&mut self) -> Result<Option<Retry>, Invalid> {
        let statuses = self.read(keys::RETRY_HTTP, grammar::statuses);
        let grpc = self.read(keys::RETRY_GRPC, grammar::grpc_codes);
        let limit = self.read(keys::RETRY_LIMIT, grammar::limit);
        let timeout = self.read(keys::RETRY_TIMEOUT, grammar::duration);
        if let (Ok(Some(_)), Some(found)) = (&grpc, self.find(keys::RETRY_GRPC)) {
            let message = "takes effect for gRPC policies only, which are not there yet";
            self.say(Severity::Warning, found, message, "");
        }
        // A value that is wrong for gRPC says nothing about HTTP.
        let (statuses, limit, timeout) = (statuses?, limit?, timeout?);
        let (zero, limit) = (limit == Some(0), limit.filter(|limit| *limit > 0));
        let timeout = timeout.filter(|timeout| !timeout.is_zero());
        let none = statuses.is_none() && limit.is_none() && timeout.is_none();
        if let (true, Some(found)) = (zero, self.find(keys::RETRY_LIMIT)) {
            let (severity, message) = if none {
                (Severity::Note, "0 is the same as no annotation")
            } else {
                (
                    Severity::Warning,
                    "0 is the same as no annotation, so that the limit is 1: retries are not turned off",
                )
            };
            let remedy = "take the other retry.linkerd.io annotations away to turn retries off";
            self.say(severity, found, message, if none { "" } else { remedy });
        }
        if none {
            return Ok(None);
        }
        let no_statuses = statuses.is_none();
        let mut retry = Retry::never_on_status().limit(limit.unwrap_or(1));
        for range in statuses.into_iter().flatten() {
            retry = retry.and_on(range);
        }
        if let Some(timeout) = timeout {
            retry = retry.timeout(timeout);
        }
        let named = [keys::RETRY_LIMIT, keys::RETRY_TIMEOUT];
        let found = named.iter().find_map(|key| self.find(key));
        if let (true, Some(found)) = (no_statuses, found) {
            self.say(
                Severity::Note,
                found,
                "no status is retried, only what is always worth it (a try that timed out, a request refused unprocessed)",
                &format!("add {}: 5xx or gateway-error to retry statuses", keys::RETRY_HTTP),
            );
        }
        let retry = retry
            .build()
            .map_err(|e| self.blame(keys::RETRY_HTTP, &e))?;
        Ok(Some(retry))
    }

    fn timeouts(&mut self) -> Result<Timeouts, Invalid> {
        let [request, response, idle] = [
            keys::TIMEOUT_REQUEST,
            keys::TIMEOUT_RESPONSE,
            keys::TIMEOUT_IDLE,
        ]
        .map(|key| {
            let timeout = self.read(key, grammar::duration);
            if let (Ok(Some(Duration::ZERO)), Some(found)) = (&timeout, self.find(key)) {
                self.say(
                    Severity::Warning,
                    found,
                    "0 is not \"no timeout\": every request would time out at once, as in the mesh",
                    "take the annotation away for no timeout",
                );
            }
            timeout
        });
        Ok(Timeouts {
            request: request?,
            response: response?,
            idle: idle?,
        })
    }

    fn unknown(&mut self) {
        // To suggest costs thousands of steps for each; who has more unknown keys has another problem.
        const SUGGESTIONS: usize = 32;
        let unknown = self.annotations.iter();
        let unknown = unknown.filter(|found| keys::is_unknown(&found.key));
        for (i, found) in unknown.enumerate() {
            let nearest = (i < SUGGESTIONS).then(|| keys::nearest(&found.key));
            let remedy = match nearest.flatten() {
                Some(known) => format!("did you mean {known}?"),
                None => String::new(),
            };
            let message = "unknown annotation; it has no effect";
            self.say(Severity::Warning, found, message, &remedy);
        }
    }
}
