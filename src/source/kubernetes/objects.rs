use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;

use super::document::Object;
use super::egress::EgressNetwork;
use super::error::{Error, ErrorKind};
use super::links::Links;
use super::place::{Mark, Origin};
use super::profile::Profile;
use super::route::{Group, Kind, ParentKind, Route};
use super::service::Service;
use super::traffic::TrafficPolicy;

/// Everything that was read and makes policy.
#[derive(Clone, Debug, Default)]
pub(super) struct Objects {
    /// By namespace and name.
    pub(super) services: BTreeMap<(String, String), Service>,
    pub(super) egress: BTreeMap<(String, String), EgressNetwork>,
    /// In the mesh's order, once they are linked.
    pub(super) routes: Vec<Route>,
    /// By their own namespace, then by the Service's namespace and name.
    pub(super) profiles: BTreeMap<(String, String, String), Profile>,
    pub(super) traffic: BTreeMap<(String, String), TrafficPolicy>,
    /// The kinds of what was left out, each once.
    pub(super) others: BTreeSet<String>,
    pub(super) links: Links,
    seen: BTreeMap<(Kind, &'static str, String, String), (Origin, Mark)>,
}

// === impl Objects ===

impl Objects {
    /// # Errors
    /// The same object twice.
    pub(super) fn add(&mut self, object: Object) -> Result<(), Error> {
        match object {
            Object::Service(service) => {
                let key = (service.namespace.clone(), service.name.clone());
                once(&mut self.services, key, *service, |it| (&it.origin, it.at))
            }
            Object::Egress(egress) => {
                let key = (egress.namespace.clone(), egress.name.clone());
                once(&mut self.egress, key, *egress, |it| (&it.origin, it.at))
            }
            Object::Profile(profile) => {
                let (namespace, name) = (profile.target.namespace(), profile.target.name());
                let key = (
                    profile.namespace.clone(),
                    namespace.to_owned(),
                    name.to_owned(),
                );
                once(&mut self.profiles, key, *profile, |it| (&it.origin, it.at))
            }
            Object::Traffic(policy) => {
                let key = (policy.namespace.clone(), policy.name.clone());
                once(&mut self.traffic, key, *policy, |it| (&it.origin, it.at))
            }
            Object::Route(route) => {
                let group: Group = route.group;
                let key = (
                    route.kind,
                    group.name(),
                    route.namespace.clone(),
                    route.name.clone(),
                );
                let place = (route.origin.clone(), route.at);
                once(&mut self.seen, key, place, |(origin, at)| (origin, *at))?;
                self.routes.push(*route);
                Ok(())
            }
            Object::Ignored(kind) => {
                self.others.insert(kind);
                Ok(())
            }
        }
    }

    pub(super) fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        // Owned, for a borrowed pair is no key of a map of owned ones.
        self.services.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// The ports of a Service, by number; none where it is not there.
    pub(super) fn ports_of(&self, namespace: &str, name: &str) -> BTreeSet<NonZeroU16> {
        let ports = self.service(namespace, name).into_iter();
        let ports = ports.flat_map(|service| &service.ports);
        ports.map(|port| port.number).collect()
    }

    /// The names of everything that the policy of a Service or an EgressNetwork is made of.
    pub(super) fn about(&self, kind: ParentKind, namespace: &str, name: &str) -> Vec<&str> {
        let key = (namespace.to_owned(), name.to_owned());
        let itself = match kind {
            ParentKind::Service => self.services.get(&key).map(|service| &service.origin),
            ParentKind::EgressNetwork => self.egress.get(&key).map(|egress| &egress.origin),
        };
        let attached = self.links.of(kind, namespace, name);
        let routes = attached
            .iter()
            .filter_map(|attached| self.routes.get(attached.route));
        let of_service = kind == ParentKind::Service;
        let profiles = self.profiles.values().filter(|profile| {
            let target = &profile.target;
            of_service && target.namespace() == namespace && target.name() == name
        });
        let traffic = self.traffic(namespace, name).filter(|_| of_service);
        itself
            .into_iter()
            .chain(routes.map(|route| &route.origin))
            .chain(profiles.map(|profile| &profile.origin))
            .chain(traffic.map(|policy| &policy.origin))
            .filter_map(|origin| origin.resource.as_deref())
            .collect()
    }

    /// The profile that a client in `client` has of a Service: of its own namespace, else of the Service's.
    pub(super) fn profile(&self, service: &Service, client: &str) -> Option<&Profile> {
        [client, &service.namespace]
            .into_iter()
            .find_map(|namespace| {
                let key = (
                    namespace.to_owned(),
                    service.namespace.clone(),
                    service.name.clone(),
                );
                self.profiles.get(&key)
            })
    }

    /// The budget policy of a Service: of several the oldest, then the first by name.
    pub(super) fn traffic(&self, namespace: &str, name: &str) -> Option<&TrafficPolicy> {
        let all = self
            .traffic
            .range((namespace.to_owned(), String::new())..)
            .take_while(|((found, _), _)| found == namespace)
            .map(|(_, policy)| policy);
        let named = all.filter(|policy| policy.services.iter().any(|(service, _)| service == name));
        named.reduce(|one, two| if two.before(one) { two } else { one })
    }
}

fn once<K: Ord, T>(
    map: &mut BTreeMap<K, T>,
    key: K,
    it: T,
    place: impl Fn(&T) -> (&Origin, Mark),
) -> Result<(), Error> {
    match map.entry(key) {
        Entry::Vacant(free) => {
            free.insert(it);
            Ok(())
        }
        Entry::Occupied(first) => {
            let ((origin, at), (first, first_at)) = (place(&it), place(first.get()));
            Err(twice(origin, at, first, first_at))
        }
    }
}

fn twice(origin: &Origin, at: Mark, first: &Origin, first_at: Mark) -> Error {
    let line = first_at.line;
    let message = match &first.file {
        Some(file) => format!("defined twice; first in {file}:{line}"),
        None => format!("defined twice; first in line {line}"),
    };
    Error::found(ErrorKind::Duplicate, origin, "metadata.name", at, message)
        .remedy("keep one of them; overlays are not merged here (kubectl kustomize does)")
}
