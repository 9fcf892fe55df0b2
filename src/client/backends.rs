use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::balance::{REMEMBERED, Set, Settings};
use crate::breaker::Events;
use crate::core::driver::Driver;
use crate::core::observe::Observers;
use crate::core::sync::{Mutex, lock};
use crate::core::time::{Epoch, after};
use crate::discover::{Endpoints, Resolve, Source, backend_names};
use crate::endpoint::{Endpoint, Leaf, Pool};
use crate::policy::{Backend, BackendDispatcher, EndpointDiscovery};

/// The backends of the plans so far: what is known about them outlives the plans, for a while.
pub(crate) struct Backends {
    pub(crate) seed: u64,
    pub(crate) epoch: Epoch,
    pub(crate) observers: Observers,
    /// Who has subscribed to the breakers.
    pub(crate) events: Arc<Events>,
    pub(crate) server_name: Option<Arc<str>>,
    /// Where this client is.
    pub(crate) zone: Option<Arc<str>>,
    pub(crate) sources: Sources,
    /// Told when an endpoint of any backend may have become able to serve: who waits may take it from any.
    pub(crate) changed: Arc<Notify>,
    known: Mutex<BTreeMap<String, Known>>,
}

struct Known {
    state: Arc<BackendState>,
    // Whether the plan that is being compiled names it; if not, since when none does.
    named: bool,
    left: Option<Instant>,
    // What that plan wants of it. If it says so twice, the last word counts, and only that: or else what the first forgets
    // would be forgotten.
    wanted: Option<Settings>,
}

/// Where the builder was told to find endpoints.
#[derive(Default)]
pub(crate) struct Sources {
    pub(crate) named: BTreeMap<String, Endpoints>,
    pub(crate) resolver: Option<Box<dyn Resolve>>,
    pub(crate) default: Option<Endpoints>,
}

/// One backend's state, and the task that keeps it up to date.
pub(crate) struct BackendState {
    pub(crate) balance: Arc<Set<Box<dyn Leaf>>>,
    driver: Option<Driver>,
    /// Whether anybody was named who knows its endpoints.
    pub(crate) sourced: bool,
}

// === impl Backends ===

impl Backends {
    pub(crate) fn new(
        seed: u64,
        epoch: Epoch,
        observers: Observers,
        server_name: Option<Arc<str>>,
        zone: Option<Arc<str>>,
        sources: Sources,
    ) -> Self {
        Self {
            seed,
            epoch,
            observers,
            events: Arc::default(),
            server_name,
            zone,
            sources,
            changed: Arc::default(),
            known: Mutex::default(),
        }
    }

    /// The state of a backend, which is made when it is first named.
    pub(crate) fn get(
        &self,
        backend: &Backend,
        settings: &Settings,
        now: Instant,
    ) -> Arc<BackendState> {
        let mut known = lock(&self.known);
        if let Some(known) = known.get_mut(&key(backend)) {
            known.named = true;
            known.left = None;
            known.wanted = Some(settings.clone());
            return Arc::clone(&known.state);
        }
        let state = Arc::new(self.make(backend, settings, now));
        let entry = Known {
            state: Arc::clone(&state),
            named: true,
            left: None,
            wanted: None,
        };
        known.insert(key(backend), entry);
        state
    }

    /// A plan is complete: its settings count, and those that none has named for long, and that no request is on its way to,
    /// are let go of.
    pub(crate) fn compiled(&self, now: Instant) {
        let mut gone = Vec::new();
        let mut known = lock(&self.known);
        known.retain(|_, known| {
            if let Some(settings) = known.wanted.take() {
                known.state.balance.configure(&settings, now);
            }
            if std::mem::take(&mut known.named) {
                return true;
            }
            let left = *known.left.get_or_insert(now);
            let keep = now < after(left, REMEMBERED) || Arc::strong_count(&known.state) > 1;
            if !keep {
                gone.push(Arc::clone(&known.state));
            }
            keep
        });
        // Their leaves are dropped without the lock.
        drop(known);
    }

    fn make(&self, backend: &Backend, settings: &Settings, now: Instant) -> BackendState {
        let name: Arc<str> = backend.meta.to_string().into();
        let pool = Pool::new(
            Arc::clone(&name),
            self.seed,
            self.epoch,
            self.observers.clone(),
            Arc::clone(&self.changed),
        )
        .with_events(Arc::clone(&self.events));
        let server_name = self.server_name.clone().or_else(|| host_of(backend));
        let balance = Set::new(pool, settings.clone(), server_name);
        let balance = Arc::new(balance.in_zone(self.zone.clone()));
        let source = match backend.dispatcher {
            BackendDispatcher::Forward(address) => {
                Some(Source::Fixed(Ok(vec![Endpoint::new(address)])))
            }
            BackendDispatcher::BalanceP2c(..) => self.sources.find(backend),
            BackendDispatcher::Fail { .. } => None,
        };
        let sourced = source.is_some();
        let driver = source.and_then(|source| balance.follow(&source, now));
        BackendState {
            balance,
            driver,
            sourced,
        }
    }
}

fn key(backend: &Backend) -> String {
    match &backend.dispatcher {
        BackendDispatcher::Forward(address) => format!("{} {address}", backend.meta),
        BackendDispatcher::BalanceP2c(_, EndpointDiscovery::DestinationGet { path }) => {
            format!("{} {path}", backend.meta)
        }
        BackendDispatcher::Fail { .. } => format!("{} fails", backend.meta),
    }
}

// Only what has a port is an address: a policy written in Rust may be called anything, and is `http` by default.
fn host_of(backend: &Backend) -> Option<Arc<str>> {
    match &backend.dispatcher {
        BackendDispatcher::Forward(_) | BackendDispatcher::Fail { .. } => None,
        BackendDispatcher::BalanceP2c(_, EndpointDiscovery::DestinationGet { path }) => {
            path.rsplit_once(':').map(|(host, _)| Arc::from(host))
        }
    }
}

// === impl Sources ===

impl Sources {
    fn find(&self, backend: &Backend) -> Option<Source> {
        backend_names(backend)
            .iter()
            .find_map(|name| self.named.get(name))
            .map(|endpoints| endpoints.0.share())
            .or_else(|| Some(self.resolver.as_ref()?.resolve(backend)?.0))
            .or_else(|| Some(self.default.as_ref()?.0.share()))
    }
}

// === impl BackendState ===

impl BackendState {
    /// Starts its task, if it has one that is not running.
    pub(crate) fn ensure(&self) {
        if let Some(driver) = &self.driver {
            driver.ensure();
        }
    }

    /// Why it cannot serve, or `only` this endpoint of it: in words, for an error.
    pub(crate) fn why_unready(&self, now: Instant, only: Option<SocketAddr>) -> String {
        if let Some(only) = only.filter(|only| !self.balance.has(*only)) {
            return format!("the request asks for {only}, which is none of its endpoints");
        }
        if !self.sourced && self.balance.members().is_empty() {
            return "nobody was named who knows its endpoints; give them to the builder".to_owned();
        }
        self.balance.why_unready(now, only)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::ClientPolicy;

    #[test]
    fn a_name_without_a_port_is_no_host() {
        let host = |policy: Result<ClientPolicy, _>| {
            policy.map(|policy| {
                policy
                    .backends()
                    .first()
                    .and_then(|backend| host_of(backend))
            })
        };
        assert_eq!(host(ClientPolicy::http().build()), Ok(None));
        let named = ClientPolicy::http().named("payments.shop:8080").build();
        assert_eq!(host(named), Ok(Some("payments.shop".into())));
    }
}
