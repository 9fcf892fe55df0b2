use http::header::HOST;
use http::{HeaderMap, Uri};

use super::places::{Class, Fnv, Key};
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

/// Where routes for this host stand in an index.
pub(super) fn key(wanted: &MatchHost) -> Key {
    match wanted {
        MatchHost::Exact(name) => exact_key(name),
        MatchHost::Suffix { reverse_labels } => {
            let hash = reverse_labels
                .iter()
                .fold(Fnv::NEW, |hash, label| with_label(hash, label));
            below_key(hash)
        }
    }
}

/// Where routes for this name stand, the most specific first but for a dot at the end.
pub(super) fn keys(name: &str, suffixes: bool, visit: &mut dyn FnMut(Key)) {
    let short = unless(false, name);
    let names = [
        Some(name),
        Some(short).filter(|short| short.len() < name.len()),
    ];
    for name in names.into_iter().flatten() {
        visit(exact_key(name));
    }
    if !suffixes {
        return;
    }
    for name in names.into_iter().flatten() {
        let mut hash = Fnv::NEW;
        for label in name.rsplit('.') {
            visit(below_key(hash));
            hash = with_label(hash, label);
        }
    }
}

/// The same host, in the one form that all of its spellings have in common.
pub(super) fn lowercase(wanted: &MatchHost) -> MatchHost {
    match wanted {
        MatchHost::Exact(name) => MatchHost::Exact(name.to_ascii_lowercase()),
        MatchHost::Suffix { reverse_labels } => MatchHost::Suffix {
            reverse_labels: reverse_labels
                .iter()
                .map(|label| label.to_ascii_lowercase())
                .collect(),
        },
    }
}

fn exact_key(name: &str) -> Key {
    let hash = Fnv::NEW.bytes(name.bytes().map(|byte| byte.to_ascii_lowercase()));
    Key {
        hash: hash.hash(),
        ..Key::of(Class::Host)
    }
}

fn below_key(hash: Fnv) -> Key {
    Key {
        hash: hash.hash(),
        ..Key::of(Class::Below)
    }
}

fn with_label(hash: Fnv, label: &str) -> Fnv {
    hash.bytes(label.bytes().map(|byte| byte.to_ascii_lowercase()))
        .byte(b'.')
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
