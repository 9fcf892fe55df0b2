use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Update;
use super::address::{InvalidEndpoint, ToEndpoint};
use crate::core::BoxError;
use crate::core::sync::{Mutex, lock};
use crate::core::time::after;
use crate::endpoint::Endpoint;
use crate::policy::Backend;

type Updates = Pin<Box<dyn Stream<Item = Result<Update, BoxError>> + Send>>;

/// Where a backend's endpoints come from.
///
/// Made from a list (`["10.0.0.7:8080", "10.0.0.8:8080"]`, socket addresses, [`Endpoint`]s), from a
/// `tokio::sync::watch` of lists, or with [`stream`](Self::stream) from any stream of updates. An empty list says that
/// there are none; only what a watch begins with may also be empty because nothing is known yet. When a watch's sender is
/// dropped, or a stream ends, what is known stays in use; if that is nothing, requests are refused at once.
pub struct Endpoints(pub(crate) Source);

pub(crate) enum Source {
    Fixed(Result<Vec<Endpoint>, InvalidEndpoint>),
    Watch(watch::Receiver<Vec<Endpoint>>),
    Stream(Arc<Mutex<Option<Following>>>),
    /// A stream for whoever asks.
    #[cfg(feature = "dns")]
    Made(Arc<dyn Fn() -> Updates + Send + Sync>),
}

/// What a source says.
pub(crate) enum Said {
    Updates(Vec<Update>),
    /// It goes on, and what is known stays in use.
    Failed(BoxError),
    /// It says nothing more.
    Ended,
}

/// Finds the endpoints of a backend.
///
/// Implemented for closures `Fn(&Backend) -> Option<Endpoints>` and for maps from a backend's name, as
/// [`backend_names`] lists them, to a list. Asked once for each backend, when a policy first names it.
pub trait Resolve: Send + Sync + 'static {
    /// Where the endpoints of `backend` come from, if this knows it.
    fn resolve(&self, backend: &Backend) -> Option<Endpoints>;
}

/// The names that a backend goes by, the longest first: `web.shop.svc.cluster.local:80`, `web.shop:80`, `web:80`,
/// `web`.
pub fn backend_names(backend: &Backend) -> Vec<String> {
    use crate::policy::{BackendDispatcher, EndpointDiscovery, Meta};
    let mut names = Vec::new();
    if let BackendDispatcher::BalanceP2c(_, EndpointDiscovery::DestinationGet { path }) =
        &backend.dispatcher
    {
        names.push(path.clone());
    }
    if let Meta::Resource(resource) = &*backend.meta {
        if let Some(port) = resource.port() {
            names.push(format!(
                "{}.{}:{port}",
                resource.name(),
                resource.namespace()
            ));
            names.push(format!("{}:{port}", resource.name()));
        }
        names.push(format!("{}.{}", resource.name(), resource.namespace()));
    }
    names.push(backend.meta.name().to_owned());
    names.dedup();
    names
}

// === impl Endpoints ===

impl Endpoints {
    /// From a stream of updates. An error degrades nothing: what was known stays in use, and so it does when the stream
    /// ends; if there is none then, requests are refused at once.
    pub fn stream<S, E>(stream: S) -> Self
    where
        S: Stream<Item = Result<Update, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let stream: Updates = Box::pin(Boxed { stream });
        Self(Source::Stream(Arc::new(Mutex::new(Some(Following::new(
            stream,
        ))))))
    }

    pub(crate) fn check(&self) -> Result<(), InvalidEndpoint> {
        match &self.0 {
            Source::Fixed(Err(invalid)) => Err(invalid.clone()),
            _ => Ok(()),
        }
    }

    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.0, Source::Stream(_))
    }
}

impl<T: ToEndpoint, const N: usize> From<[T; N]> for Endpoints {
    fn from(list: [T; N]) -> Self {
        list.as_slice().into()
    }
}

impl<T: ToEndpoint> From<Vec<T>> for Endpoints {
    fn from(list: Vec<T>) -> Self {
        list.as_slice().into()
    }
}

impl<T: ToEndpoint> From<&[T]> for Endpoints {
    fn from(list: &[T]) -> Self {
        Self(Source::Fixed(
            list.iter().map(ToEndpoint::to_endpoint).collect(),
        ))
    }
}

impl From<watch::Receiver<Vec<Endpoint>>> for Endpoints {
    fn from(receiver: watch::Receiver<Vec<Endpoint>>) -> Self {
        Self(Source::Watch(receiver))
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Fixed(list) => f.debug_tuple("Fixed").field(list).finish(),
            Source::Watch(_) => f.write_str("Watch"),
            Source::Stream(_) => f.write_str("Stream"),
            #[cfg(feature = "dns")]
            Source::Made(_) => f.write_str("Dns"),
        }
    }
}

// === impl Source ===

impl Source {
    /// The same source for another backend. A stream can be followed once: whoever asks first gets its updates.
    pub(crate) fn share(&self) -> Self {
        match self {
            Self::Fixed(list) => Self::Fixed(list.clone()),
            Self::Watch(receiver) => Self::Watch(receiver.clone()),
            Self::Stream(stream) => Self::Stream(Arc::clone(stream)),
            #[cfg(feature = "dns")]
            Self::Made(make) => Self::Made(Arc::clone(make)),
        }
    }

