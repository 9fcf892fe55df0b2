use http::header::HOST;
use http::{HeaderMap, Uri};

use crate::policy::MatchHost;

/// How specific a host match is: any exact name beats any suffix, then length counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum HostRank {
    Suffix(usize),
    Exact(usize),
}

/// The host that a request is for, without port: its URI's, or its `Host` header's if the URI has no authority.
pub(super) fn of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    match uri.authority() {
        Some(authority) => Some(authority.host()),
        None => without_port(header(headers)?),
    }
    .filter(|host| !host.is_empty())
}

/// The `Host` header, if it is text without a user.
pub(super) fn header(headers: &HeaderMap) -> Option<&str> {
    let host = headers.get(HOST)?.to_str().ok()?;
    (!host.contains('@')).then_some(host)
}

/// How well this host fits, if it does.
pub(super) fn rank(wanted: &MatchHost, name: &str) -> Option<HostRank> {
    match wanted {
        MatchHost::Exact(wanted) => {
            let name = unless(wanted.ends_with('.'), name);
            wanted
                .eq_ignore_ascii_case(name)
                .then_some(HostRank::Exact(wanted.len()))
        }
        MatchHost::Suffix { reverse_labels } => {
            let dotted = reverse_labels.first().is_some_and(String::is_empty);
            let mut labels = unless(dotted, name).rsplit('.');
            let mut length = 0;
            for wanted in reverse_labels {
                if !labels.next()?.eq_ignore_ascii_case(wanted) {
                    return None;
                }
                length += wanted.len() + 1;
            }
            // The star stands for one label at least.
            labels
                .next()
                .is_some_and(|label| !label.is_empty())
                .then_some(HostRank::Suffix(length))
        }
    }
}

/// The trailing dot of a fully qualified name says nothing, unless the pattern has one too.
fn unless(dotted: bool, name: &str) -> &str {
    if dotted {
        name
    } else {
        name.strip_suffix('.').unwrap_or(name)
    }
}

/// By hand, since parsing an `Authority` would copy it for every request.
fn without_port(authority: &str) -> Option<&str> {
    if authority.starts_with('[') {
        return authority.get(..=authority.find(']')?);
    }
    authority.split(':').next()
}
