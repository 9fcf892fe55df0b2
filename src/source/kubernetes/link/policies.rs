use super::backends::missing;
use crate::policy::Timeouts;
use crate::source::kubernetes::diagnostic::{Diagnostic, Severity};
use crate::source::kubernetes::objects::Objects;
use crate::source::kubernetes::route::ParentKind;

/// What a profile takes the place of.
pub(super) fn profiles(objects: &Objects, diagnostics: &mut Vec<Diagnostic>) {
    for profile in objects.profiles.values() {
        let (namespace, name) = (profile.target.namespace(), profile.target.name());
        let say = |message: String| {
            Diagnostic::new(Severity::Warning, &profile.origin, message)
                .key("metadata.name")
                .at(profile.at)
        };
        let Some(service) = objects.service(namespace, name) else {
            let remedy = missing(objects, namespace, name);
            diagnostics.push(say(format!("found no Service {namespace}/{name}")).remedy(remedy));
            continue;
        };
        if !profile.counts() {
            if profile.errors.is_empty() {
                diagnostics.push(
                    say("has neither routes nor dstOverrides".to_owned())
                        .mesh("ignores it, its retry budget included"),
                );
            }
            continue;
        }
        for over in &profile.overrides {
            let (namespace, name) = (over.target.namespace(), over.target.name());
            if objects.service(namespace, name).is_none() {
                let message = format!(
                    "found no Service {namespace}/{name}, expected the one that takes its share"
                );
                diagnostics.push(
                    Diagnostic::new(Severity::Warning, &profile.origin, message)
                        .key(format!("{}.authority", over.path))
                        .at(over.at)
                        .mesh("looks for its endpoints, and finds none")
                        .remedy(missing(objects, namespace, name)),
                );
            }
        }
        let settings = &service.settings;
        let mut lost = Vec::new();
        if !objects
            .links
            .of(ParentKind::Service, namespace, name)
            .is_empty()
        {
            lost.push("its routes");
        }
        if settings.accrual.is_some() {
            lost.push("its breaker");
        }
        if settings.retry.is_some() {
            lost.push("its retry annotations");
        }
        if settings.timeouts != Timeouts::default() {
            lost.push("its timeout annotations");
        }
        if !lost.is_empty() {
            diagnostics.push(
                say(format!(
                    "takes the place of everything else about Service {namespace}/{name}: {} have no effect",
                    lost.join(", ")
                ))
                .mesh("follows the profile alone")
                .remedy("take the profile away, and write HTTPRoutes"),
            );
        }
    }
}

/// What budget policies are about, and which of several counts.
pub(super) fn traffic(objects: &Objects, diagnostics: &mut Vec<Diagnostic>) {
    for policy in objects.traffic.values() {
        for (name, at) in &policy.services {
            let say = |message: String| {
                Diagnostic::new(Severity::Warning, &policy.origin, message)
                    .key("spec.targetRefs")
                    .at(*at)
            };
            if objects.service(&policy.namespace, name).is_none() {
                let remedy = missing(objects, &policy.namespace, name);
                let message = format!("found no Service {}/{name}", policy.namespace);
                diagnostics.push(say(message).remedy(remedy));
                continue;
            }
            let counts = objects.traffic(&policy.namespace, name);
            if let Some(counts) = counts.filter(|counts| counts.name != policy.name) {
                diagnostics.push(say(format!(
                    "XBackendTrafficPolicy {}/{} is older, or comes first by its name, and counts for {name}",
                    counts.namespace, counts.name
                )));
            }
        }
    }
}
