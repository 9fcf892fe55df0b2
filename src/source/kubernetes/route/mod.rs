//! Routes of every kind, read. What they come to for one target is [`resolve`](super::resolve)'s.

mod backend;
mod connection;
mod filter;
mod grpc;
mod http;
mod matches;
mod parent;

use std::cmp::Ordering;

pub(super) use self::backend::{Backend, BackendKind};
pub(super) use self::http::Rule;
pub(super) use self::parent::{Parent, ParentKind};
use super::annotations::RouteSettings;
use super::diagnostic::{Diagnostic, Severity};
use super::error::Error;
use super::field::Field;
pub(super) use super::kind::{Group, Kind};
use super::metadata::Metadata;
use super::place::{Mark, Origin};
use crate::policy::MatchHost;

/// A route, with its defaults filled in as the API server does.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) origin: Origin,
    pub(super) at: Mark,
    pub(super) kind: Kind,
    pub(super) group: Group,
    pub(super) namespace: String,
    pub(super) name: String,
    created: Option<String>,
    pub(super) parents: Vec<Parent>,
    pub(super) hosts: Vec<MatchHost>,
    pub(super) rules: Vec<Rule>,
    pub(super) settings: RouteSettings,
    /// Why the mesh does not apply it at all, in the order of the text.
    pub(super) errors: Vec<Error>,
}

// === impl Route ===

impl Route {
    /// What is wrong with a rule, a filter or an annotation is kept in the route, which then is not applied.
    ///
    /// # Errors
    /// No name, or parents that cannot be read.
    pub(super) fn read(
        document: &Field<'_>,
        kind: Kind,
        group: Group,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Result<Self, Error> {
        let metadata = Metadata::read(document, kind.name())?;
        let origin = metadata.origin;
        let document = document.within(&origin);
        let spec = document.get("spec")?;
        let mut errors = Vec::new();
        let before = diagnostics.len();
        let parents = match &spec {
            Some(spec) => parent::read(spec, group, &metadata.namespace, diagnostics)?,
            None => Vec::new(),
        };
        let settings = RouteSettings::read(
            &metadata.annotations,
            kind,
            &origin,
            diagnostics,
            &mut errors,
        );
        let mut hosts = Vec::new();
        let mut rules = Vec::new();
        if let Some(spec) = &spec {
            if kind != Kind::Tcp {
                hosts = keep(hostnames(spec), &mut errors);
            }
            match kind {
                Kind::Http => {
                    spec.known(
                        &["parentRefs", "hostnames", "rules", "useDefaultGateways"],
                        diagnostics,
                    );
                    rules = http::rules(spec, group, &mut errors, diagnostics);
                }
                Kind::Grpc => {
                    spec.known(
                        &["parentRefs", "hostnames", "rules", "useDefaultGateways"],
                        diagnostics,
                    );
                    rules = grpc::rules(spec, &mut errors, diagnostics);
                }
                Kind::Tls | Kind::Tcp => {
                    rules = connection::rules(spec, kind, &mut errors, diagnostics);
                }
            }
        }
        errors.sort_by_key(|error| (error.line(), error.column()));
        diagnostics.extend(errors.iter().map(|error| error.diagnostic().clone()));
        if let Some(said) = diagnostics.get_mut(before..) {
            said.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        }
        Ok(Self {
            at: metadata.at,
            kind,
            group,
            namespace: metadata.namespace,
            name: metadata.name,
            created: metadata.created,
            parents,
            hosts,
            rules,
            settings,
            errors,
            origin,
        })
    }

    /// The mesh's order: the older first, those without a time last, then by name.
    pub(super) fn precedence(&self, other: &Self) -> Ordering {
        let age = match (&self.created, &other.created) {
            (Some(one), Some(two)) => one.cmp(two),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        };
        age.then_with(|| self.name.cmp(&other.name))
    }

    /// As in messages: `HTTPRoute shop/web`.
    pub(super) fn describe(&self) -> &str {
        self.origin.resource.as_deref().unwrap_or_default()
    }
}

fn hostnames(spec: &Field<'_>) -> Result<Vec<MatchHost>, Error> {
    let Some(list) = spec.get("hostnames")? else {
        return Ok(Vec::new());
    };
    list.list()?
        .into_iter()
        .map(|host| {
            let parsed = MatchHost::parse(host.string()?);
            parsed.map_err(|invalid| host.invalid(&invalid))
        })
        .collect()
}

/// The value; or the error, kept with the others, and the default.
fn keep<T: Default>(read: Result<T, Error>, errors: &mut Vec<Error>) -> T {
    read.unwrap_or_else(|error| {
        errors.push(error.or_mesh("leaves the whole route out"));
        T::default()
    })
}

fn note(field: &Field<'_>, severity: Severity, message: impl Into<String>) -> Diagnostic {
    Diagnostic::new(severity, field.origin, message)
        .key(&field.path)
        .at(field.at())
}
