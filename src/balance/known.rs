use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::zones::Zones;
use super::{Member, Members, Settings};
use crate::core::time::after;
use crate::discover::{Absence, Update};
use crate::endpoint::{Cell, Endpoint, Pool, Site, Terms};
use crate::load::Rules;

/// How long, and for how many endpoints at most, what was learned is kept after they left.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(600);
const MAX_REMEMBERED: usize = 4096;

/// What the publisher of a set knows: all endpoints by address, those that have left a while ago among them.
pub(super) struct Known<L> {
    pool: Arc<Pool>,
    settings: Settings,
    terms: Terms,
    server_name: Option<Arc<str>>,
    entries: BTreeMap<SocketAddr, Entry>,
    members: Members<L>,
    // Where the callers' zone is known.
    zones: Option<Zones<L>>,
    // In the order in which they left. One that has come back since is in service, or has another time.
    left: VecDeque<(Instant, SocketAddr)>,
    // Whether the source has said anything yet.
    heard: bool,
    absence: Option<Absence>,
}

struct Entry {
    cell: Arc<Cell>,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    // With its place among the members.
    Member(usize),
    Left(Instant),
}

/// What an update changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) joined: usize,
    pub(super) left: usize,
    pub(super) replaced: usize,
}

// === impl Changes ===

impl Changes {
    pub(super) fn any(&self) -> bool {
        *self != Self::default()
    }
}

// === impl Known ===

impl<L> Known<L> {
    pub(super) fn new(pool: Arc<Pool>, settings: Settings, server_name: Option<Arc<str>>) -> Self {
        let mut members = Members::default();
        members.set_rules(Rules::of(&settings.load));
        Self {
            terms: Terms::new(settings.accrual.as_ref(), pool.epoch),
            pool,
            settings,
            server_name,
            entries: BTreeMap::new(),
            members,
            zones: None,
            left: VecDeque::new(),
            heard: false,
            absence: None,
        }
    }

    pub(super) fn heard(&self) -> bool {
        self.heard
    }

    /// Whether its last word was that there are none, or that none will come.
    pub(super) fn absence(&self) -> Option<Absence> {
        self.absence
    }

    /// The source says nothing more.
    pub(super) fn end(&mut self) {
        self.absence.get_or_insert(Absence::Ended);
    }

    /// Tells where the callers are, before there are any endpoints.
    pub(super) fn be_in(&mut self, zone: Arc<str>) {
        self.zones = Some(Zones::new(zone));
    }

    /// The members, for picks.
    pub(super) fn members(&self) -> Members<L> {
        let prefer = self.settings.load.extensions().prefer_zone;
        let zones = self.zones.as_ref().zip(prefer);
        let split = zones.and_then(|(zones, prefer)| zones.split(prefer));
        self.members.clone().with_split(split)
    }

    pub(super) fn place_of(&self, address: SocketAddr) -> Option<usize> {
        match self.entries.get(&address)?.state {
            State::Member(place) => Some(place),
            State::Left(_) => None,
        }
    }

    /// Another policy. Whether it is another.
    pub(super) fn configure(&mut self, settings: &Settings, now: Instant) -> bool {
        if self.settings == *settings {
            return false;
        }
        self.terms = Terms::new(settings.accrual.as_ref(), self.pool.epoch);
        for entry in self.entries.values() {
            entry.cell.configure(&self.terms, now);
        }
        self.settings = settings.clone();
        self.members.set_rules(Rules::of(&settings.load));
        true
    }

    pub(super) fn apply(
        &mut self,
        updates: impl IntoIterator<Item = Update>,
        now: Instant,
    ) -> Changes {
        self.heard = true;
        self.forget(now);
        let mut changes = Changes::default();
        for update in updates {
            self.absence = match &update {
                Update::Reset(endpoints) if endpoints.is_empty() => Some(Absence::Empty),
                Update::DoesNotExist => Some(Absence::Missing),
                _ => None,
            };
            match update {
                Update::Reset(endpoints) => self.reset(endpoints, &mut changes, now),
                Update::DoesNotExist => self.reset(Vec::new(), &mut changes, now),
                Update::Add(endpoints) => self.join(endpoints, &mut changes, now),
                Update::Remove(addresses) => self.leave(addresses, &mut changes, now),
            }
        }
        self.forget(now);
        changes
    }

