//! Routes of every kind, read. What they come to for one target is [`resolve`](super::resolve)'s.

mod backend;
mod connection;
mod filter;
mod grpc;
mod http;
pub(super) mod looks;
mod matches;
mod parent;

use std::cmp::Ordering;
use std::sync::Arc;

pub(super) use self::backend::{Backend, BackendKind};
pub(super) use self::http::Rule;
pub(super) use self::parent::{Parent, ParentKind};
use super::annotations::RouteSettings;
use super::diagnostic::{Diagnostic, Severity};
use super::error::Error;
use super::field::Field;
pub(super) use super::kind::{Group, Kind};
use super::metadata::Metadata;
use super::names::{self, Form};
use super::place::{Mark, Origin};
use super::said::Said;
use crate::policy::{InvalidPolicy, MatchHost, Meta, Resource};

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
    /// No mapping as metadata. A name or parents that cannot be read are said.
    pub(super) fn read(
        document: &Field<'_>,
        kind: Kind,
        group: Group,
        said: &mut Said,
    ) -> Result<Self, Error> {
        let metadata = Metadata::read(document, kind.name(), said)?;
        let origin = metadata.origin;
        let spec = said.get(&document.within(&origin), "spec");
        let mut parents = Vec::new();
        let mut elsewhere = false;
        let mut hosts = Vec::new();
        let mut rules = Vec::new();
        let mut mine = Said::default();
        let settings = RouteSettings::read(&metadata.annotations, kind, &origin, &mut mine);
        if let Some(spec) = &spec {
            let known = ["parentRefs", "hostnames", "rules", "useDefaultGateways"];
            mine.known(spec, &known);
            // Who cannot be read cannot be told which Service the rest is about: these are errors of the manifest.
            let mut of = Said::default();
            parents = parent::read(spec, group, &metadata.namespace, &mut of);
            elsewhere = parents.is_empty() && of.diagnostics.is_empty() && of.errors.is_empty();
            mine.diagnostics.append(&mut of.diagnostics);
            said.errors.append(&mut of.errors);
            if kind != Kind::Tcp {
                hosts = hostnames(spec, &mut mine);
            }
            rules = match kind {
                Kind::Http => http::rules(spec, group, &mut mine),
                Kind::Grpc => grpc::rules(spec, &mut mine),
                Kind::Tls | Kind::Tcp => connection::rules(spec, kind, &mut mine),
            };
        }
        // A Gateway's route, or one of the inbound policy: what it says is for others, who do more than the mesh.
        if elsewhere {
            mine = Said::default();
        } else if rules.is_empty()
            && let Some(spec) = &spec
            && mine.errors.is_empty()
        {
            mine.push(
                note(
                    spec,
                    Severity::Warning,
                    "no rules: no request meets the route",
                )
                .key(spec.child("rules"))
                .remedy(match kind {
                    Kind::Http => "take the empty list away for one that every request meets",
                    _ => "write a rule",
                }),
            );
        }
        let refused = mine.errors.into_iter();
        let refused = refused.map(|error| error.or_mesh("leaves the whole route out"));
        mine.errors = refused.collect();
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
            errors: said.add(mine),
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

    /// Where what it decides comes from.
    ///
    /// # Errors
    /// A name that is none.
    pub(super) fn meta(&self) -> Result<Arc<Meta>, InvalidPolicy> {
        let (group, kind) = (self.group.name(), self.kind.name());
        let resource = Resource::new(group, kind, &self.namespace, &self.name)?;
        Ok(Arc::new(Meta::Resource(resource)))
    }

    /// A warning about it.
    pub(super) fn warning(
        &self,
        key: impl Into<String>,
        at: Mark,
        message: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic::new(Severity::Warning, &self.origin, message)
            .key(key)
            .at(at)
    }

    /// As in messages: `HTTPRoute shop/web`.
    pub(super) fn describe(&self) -> &str {
        self.origin.resource.as_deref().unwrap_or_default()
    }
}

fn hostnames(spec: &Field<'_>, said: &mut Said) -> Vec<MatchHost> {
    let list = said.list(spec, "hostnames");
    let hosts = list.iter().filter_map(|host| {
        let text = said.keep(host.string())?;
        let name = text.strip_prefix("*.").unwrap_or(text);
        let lower = name.to_ascii_lowercase();
        if name != lower && Form::Subdomain.has(&lower) {
            let error = host.expected("a name in lower case").mesh(names::REFUSED);
            said.wrong(error.remedy(format!("write {}", text.to_ascii_lowercase())));
        }
        let parsed = MatchHost::parse(text);
        said.keep(parsed.map_err(|invalid| host.invalid(&invalid)))
    });
    hosts.collect()
}

fn note(field: &Field<'_>, severity: Severity, message: impl Into<String>) -> Diagnostic {
    Diagnostic::new(severity, field.origin, message)
        .key(&field.path)
        .at(field.at())
}
