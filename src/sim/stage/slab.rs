/// Values by keys that are never given twice.
pub(crate) struct Slab<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
    len: usize,
}

/// A place in a [`Slab`], and which of its tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    index: u32,
    tenant: u32,
}

// === impl Slab ===

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Slab<T> {
    pub(crate) fn insert(&mut self, value: T) -> Key {
        self.insert_with(|_| value)
    }

    /// Puts in what is made from its own key.
    pub(crate) fn insert_with(&mut self, make: impl FnOnce(Key) -> T) -> Key {
        self.len += 1;
        if let Some(index) = self.free.pop()
            && let Some((tenant, slot)) = self.slots.get_mut(index as usize)
        {
            let key = Key {
                index,
                tenant: *tenant,
            };
            *slot = Some(make(key));
            return key;
        }
        let key = Key {
            index: u32::try_from(self.slots.len()).unwrap_or(u32::MAX),
            tenant: 0,
        };
        let value = make(key);
        self.slots.push((0, Some(value)));
        key
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (tenant, slot) = self.slots.get_mut(key.index as usize)?;
        slot.as_mut().filter(|_| *tenant == key.tenant)
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let (tenant, slot) = self.slots.get_mut(key.index as usize)?;
        if *tenant != key.tenant {
            return None;
        }
        let value = slot.take()?;
        *tenant = tenant.wrapping_add(1);
        self.free.push(key.index);
        self.len -= 1;
        Some(value)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Takes everything out, in the order of its places.
    pub(crate) fn drain(&mut self) -> Vec<T> {
        self.len = 0;
        self.free.clear();
        let slots = std::mem::take(&mut self.slots);
        slots.into_iter().filter_map(|(_, slot)| slot).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_only_what_it_was_given_for() {
        let mut slab = Slab::default();
        let first = slab.insert(1);
        assert_eq!(slab.remove(first), Some(1));
        let second = slab.insert(2);
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get_mut(second), Some(&mut 2));
        slab.insert(3);
        assert_eq!(slab.len(), 2);
        assert_eq!(slab.drain(), [2, 3]);
        assert_eq!(slab.len(), 0);
    }
}
