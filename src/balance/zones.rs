//! The callers' own zone first: Envoy's zone-aware routing, with its overprovisioning factor.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::{Member, Members};
use crate::core::draw::{Dice, Purpose};
use crate::core::sync::{AtomicU64, Ordering};
use crate::endpoint::Availability;
use crate::policy::PreferZone;

/// The members of a set by where they are, as its publisher knows them.
pub(super) struct Zones<L> {
    own: Arc<str>,
    near: Members<L>,
    far: Members<L>,
    // Where each one is.
    places: BTreeMap<SocketAddr, Spot>,
    // How many there are in each zone.
    counts: BTreeMap<Arc<str>, usize>,
}

struct Spot {
    near: bool,
    place: usize,
    zone: Option<Arc<str>>,
}

/// The same as picks see it, at one moment.
pub(crate) struct Split<L> {
    near: Members<L>,
    far: Members<L>,
    rule: Rule,
    // The part of the requests that stays, in 2^-32ths, in the lower half; in the upper half for which state of the
    // breakers it was found, counted from one.
    part: AtomicU64,
}

// The part of all callers that is in this zone is `callers` of `of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    overprovision: u64,
    callers: u64,
    of: u64,
}

const MILLION: u64 = 1_000_000;

// === impl Zones ===

impl<L> Zones<L> {
    pub(super) fn new(own: Arc<str>) -> Self {
        Self {
            own,
            near: Members::default(),
            far: Members::default(),
            places: BTreeMap::new(),
            counts: BTreeMap::new(),
        }
    }

    /// One is there, or is there with other metadata.
    pub(super) fn set(&mut self, member: &Member<L>) {
        let address = member.cell.address();
        self.remove(address);
        let zone: Option<Arc<str>> = member.site.endpoint().zone().map(Arc::from);
        let near = zone.as_ref() == Some(&self.own);
        let place = self.side(near).push(member.clone());
        if let Some(zone) = &zone {
            *self.counts.entry(Arc::clone(zone)).or_default() += 1;
        }
        self.places.insert(address, Spot { near, place, zone });
    }

    pub(super) fn remove(&mut self, address: SocketAddr) {
        let Some(spot) = self.places.remove(&address) else {
            return;
        };
        let moved = self.side(spot.near).remove(spot.place);
        let moved = moved.map(|member| member.cell.address());
        if let Some(moved) = moved.and_then(|moved| self.places.get_mut(&moved)) {
            moved.place = spot.place;
        }
        let Some(zone) = spot.zone else { return };
        if let Some(count) = self.counts.get_mut(&zone) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&zone);
            }
        }
    }

    fn side(&mut self, near: bool) -> &mut Members<L> {
        if near { &mut self.near } else { &mut self.far }
    }

    /// For picks, if there is a choice.
    pub(super) fn split(&self, prefer: PreferZone) -> Option<Split<L>> {
        if self.near.is_empty() || self.far.is_empty() {
            return None;
        }
        let (callers, of) = match prefer.callers {
            Some(callers) => (u64::from(callers.ppm()), MILLION),
            None => (1, self.counts.len() as u64),
        };
        Some(Split {
            near: self.near.clone(),
            far: self.far.clone(),
            rule: Rule {
                overprovision: u64::from(prefer.overprovision.ppm()),
                callers,
                of,
            },
            part: AtomicU64::new(0),
        })
    }
}

// === impl Split ===

impl<L> Split<L> {
    /// Those that this request is for: of its own zone, or the others. `state` counts the changes of the breakers.
    pub(super) fn side(
        &self,
        state: u64,
        now: u64,
        (dice, request, round): (Dice, u64, u64),
    ) -> &Members<L> {
        let state = (state + 1) & u64::from(u32::MAX);
        let mut known = self.part.load(Ordering::Relaxed);
        if known >> 32 != state {
            // More than one may count at the same time; they find the same.
            known = state << 32 | u64::from(self.count(now));
            self.part.store(known, Ordering::Relaxed);
        }
        let part = known as u32;
        let stays = part == u32::MAX || {
            let word = dice.draw(request, Purpose::Zone, round);
            ((word >> 32) as u32) < part
        };
        if stays { &self.near } else { &self.far }
    }

    #[cfg(test)]
    pub(super) fn addresses(&self) -> [Vec<SocketAddr>; 2] {
        [&self.near, &self.far].map(|members| {
            let mut all: Vec<_> = members.iter().map(|m| m.cell.address()).collect();
            all.sort();
            all
        })
    }

    // What part of the requests the zone's own endpoints can carry.
    fn count(&self, now: u64) -> u32 {
        let [near, far] = [&self.near, &self.far].map(|members| {
            let open = |member: &&Member<L>| member.cell.availability(now) == Availability::Open;
            let open = members.iter().filter(open);
            open.map(|member| u64::from(member.site.endpoint().weight_word()))
                .fold(0u64, u64::saturating_add)
        });
        self.rule.part(near, far)
    }
}

// === impl Rule ===

impl Rule {
    // Each of the callers' zones sends its endpoints at most so many times what they would get if nobody preferred any.
    fn part(&self, near: u64, far: u64) -> u32 {
        if near == 0 {
            return 0;
        }
        let all = u128::from(near) + u128::from(far);
        // (near / all) * overprovision / (callers / of)
        let top = u128::from(near) * u128::from(self.overprovision) * u128::from(self.of);
        let bottom = all * u128::from(MILLION) * u128::from(self.callers);
        if far == 0 || top >= bottom {
            return u32::MAX;
        }
        // Less than one, and within the word: three numbers of at most 64, 30 and 32 bits, which saturate.
        let part = top.saturating_mul(1 << 32) / bottom.max(1);
        u32::try_from(part).unwrap_or(u32::MAX).min(u32::MAX - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULE: Rule = Rule {
        overprovision: 1_400_000,
        callers: 1,
        of: 3,
    };

    fn part(near: u64, far: u64) -> f64 {
        f64::from(RULE.part(near << 16, far << 16)) / f64::from(u32::MAX)
    }

    #[test]
    fn the_part_that_stays() {
        // Three zones of ten each.
        assert_eq!(part(10, 20), 1.0);
        // Half of them are out: 5 of 25 are 20 %, times three zones, times 1.4.
        assert!((part(5, 20) - 0.84).abs() < 1e-6);
        assert_eq!(part(0, 20), 0.0);
        assert_eq!(part(5, 0), 1.0);
        // A small zone is not overloaded.
        assert!((part(1, 29) - 0.14).abs() < 1e-6);
    }

    proptest! {
        /// Whatever there is, none gets more than its factor of what it would get if nobody preferred any zone.
        #[test]
        fn no_endpoint_is_overloaded(zones in proptest::collection::vec(0u64..200, 2..6)) {
            let all: u64 = zones.iter().sum();
            let rule = Rule { of: zones.len() as u64, ..RULE };
            for near in zones.iter().copied().filter(|near| *near > 0) {
                let part = f64::from(rule.part(near << 16, (all - near) << 16)) / f64::from(u32::MAX);
                // What callers of this zone send to each of its endpoints, and what they would without zones, all
                // callers together sending one for each zone.
                let each = part / near as f64;
                let even = zones.len() as f64 / all as f64;
                prop_assert!(each <= 1.4 * even * 1.000_001 || near == all, "{each} {even}");
            }
        }
    }
}
