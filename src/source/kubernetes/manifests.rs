use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Severity};
use super::error::{Error, ErrorKind};
use super::objects::Objects;
use super::place::Origin;
use super::reading::Reading;
use super::resolve::Options;
use super::route::ParentKind;
use super::target::Target;
use super::{files, resolve};
use crate::policy::{ClientPolicy, Fidelity, Meta};

/// Manifests that have been read, from which policies are made. See the [module](super).
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    pub(super) objects: Objects,
    pub(super) diagnostics: Vec<Diagnostic>,
    pub(super) options: Options,
    pub(super) strict: bool,
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
        Self::from_paths([path])
    }

    /// Reads several files and folders as if they were one: what is in one may name what is in another.
    ///
    /// # Errors
    /// As [`from_path`](Self::from_path).
    pub fn from_paths(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<Self, Error> {
        let mut reading = Reading::default();
        let mut first = None;
        for path in paths {
            let path = path.as_ref();
            for file in reading.files(path) {
                reading.file(&file);
            }
            first = first.or_else(|| Some(files::name(path)));
        }
        Self::of(reading, first)
    }

    /// Reads a text of one or many YAML documents.
    ///
    /// # Errors
    /// Not YAML; more of it than the [limits](super#mistakes) allow; the same key twice in a
    /// mapping; no document; a Service with a field of the wrong type or without a name; the same object twice.
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
        let mut reading = Reading::default();
        reading.text(text, &Origin::new(file.clone()));
        Self::of(reading, file)
    }

    fn of(reading: Reading, file: Option<Arc<str>>) -> Result<Self, Error> {
        let (objects, diagnostics) = reading.finish(file)?;
        Ok(Self {
            objects,
            diagnostics,
            ..Self::default()
        })
    }

    /// Whether to decide as the mesh does. Default: [`Fidelity::Extended`].
    ///
    /// It goes into every policy, and decides about what is not valid: it makes [`resolve`](Self::resolve) fail, or with
    /// [`Fidelity::Mesh`] annotations lose their whole family and routes are left out.
    #[must_use]
    pub fn fidelity(mut self, fidelity: Fidelity) -> Self {
        self.options.fidelity = fidelity;
        self
    }

    /// The namespace of the client that policies are for. Default: the target's own.
    ///
    /// A route in another namespace than its Service's (a *consumer* route) is for the clients of that namespace only. So
    /// are a ServiceProfile and an EgressNetwork.
    #[must_use]
    pub fn client_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.options.client = Some(namespace.into());
        self
    }

    /// Whether a request's `l5d-*` headers may override timeouts and retries of its route: the flag
    /// `--allow-l5d-request-headers` of the mesh's policy controller. Default: no.
    #[must_use]
    pub fn allow_l5d_request_headers(mut self, allow: bool) -> Self {
        self.options.allow_l5d_request_headers = allow;
        self
    }

    /// Takes warnings for errors: their severity in [`diagnostics`](Self::diagnostics) is raised, and what they are about
    /// does not resolve. For use in CI. Default: no.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.strict = true;
        for diagnostic in &mut self.diagnostics {
            if diagnostic.severity == Severity::Warning {
                diagnostic.severity = Severity::Error;
            }
        }
        self
    }

    /// The policy for `name.namespace:port`, as for instance `payments.shop:8080`.
    ///
    /// `.svc` and `.svc.cluster.local` may follow the namespace. The port may be left out where the Service has one only.
    /// An address with a port (`203.0.113.7:443`) is looked up as by [`resolve_address`](Self::resolve_address).
    ///
    /// # Errors
    /// By [`Error::kind`]: not a target; no such Service, or no such port; a port that the mesh does not take for HTTP by
    /// its `appProtocol`, its opaque ports or its routes; `type: ExternalName`; the first annotation or route whose value
    /// is not valid. With [`Fidelity::Mesh`], a Service or port that is not there has the mesh's default policy, as it has
    /// there; [`explain`](Self::explain) says so, and [`strict`](Self::strict) refuses it.
    pub fn resolve(&self, target: &str) -> Result<ClientPolicy, Error> {
        match target.parse::<SocketAddr>() {
            Ok(address) => self.resolve_address(address),
            Err(_) => self.resolve_target(&target.parse()?),
        }
    }

    /// The same for a target that has been read already.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn resolve_target(&self, target: &Target) -> Result<ClientPolicy, Error> {
        let objects = &self.objects;
        if let Err(error) = self.is_there(target)
            && (self.strict || self.options.fidelity != Fidelity::Mesh)
        {
            return Err(error);
        }
        let policy = match objects.service(target.namespace(), target.name()) {
            Some(service) => resolve::policy(objects, service, target, &self.options)?,
            None => resolve::unknown(objects, target, &self.options)?,
        };
        self.nothing_said(policy)
    }

    /// # Errors
    /// The target names no Service of these manifests, or no port of it.
    fn is_there(&self, target: &Target) -> Result<(), Error> {
        let objects = &self.objects;
        let Some(service) = objects.service(target.namespace(), target.name()) else {
            let known = objects.services.values();
            let known: Vec<_> = known
                .map(|s| format!("{}.{}", s.name, s.namespace))
                .collect();
            return Err(resolve::not_found(target, &known, &objects.others));
        };
        match service.external_name {
            // Says more than that there is no port.
            Some(_) => Ok(()),
            None => resolve::port(service, target).map(drop),
        }
    }

    /// What is to be said of a target that the mesh has a policy for although it is not there.
    pub(super) fn said_of(&self, target: &str) -> Option<Error> {
        if target.parse::<SocketAddr>().is_ok() {
            return None;
        }
        let error = self.is_there(&target.parse().ok()?).err()?;
        Some(error.mesh("has a default policy for every name and port that it is asked for, and finds no endpoints"))
    }

    /// The policy for an address outside the cluster, by the EgressNetworks of the client's namespace or else of
    /// `linkerd-egress`; for a Service's `clusterIP` that Service's. Where nobody wrote a policy it forwards to the address.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve); and an address in the cluster's own networks that is no Service's.
    pub fn resolve_address(&self, address: SocketAddr) -> Result<ClientPolicy, Error> {
        let policy = resolve::address(&self.objects, address, &self.options)?;
        self.nothing_said(policy)
    }

    // In strict mode, what is said of anything that a policy is made of is an error.
    fn nothing_said(&self, policy: ClientPolicy) -> Result<ClientPolicy, Error> {
        let Meta::Resource(parent) = &*policy.parent else {
            return Ok(policy);
        };
        if !self.strict {
            return Ok(policy);
        }
        let kind = match parent.kind() {
            "EgressNetwork" => ParentKind::EgressNetwork,
            _ => ParentKind::Service,
        };
        let about = self.objects.about(kind, parent.namespace(), parent.name());
        let of = |diagnostic: &&Diagnostic| {
            let resource = diagnostic.resource.as_deref();
            diagnostic.severity == Severity::Error
                && resource.is_some_and(|resource| about.contains(&resource))
        };
        match self.diagnostics.iter().find(of) {
            Some(first) => Err(Error::new(ErrorKind::Strict, first.clone())),
            None => Ok(policy),
        }
    }

    /// Every port of every Service, by namespace and name. Not all of them need resolve.
    pub fn targets(&self) -> impl Iterator<Item = Target> + '_ {
        self.objects.services.values().flat_map(|service| {
            let ports = service.ports.iter();
            ports.map(|port| Target::new(&service.namespace, &service.name, Some(port.number)))
        })
    }

    /// What the author of the manifests should know, in the order they were read; what is about several objects comes last.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }
}
