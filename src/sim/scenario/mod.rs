mod error;
mod field;
mod parts;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use self::error::{ScenarioError, ScenarioErrorKind};
use self::field::Field;
use super::load::Load;
use super::server::Server;
use super::{Report, SimError, World};
use crate::discover::backend_names;
use crate::policy::ClientPolicy;
use crate::source::kubernetes::Manifests;
use crate::source::kubernetes::place::Mark;
use crate::source::kubernetes::yaml::{self, Cause, Refused};

/// A world as a file: policy, clients, load, endpoints and their faults.
///
/// ```
/// use tower_mesh::sim::Scenario;
///
/// let scenario = Scenario::parse(r#"
/// seed: 1
/// duration: 10s
/// policy: |
///   apiVersion: v1
///   kind: Service
///   metadata:
///     name: web
///     namespace: shop
///     annotations:
///       balancer.linkerd.io/failure-accrual: consecutive
///   spec:
///     ports: [{ port: 80 }]
/// load:
///   rate: 100
/// endpoints:
///   - name: good
///     count: 2
///     latency: { uniform: [20ms, 50ms] }
///   - name: bad
///     latency: 20ms
///     faults:
///       - { from: 2s, to: 8s, fail: 1 }
/// "#)?;
/// let report = scenario.run()?;
/// assert!(report.error_rate() < 0.05, "{report}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Keys
///
/// | key | | default |
/// |---|---|---|
/// | `seed` | where all chance comes from | `0` |
/// | `duration` | how long callers ask | |
/// | `warmup` | run, but not counted | `0s` |
/// | `policy` | a manifest: its path relative to this file, or its text (`policy: \|`) | |
/// | `target` | `name.namespace:port` | the manifest's only one |
/// | `clients` | independent clients, each with its own state and load | `1` |
/// | `zones` | a list: the zones of the clients, in turn | none |
/// | `load.rate` | requests a second for each client, or steps `[[0s, 100], [30s, 400]]` | |
/// | `load.arrivals` | `poisson` or `uniform` | `poisson` |
/// | `load.concurrency` | instead of `rate`: so many callers for each client, one request each at a time | |
/// | `load.give_up` | callers drop their request after this | never |
/// | `load.request` | `method`, `path`, `grpc`, `body_bytes`, `headers` | `GET /` |
/// | `endpoints[].name` | for the report | |
/// | `….count` | so many of this kind | `1` |
/// | `….zone` | the zone it is in | none |
/// | `….backend` | `web:80` | the policy's only one |
/// | `….latency` | `20ms`, or `{ constant \| uniform \| exponential \| lognormal \| quantiles: … }` | |
/// | `….fail`, `….status` | the part of requests that fails, always, and with which status | `0`, `503` |
/// | `….workers` | serves so many at once, the rest wait in line | unlimited |
/// | `….drop_abandoned` | does not begin work whose caller has gone | `false` |
/// | `….join`, `….leave` | when discovery adds and removes it | `0s`, never |
/// | `….faults[]` | what goes wrong from `from` to `to` | |
///
/// A fault has one or more of `fail` (a part from 0 to 1; with `status`, `grpc_status`, `retry_after`), `slow` (times),
/// `hang`, `down`, `reset` (a part), `truncate` (a part), `pause`, and `latency`: that of its failures and resets, or
/// of everything if it has none. `status` and `grpc_status` without `fail` mean all requests. What each does is told at
/// [`Server`]'s methods.
///
/// Durations are a number and a unit (`ns`, `us`, `ms`, `s`, `m`, `h`), exact to the nanosecond: `3.333333ms`.
#[derive(Clone, Debug)]
pub struct Scenario {
    seed: u64,
    duration: Duration,
    warmup: Duration,
    manifests: Manifests,
    target: String,
    clients: usize,
    zones: Vec<String>,
    load: Load,
    endpoints: Vec<(String, Server)>,
}

// === impl Scenario ===

impl Scenario {
    /// Reads a file.
    ///
    /// # Errors
    /// What cannot be read, is not YAML, has unknown or missing keys or values that cannot be; a policy that is not
    /// valid. Each names the file, the line and the key.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, ScenarioError> {
        let path = path.as_ref();
        let name: Arc<str> = path.to_string_lossy().into();
        let text = fs::read_to_string(path).map_err(|cause| {
            let message = format!("cannot be read: {cause}");
            let mut error = ScenarioError::new(ScenarioErrorKind::Io, Some(&name), message);
            error.cause = Some(Arc::new(cause));
            error
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::read(&text, Some(&name), folder)
    }

    /// Reads a text. A policy's path is relative to the working directory.
    ///
    /// # Errors
    /// As [`from_path`](Self::from_path).
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        Self::read(text, None, Path::new(""))
    }

