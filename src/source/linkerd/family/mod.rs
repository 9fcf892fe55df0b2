mod kinds;

use super::problem::{At, Problems};
use crate::policy::{Retry, RetryBuilder};
use linkerd2_proxy_api::outbound as api;

/// The messages have four kinds of routes, which differ in their matches and filters and are otherwise the same four times
/// over. What differs is in here, so that the rest is written once.
pub(super) trait Family {
    /// A filter of the policy.
    type Filter: Clone + PartialEq;
    /// A filter of the message.
    type Wire;
    type Distribution;

    fn parts(distribution: Self::Distribution) -> Option<Parts<Self::Wire>>;
    fn distribution(parts: Parts<Self::Wire>) -> Self::Distribution;
    fn read(problems: &mut Problems, at: &At<'_>, filter: Self::Wire) -> Self::Filter;
    /// None if there is no word for it.
    fn write(problems: &mut Problems, at: &At<'_>, filter: &Self::Filter) -> Option<Self::Wire>;
    /// A filter that refuses everything.
    fn refusing(message: String) -> Self::Filter;
    /// The message of a filter that refuses everything, if it is one.
    fn refusal(filter: &Self::Filter) -> Option<&str>;
}

/// A family whose routes are for requests.
pub(super) trait Requests: Family {
    type Match: Clone;
    type WireMatch;
    type Conditions;
    type Route;

    fn route(route: Self::Route) -> Route<Self>;
    fn whole(route: Route<Self>) -> Self::Route;
    fn read_match(problems: &mut Problems, at: &At<'_>, wire: Self::WireMatch)
    -> Read<Self::Match>;
    fn write_match(problems: &mut Problems, at: &At<'_>, matched: &Self::Match) -> Self::WireMatch;
    fn read_conditions(
        problems: &mut Problems,
        at: &At<'_>,
        conditions: Self::Conditions,
        retry: RetryBuilder,
    ) -> RetryBuilder;
    fn write_conditions(problems: &mut Problems, at: &At<'_>, retry: &Retry) -> Self::Conditions;
}

/// What became of a match.
pub(super) enum Read<M> {
    Is(M),
    /// Nothing can ever match it.
    Never,
    /// Not known what it was for, but nothing that does not match this.
    Within(M),
}

pub(super) enum Parts<W> {
    Empty,
    First(Vec<Used<W>>),
    /// With weights.
    Random(Vec<(Option<Used<W>>, u32)>),
}

pub(super) struct Used<W> {
    pub(super) backend: Option<api::Backend>,
    pub(super) filters: Vec<W>,
    /// Deprecated; only whether it is there.
    pub(super) timed: bool,
}

pub(super) struct Route<K: Requests + ?Sized> {
    pub(super) metadata: Option<linkerd2_proxy_api::meta::Metadata>,
    pub(super) hosts: Vec<linkerd2_proxy_api::http_route::HostMatch>,
    pub(super) rules: Vec<Rule<K>>,
}

pub(super) struct Rule<K: Requests + ?Sized> {
    pub(super) matches: Vec<K::WireMatch>,
    pub(super) filters: Vec<K::Wire>,
    pub(super) backends: Option<K::Distribution>,
    pub(super) params: Params<K::Conditions>,
}

/// What a rule says of timeouts and retries.
pub(super) struct Params<C> {
    /// Deprecated; it is the request timeout where there is no other.
    pub(super) request_timeout: Option<prost_types::Duration>,
    pub(super) timeouts: Option<linkerd2_proxy_api::http_route::Timeouts>,
    pub(super) retry: Option<Tries<C>>,
    pub(super) allow_l5d_request_headers: bool,
}

/// `Retry`.
pub(super) struct Tries<C> {
    pub(super) max_retries: u32,
    pub(super) max_request_bytes: u32,
    pub(super) conditions: Option<C>,
    pub(super) timeout: Option<prost_types::Duration>,
    pub(super) backoff: Option<api::ExponentialBackoff>,
}

pub(super) struct Http;
pub(super) struct Grpc;
pub(super) struct Opaque;
pub(super) struct Tls;
