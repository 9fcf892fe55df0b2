use std::collections::HashMap;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use crate::route::places::{Table, Word, query_hash};
use crate::route::query;

/// What a request is asked about.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) uri: &'a Uri,
    pub(super) headers: &'a HeaderMap,
}

/// Matches of the same path, as far as precedence goes.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// So few that they are tried in turn.
    Few(Vec<usize>),
    /// Told apart by one more word of theirs.
    Many(Box<Many>),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Many {
    // Those that have no such word.
    rest: Vec<usize>,
    by: Table<u64, Vec<usize>>,
    // What a request is to look at.
    headers: Vec<HeaderName>,
    names: bool,
    query: bool,
    method: bool,
}

// === impl Place ===

impl Place {
    /// Of these, which are in the order of precedence; `words` says what each of them asks for besides. So few are
    /// tried in turn.
    pub(super) fn new<'a>(
        list: Vec<usize>,
        few: usize,
        words: impl Fn(usize) -> Vec<Word<'a>>,
    ) -> Self {
        if list.len() <= few {
            return Self::Few(list);
        }
        // How many share a word: the rarest tells most.
        let mut shared: HashMap<u64, usize> = HashMap::new();
        for &entry in &list {
            for word in words(entry) {
                *shared.entry(word.hash()).or_default() += 1;
            }
        }
        let mut many = Many::default();
        for entry in list {
            let words = words(entry);
            let rarest = words
                .iter()
                .min_by_key(|word| shared.get(&word.hash()).copied());
            let Some(word) = rarest else {
                many.rest.push(entry);
                continue;
            };
            match word {
                Word::Header(name, _) | Word::HeaderName(name) => {
                    many.names |= matches!(word, Word::HeaderName(_));
                    if !many.headers.contains(name) {
                        many.headers.push((*name).clone());
                    }
                }
                Word::Query(..) => many.query = true,
                Word::Method(_) => many.method = true,
            }
            many.by.entry(word.hash()).or_default().push(entry);
        }
        Self::Many(Box::new(many))
    }

    /// The lists of those that can be for this request.
    pub(super) fn lists(&self, asked: &Asked<'_>, visit: &mut dyn FnMut(&[usize])) {
        let many = match self {
            Self::Few(list) => return visit(list),
            Self::Many(many) => many,
        };
        let mut look = |word: u64| {
            if let Some(list) = many.by.get(&word) {
                visit(list);
            }
        };
        let mut header = |name: &HeaderName, value: &HeaderValue, first: bool| {
            look(Word::Header(name, value).hash());
            if many.names && first {
                look(Word::HeaderName(name).hash());
            }
        };
        // Whichever are fewer.
        if many.headers.len() <= asked.headers.keys_len() {
            for name in &many.headers {
                let values = asked.headers.get_all(name).iter();
                for (number, value) in values.enumerate() {
                    header(name, value, number == 0);
                }
            }
        } else {
            for (name, value) in asked.headers {
                header(name, value, true);
            }
        }
        if many.query {
            for (name, value) in query::params(asked.uri.query()) {
                look(query_hash(query::decoded(name), query::decoded(value)));
            }
        }
        if many.method {
            look(Word::Method(asked.method).hash());
        }
        visit(&many.rest);
    }
}
