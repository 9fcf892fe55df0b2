use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Severity};
use super::error::{Error, ErrorKind};
use super::objects::Objects;
use super::place::Origin;
use super::resolve::Options;
use super::route::ParentKind;
use super::said::Said;
use super::target::Target;
use super::yaml::{Cause, Node, Refused};
use super::{document, files, grammar, link, resolve, yaml};
use crate::policy::{ClientPolicy, Fidelity, Meta};

/// Manifests that have been read, from which policies are made. See the [module](super).
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    objects: Objects,
    pub(super) diagnostics: Vec<Diagnostic>,
    pub(super) options: Options,
    pub(super) strict: bool,
}

/// Manifests as they are read, file by file.
#[derive(Default)]
struct Reading {
    objects: Objects,
    said: Said,
    /// Whether something could not be read at all.
    missing: bool,
    documents: usize,
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
        reading.finish(first)
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
        reading.finish(file)
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

// === impl Reading ===

impl Reading {
    fn files(&mut self, path: &Path) -> Vec<PathBuf> {
        let list = files::list(path, &mut self.said.diagnostics);
        let missing = list.is_err();
        self.missing |= missing;
        self.said.keep(list).unwrap_or_default()
    }

    fn file(&mut self, path: &Path) {
        let origin = Origin::new(Some(files::name(path)));
        let text = files::text(path);
        self.missing |= text.is_err();
        let Some(text) = self.said.keep(text) else {
            return;
        };
        let before = (self.documents, self.said.errors.len());
        self.text(&text, &origin);
        if before == (self.documents, self.said.errors.len()) {
            self.said
                .push(Diagnostic::new(Severity::Note, &origin, "has no documents"));
        }
    }

    fn text(&mut self, text: &str, origin: &Origin) {
        let before = self.said.errors.len();
        let (documents, refused) = yaml::all(text);
        self.documents += documents.len();
        for document in documents {
            self.document(&document, origin);
        }
        for refused in refused {
            self.missing |= !matches!(refused.cause, Cause::DuplicateKey(_));
            self.said.wrong(refusal(text, origin, refused));
        }
        if let Some(of_it) = self.said.errors.get_mut(before..) {
            of_it.sort_by_key(|error| (error.line(), error.column()));
        }
    }

    fn document(&mut self, document: &Node, origin: &Origin) {
        let mut objects = Vec::new();
        document::read(document, origin, &mut objects, &mut self.said);
        for object in objects {
            let added = self.objects.add(object);
            self.said.keep(added);
        }
    }

    /// Everything has been read.
    fn finish(self, file: Option<Arc<str>>) -> Result<Manifests, Error> {
        let Self {
            mut objects,
            said: Said {
                mut diagnostics,
                errors,
            },
            missing,
            documents,
        } = self;
        // Who is missing would be missed by others, and has been told.
        if !missing {
            link::link(&mut objects, &mut diagnostics);
        }
        if let Some(first) = errors.first() {
            let all = errors.iter().map(|error| error.diagnostic().clone());
            return Err(first.clone().among(all.chain(diagnostics).collect()));
        }
        if documents == 0 {
            let origin = Origin::new(file);
            let message = "found no documents, expected at least one Kubernetes object in YAML";
            let diagnostic = Diagnostic::new(Severity::Error, &origin, message);
            return Err(Error::new(ErrorKind::Empty, diagnostic));
        }
        Ok(Manifests {
            objects,
            diagnostics,
            ..Manifests::default()
        })
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
                error.remedy(grammar::RENDER)
            } else if message_is_about_tabs {
                error.remedy("indent with spaces")
            } else if message.contains("block mapping") || message.contains("block sequence") {
                error.remedy("look at the indent of this line, and of those above")
            } else {
                error
            }
        }
    }
}
