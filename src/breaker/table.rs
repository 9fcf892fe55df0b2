use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::settings::Settings;
use super::shared::Shared;
use crate::core::draw::{Purpose, draw};

/// How many places are looked at for one that can be given away.
const LOOK: usize = 32;

/// Breakers by key, with the order in which they were used: a list through the places, newest first.
#[derive(Debug)]
pub(super) struct Table {
    settings: Settings,
    capacity: usize,
    by_key: BTreeMap<Arc<str>, usize>,
    places: Vec<Place>,
    // Of no meaning while there are no places.
    newest: usize,
    oldest: usize,
    made: u64,
    evicted: u64,
}

#[derive(Debug)]
struct Place {
    breaker: Arc<Shared>,
    newer: usize,
    older: usize,
}

// === impl Table ===

impl Table {
    pub(super) fn new(settings: Settings, capacity: usize) -> Self {
        Self {
            settings,
            capacity,
            by_key: BTreeMap::new(),
            places: Vec::new(),
            newest: 0,
            oldest: 0,
            made: 0,
            evicted: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(super) fn all(&self) -> Vec<Arc<Shared>> {
        let breakers = self.by_key.values().map(|at| &self.places[*at].breaker);
        breakers.cloned().collect()
    }

    pub(super) fn get(&self, key: &str) -> Option<Arc<Shared>> {
        let at = *self.by_key.get(key)?;
        Some(Arc::clone(&self.places[at].breaker))
    }

    /// The breaker of this key, now the most recently used. None if there is no room for it.
    pub(super) fn get_or_make(
        &mut self,
        key: &str,
        now: impl FnOnce() -> Instant,
    ) -> Option<Arc<Shared>> {
        if let Some(&at) = self.by_key.get(key) {
            self.touch(at);
            return Some(Arc::clone(&self.places[at].breaker));
        }
        let now = now();
        let at = if self.places.len() < self.capacity {
            None
        } else {
            Some(self.vacate(now)?)
        };
        let name: Arc<str> = key.into();
        let mut settings = self.settings.clone();
        settings.name = Arc::clone(&name);
        // Breakers that open together must not probe together.
        settings.seed = draw(settings.seed, self.made, Purpose::ProbeBackoff, 0);
        self.made += 1;
        let breaker = Arc::new(Shared::new(settings, now));
        let at = match at {
            Some(at) => {
                self.places[at].breaker = Arc::clone(&breaker);
                self.touch(at);
                at
            }
            None => self.append(Arc::clone(&breaker)),
        };
        self.by_key.insert(name, at);
        Some(breaker)
    }

    // A place whose breaker nobody uses and nobody would miss. Those that are passed over go to the front, so that the
    // next search does not begin with them.
    fn vacate(&mut self, now: Instant) -> Option<usize> {
        for _ in 0..self.places.len().min(LOOK) {
            let at = self.oldest;
            let breaker = &self.places[at].breaker;
            // Calls in flight and handles have their share of it, and get one only from here, under the lock, or from
            // another that has one.
            if Arc::strong_count(breaker) == 1 && breaker.is_forgettable(now) {
                self.by_key.remove(breaker.name());
                self.evicted += 1;
                return Some(at);
            }
            self.touch(at);
        }
        None
    }

    fn append(&mut self, breaker: Arc<Shared>) -> usize {
        let at = self.places.len();
        if at == 0 {
            self.oldest = at;
        } else {
            self.places[self.newest].newer = at;
        }
        self.places.push(Place {
            breaker,
            newer: at,
            older: self.newest,
        });
        self.newest = at;
        at
    }

    // Makes it the newest.
    fn touch(&mut self, at: usize) {
        if at == self.newest {
            return;
        }
        let Place { newer, older, .. } = self.places[at];
        if at == self.oldest {
            self.oldest = newer;
        } else {
            self.places[older].newer = newer;
        }
        // It has a newer one, as it is not the newest.
        self.places[newer].older = older;
        self.places[self.newest].newer = at;
        self.places[at].older = self.newest;
        self.newest = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::FailureAccrual;
    use proptest::prelude::*;

    // Keys by their last use, the oldest first.
    #[derive(Default)]
    struct Model {
        keys: Vec<usize>,
        evicted: u64,
    }

    impl Model {
        // Whether there is room for it.
        fn get_or_make(&mut self, key: usize, capacity: usize, held: &[usize]) -> bool {
            if let Some(at) = self.keys.iter().position(|it| *it == key) {
                self.keys.remove(at);
            } else if self.keys.len() == capacity {
                let Some(at) = self.keys.iter().position(|it| !held.contains(it)) else {
                    return false;
                };
                // Those that were passed over are the newest now.
                self.keys.rotate_left(at);
                self.keys.remove(0);
                self.evicted += 1;
            }
            self.keys.push(key);
            true
        }
    }

    proptest! {
        #[test]
        fn the_least_recently_used_that_nobody_holds_makes_room(
            capacity in 1usize..6,
            steps in proptest::collection::vec((0usize..9, 0u8..8), 1..200),
        ) {
            let now = Instant::now();
            let mut table = Table::new(Settings::new(&FailureAccrual::consecutive(1)), capacity);
            let mut model = Model::default();
            // By key.
            let mut held: Vec<(usize, Arc<Shared>)> = Vec::new();
            for (key, step) in steps {
                if step == 0 {
                    held.clear();
                }
                let keys: Vec<usize> = held.iter().map(|(key, _)| *key).collect();
                let breaker = table.get_or_make(&key.to_string(), || now);
                prop_assert_eq!(breaker.is_some(), model.get_or_make(key, capacity, &keys));
                if let Some(breaker) = breaker.filter(|_| step == 1) {
                    held.push((key, breaker));
                }
                for key in 0..9 {
                    let there = table.get(&key.to_string()).is_some();
                    prop_assert_eq!(there, model.keys.contains(&key), "{}", key);
                }
                prop_assert_eq!((table.len(), table.evicted()), (model.keys.len(), model.evicted));
            }
        }
    }
}
