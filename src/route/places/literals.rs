use regex_syntax::hir::literal::{ExtractKind, Extractor, Seq};

use super::key::{Class, Fnv, Key};
use crate::policy::Pattern;

/// More literals than this are not worth a place each.
const MOST: usize = 32;

/// The places where a pattern for paths can stand: under all the literals that it can begin with, or under all that it can end
/// with, or among those that are tried one by one.
pub fn places(pattern: &Pattern) -> Vec<Vec<Key>> {
    let mut places = Vec::new();
    // What does not parse alone (a comment at the end, say) has no literals that are known.
    if let Ok(hir) = regex_syntax::parse(pattern.as_str()) {
        for (kind, class) in [
            (ExtractKind::Prefix, Class::Begins),
            (ExtractKind::Suffix, Class::Ends),
        ] {
            let seq = Extractor::new().kind(kind.clone()).extract(&hir);
            places.extend(keys(&seq, class));
        }
    }
    places.push(vec![Key::of(Class::Pattern)]);
    places
}

fn keys(seq: &Seq, class: Class) -> Option<Vec<Key>> {
    let literals = seq.literals()?;
    // None at all is a pattern that matches nothing; an empty one says nothing.
    if literals.is_empty() || literals.len() > MOST || literals.iter().any(|one| one.is_empty()) {
        return None;
    }
    let mut keys: Vec<Key> = Vec::new();
    for literal in literals {
        let bytes = literal.as_bytes().iter().copied();
        let hash = match class {
            Class::Ends => Fnv::NEW.bytes(bytes.rev()),
            _ => Fnv::NEW.bytes(bytes),
        };
        let key = Key {
            class,
            length: literal.len(),
            hash: hash.hash(),
        };
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    Some(keys)
}
