mod caller;
mod clock;
mod members;
mod run;
mod tasks;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tower_service::Service;

pub use self::caller::Site;
use self::caller::{Caller, Stack};
use super::SimError;
use super::load::{Load, per_second};
use super::report::Report;
use super::server::Server;
use crate::body::Body;
use crate::core::BoxError;
use crate::policy::ClientPolicy;
use crate::source::kubernetes::Manifests;

/// Scripted endpoints and scripted callers around the real [`Client`](crate::Client), in virtual time.
///
/// It owns a paused runtime, so it is used from a plain `#[test]` or `main`, not from within another runtime. The same
/// seed makes the same run, in every build and process.
///
/// ```
/// use tower_mesh::policy::{ClientPolicy, FailureAccrual, Retry};
/// use tower_mesh::sim::{World, healthy, ms, per_second, s};
///
/// let policy = ClientPolicy::http()
///     .retry(Retry::on(500..=599))
///     .failure_accrual(FailureAccrual::consecutive(5))
///     .build()?;
/// let report = World::seeded(7)
///     .policy(policy) // or the text of a manifest
///     .endpoint("a", healthy(ms(20)))
///     .endpoint("b", healthy(ms(20)))
///     .endpoint("c", healthy(ms(20)).fails(1.0).between(s(10), s(40)))
///     .load(per_second(200))
///     .run_for(s(60));
/// assert!(report.error_rate() < 0.01, "{report}");
/// assert!(report.share("c", s(12)..s(40)) < 0.02, "{report}");
/// # Ok::<(), tower_mesh::policy::InvalidPolicy>(())
/// ```
#[must_use = "a world does nothing until it runs"]
pub struct World {
    pub(crate) seed: u64,
    pub(crate) policy: Option<WorldPolicy>,
    pub(crate) target: Option<String>,
    pub(crate) clients: usize,
    pub(crate) load: Load,
    pub(crate) endpoints: Vec<(String, Server)>,
    pub(crate) warmup: Duration,
    pub(crate) zones: Vec<String>,
    stack: Option<Box<MakeCaller>>,
    progress: Option<Box<Progress>>,
}

type MakeCaller = dyn Fn(&Site) -> Box<dyn Caller>;
type Progress = dyn FnMut(Duration, u64);

/// What a world's clients do: manifests, as text or read already, or a [`ClientPolicy`].
#[derive(Clone, Debug)]
pub struct WorldPolicy(pub(crate) PolicyFrom);

#[derive(Clone, Debug)]
pub(crate) enum PolicyFrom {
    Text(String),
    Manifests(Box<Manifests>),
    Policy(Box<ClientPolicy>),
}

/// The most clients: more do not fit in memory beside their endpoints.
const MAX_CLIENTS: usize = 100_000;
/// The most pairs of a client and an endpoint.
const MAX_PAIRS: usize = 10_000_000;
/// The longest run: a week.
const MAX_DURATION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

// === impl World ===

impl World {
    /// An empty world in which all chance comes from `seed`.
    ///
    /// One client, 100 requests a second, no endpoints, no policy.
    pub fn seeded(seed: u64) -> Self {
        Self {
            seed,
            policy: None,
            target: None,
            clients: 1,
            load: per_second(100),
            endpoints: Vec::new(),
            warmup: Duration::ZERO,
            zones: Vec::new(),
            stack: None,
            progress: None,
        }
    }

    /// The zones the clients are in: the first in the first of these, the next in the next, and so on around. Default:
    /// none knows its zone.
    pub fn zones(mut self, zones: impl IntoIterator<Item: Into<String>>) -> Self {
        self.zones = zones.into_iter().map(Into::into).collect();
        self
    }

    /// What the clients do: the text of a manifest, [`Manifests`], or a [`ClientPolicy`].
    pub fn policy(mut self, policy: impl Into<WorldPolicy>) -> Self {
        self.policy = Some(policy.into());
        self
    }

