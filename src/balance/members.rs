use std::sync::Arc;

use super::zones::Split;
use crate::endpoint::{Cell, Endpoint, Site};
use crate::load::Rules;
use crate::policy::Load;

// Endpoints to a chunk: a change copies one of these, and the list of them.
const CHUNK: usize = 64;

/// An endpoint of a set: what is known about it, and what is the user's.
pub(crate) struct Member<L> {
    pub(crate) cell: Arc<Cell>,
    pub(crate) site: Arc<Site<L>>,
}

/// The endpoints of a set, at one moment. Its clones share all chunks but those that are changed: that makes a change
/// cheap however many there are, where a flat list of a hundred thousand would have as many counts to raise.
pub(crate) struct Members<L> {
    chunks: Vec<Arc<Chunk<L>>>,
    count: usize,
    // By what they are compared.
    rules: Rules,
    plain: bool,
    // The highest weight there was, and whether all were the same.
    heaviest: u32,
    uneven: bool,
    // By zone, if the callers' own is preferred.
    split: Option<Arc<Split<L>>>,
}

// All but the last are full.
struct Chunk<L>([Option<Member<L>>; CHUNK]);

// === impl Member ===

impl<L> Clone for Member<L> {
    fn clone(&self) -> Self {
        Self {
            cell: Arc::clone(&self.cell),
            site: Arc::clone(&self.site),
        }
    }
}

// === impl Members ===

impl<L> Members<L> {
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Member<L>> {
        let chunk = self.chunks.get(index / CHUNK)?;
        chunk.0[index % CHUNK].as_ref()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member<L>> {
        self.chunks
            .iter()
            .flat_map(|chunk| chunk.0.iter().flatten())
    }

    /// The same by zone, if the callers' own is preferred and there is a choice.
    pub(super) fn split(&self) -> Option<&Split<L>> {
        self.split.as_deref()
    }

    pub(super) fn with_split(mut self, split: Option<Split<L>>) -> Self {
        self.split = split.map(Arc::new);
        self
    }

    /// By what they are compared.
    #[inline]
    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    pub(super) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
        self.plain = rules.are_plain();
    }

    /// Whether of two that are known and have not failed of late, the plain costs can be compared.
    #[inline]
    pub(crate) fn are_plain(&self) -> bool {
        self.plain && !self.uneven
    }

    /// Whether weights matter.
    pub(crate) fn uneven(&self) -> bool {
        self.uneven
    }

    /// A bound of the weights, in 2^-16ths.
    pub(crate) fn heaviest(&self) -> u32 {
        self.heaviest
    }

    /// Adds one at the end, which is the place it returns.
    pub(super) fn push(&mut self, member: Member<L>) -> usize {
        let place = self.count;
        self.weigh(member.site.endpoint());
        if place.is_multiple_of(CHUNK) {
            self.chunks.push(Arc::new(Chunk([const { None }; CHUNK])));
        }
        self.count += 1;
        self.set(place, Some(member));
        place
    }

    /// Another site for one that is there.
    pub(super) fn replace(&mut self, place: usize, member: Member<L>) {
        self.weigh(member.site.endpoint());
        self.set(place, Some(member));
    }

    /// Removes one. The last takes its place, and is returned: its place has changed.
    pub(super) fn remove(&mut self, place: usize) -> Option<&Member<L>> {
        let last = self.count.checked_sub(1)?;
        let moved = self.get(last).cloned();
        self.set(last, None);
        self.count = last;
        if last.is_multiple_of(CHUNK) {
            self.chunks.pop();
        }
        if place == last {
            return None;
        }
        self.set(place, moved);
        self.get(place)
    }

    /// Removes all of them.
    pub(super) fn clear(&mut self) {
        self.chunks.clear();
        self.count = 0;
    }

    fn set(&mut self, place: usize, member: Option<Member<L>>) {
        if let Some(chunk) = self.chunks.get_mut(place / CHUNK) {
            Arc::make_mut(chunk).0[place % CHUNK] = member;
        }
    }

    // Weights are not forgotten: that they once differed costs a little time, and nothing else.
    fn weigh(&mut self, endpoint: &Endpoint) {
        let weight = endpoint.weight_word();
        self.uneven |= self.heaviest != 0 && weight != self.heaviest;
        self.heaviest = self.heaviest.max(weight);
    }
}

impl<L> Clone for Chunk<L> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<L> Default for Members<L> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            count: 0,
            rules: Rules::of(&Load::default()),
            // Until it is told.
            plain: false,
            heaviest: 0,
            uneven: false,
            split: None,
        }
    }
}

impl<L> Clone for Members<L> {
    fn clone(&self) -> Self {
        Self {
            chunks: self.chunks.clone(),
            split: self.split.clone(),
            ..*self
        }
    }
}
