//! Policy from Kubernetes manifests: the YAML that is in the cluster, read in process.
//!
//! ```
//! use tower_mesh::source::kubernetes::Manifests;
//!
//! let manifests = Manifests::parse(r#"
//! apiVersion: v1
//! kind: Service
//! metadata:
//!   name: payments
//!   namespace: shop
//!   annotations:
//!     balancer.linkerd.io/failure-accrual: consecutive
//!     retry.linkerd.io/http: 5xx
//!     timeout.linkerd.io/request: 2s
//! spec:
//!   ports:
//!     - port: 8080
//! "#)?;
//! let policy = manifests.resolve("payments.shop:8080")?;
//! assert_eq!(policy.parent.to_string(), "service.shop.payments:8080");
//! assert!(manifests.diagnostics().is_empty());
//! # Ok::<(), tower_mesh::source::kubernetes::Error>(())
//! ```
//!
//! A file, or a folder with all that is below it: [`Manifests::from_path`].
//!
//! # What is read
//!
//! Core `Service`s and their annotations, as Linkerd's policy controller (2.20) reads them. Other kinds may stand in the
//! same files and are left out; where the mesh would make policy of them (HTTPRoute, GRPCRoute, TLSRoute, TCPRoute,
//! ServiceProfile, EgressNetwork, XBackendTrafficPolicy) a [`Diagnostic`] says so. `kind: List` is unwrapped.
//!
//! | annotation of a Service | value | default |
//! |---|---|---|
//! | `balancer.linkerd.io/failure-accrual` | `consecutive` or `unified` | no breaker |
//! | `…/failure-accrual-consecutive-max-failures` | a whole number; `0` is off | `7` |
//! | `…/failure-accrual-consecutive-min-penalty` | duration | `1s` |
//! | `…/failure-accrual-consecutive-max-penalty` | duration, not zero, not below the least | `60s` |
//! | `…/failure-accrual-consecutive-jitter-ratio` | 0 to 100 | `0.5` |
//! | `balancer.alpha.linkerd.io/failure-accrual-success-rate-threshold` | 0 to 1; `0` is off | `0.8` |
//! | `…/failure-accrual-success-rate-window` | duration, at least `10ms` | `10s` |
//! | `…/failure-accrual-success-rate-min-requests` | a whole number, at most `1000000` | `5` |
//! | `balancer.alpha.linkerd.io/penalize-failures` | boolean | `false` |
//! | `balancer.alpha.linkerd.io/load-biaser-penalty` | duration, at most 49 days | `5s` |
//! | `balancer.alpha.linkerd.io/load-biaser-max-retry-after` | duration | `300s` |
//! | `retry.linkerd.io/http` | `5xx`, `gateway-error`, `503`, `500-504`; commas, no spaces | none |
//! | `retry.linkerd.io/limit` | 0 to 65535; `0` is the same as absent | `1` with another retry key |
//! | `retry.linkerd.io/timeout` | duration; `0` is the same as absent | none |
//! | `timeout.linkerd.io/request`, `/response`, `/idle` | duration; `0` times out at once | none |
//! | `config.linkerd.io/opaque-ports` | ports, ranges, names | the cluster's default |
//!
//! A *duration* is a whole number and one unit (`ms`, `s`, `m`, `h`, `d`), not `1h30m` and not `1.5s`.
//! `retry.linkerd.io/grpc` is checked and takes no effect yet.
//!
//! # Mistakes
//!
//! What is not YAML, or not a Service by its fields, is an [`Error`] when it is read. An annotation whose value is not in
//! its grammar is an error when that Service is resolved, and a [`Diagnostic`] before; all other Services resolve. The
//! mesh does less: a line in its controller's log, and the whole family (breaker, retries, timeouts) is gone. With
//! [`Fidelity::Mesh`] so it is here.
//!
//! Limits are large but finite: 32 MiB in a file, 100 levels, and two million values of 64 MiB together, what aliases
//! repeat included. Nesting costs no stack, aliases no more memory than that.
//!
//! Every error and every diagnostic names file, line, column and key, what was found, what was expected, and what helps.

mod accrual;
mod annotations;
mod diagnostic;
mod document;
mod error;
mod field;
mod files;
mod grammar;
mod keys;
pub(crate) mod place;
mod resolve;
mod scalar;
mod service;
mod target;
#[cfg(test)]
mod tests;
pub(crate) mod yaml;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

pub use self::diagnostic::{Diagnostic, Severity};
use self::document::Object;
pub use self::error::{Error, ErrorKind};
use self::place::Origin;
use self::service::Service;
pub use self::target::Target;
use self::yaml::{Cause, Refused};
use crate::policy::{ClientPolicy, Fidelity};

/// Manifests that have been read, from which policies are made. See the [module](self).
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    services: BTreeMap<(String, String), Service>,
    /// The kinds of what was left out, each once.
    others: BTreeSet<String>,
    diagnostics: Vec<Diagnostic>,
    fidelity: Fidelity,
}

// === impl Manifests ===