    /// Which target of the manifests is called (`payments.shop:8080`). Default: the only one.
    pub fn target(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into());
        self
    }

    /// A stack of one's own instead of the [`Client`](crate::Client), made once for each client; needs no policy.
    ///
    /// Any tower service that takes requests with our [`Body`]. It is cloned for each request, and built within the
    /// world's runtime, so that it may spawn tasks and use tokio's time.
    ///
    /// ```
    /// use tower_mesh::sim::{Site, World, healthy, ms, per_second, s};
    ///
    /// let report = World::seeded(1)
    ///     .endpoint("only", healthy(ms(20)).hangs().between(s(1), s(2)))
    ///     .stack(|site: &Site| {
    ///         let only = site.endpoints().borrow().first().cloned();
    ///         let leaf = only.map(|endpoint| site.leaf(&endpoint)).expect("it has joined");
    ///         tower::timeout::Timeout::new(leaf, ms(100))
    ///     })
    ///     .load(per_second(100))
    ///     .run_for(s(10));
    /// assert!((0.05..0.15).contains(&report.error_rate()), "{report}");
    /// ```
    pub fn stack<F, S, B>(mut self, make: F) -> Self
    where
        F: Fn(&Site) -> S + 'static,
        S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>> + Clone + 'static,
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + 'static,
    {
        self.stack = Some(Box::new(move |site| Box::new(Stack(make(site)))));
        self
    }

    /// So many independent clients, each with its own state, chance and load. Default: one.
    pub fn clients(mut self, clients: usize) -> Self {
        self.clients = clients;
        self
    }

    /// What each client's callers do. Default: 100 requests a second.
    pub fn load(mut self, load: Load) -> Self {
        self.load = load;
        self
    }

    /// One more endpoint, under a name for the report.
    pub fn endpoint(mut self, name: impl Into<String>, server: Server) -> Self {
        self.endpoints.push((name.into(), server));
        self
    }

    /// The first so much of the run is not counted. Default: zero.
    pub fn warmup(mut self, warmup: Duration) -> Self {
        self.warmup = warmup;
        self
    }

    /// Tells `progress` at the end of every virtual second what time it is and how many requests have ended.
    pub fn progress(mut self, progress: impl FnMut(Duration, u64) + 'static) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// Runs it, and says what happened.
    ///
    /// After `duration` nobody asks any more, and what is under way has ten more seconds; what is not answered then is
    /// an error.
    ///
    /// # Panics
    /// Where [`try_run_for`](Self::try_run_for) is an error, with its words: this is for tests.
    #[track_caller]
    #[allow(clippy::panic, reason = "documented; `try_run_for` does not")]
    pub fn run_for(self, duration: Duration) -> Report {
        match self.try_run_for(duration) {
            Ok(report) => report,
            Err(error) => panic!("{error}"),
        }
    }

    /// The same, without a panic.
    ///
    /// # Errors
    /// Called within another runtime; no endpoints; no policy, or one that is not valid; an endpoint or a load that
    /// cannot be.
    pub fn try_run_for(self, duration: Duration) -> Result<Report, SimError> {
        self.check(duration)?;
        run::run(self, duration)
    }

    /// Everything that can be known to be wrong before it runs.
    pub(crate) fn check(&self, duration: Duration) -> Result<(), SimError> {
        if self.endpoints.is_empty() {
            return Err(SimError::NoEndpoints);
        }
        for (name, server) in &self.endpoints {
            if let Some(why) = server.invalid() {
                let name = name.clone();
                return Err(SimError::Endpoint { name, why });
            }
        }
        if let Some(why) = self.load.invalid() {
            return Err(SimError::Load { why });
        }
        let invalid = |what, why: String| Err(SimError::Invalid { what, why });
        if !(1..=MAX_CLIENTS).contains(&self.clients) {
            let why = format!("{} is no number from 1 to {MAX_CLIENTS}", self.clients);
            return invalid("clients", why);
        }
        if self.clients.saturating_mul(self.endpoints.len()) > MAX_PAIRS {
            let why = format!("clients times endpoints are more than {MAX_PAIRS}");
            return invalid("clients", why);
        }
        if duration.is_zero() || duration > MAX_DURATION {
            return invalid("duration", "it is from 1ns to a week".into());
        }
        if self.warmup >= duration {
            return invalid("warmup", "nothing is left to count".into());
        }
        Ok(())
    }

    /// The policy, and the host that requests name.
    pub(crate) fn resolve(&self) -> Result<Option<(ClientPolicy, String)>, SimError> {
        const HOST: &str = "sim.local";
        let manifests = match &self.policy {
            None if self.stack.is_some() => return Ok(None),
            None => return Err(SimError::NoPolicy),
            Some(WorldPolicy(PolicyFrom::Policy(policy))) => {
                return Ok(Some(((**policy).clone(), HOST.to_owned())));
            }
            Some(WorldPolicy(PolicyFrom::Manifests(manifests))) => (**manifests).clone(),
            Some(WorldPolicy(PolicyFrom::Text(text))) => Manifests::parse(text)?,
        };
        let target = match &self.target {
            Some(target) => target.clone(),
            None => {
                let targets: Vec<_> = manifests.targets().map(|t| t.to_string()).collect();
                match <[String; 1]>::try_from(targets) {
                    Ok([only]) => only,
                    Err(targets) => return Err(SimError::Targets { targets }),
                }
            }
        };
        Ok(Some((manifests.resolve(&target)?, target)))
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("seed", &self.seed)
            .field("clients", &self.clients)
            .field("load", &self.load)
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}

// === impl WorldPolicy ===

impl From<&str> for WorldPolicy {
    fn from(manifest: &str) -> Self {
        Self(PolicyFrom::Text(manifest.to_owned()))
    }
}

impl From<&String> for WorldPolicy {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<String> for WorldPolicy {
    fn from(manifest: String) -> Self {
        Self(PolicyFrom::Text(manifest))
    }
}

impl From<Manifests> for WorldPolicy {
    fn from(manifests: Manifests) -> Self {
        Self(PolicyFrom::Manifests(Box::new(manifests)))
    }
}

impl From<ClientPolicy> for WorldPolicy {
    fn from(policy: ClientPolicy) -> Self {
        Self(PolicyFrom::Policy(Box::new(policy)))
    }
}
