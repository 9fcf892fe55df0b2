//! What annotations say: of a Service, and of a route.

mod balancer;
mod own;
mod reader;
mod requests;

use self::own::Own;
use self::reader::Reader;
use super::diagnostic::Severity;
use super::error::Error;
use super::grammar::{self, OpaquePort};
use super::keys;
use super::kind::Kind;
use super::metadata::Annotation;
use super::place::Origin;
use super::said::Said;
use crate::policy::{Budget, FailureAccrual, Load, Retry, Timeouts};

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

// === impl Settings ===

impl Settings {
    /// Reads the annotations of a Service. What is not valid in them is kept here, and told.
    pub(super) fn read(annotations: &[Annotation], origin: &Origin, said: &mut Said) -> Self {
        let mut mine = Said::default();
        let mut reader = Reader::new(annotations, origin, &mut mine);
        let mut accrual = reader.accrual();
        reader.retry_after(&mut accrual);
        let load = reader.load().and_then(|load| reader.own_load(load));
        let (retry, grpc_retry) = reader.retry(None);
        let timeouts = reader.timeouts();
        if let (Ok(timeouts), Ok(http), Ok(grpc)) = (&timeouts, &retry, &grpc_retry) {
            reader.never_met(timeouts, [http.as_ref(), grpc.as_ref()]);
        }
        let own = Own {
            budget: reader.own_budget().unwrap_or_default(),
            accrual: reader
                .own_accrual(accrual.as_ref().is_ok_and(Option::is_none))
                .unwrap_or_default(),
        };
        reader.mark_own();
        if let (Ok(None), Ok(None), Some(found)) =
            (&retry, &grpc_retry, reader.find(keys::RETRY_LIMIT))
        {
            reader.say(Severity::Note, found, "0 is the same as no annotation", "");
        }
        let opaque_ports = reader.read(keys::OPAQUE_PORTS, grammar::opaque_ports);
        reader.unknown();
        let opaque_error = match &opaque_ports {
            Ok(_) => None,
            Err(_) => mine.errors.pop(),
        };
        let told = opaque_error.iter().map(|error| error.diagnostic().clone());
        mine.diagnostics.extend(told);
        let errors = said.add(mine);
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
        said: &mut Said,
    ) -> Self {
        let before = said.errors.len();
        let mut reader = Reader::new(annotations, origin, said);
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
        reader.never_met(&settings.timeouts, [settings.retry.as_ref(), None]);
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
        for error in said.errors.iter_mut().skip(before) {
            *error = error
                .clone()
                .mesh("does not apply the route, or keeps its last good version");
        }
        settings
    }
}
