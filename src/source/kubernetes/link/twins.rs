use std::num::NonZeroU16;

use crate::policy::MatchRequest;
use crate::source::kubernetes::diagnostic::Diagnostic;
use crate::source::kubernetes::route::{Kind, Route, Rule};

/// Rules that are never met because others that come first match the same. Of `attached`, the routes of a Service in their
/// order, those of one namespace, one kind, one port and the same hostnames.
pub(super) fn twins(attached: &[(Option<NonZeroU16>, &Route)], diagnostics: &mut Vec<Diagnostic>) {
    // To compare all is the square of their number.
    const MOST: usize = 64;
    let rules = attached
        .iter()
        .filter(|(_, route)| matches!(route.kind, Kind::Http | Kind::Grpc))
        .flat_map(|(port, route)| route.rules.iter().map(move |rule| (*port, *route, rule)));
    let all: Vec<_> = rules.take(MOST).collect();
    for (index, (port, route, rule)) in all.iter().enumerate() {
        let before = || all.iter().take(index);
        // Attached twice, to one port each.
        if before().any(|(_, _, earlier)| std::ptr::eq(*earlier, *rule)) {
            continue;
        }
        let earlier = before().find(|(on, other, earlier)| {
            (on.is_none() || on == port)
                && other.kind == route.kind
                && other.namespace == route.namespace
                && other.hosts == route.hosts
                && covers(earlier, rule)
        });
        let Some((_, other, earlier)) = earlier else {
            continue;
        };
        let same = std::ptr::eq(*other, *route);
        let message = match same {
            true => format!(
                "never met: {} matches the same, and comes first",
                earlier.path
            ),
            false => format!(
                "never met: {} of {} matches the same, and that route comes first, being older or, of one age, first by name",
                earlier.path,
                other.describe()
            ),
        };
        let diagnostic = route.warning(&rule.path, rule.at, message);
        diagnostics.push(diagnostic.remedy("keep one of them, or match something else"));
    }
}

/// Whether whatever meets `rule` meets `earlier`, as far as their matches are the same. No match is every request.
fn covers(earlier: &Rule, rule: &Rule) -> bool {
    let every = [MatchRequest::default()];
    let (ones, others) = match (&*earlier.matches, &*rule.matches) {
        ([], []) => return true,
        ([], others) => (&every[..], others),
        (ones, []) => (ones, &every[..]),
        (ones, others) => (ones, others),
    };
    others.iter().all(|other| ones.contains(other))
}