    /// The task that applies updates for as long as `apply` says to go on; none for a fixed list.
    pub(crate) fn task<F>(
        &self,
        apply: F,
    ) -> Option<impl Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + use<F>>
    where
        F: Fn(Said) -> bool + Clone + Send + Sync + 'static,
    {
        enum Live {
            Watch(watch::Receiver<Vec<Endpoint>>),
            Stream(Arc<Mutex<Option<Following>>>),
            #[cfg(feature = "dns")]
            Made(Arc<dyn Fn() -> Updates + Send + Sync>),
        }
        let live = match self {
            Self::Fixed(_) => return None,
            Self::Watch(receiver) => Live::Watch(receiver.clone()),
            Self::Stream(stream) => Live::Stream(Arc::clone(stream)),
            #[cfg(feature = "dns")]
            Self::Made(make) => Live::Made(Arc::clone(make)),
        };
        Some(move || -> Pin<Box<dyn Future<Output = ()> + Send>> {
            let apply = apply.clone();
            match &live {
                Live::Watch(receiver) => Box::pin(follow_watch(receiver.clone(), apply)),
                Live::Stream(stream) => Box::pin(follow_stream(Arc::clone(stream), apply)),
                #[cfg(feature = "dns")]
                Live::Made(make) => {
                    let following = Following::new(make());
                    Box::pin(follow_stream(Arc::new(Mutex::new(Some(following))), apply))
                }
            }
        })
    }
}

async fn follow_watch(mut receiver: watch::Receiver<Vec<Endpoint>>, apply: impl Fn(Said) -> bool) {
    let mut first = true;
    loop {
        let endpoints = receiver.borrow_and_update().clone();
        // What a watch begins with is no word of the source: nobody may have said anything yet.
        let unsaid = std::mem::take(&mut first) && endpoints.is_empty();
        let mut updates = vec![Update::Reset(endpoints)];
        if unsaid {
            updates.push(Update::Remove(Vec::new()));
        }
        if !apply(Said::Updates(updates)) {
            return;
        }
        if receiver.changed().await.is_err() {
            apply(Said::Ended);
            return;
        }
    }
}

/// Joins and leaves are published together, those of so long a time. The first of them, and resets, are at once.
const GATHER: Duration = Duration::from_millis(5);

// A stream, lent to a task: it outlives one whose runtime goes away, and so does what was gathered.
struct Lent {
    slot: Arc<Mutex<Option<Following>>>,
    stream: Option<Following>,
}

/// A stream that is being followed.
pub(crate) struct Following {
    updates: Updates,
    // Heard, and not published yet.
    gathered: Vec<Update>,
    published: Option<Instant>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        *lock(&self.slot) = self.stream.take();
    }
}

async fn follow_stream(slot: Arc<Mutex<Option<Following>>>, apply: impl Fn(Said) -> bool) {
    let stream = lock(&slot).take();
    let mut lent = Lent { slot, stream };
    while let Some(following) = &mut lent.stream {
        let due = following.due();
        let next = std::future::poll_fn(|cx| following.updates.as_mut().poll_next(cx));
        let next = match due {
            // Nobody hears of it late because more may come.
            Some(due) => tokio::time::timeout_at(due, next).await.ok(),
            None => Some(next.await),
        };
        let goes_on = match next {
            None => following.publish(&apply),
            Some(Some(Ok(update))) => {
                following.gather(update);
                let now = Instant::now();
                following.due().is_some_and(|due| due > now) || following.publish(&apply)
            }
            Some(Some(Err(error))) => apply(Said::Failed(error)),
            Some(None) => {
                let goes_on = following.gathered.is_empty() || following.publish(&apply);
                lent.stream = None;
                goes_on && apply(Said::Ended)
            }
        };
        if !goes_on {
            return;
        }
    }
}

impl Following {
    fn new(updates: Updates) -> Self {
        Self {
            updates,
            gathered: Vec::new(),
            published: None,
        }
    }

    fn gather(&mut self, update: Update) {
        if matches!(update, Update::Reset(_) | Update::DoesNotExist) {
            // What was said before it is no longer true.
            self.gathered.clear();
            self.published = None;
        }
        self.gathered.push(update);
    }

    // When what was gathered is published, if anything was.
    fn due(&self) -> Option<Instant> {
        let now = || Instant::now();
        let published = || self.published.map_or_else(now, |at| after(at, GATHER));
        (!self.gathered.is_empty()).then(published)
    }

    fn publish(&mut self, apply: impl Fn(Said) -> bool) -> bool {
        self.published = Some(Instant::now());
        apply(Said::Updates(std::mem::take(&mut self.gathered)))
    }
}

pin_project_lite::pin_project! {
    // Boxes a stream's errors.
    struct Boxed<S> {
        #[pin]
        stream: S,
    }
}

impl<S, E> Stream for Boxed<S>
where
    S: Stream<Item = Result<Update, E>>,
    E: Into<BoxError>,
{
    type Item = Result<Update, BoxError>;

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.project()
            .stream
            .poll_next(cx)
            .map(|item| item.map(|update| update.map_err(Into::into)))
    }
}

// === impl Resolve ===

impl<F> Resolve for F
where
    F: Fn(&Backend) -> Option<Endpoints> + Send + Sync + 'static,
{
    fn resolve(&self, backend: &Backend) -> Option<Endpoints> {
        self(backend)
    }
}

impl<T: ToEndpoint + Send + Sync + 'static> Resolve for BTreeMap<String, Vec<T>> {
    fn resolve(&self, backend: &Backend) -> Option<Endpoints> {
        backend_names(backend)
            .iter()
            .find_map(|name| self.get(name))
            .map(|list| list.as_slice().into())
    }
}
