use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use tokio::time::sleep;

use super::Target;
use super::lookup::{Family, Looked, Lookup, LookupError, Records, Service};
use super::system::System;
use crate::core::BoxError;
use crate::discover::Update;
use crate::endpoint::Endpoint;

/// How long it is until a lookup that failed is made again: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long a word without a time is valid.
const UNSAID: Duration = Duration::from_secs(5);

type Round = Pin<Box<dyn Future<Output = (Book, Vec<Result<Update, BoxError>>)> + Send>>;

/// A stream of what DNS says: a round of lookups, a pause, and again.
pub(super) struct Follow {
    round: Round,
    said: VecDeque<Result<Update, BoxError>>,
}

/// What is known, and from when on it has to be asked again.
struct Book {
    target: Target,
    ttl: (Duration, Duration),
    lookup: Option<Arc<dyn Lookup>>,
    // The last good answer to each question.
    services: Option<Vec<Service>>,
    addresses: BTreeMap<(String, Family), Vec<IpAddr>>,
    published: Option<Update>,
    pause: Option<Duration>,
    // How long the last failure's pause was.
    backoff: Option<Duration>,
}

/// What one round has heard.
#[derive(Default)]
struct Heard {
    // The shortest.
    ttl: Option<Duration>,
    failure: Option<LookupError>,
    missing: bool,
}

// === impl Follow ===

impl Follow {
    pub(super) fn new(
        target: Target,
        ttl: (Duration, Duration),
        lookup: Option<Arc<dyn Lookup>>,
    ) -> Self {
        let book = Book {
            target,
            ttl,
            lookup,
            services: None,
            addresses: BTreeMap::new(),
            published: None,
            pause: None,
            backoff: None,
        };
        Self {
            round: Box::pin(book.round()),
            said: VecDeque::new(),
        }
    }
}

impl Stream for Follow {
    type Item = Result<Update, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(said) = self.said.pop_front() {
                return Poll::Ready(Some(said));
            }
            let (book, said) = ready!(self.round.as_mut().poll(cx));
            self.said.extend(said);
            self.round = Box::pin(book.round());
        }
    }
}

// === impl Book ===

impl Book {
    async fn round(mut self) -> (Self, Vec<Result<Update, BoxError>>) {
        if let Some(pause) = self.pause {
            sleep(pause).await;
        }
        let mut heard = Heard::default();
        let update = match self.lookup() {
            Ok(lookup) => self.ask(&*lookup, &mut heard).await,
            Err(error) => {
                heard.failure = Some(error);
                None
            }
        };
        self.pause = Some(self.next(&heard));
        let mut said = Vec::new();
        if update.is_some() && update != self.published {
            self.published.clone_from(&update);
            said.extend(update.map(Ok));
        }
        said.extend(heard.failure.map(|error| Err(self.tell(error))));
        (self, said)
    }

    // Made where it is used: its sockets belong to the runtime.
    fn lookup(&mut self) -> Result<Arc<dyn Lookup>, LookupError> {
        if let Some(lookup) = &self.lookup {
            return Ok(Arc::clone(lookup));
        }
        let system: Arc<dyn Lookup> = Arc::new(System::new()?);
        self.lookup = Some(Arc::clone(&system));
        Ok(system)
    }

    // How long until the next round.
    fn next(&mut self, heard: &Heard) -> Duration {
        if heard.failure.is_some() {
            let (first, most) = RETRY;
            let next = self.backoff.map_or(first, |last| (last * 2).min(most));
            self.backoff = Some(next);
            return next;
        }
        self.backoff = None;
        let (least, most) = self.ttl;
        heard.ttl.unwrap_or(UNSAID).clamp(least, most)
    }

    fn tell(&self, error: LookupError) -> BoxError {
        let name = match &self.target {
            Target::Literal(address) => address.to_string(),
            Target::Host { host, .. } => host.clone(),
            Target::Service(name) => name.clone(),
        };
        let why = match error {
            LookupError::Failed(source) => source.to_string(),
            error @ LookupError::DoesNotExist { .. } => error.to_string(),
        };
        format!("looking up {name} in DNS: {why}").into()
    }

