//! Policy as Linkerd's control plane sends it: protobuf messages to policies, and back.
//!
//! ```
//! use tower_mesh::policy::{ClientPolicy, FailureAccrual, Retry};
//! use tower_mesh::source::linkerd::{read, write};
//!
//! let policy = ClientPolicy::http()
//!     .named("payments.shop:8080")
//!     .failure_accrual(FailureAccrual::consecutive(7))
//!     .retry(Retry::on(500..=599).unlimited())
//!     .build()?;
//! let written = write(&policy);
//! // A message has no word for what pays for retries. Everything else is in it.
//! assert_eq!(written.problems.len(), 2);
//! assert_eq!(written.problems[0].path, "detect.http1.routes[0].rules[0].retry.budget");
//!
//! let read = read(written.message);
//! assert!(read.problems.is_empty());
//! assert_eq!(read.policy.parent, policy.parent);
//! # Ok::<(), tower_mesh::policy::InvalidPolicy>(())
//! ```
//!
//! The messages are those of the crate [`linkerd2-proxy-api`](api), which this one hands on. It has the clients of the control
//! plane's services, too, and their servers for tests:
//!
//! ```no_run
//! # async fn ask() -> Result<(), tower_mesh::BoxError> {
//! use tower_mesh::source::linkerd::api::outbound::{
//!     TrafficSpec, outbound_policies_client::OutboundPoliciesClient, traffic_spec::Target,
//! };
//! use tower_mesh::source::linkerd::read;
//!
//! let address = "http://linkerd-policy.linkerd.svc.cluster.local:8090";
//! let mut client = OutboundPoliciesClient::connect(address).await?;
//! let answer = client.get(TrafficSpec {
//!     source_workload: r#"{"ns":"shop","pod":"web-0"}"#.to_owned(),
//!     target: Some(Target::Authority("payments.shop.svc:8080".to_owned())),
//! });
//! let policy = read(answer.await?.into_inner()).policy;
//! # Ok(())
//! # }
//! ```
//!
//! # What is not valid
//!
//! The mesh's proxy takes a policy with one part that is not valid for no policy at all, and answers every request with an
//! internal error. [`read()`] never fails: it names the part and its field, and does the least harm. What is only about how
//! well something is done (a queue, a load, a backoff, a name) gets the default of the mesh's control plane. A timeout, a
//! breaker, a condition of retries is left out. But no request goes where nobody has asked it to go:
//!
//! | not valid | what becomes of it |
//! |---|---|
//! | a filter | what it is for is refused: a filter must not be skipped |
//! | a match that no request can be like (a header's name with a space) | it is left out, and its rule if it has no other |
//! | a match that is not understood (a pattern, a new kind) | what is like all the rest of it is refused, unless a match of its rule that was read fits, too |
//! | a route's host that is not understood | what is like the route's rules and comes for a host that no route names is refused |
//! | a backend | it keeps its weight, and what falls to it fails |
//! | a distribution | what is like its rule is refused |
//! | the routes of a protocol | every request in that protocol is refused |
//!
//! Refused is answered with 500, or as INTERNAL in gRPC, and a message that names the field. [`Read::strict`] takes all of
//! it for an error instead.
//!
//! # What a message does not say
//!
//! [`Fidelity`](crate::policy::Fidelity) and everything that is this crate's own: budgets, hedging, trailers and kinds of gRPC
//! methods, loads without latency, most of what a breaker can do beyond the mesh. [`write()`] names each by the field that it
//! would have. Ratios are rounded to millionths. Of a single address nothing is read but the address: the rest is about the
//! mesh's proxy in front of it.
//!
//! Every other policy comes back as it was.

mod family;
mod problem;
mod read;
#[cfg(test)]
mod tests;
mod write;

use prost::Message;

pub use linkerd2_proxy_api as api;

use self::problem::Problems;
pub use self::problem::{Effect, InvalidMessage, Problem};
use crate::policy::ClientPolicy;

/// A policy that was read from a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Read {
    /// The policy, with the default [`Fidelity`](crate::policy::Fidelity).
    pub policy: ClientPolicy,
    /// What is not valid in the message, in its order.
    pub problems: Vec<Problem>,
}

/// A message that was written from a policy.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Written {
    /// The message.
    pub message: api::outbound::OutboundPolicy,
    /// What the message does not say, or says otherwise. If there is nothing, reading it gives the same policy.
    pub problems: Vec<Problem>,
}

/// Bytes that are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a message io.linkerd.proxy.outbound.OutboundPolicy: {0}")]
pub struct NotAMessage(#[from] prost::DecodeError);

/// The policy that the control plane's message is. What is not valid is named, and [does the least harm](self).
pub fn read(message: api::outbound::OutboundPolicy) -> Read {
    let mut problems = Problems::default();
    let policy = read::policy(&mut problems, message);
    Read {
        policy,
        problems: problems.into_vec(),
    }
}

/// The message for a policy. What it [does not say](self) is named.
pub fn write(policy: &ClientPolicy) -> Written {
    let mut problems = Problems::default();
    let message = write::policy(&mut problems, policy);
    Written {
        message,
        problems: problems.into_vec(),
    }
}

// === impl Read ===

impl Read {
    /// From the bytes of a message `io.linkerd.proxy.outbound.OutboundPolicy`.
    ///
    /// # Errors
    /// They are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotAMessage> {
        Ok(read(api::outbound::OutboundPolicy::decode(bytes)?))
    }

    /// The policy, if everything in the message is valid.
    ///
    /// # Errors
    /// What is not. A deprecated field, or one that nobody heeds, is no error.
    pub fn strict(self) -> Result<ClientPolicy, InvalidMessage> {
        match InvalidMessage::of(self.problems) {
            None => Ok(self.policy),
            Some(error) => Err(error),
        }
    }
}

// === impl Written ===

impl Written {
    /// The bytes of the message.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.message.encode_to_vec()
    }
}