    fn read(text: &str, file: Option<&Arc<str>>, folder: &Path) -> Result<Self, ScenarioError> {
        let documents = yaml::documents(text).map_err(|refused| refusal(file, refused))?;
        let [document] = documents.as_slice() else {
            let message = format!("found {} documents, expected one", documents.len());
            let second = documents.get(1).map_or(Mark::default(), |second| second.at);
            return Err(ScenarioError::new(ScenarioErrorKind::Syntax, file, message).at(second));
        };
        let root = Field {
            node: document,
            path: String::new(),
            file,
        };
        root.map(&[
            "seed",
            "duration",
            "warmup",
            "policy",
            "target",
            "clients",
            "zones",
            "load",
            "endpoints",
        ])?;
        let whole = |key, least, most, default| match root.get(key) {
            Some(field) => field.whole(least, most),
            None => Ok(default),
        };
        let duration_at = root.require("duration", "how long callers ask, such as 60s")?;
        let policy_at = root.require("policy", "a manifest's path, or its text")?;
        let load_at = root.require("load", "a mapping with rate or concurrency")?;
        let endpoints_at = root.require("endpoints", "a list of endpoints")?;
        let warmup_at = root.get("warmup");
        let manifests = parts::manifests(&policy_at, folder)?;
        let target = parts::target(&manifests, root.get("target").as_ref(), &policy_at)?;
        let load = parts::load(&load_at)?;
        let scenario = Self {
            seed: whole("seed", 0, i64::MAX as u64, 0)?,
            duration: duration_at.duration()?,
            warmup: warmup_at
                .as_ref()
                .map_or(Ok(Duration::ZERO), Field::duration)?,
            clients: usize::try_from(whole("clients", 1, 100_000, 1)?).unwrap_or(usize::MAX),
            zones: root
                .get("zones")
                .map_or(Ok(Vec::new()), |at| parts::zones(&at))?,
            endpoints: parts::endpoints(&endpoints_at, load.shape.grpc)?,
            manifests,
            target,
            load,
        };
        scenario.check_backends(&policy_at, &endpoints_at)?;
        // What the world would refuse, with the place where it stands.
        scenario.world().check(scenario.duration).map_err(|error| {
            let at = match &error {
                SimError::Load { .. } => &load_at,
                SimError::Invalid { what: "warmup", .. } => warmup_at.as_ref().unwrap_or(&root),
                SimError::Invalid {
                    what: "duration", ..
                } => &duration_at,
                _ => &endpoints_at,
            };
            at.error(ScenarioErrorKind::Value, error.to_string())
        })?;
        Ok(scenario)
    }

    // Every endpoint has one backend, and every backend endpoints.
    fn check_backends(
        &self,
        policy_at: &Field<'_>,
        endpoints_at: &Field<'_>,
    ) -> Result<(), ScenarioError> {
        let policy: ClientPolicy = self
            .manifests
            .resolve(&self.target)
            .map_err(|error| parts::policy_error(policy_at, &error))?;
        let names: Vec<_> = policy.backends().iter().map(|b| backend_names(b)).collect();
        let shown: Vec<_> = names
            .iter()
            .filter_map(|names| names.get(2))
            .cloned()
            .collect();
        let shown = shown.join(", ");
        for (n, field) in endpoints_at.list("a list")?.into_iter().enumerate() {
            let error = match field.get("backend") {
                Some(backend) => {
                    let name = backend.text("a backend, such as web:80")?;
                    if names
                        .iter()
                        .any(|names| names.iter().any(|known| known == name))
                    {
                        continue;
                    }
                    backend.error(
                        ScenarioErrorKind::Policy,
                        format!("{name:?} is no backend of the policy"),
                    )
                }
                None if names.len() > 1 => field
                    .error(
                        ScenarioErrorKind::Missing,
                        "the policy has several backends",
                    )
                    .key_is(format!("endpoints[{n}].backend")),
                None => continue,
            };
            return Err(error.remedy(format!("its backends are {shown}")));
        }
        let served = |names: &Vec<String>| {
            let backends = self.endpoints.iter().map(|(_, server)| &server.backend);
            let mut backends = backends.map(Option::as_deref);
            backends.any(|backend| backend.is_none_or(|b| names.iter().any(|name| name == b)))
        };
        match names.iter().find(|names| !served(names)) {
            None => Ok(()),
            Some(names) => {
                let name = names.get(2).or(names.first()).map_or("", String::as_str);
                let message = format!("nobody serves the policy's backend {name}");
                Err(endpoints_at.error(ScenarioErrorKind::Policy, message))
            }
        }
    }

    /// With another seed.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How long callers ask.
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// The policy that its clients have.
    ///
    /// # Errors
    /// None that were not found when it was read.
    pub fn policy(&self) -> Result<ClientPolicy, SimError> {
        Ok(self.manifests.resolve(&self.target)?)
    }

    /// The world that it describes, for changes, [progress](World::progress) or a [stack](World::stack) of one's own.
    pub fn world(&self) -> World {
        let mut world = World::seeded(self.seed)
            .policy(self.manifests.clone())
            .target(self.target.clone())
            .clients(self.clients)
            .zones(self.zones.iter().cloned())
            .load(self.load.clone())
            .warmup(self.warmup);
        world.endpoints.clone_from(&self.endpoints);
        world
    }

    /// Runs it.
    ///
    /// # Errors
    /// Called within another runtime; otherwise none that were not found when it was read.
    pub fn run(&self) -> Result<Report, SimError> {
        self.world().try_run_for(self.duration)
    }
}

fn refusal(file: Option<&Arc<str>>, refused: Refused) -> ScenarioError {
    let error = |kind, message| ScenarioError::new(kind, file, message).at(refused.at);
    match refused.cause {
        Cause::Syntax(why) => error(ScenarioErrorKind::Syntax, format!("not YAML: {why}")),
        Cause::Limit(limit) => error(ScenarioErrorKind::Syntax, format!("more than {limit}")),
        Cause::DuplicateKey(key) => error(
            ScenarioErrorKind::Key,
            "the same key twice in one mapping".to_owned(),
        )
        .key_is(key)
        .remedy("keep one of them"),
    }
}