    // What is to be said, if anything is known for sure.
    async fn ask(&mut self, lookup: &dyn Lookup, heard: &mut Heard) -> Option<Update> {
        let endpoints = match self.target.clone() {
            Target::Literal(address) => vec![Endpoint::new(address)],
            Target::Host { host, port } => {
                let addresses = self.addresses(lookup, &host, heard).await;
                let at = |ip| Endpoint::new(SocketAddr::new(ip, port));
                addresses.into_iter().map(at).collect()
            }
            Target::Service(name) => self.service(lookup, &name, heard).await,
        };
        match (endpoints.is_empty(), &heard.failure) {
            (true, Some(_)) => None,
            (true, None) if heard.missing => Some(Update::DoesNotExist),
            _ => Some(Update::Reset(endpoints)),
        }
    }

    // Of the lowest priority that has any.
    async fn service(
        &mut self,
        lookup: &dyn Lookup,
        name: &str,
        heard: &mut Heard,
    ) -> Vec<Endpoint> {
        let answer = lookup.services(name).await;
        if let Some(services) = heard.note(answer) {
            self.services = Some(services);
        }
        // Of the name itself; a target that does not exist says nothing of it.
        let missing = heard.missing;
        let mut services = self.services.clone().unwrap_or_default();
        services.sort();
        // "." is how a record says that the service is not there.
        services.retain(|service| service.target != "." && service.port != 0);
        let mut endpoints = Vec::new();
        for group in services.chunk_by(|a, b| a.priority == b.priority) {
            let total: u32 = group.iter().map(|service| u32::from(service.weight)).sum();
            for service in group {
                let addresses = self.addresses(lookup, &service.target, heard).await;
                let mean = f64::from(total) / group.len() as f64;
                let weight = match total {
                    0 => 1.0,
                    _ => f64::from(service.weight) / mean,
                };
                let share = weight / addresses.len().max(1) as f64;
                let name = service.target.strip_suffix('.').unwrap_or(&service.target);
                endpoints.extend(addresses.into_iter().map(|ip| {
                    Endpoint::new(SocketAddr::new(ip, service.port))
                        .named(name)
                        .with_weight(share)
                }));
            }
            if !endpoints.is_empty() {
                break;
            }
        }
        heard.missing = missing;
        let targets: Vec<_> = services.into_iter().map(|service| service.target).collect();
        self.addresses.retain(|(host, _), _| targets.contains(host));
        // The same one may be behind two targets.
        endpoints.sort_by_key(Endpoint::address);
        endpoints.dedup_by_key(|endpoint| endpoint.address());
        endpoints
    }

    // Of both families, in order. One that could not be asked keeps those that it had.
    async fn addresses(
        &mut self,
        lookup: &dyn Lookup,
        host: &str,
        heard: &mut Heard,
    ) -> Vec<IpAddr> {
        let both = both(
            lookup.addresses(host, Family::V4),
            lookup.addresses(host, Family::V6),
        );
        let (v4, v6) = both.await;
        let mut all = Vec::new();
        for (family, answer) in [(Family::V4, v4), (Family::V6, v6)] {
            let key = (host.to_owned(), family);
            if let Some(addresses) = heard.note(answer) {
                self.addresses.insert(key.clone(), addresses);
            }
            all.extend(self.addresses.get(&key).into_iter().flatten());
        }
        all.sort();
        all.dedup();
        all
    }
}

// === impl Heard ===

impl Heard {
    /// The records, if it is known what there is.
    fn note<T>(&mut self, answer: Result<Records<T>, LookupError>) -> Option<Vec<T>> {
        let (records, ttl) = match answer {
            Ok(found) if found.records.is_empty() => (found.records, found.ttl.or(Some(UNSAID))),
            Ok(found) => (found.records, found.ttl),
            Err(LookupError::DoesNotExist { ttl }) => {
                self.missing = true;
                (Vec::new(), ttl.or(Some(UNSAID)))
            }
            Err(failure) => {
                self.failure.get_or_insert(failure);
                return None;
            }
        };
        self.ttl = match (self.ttl, ttl) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Some(records)
    }
}

// Both at once.
async fn both<T>(
    mut a: Looked<'_, T>,
    mut b: Looked<'_, T>,
) -> (
    Result<Records<T>, LookupError>,
    Result<Records<T>, LookupError>,
) {
    let (mut first, mut second) = (None, None);
    poll_fn(|cx| {
        if first.is_none()
            && let Poll::Ready(answer) = a.as_mut().poll(cx)
        {
            first = Some(answer);
        }
        if second.is_none()
            && let Poll::Ready(answer) = b.as_mut().poll(cx)
        {
            second = Some(answer);
        }
        match (first.take(), second.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (first, second) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}
