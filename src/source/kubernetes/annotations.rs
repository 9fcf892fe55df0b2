use std::time::Duration;

use super::diagnostic::{Diagnostic, Severity};
use super::error::{Error, ErrorKind};
use super::grammar::{self, Mistake, OpaquePort, expected};
use super::keys;
use super::own::Own;
use super::place::{Mark, Origin, quoted};
use super::route::Kind;
use crate::policy::{
    Budget, Difference, FailureAccrual, Load, PeakEwma, PenaltyPeakEwma, Retry, RetryBuilder,
    Timeouts,
};

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
    /// Of HTTP.
    pub(super) retry: Option<Retry>,
    pub(super) grpc_retry: Option<Retry>,
    pub(super) timeouts: Timeouts,
    pub(super) own: Own,
    /// None where the annotation is absent, so that the cluster's default applies.
    pub(super) opaque_ports: Option<Vec<OpaquePort>>,
    /// In the order of the text.
    pub(super) errors: Vec<Error>,
    /// Apart, because it matters only for ports without `appProtocol`.
    pub(super) opaque_error: Option<Error>,
}

/// What the annotations of a route say.
#[derive(Clone, Debug, Default)]
pub(super) struct RouteSettings {
    pub(super) retry: Option<Retry>,
    pub(super) timeouts: Timeouts,
    /// This crate's own.
    pub(super) budget: Option<Budget>,
}

/// For HTTP, for gRPC.
type Retries = (
    Result<Option<Retry>, Invalid>,
    Result<Option<Retry>, Invalid>,
);

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
        let load = reader.load().and_then(|load| reader.own_load(load));
        let (retry, grpc_retry) = reader.retry(None);
        let timeouts = reader.timeouts();
        let own = Own {
            budget: reader.own_budget().unwrap_or_default(),
            accrual: reader
                .own_accrual(accrual.as_ref().is_ok_and(Option::is_none))
                .unwrap_or_default(),
        };
        reader.mark_own();
        let mut errors = std::mem::take(&mut reader.errors);
        if let (Ok(None), Ok(None), Some(found)) =
            (&retry, &grpc_retry, reader.find(keys::RETRY_LIMIT))
        {
            reader.say(Severity::Note, found, "0 is the same as no annotation", "");
        }
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
            grpc_retry: grpc_retry.unwrap_or_default(),
            timeouts: timeouts.unwrap_or_default(),
            own,
            opaque_ports: opaque_ports.unwrap_or_default(),
            errors,
            opaque_error,
        }
    }
}

// === impl RouteSettings ===

impl RouteSettings {
    /// Reads the annotations of a route. One value that is not valid and the mesh does not apply the route.
    pub(super) fn read(
        annotations: &[Annotation],
        kind: Kind,
        origin: &Origin,
        diagnostics: &mut Vec<Diagnostic>,
        errors: &mut Vec<Error>,
    ) -> Self {
        let mut reader = Reader {
            annotations,
            origin,
            errors: Vec::new(),
            diagnostics,
        };
        let families: &[&str] = match kind {
            Kind::Http | Kind::Grpc => &["balancer.linkerd.io/", "balancer.alpha.linkerd.io/"],
            Kind::Tls | Kind::Tcp => &[
                "balancer.linkerd.io/",
                "balancer.alpha.linkerd.io/",
                "retry.linkerd.io/",
                "timeout.linkerd.io/",
            ],
        };
        for found in annotations {
            if families.iter().any(|family| found.key.starts_with(family)) {
                reader.say(
                    Severity::Warning,
                    found,
                    "is not read from a route; here it has no effect",
                    "write it on the Service that is called",
                );
            }
        }
        let mut settings = Self::default();
        match kind {
            Kind::Http => reader.without_effect(
                &[keys::RETRY_GRPC],
                &format!("an HTTPRoute has {}", keys::RETRY_HTTP),
            ),
            Kind::Grpc => reader.without_effect(
                &[keys::RETRY_HTTP],
                &format!("a GRPCRoute has {}", keys::RETRY_GRPC),
            ),
            Kind::Tls | Kind::Tcp => return settings,
        }
        let (http, grpc) = reader.retry(Some(kind));
        settings.retry = match kind {
            Kind::Grpc => grpc.unwrap_or_default(),
            _ => http.unwrap_or_default(),
        };
        settings.timeouts = reader.timeouts().unwrap_or_default();
        settings.budget = reader.own_budget().unwrap_or_default();
        reader.mark_own();
        if settings.retry.is_none()
            && let Some(found) = reader.find(keys::RETRY_LIMIT)
            && found.value == "0"
        {
            reader.say(
                Severity::Warning,
                found,
                "0 is the same as no annotation, so that the route has the retries of its Service; they cannot be turned \
                 off for a route",
                "take the retry annotations from the Service, and give them to the routes that want them",
            );
        }
        reader.unknown();
        let said = reader.errors.into_iter();
        errors.extend(
            said.map(|error| {
                error.mesh("does not apply the route, or keeps its last good version")
            }),
        );
        settings
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

    pub(super) fn annotations(&self) -> &'a [Annotation] {
        self.annotations
    }