impl Manifests {
    /// Reads a file, or every `.yaml`, `.yml` and `.json` file in a folder and its subfolders, in the order of their
    /// paths. Hidden files and folders are left out; links to folders are not followed.
    ///
    /// # Errors
    /// What cannot be read, is larger than 32 MiB or is not UTF-8; no document at all; otherwise as
    /// [`parse`](Self::parse).
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let mut manifests = Self::default();
        let mut found = 0;
        for file in files::list(path, &mut manifests.diagnostics)? {
            let origin = Origin::new(Some(files::name(&file)));
            let documents = manifests.add(&files::text(&file)?, &origin)?;
            found += documents;
            if documents == 0 {
                let note = Diagnostic::new(Severity::Note, &origin, "has no documents");
                manifests.diagnostics.push(note);
            }
        }
        manifests.not_empty(found, Some(files::name(path)))
    }

    /// Reads a text of one or many YAML documents.
    ///
    /// # Errors
    /// Not YAML; more of it than the [limits](self#mistakes) allow; the same key twice in a
    /// mapping; no document; a Service with a field of the wrong type or without a name; the same Service twice.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::parse_as(None, text)
    }

    /// The same, with a name for messages: `Manifests::parse_named("payments.yaml", text)`.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_named(name: impl AsRef<str>, text: &str) -> Result<Self, Error> {
        Self::parse_as(Some(name.as_ref().into()), text)
    }

    fn parse_as(file: Option<Arc<str>>, text: &str) -> Result<Self, Error> {
        let mut manifests = Self::default();
        let found = manifests.add(text, &Origin::new(file.clone()))?;
        manifests.not_empty(found, file)
    }

    fn not_empty(self, documents: usize, file: Option<Arc<str>>) -> Result<Self, Error> {
        if documents > 0 {
            return Ok(self);
        }
        let origin = Origin::new(file);
        let message = "found no documents, expected at least one Kubernetes object in YAML";
        Err(Error::new(
            ErrorKind::Empty,
            Diagnostic::new(Severity::Error, &origin, message),
        ))
    }

    /// Adds the documents of a text and says how many there were.
    fn add(&mut self, text: &str, origin: &Origin) -> Result<usize, Error> {
        let documents = yaml::documents(text).map_err(|refused| refusal(text, origin, refused))?;
        for document in &documents {
            let mut objects = Vec::new();
            document::read(document, origin, &mut objects, &mut self.diagnostics)?;
            for object in objects {
                match object {
                    Object::Service(service) => self.add_service(*service)?,
                    Object::Ignored(kind) => {
                        self.others.insert(kind);
                    }
                }
            }
        }
        Ok(documents.len())
    }

    fn add_service(&mut self, service: Service) -> Result<(), Error> {
        match self
            .services
            .entry((service.namespace.clone(), service.name.clone()))
        {
            Entry::Vacant(vacant) => {
                vacant.insert(service);
                Ok(())
            }
            Entry::Occupied(first) => {
                let first = first.get();
                let line = first.at.line;
                let message = match &first.origin.file {
                    Some(file) => format!("defined twice; first in {file}:{line}"),
                    None => format!("defined twice; first in line {line}"),
                };
                let kind = ErrorKind::Duplicate;
                Err(
                    Error::found(kind, &service.origin, "metadata.name", service.at, message)
                        .remedy("keep one of them; overlays are not merged"),
                )
            }
        }
    }

    /// Whether to decide as the mesh does. Default: [`Fidelity::Extended`].
    ///
    /// It goes into every policy, and decides about annotations that are not valid: they make
    /// [`resolve`](Self::resolve) fail, or with [`Fidelity::Mesh`] lose their whole family.
    #[must_use]
    pub fn fidelity(mut self, fidelity: Fidelity) -> Self {
        self.fidelity = fidelity;
        self
    }

    /// The policy for `name.namespace:port`, as for instance `payments.shop:8080`.
    ///
    /// `.svc` and `.svc.cluster.local` may follow the namespace. The port may be left out where the Service has one only.
    ///
    /// # Errors
    /// By [`Error::kind`]: not a target; no such Service, or no such port; a port that the mesh does not take for HTTP by
    /// its `appProtocol` or as an opaque port; `type: ExternalName`; the first annotation whose value is not valid.
    pub fn resolve(&self, target: &str) -> Result<ClientPolicy, Error> {
        self.resolve_target(&target.parse()?)
    }

    /// The same for a target that has been read already.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn resolve_target(&self, target: &Target) -> Result<ClientPolicy, Error> {
        let key = (target.namespace().to_owned(), target.name().to_owned());
        let Some(service) = self.services.get(&key) else {
            let known = self.services.values();
            let known: Vec<_> = known
                .map(|s| format!("{}.{}", s.name, s.namespace))
                .collect();
            return Err(resolve::not_found(target, &known, &self.others));
        };
        resolve::policy(service, target, self.fidelity)
    }

    /// Every port of every Service, by namespace and name. Not all of them need resolve.
    pub fn targets(&self) -> impl Iterator<Item = Target> + '_ {
        self.services.values().flat_map(|service| {
            let ports = service.ports.iter();
            ports.map(|port| Target::new(&service.namespace, &service.name, Some(port.number)))
        })
    }

    /// What the author of the manifests should know, in the order they were read.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }
}

/// The words for what the parser refuses.
fn refusal(text: &str, origin: &Origin, refused: Refused) -> Error {
    let error = |kind, message: String| {
        let diagnostic = Diagnostic::new(Severity::Error, origin, message);
        Error::new(kind, diagnostic.at(refused.at))
    };
    match refused.cause {
        Cause::Limit(limit) => {
            let error = error(ErrorKind::Limit, format!("more than {limit}"));
            if limit == yaml::DEPTH {
                error
            } else {
                error.remedy("split the file")
            }
        }
        Cause::DuplicateKey(key) => {
            let message = "the same key twice in one mapping".to_owned();
            error(ErrorKind::Duplicate, message)
                .key_is(key)
                .remedy("keep one of them")
        }
        Cause::Syntax(message) => {
            let message_is_about_tabs = message.contains("tab");
            let error = error(ErrorKind::Syntax, format!("not YAML: {message}"));
            if text.contains("{{") {
                error.remedy("a template has to be rendered first (helm template)")
            } else if message_is_about_tabs {
                error.remedy("indent with spaces")
            } else {
                error
            }
        }
    }
}
