use crate::policy::{MatchPath, MatchRequest};
use crate::source::kubernetes::diagnostic::Diagnostic;
use crate::source::kubernetes::route::{Route, Rule};

/// Where the mesh's order of matches is not Gateway API's. Within one route; to compare all is the square of their number.
pub(super) fn order(route: &Route, diagnostics: &mut Vec<Diagnostic>) {
    const MOST: usize = 64;
    let rules = route.rules.iter().take(MOST);
    let all: Vec<(&Rule, &MatchRequest)> = rules
        .flat_map(|rule| rule.matches.iter().take(MOST).map(move |one| (rule, one)))
        .take(MOST)
        .collect();
    for (index, (earlier, one)) in all.iter().enumerate() {
        for (later, two) in all.iter().skip(index + 1) {
            if std::ptr::eq(*earlier, *later) {
                continue;
            }
            let at = later.at;
            let (path, method) = (one.path.as_ref(), two.method.as_ref());
            let bare = |one: &MatchRequest| one.headers.is_empty() && one.query_params.is_empty();
            if let (Some(MatchPath::Prefix(prefix)), Some(MatchPath::Exact(exact))) =
                (path, &two.path)
                && prefix == exact
                && bare(one)
                && bare(two)
                && one.method.is_none()
                && method.is_none()
            {
                let message = format!(
                    "never met: {} matches the prefix {prefix:?}, which is as good as the exact path, and comes first",
                    earlier.path
                );
                diagnostics.push(
                    route
                        .warning(&later.path, at, message)
                        .mesh(
                            "compares paths by their length, not by their kind as Gateway API says",
                        )
                        .remedy(format!("write it before {}", earlier.path)),
                );
            }
            let (by_method, by_others) = match (&one.method, &two.method) {
                (Some(_), None) if !bare(two) && bare(one) => (earlier, later),
                (None, Some(_)) if !bare(one) && bare(two) => (later, earlier),
                _ => continue,
            };
            if one.path == two.path {
                let message = format!(
                    "a request that fits both goes to {}, not to {}",
                    by_others.path, by_method.path
                );
                diagnostics.push(
                    route.warning(&by_method.path, by_method.at, message)
                        .mesh("counts headers and query parameters before the method, other than Gateway API says")
                        .remedy("name the method in both"),
                );
            }
        }
    }
}