    /// That this crate honours it and the mesh does not.
    pub(super) fn say_beyond(
        &mut self,
        severity: Severity,
        found: &Annotation,
        difference: Difference,
    ) {
        let diagnostic =
            Diagnostic::new(severity, self.origin, "an annotation of this crate's own")
                .key(&found.key)
                .at(found.key_at)
                .mesh("does not know it")
                .beyond(difference);
        self.diagnostics.push(diagnostic);
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

    // Of a route, or of a Service, which has both lists. For each protocol its own list, and the rest for both.
    fn retry(&mut self, route: Option<Kind>) -> Retries {
        let (http, grpc) = (route != Some(Kind::Grpc), route != Some(Kind::Http));
        let statuses = match http {
            true => self.read(keys::RETRY_HTTP, grammar::statuses),
            false => Ok(None),
        };
        let codes = match grpc {
            true => self.read(keys::RETRY_GRPC, grammar::grpc_codes),
            false => Ok(None),
        };
        let limit = self.read(keys::RETRY_LIMIT, grammar::limit);
        let timeout = self.read(keys::RETRY_TIMEOUT, grammar::duration);
        let no_list = matches!((&statuses, &codes), (Ok(None), Ok(None)));
        let (Ok(limit), Ok(timeout)) = (limit, timeout) else {
            return (Err(Invalid), Err(Invalid));
        };
        let (zero, limit) = (limit == Some(0), limit.filter(|limit| *limit > 0));
        let timeout = timeout.filter(|timeout| !timeout.is_zero());
        let both = limit.is_some() || timeout.is_some();
        if let (true, true, Some(found)) = (zero, !no_list || both, self.find(keys::RETRY_LIMIT)) {
            self.say(
                Severity::Warning,
                found,
                "0 is the same as no annotation, so that the limit is 1: retries are not turned off",
                "take the other retry.linkerd.io annotations away to turn retries off",
            );
        }
        let named = [keys::RETRY_LIMIT, keys::RETRY_TIMEOUT];
        let found = named.iter().find_map(|key| self.find(key));
        if let (true, true, Some(found)) = (no_list, both, found) {
            let key = match route {
                Some(Kind::Grpc) => format!("add {}: unavailable to retry codes", keys::RETRY_GRPC),
                _ => format!(
                    "add {}: 5xx or gateway-error to retry statuses",
                    keys::RETRY_HTTP
                ),
            };
            self.say(
                Severity::Note,
                found,
                "no status is retried, only what is always worth it (a try that timed out, a request refused unprocessed)",
                &key,
            );
        }
        let rest = |mut retry: RetryBuilder| {
            retry = retry.limit(limit.unwrap_or(1));
            if let Some(timeout) = timeout {
                retry = retry.timeout(timeout);
            }
            retry.build()
        };
        let statuses = statuses.and_then(|statuses| {
            if !http || (statuses.is_none() && !both) {
                return Ok(None);
            }
            let retry = Retry::never_on_status();
            let ranges = statuses.into_iter().flatten();
            let retry = rest(ranges.fold(retry, RetryBuilder::and_on));
            retry
                .map(Some)
                .map_err(|e| self.blame(keys::RETRY_HTTP, &e))
        });
        let codes = codes.and_then(|codes| {
            if !grpc || (codes.is_none() && !both) {
                return Ok(None);
            }
            let retry = rest(Retry::on_codes(codes.into_iter().flatten()));
            retry
                .map(Some)
                .map_err(|e| self.blame(keys::RETRY_GRPC, &e))
        });
        (statuses, codes)
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
