use std::collections::BTreeSet;

use super::key::{Class, Fnv, Key};

/// Which kinds of places there are, so that a request asks for no others.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    anywhere: bool,
    exact: bool,
    pattern: bool,
    rpc: bool,
    service: bool,
    method: bool,
    // The longest.
    prefix: usize,
    // The lengths that there are.
    begins: Vec<usize>,
    ends: Vec<usize>,
}

// === impl Shape ===

impl Shape {
    pub fn new<'a>(keys: impl Iterator<Item = &'a Key>) -> Self {
        let mut shape = Self::default();
        let mut begins = BTreeSet::new();
        let mut ends = BTreeSet::new();
        for key in keys {
            match key.class {
                // These are no paths.
                Class::Host | Class::Below => {}
                Class::Anywhere => shape.anywhere = true,
                Class::Exact => shape.exact = true,
                Class::Pattern => shape.pattern = true,
                Class::Rpc => shape.rpc = true,
                Class::Service => shape.service = true,
                Class::Method => shape.method = true,
                Class::Prefix => shape.prefix = shape.prefix.max(key.length),
                Class::Begins => {
                    begins.insert(key.length);
                }
                Class::Ends => {
                    ends.insert(key.length);
                }
            }
        }
        shape.begins = begins.into_iter().collect();
        shape.ends = ends.into_iter().collect();
        shape
    }

    /// The places of a path.
    pub fn path(&self, path: &str, visit: &mut dyn FnMut(Key)) {
        if self.anywhere {
            visit(Key::of(Class::Anywhere));
        }
        if self.pattern {
            visit(Key::of(Class::Pattern));
        }
        let longest = self.begins.last().copied().unwrap_or(0).max(self.prefix);
        if self.exact || longest > 0 {
            let key = |class, length, hash: Fnv| Key {
                class,
                length,
                hash: hash.hash(),
            };
            let mut hash = Fnv::NEW;
            let mut begins = self.begins.iter().peekable();
            let mut at = 0;
            let mut bytes = path.bytes();
            loop {
                let next = bytes.next();
                if begins.next_if_eq(&&at).is_some() {
                    visit(key(Class::Begins, at, hash));
                }
                if (1..=self.prefix).contains(&at) && matches!(next, None | Some(b'/')) {
                    visit(key(Class::Prefix, at, hash));
                }
                let Some(byte) = next.filter(|_| self.exact || at < longest) else {
                    break;
                };
                hash = hash.byte(byte);
                at += 1;
            }
            if self.exact {
                visit(key(Class::Exact, path.len(), hash));
            }
        }
        let mut hash = Fnv::NEW;
        let mut hashed = 0;
        for length in self.ends.iter().copied() {
            if length > path.len() {
                break;
            }
            hash = hash.bytes(path.bytes().rev().skip(hashed).take(length - hashed));
            hashed = length;
            visit(Key {
                class: Class::Ends,
                length,
                hash: hash.hash(),
            });
        }
    }

    /// The places of a gRPC call.
    pub fn rpc(&self, service: &str, method: &str, visit: &mut dyn FnMut(Key)) {
        for (there, service, method) in [
            (self.anywhere, None, None),
            (self.method, None, Some(method)),
            (self.service, Some(service), None),
            (self.rpc, Some(service), Some(method)),
        ] {
            if there {
                visit(rpc_key(service, method));
            }
        }
    }

    /// The place of what asks for nothing at all.
    pub fn whatever(&self, visit: &mut dyn FnMut(Key)) {
        if self.anywhere {
            visit(Key::of(Class::Anywhere));
        }
    }
}

/// The place of a gRPC match.
pub fn rpc_key(service: Option<&str>, method: Option<&str>) -> Key {
    let class = match (service, method) {
        (None, None) => return Key::of(Class::Anywhere),
        (Some(_), None) => Class::Service,
        (None, Some(_)) => Class::Method,
        (Some(_), Some(_)) => Class::Rpc,
    };
    let (service, method) = (service.unwrap_or_default(), method.unwrap_or_default());
    let hash = Fnv::NEW.bytes(service.bytes()).byte(b'/');
    Key {
        class,
        length: service.len(),
        hash: hash.bytes(method.bytes()).hash(),
    }
}