    fn reset(&mut self, endpoints: Vec<Endpoint>, changes: &mut Changes, now: Instant) {
        let stay: BTreeSet<_> = endpoints.iter().map(Endpoint::address).collect();
        let members = self.members.iter();
        let members = members.map(|member| member.cell.address());
        let gone: Vec<_> = members.filter(|address| !stay.contains(address)).collect();
        if gone.len() == self.members.count() {
            self.leave_all(gone, changes, now);
        } else {
            self.leave(gone, changes, now);
        }
        self.join(endpoints, changes, now);
    }

    fn join(&mut self, endpoints: Vec<Endpoint>, changes: &mut Changes, now: Instant) {
        for endpoint in endpoints {
            let endpoint = endpoint.or_server_name(self.server_name.as_ref());
            let address = endpoint.address();
            let entry = self.entries.entry(address).or_insert_with(|| Entry {
                cell: Arc::new(Cell::new(
                    address,
                    Arc::clone(&self.pool),
                    &self.terms,
                    self.settings.load.ewma(),
                    now,
                )),
                state: State::Left(now),
            });
            entry.cell.join(&endpoint, now);
            let member = |endpoint| Member {
                cell: Arc::clone(&entry.cell),
                site: Arc::new(Site::new(endpoint)),
            };
            match entry.state {
                State::Member(place) => {
                    let known = self.members.get(place);
                    if known.is_none_or(|known| *known.site.endpoint() != endpoint) {
                        let member = member(endpoint);
                        if let Some(zones) = &mut self.zones {
                            zones.set(&member);
                        }
                        self.members.replace(place, member);
                        changes.replaced += 1;
                    }
                }
                State::Left(_) => {
                    let member = member(endpoint);
                    if let Some(zones) = &mut self.zones {
                        zones.set(&member);
                    }
                    entry.state = State::Member(self.members.push(member));
                    changes.joined += 1;
                }
            }
        }
    }

    fn leave(&mut self, addresses: Vec<SocketAddr>, changes: &mut Changes, now: Instant) {
        for address in addresses {
            let Some(entry) = self.entries.get_mut(&address) else {
                continue;
            };
            let State::Member(place) = entry.state else {
                continue;
            };
            entry.cell.leave();
            entry.state = State::Left(now);
            self.left.push_back((now, address));
            changes.left += 1;
            if let Some(zones) = &mut self.zones {
                zones.remove(address);
            }
            let moved = self.members.remove(place);
            let moved = moved.map(|member| member.cell.address());
            if let Some(entry) = moved.and_then(|moved| self.entries.get_mut(&moved)) {
                entry.state = State::Member(place);
            }
        }
    }

    // All members at once, where nobody moves to anybody's place.
    fn leave_all(&mut self, addresses: Vec<SocketAddr>, changes: &mut Changes, now: Instant) {
        changes.left += addresses.len();
        for address in addresses {
            if let Some(entry) = self.entries.get_mut(&address) {
                entry.cell.leave();
                entry.state = State::Left(now);
                self.left.push_back((now, address));
            }
            if let Some(zones) = &mut self.zones {
                zones.remove(address);
            }
        }
        self.members.clear();
    }

    // Those that left first go first.
    fn forget(&mut self, now: Instant) {
        let remembered = self.entries.len() - self.members.count();
        let mut surplus = remembered.saturating_sub(MAX_REMEMBERED);
        while let Some((at, address)) = self.left.front().copied() {
            let gone = self.entries.get(&address);
            let stale =
                gone.is_none_or(|entry| !matches!(entry.state, State::Left(since) if since == at));
            if !stale && surplus == 0 && now < after(at, REMEMBERED) {
                return;
            }
            self.left.pop_front();
            if !stale {
                surplus = surplus.saturating_sub(1);
                self.entries.remove(&address);
            }
        }
    }
}
