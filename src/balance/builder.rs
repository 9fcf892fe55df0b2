use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::time::Instant;

use super::service::{Balance, Errors};
use super::shared::{Local, Shared};
use super::{Set, Settings};
use crate::core::draw;
use crate::core::observe::{Observer, Observers};
use crate::core::time::Epoch;
use crate::discover::{Endpoints, InvalidEndpoint, Source};
use crate::endpoint::{Endpoint, Pool};
use crate::policy::{FailureAccrual, Load, Queue};

/// Makes a [`Balance`]; see [`Balance::builder`].
#[must_use = "a builder does nothing until it is built"]
pub struct BalanceBuilder<C = Errors> {
    name: Arc<str>,
    endpoints: Endpoints,
    settings: Settings,
    observers: Observers,
    seed: Option<u64>,
    zone: Option<Arc<str>>,
    classify: C,
}

// === impl BalanceBuilder ===

impl Balance<()> {
    /// Names the endpoints, and what is done with them.
    pub fn builder() -> BalanceBuilder {
        BalanceBuilder {
            name: "balance".into(),
            endpoints: Vec::<Endpoint>::new().into(),
            settings: Settings {
                accrual: None,
                load: Load::default(),
                queue: Queue::default(),
                probes_in_turn: true,
            },
            observers: Observers::default(),
            seed: None,
            zone: None,
            classify: Errors,
        }
    }
}

impl<C> BalanceBuilder<C> {
    /// A name for messages. Default: `balance`.
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Where its endpoints are; see [`Endpoints`] for what can be given. Default: none, until
    /// [`update`](Balance::update) says so.
    pub fn endpoints(mut self, endpoints: impl Into<Endpoints>) -> Self {
        self.endpoints = endpoints.into();
        self
    }

    /// By what endpoints are compared. Default: peak EWMA.
    pub fn load(mut self, load: Load) -> Self {
        self.settings.load = load;
        self
    }

    /// When an endpoint is ejected for its failures. Default: never.
    pub fn failure_accrual(mut self, accrual: FailureAccrual) -> Self {
        self.settings.accrual = Some(accrual);
        self
    }

    /// The line for calls that find no endpoint able to serve. Default: 100 calls, 3 s.
    pub fn queue(mut self, queue: Queue) -> Self {
        self.settings.queue = queue;
        self
    }

    /// Tells decisions to `observer`. Default: nobody.
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observers = Observers::new(observer);
        self
    }

    /// The zone the calls are made from, such as `eu-1a`: where the load is told to
    /// [prefer it](crate::policy::Load::prefer_zone), calls stay there as far as its endpoints can carry them. Default: not
    /// known.
    pub fn zone(mut self, zone: impl Into<Arc<str>>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// What chance is drawn from. Default: another one for each balance.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// How a call's result is judged: a closure over `&Result<T, E>` that returns a [`Verdict`](crate::Verdict), or
    /// [`ServerErrors`](crate::breaker::ServerErrors) for HTTP. Cloned for each call. Default: [`Errors`].
    pub fn classify<D>(self, classify: D) -> BalanceBuilder<D> {
        BalanceBuilder {
            name: self.name,
            endpoints: self.endpoints,
            settings: self.settings,
            observers: self.observers,
            seed: self.seed,
            zone: self.zone,
            classify,
        }
    }

    /// The balance, over services that `make` makes: one for each endpoint, when it is first chosen.
    ///
    /// # Errors
    /// An endpoint that is none.
    pub fn build<S>(
        self,
        make: impl Fn(&Endpoint) -> S + Send + Sync + 'static,
    ) -> Result<Balance<S, C>, InvalidEndpoint>
    where
        S: Send + Sync + 'static,
    {
        self.endpoints.check()?;
        Ok(self.made(Box::new(make)))
    }

    /// The balance, over these services, which have no addresses: in what is told of them they go by their number, as
    /// `[100::]:0` and so on, addresses that lead nowhere.
    pub fn over<S>(mut self, services: impl IntoIterator<Item = S>) -> Balance<S, C>
    where
        S: Clone + Send + Sync + 'static,
    {
        let services: Vec<S> = services.into_iter().collect();
        let endpoints: Vec<_> = (0..services.len()).map(numbered).collect();
        self.endpoints = endpoints.into();
        let clones = move |endpoint: &Endpoint| services[number_of(endpoint)].clone();
        self.made(Box::new(clones))
    }

    fn made<S>(self, make: Box<dyn Fn(&Endpoint) -> S + Send + Sync>) -> Balance<S, C>
    where
        S: Send + Sync + 'static,
    {
        let now = Instant::now();
        let pool = Pool::new(
            self.name,
            self.seed.unwrap_or_else(draw::entropy),
            Epoch::new(now),
            self.observers,
            Arc::default(),
        );
        let set = Arc::new(Set::new(pool, self.settings, None).in_zone(self.zone));
        // None named: who does so comes later.
        let unnamed = matches!(&self.endpoints.0, Source::Fixed(Ok(none)) if none.is_empty());
        let driver = match unnamed {
            true => None,
            false => set.follow(&self.endpoints.0, now),
        };
        let shared = Shared::new(set, make, driver);
        Balance {
            local: Arc::new(Local::new(Arc::new(shared))),
            classify: self.classify,
        }
    }
}

impl<C> fmt::Debug for BalanceBuilder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalanceBuilder")
            .field("name", &self.name)
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}

// In the prefix that is set aside for what leads nowhere (RFC 6666).
fn numbered(number: usize) -> Endpoint {
    let address = Ipv6Addr::from_bits((0x100 << 112) | number as u128);
    Endpoint::new(SocketAddr::from((address, 0))).named(format!("service {number}"))
}

fn number_of(endpoint: &Endpoint) -> usize {
    match endpoint.address() {
        SocketAddr::V6(address) => address.ip().to_bits() as u64 as usize,
        SocketAddr::V4(_) => 0,
    }
}
